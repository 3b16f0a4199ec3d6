//! Builds an image from the system description and the program files: finds the files, fills in symbols,
//! assigns capabilities, and adds everything to a plan.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use branes_system::{
    BootInfo, ExtraCapKind, IrqSource, MemoryRegion, Prefill, ProtectionDomain as PdModel, System,
};
use initialiser_spec::{Irq, LARGE_PAGE_BITS, PAGE_SIZE, READ, SMALL_PAGE_BITS, WRITE};
use sel4::registry::badge;
use zerocopy::little_endian::{U32, U64};

use crate::elf::{Program, read};
use crate::grants;
use crate::layout::{IPC_BUFFER, Layout, STACK_TOP, Shared};
use crate::loader::{link, write_whole};
use crate::plan::{Finished, MapAt, PdPlan, Plan, RegionId};
use crate::{Error, Report};

/// A memory region in the plan: its parts with offset and size.
pub struct MadeRegion {
    parts: Vec<(RegionId, u64, u64)>,
    pub size: u64,
    pub prefill_size: u64,
}

/// Builds the image of `system` and writes it to `out`.
///
/// Programs are searched in `programs`, prefill files in `search_paths`, in order. `root_task` is the ELF
/// file of the initialiser. If there is an error, nothing is written.
pub fn build(
    system: &System,
    programs: &Path,
    search_paths: &[PathBuf],
    root_task: &Path,
    out: &Path,
) -> Result<Report, Error> {
    let root_task = Program::load(root_task, None)?;
    let (finished, report) = plan(system, programs, search_paths)?;
    let image = link(&root_task, &finished)?;
    write_whole(out, &image)?;
    Ok(Report {
        image_bytes: image.len() as u64,
        warning: warning(system),
        ..report
    })
}

/// Measures a system without building an image. Checks the programs against the description like [`build`].
pub fn measure(system: &System, programs: &Path, search_paths: &[PathBuf]) -> Result<Report, Error> {
    Ok(plan(system, programs, search_paths)?.1)
}

fn plan(system: &System, programs: &Path, search_paths: &[PathBuf]) -> Result<(Finished, Report), Error> {
    let mut builder = Builder {
        system,
        plan: Plan::default(),
        shared: Shared::default(),
        regions: HashMap::new(),
        programs: BTreeMap::new(),
        report: Report {
            pds: system.protection_domains.len(),
            ..Report::default()
        },
    };
    builder.load_programs(programs)?;
    builder.make_regions(search_paths)?;
    for (index, pd) in system.protection_domains.iter().enumerate() {
        builder.pd(index as u32, pd)?;
    }
    let finished = builder.plan.finish();
    let report = Report {
        spec_bytes: finished.spec.len() as u64,
        content_pages: finished.content.pages().len() as u64,
        ram_bytes: finished.ram,
        mapped_pages: finished.mapped_pages,
        slots: finished.slots,
        ..builder.report
    };
    Ok((finished, report))
}

/// Returns a line about features that this kernel cannot provide. The system runs without them.
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

/// The image under construction.
pub struct Builder<'a> {
    pub system: &'a System,
    plan: Plan,
    shared: Shared,
    pub regions: HashMap<String, MadeRegion>,
    pub programs: BTreeMap<(String, Option<String>), Program>,
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

/// Returns the initial contents of a region, empty if there is no file. The file must reach the region's last
/// page, because the tool of Microkit 2.3.0 panics otherwise.
fn prefill(region: &MemoryRegion, search_paths: &[PathBuf]) -> Result<Vec<u8>, Error> {
    let Prefill::File(file) = &region.prefill else {
        return Ok(Vec::new());
    };
    let path = find(&format!("memory region '{}'", region.name), file, search_paths)?;
    let bytes = read(&path)?;
    let len = bytes.len() as u64;
    let size = region.size.unwrap_or(len);
    let what = match len {
        0 => "it is empty: write something into it, or delete prefill_path".to_owned(),
        _ if len > size => "make the region larger".to_owned(),
        _ if size - len > region.page_size => format!(
            "it ends more than one page ({:#x} bytes) before the region does: make the region smaller, or append zeros \
             to the file",
            region.page_size
        ),
        _ => return Ok(bytes),
    };
    Err(Error::Prefill {
        region: region.name.clone(),
        size,
        path,
        len,
        what,
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

    /// Makes all regions that are mapped, those at fixed addresses first, in order. Like Microkit's tool,
    /// also checks the files of unmapped regions.
    fn make_regions(&mut self, search_paths: &[PathBuf]) -> Result<(), Error> {
        let maps = self.system.protection_domains.iter().flat_map(|pd| &pd.maps);
        let mapped: HashSet<&str> = maps.map(|map| map.mr.as_str()).collect();
        let (mut regions, unused): (Vec<&MemoryRegion>, Vec<&MemoryRegion>) = self
            .system
            .memory_regions
            .iter()
            .partition(|region| mapped.contains(region.name.as_str()));
        for region in unused {
            prefill(region, search_paths)?;
        }
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
        if matches!(region.prefill, Prefill::BootInfo(info) if info != BootInfo::X86TscFreq) {
            return Err(unsupported(
                "of the kernel's boot information only x86_tsc_freq is available",
            ));
        }
        let content = prefill(region, search_paths)?;
        let bits = if region.page_size == 1 << LARGE_PAGE_BITS {
            LARGE_PAGE_BITS
        } else {
            SMALL_PAGE_BITS
        };
        let page = 1u64 << bits;
        let size = region
            .size
            .unwrap_or((content.len() as u64).next_multiple_of(page));
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
            // The file's pages are in the image. They are mapped there, followed by zeroed pages.
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
            Prefill::File(_) if !is_image && !content.is_empty() => self.plan.copy_into(parts[0].0, &content),
            _ => {}
        }
        Ok(MadeRegion {
            parts,
            size,
            prefill_size: content.len() as u64,
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
                slot: U32::new(grants::slot::IRQ + u32::from(irq.id)),
                vector: U32::new(irq.vector.into()),
                msi: U32::new(msi),
                source: source.map(U32::new),
                badge: U64::new(badge::notification(irq.id.into())),
            });
        }
        Ok(())
    }
}
