//! The typed model. Values are as in the file, with defaults filled in. The Microkit manual defines them in
//! the chapter "System Description File".

use crate::Position;

/// A whole description. Protection domains are in document order, parents before their children.
#[derive(Clone, Debug, Default)]
pub struct System {
    pub memory_regions: Vec<MemoryRegion>,
    /// Protection domains as a flat list.
    pub protection_domains: Vec<ProtectionDomain>,
    pub channels: Vec<Channel>,
    pub io_address_spaces: Vec<IoAddressSpace>,
    /// Scheduling domains. Empty if the system does not use them.
    pub domains: Vec<Domain>,
    pub domain_schedule: Option<DomainSchedule>,
}

#[derive(Clone, Debug)]
pub struct MemoryRegion {
    /// Unique name.
    pub name: String,
    /// Bytes. `None` only if a prefill file gives the size.
    pub size: Option<u64>,
    /// Bytes of its pages: 4096 or 2 MiB. Follows from the format's rule if the file does not give it.
    pub page_size: u64,
    /// True if the file gives `page_size`.
    pub page_size_given: bool,
    pub phys_addr: Option<u64>,
    pub prefill: Prefill,
    pub position: Position,
}

/// Initial content of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Zeroed RAM.
    None,
    /// A file on the search path.
    File(String),
    /// A part of the kernel's boot information.
    BootInfo(BootInfo),
}

/// A part of the kernel's boot information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootInfo {
    X86Vbe,
    X86MbMmap,
    X86AcpiRsdp,
    X86Framebuffer,
    X86TscFreq,
    Fdt,
}

#[derive(Clone, Debug)]
pub struct ProtectionDomain {
    /// Unique name.
    pub name: String,
    /// Name of the parent, which handles its faults.
    pub parent: Option<String>,
    /// Child id at the parent.
    pub child_id: Option<u8>,
    /// 0 to 254.
    pub priority: u8,
    /// Microseconds in each period.
    pub budget: u64,
    /// Microseconds.
    pub period: u64,
    /// True if the file gives budget or period.
    pub budget_given: bool,
    /// Runs only on its callers' scheduling contexts.
    pub passive: bool,
    /// Bytes of stack.
    pub stack_size: u64,
    pub cpu: u8,
    /// May use floating point and vector registers.
    pub fpu: bool,
    pub domain: Option<String>,
    /// Symbol in the parent that receives the child id.
    pub setvar_id: Option<String>,
    /// Path of its program.
    pub program: String,
    /// Path of the file with its symbols, if that is another file.
    pub program_for_symbols: Option<String>,
    pub maps: Vec<Map>,
    pub irqs: Vec<Irq>,
    pub ioports: Vec<IoPort>,
    /// Symbols that receive a region's physical address.
    pub setvars: Vec<SetVar>,
    /// Capabilities in addition to the usual ones.
    pub cspace: Vec<ExtraCap>,
    pub position: Position,
}

/// A mapping of a region.
#[derive(Clone, Debug)]
pub struct Map {
    /// Name of the region.
    pub mr: String,
    pub vaddr: u64,
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// Cacheable.
    pub cached: bool,
    /// Symbol that receives `vaddr`.
    pub setvar_vaddr: Option<String>,
    /// Symbol that receives the region's size.
    pub setvar_size: Option<String>,
    /// Symbol that receives the prefill file's size.
    pub setvar_prefill_size: Option<String>,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub struct Irq {
    /// Id among the domain's channel ids.
    pub id: u8,
    pub source: IrqSource,
    /// 0 to 107. A higher vector has priority.
    pub vector: u8,
    /// Symbol that receives the id.
    pub setvar_id: Option<String>,
    pub position: Position,
}

/// Source of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqSource {
    /// A pin of an I/O APIC.
    IoApic {
        /// Number of the I/O APIC.
        ioapic: u8,
        pin: u8,
        /// Level-triggered if true, edge-triggered otherwise.
        level: bool,
        active_low: bool,
    },
    /// A message-signalled interrupt of a PCI function.
    Msi {
        bus: u8,
        device: u8,
        function: u8,
        handle: u8,
    },
}

/// A range of I/O ports.
#[derive(Clone, Debug)]
pub struct IoPort {
    /// Id among the domain's I/O port ids.
    pub id: u8,
    /// First port.
    pub addr: u16,
    /// Number of ports.
    pub size: u16,
    /// Symbol that receives the id.
    pub setvar_id: Option<String>,
    /// Symbol that receives the address.
    pub setvar_addr: Option<String>,
    pub position: Position,
}

/// A symbol that receives a region's physical address.
#[derive(Clone, Debug)]
pub struct SetVar {
    pub symbol: String,
    pub region: String,
    pub position: Position,
}

/// Kind of an [`ExtraCap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraCapKind {
    Tcb,
    SchedulingContext,
    VSpace,
}

/// A capability to a part of another domain.
#[derive(Clone, Debug)]
pub struct ExtraCap {
    pub kind: ExtraCapKind,
    /// 1 to 63.
    pub slot: u8,
    /// Domain that the capability refers to.
    pub pd: String,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub ends: [End; 2],
    pub position: Position,
}

/// One end of a channel.
#[derive(Clone, Debug)]
pub struct End {
    /// Domain at this end.
    pub pd: String,
    /// Channel id in that domain, 0 to 61.
    pub id: u8,
    /// True if it may notify the other end.
    pub notify: bool,
    /// True if it may call the other end.
    pub pp: bool,
    /// Symbol that receives the id.
    pub setvar_id: Option<String>,
    pub position: Position,
}

/// Memory that a device may access through the IOMMU.
#[derive(Clone, Debug)]
pub struct IoAddressSpace {
    pub name: String,
    /// PCI bus, device and function.
    pub peripheral: (u8, u8, u8),
    pub domain_id: u64,
    pub maps: Vec<IoMap>,
    pub position: Position,
}

/// A region that a device may access.
#[derive(Clone, Debug)]
pub struct IoMap {
    /// Name of the region.
    pub mr: String,
    /// The device's address of the region.
    pub iovaddr: u64,
    pub read: bool,
    pub write: bool,
    pub position: Position,
}

/// A scheduling domain.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Unique name.
    pub name: String,
    /// Number, if the file gives one.
    pub id: Option<u8>,
    pub position: Position,
}

/// The schedule of domains.
#[derive(Clone, Debug)]
pub struct DomainSchedule {
    /// Index of the entry that runs first.
    pub start_index: u8,
    /// Index of the first entry in the kernel's table.
    pub index_shift: u8,
    pub entries: Vec<ScheduleEntry>,
    pub position: Position,
}

/// An entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleEntry {
    /// A domain runs for some time.
    Run {
        domain: String,
        duration: Duration,
        position: Position,
    },
    /// The schedule starts again.
    EndMarker,
}

/// Length of a schedule entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    Micros(u64),
    /// Ticks of the kernel's timer.
    Ticks(u64),
}
