//! Reads what the SDK's tool put into its image, from the list that it writes beside it (`capdl.json`).
//!
//! Objects are told apart by their number in the list. Their names say whose they are; a name that two objects have is
//! reported, so that a name stands for one object.

mod json;
mod spaces;

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::authority::*;
use json::{Badged, Cap, Object, Spec};

/// log2 of the slots of the table that Microkit numbers, and of the one above it.
const TABLE_BITS: u8 = 9;
const ROOT_BITS: u8 = 6;
/// Marks in badges to endpoints.
const CALL: u64 = 1 << 63;
const FAULT: u64 = 1 << 62;

/// What a thread is bound to, by slot of its object.
mod bound {
    pub const TABLE: u32 = 0;
    pub const SPACE: u32 = 1;
    pub const MESSAGES: u32 = 4;
    pub const FAULTS: u32 = 5;
    pub const TIME: u32 = 6;
    pub const NOTIFICATION: u32 = 8;
    pub const ALL: [u32; 6] = [TABLE, SPACE, MESSAGES, FAULTS, TIME, NOTIFICATION];
}

/// Reads the list.
///
/// # Errors
/// What is not such a list, or has a kind of object or field that is not known here.
pub fn read(text: &[u8]) -> Result<Authority, Error> {
    let spec: Spec = serde_json::from_slice(text).map_err(Error::Capdl)?;
    let mut reader = Reader {
        spec: &spec,
        found: Authority::default(),
    };
    reader.check_references()?;
    reader.check_names();
    for (id, named) in spec.objects.iter().enumerate() {
        if matches!(named.object, Object::Tcb(_)) {
            reader.domain(id);
        }
    }
    reader.memory();
    Ok(reader.found)
}

struct Reader<'a> {
    spec: &'a Spec,
    found: Authority,
}

impl<'a> Reader<'a> {
    fn strange(&mut self, what: String) {
        self.found.strange.push(what);
    }

    /// After this every object number is within the list.
    fn check_references(&self) -> Result<(), Error> {
        let count = self.spec.objects.len();
        let bad = |what: String| Err(Error::Reference(what));
        if (self.spec.root_objects.start, self.spec.root_objects.end) != (0, count) {
            return bad("its root objects are not all objects".into());
        }
        for named in &self.spec.objects {
            if let Some(slot) = named
                .object
                .slots()
                .iter()
                .find(|slot| slot.cap.object() >= count)
            {
                return bad(format!("slot {} of {} names no object", slot.slot, named.name));
            }
        }
        match self.spec.irqs.iter().find(|entry| entry.handler >= count) {
            Some(entry) => bad(format!("interrupt {} names no object", entry.irq)),
            None => Ok(()),
        }
    }

    fn check_names(&mut self) {
        let mut seen = BTreeSet::new();
        for named in &self.spec.objects {
            if !seen.insert(&named.name) {
                self.strange(format!("two objects are called {}", named.name));
            }
            let mut slots = BTreeSet::new();
            for slot in named.object.slots() {
                if !slots.insert(slot.slot) {
                    self.strange(format!("slot {} of {} is filled twice", slot.slot, named.name));
                }
            }
        }
    }

    /// Whose an object is, by its name; the name itself, where it says nobody's.
    fn owner(&self, id: usize) -> String {
        let named = &self.spec.objects[id];
        let name = named.name.as_str();
        let rest = match &named.object {
            Object::Endpoint => name
                .strip_prefix("ep_fault_")
                .or_else(|| name.strip_prefix("ep_")),
            Object::Notification => name.strip_prefix("ntfn_"),
            Object::Reply => name.strip_prefix("reply_"),
            Object::Tcb(_) => name.strip_prefix("tcb_"),
            Object::SchedContext(_) => name.strip_prefix("sched_context_"),
            Object::CNode(table) if table.size_bits == ROOT_BITS => name
                .strip_prefix("cnode_")
                .and_then(|rest| rest.strip_suffix("_root")),
            Object::CNode(_) => name.strip_prefix("cnode_"),
            Object::PageTable(table) if table.is_root => name.strip_prefix("pml4_"),
            _ => None,
        };
        rest.unwrap_or(name).to_owned()
    }

