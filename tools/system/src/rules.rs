//! Rules that concern several elements: unique names and ids, overlaps, priorities, and this project's own rules of
//! communication.

use crate::*;
use std::collections::{HashMap, HashSet};

/// Names of all rules, those of the reader included. Each has a broken file in `tests/broken`.
pub const RULES: &[&str] = &[
    "not-xml",
    "no-system",
    "missing-attribute",
    "empty-name",
    "bad-number",
    "out-of-range",
    "not-decimal",
    "bad-word",
    "unknown-attribute",
    "stray-text",
    "unknown-element",
    "other-board",
    "domains-late",
    "page-size",
    "region-size",
    "region-no-size",
    "phys-align",
    "two-prefills",
    "bad-bootinfo",
    "stack-size",
    "period",
    "program-image",
    "two-cspaces",
    "bad-perms",
    "bad-pci",
    "ioport-range",
    "channel-ends",
    "too-deep",
    "duplicate-name",
    "reserved-name",
    "too-many-pds",
    "unknown-region",
    "unknown-pd",
    "map-align",
    "map-overlap",
    "map-stack",
    "duplicate-id",
    "duplicate-vector",
    "duplicate-pin",
    "duplicate-child-id",
    "duplicate-setvar",
    "ioport-overlap",
    "phys-overlap",
    "channel-self",
    "two-pps",
    "call-uphill",
    "call-restartable",
    "device-shared",
    "shared-without-channel",
    "setvar-no-paddr",
    "prefill-size",
    "iomap-page",
    "duplicate-slot",
    "domain-missing",
    "long-name",
];

/// Lowest address that the fixed places at the top of an address space take, but for the stack itself.
const STACK_TOP: u64 = 0x7fff_ffff_d000;
/// Most protection domains in a system.
const MAX_PDS: usize = 63;

/// Checks everything and settles the page sizes that the file leaves open.
pub fn check(system: &mut System, errors: &mut Errors) {
    settle_page_sizes(system);
    let system = &*system;
    names(system, errors);
    regions(system, errors);
    for pd in &system.protection_domains {
        maps(system, pd, errors);
        ids(system, pd, errors);
        setvars(system, pd, errors);
        capabilities(system, pd, errors);
    }
    interrupts_and_ports(system, errors);
    channels(system, errors);
    sharing(system, errors);
    iommu(system, errors);
}

/// The format's rule: 2 MiB pages when size, physical address and every mapping allow it, else 4 KiB.
fn settle_page_sizes(system: &mut System) {
    const LARGE: u64 = 0x20_0000;
    let mut maps: HashMap<&str, Vec<u64>> = HashMap::new();
    for map in system.protection_domains.iter().flat_map(|pd| &pd.maps) {
        maps.entry(&map.mr).or_default().push(map.vaddr);
    }
    for region in system.memory_regions.iter_mut().filter(|r| !r.page_size_given) {
        let places = maps.get(region.name.as_str()).into_iter().flatten().copied();
        let large = region.size.is_some_and(|s| s % LARGE == 0 && s != 0)
            && places.chain(region.phys_addr).all(|place| place % LARGE == 0);
        region.page_size = if large { LARGE } else { 0x1000 };
    }
}

fn names(system: &System, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for region in &system.memory_regions {
        if !seen.insert(&region.name) {
            let what = format!("a second memory region is called `{}`", region.name);
            errors.add("duplicate-name", region.position, what, "give each its own name");
        }
    }
    let mut seen = HashSet::new();
    for pd in &system.protection_domains {
        if !seen.insert(&pd.name) {
            let what = format!("a second protection domain is called `{}`", pd.name);
            errors.add("duplicate-name", pd.position, what, "give each its own name");
        }
        if pd.name == "monitor" {
            let what = "a protection domain is called `monitor`";
            errors.add(
                "reserved-name",
                pd.position,
                what,
                "that name belongs to the root task; use another",
            );
        }
        if pd.name.len() > 64 {
            let what = format!("the name `{}` has {} bytes", pd.name, pd.name.len());
            errors.add("long-name", pd.position, what, "64 are allowed");
        }
        match &pd.domain {
            Some(domain) if !system.domains.contains(domain) => {
                let what = format!("`{}` is in domain `{domain}`, which does not exist", pd.name);
                errors.add("domain-missing", pd.position, what, "describe it in <domains>");
            }
            None if !system.domains.is_empty() => {
                let what = format!("`{}` is in no domain", pd.name);
                errors.add(
                    "domain-missing",
                    pd.position,
                    what,
                    "add domain=\"...\": this system has a domain schedule",
                );
            }
            _ => {}
        }
    }
    if let Some(pd) = system.protection_domains.get(MAX_PDS) {
        let what = format!("{} protection domains", system.protection_domains.len());
        errors.add(
            "too-many-pds",
            pd.position,
            what,
            format!("{MAX_PDS} are allowed"),
        );
    }
}

