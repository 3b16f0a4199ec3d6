//! Reader of the SDK's image, from the list that the SDK's tool writes beside it (`capdl.json`).
//!
//! Objects are identified by their number in the list. Their names give the owner. If two objects have one
//! name, this is an anomaly, so a name stands for one object.

mod json;
mod spaces;

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::authority::*;
use json::{Badged, Cap, Object, Spec};

/// log2 of the slots of the table whose layout Microkit defines, and of the table above it.
const TABLE_BITS: u8 = 9;
const ROOT_BITS: u8 = 6;
/// Marks in badges of endpoints.
const CALL: u64 = 1 << 63;
const FAULT: u64 = 1 << 62;

/// Slots of a thread object, by the bound object.
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
/// The text is no such list, or has a kind of object or field that this module does not know.
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
    fn anomaly(&mut self, what: String) {
        self.found.anomalies.push(what);
    }

    /// Checks that every object number is within the list. All later code relies on it.
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
                self.anomaly(format!("two objects are called {}", named.name));
            }
            let mut slots = BTreeSet::new();
            for slot in named.object.slots() {
                if !slots.insert(slot.slot) {
                    self.anomaly(format!("slot {} of {} is filled twice", slot.slot, named.name));
                }
            }
        }
    }

    /// Returns the owner of an object according to the object's name, or the name itself if it has no owner.
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
            self.anomaly(format!(
                "the thread of {name} is bound to something by its slot {other}"
            ));
        }
        let mut domain = Domain::default();
        let thread = &mut domain.thread;
        thread.priority = tcb.extra.prio;
        if tcb.extra.max_prio != tcb.extra.prio {
            self.anomaly(format!("{name} may raise its priority to {}", tcb.extra.max_prio));
        }
        if tcb.extra.master_fault_ep.is_some() {
            self.anomaly(format!("{name} has a second fault endpoint"));
        }
        match slots.get(&bound::TIME) {
            Some(Cap::SchedContext(time)) if self.owner(time.object) == name => {}
            _ => self.anomaly(format!("{name} does not run on a scheduling context of its own")),
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
            self.anomaly(format!("{name} has two threads"));
        }
    }

    /// Returns the capabilities under a table: a table with Microkit's layout, or a table that has such a
    /// table in its first slot.
    fn table(&mut self, name: &str, cap: &'a json::CNodeCap) -> BTreeMap<CapSlot, Capability> {
        let mut caps = BTreeMap::new();
        let Object::CNode(top) = &self.spec.objects[cap.object].object else {
            self.anomaly(format!("the capability table of {name} is no table"));
            return caps;
        };
        let above = 64 - TABLE_BITS - if top.size_bits == ROOT_BITS { ROOT_BITS } else { 0 };
        let sound = |cap: &json::CNodeCap, size| cap.guard == 0 && cap.guard_size == size;
        if top.size_bits == TABLE_BITS {
            if !sound(cap, above) {
                self.anomaly(format!("the capability table of {name} has an unexpected guard"));
            }
            self.slots(name, top, CapSlot::Microkit, &mut caps);
            return caps;
        }
        if top.size_bits != ROOT_BITS || !sound(cap, 0) {
            self.anomaly(format!("the capability table of {name} has an unexpected shape"));
        }
        for slot in &top.slots {
            match (&slot.cap, slot.slot) {
                (Cap::CNode(inner), 0) => {
                    let Object::CNode(table) = &self.spec.objects[inner.object].object else {
                        continue;
                    };
                    if !sound(inner, above) || table.size_bits != TABLE_BITS {
                        self.anomaly(format!(
                            "the inner capability table of {name} has an unexpected shape"
                        ));
                    }
                    let owner = self.owner(inner.object);
                    if owner != name {
                        self.anomaly(format!("{name} uses the inner capability table of {owner}"));
                    }
                    self.slots(name, table, CapSlot::Microkit, &mut caps);
                }
                _ => {
                    let held = self.held(&slot.cap);
                    caps.insert(CapSlot::Extra(slot.slot), held);
                }
            }
        }
        caps
    }

    fn slots(
        &mut self,
        name: &str,
        table: &'a json::Table,
        place: impl Fn(u32) -> CapSlot,
        caps: &mut BTreeMap<CapSlot, Capability>,
    ) {
        for slot in &table.slots {
            if slot.slot >> table.size_bits.min(31) != 0 {
                self.anomaly(format!("{name} has no slot {}", slot.slot));
            }
            caps.insert(place(slot.slot), self.held(&slot.cap));
        }
    }

    fn held(&self, cap: &Cap) -> Capability {
        let name = |id: usize| self.spec.objects[id].name.clone();
        match cap {
            Cap::Endpoint(cap) => Capability::Endpoint {
                of: self.owner(cap.object),
                badge: endpoint_badge(cap.badge),
                rights: rights(cap),
            },
            Cap::Notification(cap) => Capability::Notification {
                of: self.owner(cap.object),
                badge: signal_badge(cap.badge),
                rights: rights(cap),
            },
            Cap::Reply(cap) => Capability::Reply(self.owner(cap.object)),
            Cap::Tcb(cap) => Capability::Thread(self.owner(cap.object)),
            Cap::SchedContext(cap) => Capability::Time(self.owner(cap.object)),
            Cap::PageTable(cap) => match &self.spec.objects[cap.object].object {
                Object::PageTable(table) if table.is_root => Capability::Space(self.owner(cap.object)),
                _ => Capability::Other(format!("page table {}", name(cap.object))),
            },
            Cap::IOPorts(cap) => match &self.spec.objects[cap.object].object {
                Object::IOPorts(ports) => Capability::Ports(ports.start_port, ports.end_port),
                _ => Capability::Other(format!(
                    "an I/O port capability to another object: {}",
                    name(cap.object)
                )),
            },
            Cap::IrqIOApicHandler(cap) | Cap::IrqMsiHandler(cap) => self.interrupt(cap.object),
            Cap::CNode(cap) => Capability::Other(format!("capability table {}", name(cap.object))),
            Cap::Frame(cap) => Capability::Other(format!("page {}", name(cap.object))),
            Cap::IOPageTable(cap) | Cap::IOSpace(cap) => {
                Capability::Other(format!("IOMMU {}", name(cap.object)))
            }
            Cap::Untyped(cap) => Capability::Other(format!("untyped memory {}", name(cap.object))),
        }
    }

    fn interrupt(&self, id: usize) -> Capability {
        let object = &self.spec.objects[id];
        let source = match &object.object {
            Object::IrqIOApic(irq) => InterruptSource::Pin {
                ioapic: irq.extra.ioapic,
                pin: irq.extra.pin,
                level: irq.extra.level != 0,
                active_low: irq.extra.polarity != 0,
            },
            Object::IrqMsi(irq) => InterruptSource::Message {
                pci: Pci(irq.extra.pci_bus, irq.extra.pci_dev, irq.extra.pci_func),
                handle: irq.extra.handle,
            },
            _ => {
                return Capability::Other(format!(
                    "an interrupt capability to another object: {}",
                    object.name
                ));
            }
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
            ) => Capability::Interrupt {
                source,
                vector: *vector,
                of: self.owner(cap.object),
                badge: signal_badge(cap.badge),
            },
            _ => Capability::Other(format!(
                "interrupt without one vector and one notification: {}",
                object.name
            )),
        }
    }
}

fn rights(cap: &Badged) -> Rights {
    // A right to receive a reply alone would show as `grant`. The model never has it alone, so it would be a
    // difference.
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
