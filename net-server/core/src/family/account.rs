//! The brane's account of memory for the tables of families and protocols, and purchases from it.
//!
//! A purchase either succeeds as a whole or leaves the account as it was. Memory comes from the heap by fallible allocation, so a
//! shortage is an error and never an abort.

use crate::table::Table;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

/// Bytes that the tables of a brane may take if its configuration sets no limit. The heap is large enough for them
/// ([`crate::memory`]).
pub const DEFAULT_LIMIT: usize = 760 << 10;

/// Why a table was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The account does not have that many bytes.
    Account {
        /// Bytes of the table.
        wanted: usize,
        /// Bytes that the account has.
        left: usize,
    },
    /// The heap has no such piece of memory.
    Heap {
        /// Bytes of the table.
        wanted: usize,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortage::Account { wanted, left } => write!(f, "no memory: {wanted} bytes wanted, {left} left"),
            Shortage::Heap { wanted } => write!(f, "no memory: {wanted} bytes wanted, the heap has less"),
        }
    }
}

/// The account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    limit: usize,
    used: usize,
}

impl Default for Account {
    fn default() -> Account {
        Account::new(DEFAULT_LIMIT)
    }
}

/// Bytes that a purchase has taken. They go back to the account by [`Account::refund`].
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "the bytes stay taken until they are refunded"]
pub struct Charge(usize);

impl Account {
    /// Makes an account with `limit` bytes.
    pub fn new(limit: usize) -> Account {
        Account { limit, used: 0 }
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Begins a purchase. It ends by [`Purchase::commit`]; a purchase that is dropped before costs nothing.
    pub fn purchase(&mut self) -> Purchase<'_> {
        Purchase {
            account: self,
            taken: 0,
        }
    }

    /// Takes the bytes of a purchase back whose tables were freed.
    pub fn refund(&mut self, charge: Charge) {
        self.used -= charge.0;
    }
}

/// Tables that are bought together.
pub struct Purchase<'a> {
    account: &'a mut Account,
    taken: usize,
}

/// Returns the bytes of a hash table for `n` entries of `entry` bytes: buckets of the next power of two, with a byte of control
/// each.
pub const fn hash_bytes(n: usize, entry: usize) -> usize {
    // One group of control bytes is there twice.
    const GROUP: usize = 16;
    (n * 8 / 7 + 1).next_power_of_two() * (entry + 1) + GROUP
}

impl Purchase<'_> {
    fn take(&mut self, wanted: usize) -> Result<(), Shortage> {
        let left = self.account.limit.saturating_sub(self.account.used);
        if wanted > left {
            return Err(Shortage::Account { wanted, left });
        }
        self.account.used += wanted;
        self.taken += wanted;
        Ok(())
    }

    /// Buys an empty vector with room for `n` elements.
    pub fn vec<T>(&mut self, n: usize) -> Result<Vec<T>, Shortage> {
        let wanted = n * size_of::<T>();
        self.take(wanted)?;
        let mut vec = Vec::new();
        let reserved = vec.try_reserve_exact(n);
        reserved.map(|()| vec).map_err(|_| Shortage::Heap { wanted })
    }

    /// Buys a vector of `n` zeros.
    pub fn zeroed<T: Clone + Default>(&mut self, n: usize) -> Result<Vec<T>, Shortage> {
        let mut vec = self.vec(n)?;
        vec.resize(n, T::default());
        Ok(vec)
    }

    /// Buys an empty queue with room for `n` elements.
    pub fn queue<T>(&mut self, n: usize) -> Result<VecDeque<T>, Shortage> {
        self.vec(n).map(VecDeque::from)
    }

    /// Buys an empty [`Table`] with room for `n` entries.
    pub fn table<T>(&mut self, n: usize) -> Result<Table<T>, Shortage> {
        let wanted = Table::<T>::bytes(n);
        self.take(wanted)?;
        Table::with_capacity(n).ok_or(Shortage::Heap { wanted })
    }

    /// Buys an empty map with room for `n` entries.
    pub fn map<K: Eq + core::hash::Hash, V>(
        &mut self,
        n: usize,
        hash: &FixedState,
    ) -> Result<HashMap<K, V, FixedState>, Shortage> {
        let wanted = hash_bytes(n, size_of::<(K, V)>());
        self.take(wanted)?;
        let mut map = HashMap::with_hasher(hash.clone());
        let reserved = map.try_reserve(n);
        reserved.map(|()| map).map_err(|_| Shortage::Heap { wanted })
    }

    /// Buys an empty hash table with room for `n` entries.
    pub fn hash_table<T>(&mut self, n: usize) -> Result<HashTable<T>, Shortage> {
        let wanted = hash_bytes(n, size_of::<T>());
        self.take(wanted)?;
        let mut table = HashTable::new();
        // An empty table hashes nothing anew.
        let reserved = table.try_reserve(n, |_| 0);
        reserved.map(|()| table).map_err(|_| Shortage::Heap { wanted })
    }

    /// Ends the purchase.
    pub fn commit(mut self) -> Charge {
        Charge(core::mem::take(&mut self.taken))
    }
}

impl Drop for Purchase<'_> {
    fn drop(&mut self) {
        self.account.used -= self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purchase_that_does_not_end_costs_nothing() {
        let mut account = Account::new(100);
        let mut purchase = account.purchase();
        assert!(purchase.vec::<u8>(60).is_ok());
        let short = Shortage::Account { wanted: 50, left: 40 };
        assert_eq!(purchase.vec::<u8>(50), Err(short));
        drop(purchase);
        assert_eq!(account, Account::new(100));
        let mut purchase = account.purchase();
        assert!(purchase.vec::<u8>(100).is_ok());
        let charge = purchase.commit();
        assert_eq!(account.used(), 100);
        account.refund(charge);
        assert_eq!(account, Account::new(100));
    }

    #[test]
    fn a_shortage_says_the_numbers() {
        let shortage = Account::new(1024).purchase().vec::<u8>(65536).unwrap_err();
        assert_eq!(shortage.to_string(), "no memory: 65536 bytes wanted, 1024 left");
    }

    #[test]
    fn a_hash_table_costs_what_it_takes() {
        for n in [16, 62, 100, 512, 1024] {
            let mut account = Account::default();
            let table = account.purchase().hash_table::<(u64, u64)>(n).unwrap();
            let taken = table.allocation_size();
            let charged = hash_bytes(n, 16);
            assert!(
                taken <= charged && charged <= 2 * taken + 64,
                "{n}: {taken} {charged}"
            );
        }
    }
}
