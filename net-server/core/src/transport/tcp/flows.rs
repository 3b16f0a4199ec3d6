//! The index from the addresses and ports of a segment to its connection.
//!
//! Any host can add connections to it, up to [`super::CONNECTIONS`]. The table of each family holds the numbers of connections only; their
//! keys are in the connections.

use super::{Conn, FlowKey};
use crate::family::{Purchase, Shortage, family_of};
use crate::table::Table;
use brane_abi::control::Family;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The tables of both families.
pub struct Flows {
    tables: [HashTable<u16>; 2],
    hash: FixedState,
}

impl Flows {
    /// Makes tables without memory.
    pub fn new(hash: FixedState) -> Flows {
        Flows {
            tables: [HashTable::new(), HashTable::new()],
            hash,
        }
    }

    /// Buys the table of a family for at most `connections`.
    pub fn create(
        &mut self,
        family: Family,
        connections: usize,
        purchase: &mut Purchase<'_>,
    ) -> Result<(), Shortage> {
        // Twice the number, so that the table clears deleted entries in place and never grows.
        self.tables[family as usize] = purchase.hash_table(2 * connections)?;
        Ok(())
    }

    /// Frees the table of a family.
    pub fn destroy(&mut self, family: Family) {
        self.tables[family as usize] = HashTable::new();
    }

    /// Returns the connection of these addresses and ports.
    #[inline]
    pub fn find(&self, conns: &Table<Conn>, key: &FlowKey) -> Option<usize> {
        let is_key = |id: &u16| conns.get(usize::from(*id)).is_some_and(|conn| conn.key == *key);
        let table = &self.tables[family_of(key.local) as usize];
        table
            .find(self.hash.hash_one(key), is_key)
            .map(|id| usize::from(*id))
    }

    /// Makes room for one more connection. Returns false if there is no memory for it.
    pub fn reserve(&mut self, conns: &Table<Conn>, key: &FlowKey) -> bool {
        let hash = |id: &u16| hash_of(&self.hash, conns, *id);
        self.tables[family_of(key.local) as usize]
            .try_reserve(1, hash)
            .is_ok()
    }

    /// Adds a connection that [`Self::reserve`] has made room for.
    pub fn insert(&mut self, conns: &Table<Conn>, key: &FlowKey, id: usize) {
        let hash = self.hash.hash_one(key);
        let table = &mut self.tables[family_of(key.local) as usize];
        table.insert_unique(hash, id as u16, |id| hash_of(&self.hash, conns, *id));
    }

    /// Removes a connection.
    pub fn remove(&mut self, key: &FlowKey, id: usize) {
        let table = &mut self.tables[family_of(key.local) as usize];
        if let Ok(entry) = table.find_entry(self.hash.hash_one(key), |other| usize::from(*other) == id) {
            entry.remove();
        }
    }
}

fn hash_of(hash: &FixedState, conns: &Table<Conn>, id: u16) -> u64 {
    conns
        .get(usize::from(id))
        .map_or(0, |conn| hash.hash_one(conn.key))
}