fn regions(system: &System, errors: &mut Errors) {
    let mut fixed: Vec<(u64, u64, &MemoryRegion)> = Vec::new();
    for region in &system.memory_regions {
        let Some(start) = region.phys_addr else { continue };
        let end = start.saturating_add(region.size.unwrap_or(0));
        if let Some((_, _, other)) = fixed.iter().find(|(s, e, _)| start < *e && *s < end) {
            let what = format!(
                "memory regions `{}` and `{}` overlap in physical memory",
                other.name, region.name
            );
            errors.add("phys-overlap", region.position, what, "move one of them");
        }
        fixed.push((start, end, region));
    }
}

fn maps(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let stack_bottom = STACK_TOP.saturating_sub(pd.stack_size);
    let mut taken: Vec<(u64, u64, &str)> = Vec::new();
    for map in &pd.maps {
        let Some(region) = system.region(&map.mr) else {
            let what = format!("`{}` maps `{}`, which does not exist", pd.name, map.mr);
            errors.add(
                "unknown-region",
                map.position,
                what,
                "describe it with <memory_region>, or mend the name",
            );
            continue;
        };
        if map.vaddr % region.page_size != 0 || map.vaddr == 0 {
            let what = format!("`{}` maps `{}` at {:#x}", pd.name, map.mr, map.vaddr);
            let help = format!(
                "use a multiple of the region's page size, {:#x}, above 0",
                region.page_size
            );
            errors.add("map-align", map.position, what, help);
        }
        let size = region.size.unwrap_or(region.page_size);
        let end = map.vaddr.saturating_add(size);
        // One page below the stack stays unmapped as its guard.
        if end > stack_bottom - 0x1000 {
            let what = format!("`{}` maps `{}` up to {end:#x}", pd.name, map.mr);
            let help = format!(
                "stay below the stack and its guard page at {:#x}",
                stack_bottom - 0x1000
            );
            errors.add("map-stack", map.position, what, help);
        }
        if let Some((_, _, other)) = taken.iter().find(|(s, e, _)| map.vaddr < *e && *s < end) {
            let what = format!("`{}` maps `{}` over `{other}`", pd.name, map.mr);
            errors.add("map-overlap", map.position, what, "move one of them");
        }
        taken.push((map.vaddr, end, &map.mr));
        if map.setvar_prefill_size.is_some() && !matches!(region.prefill, Prefill::File(_)) {
            let what = format!(
                "`{}` asks for the prefill size of `{}`, which has none",
                pd.name, map.mr
            );
            errors.add(
                "prefill-size",
                map.position,
                what,
                "give the region a prefill_path, or delete it",
            );
        }
    }
}

fn ids(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let channels = system.ends(&pd.name).map(|(own, _)| (own.id, own.position));
    let irqs = pd.irqs.iter().map(|irq| (irq.id, irq.position));
    duplicate(
        "duplicate-id",
        "channel or interrupt",
        pd,
        channels.chain(irqs),
        errors,
    );
    duplicate(
        "duplicate-id",
        "I/O port",
        pd,
        pd.ioports.iter().map(|p| (p.id, p.position)),
        errors,
    );
    let children = system
        .children(&pd.name)
        .filter_map(|c| Some((c.child_id?, c.position)));
    duplicate("duplicate-child-id", "child", pd, children, errors);
}

fn duplicate(
    rule: &'static str,
    kind: &str,
    pd: &ProtectionDomain,
    ids: impl Iterator<Item = (u8, Position)>,
    errors: &mut Errors,
) {
    let mut seen = HashSet::new();
    for (id, position) in ids {
        if !seen.insert(id) {
            let what = format!("`{}` has two {kind} ids {id}", pd.name);
            errors.add(rule, position, what, "give each an id of its own");
        }
    }
}

