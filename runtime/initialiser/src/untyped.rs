//! Allocator of untyped memory: selects the untyped object for each allocation.
//!
//! The kernel clears an untyped object as a whole at the first allocation from it, so the order determines
//! the boot time. Objects that are cleared already come first, then the largest object that the remaining
//! need fills, then the smallest that fits.

use sel4::Refused;

use crate::kernel::{BootInfo, Kernel, MAX_UNTYPED, Slot, object};

/// Capacity for remainders next to the regions at fixed addresses.
const MAX_PIECES: usize = MAX_UNTYPED + 282;
/// The kernel's limit on objects in one invocation.
const FAN_OUT: u32 = initialiser_spec::RETYPE_LIMIT;

#[derive(Clone, Copy)]
struct Piece {
    slot: Slot,
    paddr: u64,
    size_bits: u8,
    /// Bytes allocated from its start.
    used: u64,
    cleared: bool,
    device: bool,
}

impl Piece {
    const NONE: Piece = Piece {
        slot: 0,
        paddr: 0,
        size_bits: 0,
        used: 0,
        cleared: false,
        device: true,
    };

    fn size(&self) -> u64 {
        1 << self.size_bits
    }

    /// Returns the number of objects of `1 << bits` bytes that still fit.
    fn room(&self, bits: u8) -> u64 {
        let start = self.used.next_multiple_of(1 << bits);
        self.size().saturating_sub(start) >> bits
    }
}

/// All untyped memory.
pub struct Memory {
    pieces: [Piece; MAX_PIECES],
    count: usize,
    next_slot: Slot,
    end_slot: Slot,
    /// Bytes that the remaining batches need.
    pub needed: u64,
}

/// Reason why an allocation failed.
#[derive(Clone, Copy, Debug)]
pub enum Shortage {
    /// No untyped object of RAM is large enough. Gives the number of objects of the batch created before.
    Ram(u32),
    /// The page at this physical address is neither free RAM nor device memory.
    Address(u64),
    /// The root task's capability table, or its list of untyped objects, is full.
    Slots,
    /// The kernel refused for another reason.
    Refused(Refused),
}

impl From<Refused> for Shortage {
    fn from(refusal: Refused) -> Self {
        Shortage::Refused(refusal)
    }
}

impl Memory {
    /// Reads the kernel's list. Slots from `next_slot` on are free.
    pub fn init(&mut self, info: &BootInfo, next_slot: Slot, needed: u64) {
        self.next_slot = next_slot;
        self.end_slot = info.empty.end as Slot;
        self.needed = needed;
        let slots = info.untyped;
        self.count = ((slots.end - slots.start) as usize).min(MAX_UNTYPED);
        for (i, piece) in self.pieces.iter_mut().take(self.count).enumerate() {
            let description = info.untyped_list[i];
            *piece = Piece {
                slot: slots.start as Slot + i,
                paddr: description.paddr,
                size_bits: description.size_bits,
                used: 0,
                cleared: false,
                device: description.is_device != 0,
            };
        }
    }

    /// Returns an empty list, for a static.
    pub const fn empty() -> Self {
        Memory {
            pieces: [Piece::NONE; MAX_PIECES],
            count: 0,
            next_slot: 0,
            end_slot: 0,
            needed: 0,
        }
    }

    /// Allocates a slot of the root task's table.
    pub fn slot(&mut self) -> Result<Slot, Shortage> {
        if self.next_slot >= self.end_slot {
            return Err(Shortage::Slots);
        }
        self.next_slot += 1;
        Ok(self.next_slot - 1)
    }

    /// Creates `count` objects of `1 << bits` bytes of RAM at any address.
    pub fn make(
        &mut self,
        kernel: &mut Kernel,
        kind: usize,
        bits: u8,
        first: Slot,
        count: u32,
    ) -> Result<(), Shortage> {
        // The kernel's size argument is only for capability tables: log2 of their slots (32 bytes each).
        let argument = if kind == object::CAP_TABLE { bits - 5 } else { 0 };
        let mut made = 0;
        while made < count {
            let piece = self.choose(bits).ok_or(Shortage::Ram(made))?;
            let batch = piece.room(bits).min(u64::from((count - made).min(FAN_OUT))) as u32;
            kernel.retype(piece.slot, kind, argument, first + made as Slot, batch)?;
            let bytes = u64::from(batch) << bits;
            piece.used = piece.used.next_multiple_of(1 << bits) + bytes;
            piece.cleared = true;
            made += batch;
            self.needed = self.needed.saturating_sub(bytes);
        }
        Ok(())
    }

    fn choose(&mut self, bits: u8) -> Option<&mut Piece> {
        let needed = self.needed.max(1 << bits);
        // Cleared objects come first. Of the others, the largest that the need fills, else the smallest.
        let rank = |piece: &Piece| match (piece.cleared, piece.size() <= needed) {
            (true, _) => (0, 0),
            (false, true) => (1, u64::MAX - piece.size()),
            (false, false) => (2, piece.size()),
        };
        self.pieces[..self.count]
            .iter_mut()
            .filter(|piece| !piece.device && piece.room(bits) > 0)
            .min_by_key(|piece| rank(piece))
    }

    /// Creates `count` pages of `1 << bits` bytes at a physical address. Calls must be in order of rising
    /// addresses.
    pub fn make_at(
        &mut self,
        kernel: &mut Kernel,
        paddr: u64,
        bits: u8,
        first: Slot,
        count: u32,
    ) -> Result<(), Shortage> {
        let kind = if bits == initialiser_spec::LARGE_PAGE_BITS {
            object::LARGE_PAGE
        } else {
            object::SMALL_PAGE
        };
        let page = 1u64 << bits;
        let mut made = 0;
        while made < count {
            let at = paddr + (u64::from(made) << bits);
            let index = self.pieces[..self.count]
                .iter()
                .position(|p| p.paddr + p.used <= at && at + page <= p.paddr + p.size())
                .ok_or(Shortage::Address(at))?;
            self.skip_to(kernel, index, at)?;
            let piece = &mut self.pieces[index];
            let batch =
                ((piece.size() - piece.used) >> bits).min(u64::from((count - made).min(FAN_OUT))) as u32;
            kernel.retype(piece.slot, kind, 0, first + made as Slot, batch)?;
            piece.used += u64::from(batch) << bits;
            piece.cleared = true;
            made += batch;
        }
        Ok(())
    }

    /// Takes everything below `at` out of a piece. RAM among it stays available, as pieces of its own.
    fn skip_to(&mut self, kernel: &mut Kernel, index: usize, at: u64) -> Result<(), Shortage> {
        loop {
            let piece = self.pieces[index];
            let from = piece.paddr + piece.used;
            if from >= at {
                return Ok(());
            }
            let gap_bits = (at - from).ilog2() as u8;
            let bits = (from.trailing_zeros() as u8).min(gap_bits);
            let slot = self.slot()?;
            kernel.retype(piece.slot, object::UNTYPED, bits, slot, 1)?;
            self.pieces[index].used += 1 << bits;
            self.pieces[index].cleared = true;
            if !piece.device {
                let free = self.pieces.get_mut(self.count).ok_or(Shortage::Slots)?;
                *free = Piece {
                    slot,
                    paddr: from,
                    size_bits: bits,
                    used: 0,
                    cleared: true,
                    device: false,
                };
                self.count += 1;
            }
        }
    }
}
