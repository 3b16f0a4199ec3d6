//! Records of the tables, with their exact layout in the image (little endian, no padding).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A run of consecutive records in another table, or of bytes in the string table.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct Run {
    /// Index of the first record.
    pub first: U32,
    pub count: U32,
}

impl Run {
    /// Returns a run of `count` records from `first`.
    pub fn new(first: usize, count: usize) -> Self {
        Run {
            first: U32::new(first as u32),
            count: U32::new(count as u32),
        }
    }

    /// Returns the run as an index range.
    pub fn range(self) -> core::ops::Range<usize> {
        let first = self.first.get() as usize;
        first..first + self.count.get() as usize
    }
}

/// Marks a missing index or slot.
pub const NONE: u32 = u32::MAX;
/// Marks a physical address without constraint.
pub const ANYWHERE: u64 = u64::MAX;

/// Right to read a page, or to receive on an endpoint or notification.
pub const READ: u8 = 1;
/// Right to write a page, or to send.
pub const WRITE: u8 = 2;
/// Right to receive a reply. A caller needs it, and so does the kernel for reporting a fault.
pub const GRANT: u8 = 4;

/// The fixed part at the start of the description.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct Header {
    /// [`Header::MAGIC`].
    pub magic: [u8; 8],
    /// [`Header::VERSION`].
    pub version: U32,
    /// Number of relative slots that the builder has assigned.
    pub slots: U32,
    /// Relative slot of the monitor's endpoint.
    pub monitor_endpoint: U32,
    /// Relative slots of page directory pointer tables, page directories and page tables. They are used in
    /// order.
    pub pdpts: Run,
    /// See `pdpts`.
    pub page_directories: Run,
    /// See `pdpts`.
    pub page_tables: Run,
    /// Bytes of RAM that all objects need, without the fixed regions.
    pub ram: U64,
    /// Number of records in each table, in the order of the fields of `Tables`.
    pub counts: [U32; 7],
}

impl Header {
    /// Identifies a description.
    pub const MAGIC: [u8; 8] = *b"BRANSPEC";
    /// Raised when a record changes.
    pub const VERSION: u32 = 1;
}

/// Kernel objects to create in one step, with capabilities in consecutive slots. Batches are in order of
/// falling size.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Batch {
    /// An [`Object`].
    pub object: u8,
    /// log2 of the bytes of one object.
    pub size_bits: u8,
    /// Unused, zero.
    pub reserved: [u8; 2],
    /// Relative slots of the objects.
    pub slots: Run,
}

/// Kinds of kernel objects.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// 2 MiB of memory.
    LargePage = 0,
    /// A capability table of `1 << CNODE_BITS` slots.
    CNode = 1,
    /// A capability table of `1 << CNODE_ROOT_BITS` slots.
    CNodeRoot = 2,
    /// 4 KiB of memory.
    SmallPage = 3,
    /// The root of an address space.
    Pml4 = 4,
    /// Second level of an address space.
    Pdpt = 5,
    /// Third level.
    PageDirectory = 6,
    /// Fourth level.
    PageTable = 7,
    Tcb = 8,
    Notification = 9,
    Endpoint = 10,
}

impl Object {
    /// All kinds in the order of creation: by falling size, so that no gaps remain.
    pub const ALL: [Object; 11] = [
        Object::LargePage,
        Object::CNode,
        Object::SmallPage,
        Object::Pml4,
        Object::Pdpt,
        Object::PageDirectory,
        Object::PageTable,
        Object::CNodeRoot,
        Object::Tcb,
        Object::Notification,
        Object::Endpoint,
    ];

    /// Returns log2 of the bytes of an object (seL4 5.0.0 on x86_64, where a capability slot has 32 bytes).
    pub const fn size_bits(self) -> u8 {
        match self {
            Object::LargePage => 21,
            Object::CNode => crate::CNODE_BITS + 5,
            Object::CNodeRoot => crate::CNODE_ROOT_BITS + 5,
            Object::SmallPage | Object::Pml4 | Object::Pdpt | Object::PageDirectory | Object::PageTable => 12,
            Object::Tcb => 11,
            Object::Notification => 5,
            Object::Endpoint => 4,
        }
    }

    /// Returns the kind with this number.
    pub const fn from_u8(number: u8) -> Option<Object> {
        let mut i = 0;
        while i < Object::ALL.len() {
            if Object::ALL[i] as u8 == number {
                return Some(Object::ALL[i]);
            }
            i += 1;
        }
        None
    }
}

/// A named range of pages that mappings refer to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Region {
    /// Name, in the string table.
    pub name: Run,
    /// A [`Source`].
    pub source: u8,
    /// log2 of the page size: 12 or 21.
    pub page_bits: u8,
    /// A [`Fill`].
    pub fill: u8,
    /// Unused, zero.
    pub reserved: u8,
    /// Number of pages of that size.
    pub pages: U32,
    /// Relative slot of the first page's capability. For [`Source::Image`] the index of the first content
    /// page.
    pub first: U32,
    /// Physical address for [`Source::Fixed`], else [`ANYWHERE`].
    pub paddr: U64,
    /// Index of the first content page to copy, for [`Fill::Copy`].
    pub content: U32,
    /// Bytes to copy, for [`Fill::Copy`].
    pub content_len: U32,
}

