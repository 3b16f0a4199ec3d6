//! The common form of a description and of an image. Both become an [`Authority`], so that [`crate::compare`]
//! can compare them.
//!
//! Names are those of the description. This module makes no judgement: [`crate::model`] computes the expected
//! authority, and the readers compute the actual one.

use std::collections::BTreeMap;
use std::fmt;

/// Everything that the domains and devices of a system can access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Protection domains by name. Includes the monitor if it is a domain of the image.
    pub domains: BTreeMap<String, Domain>,
    /// Memory that devices access through the IOMMU, by PCI function.
    pub devices: BTreeMap<Pci, Device>,
    /// Anomalies that a reader found in an image. Always empty in a model.
    pub anomalies: Vec<String>,
}

/// A protection domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub thread: Thread,
    /// Its capabilities by slot.
    pub caps: BTreeMap<CapSlot, Capability>,
    /// Its mapped memory by address, without the pages of its own program.
    pub memory: Vec<View>,
}

/// Attributes of a thread. Objects are named by the domain that owns them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its priority. This is also the highest priority that the thread may assign.
    pub priority: u8,
    /// The domain in whose address space it runs.
    pub space: String,
    /// The domain whose capability table it uses.
    pub table: String,
    /// The domain whose notification is bound to the thread.
    pub notification: Option<String>,
    /// The domain that handles its faults, and the badge that the handler sees.
    pub faults: Option<(String, Badge)>,
    /// Address of the message buffer. `None` if the thread sees another page at that address.
    pub messages: Option<u64>,
}

/// A PCI function: bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pci(pub u8, pub u8, pub u8);

/// A device behind the IOMMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub domain_id: u64,
    /// Its mapped memory, by the device's address.
    pub memory: Vec<View>,
}

/// The slot of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapSlot {
    /// A slot of the table whose layout Microkit defines.
    Microkit(u32),
    /// A slot of the table above it, filled by `<cspace>`.
    Extra(u32),
}

/// Rights to an endpoint or notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Receive, or wait.
    pub receive: bool,
    /// Send, or signal.
    pub send: bool,
    /// Send capabilities, and receive a reply.
    pub grant: bool,
}

/// Meaning of a badge for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Badge {
    /// No badge.
    None,
    /// A signal of the receiver's channel or interrupt of this id.
    Signal(u32),
    /// A call over the receiver's channel of this id.
    Call(u32),
    /// A fault of the receiver's child of this id.
    Fault(u32),
    /// A message to the monitor from the protection domain with this number. Numbers begin at 1.
    Number(u64),
    /// A badge that the kernel's runtime does not know.
    Unknown(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    Endpoint {
        /// Domain that owns the endpoint.
        of: String,
        badge: Badge,
        rights: Rights,
    },
    Notification {
        /// Domain that owns the notification.
        of: String,
        badge: Badge,
        rights: Rights,
    },
    /// A domain's thread. The holder can stop and restart it, and read and write its registers.
    Thread(String),
    Space(String),
    Time(String),
    Reply(String),
    /// An interrupt and the notification that it signals.
    Interrupt {
        source: InterruptSource,
        /// The kernel's vector.
        vector: u32,
        /// Domain that owns the notification.
        of: String,
        badge: Badge,
    },
    /// I/O ports: the first and the last.
    Ports(u64, u64),
    /// A capability that no domain should hold.
    Other(String),
}

/// Source of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptSource {
    /// A pin of an I/O APIC.
    Pin {
        /// Number of the I/O APIC.
        ioapic: u64,
        pin: u64,
        /// Level-triggered if true, edge-triggered otherwise.
        level: bool,
        active_low: bool,
    },
    /// A message-signalled interrupt of a PCI function.
    Message { pci: Pci, handle: u64 },
}

/// A contiguous run of pages in the address space of a domain or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub start: u64,
    /// First address after the run.
    pub end: u64,
    pub memory: Memory,
    /// Physical address of the first byte, if it is fixed.
    pub physical: Option<u64>,
    /// log2 of the bytes of a page.
    pub page_bits: u8,
    pub read: bool,
    pub write: bool,
    /// Cacheable. Always true for a device.
    pub cached: bool,
}

/// Bytes of the guard page below a stack.
const PAGE: u64 = 0x1000;

/// Content of mapped memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A region of the description, from this offset on.
    Region(String, u64),
    /// Pages that no other domain sees: stack, message buffer, program.
    Own,
    /// Read-only pages outside all regions that several domains see: equal parts of programs.
    Constant,
    /// Pages outside all regions that several domains see and at least one can write. Names the domains.
    Leak(String),
}

impl View {
    fn continues(&self, before: &View) -> bool {
        let length = before.end - before.start;
        let memory = match (&before.memory, &self.memory) {
            (Memory::Region(a, from), Memory::Region(b, to)) => a == b && from + length == *to,
            (a, b) => a == b,
        };
        let flags = |v: &View| (v.page_bits, v.read, v.write, v.cached);
        memory
            && before.end == self.start
            && before.physical.map(|at| at + length) == self.physical
            && flags(before) == flags(self)
    }
}

/// Sorts views by address and joins consecutive views.
pub fn joined(mut views: Vec<View>) -> Vec<View> {
    views.sort_by_key(|view| (view.start, view.end));
    let mut done: Vec<View> = Vec::new();
    for view in views {
        match done.last_mut() {
            Some(last) if view.continues(last) => last.end = view.end,
            _ => done.push(view),
        }
    }
    done
}

