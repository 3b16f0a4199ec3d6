//! Reader of our builder's image: the description that the root task follows at boot.
//!
//! Objects are identified by their slot in the root task's table, content pages by their number. If two parts
//! of the description claim one slot, this is an anomaly: both would be one object.

use std::collections::BTreeMap;

use initialiser_spec::{
    Cap, CapKind, GRANT, NONE, Object, Pd, READ, Region, Run, Source as Origin, Spec, WRITE,
};

use crate::authority::*;
use crate::frames::{self, Frame, Page, User};
use crate::model::MONITOR;

/// Marks in badges. A notification's badge has a mark and one bit. An endpoint's badge has a mark and a
/// number.
const SIGNAL: u64 = 1 << 62;
const CALL: u64 = 1 << 27;
const FAULT: u64 = 1 << 26;
/// The slot of the endpoint that receives a thread's faults.
const FAULT_SLOT: CapSlot = CapSlot::Microkit(2);

/// Reads a description. `region` returns true if a name is that of a memory region of the system.
pub fn read(spec: &Spec<'_>, region: impl Fn(&str) -> bool) -> Authority {
    let mut reader = Reader {
        spec,
        found: Authority::default(),
        claims: BTreeMap::new(),
    };
    reader.claim_objects();
    for (index, pd) in spec.pds.iter().enumerate() {
        reader.domain(index, pd);
    }
    reader.memory(region);
    reader.found
}

/// Identity of a page: its slot or its content page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Slot(u32),
    Content(u32),
}

struct Reader<'a> {
    spec: &'a Spec<'a>,
    found: Authority,
    claims: BTreeMap<u32, String>,
}

impl<'a> Reader<'a> {
    fn anomaly(&mut self, what: String) {
        self.found.anomalies.push(what);
    }

    fn name(&self, index: u32) -> String {
        match self.spec.pds.get(index as usize) {
            Some(pd) => self.spec.text(pd.name).to_owned(),
            None => format!("domain {index}"),
        }
    }

    fn claim(&mut self, slot: u32, kind: Option<Object>, what: String) {
        let made = self
            .spec
            .batches
            .iter()
            .find(|batch| batch.slots.range().contains(&(slot as usize)));
        if made.and_then(|batch| Object::from_u8(batch.object)) != kind {
            self.anomaly(format!("{what} is created as another kind of object"));
        }
        if let Some(other) = self.claims.insert(slot, what.clone()) {
            self.anomaly(format!("{what} is the same object as {other}"));
        }
    }

    fn claim_objects(&mut self) {
        let spec = self.spec;
        for (index, pd) in (0u32..).zip(spec.pds) {
            let name = self.name(index);
            let objects = [
                (pd.tcb, Object::Tcb, "thread"),
                (pd.pml4, Object::Pml4, "address space"),
                (pd.cnode, Object::CNode, "capability table"),
                (pd.cnode_root, Object::CNodeRoot, "upper capability table"),
                (pd.notification, Object::Notification, "notification"),
                (pd.endpoint, Object::Endpoint, "endpoint"),
            ];
            for (slot, kind, what) in objects {
                if slot.get() != NONE {
                    self.claim(slot.get(), Some(kind), format!("the {what} of {name}"));
                }
            }
        }
        self.claim(
            spec.header.monitor_endpoint.get(),
            Some(Object::Endpoint),
            format!("the endpoint of {MONITOR}"),
        );
        let tables = [
            (spec.header.pdpts, Object::Pdpt),
            (spec.header.page_directories, Object::PageDirectory),
            (spec.header.page_tables, Object::PageTable),
        ];
        for (run, kind) in tables {
            for slot in numbers(run) {
                self.claim(slot, Some(kind), format!("paging structure {slot}"));
            }
        }
    }

    fn domain(&mut self, index: usize, pd: &Pd) {
        let name = self.name(index as u32);
        let mut caps = BTreeMap::new();
        for cap in &self.spec.caps[pd.caps.range()] {
            let slot = cap.slot.get();
            let place = match slot.checked_sub(Cap::ROOT_SLOT) {
                Some(extra) => CapSlot::Extra(extra),
                None => CapSlot::Microkit(slot),
            };
            if place == CapSlot::Extra(0) || (slot >= Cap::ROOT_SLOT && pd.cnode_root.get() == NONE) {
                self.anomaly(format!("{name} has no {place} to hold a capability in"));
            }
            let held = self.held(cap);
            if caps.insert(place, held).is_some() {
                self.anomaly(format!("{name} has two capabilities in {place}"));
            }
        }
        for irq in self.spec.irqs.iter().filter(|irq| irq.pd.get() as usize == index) {
            let [a, b, c, d] = irq.source.map(|word| word.get());
            let byte = |word: u32| u8::try_from(word).unwrap_or(u8::MAX);
            let source = match irq.msi.get() {
                0 => InterruptSource::Pin {
                    ioapic: a.into(),
                    pin: b.into(),
                    level: c != 0,
                    active_low: d != 0,
                },
                _ => InterruptSource::Message {
                    pci: Pci(byte(a), byte(b), byte(c)),
                    handle: d.into(),
                },
            };
            let held = Capability::Interrupt {
                source,
                vector: irq.vector.get(),
                of: name.clone(),
                badge: signal_badge(irq.badge.get()),
            };
            let place = CapSlot::Microkit(irq.slot.get());
            if caps.insert(place, held).is_some() {
                self.anomaly(format!("{name} has two capabilities in {place}"));
            }
        }
        let faults = match caps.get(&FAULT_SLOT) {
            Some(Capability::Endpoint { of, badge, rights }) if rights.send => Some((of.clone(), *badge)),
            _ => None,
        };
        let thread = Thread {
            priority: pd.priority,
            space: name.clone(),
            table: name.clone(),
            notification: Some(name.clone()),
            faults,
            messages: self.messages(pd),
        };
        let domain = Domain {
            thread,
            caps,
            memory: Vec::new(),
        };
        if self.found.domains.insert(name.clone(), domain).is_some() {
            self.anomaly(format!("two domains are called {name}"));
        }
    }

