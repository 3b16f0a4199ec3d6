//! Writes of arbitrary bytes anywhere inside a region, and never outside it.
//!
//! On the other side: the domain that shares the region. It does not trust the writer.

use crate::Random;
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;

/// Writes bytes at an offset. Does nothing if they would not lie inside the region.
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

/// Returns the indices of a ring at an offset of the layout.
pub fn indices(region: SharedRegion, offset: usize) -> Option<&'static RingIndices> {
    // SAFETY: `RingIndices` consists of atomics only.
    unsafe { region.object(offset) }
}

/// Size of one side's words in a link's head, in bytes.
const SIDE: usize = 16;

/// The honest side's words in the link's head. A hostile side that has overwritten them must restore them,
/// because the honest side would ignore it forever otherwise.
#[derive(Clone, Copy)]
pub struct Head([u8; SIDE]);

impl Head {
    /// Saves the present words.
    pub fn save(region: SharedRegion) -> Option<Head> {
        let part = region.part(0, SIDE)?;
        let mut bytes = [0; SIDE];
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `part` has SIDE bytes inside the region, which is mapped readable.
            *byte = unsafe { part.base().add(i).read_volatile() };
        }
        Some(Head(bytes))
    }

    /// Restores the saved words.
    pub fn restore(self, region: SharedRegion) {
        write(region, 0, &self.0);
    }
}
