//! Address spaces in the SDK's list: walks the page tables of each domain and those of the IOMMU.

use std::collections::BTreeMap;

use super::Reader;
use super::json::{Cap, FrameCap, Object};
use crate::authority::Pci;
use crate::frames::{self, Frame, Page, User};

/// Bits of an address that one level of page tables decodes.
const LEVEL_BITS: u32 = 9;
/// Levels of a domain's page tables, and of the IOMMU's page tables that the SDK's tool makes.
const LEVELS: u8 = 4;
const IO_LEVELS: u8 = 3;
/// log2 of the bytes of a small page.
const PAGE_BITS: u32 = 12;
/// Slot of an IOMMU space with the tables in use. The other slots hold spare tables without content.
const IO_ROOT: u32 = 0;

/// Returns log2 of the bytes that a slot at this level covers.
fn span(level: u8, levels: u8) -> u32 {
    PAGE_BITS + LEVEL_BITS * u32::from(levels - 1 - level)
}

impl<'a> Reader<'a> {
    /// Reads the memory of all domains and devices.
    pub(super) fn memory(&mut self) {
        let spec = self.spec;
        let mut pages = Vec::new();
        for named in &spec.objects {
            match &named.object {
                Object::Tcb(tcb) => {
                    let user = User::Domain(named.name.strip_prefix("tcb_").unwrap_or(&named.name).into());
                    for slot in tcb.slots.iter().filter(|slot| slot.slot == super::bound::SPACE) {
                        if let Cap::PageTable(cap) = &slot.cap {
                            self.walk(&user, cap.object, 0, 0, &mut pages);
                        }
                    }
                }
                Object::IOSpace(space) => {
                    let pci = &space.pci_device;
                    let pci = Pci(pci.bus, pci.device, pci.function);
                    if self.found.devices.contains_key(&pci) {
                        self.anomaly(format!("device {pci} has two IOMMU spaces"));
                    }
                    self.found.devices.entry(pci).or_default().domain_id = space.domain_id;
                    for slot in &space.slots {
                        match &slot.cap {
                            Cap::IOPageTable(cap) if slot.slot == IO_ROOT => {
                                self.walk_io(&User::Device(pci), cap.object, 0, 0, &mut pages);
                            }
                            Cap::IOPageTable(cap) if spec.objects[cap.object].object.slots().is_empty() => {}
                            _ => self.anomaly(format!("{} has something in slot {}", named.name, slot.slot)),
                        }
                    }
                }
                _ => {}
            }
        }
        let mut known = BTreeMap::new();
        for (id, named) in spec.objects.iter().enumerate() {
            if let Object::Frame(frame) = &named.object {
                let region = named
                    .name
                    .strip_prefix("frame_mr_")
                    .and_then(|rest| rest.rsplit_once('_'));
                let region = region.and_then(|(name, number)| {
                    let number: u64 = number.parse().ok()?;
                    Some((name.to_owned(), number << frame.size_bits))
                });
                let (physical, bits) = (frame.paddr, frame.size_bits);
                known.insert(
                    id,
                    Frame {
                        region,
                        physical,
                        bits,
                    },
                );
            }
        }
        frames::enter(&pages, &known, &mut self.found);
    }

    fn walk(&mut self, user: &User, table: usize, level: u8, base: u64, pages: &mut Vec<Page<usize>>) {
        let spec = self.spec;
        let name = &spec.objects[table].name;
        let Object::PageTable(found) = &spec.objects[table].object else {
            return self.anomaly(format!("{} has {name} for a page table", user.name()));
        };
        if found.level != level || found.is_root != (level == 0) || found.guest {
            self.anomaly(format!(
                "{} has {name} at another level than its own",
                user.name()
            ));
        }
        for slot in &found.slots {
            if slot.slot >> LEVEL_BITS != 0 {
                self.anomaly(format!("{name} has no slot {}", slot.slot));
            }
            let bits = span(level, LEVELS);
            let at = base | u64::from(slot.slot) << bits;
            match &slot.cap {
                Cap::PageTable(next) if level + 1 < LEVELS => {
                    self.walk(user, next.object, level + 1, at, pages)
                }
                Cap::Frame(cap) => self.page(user, cap, at, bits, pages),
                _ => self.anomaly(format!(
                    "{name} has something that is no page in slot {}",
                    slot.slot
                )),
            }
        }
    }

    fn walk_io(&mut self, user: &User, table: usize, level: u8, base: u64, pages: &mut Vec<Page<usize>>) {
        let spec = self.spec;
        let name = &spec.objects[table].name;
        let Object::IOPageTable(found) = &spec.objects[table].object else {
            return self.anomaly(format!("{} has {name} for an IOMMU table", user.name()));
        };
        if found.level != level {
            self.anomaly(format!(
                "{} has {name} at another level than its own",
                user.name()
            ));
        }
        for slot in &found.slots {
            let bits = span(level, IO_LEVELS);
            let at = base | u64::from(slot.slot) << bits;
            match &slot.cap {
                Cap::IOPageTable(next) if level + 1 < IO_LEVELS => {
                    self.walk_io(user, next.object, level + 1, at, pages);
                }
                Cap::Frame(cap) => self.page(user, cap, at, bits, pages),
                _ => self.anomaly(format!(
                    "{name} has something that is no page in slot {}",
                    slot.slot
                )),
            }
        }
    }

    fn page(&mut self, user: &User, cap: &FrameCap, at: u64, bits: u32, pages: &mut Vec<Page<usize>>) {
        let named = &self.spec.objects[cap.object];
        match &named.object {
            Object::Frame(frame) if u32::from(frame.size_bits) == bits => {}
            _ => self.anomaly(format!(
                "{} has {} in a place for a page of another size",
                user.name(),
                named.name
            )),
        }
        if cap.rights.grant || cap.rights.grant_reply {
            self.anomaly(format!(
                "{} has {} with rights that pages do not have",
                user.name(),
                named.name
            ));
        }
        pages.push(Page {
            user: user.clone(),
            at,
            frame: cap.object,
            read: cap.rights.read,
            write: cap.rights.write,
            // The attribute has no meaning for a device.
            cached: cap.cached || matches!(user, User::Device(_)),
        });
    }

    /// Returns the page that is mapped at an address.
    pub(super) fn page_at(&self, root: usize, at: u64) -> Option<usize> {
        let mut table = root;
        for level in 0..LEVELS {
            let index = (at >> span(level, LEVELS)) as u32 & ((1 << LEVEL_BITS) - 1);
            let slot = self.spec.objects[table]
                .object
                .slots()
                .iter()
                .find(|slot| slot.slot == index)?;
            match &slot.cap {
                Cap::PageTable(next) => table = next.object,
                Cap::Frame(cap) => return Some(cap.object),
                _ => return None,
            }
        }
        None
    }
}
