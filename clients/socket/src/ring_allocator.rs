//! Division of the region's data area among the sockets' rings. It owns private memory only. The brane receives the places of the
//! rings, and cannot reach this bookkeeping, so its writes cannot corrupt it.
//!
//! Freed ranges are kept by size and reused without a change. So servers that open sockets of the same sizes repeatedly do not
//! fragment the area. Freed ranges are merged only if a request finds no other room.

use alloc::vec::Vec;
use brane_abi::layout::sock::{RING_MAX, RING_MIN};

/// Number of ring sizes: the powers of two from `RING_MIN` to `RING_MAX`.
const CLASSES: usize = (RING_MAX.ilog2() - RING_MIN.ilog2() + 1) as usize;

/// A piece of the data area, in bytes from the region's start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub offset: u32,
    pub len: u32,
}

/// The allocator of the data area.
pub(crate) struct RingAllocator {
    /// Ranges that were never used, or merged, by offset.
    free: Vec<Range>,
    /// Returned ranges by size, as offsets.
    returned: [Vec<u32>; CLASSES],
}

fn class(len: usize) -> Option<usize> {
    (len.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&len))
        .then(|| (len.ilog2() - RING_MIN.ilog2()) as usize)
}

/// Returns true if a ring may have this length.
pub(crate) fn is_ring_size(len: usize) -> bool {
    class(len).is_some()
}

impl RingAllocator {
    /// Creates the allocator with `len` free bytes at `offset`. Both are multiples of the smallest ring.
    pub fn new(offset: usize, len: usize) -> RingAllocator {
        debug_assert!(offset.is_multiple_of(RING_MIN) && len.is_multiple_of(RING_MIN));
        let free = alloc::vec![Range {
            offset: offset as u32,
            len: len as u32
        }];
        RingAllocator {
            free,
            returned: Default::default(),
        }
    }

    /// Takes a range of exactly `len` bytes. Returns `None` if no ring may have this length ([`is_ring_size`]) or there is no
    /// room.
    pub fn allocate(&mut self, len: usize) -> Option<Range> {
        let class = class(len)?;
        let len = len as u32;
        if let Some(offset) = self.returned[class].pop() {
            return Some(Range { offset, len });
        }
        self.carve(len).or_else(|| {
            self.merge();
            self.carve(len)
        })
    }

    /// Takes a range back.
    pub fn release(&mut self, range: Range) {
        if let Some(class) = class(range.len as usize) {
            self.returned[class].push(range.offset);
        }
    }

    /// Cuts `len` bytes from the smallest free range that is long enough. Returns `None` if there is none.
    fn carve(&mut self, len: u32) -> Option<Range> {
        let (at, _) = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, r)| r.len >= len)
            .min_by_key(|(_, r)| r.len)?;
        let range = &mut self.free[at];
        let offset = range.offset;
        range.offset += len;
        range.len -= len;
        if range.len == 0 {
            self.free.remove(at);
        }
        Some(Range { offset, len })
    }

    /// Moves all returned ranges to the free ones and joins adjacent ranges.
    fn merge(&mut self) {
        for (class, offsets) in self.returned.iter_mut().enumerate() {
            let len = (RING_MIN << class) as u32;
            self.free
                .extend(offsets.drain(..).map(|offset| Range { offset, len }));
        }
        self.free.sort_unstable_by_key(|r| r.offset);
        self.free.dedup_by(|next, before| {
            let joins = before.offset + before.len == next.offset;
            if joins {
                before.len += next.len;
            }
            joins
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: usize = 0x2_0000;
    const LEN: usize = 0x3e_0000;

    #[test]
    fn refuses_sizes_that_no_ring_may_have() {
        let mut space = RingAllocator::new(BASE, LEN);
        for len in [0, 1, 512, 1000, 1536, RING_MAX * 2, usize::MAX] {
            assert_eq!(space.allocate(len), None, "{len}");
        }
    }

    #[test]
    fn all_of_it_can_be_used_in_any_size_again() {
        let mut space = RingAllocator::new(BASE, LEN);
        for len in [1024usize, 1 << 17, 4096, 1 << 14] {
            let all: Vec<Range> = std::iter::from_fn(|| space.allocate(len)).collect();
            assert_eq!(all.len(), LEN / len);
            all.into_iter().for_each(|r| space.release(r));
        }
    }

    proptest! {
        /// Checks that after any sequence of calls, ranges lie inside the area, are aligned, and never overlap.
        #[test]
        fn ranges_never_overlap(steps in prop::collection::vec((any::<bool>(), 0usize..11, any::<prop::sample::Index>()), 1..300)) {
            let mut space = RingAllocator::new(BASE, LEN);
            let mut held: Vec<Range> = Vec::new();
            for (take, size, pick) in steps {
                if take {
                    let len = RING_MIN << size;
                    let used: usize = held.iter().map(|r| r.len as usize).sum();
                    match space.allocate(len) {
                        Some(r) => {
                            prop_assert_eq!(r.len as usize, len);
                            prop_assert!(r.offset as usize >= BASE && r.offset as usize + len <= BASE + LEN);
                            prop_assert!((r.offset as usize).is_multiple_of(RING_MIN));
                            for h in &held {
                                prop_assert!(r.offset + r.len <= h.offset || h.offset + h.len <= r.offset);
                            }
                            held.push(r);
                        }
                        None => prop_assert!(used + len > LEN || !held.is_empty()),
                    }
                } else if !held.is_empty() {
                    let at = pick.index(held.len());
                    space.release(held.swap_remove(at));
                }
            }
            // When all ranges are given back, they form one free area again.
            held.drain(..).for_each(|r| space.release(r));
            prop_assert_eq!(std::iter::from_fn(|| space.allocate(RING_MIN)).count(), LEN / RING_MIN);
        }
    }
}