/// Origin of a region's pages.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Zeroed RAM at any address. Created by the batches.
    Fresh = 0,
    /// At a fixed physical address: zeroed RAM, or a device.
    Fixed = 1,
    /// Content pages of the image itself, mapped in place.
    Image = 2,
}

impl Source {
    /// Returns the source with this number.
    pub const fn from_u8(number: u8) -> Option<Source> {
        match number {
            0 => Some(Source::Fresh),
            1 => Some(Source::Fixed),
            2 => Some(Source::Image),
            _ => None,
        }
    }
}

/// Content that the root task writes into a region before any thread runs.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    None = 0,
    /// Bytes of the image's content pages.
    Copy = 1,
    /// Frequency of the time-stamp counter: `u64` 5, `u64` 20 (bytes of this chunk), `u32` MHz.
    TscFrequency = 2,
}

impl Fill {
    /// Returns the fill with this number.
    pub const fn from_u8(number: u8) -> Option<Fill> {
        match number {
            0 => Some(Fill::None),
            1 => Some(Fill::Copy),
            2 => Some(Fill::TscFrequency),
            _ => None,
        }
    }
}

/// Pages of a region in the address space of a protection domain. A domain's mappings are sorted by address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Mapping {
    /// Address of the first page.
    pub vaddr: U64,
    /// Index of the region.
    pub region: U32,
    /// Pages of the region to map here.
    pub pages: Run,
    /// [`READ`] and [`WRITE`].
    pub rights: u8,
    /// 1 if the processor may cache it.
    pub cached: u8,
    /// 1 to map copies of the page capabilities, because another mapping uses the originals.
    pub copy: u8,
    /// Unused, zero.
    pub reserved: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Cap {
    /// Slot in the domain's table. Values above `1 << CNODE_BITS` are slots in the upper table (see
    /// [`Cap::ROOT_SLOT`]).
    pub slot: U32,
    /// A [`CapKind`].
    pub kind: u8,
    /// [`READ`], [`WRITE`], [`GRANT`].
    pub rights: u8,
    /// Unused, zero.
    pub reserved: [u8; 2],
    /// Index of the protection domain that owns the object, if the kind needs one.
    pub target: U32,
    /// Badge; for I/O ports `first << 16 | last`.
    pub data: U64,
}

impl Cap {
    /// Added to `slot` for slots of the upper table.
    pub const ROOT_SLOT: u32 = 1 << 16;
}

/// Kinds of capabilities that a protection domain can have.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapKind {
    /// The target's notification.
    Notification = 0,
    /// The target's endpoint.
    Endpoint = 1,
    /// The monitor's endpoint.
    Monitor = 2,
    /// The target's address space.
    VSpace = 3,
    /// The target's thread.
    Tcb = 4,
    /// A range of I/O ports.
    IoPorts = 5,
}

impl CapKind {
    /// Returns the kind with this number.
    pub const fn from_u8(number: u8) -> Option<CapKind> {
        match number {
            0 => Some(CapKind::Notification),
            1 => Some(CapKind::Endpoint),
            2 => Some(CapKind::Monitor),
            3 => Some(CapKind::VSpace),
            4 => Some(CapKind::Tcb),
            5 => Some(CapKind::IoPorts),
            _ => None,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Irq {
    /// Index of the protection domain.
    pub pd: U32,
    /// Slot of the interrupt handler in its table.
    pub slot: U32,
    /// The kernel's user vector, 0 to 107.
    pub vector: U32,
    /// 1 if message signalled, 0 for a pin of an I/O APIC.
    pub msi: U32,
    /// Pin: I/O APIC, pin, 1 for level, 1 for active low. Message: bus, device, function, handle.
    pub source: [U32; 4],
    /// Bits that the interrupt sets in the notification.
    pub badge: U64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Pd {
    /// Name, in the string table.
    pub name: Run,
    /// Scheduling priority.
    pub priority: u8,
    /// Unused, zero.
    pub reserved: [u8; 3],
    /// Address of the first instruction.
    pub entry: U64,
    /// Initial stack pointer.
    pub stack_top: U64,
    /// Address of its IPC buffer.
    pub ipc_buffer: U64,
    /// Region of the IPC buffer's page.
    pub ipc_region: U32,
    pub mappings: Run,
    pub caps: Run,
    /// Relative slots of its objects.
    pub tcb: U32,
    /// See `tcb`.
    pub pml4: U32,
    /// See `tcb`.
    pub cnode: U32,
    /// See `tcb`; [`NONE`] unless it has extra capabilities.
    pub cnode_root: U32,
    /// See `tcb`.
    pub notification: U32,
    /// See `tcb`. [`NONE`] if no domain can call it and it has no children.
    pub endpoint: U32,
}
