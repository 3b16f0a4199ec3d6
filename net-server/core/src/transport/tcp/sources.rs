//! How many connections each source holds: who has to give way when there are too many, and to whom.
//!
//! Sources are hosts on the network, which can have many addresses. An IPv4 address is one source; of IPv6 the /64, since a host
//! can have all addresses in one (RFC 4291, 2.5.4). Memory for the table is taken once.

use crate::family::{Purchase, Shortage};
use crate::table::Table;
use crate::transport::Map;
use foldhash::fast::FixedState;
use smoltcp::wire::IpAddress;

/// Returns what connections of one source have in common of their remote address.
pub fn source_of(remote: IpAddress) -> u128 {
    match remote {
        IpAddress::Ipv4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddress::Ipv6(a) => a.to_bits() >> 64 << 64,
    }
}

/// A source that holds connections, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceId(usize);

/// The sources that hold connections.
pub struct Sources {
    numbers: Map<u128, usize>,
    held: Table<(u128, u32)>,
    hash: FixedState,
}

impl Sources {
    /// Makes the tables without memory.
    pub fn new(hash: FixedState) -> Sources {
        Sources {
            numbers: Map::with_hasher(hash.clone()),
            held: Table::default(),
            hash,
        }
    }

    /// Buys tables for at most `connections`.
    pub fn create(&mut self, connections: usize, purchase: &mut Purchase<'_>) -> Result<(), Shortage> {
        // Twice the number, so that the table clears deleted entries in place and never grows.
        self.numbers = purchase.map(2 * connections, &self.hash)?;
        self.held = purchase.table(connections)?;
        Ok(())
    }

    /// Frees the tables.
    pub fn destroy(&mut self) {
        *self = Sources::new(self.hash.clone());
    }

    /// How many connections the source of `remote` holds.
    pub fn held(&self, remote: IpAddress) -> u32 {
        let number = self.numbers.get(&source_of(remote));
        number
            .and_then(|number| self.held.get(*number))
            .map_or(0, |(_, held)| *held)
    }

    /// How many connections a source holds.
    pub fn held_by(&self, id: SourceId) -> u32 {
        self.held.get(id.0).map_or(0, |(_, held)| *held)
    }

    /// The source of `remote` has one connection more. Each is given back by [`Self::release`]. Returns `None` if there is no memory
    /// for one more source.
    pub fn take(&mut self, remote: IpAddress) -> Option<SourceId> {
        let source = source_of(remote);
        if let Some(number) = self.numbers.get(&source) {
            let (_, held) = self.held.get_mut(*number)?;
            *held += 1;
            return Some(SourceId(*number));
        }
        self.numbers.try_reserve(1).ok()?;
        let number = self.held.insert((source, 1)).ok()?;
        self.numbers.insert(source, number);
        Some(SourceId(number))
    }

    /// The source has one connection less.
    pub fn release(&mut self, id: SourceId) {
        let Some((source, held)) = self.held.get_mut(id.0) else {
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.numbers.remove(source);
            self.held.remove(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Account;
    use proptest::prelude::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_ne!(source("10.0.2.2"), source("10.0.2.3"));
        assert_eq!(source("fec0::1"), source("fec0::ffff:0:0:2"));
        assert_ne!(source("fec0::1"), source("fec0:0:0:1::1"));
        assert_ne!(source("10.0.2.2"), source("::ffff:0:0:0:1"));
    }

    fn allocated() -> Sources {
        let mut sources = Sources::new(FixedState::default());
        sources.create(200, &mut Account::default().purchase()).unwrap();
        sources
    }

    proptest! {
        #[test]
        fn counts_as_a_list_does(steps in prop::collection::vec((0u8..5, any::<bool>()), 0..200)) {
            let mut sources = allocated();
            let address = |n: u8| IpAddress::v4(10, 0, 2, n);
            let mut model: Vec<(u8, SourceId)> = Vec::new();
            for (n, opens) in steps {
                if opens {
                    model.push((n, sources.take(address(n)).unwrap()));
                } else if let Some(at) = model.iter().position(|(m, _)| *m == n) {
                    sources.release(model.remove(at).1);
                }
                for n in 0..5 {
                    let held = model.iter().filter(|(m, _)| *m == n).count() as u32;
                    prop_assert_eq!(sources.held(address(n)), held);
                    for (_, id) in model.iter().filter(|(m, _)| *m == n) {
                        prop_assert_eq!(sources.held_by(*id), held);
                    }
                }
            }
            prop_assert_eq!(sources.held.len(), sources.numbers.len());
        }
    }
}
