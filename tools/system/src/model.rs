//! The typed model. Values are as written in the file, defaults filled in; what they mean is said in the Microkit
//! manual, chapter "System Description File".

use crate::Position;

/// A whole description. Protection domains are listed in document order, parents before their children.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Memory regions.
    pub memory_regions: Vec<MemoryRegion>,
    /// Protection domains, flat.
    pub protection_domains: Vec<ProtectionDomain>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// IOMMU address spaces.
    pub io_address_spaces: Vec<IoAddressSpace>,
    /// Scheduling domains; empty where the system does not use them.
    pub domains: Vec<Domain>,
    /// Their schedule.
    pub domain_schedule: Option<DomainSchedule>,
}

/// A memory region.
#[derive(Clone, Debug)]
pub struct MemoryRegion {
    /// Unique name.
    pub name: String,
    /// Bytes; `None` only where a prefill file gives the size.
    pub size: Option<u64>,
    /// Bytes of its pages: 4096 or 2 MiB, by the rule of the format where not written.
    pub page_size: u64,
    /// Whether `page_size` was written.
    pub page_size_given: bool,
    /// Physical address, if fixed.
    pub phys_addr: Option<u64>,
    /// Initial content.
    pub prefill: Prefill,
    /// Where it is described.
    pub position: Position,
}

/// Initial content of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Zeros (RAM).
    None,
    /// A file on the search path.
    File(String),
    /// A part of the kernel's boot information.
    BootInfo(BootInfo),
}

/// A part of the kernel's boot information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootInfo {
    /// VESA mode.
    X86Vbe,
    /// Multiboot memory map.
    X86MbMmap,
    /// ACPI root pointer.
    X86AcpiRsdp,
    /// Frame buffer.
    X86Framebuffer,
    /// Frequency of the time stamp counter.
    X86TscFreq,
    /// Device tree.
    Fdt,
}

/// A protection domain.
#[derive(Clone, Debug)]
pub struct ProtectionDomain {
    /// Unique name.
    pub name: String,
    /// Name of the parent, which takes its faults.
    pub parent: Option<String>,
    /// Its id at the parent.
    pub child_id: Option<u8>,
    /// 0 to 254.
    pub priority: u8,
    /// Microseconds of each period.
    pub budget: u64,
    /// Microseconds.
    pub period: u64,
    /// Whether budget or period was written.
    pub budget_given: bool,
    /// Runs on its callers' time only.
    pub passive: bool,
    /// Bytes of stack.
    pub stack_size: u64,
    /// Core.
    pub cpu: u8,
    /// May use floating point and vector registers.
    pub fpu: bool,
    /// Scheduling domain.
    pub domain: Option<String>,
    /// Symbol in the parent that gets the child id.
    pub setvar_id: Option<String>,
    /// Path of its program.
    pub program: String,
    /// Path of the file with its symbols, where another.
    pub program_for_symbols: Option<String>,
    /// Mappings.
    pub maps: Vec<Map>,
    /// Interrupts.
    pub irqs: Vec<Irq>,
    /// I/O ports.
    pub ioports: Vec<IoPort>,
    /// Symbols that get a region's physical address.
    pub setvars: Vec<SetVar>,
    /// Capabilities beyond the usual ones.
    pub cspace: Vec<ExtraCap>,
    /// Where it is described.
    pub position: Position,
}

/// A mapping of a region.
#[derive(Clone, Debug)]
pub struct Map {
    /// Which region.
    pub mr: String,
    /// Where.
    pub vaddr: u64,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
    /// May be cached.
    pub cached: bool,
    /// Symbol that gets `vaddr`.
    pub setvar_vaddr: Option<String>,
    /// Symbol that gets the region's size.
    pub setvar_size: Option<String>,
    /// Symbol that gets the prefill file's size.
    pub setvar_prefill_size: Option<String>,
    /// Where it is described.
    pub position: Position,
}

