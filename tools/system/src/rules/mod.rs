//! Rules that concern several elements: those of the format, and this project's own rules of communication.

mod authority;
mod memory;
mod names;

use crate::*;

/// A rule that a description can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Id, as in [`Error::rule`].
    pub id: &'static str,
    /// The requirement.
    pub about: &'static str,
}

macro_rules! rules {
    ($($id:literal: $about:literal,)*) => { &[$(Rule { id: $id, about: $about }),*] };
}

/// All rules, including those of the parser. For each there is a broken file in `tests/broken`.
pub const RULES: &[Rule] = rules! {
    // Text, elements, attributes.
    "not-xml": "The file is well-formed XML without a document type.",
    "no-system": "The root element is <system>.",
    "no-pd": "A system has a protection domain.",
    "unknown-element": "An element stands where it has a meaning.",
    "unknown-attribute": "An attribute is one that its element has.",
    "missing-attribute": "Attributes without a default are written.",
    "stray-text": "Only comments hold free text.",
    "other-board": "Nothing is asked for that only other boards have.",
    "empty-name": "Names, paths and symbols are not empty.",
    "bad-name": "Names can become names of constants.",
    "bad-number": "Numbers are decimal or hexadecimal and fit 64 bits.",
    "not-decimal": "Ids, pins, vectors and sizes of I/O ports are plain decimal: Microkit's tool panics at others.",
    "out-of-range": "Numbers are within their limits.",
    "bad-word": "Attributes of a few words have one of them.",
    "bad-perms": "Permissions are letters of r, w, x; no page is writable and unreadable.",
    "bad-pci": "PCI functions are bus:device.function in hexadecimal.",
    "bad-bootinfo": "Boot information is named as the kernel knows it.",
    "too-deep": "Children nest to a moderate depth.",
    "program-image": "A protection domain runs one program.",
    "two-cspaces": "A protection domain has one <cspace> at most.",
    "stack-size": "Stacks are whole pages, 4 KiB to 16 MiB.",
    "period": "A budget fits its period.",
    "page-size": "Pages are 4 KiB or 2 MiB.",
    "region-size": "A region is whole pages.",
    "region-no-size": "A region has a size or a file that has one; at a fixed address or for a device, a size.",
    "phys-align": "A physical address is page aligned.",
    "phys-range": "A physical address is one that the kernel hands out.",
    "two-prefills": "A region has one initial content.",
    "ioport-range": "I/O ports exist.",
    "channel-ends": "A channel has two ends.",
    "domains-late": "Scheduling domains stand before the protection domains.",
    "domain-schedule": "Scheduling domains have one schedule that the kernel can hold.",
    // Names and counts.
    "duplicate-name": "Names are unique among their kind.",
    "reserved-name": "`monitor` and `fault_monitor` are the root task's.",
    "long-name": "Names of protection domains fit their symbol.",
    "object-name": "Names do not meet in the names of kernel objects: Microkit's tool panics where they do.",
    "too-many-pds": "There are 63 protection domains at most.",
    "unknown-pd": "Protection domains that are named exist.",
    "unknown-region": "Memory regions that are named exist.",
    "domain-unknown": "Scheduling domains that are named exist.",
    "domain-missing": "With a domain schedule, every protection domain is in a domain.",
    // Memory.
    "region-pages": "A region has as few pages as there are slots: Microkit's tool knows no limit, and exhausts memory.",
    "phys-overlap": "No two regions share physical memory.",
    "map-align": "A mapping starts at a page of its region's size, not at 0.",
    "map-overlap": "Mappings of one protection domain do not overlap.",
    "map-stack": "Mappings stay below the stack and its guard page.",
    "prefill-size": "Only a region with a prefill file has a prefill size.",
    "setvar-no-paddr": "Only a region with a fixed physical address has one to tell.",
    "iomap-page": "Devices reach memory in 4 KiB pages.",
    "iomap-range": "Devices' addresses have 39 bits.",
    "iomap-overlap": "Mappings of one I/O address space do not overlap.",
    "write-execute": "No page is both writable and executable.",
    "device-shared": "Device pages and memory at a fixed physical address have one owner.",
    "shared-without-channel": "Who shares memory that one of them writes also shares a channel.",
    // Ids and authority.
    "duplicate-id": "Channels and interrupts of a protection domain have ids of their own; so have its I/O ports.",
    "duplicate-child-id": "Children of a protection domain have ids of their own.",
    "duplicate-slot": "Capabilities of a <cspace> have slots of their own.",
    "duplicate-setvar": "A symbol is set once.",
    "duplicate-vector": "Interrupt vectors are unique in the system.",
    "duplicate-pin": "An interrupt has one owner.",
    "duplicate-peripheral": "A PCI function has one I/O address space.",
    "ioport-overlap": "An I/O port has one owner.",
    "channel-self": "A channel joins two protection domains.",
    "two-pps": "At most one end of a channel calls.",
    "call-priority": "Who is called has a higher priority than who calls.",
    "call-restartable": "What has a parent, and so may be restarted, is not called.",
    "child-priority": "A parent has a higher priority than its children, so that none can starve it.",
    "child-passive": "What has a parent has time of its own: a passive domain does not survive a restart.",
};

/// Sets page sizes that the file does not give, and checks all rules.
pub fn check(system: &mut System, errors: &mut Errors) {
    memory::settle_page_sizes(system);
    let system = &*system;
    names::check(system, errors);
    memory::check(system, errors);
    authority::check(system, errors);
}

/// Returns the help for an unknown name.
fn nearest<'a>(name: &str, kind: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .min()
        .filter(|(distance, other)| *distance <= 1 + other.len() / 4);
    match near {
        Some((_, other)) => format!("did you mean `{other}`? Otherwise describe it with <{kind}>"),
        None => format!("describe it with <{kind}>, or mend the name"),
    }
}

fn unknown_region(who: &str, name: &str, position: Position, system: &System, errors: &mut Errors) {
    let known = system.memory_regions.iter().map(|r| r.name.as_str());
    errors.add(
        "unknown-region",
        position,
        format!("{who} names the memory region `{name}`, which does not exist"),
        nearest(name, "memory_region", known),
    );
}

fn unknown_pd(who: &str, name: &str, position: Position, system: &System, errors: &mut Errors) {
    let known = system.protection_domains.iter().map(|pd| pd.name.as_str());
    errors.add(
        "unknown-pd",
        position,
        format!("{who} names the protection domain `{name}`, which does not exist"),
        nearest(name, "protection_domain", known),
    );
}