    /// Returns the address of the message buffer if the domain maps there the page that the kernel uses.
    fn messages(&self, pd: &Pd) -> Option<u64> {
        let at = pd.ipc_buffer.get();
        let seen = self.spec.mappings[pd.mappings.range()].iter().any(|mapping| {
            mapping.region == pd.ipc_region && mapping.vaddr.get() == at && mapping.pages.count.get() == 1
        });
        seen.then_some(at)
    }

    fn held(&self, cap: &Cap) -> Capability {
        let (of, raw) = (self.name(cap.target.get()), cap.data.get());
        let rights = Rights {
            receive: cap.rights & READ != 0,
            send: cap.rights & WRITE != 0,
            grant: cap.rights & GRANT != 0,
        };
        match CapKind::from_u8(cap.kind) {
            Some(CapKind::Endpoint) => Capability::Endpoint {
                of,
                badge: endpoint_badge(raw),
                rights,
            },
            Some(CapKind::Monitor) => {
                let badge = if raw == 0 { Badge::None } else { Badge::Number(raw) };
                Capability::Endpoint {
                    of: MONITOR.to_owned(),
                    badge,
                    rights,
                }
            }
            Some(CapKind::Notification) => Capability::Notification {
                of,
                badge: signal_badge(raw),
                rights,
            },
            // The kernel has no different rights to these.
            Some(CapKind::VSpace) => Capability::Space(of),
            Some(CapKind::Tcb) => Capability::Thread(of),
            Some(CapKind::IoPorts) => Capability::Ports(raw >> 16, raw & 0xffff),
            None => Capability::Other(format!("a capability of kind {}", cap.kind)),
        }
    }

    fn memory(&mut self, is_region: impl Fn(&str) -> bool) {
        let spec = self.spec;
        let mut frames: BTreeMap<Id, Frame> = BTreeMap::new();
        let mut offsets: BTreeMap<&str, u64> = BTreeMap::new();
        for region in spec.regions {
            let name = spec.text(region.name);
            let described = is_region(name);
            let offset = offsets.entry(name).or_default();
            for page in 0..region.pages.get() {
                let bytes = u64::from(page) << region.page_bits;
                let id = self.page(region, page);
                let frame = Frame {
                    region: described.then(|| (name.to_owned(), *offset + bytes)),
                    physical: (region.source == Origin::Fixed as u8).then(|| region.paddr.get() + bytes),
                    bits: region.page_bits,
                };
                if let Id::Slot(slot) = id {
                    let kind = match (Origin::from_u8(region.source), region.page_bits) {
                        (Some(Origin::Fixed), _) => None,
                        (_, initialiser_spec::LARGE_PAGE_BITS) => Some(Object::LargePage),
                        _ => Some(Object::SmallPage),
                    };
                    self.claim(slot, kind, format!("page {page} of {name}"));
                }
                if let Some(other) = frames.insert(id, frame.clone())
                    && (other.region.is_some() || described)
                {
                    let what = other.region.map_or("a program".to_owned(), |(name, _)| name);
                    self.anomaly(format!("page {page} of {name} is also one of {what}"));
                    // Domains are compared by regions, so the page counts as the region's.
                    if !described {
                        frames.insert(
                            id,
                            Frame {
                                region: Some((what, 0)),
                                ..frame
                            },
                        );
                    }
                }
            }
            *offset += u64::from(region.pages.get()) << region.page_bits;
        }
        let mut pages = Vec::new();
        for (index, pd) in (0u32..).zip(spec.pds) {
            let user = User::Domain(self.name(index));
            for mapping in &spec.mappings[pd.mappings.range()] {
                let region = &spec.regions[mapping.region.get() as usize];
                for (i, page) in (0u64..).zip(numbers(mapping.pages)) {
                    pages.push(Page {
                        user: user.clone(),
                        at: mapping.vaddr.get() + (i << region.page_bits),
                        frame: self.page(region, page),
                        read: mapping.rights & READ != 0,
                        write: mapping.rights & WRITE != 0,
                        cached: mapping.cached != 0,
                    });
                }
            }
        }
        frames::enter(&pages, &frames, &mut self.found);
    }

    fn page(&self, region: &Region, page: u32) -> Id {
        let number = region.first.get() + page;
        match region.source == Origin::Image as u8 {
            true => Id::Content(number),
            false => Id::Slot(number),
        }
    }
}

fn numbers(run: Run) -> std::ops::Range<u32> {
    run.first.get()..run.first.get() + run.count.get()
}

fn endpoint_badge(raw: u64) -> Badge {
    match raw {
        0 => Badge::None,
        _ if raw & !0x3f == CALL => Badge::Call((raw & 0x3f) as u32),
        _ if raw & !0xff == FAULT => Badge::Fault((raw & 0xff) as u32),
        _ => Badge::Unknown(raw),
    }
}

fn signal_badge(raw: u64) -> Badge {
    let bits = raw & !SIGNAL;
    match raw {
        0 => Badge::None,
        _ if raw & SIGNAL != 0 && bits.is_power_of_two() && bits < SIGNAL => {
            Badge::Signal(bits.trailing_zeros())
        }
        _ => Badge::Unknown(raw),
    }
}
