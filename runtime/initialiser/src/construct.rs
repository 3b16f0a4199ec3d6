//! Builds the described system: objects, contents, address spaces, capabilities, interrupts, threads.
//!
//! The image builder wrote the description, and the parser has checked it. No protection domain can influence
//! a step, because none runs before all is built.

use core::fmt;

use initialiser_spec::{
    CNODE_BITS, CNODE_ROOT_BITS, Cap, CapKind, Fill, GRANT, Irq, LARGE_PAGE_BITS, NONE, Object, PAGE_SIZE,
    Payload, Pd, READ, Region, Source, Spec, WRITE,
};
use sel4::Refused;
use zerocopy::little_endian::U32;

use crate::kernel::{BootInfo, Kernel, Slot, ThreadConfig, guard, initial, object};
use crate::untyped::{Memory, Shortage};

/// Addresses of regions in the root task's own address space while it fills them: large pages at the first
/// address, small ones 2 MiB above. The image is far below.
const WINDOW: u64 = 0x10_0000_0000;
const SMALL_WINDOW: u64 = WINDOW + (1 << LARGE_PAGE_BITS);

/// Slot of a protection domain's fault endpoint.
const FAULT_ENDPOINT: u64 = 2;

/// Reason why the system could not be built.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    what: &'static str,
    name: &'a str,
    cause: Cause,
}

#[derive(Clone, Copy)]
enum Cause {
    Memory { missing: u64 },
    Address(u64),
    Slots,
    Refused(Refused),
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}': ", self.what, self.name)?;
        match self.cause {
            Cause::Memory { missing } => {
                let mib = missing.div_ceil(1 << 20);
                write!(
                    f,
                    "out of memory, about {mib} MiB more are needed: give the machine more"
                )
            }
            Cause::Address(at) => {
                write!(
                    f,
                    "no free memory or device at physical address {at:#x}: is the machine large enough for it?"
                )
            }
            Cause::Slots => {
                f.write_str("the root task's capability table is full: fewer pages or larger ones")
            }
            Cause::Refused(refusal) => write!(f, "the kernel refused: {refusal}"),
        }
    }
}

/// The build in progress.
pub struct Construction<'k, 'a> {
    kernel: &'k mut Kernel,
    memory: &'k mut Memory,
    spec: &'a Spec<'a>,
    payload: &'a Payload,
    info: &'a BootInfo,
    base: Slot,
    used_pdpts: u32,
    used_directories: u32,
    used_tables: u32,
}

impl<'k, 'a> Construction<'k, 'a> {
    /// Makes a construction from the kernel's capabilities and the image's description.
    pub fn new(
        kernel: &'k mut Kernel,
        memory: &'k mut Memory,
        spec: &'a Spec<'a>,
        payload: &'a Payload,
        info: &'a BootInfo,
    ) -> Self {
        let base = info.empty.start as Slot;
        memory.init(
            info,
            base + spec.header.slots.get() as Slot,
            spec.header.ram.get(),
        );
        Construction {
            kernel,
            memory,
            spec,
            payload,
            info,
            base,
            used_pdpts: 0,
            used_directories: 0,
            used_tables: 0,
        }
    }

    fn at(&self, relative: U32) -> Slot {
        self.base + relative.get() as Slot
    }

