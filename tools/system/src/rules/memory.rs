//! Regions, mappings and sharing.

use super::unknown_region;
use crate::parse::{LARGE_PAGE, SMALL_PAGE};
use crate::*;
use std::collections::{HashMap, HashSet};

/// Top of every stack. A guard page and the IPC buffer are above it.
const STACK_TOP: u64 = 0x7fff_ffff_d000;
/// Maximum of pages of a region: the initial task has no more slots for capabilities. Microkit's tool has no
/// limit and exhausts memory.
const MAX_PAGES: u64 = 0xffff;
/// End of device addresses: Microkit's tool makes three levels of page tables for the IOMMU.
const IO_TOP: u64 = 1 << 39;

/// Sets page sizes that the file does not give. By the format's rule these are 2 MiB if size, physical
/// address and every mapping allow it and the region is in no I/O address space. Otherwise they are 4 KiB.
pub fn settle_page_sizes(system: &mut System) {
    let devices = system.io_address_spaces.iter().flat_map(|space| &space.maps);
    let devices: HashSet<&str> = devices.map(|map| map.mr.as_str()).collect();
    let mut maps: HashMap<&str, Vec<u64>> = HashMap::new();
    for map in system.protection_domains.iter().flat_map(|pd| &pd.maps) {
        maps.entry(&map.mr).or_default().push(map.vaddr);
    }
    for region in system.memory_regions.iter_mut().filter(|r| !r.page_size_given) {
        let places = maps.get(region.name.as_str()).into_iter().flatten().copied();
        let mut places = places.chain(region.phys_addr).chain(region.size);
        let can_be = region.size.is_some() && !devices.contains(region.name.as_str());
        let large = can_be && places.all(|place| place.is_multiple_of(LARGE_PAGE));
        region.page_size = if large { LARGE_PAGE } else { SMALL_PAGE };
    }
}

/// Checks regions, mappings and sharing.
pub fn check(system: &System, errors: &mut Errors) {
    sizes(system, errors);
    physical(system, errors);
    for pd in &system.protection_domains {
        mappings(system, pd, errors);
    }
    sharing(system, errors);
    iommu(system, errors);
}

fn sizes(system: &System, errors: &mut Errors) {
    for region in &system.memory_regions {
        let pages = region.size.unwrap_or(0) / region.page_size;
        if pages > MAX_PAGES {
            let what = format!("memory region `{}` has {pages} pages", region.name);
            let help = format!("{MAX_PAGES} are allowed; larger ones are of page_size=\"0x200000\"");
            errors.add("region-pages", region.position, what, help);
        }
    }
}

fn physical(system: &System, errors: &mut Errors) {
    let mut fixed: Vec<(u64, u64, &str)> = Vec::new();
    for region in &system.memory_regions {
        let Some(start) = region.phys_addr else { continue };
        let end = start.saturating_add(region.size.unwrap_or(region.page_size));
        if let Some(other) = overlapping(&fixed, start, end) {
            let what = format!(
                "memory region `{}` overlaps `{other}` in physical memory",
                region.name
            );
            errors.add("phys-overlap", region.position, what, "move one of them");
        }
        fixed.push((start, end, &region.name));
    }
}

fn overlapping<'a>(taken: &[(u64, u64, &'a str)], start: u64, end: u64) -> Option<&'a str> {
    let found = taken.iter().find(|(s, e, _)| start < *e && *s < end);
    found.map(|(_, _, name)| *name)
}

fn mappings(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let limit = STACK_TOP.saturating_sub(pd.stack_size).saturating_sub(SMALL_PAGE);
    let mut taken: Vec<(u64, u64, &str)> = Vec::new();
    for map in &pd.maps {
        let Some(region) = system.region(&map.mr) else {
            unknown_region(&format!("`{}`", pd.name), &map.mr, map.position, system, errors);
            continue;
        };
        let page = region.page_size;
        if !map.vaddr.is_multiple_of(page) || map.vaddr == 0 {
            let what = format!("`{}` maps `{}` at {:#x}", pd.name, map.mr, map.vaddr);
            let help = format!("use a multiple of the region's page size, {page:#x}, above 0");
            errors.add("map-align", map.position, what, help);
        }
        let end = map.vaddr.saturating_add(region.size.unwrap_or(page));
        if end > limit {
            let what = format!("`{}` maps `{}` up to {end:#x}", pd.name, map.mr);
            let help = format!("stay below the stack and its guard page, at {limit:#x}");
            errors.add("map-stack", map.position, what, help);
        }
        if let Some(other) = overlapping(&taken, map.vaddr, end) {
            let what = format!("`{}` maps `{}` over `{other}`", pd.name, map.mr);
            errors.add("map-overlap", map.position, what, "move one of them");
        }
        taken.push((map.vaddr, end, &map.mr));
        if map.write && map.execute {
            let what = format!("`{}` maps `{}` writable and executable", pd.name, map.mr);
            let help = "code is not written: use perms=\"rw\" or perms=\"rx\"";
            errors.add("write-execute", map.position, what, help);
        }
        if map.setvar_prefill_size.is_some() && !matches!(region.prefill, Prefill::File(_)) {
            let what = format!(
                "`{}` asks for the prefill size of `{}`, which has none",
                pd.name, map.mr
            );
            let help = "give the region a prefill_path, or delete setvar_prefill_size";
            errors.add("prefill-size", map.position, what, help);
        }
    }
    for setvar in &pd.setvars {
        match system.region(&setvar.region) {
            None => {
                let who = format!("`{}`", pd.name);
                unknown_region(&who, &setvar.region, setvar.position, system, errors);
            }
            Some(region) if region.phys_addr.is_none() => {
                let what = format!(
                    "`{}` asks for the physical address of `{}`, which has none",
                    pd.name, setvar.region
                );
                let help = "give the region a phys_addr, or delete the <setvar>";
                errors.add("setvar-no-paddr", setvar.position, what, help);
            }
            Some(_) => {}
        }
    }
}

