//! From the system description and the program files to the image: finds the files, fills in the symbols, gives out
//! capabilities, and puts everything into a plan.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use branes_system::{
    BootInfo, ExtraCapKind, IrqSource, MemoryRegion, Prefill, ProtectionDomain as PdModel, System,
};
use initialiser_spec::{
    Cap, CapKind, GRANT, Irq, LARGE_PAGE_BITS, NONE, PAGE_SIZE, READ, SMALL_PAGE_BITS, WRITE, badge,
};
use zerocopy::little_endian::{U32, U64};

use crate::elf::{Program, read};
use crate::layout::{IPC_BUFFER, Layout, Patch, STACK_TOP, Shared};
use crate::loader::{link, write_whole};
use crate::plan::{MapAt, PdPlan, Plan, RegionId};
use crate::{Error, Report};

/// Slots of the capability table, as Microkit 2.3 numbers them.
mod slot {
    pub const INPUT: u32 = 1;
    pub const FAULT: u32 = 2;
    pub const VSPACE: u32 = 3;
    pub const NOTIFY: u32 = 10;
    pub const CALL: u32 = 74;
    pub const IRQ: u32 = 138;
    pub const CHILD: u32 = 202;
    pub const IOPORT: u32 = 394;
}

/// Bytes of the name that a program is given.
const NAME_LEN: usize = 64;

/// A memory region as made: parts with their offset and size.
struct MadeRegion {
    parts: Vec<(RegionId, u64, u64)>,
    size: u64,
    prefill_size: u64,
    paddr: Option<u64>,
}

/// Builds the image of `system` and writes it to `out`.
///
/// Programs are looked for in `programs`, prefill files in `search_paths`, in order. `root_task` is the ELF file of the
/// initialiser. On an error nothing is written.
pub fn build(
    system: &System,
    programs: &Path,
    search_paths: &[PathBuf],
    root_task: &Path,
    out: &Path,
) -> Result<Report, Error> {
    let mut builder = Builder {
        system,
        plan: Plan::default(),
        shared: Shared::default(),
        regions: HashMap::new(),
        programs: BTreeMap::new(),
        report: Report {
            warning: warning(system),
            pds: system.protection_domains.len(),
            ..Report::default()
        },
    };
    let root_task = Program::load(root_task, None)?;
    builder.load_programs(programs)?;
    builder.make_regions(search_paths)?;
    for (index, pd) in system.protection_domains.iter().enumerate() {
        builder.pd(index as u32, pd)?;
    }
    let finished = builder.plan.finish();
    let image = link(&root_task, &finished)?;
    write_whole(out, &image)?;
    Ok(Report {
        image_bytes: image.len() as u64,
        spec_bytes: finished.spec.len() as u64,
        content_pages: finished.content.pages().len() as u64,
        ram_bytes: finished.ram,
        mapped_pages: finished.mapped_pages,
        slots: finished.slots,
        ..builder.report
    })
}

/// One line on what this kernel cannot honour; the system runs without it.
fn warning(system: &System) -> Option<String> {
    let mut what = Vec::new();
    let pds = |wanted: fn(&PdModel) -> bool| system.protection_domains.iter().any(wanted);
    if pds(|pd| pd.budget_given) {
        what.push("CPU budgets");
    }
    if pds(|pd| pd.passive) {
        what.push("passive protection domains (they run as active ones)");
    }
    if !system.domains.is_empty() {
        what.push("scheduling domains");
    }
    if !system.io_address_spaces.is_empty() {
        what.push("IOMMU address spaces (devices reach all memory)");
    }
    if pds(|pd| {
        pd.cspace
            .iter()
            .any(|cap| cap.kind == ExtraCapKind::SchedulingContext)
    }) {
        what.push("scheduling-context capabilities");
    }
    (!what.is_empty()).then(|| format!("the registry kernel does not honour: {}", what.join(", ")))
}

struct Builder<'a> {
    system: &'a System,
    plan: Plan,
    shared: Shared,
    regions: HashMap<String, MadeRegion>,
    programs: BTreeMap<(String, Option<String>), Program>,
    report: Report,
}

fn find(who: &str, name: &str, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let path = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    path.ok_or_else(|| Error::NotFound {
        who: who.into(),
        name: name.into(),
        searched: folders.to_vec(),
    })
}

