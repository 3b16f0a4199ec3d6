//! Memory of all TCP buffers of a brane: one region, allocated when TCP is created and divided into blocks by halving (a buddy system).
//!
//! Any host can cause connections, and clients choose the sizes of their buffers. So the memory for them is apart from all
//! other memory of the brane: if none is left in one piece, [`Buffers::take`] fails and nothing else does. Blocks that are
//! given back join their free neighbours at once, whatever the sizes were. No step allocates, and none takes longer with the
//! number of blocks.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// Smallest block in bytes.
pub const SMALLEST: usize = 4 << 10;
/// Largest block in bytes.
pub const LARGEST: usize = 512 << 10;
/// Bytes of the region.
pub const MEMORY: usize = 7 * LARGEST;

/// Block sizes: each is twice the one before.
const ORDERS: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;
/// Blocks of the smallest size.
const UNITS: usize = MEMORY / SMALLEST;
/// Words of a set of blocks.
const WORDS: usize = UNITS / 64;

const _: () =
    assert!(SMALLEST.is_power_of_two() && LARGEST.is_power_of_two() && MEMORY.is_multiple_of(LARGEST));

/// A block that is in use. It goes back by [`Buffers::give`].
#[derive(Debug)]
pub struct Block {
    /// Its first unit.
    unit: u16,
    order: u8,
}

impl Block {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        SMALLEST << self.order
    }

    /// Returns false: there are no blocks without bytes.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The region and its free blocks.
pub struct Buffers {
    /// The region: room of a vector without elements. All access is by `base`.
    region: Vec<MaybeUninit<u8>>,
    base: NonNull<u8>,
    /// Free blocks of each order, by number among those of their size.
    free: [[u64; WORDS]; ORDERS],
    /// Units whose bytes have been written once.
    written: [u64; WORDS],
    /// Bytes in use.
    used: usize,
}

impl Drop for Buffers {
    /// Returns the region if no block is in use. Otherwise a socket may still have its bytes, and the memory is lost.
    fn drop(&mut self) {
        if self.used != 0 {
            core::mem::forget(core::mem::take(&mut self.region));
        }
    }
}

impl Buffers {
    /// Allocates the region. Returns `None` if there is no memory for it.
    pub fn new() -> Option<Buffers> {
        let mut region = Vec::new();
        region.try_reserve_exact(MEMORY).ok()?;
        let base = NonNull::from(region.spare_capacity_mut()).cast();
        let mut free = [[0; WORDS]; ORDERS];
        for root in 0..MEMORY / LARGEST {
            free[ORDERS - 1][root / 64] |= 1 << (root % 64);
        }
        Some(Buffers {
            region,
            base,
            free,
            written: [0; WORDS],
            used: 0,
        })
    }