/// Checks that devices have one owner, and that two domains with a shared writable region also have a
/// channel.
fn sharing(system: &System, errors: &mut Errors) {
    let mut users: HashMap<&str, Vec<(&ProtectionDomain, &Map)>> = HashMap::new();
    for pd in &system.protection_domains {
        for map in &pd.maps {
            users.entry(&map.mr).or_default().push((pd, map));
        }
    }
    let channels = system.channels.iter().flat_map(|channel| {
        let [a, b] = &channel.ends;
        [(a.pd.as_str(), b.pd.as_str()), (b.pd.as_str(), a.pd.as_str())]
    });
    let joined: HashSet<(&str, &str)> = channels.collect();
    for region in &system.memory_regions {
        let users = users.get(region.name.as_str()).map_or(&[][..], Vec::as_slice);
        for (i, (pd, map)) in users.iter().enumerate() {
            for (other, its) in users[..i].iter().filter(|(other, _)| other.name != pd.name) {
                let (a, b, mr) = (&other.name, &pd.name, &region.name);
                let why = match region.phys_addr {
                    Some(at) => Some(format!("which is fixed at physical address {at:#x}")),
                    None if map.cached && its.cached => None,
                    None => Some("uncached, as a device's registers".to_owned()),
                };
                if let Some(why) = why {
                    let what = format!("`{a}` and `{b}` both map `{mr}`, {why}");
                    let help = "give it one owner, which passes on what others may have";
                    errors.add("device-shared", map.position, what, help);
                } else if (map.write || its.write) && !joined.contains(&(a.as_str(), b.as_str())) {
                    let what = format!("`{a}` and `{b}` share `{mr}` writably and have no channel");
                    let help = "join them with a <channel>, or let both only read it";
                    errors.add("shared-without-channel", map.position, what, help);
                }
            }
        }
    }
}

fn iommu(system: &System, errors: &mut Errors) {
    let mut seen = HashSet::new();
    let mut functions = HashMap::new();
    for space in &system.io_address_spaces {
        let who = format!("I/O address space `{}`", space.name);
        if !seen.insert(space.domain_id) {
            let what = format!("{who} has the domain_id of another, {}", space.domain_id);
            errors.add("duplicate-id", space.position, what, "give each an id of its own");
        }
        if let Some(other) = functions.insert(space.peripheral, &space.name) {
            let what = format!("{who} is of the PCI function that `{other}` has");
            let help = "write all that a function may reach into one <io_address_space>";
            errors.add("duplicate-peripheral", space.position, what, help);
        }
        let mut taken: Vec<(u64, u64, &str)> = Vec::new();
        for map in &space.maps {
            let Some(region) = system.region(&map.mr) else {
                unknown_region(&who, &map.mr, map.position, system, errors);
                continue;
            };
            if region.page_size != SMALL_PAGE || !map.iovaddr.is_multiple_of(SMALL_PAGE) {
                let what = format!("{who} maps `{}` at {:#x}", map.mr, map.iovaddr);
                let help = "give the region page_size=\"0x1000\", and use a multiple of that";
                errors.add("iomap-page", map.position, what, help);
            }
            let Some(size) = region.size else {
                let what = format!("{who} maps `{}`, whose size is not written", map.mr);
                errors.add(
                    "region-no-size",
                    map.position,
                    what,
                    "add size=\"...\" to the region",
                );
                continue;
            };
            let end = map.iovaddr.saturating_add(size);
            if end > IO_TOP {
                let what = format!("{who} maps `{}` up to {end:#x}", map.mr);
                let help = format!("devices' addresses end at {IO_TOP:#x}");
                errors.add("iomap-range", map.position, what, help);
            }
            if let Some(other) = overlapping(&taken, map.iovaddr, end) {
                let what = format!("{who} maps `{}` over `{other}`", map.mr);
                errors.add("iomap-overlap", map.position, what, "move one of them");
            }
            taken.push((map.iovaddr, end, &map.mr));
        }
    }
}
