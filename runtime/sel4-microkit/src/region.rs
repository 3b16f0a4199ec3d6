//! Types of a program's generated constants.
//!
//! Owns no memory. The image builder, which is trusted, generates the values from the system description.

use brane_abi::shared::SharedRegion;
use core::ptr::NonNull;

/// A memory region as this program maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub vaddr: usize,
    /// Bytes.
    pub size: usize,
    /// Physical address, if the description fixes it.
    pub paddr: Option<u64>,
}

impl Region {
    /// Returns the address of the first byte.
    pub const fn as_ptr(&self) -> *mut u8 {
        self.vaddr as *mut u8
    }

    /// Returns the region as shared memory. The image builder has mapped it according to the description that this
    /// value comes from.
    pub fn shared(&self) -> SharedRegion {
        let base = NonNull::new(self.as_ptr()).expect("no region lies at address 0");
        // SAFETY: values of this type are generated from the system description, by which the root task maps the
        // range for the life of the domain, page-aligned.
        unsafe { SharedRegion::new(base, self.size) }
    }
}

/// A range of I/O ports as this program may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPortRange {
    /// Id of the range.
    pub id: usize,
    /// First port.
    pub addr: u16,
    /// Number of ports.
    pub size: u16,
}
