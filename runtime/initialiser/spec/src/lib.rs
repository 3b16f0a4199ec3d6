//! The description from the image builder to the root task: every object to create, every page to map, every capability
//! to assign.
//!
//! The image builder (`tools/image`) writes it at build time, and the root task (`runtime/initialiser`) reads it in
//! place at boot, without an allocator. Both are trusted. Nevertheless [`Spec::parse`] checks every table bound, index
//! and range once. So a damaged image results in a clear message, and not in a wrong system.
//!
//! The builder makes all decisions that are possible before boot. The root task only decides the location of memory and
//! the number of its first free capability slot. Slots in the description are relative to that slot ("relative slots").

#![cfg_attr(not(test), no_std)]

mod parse;
mod records;

pub use parse::{ParseError, Spec};
pub use records::*;

/// Bytes of a small page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of the bytes of a small page.
pub const SMALL_PAGE_BITS: u8 = 12;
/// log2 of the bytes of a large page.
pub const LARGE_PAGE_BITS: u8 = 21;
/// log2 of the slots in a protection domain's capability table.
pub const CNODE_BITS: u8 = 9;
/// log2 of the slots in the upper table of a protection domain with `cspace` extras.
pub const CNODE_ROOT_BITS: u8 = 6;
/// Maximum of objects that one retype invocation may create (the kernel's fan-out limit).
pub const RETYPE_LIMIT: u32 = 256;
/// First address that user code may not map.
pub const USER_TOP: u64 = 0x7fff_ffff_f000;
/// Symbol of the root task into which the builder writes a [`Payload`].
pub const PAYLOAD_SYMBOL: &str = "initialiser_payload";

/// Location of the payload in the root task's address space. The builder fills it in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// First byte of the whole image, page aligned. It is the page of the kernel's first user image frame.
    pub image_start: u64,
    /// First byte of the description.
    pub spec_start: u64,
    pub spec_len: u64,
    /// First byte of the content pages (page aligned).
    pub pages_start: u64,
    pub pages: u64,
}

impl Payload {
    /// Returns the fields in order.
    pub const fn words(&self) -> [u64; 5] {
        [
            self.image_start,
            self.spec_start,
            self.spec_len,
            self.pages_start,
            self.pages,
        ]
    }
}