fn setvars(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let mut symbols: Vec<(&str, Position)> = Vec::new();
    for setvar in &pd.setvars {
        symbols.push((&setvar.symbol, setvar.position));
        match system.region(&setvar.region) {
            None => {
                let what = format!(
                    "`{}` wants the address of `{}`, which does not exist",
                    pd.name, setvar.region
                );
                errors.add("unknown-region", setvar.position, what, "mend the name");
            }
            Some(region) if region.phys_addr.is_none() => {
                let what = format!(
                    "`{}` wants the address of `{}`, which has none",
                    pd.name, setvar.region
                );
                errors.add(
                    "setvar-no-paddr",
                    setvar.position,
                    what,
                    "give the region a phys_addr",
                );
            }
            Some(_) => {}
        }
    }
    for map in &pd.maps {
        let all = [&map.setvar_vaddr, &map.setvar_size, &map.setvar_prefill_size];
        symbols.extend(all.into_iter().flatten().map(|s| (s.as_str(), map.position)));
    }
    symbols.extend(
        pd.irqs
            .iter()
            .filter_map(|i| Some((i.setvar_id.as_deref()?, i.position))),
    );
    for port in &pd.ioports {
        symbols.extend(
            [&port.setvar_id, &port.setvar_addr]
                .into_iter()
                .flatten()
                .map(|s| (s.as_str(), port.position)),
        );
    }
    symbols.extend(
        system
            .ends(&pd.name)
            .filter_map(|(own, _)| Some((own.setvar_id.as_deref()?, own.position))),
    );
    symbols.extend(
        system
            .children(&pd.name)
            .filter_map(|c| Some((c.setvar_id.as_deref()?, c.position))),
    );
    let mut seen = HashSet::new();
    for (symbol, position) in symbols {
        if !seen.insert(symbol) {
            let what = format!("symbol `{symbol}` of `{}` is set twice", pd.name);
            errors.add(
                "duplicate-setvar",
                position,
                what,
                "use one symbol for each value",
            );
        }
    }
}

fn capabilities(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let mut slots = HashSet::new();
    for cap in &pd.cspace {
        if system.pd(&cap.pd).is_none() {
            let what = format!(
                "`{}` wants a capability of `{}`, which does not exist",
                pd.name, cap.pd
            );
            errors.add("unknown-pd", cap.position, what, "mend the name");
        }
        if !slots.insert(cap.slot) {
            let what = format!("`{}` has two capabilities in slot {}", pd.name, cap.slot);
            errors.add(
                "duplicate-slot",
                cap.position,
                what,
                "give each a slot of its own",
            );
        }
    }
}

fn interrupts_and_ports(system: &System, errors: &mut Errors) {
    let (mut vectors, mut pins) = (HashMap::new(), HashMap::new());
    let mut ports: Vec<(u32, u32, &str)> = Vec::new();
    for pd in &system.protection_domains {
        for irq in &pd.irqs {
            if let Some(other) = vectors.insert(irq.vector, &pd.name) {
                let what = format!("`{}` and `{other}` both use vector {}", pd.name, irq.vector);
                errors.add(
                    "duplicate-vector",
                    irq.position,
                    what,
                    "vectors are unique in the whole system",
                );
            }
            if let IrqSource::IoApic { ioapic, pin, .. } = irq.source
                && let Some(other) = pins.insert((ioapic, pin), &pd.name)
            {
                let what = format!("`{}` and `{other}` both use pin {pin}", pd.name);
                errors.add("duplicate-pin", irq.position, what, "a pin has one owner");
            }
        }
        for port in &pd.ioports {
            let (start, end) = (u32::from(port.addr), u32::from(port.addr) + u32::from(port.size));
            if let Some((_, _, other)) = ports.iter().find(|(s, e, _)| start < *e && *s < end) {
                let what = format!(
                    "I/O ports from {start:#x} of `{}` overlap with those of `{other}`",
                    pd.name
                );
                errors.add("ioport-overlap", port.position, what, "a port has one owner");
            }
            ports.push((start, end, &pd.name));
        }
    }
}

