//! Turns protection domains, regions and mappings into the tables that the root task reads: numbers every
//! object, merges equal content pages, counts paging structures.

use std::collections::{HashMap, HashSet};

use initialiser_spec::*;
use zerocopy::little_endian::{U32, U64};

use crate::elf::PageBytes;
use crate::tables::Tables;

/// Index of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId(u32);

/// Index of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PdId(pub u32);

/// A mapping of a whole region.
#[derive(Clone, Copy, Debug)]
pub struct MapAt {
    pub vaddr: u64,
    pub region: RegionId,
    /// [`READ`] and [`WRITE`].
    pub rights: u8,
    pub cached: bool,
}

/// A protection domain without its mappings and capabilities.
#[derive(Clone, Debug)]
pub struct PdPlan {
    pub name: String,
    pub priority: u8,
    /// Address of the first instruction.
    pub entry: u64,
    /// Initial stack pointer.
    pub stack_top: u64,
    pub ipc_buffer: u64,
    /// Region of the IPC buffer's page.
    pub ipc_region: RegionId,
    /// True if it can be called or has children.
    pub has_endpoint: bool,
    /// True if it has capabilities outside the fixed slots.
    pub has_extras: bool,
}

/// Content pages of the image. Equal read-only pages are stored once.
#[derive(Default)]
pub struct Content {
    pages: Vec<Box<PageBytes>>,
    shared: HashMap<Box<PageBytes>, u32>,
}

impl Content {
    /// Stores a read-only page. Returns its number.
    pub fn shared(&mut self, page: &PageBytes) -> u32 {
        if let Some(&number) = self.shared.get(page) {
            return number;
        }
        let number = self.private(page);
        self.shared.insert(Box::new(*page), number);
        number
    }

    /// Stores a page for one owner. Returns its number.
    pub fn private(&mut self, page: &PageBytes) -> u32 {
        self.pages.push(Box::new(*page));
        self.pages.len() as u32 - 1
    }

    pub fn pages(&self) -> &[Box<PageBytes>] {
        &self.pages
    }
}

/// The tables under construction. Until [`Plan::finish`], slots count within their kind of object.
#[derive(Default)]
pub struct Plan {
    tables: Tables,
    counts: HashMap<Object, u32>,
    fixed_slots: u32,
    mapped: HashSet<RegionId>,
    names: HashMap<String, Run>,
    pub content: Content,
}

/// The finished description and its totals.
pub struct Finished {
    pub spec: Vec<u8>,
    pub content: Content,
    /// Bytes of RAM for all objects, without regions at fixed addresses.
    pub ram: u64,
    pub mapped_pages: u64,
    /// Slots of the root task's table, without those of the image's own pages.
    pub slots: u64,
}

impl Plan {
    fn count(&mut self, object: Object, count: u32) -> u32 {
        let counter = self.counts.entry(object).or_default();
        *counter += count;
        *counter - count
    }

    fn name(&mut self, name: &str) -> Run {
        if let Some(&run) = self.names.get(name) {
            return run;
        }
        let run = self.tables.text(name);
        self.names.insert(name.to_owned(), run);
        run
    }

    fn region(&mut self, region: Region) -> RegionId {
        self.tables.regions.push(region);
        RegionId(self.tables.regions.len() as u32 - 1)
    }

    fn blank(&mut self, name: &str, source: Source, page_bits: u8, pages: u32, first: u32) -> Region {
        Region {
            name: self.name(name),
            source: source as u8,
            page_bits,
            fill: Fill::None as u8,
            reserved: 0,
            pages: U32::new(pages),
            first: U32::new(first),
            paddr: U64::new(ANYWHERE),
            content: U32::new(0),
            content_len: U32::new(0),
        }
    }

    /// Adds a region of zeroed RAM at any address.
    pub fn fresh_region(&mut self, name: &str, page_bits: u8, pages: u32) -> RegionId {
        let kind = if page_bits == LARGE_PAGE_BITS {
            Object::LargePage
        } else {
            Object::SmallPage
        };
        let first = self.count(kind, pages);
        let region = self.blank(name, Source::Fresh, page_bits, pages, first);
        self.region(region)
    }

