//! Ports of one protocol: which socket gets what is sent to an address and port.
//!
//! There is a table for each family. A socket without an address of its own stands in the tables of all families.

use super::{Map, overlap};
use crate::family::{Purchase, Shortage, family_of};
use alloc::vec::Vec;
use brane_abi::control::Family;
use foldhash::fast::FixedState;
use smoltcp::wire::IpAddress;

/// Sockets of one port, with the addresses that they are at; `None` for any address.
type Here<T> = Vec<(Option<IpAddress>, T)>;

/// The tables of both families. `T` names a socket.
pub struct Ports<T> {
    tables: [Option<Map<u16, Here<T>>>; 2],
    hash: FixedState,
}

impl<T: Copy + PartialEq> Ports<T> {
    /// Makes tables of no family.
    pub fn new(hash: FixedState) -> Ports<T> {
        Ports {
            tables: [None, None],
            hash,
        }
    }

    /// Buys the table of a family, with room for `sockets`. It grows if there are more.
    pub fn create(
        &mut self,
        family: Family,
        sockets: usize,
        purchase: &mut Purchase<'_>,
    ) -> Result<(), Shortage> {
        self.tables[family as usize] = Some(purchase.map(sockets, &self.hash)?);
        Ok(())
    }

    /// Frees the table of a family.
    pub fn destroy(&mut self, family: Family) {
        self.tables[family as usize] = None;
    }

    /// Returns true if the family has a table.
    pub fn has_family(&self, family: Family) -> bool {
        self.tables[family as usize].is_some()
    }

    /// Returns the tables that a socket at `local` stands in.
    fn tables(&mut self, local: Option<IpAddress>) -> impl Iterator<Item = &mut Map<u16, Here<T>>> {
        let family = local.map(family_of);
        let tables = Family::ALL.into_iter().zip(&mut self.tables);
        tables
            .filter(move |(f, _)| family.is_none_or(|family| family == *f))
            .filter_map(|(_, table)| table.as_mut())
    }

    /// Returns the socket for what is sent to this address and port. One is enough for a broadcast.
    pub fn find(&self, address: IpAddress, port: u16) -> Option<T> {
        let table = self.tables[family_of(address) as usize].as_ref()?;
        let mut here = table.get(&port)?.iter();
        let (_, socket) = here.find(|(local, _)| local.is_none_or(|local| local == address))?;
        Some(*socket)
    }

    /// Returns true if a socket at `local` would share the port with another.
    pub fn is_taken(&self, local: Option<IpAddress>, port: u16) -> bool {
        let mut here = self.tables.iter().flatten().filter_map(|table| table.get(&port));
        here.any(|here| here.iter().any(|(other, _)| overlap(*other, local)))
    }

    /// Adds a socket. Returns false if there is no memory for it; nothing has changed then.
    pub fn insert(&mut self, local: Option<IpAddress>, port: u16, socket: T) -> bool {
        let added = self.tables(local).all(|table| add(table, port, (local, socket)));
        if !added {
            self.remove(local, port, socket);
        }
        added
    }

    /// Removes a socket.
    pub fn remove(&mut self, local: Option<IpAddress>, port: u16, socket: T) {
        for table in self.tables(local) {
            if let Some(here) = table.get_mut(&port) {
                here.retain(|(_, other)| *other != socket);
                if here.is_empty() {
                    table.remove(&port);
                }
            }
        }
    }

    /// Returns all sockets once, in no order.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        // A socket without an address is listed by the first family that there is.
        let first = self.tables.iter().position(Option::is_some);
        let tables = self.tables.iter().enumerate();
        tables.flat_map(move |(at, table)| {
            let sockets = table.iter().flat_map(|table| table.values().flatten());
            sockets
                .filter(move |(local, _)| local.is_some() || Some(at) == first)
                .map(|(_, socket)| *socket)
        })
    }
}

fn add<T>(table: &mut Map<u16, Here<T>>, port: u16, socket: (Option<IpAddress>, T)) -> bool {
    if table.try_reserve(1).is_err() {
        return false;
    }
    let here = table.entry(port).or_default();
    let has_room = here.try_reserve(1).is_ok();
    if has_room {
        here.push(socket);
    } else if here.is_empty() {
        table.remove(&port);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Account;

    #[test]
    fn a_socket_without_an_address_is_found_in_all_families_and_listed_once() {
        let mut ports = Ports::new(FixedState::default());
        let (v4, v6) = (
            IpAddress::v4(10, 0, 2, 1),
            IpAddress::v6(0xfec0, 0, 0, 0, 0, 0, 0, 1),
        );
        let mut account = Account::default();
        let mut purchase = account.purchase();
        ports.create(Family::Inet6, 4, &mut purchase).unwrap();
        assert!(ports.insert(None, 7, 'a'));
        assert_eq!((ports.find(v4, 7), ports.find(v6, 7)), (None, Some('a')));
        ports.remove(None, 7, 'a');
        ports.create(Family::Inet, 4, &mut purchase).unwrap();
        assert!(ports.insert(None, 7, 'a') && ports.insert(Some(v4), 8, 'b'));
        assert_eq!((ports.find(v4, 7), ports.find(v6, 7)), (Some('a'), Some('a')));
        assert_eq!((ports.find(v4, 8), ports.find(v6, 8)), (Some('b'), None));
        assert!(ports.is_taken(Some(v6), 7) && ports.is_taken(None, 8) && !ports.is_taken(Some(v6), 8));
        let mut all: Vec<char> = ports.iter().collect();
        all.sort_unstable();
        assert_eq!(all, ['a', 'b']);
        ports.remove(None, 7, 'a');
        assert_eq!((ports.find(v4, 7), ports.find(v6, 7)), (None, None));
    }
}