fn channels(system: &System, errors: &mut Errors) {
    for channel in &system.channels {
        let [a, b] = &channel.ends;
        for end in [a, b].into_iter().filter(|end| system.pd(&end.pd).is_none()) {
            let what = format!("a channel ends at `{}`, which does not exist", end.pd);
            errors.add("unknown-pd", end.position, what, "mend the name");
        }
        if a.pd == b.pd {
            let what = format!("a channel joins `{}` with itself", a.pd);
            errors.add(
                "channel-self",
                channel.position,
                what,
                "name two protection domains",
            );
        }
        if a.pp && b.pp {
            let what = format!("`{}` and `{}` may call each other", a.pd, b.pd);
            errors.add(
                "two-pps",
                channel.position,
                what,
                "one end at most has pp=\"true\"",
            );
            continue;
        }
        let (caller, callee) = if a.pp { (a, b) } else { (b, a) };
        let (Some(from), Some(to)) = (system.pd(&caller.pd), system.pd(&callee.pd)) else {
            continue;
        };
        if !caller.pp {
            continue;
        }
        if to.priority <= from.priority {
            let what = format!(
                "`{}` (priority {}) calls `{}` (priority {})",
                from.name, from.priority, to.name, to.priority
            );
            errors.add(
                "call-uphill",
                caller.position,
                what,
                "the callee's priority must be higher than the caller's",
            );
        }
        // A caller inside a restarted domain's call would hang for ever, so what has a parent is never called.
        if to.parent.is_some() {
            let what = format!(
                "`{}` calls `{}`, which its parent may restart",
                from.name, to.name
            );
            errors.add(
                "call-restartable",
                caller.position,
                what,
                "use a shared ring and a notification",
            );
        }
    }
}

/// Device pages have one owner; what two domains share, they also have a channel (or a parent) for.
fn sharing(system: &System, errors: &mut Errors) {
    for region in &system.memory_regions {
        let users: Vec<(&ProtectionDomain, &Map)> = system
            .protection_domains
            .iter()
            .flat_map(|pd| {
                pd.maps
                    .iter()
                    .filter(|m| m.mr == region.name)
                    .map(move |m| (pd, m))
            })
            .collect();
        for (i, (pd, map)) in users.iter().enumerate() {
            for (other, its) in &users[..i] {
                if pd.name == other.name {
                    continue;
                }
                if !map.cached || !its.cached {
                    let what = format!(
                        "`{}` and `{}` both map the device region `{}`",
                        other.name, pd.name, region.name
                    );
                    errors.add(
                        "device-shared",
                        map.position,
                        what,
                        "give each device page one owner",
                    );
                } else if (map.write || its.write) && !related(system, pd, other) {
                    let what = format!(
                        "`{}` and `{}` share `{}` writably and have no channel",
                        other.name, pd.name, region.name
                    );
                    let help = "join them with a <channel>, or map it read-only in both";
                    errors.add("shared-without-channel", map.position, what, help);
                }
            }
        }
    }
}

fn related(system: &System, a: &ProtectionDomain, b: &ProtectionDomain) -> bool {
    let joined = system.ends(&a.name).any(|(_, other)| other.pd == b.name);
    joined || a.parent.as_deref() == Some(&b.name) || b.parent.as_deref() == Some(&a.name)
}

fn iommu(system: &System, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for space in &system.io_address_spaces {
        if !seen.insert(space.domain_id) {
            let what = format!(
                "I/O address space `{}` has a domain_id that another has",
                space.name
            );
            errors.add("duplicate-name", space.position, what, "give each its own");
        }
        for (name, _) in &space.maps {
            match system.region(name) {
                None => {
                    let what = format!(
                        "I/O address space `{}` maps `{name}`, which does not exist",
                        space.name
                    );
                    errors.add("unknown-region", space.position, what, "mend the name");
                }
                Some(region) if region.page_size != 0x1000 => {
                    let what = format!(
                        "I/O address space `{}` maps `{name}`, which has large pages",
                        space.name
                    );
                    errors.add(
                        "iomap-page",
                        space.position,
                        what,
                        "give the region page_size=\"0x1000\"",
                    );
                }
                Some(_) => {}
            }
        }
    }
}