    fn domain(&mut self, id: usize) {
        let Object::Tcb(tcb) = &self.spec.objects[id].object else {
            return;
        };
        let name = self.owner(id);
        let slots: BTreeMap<u32, &Cap> = tcb.slots.iter().map(|slot| (slot.slot, &slot.cap)).collect();
        if let Some(other) = slots.keys().find(|slot| !bound::ALL.contains(slot)) {
            self.strange(format!(
                "the thread of {name} is bound to something by its slot {other}"
            ));
        }
        let mut domain = Domain::default();
        let thread = &mut domain.thread;
        thread.priority = tcb.extra.prio;
        if tcb.extra.max_prio != tcb.extra.prio {
            self.strange(format!("{name} may raise its priority to {}", tcb.extra.max_prio));
        }
        if tcb.extra.master_fault_ep.is_some() {
            self.strange(format!("{name} has a second fault endpoint"));
        }
        match slots.get(&bound::TIME) {
            Some(Cap::SchedContext(time)) if self.owner(time.object) == name => {}
            _ => self.strange(format!("{name} does not run on a scheduling context of its own")),
        }
        if let Some(Cap::Notification(cap)) = slots.get(&bound::NOTIFICATION) {
            thread.notification = Some(self.owner(cap.object));
        }
        if let Some(Cap::Endpoint(cap)) = slots.get(&bound::FAULTS) {
            thread.faults = Some((self.owner(cap.object), endpoint_badge(cap.badge)));
        }
        if let Some(Cap::PageTable(cap)) = slots.get(&bound::SPACE) {
            thread.space = self.owner(cap.object);
            let at = tcb.extra.ipc_buffer_addr;
            let page = match slots.get(&bound::MESSAGES) {
                Some(Cap::Frame(frame)) => Some(frame.object),
                _ => None,
            };
            let seen = self.page_at(cap.object, at);
            thread.messages = seen.filter(|_| seen == page).map(|_| at);
        }
        if let Some(Cap::CNode(cap)) = slots.get(&bound::TABLE) {
            thread.table = self.owner(cap.object);
            domain.caps = self.table(&name, cap);
        }
        if self.found.domains.insert(name.clone(), domain).is_some() {
            self.strange(format!("{name} has two threads"));
        }
    }

    /// The capabilities under a table: one of Microkit's numbers, or one that has that in its first slot.
    fn table(&mut self, name: &str, cap: &'a json::CNodeCap) -> BTreeMap<Place, Held> {
        let mut caps = BTreeMap::new();
        let Object::CNode(top) = &self.spec.objects[cap.object].object else {
            self.strange(format!("the capability table of {name} is none"));
            return caps;
        };
        let above = 64 - TABLE_BITS - if top.size_bits == ROOT_BITS { ROOT_BITS } else { 0 };
        let sound = |cap: &json::CNodeCap, size| cap.guard == 0 && cap.guard_size == size;
        if top.size_bits == TABLE_BITS {
            if !sound(cap, above) {
                self.strange(format!("the capability table of {name} has another guard"));
            }
            self.slots(name, top, Place::Usual, &mut caps);
            return caps;
        }
        if top.size_bits != ROOT_BITS || !sound(cap, 0) {
            self.strange(format!("the capability table of {name} has another shape"));
        }
        for slot in &top.slots {
            match (&slot.cap, slot.slot) {
                (Cap::CNode(inner), 0) => {
                    let Object::CNode(table) = &self.spec.objects[inner.object].object else {
                        continue;
                    };
                    if !sound(inner, above) || table.size_bits != TABLE_BITS {
                        self.strange(format!("the inner capability table of {name} has another shape"));
                    }
                    let owner = self.owner(inner.object);
                    if owner != name {
                        self.strange(format!("{name} uses the inner capability table of {owner}"));
                    }
                    self.slots(name, table, Place::Usual, &mut caps);
                }
                _ => {
                    let held = self.held(&slot.cap);
                    caps.insert(Place::Extra(slot.slot), held);
                }
            }
        }
        caps
    }

    fn slots(
        &mut self,
        name: &str,
        table: &'a json::Table,
        place: impl Fn(u32) -> Place,
        caps: &mut BTreeMap<Place, Held>,
    ) {
        for slot in &table.slots {
            if slot.slot >> table.size_bits.min(31) != 0 {
                self.strange(format!("{name} has no slot {}", slot.slot));
            }
            caps.insert(place(slot.slot), self.held(&slot.cap));
        }
    }

