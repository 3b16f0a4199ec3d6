//! Entries of the table of flows: found by a keyed hash, and in one list for each class, ordered by their last packets.
//!
//! Owns the memory, which is allocated once. Each operation costs a fixed number of steps, plus the length of a bucket for
//! [`Table::find`] and [`Table::remove`].

use super::Class;
use crate::packet::Flow;
use alloc::vec::Vec;
use core::net::IpAddr;
use siphasher::sip::SipHasher13;

/// No entry.
const NONE: u32 = u32::MAX;

pub(super) struct Entry {
    /// The flow, in the direction of its first packet.
    pub flow: Flow,
    /// Time of the last packet; of a half-open flow, of the first.
    pub touched: u64,
    pub class: Class,
    /// A half-open flow was answered.
    pub answered: bool,
    /// Sequence number of the answer of TCP.
    pub answer: u32,
    /// Directions in which a FIN was seen: bit 0 from the originator, bit 1 to it.
    pub fins: u8,
    bucket: u32,
    /// Next entry of the bucket.
    chained: u32,
    older: u32,
    /// Next entry in the list of the class. Of a free entry, the next free one.
    younger: u32,
}

/// Entries of one class.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    youngest: u32,
    length: usize,
}

const EMPTY: List = List {
    oldest: NONE,
    youngest: NONE,
    length: 0,
};

pub(super) struct Table {
    entries: Vec<Entry>,
    /// First entry of each bucket; their number is a power of two.
    buckets: Vec<u32>,
    lists: [List; Class::ALL.len()],
    free: u32,
    capacity: usize,
    hash: SipHasher13,
    /// Changes when a slot gets another flow or becomes free.
    version: u64,
}

impl Table {
    /// Returns `None` if memory is short.
    pub fn new(seed: u64, capacity: usize) -> Option<Table> {
        let count = capacity.checked_next_power_of_two()?;
        u32::try_from(count).ok()?;
        let mut entries = Vec::new();
        entries.try_reserve_exact(capacity).ok()?;
        let mut buckets = Vec::new();
        buckets.try_reserve_exact(count).ok()?;
        buckets.resize(count, NONE);
        Some(Table {
            entries,
            buckets,
            lists: [EMPTY; Class::ALL.len()],
            free: NONE,
            capacity,
            hash: SipHasher13::new_with_keys(seed, seed.rotate_left(32) ^ 0x736f_6d65_7073_6575),
            version: 0,
        })
    }

