//! Names and counts.

use super::nearest;
use crate::*;
use std::collections::HashSet;

/// Maximum of protection domains in a system.
const MAX_PDS: usize = 63;
/// Bytes of the symbol for a protection domain's name.
const MAX_NAME: usize = 64;

/// Checks names, counts and scheduling domains.
pub fn check(system: &System, errors: &mut Errors) {
    let regions = system
        .memory_regions
        .iter()
        .map(|r| (r.name.as_str(), r.position));
    unique("memory region", regions, errors);
    let pds = system
        .protection_domains
        .iter()
        .map(|pd| (pd.name.as_str(), pd.position));
    unique("protection domain", pds, errors);
    let spaces = system
        .io_address_spaces
        .iter()
        .map(|s| (s.name.as_str(), s.position));
    unique("I/O address space", spaces, errors);
    let domains = system.domains.iter().map(|d| (d.name.as_str(), d.position));
    unique("scheduling domain", domains, errors);

    for pd in &system.protection_domains {
        if ["monitor", "fault_monitor"].contains(&pd.name.as_str()) {
            let what = format!("a protection domain is called `{}`", pd.name);
            let help = "that name belongs to the root task; use another";
            errors.add("reserved-name", pd.position, what, help);
        }
        if pd.name.len() > MAX_NAME {
            let what = format!("the name `{}` has {} bytes", pd.name, pd.name.len());
            let help = format!("{MAX_NAME} are allowed");
            errors.add("long-name", pd.position, what, help);
        }
    }
    if let Some(pd) = system.protection_domains.get(MAX_PDS) {
        let what = format!(
            "{} protection domains, children counted; `{}` is one too many",
            system.protection_domains.len(),
            pd.name
        );
        errors.add(
            "too-many-pds",
            pd.position,
            what,
            format!("{MAX_PDS} are allowed"),
        );
    }
    objects(system, errors);
    scheduling(system, errors);
}

/// Checks for names that collide in Microkit's tool. The tool derives the name of every kernel object from
/// its owner, and panics if two are equal. The outer capability table of `x` and the inner one of `x_root`
/// collide, and so do the stack of `elf_x` and the program of `x_stack`.
fn objects(system: &System, errors: &mut Errors) {
    let mut clash = |name: &str, other: String, position: Position| {
        if system.pd(&other).is_some() {
            let what = format!("kernel objects of `{name}` and of `{other}` would get the same name");
            let help = "choose a name that does not end in _root or _stack";
            errors.add("object-name", position, what, help);
        }
    };
    for pd in &system.protection_domains {
        if let Some(base) = pd.name.strip_suffix("_root") {
            clash(&pd.name, base.to_owned(), pd.position);
        }
        match pd.name.rsplit_once("_stack") {
            Some((base, "")) => clash(&pd.name, format!("elf_{base}"), pd.position),
            Some((base, page)) if page.starts_with('_') => {
                clash(&pd.name, format!("ipcbuf_{base}"), pd.position);
            }
            _ => {}
        }
    }
    for region in &system.memory_regions {
        if let Some(base) = region.name.strip_suffix("_stack") {
            clash(&region.name, format!("mr_{base}"), region.position);
        }
    }
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = (&'a str, Position)>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (name, position) in names {
        if !seen.insert(name) {
            let what = format!("a second {kind} is called `{name}`");
            errors.add("duplicate-name", position, what, "give each a name of its own");
        }
    }
}

fn scheduling(system: &System, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for domain in &system.domains {
        if domain.id.is_some_and(|id| !seen.insert(id)) {
            let what = format!("scheduling domain `{}` has the id of another", domain.name);
            errors.add(
                "duplicate-id",
                domain.position,
                what,
                "give each an id of its own",
            );
        }
    }
    let mut unknown = |who: &str, name: &str, position| {
        let known = || system.domains.iter().map(|d| d.name.as_str());
        if !known().any(|domain| domain == name) {
            let what = format!("{who} names the scheduling domain `{name}`, which does not exist");
            errors.add("domain-unknown", position, what, nearest(name, "domain", known()));
        }
    };
    for pd in &system.protection_domains {
        if let Some(domain) = &pd.domain {
            unknown(&format!("`{}`", pd.name), domain, pd.position);
        }
    }
    let schedule = system.domain_schedule.iter().flat_map(|s| &s.entries);
    for entry in schedule {
        if let ScheduleEntry::Run { domain, position, .. } = entry {
            unknown("the schedule", domain, *position);
        }
    }
    if system.domain_schedule.is_none() {
        return;
    }
    for pd in system.protection_domains.iter().filter(|pd| pd.domain.is_none()) {
        let what = format!("`{}` is in no scheduling domain", pd.name);
        let help = "add domain=\"...\": this system has a domain schedule";
        errors.add("domain-missing", pd.position, what, help);
    }
}