/// An interrupt.
#[derive(Clone, Debug)]
pub struct Irq {
    /// Id in the domain's channel numbers.
    pub id: u8,
    /// Source.
    pub source: IrqSource,
    /// 0 to 107; higher is more urgent.
    pub vector: u8,
    /// Symbol that gets the id.
    pub setvar_id: Option<String>,
    /// Where it is described.
    pub position: Position,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqSource {
    /// A pin of an I/O APIC.
    IoApic {
        /// Which one.
        ioapic: u8,
        /// Pin.
        pin: u8,
        /// Level, not edge.
        level: bool,
        /// Active low.
        active_low: bool,
    },
    /// A message of a PCI function.
    Msi {
        /// Bus.
        bus: u8,
        /// Device.
        device: u8,
        /// Function.
        function: u8,
        /// Handle.
        handle: u8,
    },
}

/// A range of I/O ports.
#[derive(Clone, Debug)]
pub struct IoPort {
    /// Id in the domain's I/O port numbers.
    pub id: u8,
    /// First port.
    pub addr: u16,
    /// Ports.
    pub size: u16,
    /// Symbol that gets the id.
    pub setvar_id: Option<String>,
    /// Symbol that gets the address.
    pub setvar_addr: Option<String>,
    /// Where it is described.
    pub position: Position,
}

/// A symbol that gets a region's physical address.
#[derive(Clone, Debug)]
pub struct SetVar {
    /// Symbol.
    pub symbol: String,
    /// Region.
    pub region: String,
    /// Where it is described.
    pub position: Position,
}

/// Kind of an [`ExtraCap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraCapKind {
    /// Thread.
    Tcb,
    /// Scheduling context.
    SchedulingContext,
    /// Address space.
    VSpace,
}

/// A capability to a part of another domain.
#[derive(Clone, Debug)]
pub struct ExtraCap {
    /// Kind.
    pub kind: ExtraCapKind,
    /// 1 to 63.
    pub slot: u8,
    /// Whose.
    pub pd: String,
    /// Where it is described.
    pub position: Position,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its ends.
    pub ends: [End; 2],
    /// Where it is described.
    pub position: Position,
}

/// One end of a channel.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose.
    pub pd: String,
    /// Id there, 0 to 61.
    pub id: u8,
    /// May notify the other end.
    pub notify: bool,
    /// May call the other end.
    pub pp: bool,
    /// Symbol that gets the id.
    pub setvar_id: Option<String>,
    /// Where it is described.
    pub position: Position,
}

/// What a device may reach through the IOMMU.
#[derive(Clone, Debug)]
pub struct IoAddressSpace {
    /// Name.
    pub name: String,
    /// PCI bus, device and function.
    pub peripheral: (u8, u8, u8),
    /// IOMMU domain.
    pub domain_id: u64,
    /// Mappings.
    pub maps: Vec<IoMap>,
    /// Where it is described.
    pub position: Position,
}

/// A region that a device may reach.
#[derive(Clone, Debug)]
pub struct IoMap {
    /// Which region.
    pub mr: String,
    /// The device's address for it.
    pub iovaddr: u64,
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
    /// Where it is described.
    pub position: Position,
}

/// A scheduling domain.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Unique name.
    pub name: String,
    /// Number, where written.
    pub id: Option<u8>,
    /// Where it is described.
    pub position: Position,
}

/// The schedule of domains.
#[derive(Clone, Debug)]
pub struct DomainSchedule {
    /// First entry that runs.
    pub start_index: u8,
    /// First place in the kernel's table.
    pub index_shift: u8,
    /// In order.
    pub entries: Vec<ScheduleEntry>,
    /// Where it is described.
    pub position: Position,
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleEntry {
    /// A domain runs for some time.
    Run {
        /// Which.
        domain: String,
        /// How long.
        duration: Duration,
        /// Where it is described.
        position: Position,
    },
    /// The schedule starts again.
    EndMarker,
}

/// Length of a schedule entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    /// Microseconds.
    Micros(u64),
    /// Ticks of the kernel's timer.
    Ticks(u64),
}