    /// Builds everything. No thread runs yet.
    pub fn build(&mut self) -> Result<(), Failure<'a>> {
        let spec = self.spec;
        if self.base + spec.header.slots.get() as Slot > self.info.empty.end as Slot {
            return Err(Failure {
                what: "system",
                name: "all objects",
                cause: Cause::Slots,
            });
        }
        self.make_fixed_regions()?;
        self.make_objects()?;
        self.fill_regions()?;
        for pd in spec.pds {
            self.build_space(pd)
                .map_err(|cause| failure("protection domain", spec.text(pd.name), cause))?;
            self.give_caps(pd)
                .map_err(|cause| failure("protection domain", spec.text(pd.name), cause.into()))?;
        }
        for irq in spec.irqs {
            let pd = &spec.pds[irq.pd.get() as usize];
            self.give_irq(pd, irq)
                .map_err(|cause| failure("interrupt of", spec.text(pd.name), cause))?;
        }
        for pd in spec.pds {
            self.make_thread(pd)
                .map_err(|cause| failure("thread of", spec.text(pd.name), cause.into()))?;
        }
        Ok(())
    }

    /// Starts all threads. They run as soon as the root task waits, in order of priority.
    pub fn start(&mut self) -> Result<(), Failure<'a>> {
        let spec = self.spec;
        for priority in (0..=u8::MAX).rev() {
            for pd in spec.pds.iter().filter(|pd| pd.priority == priority) {
                let tcb = self.at(pd.tcb);
                self.kernel
                    .resume(tcb)
                    .map_err(|refusal| failure("thread of", spec.text(pd.name), refusal.into()))?;
            }
        }
        Ok(())
    }

    fn make_fixed_regions(&mut self) -> Result<(), Failure<'a>> {
        let spec = self.spec;
        for region in spec
            .regions
            .iter()
            .filter(|region| region.source == Source::Fixed as u8)
        {
            let first = self.at(region.first);
            self.memory
                .make_at(
                    self.kernel,
                    region.paddr.get(),
                    region.page_bits,
                    first,
                    region.pages.get(),
                )
                .map_err(|shortage| failure("memory region", spec.text(region.name), shortage))?;
        }
        Ok(())
    }

    fn make_objects(&mut self) -> Result<(), Failure<'a>> {
        for batch in self.spec.batches {
            let Some(kind) = Object::from_u8(batch.object) else {
                continue;
            };
            let (first, count) = (self.at(batch.slots.first), batch.slots.count.get());
            self.memory
                .make(self.kernel, kernel_object(kind), kind.size_bits(), first, count)
                .map_err(|shortage| {
                    let made = if let Shortage::Ram(made) = shortage {
                        made
                    } else {
                        0
                    };
                    let (what, name) = self.owner(kind, batch.slots.first.get() + made);
                    let cause = match shortage {
                        Shortage::Ram(_) => Cause::Memory {
                            missing: self.memory.needed,
                        },
                        other => other.into(),
                    };
                    Failure { what, name, cause }
                })?;
        }
        Ok(())
    }

    /// Returns the owner of the object in a relative slot.
    fn owner(&self, kind: Object, slot: u32) -> (&'static str, &'a str) {
        let spec = self.spec;
        let region = |r: &&Region| {
            r.source == Source::Fresh as u8
                && (r.first.get()..r.first.get() + r.pages.get()).contains(&slot)
                && matches!(kind, Object::LargePage | Object::SmallPage)
        };
        if let Some(region) = spec.regions.iter().find(region) {
            return ("memory region", spec.text(region.name));
        }
        let pd = |pd: &&Pd| {
            [
                pd.tcb,
                pd.pml4,
                pd.cnode,
                pd.cnode_root,
                pd.notification,
                pd.endpoint,
            ]
            .contains(&U32::new(slot))
        };
        match spec.pds.iter().find(pd) {
            Some(pd) => ("protection domain", spec.text(pd.name)),
            None => ("system", "page tables"),
        }
    }

    fn fill_regions(&mut self) -> Result<(), Failure<'a>> {
        let spec = self.spec;
        let mut window_is_open = false;
        for region in spec
            .regions
            .iter()
            .filter(|region| region.fill != Fill::None as u8)
        {
            self.fill(region, &mut window_is_open)
                .map_err(|cause| failure("contents of memory region", spec.text(region.name), cause))?;
        }
        Ok(())
    }

    fn fill(&mut self, region: &Region, window_is_open: &mut bool) -> Result<(), Shortage> {
        if !*window_is_open {
            self.map_directory(initial::VSPACE, WINDOW)?;
            self.map_table(initial::VSPACE, SMALL_WINDOW)?;
            *window_is_open = true;
        }
        let mut chunk = [0u8; 20];
        let content: &[u8] = if region.fill == Fill::Copy as u8 {
            let start = self.payload.pages_start as usize + region.content.get() as usize * PAGE_SIZE;
            // SAFETY: the content pages are part of the root task's image, the parser has checked that the range is
            // within them, and nothing writes them.
            unsafe { core::slice::from_raw_parts(start as *const u8, region.content_len.get() as usize) }
        } else {
            let mhz = self.info.tsc_mhz;
            chunk[..8].copy_from_slice(&5u64.to_le_bytes());
            chunk[8..16].copy_from_slice(&20u64.to_le_bytes());
            chunk[16..].copy_from_slice(&(mhz as u32).to_le_bytes());
            &chunk
        };
        let window = if region.page_bits == LARGE_PAGE_BITS {
            WINDOW
        } else {
            SMALL_WINDOW
        };
        for (i, part) in content.chunks(1 << region.page_bits).enumerate() {
            let page = self.at(region.first) + i;
            self.kernel.map_page(page, initial::VSPACE, window, 3, 0)?;
            // SAFETY: the page was just mapped there for writing, and nothing else is at that address; `part` is at
            // most a page.
            unsafe { core::ptr::copy_nonoverlapping(part.as_ptr(), window as *mut u8, part.len()) };
            self.kernel.unmap_page(page)?;
        }
        Ok(())
    }

    fn take(used: &mut u32, run: initialiser_spec::Run) -> Result<u32, Shortage> {
        if *used >= run.count.get() {
            return Err(Shortage::Slots);
        }
        *used += 1;
        Ok(run.first.get() + *used - 1)
    }

    fn map_pdpt(&mut self, pml4: Slot, vaddr: u64) -> Result<(), Shortage> {
        let slot = self.base + Self::take(&mut self.used_pdpts, self.spec.header.pdpts)? as Slot;
        Ok(self.kernel.map_pdpt(slot, pml4, vaddr)?)
    }

    fn map_directory(&mut self, pml4: Slot, vaddr: u64) -> Result<(), Shortage> {
        let run = self.spec.header.page_directories;
        let slot = self.base + Self::take(&mut self.used_directories, run)? as Slot;
        Ok(self.kernel.map_page_directory(slot, pml4, vaddr)?)
    }

    fn map_table(&mut self, pml4: Slot, vaddr: u64) -> Result<(), Shortage> {
        let slot = self.base + Self::take(&mut self.used_tables, self.spec.header.page_tables)? as Slot;
        Ok(self.kernel.map_page_table(slot, pml4, vaddr)?)
    }

    /// Maps all pages of a protection domain. Its mappings are sorted by address, so a paging structure is
    /// needed when an address first crosses into it.
    fn build_space(&mut self, pd: &Pd) -> Result<(), Shortage> {
        let pml4 = self.at(pd.pml4);
        self.kernel.assign_asid(pml4)?;
        let (mut pdpt, mut directory, mut table) = (u64::MAX, u64::MAX, u64::MAX);
        for mapping in &self.spec.mappings[pd.mappings.range()] {
            let region = &self.spec.regions[mapping.region.get() as usize];
            let bits = region.page_bits;
            // The kernel's numbers: 1 write, 2 read; 0 write-back, 2 not cached.
            let rights = kernel_rights(mapping.rights);
            let attributes = if mapping.cached != 0 { 0 } else { 2 };
            let image_frames = self.info.user_image_frames.start as Slot;
            let first = if region.source == Source::Image as u8 {
                let image_page = (self.payload.pages_start - self.payload.image_start) as usize / PAGE_SIZE;
                image_frames + image_page + region.first.get() as usize
            } else {
                self.at(region.first)
            } + mapping.pages.first.get() as usize;
            for i in 0..mapping.pages.count.get() as usize {
                let vaddr = mapping.vaddr.get() + ((i as u64) << bits);
                if pdpt != vaddr >> 39 {
                    pdpt = vaddr >> 39;
                    self.map_pdpt(pml4, vaddr)?;
                }
                if directory != vaddr >> 30 {
                    directory = vaddr >> 30;
                    self.map_directory(pml4, vaddr)?;
                }
                if bits != LARGE_PAGE_BITS && table != vaddr >> 21 {
                    table = vaddr >> 21;
                    self.map_table(pml4, vaddr)?;
                }
                let mut page = first + i;
                if mapping.copy != 0 {
                    let copy = self.memory.slot()?;
                    self.kernel.copy(page, copy)?;
                    page = copy;
                }
                self.kernel.map_page(page, pml4, vaddr, rights, attributes)?;
            }
        }
        Ok(())
    }

    fn give_caps(&mut self, pd: &Pd) -> Result<(), Refused> {
        let table = self.at(pd.cnode);
        let has_root = pd.cnode_root.get() != NONE;
        if has_root {
            let bits = 64 - CNODE_BITS - CNODE_ROOT_BITS;
            let root = self.at(pd.cnode_root);
            self.kernel
                .mint(root, 0, CNODE_ROOT_BITS, table, 7, guard(bits))?;
        }
        for cap in &self.spec.caps[pd.caps.range()] {
            let Some(kind) = CapKind::from_u8(cap.kind) else {
                continue;
            };
            let target = self.spec.pds.get(cap.target.get() as usize).unwrap_or(pd);
            let from = match kind {
                CapKind::Notification => self.at(target.notification),
                CapKind::Endpoint => self.at(target.endpoint),
                CapKind::Monitor => self.at(self.spec.header.monitor_endpoint),
                CapKind::VSpace => self.at(target.pml4),
                CapKind::Tcb => self.at(target.tcb),
                CapKind::IoPorts => initial::IO_PORTS,
            };
            let slot = cap.slot.get();
            let (table, slot, depth) = if slot >= Cap::ROOT_SLOT && has_root {
                (self.at(pd.cnode_root), slot - Cap::ROOT_SLOT, CNODE_ROOT_BITS)
            } else {
                (table, slot, CNODE_BITS)
            };
            let rights = kernel_rights(cap.rights);
            self.kernel
                .mint(table, u64::from(slot), depth, from, rights, cap.data.get())?;
        }
        Ok(())
    }

    fn give_irq(&mut self, pd: &Pd, irq: &Irq) -> Result<(), Shortage> {
        let source = irq.source.map(|word| u64::from(word.get()));
        let vector = u64::from(irq.vector.get());
        let handler = self.memory.slot()?;
        if irq.msi.get() != 0 {
            self.kernel.irq_msi(handler, source, vector)?;
        } else {
            self.kernel.irq_ioapic(handler, source, vector)?;
        }
        let notification = self.memory.slot()?;
        let own = self.at(pd.notification);
        let write = kernel_rights(WRITE);
        self.kernel.mint(
            initial::CNODE,
            notification as u64,
            64,
            own,
            write,
            irq.badge.get(),
        )?;
        self.kernel.set_irq_notification(handler, notification)?;
        let slot = u64::from(irq.slot.get());
        self.kernel
            .mint(self.at(pd.cnode), slot, CNODE_BITS, handler, 7, 0)?;
        Ok(())
    }

    fn make_thread(&mut self, pd: &Pd) -> Result<(), Refused> {
        let tcb = self.at(pd.tcb);
        let (cspace, cspace_data) = match pd.cnode_root.get() {
            NONE => (self.at(pd.cnode), guard(64 - CNODE_BITS)),
            _ => (self.at(pd.cnode_root), 0),
        };
        let ipc_page = self.at(self.spec.regions[pd.ipc_region.get() as usize].first);
        self.kernel.configure(
            tcb,
            &ThreadConfig {
                fault_endpoint: FAULT_ENDPOINT,
                priority: pd.priority,
                cspace,
                cspace_data,
                vspace: self.at(pd.pml4),
                ipc_buffer: pd.ipc_buffer.get(),
                ipc_page,
            },
        )?;
        let notification = self.at(pd.notification);
        self.kernel.bind_notification(tcb, notification)?;
        self.kernel.set_start(tcb, pd.entry.get(), pd.stack_top.get())
    }
}