    /// Adds a region at a physical address. Must be called in order of rising addresses.
    pub fn fixed_region(&mut self, name: &str, page_bits: u8, pages: u32, paddr: u64) -> RegionId {
        let first = self.fixed_slots;
        self.fixed_slots += pages;
        let mut region = self.blank(name, Source::Fixed, page_bits, pages, first);
        region.paddr = U64::new(paddr);
        self.region(region)
    }

    /// Adds a region of content pages, mapped in place.
    pub fn image_region(&mut self, name: &str, first: u32, pages: u32) -> RegionId {
        let region = self.blank(name, Source::Image, SMALL_PAGE_BITS, pages, first);
        self.region(region)
    }

    /// Adds content that the root task copies into a region before the start.
    pub fn copy_into(&mut self, region: RegionId, bytes: &[u8]) {
        let first = self.content.pages.len() as u32;
        for chunk in bytes.chunks(PAGE_SIZE) {
            let mut page = [0; PAGE_SIZE];
            page[..chunk.len()].copy_from_slice(chunk);
            self.content.private(&page);
        }
        let record = &mut self.tables.regions[region.0 as usize];
        record.fill = Fill::Copy as u8;
        record.content = U32::new(first);
        record.content_len = U32::new(bytes.len() as u32);
    }

    /// Makes the root task write the time-stamp counter's frequency into a region.
    pub fn fill_with_tsc(&mut self, region: RegionId) {
        self.tables.regions[region.0 as usize].fill = Fill::TscFrequency as u8;
    }

    /// Adds a protection domain with all its mappings. Its number is the next one.
    pub fn pd(&mut self, plan: &PdPlan, mut maps: Vec<MapAt>) -> PdId {
        maps.sort_by_key(|map| map.vaddr);
        let mappings = Run::new(self.tables.mappings.len(), maps.len());
        for map in &maps {
            let region = self.tables.regions[map.region.0 as usize];
            let copy = region.source == Source::Image as u8 || !self.mapped.insert(map.region);
            self.tables.mappings.push(Mapping {
                vaddr: U64::new(map.vaddr),
                region: U32::new(map.region.0),
                pages: Run {
                    first: U32::new(0),
                    count: region.pages,
                },
                rights: map.rights,
                cached: u8::from(map.cached),
                copy: u8::from(copy),
                reserved: 0,
            });
        }
        self.count_paging(&maps);
        let none = U32::new(NONE);
        let record = Pd {
            name: self.name(&plan.name),
            priority: plan.priority,
            reserved: [0; 3],
            entry: U64::new(plan.entry),
            stack_top: U64::new(plan.stack_top),
            ipc_buffer: U64::new(plan.ipc_buffer),
            ipc_region: U32::new(plan.ipc_region.0),
            mappings,
            caps: Run::default(),
            tcb: U32::new(self.count(Object::Tcb, 1)),
            pml4: U32::new(self.count(Object::Pml4, 1)),
            cnode: U32::new(self.count(Object::CNode, 1)),
            cnode_root: if plan.has_extras {
                U32::new(self.count(Object::CNodeRoot, 1))
            } else {
                none
            },
            notification: U32::new(self.count(Object::Notification, 1)),
            endpoint: if plan.has_endpoint {
                U32::new(self.count(Object::Endpoint, 1))
            } else {
                none
            },
        };
        self.tables.pds.push(record);
        PdId(self.tables.pds.len() as u32 - 1)
    }

