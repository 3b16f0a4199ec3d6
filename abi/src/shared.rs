//! A view of a memory region that another protection domain maps too.
//!
//! Owns no memory: it carries the address and the length from the system description, and returns typed parts of the region. The
//! other side is not trusted and can write at any time. So nothing here returns a plain reference to bytes that the peer may
//! change; only atomics are returned by reference.

use core::ptr::NonNull;

/// A shared region: address and length. The bounds come from our own system description, never from the peer.
#[derive(Clone, Copy, Debug)]
pub struct SharedRegion {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the region is plain memory; all access to it goes through atomics or raw copies.
unsafe impl Send for SharedRegion {}

impl SharedRegion {
    /// Creates the region of `len` bytes at `base`.
    ///
    /// # Safety
    /// The range must stay mapped, readable and writable for the life of the program, be aligned to 64 bytes, and
    /// this process must reach it in no other way than through values made from this one.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// Returns the length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the region has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the address of the first byte.
    pub const fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns the part `offset .. offset + len`. Returns `None` if it is not inside this region.
    pub fn part(&self, offset: usize, len: usize) -> Option<SharedRegion> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        // SAFETY: offset <= self.len, so the address is inside the region, or one past its end for an empty part.
        let base = unsafe { self.base.add(offset) };
        Some(Self { base, len })
    }

    /// Returns a shared object of atomics at `offset`. Returns `None` if it does not fit or is not aligned.
    ///
    /// # Safety
    /// `T` must consist of atomics (and padding) only, valid for every bit pattern.
    pub unsafe fn object<T>(&self, offset: usize) -> Option<&'static T> {
        let part = self.part(offset, size_of::<T>())?;
        if !(part.base() as usize).is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: in bounds and aligned as just checked; the caller promises that T is all atomics, so the peer's
        // writes are no data race; the region lives as long as the program (contract of `new`).
        Some(unsafe { &*part.base().cast::<T>() })
    }
}