    /// Takes a block of `len` bytes, a power of two from [`SMALLEST`] to [`LARGEST`]. Returns `None` if there is no such block.
    pub fn take(&mut self, len: usize) -> Option<Block> {
        if !len.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&len) {
            return None;
        }
        let order = (len / SMALLEST).ilog2() as usize;
        let (mut from, mut at) = (order..ORDERS).find_map(|order| Some((order, self.first(order)?)))?;
        self.mark(from, at, false);
        while from > order {
            (from, at) = (from - 1, at * 2);
            self.mark(from, at + 1, true);
        }
        self.used += len;
        Some(Block {
            unit: (at << order) as u16,
            order: order as u8,
        })
    }

    /// Gives a block back.
    pub fn give(&mut self, block: Block) {
        self.used -= block.len();
        let mut order = usize::from(block.order);
        let mut at = usize::from(block.unit) >> order;
        while order + 1 < ORDERS && self.is_free(order, at ^ 1) {
            self.mark(order, at ^ 1, false);
            (order, at) = (order + 1, at / 2);
        }
        self.mark(order, at, true);
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The bytes of a block, for as long as the caller keeps it.
    ///
    /// # Safety
    /// The slice must be gone before the block is given back, and before this is called for the same block again.
    pub unsafe fn bytes(&mut self, block: &Block) -> &'static mut [u8] {
        let first = usize::from(block.unit);
        for unit in first..first + (1 << block.order) {
            if self.written[unit / 64] & 1 << (unit % 64) == 0 {
                self.written[unit / 64] |= 1 << (unit % 64);
                // SAFETY: a block lies within the region (`take`), and nobody else uses its bytes.
                unsafe { self.base.add(unit * SMALLEST).write_bytes(0, SMALLEST) };
            }
        }
        // SAFETY: the block lies within the region, whose memory is never returned; all of its bytes have been written by now.
        // Blocks in use do not overlap, so by the caller's contract nobody else has a reference to these bytes.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(first * SMALLEST).as_ptr(), block.len()) }
    }

    /// The first free block of an order.
    fn first(&self, order: usize) -> Option<usize> {
        let words = &self.free[order][..(UNITS >> order).div_ceil(64)];
        let word = words.iter().position(|word| *word != 0)?;
        Some(word * 64 + words[word].trailing_zeros() as usize)
    }

    fn is_free(&self, order: usize, at: usize) -> bool {
        self.free[order][at / 64] & 1 << (at % 64) != 0
    }

    fn mark(&mut self, order: usize, at: usize, free: bool) {
        let bit = 1 << (at % 64);
        match free {
            true => self.free[order][at / 64] |= bit,
            false => self.free[order][at / 64] &= !bit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(buffers: &mut Buffers, len: usize) -> Vec<Block> {
        core::iter::from_fn(|| buffers.take(len)).collect()
    }

    #[test]
    fn the_region_is_used_up_to_its_last_byte_whatever_the_size() {
        let mut buffers = Buffers::new().unwrap();
        for len in (0..ORDERS).map(|order| SMALLEST << order) {
            let blocks = all(&mut buffers, len);
            assert_eq!((blocks.len(), buffers.used()), (MEMORY / len, MEMORY));
            blocks.into_iter().for_each(|block| buffers.give(block));
            assert_eq!(buffers.used(), 0);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let mut buffers = Buffers::new().unwrap();
        for len in [
            0,
            1,
            SMALLEST / 2,
            SMALLEST + 1,
            3 * SMALLEST,
            LARGEST * 2,
            usize::MAX,
        ] {
            assert!(buffers.take(len).is_none(), "{len}");
        }
    }

    proptest! {
        /// Blocks in use never overlap, and when all are back, the largest ones can be had again.
        #[test]
        fn blocks_never_overlap(steps in prop::collection::vec((any::<bool>(), 0usize..ORDERS, any::<prop::sample::Index>()), 1..300)) {
            let mut buffers = Buffers::new().unwrap();
            let mut blocks: Vec<Block> = Vec::new();
            for (give, order, which) in steps {
                if give && !blocks.is_empty() {
                    let block = blocks.swap_remove(which.index(blocks.len()));
                    buffers.give(block);
                } else if let Some(block) = buffers.take(SMALLEST << order) {
                    blocks.push(block);
                }
                let mut taken = [false; UNITS];
                for block in &blocks {
                    for unit in &mut taken[usize::from(block.unit)..][..block.len() / SMALLEST] {
                        prop_assert!(!core::mem::replace(unit, true));
                    }
                }
                prop_assert_eq!(buffers.used(), taken.iter().filter(|taken| **taken).count() * SMALLEST);
            }
            blocks.into_iter().for_each(|block| buffers.give(block));
            prop_assert_eq!(all(&mut buffers, LARGEST).len(), MEMORY / LARGEST);
        }

        /// A block's bytes are its own.
        #[test]
        fn bytes_of_blocks_are_apart(orders in prop::collection::vec(0usize..3, 1..20)) {
            let mut buffers = Buffers::new().unwrap();
            let blocks: Vec<Block> = orders.iter().filter_map(|order| buffers.take(SMALLEST << order)).collect();
            // SAFETY: each block is asked for its bytes once, and none is given back.
            let mut slices: Vec<_> = blocks.iter().map(|block| unsafe { buffers.bytes(block) }).collect();
            for (n, slice) in slices.iter_mut().enumerate() {
                prop_assert!(slice.iter().all(|byte| *byte == 0));
                slice.fill(n as u8 + 1);
            }
            for (n, slice) in slices.iter().enumerate() {
                prop_assert!(slice.iter().all(|byte| *byte == n as u8 + 1));
            }
        }
    }
}