fn failure<'a>(what: &'static str, name: &'a str, shortage: Shortage) -> Failure<'a> {
    Failure {
        what,
        name,
        cause: shortage.into(),
    }
}

impl From<Shortage> for Cause {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::Ram(_) => Cause::Memory { missing: 0 },
            Shortage::Address(at) => Cause::Address(at),
            Shortage::Slots => Cause::Slots,
            Shortage::Refused(refusal) => Cause::Refused(refusal),
        }
    }
}

/// Converts rights to the kernel's numbering: 1 write, 2 read, 4 grant.
fn kernel_rights(rights: u8) -> u64 {
    u64::from(rights & WRITE != 0) | u64::from(rights & READ != 0) << 1 | u64::from(rights & GRANT != 0) << 2
}

fn kernel_object(kind: Object) -> usize {
    match kind {
        Object::LargePage => object::LARGE_PAGE,
        Object::CNode | Object::CNodeRoot => object::CAP_TABLE,
        Object::SmallPage => object::SMALL_PAGE,
        Object::Pml4 => object::PML4,
        Object::Pdpt => object::PDPT,
        Object::PageDirectory => object::PAGE_DIRECTORY,
        Object::PageTable => object::PAGE_TABLE,
        Object::Tcb => object::TCB,
        Object::Notification => object::NOTIFICATION,
        Object::Endpoint => object::ENDPOINT,
    }
}