impl Domain {
    /// Joins the domain's views and removes those of its program, which the description does not contain.
    /// These lie below the guard page of the stack, and are private or read-only.
    pub fn settle(&mut self, stack_size: Option<u64>) {
        let views = joined(std::mem::take(&mut self.memory));
        let floor = crate::model::STACK_TOP.saturating_sub(stack_size.unwrap_or(0));
        let program = |view: &View| {
            view.physical.is_none()
                && view.end + PAGE <= floor
                && match view.memory {
                    Memory::Own => view.cached,
                    Memory::Constant => view.cached && !view.write,
                    Memory::Region(..) | Memory::Leak(_) => false,
                }
        };
        self.memory = views.into_iter().filter(|view| !program(view)).collect();
    }
}

impl Authority {
    /// Settles all domains and devices. `stack_size` returns the stack size of a domain from the description.
    pub fn settle(&mut self, stack_size: impl Fn(&str) -> Option<u64>) {
        for (name, domain) in &mut self.domains {
            domain.settle(stack_size(name));
        }
        for device in self.devices.values_mut() {
            device.memory = joined(std::mem::take(&mut device.memory));
        }
    }

    /// Returns the number of capabilities of all domains.
    pub fn capabilities(&self) -> usize {
        self.domains.values().map(|domain| domain.caps.len()).sum()
    }

    /// Returns the number of views of all domains and devices.
    pub fn views(&self) -> usize {
        let devices = self.devices.values().map(|device| device.memory.len());
        let domains = self.domains.values().map(|domain| domain.memory.len());
        devices.chain(domains).sum()
    }
}

impl fmt::Display for CapSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapSlot::Microkit(slot) => write!(f, "slot {slot}"),
            CapSlot::Extra(slot) => write!(f, "extra slot {slot}"),
        }
    }
}

impl fmt::Display for Pci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0, self.1, self.2)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.receive, "receive"),
            (self.send, "send"),
            (self.grant, "grant"),
        ];
        let words: Vec<&str> = words
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, word)| *word)
            .collect();
        f.write_str(&if words.is_empty() {
            "no rights".to_owned()
        } else {
            words.join("+")
        })
    }
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Badge::None => f.write_str("no badge"),
            Badge::Signal(id) => write!(f, "as signal {id}"),
            Badge::Call(id) => write!(f, "as call {id}"),
            Badge::Fault(id) => write!(f, "as fault of child {id}"),
            Badge::Number(number) => write!(f, "as domain {number}"),
            Badge::Unknown(raw) => write!(f, "with the unknown badge {raw:#x}"),
        }
    }
}

impl fmt::Display for InterruptSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterruptSource::Pin {
                ioapic,
                pin,
                level,
                active_low,
            } => {
                let trigger = if *level { "level" } else { "edge" };
                let polarity = if *active_low { "low" } else { "high" };
                write!(f, "pin {pin} of I/O APIC {ioapic} ({trigger}, active {polarity})")
            }
            InterruptSource::Message { pci, handle } => write!(f, "message {handle} of {pci}"),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Endpoint { of, badge, rights } => write!(f, "endpoint of {of} ({rights}, {badge})"),
            Capability::Notification { of, badge, rights } => {
                write!(f, "notification of {of} ({rights}, {badge})")
            }
            Capability::Thread(of) => write!(f, "thread of {of}"),
            Capability::Space(of) => write!(f, "address space of {of}"),
            Capability::Time(of) => write!(f, "scheduling context of {of}"),
            Capability::Reply(of) => write!(f, "reply object of {of}"),
            Capability::Interrupt {
                source,
                vector,
                of,
                badge,
            } => {
                write!(f, "interrupt from {source}, vector {vector}, to {of} {badge}")
            }
            Capability::Ports(first, last) => write!(f, "I/O ports {first:#x} to {last:#x}"),
            Capability::Other(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Region(name, 0) => write!(f, "region {name}"),
            Memory::Region(name, from) => write!(f, "region {name} from {from:#x} on"),
            Memory::Own => f.write_str("memory of its own"),
            Memory::Constant => f.write_str("read-only memory shared with other domains"),
            Memory::Leak(domains) => write!(f, "writable memory outside all regions, shared by {domains}"),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "no rights",
        };
        write!(f, "{} to {:#x}, {rights}", self.memory, self.end)?;
        if !self.cached {
            f.write_str(", uncached")?;
        }
        if let Some(at) = self.physical {
            write!(f, ", at physical address {at:#x}")?;
        }
        write!(f, ", pages of {} KiB", (1u64 << self.page_bits) >> 10)
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Thread {
            priority,
            space,
            table,
            notification,
            faults,
            messages,
        } = self;
        write!(
            f,
            "priority {priority}, in the address space of {space}, with the capabilities of {table}"
        )?;
        match notification {
            Some(of) => write!(f, ", bound to the notification of {of}")?,
            None => f.write_str(", bound to no notification")?,
        }
        match faults {
            Some((to, badge)) => write!(f, ", faults go to {to} {badge}")?,
            None => f.write_str(", faults have no handler")?,
        }
        match messages {
            Some(at) => write!(f, ", message buffer at {at:#x}"),
            None => f.write_str(", message buffer not mapped at its address"),
        }
    }
}
