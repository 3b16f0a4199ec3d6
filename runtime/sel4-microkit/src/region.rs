//! What the generated constants of a program are made of.

use brane_abi::shared::SharedRegion;
use core::ptr::NonNull;

/// A memory region as this program maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub vaddr: usize,
    /// Bytes.
    pub size: usize,
    /// Physical address, where the description fixes it.
    pub paddr: Option<u64>,
}

impl Region {
    /// First byte.
    pub const fn as_ptr(&self) -> *mut u8 {
        self.vaddr as *mut u8
    }

    /// The region as shared memory. The image builder has mapped it, by the same description that this value comes from.
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
    /// Id.
    pub id: usize,
    /// First port.
    pub addr: u16,
    /// Ports.
    pub size: u16,
}
