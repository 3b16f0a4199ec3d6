//! Memory that stands in for a shared region, and one ring in it.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

/// Bytes of the data; the indices lie before it.
pub const CAPACITY: usize = 1024;
pub const DATA: usize = 128;

/// Allocates zeroed memory. It is never freed, as shared regions are not.
pub fn region(len: usize) -> SharedRegion {
    let layout = Layout::from_size_align(len, 4096).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned, reached only through copies of this value.
    unsafe { SharedRegion::new(base, len) }
}

/// Allocates the memory of one ring.
pub fn memory() -> SharedRegion {
    region(DATA + CAPACITY)
}

pub fn indices(memory: SharedRegion) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { memory.object(0).unwrap() }
}

pub fn data(memory: SharedRegion) -> SharedRegion {
    memory.part(DATA, CAPACITY).unwrap()
}

pub fn ring(memory: SharedRegion) -> (Producer, Consumer) {
    (
        Producer::new(indices(memory), data(memory)).unwrap(),
        Consumer::new(indices(memory), data(memory)).unwrap(),
    )
}

/// Writes to the region as the other side could.
pub fn write(memory: SharedRegion, offset: usize, bytes: &[u8]) {
    let part = memory.part(offset, bytes.len()).unwrap();
    // SAFETY: inside the region; one thread.
    unsafe { part.base().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
}

/// Reads a word of the region as the other side could.
pub fn word(memory: SharedRegion, offset: usize) -> u32 {
    let part = memory.part(offset, 4).unwrap();
    let mut bytes = [0; 4];
    // SAFETY: inside the region; one thread.
    unsafe { part.base().copy_to_nonoverlapping(bytes.as_mut_ptr(), 4) }
    u32::from_le_bytes(bytes)
}
