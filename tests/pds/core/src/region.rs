//! Writing anything anywhere inside a region.

use crate::Random;
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;

/// Writes bytes at an offset; what would lie outside the region is left out.
pub fn write(region: SharedRegion, offset: usize, bytes: &[u8]) {
    let Some(part) = region.part(offset, bytes.len()) else {
        return;
    };
    for (i, byte) in bytes.iter().enumerate() {
        // SAFETY: `part` has exactly as many bytes, all inside the region, which is mapped writable.
        unsafe { part.base().add(i).write_volatile(*byte) };
    }
}

/// Writes a 32-bit word.
pub fn write_word(region: SharedRegion, offset: usize, word: u32) {
    write(region, offset, &word.to_le_bytes());
}

/// Writes random bytes over `len` bytes at `offset`.
pub fn scribble(region: SharedRegion, random: &mut Random, offset: usize, len: usize) {
    let mut at = offset;
    while at < offset + len {
        let mut bytes = [0; 64];
        let n = (offset + len - at).min(64);
        random.fill(&mut bytes[..n]);
        write(region, at, &bytes[..n]);
        at += n;
    }
}

/// The indices of a ring at an offset that the layout gives.
pub fn indices(region: SharedRegion, offset: usize) -> Option<&'static RingIndices> {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }
}

/// Bytes of one side's words in a link's head.
const SIDE: usize = 16;

/// What the honest side of a region has written of itself in the link's head. Who has spoilt it puts it back, or could never be
/// seen by that side again.
#[derive(Clone, Copy)]
pub struct Head([u8; SIDE]);

impl Head {
    /// As it is now.
    pub fn save(region: SharedRegion) -> Option<Head> {
        let part = region.part(0, SIDE)?;
        let mut bytes = [0; SIDE];
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `part` has SIDE bytes inside the region, which is mapped readable.
            *byte = unsafe { part.base().add(i).read_volatile() };
        }
        Some(Head(bytes))
    }

    /// As it was.
    pub fn restore(self, region: SharedRegion) {
        write(region, 0, &self.0);
    }
}