    /// Returns the bytes of heap that a table takes.
    pub const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Entry>() + capacity.next_power_of_two() * size_of::<u32>()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns a number that changes when a slot gets another flow or becomes free.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.length).sum()
    }

    /// Returns the number of entries of a class.
    pub fn length(&self, class: Class) -> usize {
        self.list(class).length
    }

    pub fn get(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)
    }

    /// Returns the entry of a class whose last packet is the longest ago.
    pub fn oldest(&self, class: Class) -> Option<(u32, &Entry)> {
        let slot = self.list(class).oldest;
        Some((slot, self.get(slot)?))
    }

    /// Returns the entries of a class, the oldest first.
    pub fn iter(&self, class: Class) -> impl Iterator<Item = &Entry> {
        let mut slot = self.list(class).oldest;
        core::iter::from_fn(move || {
            let entry = self.get(slot)?;
            slot = entry.younger;
            Some(entry)
        })
    }

    /// Finds the entry of a flow. The flow may have either direction.
    pub fn find(&self, flow: &Flow) -> Option<(u32, &Entry)> {
        let mut slot = *self.buckets.get(self.bucket_of(flow) as usize)?;
        loop {
            let entry = self.get(slot)?;
            if entry.flow == *flow || entry.flow.reversed() == *flow {
                return Some((slot, entry));
            }
            slot = entry.chained;
        }
    }

    /// Makes an entry for a flow that has none. Returns false if the table is full.
    pub fn insert(&mut self, now: u64, flow: Flow, class: Class) -> bool {
        let bucket = self.bucket_of(&flow);
        let entry = Entry {
            flow,
            touched: now,
            class,
            answered: false,
            answer: 0,
            fins: 0,
            bucket,
            chained: self.buckets.get(bucket as usize).copied().unwrap_or(NONE),
            older: NONE,
            younger: NONE,
        };
        let mut slot = self.free;
        if let Some(free) = self.get_mut(slot) {
            let next = free.younger;
            *free = entry;
            self.free = next;
        } else if self.entries.len() < self.capacity {
            slot = self.entries.len() as u32;
            self.entries.push(entry);
        } else {
            return false;
        }
        if let Some(first) = self.buckets.get_mut(bucket as usize) {
            *first = slot;
        }
        self.version = self.version.wrapping_add(1);
        self.link(slot, class);
        true
    }

    /// Removes an entry, which becomes free.
    pub fn remove(&mut self, slot: u32) {
        let Some(&Entry { bucket, chained, .. }) = self.get(slot) else {
            return;
        };
        self.version = self.version.wrapping_add(1);
        self.unlink(slot);
        let mut before = self.buckets.get(bucket as usize).copied().unwrap_or(NONE);
        if before == slot {
            if let Some(first) = self.buckets.get_mut(bucket as usize) {
                *first = chained;
            }
        } else {
            while let Some(entry) = self.get_mut(before) {
                if entry.chained == slot {
                    entry.chained = chained;
                    break;
                }
                before = entry.chained;
            }
        }
        let free = core::mem::replace(&mut self.free, slot);
        if let Some(entry) = self.get_mut(slot) {
            entry.younger = free;
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.buckets.fill(NONE);
        self.lists = [EMPTY; Class::ALL.len()];
        self.free = NONE;
        self.version = self.version.wrapping_add(1);
    }

    /// Makes an entry the youngest of a class.
    pub fn touch(&mut self, now: u64, slot: u32, class: Class) {
        self.unlink(slot);
        if let Some(entry) = self.get_mut(slot) {
            entry.touched = now;
        }
        self.link(slot, class);
    }

    fn list(&self, class: Class) -> List {
        self.lists.get(class as usize).copied().unwrap_or(EMPTY)
    }

    fn link(&mut self, slot: u32, class: Class) {
        let Some(list) = self.lists.get_mut(class as usize) else {
            return;
        };
        let older = core::mem::replace(&mut list.youngest, slot);
        list.length += 1;
        if older == NONE {
            list.oldest = slot;
        }
        if let Some(older) = self.get_mut(older) {
            older.younger = slot;
        }
        if let Some(entry) = self.get_mut(slot) {
            entry.class = class;
            entry.older = older;
            entry.younger = NONE;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&Entry {
            class,
            older,
            younger,
            ..
        }) = self.get(slot)
        else {
            return;
        };
        if let Some(entry) = self.get_mut(older) {
            entry.younger = younger;
        }
        if let Some(entry) = self.get_mut(younger) {
            entry.older = older;
        }
        if let Some(list) = self.lists.get_mut(class as usize) {
            list.length = list.length.saturating_sub(1);
            if older == NONE {
                list.oldest = younger;
            }
            if younger == NONE {
                list.youngest = older;
            }
        }
    }

    /// Returns the bucket of a flow. Both directions of a flow have one bucket.
    fn bucket_of(&self, flow: &Flow) -> u32 {
        let (low, high) = match flow.source <= flow.destination {
            true => (flow.source, flow.destination),
            false => (flow.destination, flow.source),
        };
        let mut key = [0u8; 38];
        let ports = (u32::from(low.1) << 16 | u32::from(high.1)).to_be_bytes();
        let kind = [flow.protocol, u8::from(low.0.is_ipv4())];
        let parts = [&bits(low.0)[..], &bits(high.0), &ports, &kind];
        for (byte, value) in key.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        let mask = (self.buckets.len() as u64).saturating_sub(1);
        (self.hash.hash(&key) & mask) as u32
    }
}

fn bits(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