    fn held(&self, cap: &Cap) -> Held {
        let name = |id: usize| self.spec.objects[id].name.clone();
        match cap {
            Cap::Endpoint(cap) => Held::Endpoint {
                of: self.owner(cap.object),
                badge: endpoint_badge(cap.badge),
                rights: rights(cap),
            },
            Cap::Notification(cap) => Held::Notification {
                of: self.owner(cap.object),
                badge: signal_badge(cap.badge),
                rights: rights(cap),
            },
            Cap::Reply(cap) => Held::Reply(self.owner(cap.object)),
            Cap::Tcb(cap) => Held::Thread(self.owner(cap.object)),
            Cap::SchedContext(cap) => Held::Time(self.owner(cap.object)),
            Cap::PageTable(cap) => match &self.spec.objects[cap.object].object {
                Object::PageTable(table) if table.is_root => Held::Space(self.owner(cap.object)),
                _ => Held::Other(format!("page table {}", name(cap.object))),
            },
            Cap::IOPorts(cap) => match &self.spec.objects[cap.object].object {
                Object::IOPorts(ports) => Held::Ports(ports.start_port, ports.end_port),
                _ => Held::Other(format!("I/O ports that are none: {}", name(cap.object))),
            },
            Cap::IrqIOApicHandler(cap) | Cap::IrqMsiHandler(cap) => self.interrupt(cap.object),
            Cap::CNode(cap) => Held::Other(format!("capability table {}", name(cap.object))),
            Cap::Frame(cap) => Held::Other(format!("page {}", name(cap.object))),
            Cap::IOPageTable(cap) | Cap::IOSpace(cap) => Held::Other(format!("IOMMU {}", name(cap.object))),
            Cap::Untyped(cap) => Held::Other(format!("untyped memory {}", name(cap.object))),
        }
    }

    fn interrupt(&self, id: usize) -> Held {
        let object = &self.spec.objects[id];
        let source = match &object.object {
            Object::IrqIOApic(irq) => Source::Pin {
                ioapic: irq.extra.ioapic,
                pin: irq.extra.pin,
                level: irq.extra.level != 0,
                active_low: irq.extra.polarity != 0,
            },
            Object::IrqMsi(irq) => Source::Message {
                pci: Pci(irq.extra.pci_bus, irq.extra.pci_dev, irq.extra.pci_func),
                handle: irq.extra.handle,
            },
            _ => return Held::Other(format!("interrupt that is none: {}", object.name)),
        };
        let vectors: Vec<u32> = self
            .spec
            .irqs
            .iter()
            .filter(|entry| entry.handler == id)
            .map(|entry| entry.irq)
            .collect();
        match (&vectors[..], object.object.slots()) {
            (
                [vector],
                [
                    json::Slot {
                        slot: 0,
                        cap: Cap::Notification(cap),
                    },
                ],
            ) => Held::Interrupt {
                source,
                vector: *vector,
                of: self.owner(cap.object),
                badge: signal_badge(cap.badge),
            },
            _ => Held::Other(format!(
                "interrupt without one vector and one notification: {}",
                object.name
            )),
        }
    }
}

fn rights(cap: &Badged) -> Rights {
    // The right to be answered alone would show as `grant`, which the model never says by itself.
    Rights {
        receive: cap.rights.read,
        send: cap.rights.write,
        grant: cap.rights.grant || cap.rights.grant_reply,
    }
}

fn endpoint_badge(raw: u64) -> Badge {
    match raw {
        0 => Badge::None,
        1..64 => Badge::Number(raw),
        _ if raw & !0x3f == CALL => Badge::Call((raw & 0x3f) as u32),
        _ if raw & !0xff == FAULT => Badge::Fault((raw & 0xff) as u32),
        _ => Badge::Unknown(raw),
    }
}

fn signal_badge(raw: u64) -> Badge {
    match raw {
        0 => Badge::None,
        _ if raw.is_power_of_two() && raw < FAULT => Badge::Signal(raw.trailing_zeros()),
        _ => Badge::Unknown(raw),
    }
}
