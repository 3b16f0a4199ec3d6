//! A table of things with numbers that stay theirs. Its memory is allocated fallibly, unlike that of `slab`.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

enum Entry<T> {
    Used(T),
    /// The next free entry.
    Free(usize),
}

/// A table. A number is used again after its entry was removed.
pub struct Table<T> {
    entries: Vec<Entry<T>>,
    /// The first free entry; the number of entries if none is free.
    free: usize,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            entries: Vec::new(),
            free: 0,
            len: 0,
        }
    }
}

impl<T> Table<T> {
    /// Returns the bytes of a table for `n` entries.
    pub const fn bytes(n: usize) -> usize {
        n * size_of::<Entry<T>>()
    }

    /// Makes an empty table with room for `n` entries. Returns `None` if there is no memory for it.
    pub fn with_capacity(n: usize) -> Option<Table<T>> {
        let mut table = Table::default();
        table.entries.try_reserve_exact(n).ok()?;
        Some(table)
    }

    /// Adds an entry. Returns its number, or the value if there is no memory for it.
    pub fn insert(&mut self, value: T) -> Result<usize, T> {
        let at = self.free;
        match self.entries.get_mut(at) {
            Some(entry) => {
                if let Entry::Free(next) = entry {
                    self.free = *next;
                }
                *entry = Entry::Used(value);
            }
            None => {
                if self.entries.try_reserve(1).is_err() {
                    return Err(value);
                }
                self.entries.push(Entry::Used(value));
                self.free = self.entries.len();
            }
        }
        self.len += 1;
        Ok(at)
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let entry = self.entries.get_mut(at)?;
        if matches!(entry, Entry::Free(_)) {
            return None;
        }
        let Entry::Used(value) = core::mem::replace(entry, Entry::Free(self.free)) else {
            return None;
        };
        self.free = at;
        self.len -= 1;
        Some(value)
    }

    /// Returns an entry.
    pub fn get(&self, at: usize) -> Option<&T> {
        match self.entries.get(at)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// Returns an entry.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match self.entries.get_mut(at)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the entries with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| match entry {
                Entry::Used(value) => Some((at, value)),
                Entry::Free(_) => None,
            })
    }

    /// Returns the entries with their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        let entries = self.entries.iter_mut().enumerate();
        entries.filter_map(|(at, entry)| match entry {
            Entry::Used(value) => Some((at, value)),
            Entry::Free(_) => None,
        })
    }
}

impl<T> IntoIterator for Table<T> {
    type Item = (usize, T);
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self.entries.into_iter().enumerate())
    }
}

/// The entries of a table that is no more.
pub struct IntoIter<T>(core::iter::Enumerate<alloc::vec::IntoIter<Entry<T>>>);

impl<T> Iterator for IntoIter<T> {
    type Item = (usize, T);

    fn next(&mut self) -> Option<(usize, T)> {
        self.0.find_map(|(at, entry)| match entry {
            Entry::Used(value) => Some((at, value)),
            Entry::Free(_) => None,
        })
    }
}

impl<T> Index<usize> for Table<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.get(at).expect("an entry of this number")
    }
}

impl<T> IndexMut<usize> for Table<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.get_mut(at).expect("an entry of this number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_does_what_a_slab_does(steps in prop::collection::vec((any::<bool>(), 0usize..20), 0..100)) {
            let (mut table, mut model) = (Table::with_capacity(4).unwrap(), slab::Slab::new());
            for (n, (inserts, at)) in steps.into_iter().enumerate() {
                if inserts {
                    prop_assert_eq!(table.insert(n), Ok(model.insert(n)));
                } else {
                    prop_assert_eq!(table.remove(at), model.try_remove(at));
                }
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(table.get(at), model.get(at));
                prop_assert_eq!(table.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
            }
        }
    }
}
