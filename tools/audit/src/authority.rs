//! One type for "who can do what": what a description asks for, and what an image gives, each become an [`Authority`], so
//! that the two can be held against each other.
//!
//! Names are those of the description. Nothing here decides what is right; [`crate::model`] says what should be, the readers
//! say what is.

use std::collections::BTreeMap;
use std::fmt;

/// Everything that the domains and devices of a system hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Protection domains, and the monitor where it is a domain of the image.
    pub domains: BTreeMap<String, Domain>,
    /// What devices reach through the IOMMU, by PCI function.
    pub devices: BTreeMap<Pci, Device>,
    /// What a reader found that has no place in a sound system; empty in a model.
    pub strange: Vec<String>,
}

/// One domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// What its thread is made of.
    pub thread: Thread,
    /// Its capabilities, by place.
    pub caps: BTreeMap<Place, Held>,
    /// What it sees of memory, by address, its program's own pages excepted.
    pub memory: Vec<View>,
}

/// What a thread is made of. Objects are named by the domain that they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its priority, which is also the highest that it may give.
    pub priority: u8,
    /// Whose address space it runs in.
    pub space: String,
    /// Whose capability table it uses.
    pub table: String,
    /// Whose notification its receives also take.
    pub notification: Option<String>,
    /// Who hears of its faults, and as whose.
    pub faults: Option<(String, Badge)>,
    /// Address of its message buffer, if that is the page which it sees there.
    pub messages: Option<u64>,
}

/// A PCI function: bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pci(pub u8, pub u8, pub u8);

/// What a device reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its IOMMU domain.
    pub domain_id: u64,
    /// The memory, by the device's address.
    pub memory: Vec<View>,
}

/// A place for a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A slot of the table that Microkit numbers.
    Usual(u32),
    /// A slot of the table above it, for `<cspace>`.
    Extra(u32),
}

/// What may be done with an endpoint or notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Wait on it.
    pub receive: bool,
    /// Send to it.
    pub send: bool,
    /// Send capabilities, and be answered.
    pub grant: bool,
}

/// What a badge tells the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Badge {
    /// Nothing.
    None,
    /// A signal of the receiver's channel or interrupt of this id.
    Signal(u32),
    /// A call over the receiver's channel of this id.
    Call(u32),
    /// A fault of the receiver's child of this id.
    Fault(u32),
    /// To the monitor: the protection domain of this number, from 1.
    Number(u64),
    /// None of these.
    Unknown(u64),
}

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A domain's endpoint.
    Endpoint {
        /// Whose.
        of: String,
        /// What the receiver learns.
        badge: Badge,
        /// What may be done.
        rights: Rights,
    },
    /// A domain's notification.
    Notification {
        /// Whose.
        of: String,
        /// What the receiver learns.
        badge: Badge,
        /// What may be done.
        rights: Rights,
    },
    /// A domain's thread: stop, restart, read and write its registers.
    Thread(String),
    /// A domain's address space.
    Space(String),
    /// A domain's scheduling context.
    Time(String),
    /// A domain's reply object.
    Reply(String),
    /// An interrupt, and what it signals.
    Interrupt {
        /// Where it comes from.
        source: Source,
        /// The kernel's vector.
        vector: u32,
        /// Whose notification it signals.
        of: String,
        /// What the receiver learns.
        badge: Badge,
    },
    /// I/O ports, first and last.
    Ports(u64, u64),
    /// Something that no domain should hold.
    Other(String),
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pin of an I/O APIC.
    Pin {
        /// Which I/O APIC.
        ioapic: u64,
        /// Pin.
        pin: u64,
        /// Level, not edge.
        level: bool,
        /// Active low.
        active_low: bool,
    },
    /// A message of a PCI function.
    Message {
        /// Function.
        pci: Pci,
        /// Handle.
        handle: u64,
    },
}

/// Memory as a domain or a device sees it: pages without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What is there.
    pub memory: Memory,
    /// Physical address of the first byte, where it is fixed.
    pub physical: Option<u64>,
    /// log2 of the bytes of a page.
    pub page_bits: u8,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be cached; for a device's view always.
    pub cached: bool,
}

/// Bytes of the page below a stack that stays unmapped.
const PAGE: u64 = 0x1000;

/// What memory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A region of the description, from this byte on.
    Region(String, u64),
    /// Pages that nobody else sees: stack, message buffer, the program's own.
    Own,
    /// Pages outside all regions that several see and nobody writes: equal parts of programs.
    Constant,
    /// Pages outside all regions that several see, one of them with the right to write.
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

/// Puts views in order and joins those that continue each other.
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
    /// Joins its views, and leaves out what the description does not say: the program's own pages. Those are below the
    /// guard page of the stack; where others see them too, nobody may write them.
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
    /// Settles all domains and devices; stack sizes are those of the description.
    pub fn settle(&mut self, stack_size: impl Fn(&str) -> Option<u64>) {
        for (name, domain) in &mut self.domains {
            domain.settle(stack_size(name));
        }
        for device in self.devices.values_mut() {
            device.memory = joined(std::mem::take(&mut device.memory));
        }
    }

    /// Capabilities of all domains.
    pub fn capabilities(&self) -> usize {
        self.domains.values().map(|domain| domain.caps.len()).sum()
    }

    /// Views of all domains and devices.
    pub fn views(&self) -> usize {
        let devices = self.devices.values().map(|device| device.memory.len());
        let domains = self.domains.values().map(|domain| domain.memory.len());
        devices.chain(domains).sum()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Usual(slot) => write!(f, "slot {slot}"),
            Place::Extra(slot) => write!(f, "extra slot {slot}"),
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

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Pin {
                ioapic,
                pin,
                level,
                active_low,
            } => {
                let trigger = if *level { "level" } else { "edge" };
                let polarity = if *active_low { "low" } else { "high" };
                write!(f, "pin {pin} of I/O APIC {ioapic} ({trigger}, active {polarity})")
            }
            Source::Message { pci, handle } => write!(f, "message {handle} of {pci}"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Endpoint { of, badge, rights } => write!(f, "endpoint of {of} ({rights}, {badge})"),
            Held::Notification { of, badge, rights } => {
                write!(f, "notification of {of} ({rights}, {badge})")
            }
            Held::Thread(of) => write!(f, "thread of {of}"),
            Held::Space(of) => write!(f, "address space of {of}"),
            Held::Time(of) => write!(f, "scheduling context of {of}"),
            Held::Reply(of) => write!(f, "reply object of {of}"),
            Held::Interrupt {
                source,
                vector,
                of,
                badge,
            } => {
                write!(f, "interrupt from {source}, vector {vector}, to {of} {badge}")
            }
            Held::Ports(first, last) => write!(f, "I/O ports {first:#x} to {last:#x}"),
            Held::Other(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Region(name, 0) => write!(f, "region {name}"),
            Memory::Region(name, from) => write!(f, "region {name} from {from:#x} on"),
            Memory::Own => f.write_str("memory of its own"),
            Memory::Constant => f.write_str("memory that several see and nobody writes"),
            Memory::Leak(who) => write!(f, "memory outside all regions that is shared and written: {who}"),
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
            Some(of) => write!(f, ", takes the signals of {of}")?,
            None => f.write_str(", takes no signals")?,
        }
        match faults {
            Some((to, badge)) => write!(f, ", faults go to {to} {badge}")?,
            None => f.write_str(", faults go nowhere")?,
        }
        match messages {
            Some(at) => write!(f, ", message buffer at {at:#x}"),
            None => f.write_str(", message buffer not the page that it sees"),
        }
    }
}