    /// Counts the paging structures in the way in which the root task will map them.
    fn count_paging(&mut self, maps: &[MapAt]) {
        let (mut pdpt, mut directory, mut table) = (u64::MAX, u64::MAX, u64::MAX);
        for map in maps {
            let region = self.tables.regions[map.region.0 as usize];
            for page in 0..u64::from(region.pages.get()) {
                let vaddr = map.vaddr + (page << region.page_bits);
                if std::mem::replace(&mut pdpt, vaddr >> 39) != vaddr >> 39 {
                    self.count(Object::Pdpt, 1);
                }
                if std::mem::replace(&mut directory, vaddr >> 30) != vaddr >> 30 {
                    self.count(Object::PageDirectory, 1);
                }
                let small = region.page_bits == SMALL_PAGE_BITS;
                if small && std::mem::replace(&mut table, vaddr >> 21) != vaddr >> 21 {
                    self.count(Object::PageTable, 1);
                }
            }
        }
    }

    /// Sets the capabilities of a protection domain. Must be called once for each domain.
    pub fn caps(&mut self, pd: PdId, caps: Vec<Cap>) {
        self.tables.pds[pd.0 as usize].caps = Run::new(self.tables.caps.len(), caps.len());
        self.tables.caps.extend(caps);
    }

    /// Adds an interrupt of a protection domain.
    pub fn irq(&mut self, irq: Irq) {
        self.tables.irqs.push(irq);
    }

    /// Numbers all objects and writes the description.
    pub fn finish(mut self) -> Finished {
        if self
            .tables
            .regions
            .iter()
            .any(|region| region.fill != Fill::None as u8)
        {
            // The root task's window through which it fills regions.
            self.count(Object::PageDirectory, 1);
            self.count(Object::PageTable, 1);
        }
        let monitor = self.count(Object::Endpoint, 1);
        let mut base = HashMap::new();
        let mut slots = 0;
        let mut ram = 0;
        for object in Object::ALL {
            let count = self.counts.get(&object).copied().unwrap_or(0);
            base.insert(object, slots);
            let run = Run {
                first: U32::new(slots),
                count: U32::new(count),
            };
            match object {
                Object::Pdpt => self.tables.header.pdpts = run,
                Object::PageDirectory => self.tables.header.page_directories = run,
                Object::PageTable => self.tables.header.page_tables = run,
                _ => {}
            }
            if count > 0 {
                let size_bits = object.size_bits();
                self.tables.batches.push(Batch {
                    object: object as u8,
                    size_bits,
                    reserved: [0; 2],
                    slots: run,
                });
                ram += u64::from(count) << size_bits;
            }
            slots += count;
        }
        let shift = |field: &mut U32, object: Object| {
            if field.get() != NONE {
                *field = U32::new(field.get() + base[&object]);
            }
        };
        for region in &mut self.tables.regions {
            match Source::from_u8(region.source) {
                Some(Source::Fresh) if region.page_bits == LARGE_PAGE_BITS => {
                    shift(&mut region.first, Object::LargePage)
                }
                Some(Source::Fresh) => shift(&mut region.first, Object::SmallPage),
                Some(Source::Fixed) => region.first = U32::new(region.first.get() + slots),
                Some(Source::Image) | None => {}
            }
        }
        for pd in &mut self.tables.pds {
            shift(&mut pd.tcb, Object::Tcb);
            shift(&mut pd.pml4, Object::Pml4);
            shift(&mut pd.cnode, Object::CNode);
            shift(&mut pd.cnode_root, Object::CNodeRoot);
            shift(&mut pd.notification, Object::Notification);
            shift(&mut pd.endpoint, Object::Endpoint);
        }
        slots += self.fixed_slots;
        self.tables.header.monitor_endpoint = U32::new(monitor + base[&Object::Endpoint]);
        self.tables.header.slots = U32::new(slots);
        self.tables.header.ram = U64::new(ram);
        let pages = |mapping: &Mapping| u64::from(mapping.pages.count.get());
        let mapped_pages = self.tables.mappings.iter().map(pages).sum();
        let copies: u64 = self
            .tables
            .mappings
            .iter()
            .filter(|mapping| mapping.copy != 0)
            .map(pages)
            .sum();
        let irqs = 2 * self.tables.irqs.len() as u64;
        Finished {
            spec: self.tables.to_bytes(),
            content: self.content,
            ram,
            mapped_pages,
            slots: u64::from(slots) + copies + irqs,
        }
    }
}
