//! The SDK's list of objects and capabilities (capDL as JSON), for x86_64 systems. Typed and strict: an
//! unknown field or kind is an error. The SDK's tool writes it for the initial task of its image, which makes
//! exactly these objects.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
pub struct Spec {
    pub objects: Vec<Named>,
    pub irqs: Vec<IrqEntry>,
    pub root_objects: Range,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub start: usize,
    pub end: usize,
}

/// An interrupt vector and the object that handles it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqEntry {
    pub irq: u32,
    pub handler: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
    pub object: Object,
}

#[derive(Deserialize)]
pub enum Object {
    Endpoint,
    Notification,
    Reply,
    CNode(Table),
    Tcb(Tcb),
    SchedContext(IgnoredAny),
    Frame(Frame),
    PageTable(PageTable),
    IOPorts(Ports),
    IrqIOApic(IrqPin),
    IrqMsi(IrqMessage),
    IOSpace(IoSpace),
    IOPageTable(IoTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub size_bits: u8,
    pub slots: Vec<Slot>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub slot: u32,
    pub cap: Cap,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    pub slots: Vec<Slot>,
    pub extra: TcbExtra,
}

/// Initial values concern the program only. They decide no authority.
#[derive(Deserialize)]
pub struct TcbExtra {
    pub ipc_buffer_addr: u64,
    pub prio: u8,
    pub max_prio: u8,
    pub master_fault_ep: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    pub size_bits: u8,
    pub paddr: Option<u64>,
    #[serde(rename = "init")]
    pub _init: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageTable {
    #[serde(rename = "x86_ept")]
    pub guest: bool,
    pub is_root: bool,
    pub level: u8,
    pub slots: Vec<Slot>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub start_port: u64,
    pub end_port: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqPin {
    pub slots: Vec<Slot>,
    pub extra: Pin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub ioapic: u64,
    pub pin: u64,
    pub level: u64,
    pub polarity: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqMessage {
    pub slots: Vec<Slot>,
    pub extra: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub handle: u64,
    pub pci_bus: u8,
    pub pci_dev: u8,
    pub pci_func: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoSpace {
    pub slots: Vec<Slot>,
    pub domain_id: u64,
    pub pci_device: PciDevice,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoTable {
    pub slots: Vec<Slot>,
    pub level: u8,
}

#[derive(Deserialize)]
pub enum Cap {
    Endpoint(Badged),
    Notification(Badged),
    Reply(Plain),
    CNode(CNodeCap),
    Tcb(Plain),
    SchedContext(Plain),
    Frame(FrameCap),
    PageTable(Plain),
    IOPorts(Plain),
    IrqIOApicHandler(Plain),
    IrqMsiHandler(Plain),
    IOPageTable(Plain),
    IOSpace(Plain),
    Untyped(Plain),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    pub object: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Badged {
    pub object: usize,
    pub badge: u64,
    pub rights: Rights,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CNodeCap {
    pub object: usize,
    pub guard: u64,
    pub guard_size: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameCap {
    pub object: usize,
    pub rights: Rights,
    pub cached: bool,
    /// Without effect: this kernel sets no no-execute bit on x86.
    #[serde(rename = "executable")]
    pub _executable: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    pub read: bool,
    pub write: bool,
    pub grant: bool,
    pub grant_reply: bool,
}

impl Object {
    /// Returns the slots of the object.
    pub fn slots(&self) -> &[Slot] {
        match self {
            Object::CNode(table) => &table.slots,
            Object::Tcb(tcb) => &tcb.slots,
            Object::PageTable(table) => &table.slots,
            Object::IrqIOApic(irq) => &irq.slots,
            Object::IrqMsi(irq) => &irq.slots,
            Object::IOSpace(space) => &space.slots,
            Object::IOPageTable(table) => &table.slots,
            _ => &[],
        }
    }
}

impl Cap {
    /// Returns the number of the capability's object.
    pub fn object(&self) -> usize {
        match self {
            Cap::Endpoint(cap) | Cap::Notification(cap) => cap.object,
            Cap::CNode(cap) => cap.object,
            Cap::Frame(cap) => cap.object,
            Cap::Reply(cap)
            | Cap::Tcb(cap)
            | Cap::SchedContext(cap)
            | Cap::PageTable(cap)
            | Cap::IOPorts(cap)
            | Cap::IrqIOApicHandler(cap)
            | Cap::IrqMsiHandler(cap)
            | Cap::IOPageTable(cap)
            | Cap::IOSpace(cap)
            | Cap::Untyped(cap) => cap.object,
        }
    }
}