impl Builder<'_> {
    fn load_programs(&mut self, folder: &Path) -> Result<(), Error> {
        let folders = [folder.to_path_buf()];
        for pd in &self.system.protection_domains {
            let key = (pd.program.clone(), pd.program_for_symbols.clone());
            if let std::collections::btree_map::Entry::Vacant(place) = self.programs.entry(key) {
                let who = format!("protection domain '{}'", pd.name);
                let path = find(&who, &pd.program, &folders)?;
                let symbols = pd
                    .program_for_symbols
                    .as_ref()
                    .map(|name| find(&who, name, &folders))
                    .transpose()?;
                place.insert(Program::load(&path, symbols.as_deref())?);
            }
        }
        Ok(())
    }

    /// Makes the regions that somebody maps; those at fixed addresses first, in order.
    fn make_regions(&mut self, search_paths: &[PathBuf]) -> Result<(), Error> {
        let maps = self.system.protection_domains.iter().flat_map(|pd| &pd.maps);
        let mapped: HashSet<&str> = maps.map(|map| map.mr.as_str()).collect();
        let mut regions: Vec<&MemoryRegion> = self
            .system
            .memory_regions
            .iter()
            .filter(|region| mapped.contains(region.name.as_str()))
            .collect();
        regions.sort_by_key(|region| (region.phys_addr.is_none(), region.phys_addr));
        for region in regions {
            let made = self.make_region(region, search_paths)?;
            self.regions.insert(region.name.clone(), made);
        }
        Ok(())
    }

    fn make_region(&mut self, region: &MemoryRegion, search_paths: &[PathBuf]) -> Result<MadeRegion, Error> {
        let name = &region.name;
        let who = || format!("memory region '{name}'");
        let unsupported = |what: &str| Error::Unsupported {
            who: who(),
            what: what.into(),
        };
        let file = match &region.prefill {
            Prefill::File(file) => {
                let path = find(&who(), file, search_paths)?;
                let bytes = read(&path)?;
                Some((path, bytes))
            }
            Prefill::BootInfo(BootInfo::X86TscFreq) | Prefill::None => None,
            Prefill::BootInfo(_) => {
                return Err(unsupported(
                    "of the kernel's boot information only x86_tsc_freq is available",
                ));
            }
        };
        let content: &[u8] = file.as_ref().map_or(&[], |(_, bytes)| bytes);
        let bits = if region.page_size == 1 << LARGE_PAGE_BITS {
            LARGE_PAGE_BITS
        } else {
            SMALL_PAGE_BITS
        };
        let page = 1u64 << bits;
        let size = region
            .size
            .unwrap_or((content.len() as u64).next_multiple_of(page));
        if let Some((path, bytes)) = &file
            && bytes.len() as u64 > size
        {
            let (region, path) = (name.clone(), path.clone());
            return Err(Error::Prefill {
                region,
                size,
                path,
                len: bytes.len() as u64,
            });
        }
        let count = u32::try_from(size / page)
            .ok()
            .filter(|&count| count > 0 && size.is_multiple_of(page));
        let Some(count) = count else {
            return Err(unsupported("its size is not a number of its pages"));
        };
        let mut parts = Vec::new();
        if let Some(paddr) = region.phys_addr {
            parts.push((self.plan.fixed_region(name, bits, count, paddr), 0, size));
            if Report::is_ram(paddr) {
                self.report.fixed_ram.push((paddr, paddr + size, name.clone()));
            }
        } else if bits == SMALL_PAGE_BITS && !content.is_empty() {
            // The file's pages are in the image: they are mapped as they are, with zeroed ones behind.
            let numbers: Vec<u32> = content
                .chunks(PAGE_SIZE)
                .map(|chunk| {
                    let mut bytes = [0; PAGE_SIZE];
                    bytes[..chunk.len()].copy_from_slice(chunk);
                    self.plan.content.private(&bytes)
                })
                .collect();
            let filled = numbers.len() as u64 * page;
            parts.push((
                self.plan.image_region(name, numbers[0], numbers.len() as u32),
                0,
                filled,
            ));
            if filled < size {
                let rest = ((size - filled) / page) as u32;
                parts.push((self.plan.fresh_region(name, bits, rest), filled, size - filled));
            }
        } else {
            parts.push((self.plan.fresh_region(name, bits, count), 0, size));
        }
        let is_image = bits == SMALL_PAGE_BITS && region.phys_addr.is_none();
        match region.prefill {
            Prefill::BootInfo(_) => self.plan.fill_with_tsc(parts[0].0),
            Prefill::File(_) if !is_image && !content.is_empty() => self.plan.copy_into(parts[0].0, content),
            _ => {}
        }
        Ok(MadeRegion {
            parts,
            size,
            prefill_size: content.len() as u64,
            paddr: region.phys_addr,
        })
    }

    fn pd(&mut self, index: u32, pd: &PdModel) -> Result<(), Error> {
        let patches = self.patches(pd)?;
        let program = &self.programs[&(pd.program.clone(), pd.program_for_symbols.clone())];
        let mut layout = Layout::new(&pd.name);
        layout.program(&mut self.plan, &mut self.shared, program, &patches);
        let ipc_region = layout.stack_and_ipc_buffer(&mut self.plan, pd.stack_size);
        for map in &pd.maps {
            let Some(region) = self.regions.get(&map.mr) else {
                continue;
            };
            let rights = if map.write { READ | WRITE } else { READ };
            for &(part, offset, size) in &region.parts {
                let vaddr = map.vaddr.saturating_add(offset);
                let what = format!("the map of memory region '{}'", map.mr);
                layout.map(
                    MapAt {
                        vaddr,
                        region: part,
                        rights,
                        cached: map.cached,
                    },
                    size,
                    what,
                );
            }
        }
        layout.check()?;
        let has_children = self.system.children(&pd.name).next().is_some();
        let has_callers = self.system.ends(&pd.name).any(|(_, other)| other.pp);
        let entry = program.entry;
        let id = self.plan.pd(
            &PdPlan {
                name: pd.name.clone(),
                priority: pd.priority,
                entry,
                stack_top: STACK_TOP,
                ipc_buffer: IPC_BUFFER,
                ipc_region,
                has_endpoint: has_children || has_callers,
                has_extras: !pd.cspace.is_empty(),
            },
            layout.maps,
        );
        let caps = self.caps(index, pd, has_children || has_callers);
        self.plan.caps(id, caps);
        for irq in &pd.irqs {
            let (msi, source) = match irq.source {
                IrqSource::IoApic {
                    ioapic,
                    pin,
                    level,
                    active_low,
                } => (0, [ioapic.into(), pin.into(), level.into(), active_low.into()]),
                IrqSource::Msi {
                    bus,
                    device,
                    function,
                    handle,
                } => (1, [bus.into(), device.into(), function.into(), handle.into()]),
            };
            self.plan.irq(Irq {
                pd: U32::new(index),
                slot: U32::new(slot::IRQ + u32::from(irq.id)),
                vector: U32::new(irq.vector.into()),
                msi: U32::new(msi),
                source: source.map(U32::new),
                badge: U64::new(badge::notification(irq.id.into())),
            });
        }
        Ok(())
    }

    fn index(&self, name: &str) -> u32 {
        self.system
            .protection_domains
            .iter()
            .position(|pd| pd.name == name)
            .map_or(NONE, |index| index as u32)
    }

    fn caps(&self, index: u32, pd: &PdModel, has_endpoint: bool) -> Vec<Cap> {
        let mut caps = Vec::new();
        let mut give = |slot: u32, kind: CapKind, rights: u8, target: u32, data: u64| {
            let (slot, target, data) = (U32::new(slot), U32::new(target), U64::new(data));
            caps.push(Cap {
                slot,
                kind: kind as u8,
                rights,
                reserved: [0; 2],
                target,
                data,
            });
        };
        let input = if has_endpoint {
            CapKind::Endpoint
        } else {
            CapKind::Notification
        };
        give(slot::INPUT, input, READ, index, 0);
        match (&pd.parent, pd.child_id) {
            (Some(parent), Some(child)) => {
                let data = badge::fault(child.into());
                give(
                    slot::FAULT,
                    CapKind::Endpoint,
                    WRITE | GRANT,
                    self.index(parent),
                    data,
                );
            }
            _ => give(
                slot::FAULT,
                CapKind::Monitor,
                WRITE | GRANT,
                NONE,
                u64::from(index) + 1,
            ),
        }
        give(slot::VSPACE, CapKind::VSpace, READ | WRITE | GRANT, index, 0);
        for (own, other) in self.system.ends(&pd.name) {
            let target = self.index(&other.pd);
            let (id, other_id) = (u32::from(own.id), u32::from(other.id));
            if own.notify {
                give(
                    slot::NOTIFY + id,
                    CapKind::Notification,
                    WRITE,
                    target,
                    badge::notification(other_id),
                );
            }
            if own.pp {
                give(
                    slot::CALL + id,
                    CapKind::Endpoint,
                    WRITE | GRANT,
                    target,
                    badge::call(other_id),
                );
            }
        }
        for child in self.system.children(&pd.name) {
            if let Some(id) = child.child_id {
                give(
                    slot::CHILD + u32::from(id),
                    CapKind::Tcb,
                    READ | WRITE | GRANT,
                    self.index(&child.name),
                    0,
                );
            }
        }
        for ports in &pd.ioports {
            let last = u64::from(ports.addr) + u64::from(ports.size) - 1;
            let data = u64::from(ports.addr) << 16 | last;
            give(
                slot::IOPORT + u32::from(ports.id),
                CapKind::IoPorts,
                READ | WRITE | GRANT,
                NONE,
                data,
            );
        }
        for extra in &pd.cspace {
            let kind = match extra.kind {
                ExtraCapKind::Tcb => CapKind::Tcb,
                ExtraCapKind::VSpace => CapKind::VSpace,
                ExtraCapKind::SchedulingContext => continue,
            };
            let slot = Cap::ROOT_SLOT + u32::from(extra.slot);
            give(slot, kind, READ | WRITE | GRANT, self.index(&extra.pd), 0);
        }
        caps
    }

    /// Everything that is written into the program before it runs: Microkit's own symbols and the setvar ones.
    fn patches(&self, pd: &PdModel) -> Result<Vec<Patch>, Error> {
        let program = &self.programs[&(pd.program.clone(), pd.program_for_symbols.clone())];
        let mut patches = Vec::new();
        let mut used = HashSet::new();
        let mut put = |symbol: &str, sizes: &[u64], bytes: &[u8]| {
            let address = program.symbol(&pd.name, symbol, sizes)?;
            if !used.insert(symbol.to_owned()) {
                return Err(Error::Symbol {
                    pd: pd.name.clone(),
                    symbol: symbol.into(),
                    path: program.path.clone(),
                    what: "is the target of two setvar attributes; give each its own symbol".into(),
                });
            }
            patches.push(Patch {
                address,
                bytes: bytes.to_vec(),
            });
            Ok(())
        };
        let mut name = pd.name.as_bytes().to_vec();
        name.resize(NAME_LEN, 0);
        let bits =
            |ids: &mut dyn Iterator<Item = u8>| ids.fold(0u64, |bits, id| bits | 1 << id).to_le_bytes();
        let own_ends = || self.system.ends(&pd.name).map(|(own, _)| own);
        put("microkit_name", &[NAME_LEN as u64], &name)?;
        put("microkit_passive", &[1], &[u8::from(pd.passive)])?;
        put(
            "microkit_irqs",
            &[8],
            &bits(&mut pd.irqs.iter().map(|irq| irq.id)),
        )?;
        let notifications = bits(&mut own_ends().filter(|end| end.notify).map(|end| end.id));
        put("microkit_notifications", &[8], &notifications)?;
        put(
            "microkit_pps",
            &[8],
            &bits(&mut own_ends().filter(|end| end.pp).map(|end| end.id)),
        )?;
        put(
            "microkit_ioports",
            &[8],
            &bits(&mut pd.ioports.iter().map(|ports| ports.id)),
        )?;

        let mut set = |symbol: &Option<String>, value: u64| match symbol {
            Some(symbol) => put(symbol, &[8], &value.to_le_bytes()),
            None => Ok(()),
        };
        for end in own_ends() {
            set(&end.setvar_id, end.id.into())?;
        }
        for irq in &pd.irqs {
            set(&irq.setvar_id, irq.id.into())?;
        }
        for ports in &pd.ioports {
            set(&ports.setvar_id, ports.id.into())?;
            set(&ports.setvar_addr, ports.addr.into())?;
        }
        for child in self.system.children(&pd.name) {
            set(&child.setvar_id, child.child_id.unwrap_or(0).into())?;
        }
        for map in &pd.maps {
            let Some(region) = self.regions.get(&map.mr) else {
                continue;
            };
            set(&map.setvar_vaddr, map.vaddr)?;
            set(&map.setvar_size, region.size)?;
            set(&map.setvar_prefill_size, region.prefill_size)?;
        }
        for setvar in &pd.setvars {
            let region = self.system.region(&setvar.region);
            let made = self.regions.get(&setvar.region).and_then(|region| region.paddr);
            let Some(paddr) = made.or(region.and_then(|region| region.phys_addr)) else {
                return Err(Error::Unsupported {
                    who: format!("protection domain '{}'", pd.name),
                    what: format!(
                        "setvar '{}' asks for the physical address of '{}': give that region a phys_addr",
                        setvar.symbol, setvar.region
                    ),
                });
            };
            set(&Some(setvar.symbol.clone()), paddr)?;
        }
        Ok(patches)
    }
}
