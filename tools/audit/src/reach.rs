//! Search for paths: every means by which one domain can affect what another observes. Reports paths between
//! branes that bypass the trusted domains.
//!
//! A path is an authority, not an intention: it counts whether or not a program uses it. Time and caches are
//! no capabilities, so the search does not cover them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use branes_qemu::board::BOARD;
use serde::Serialize;

use crate::authority::*;
use crate::model::Kernel;
use crate::roles::Roles;

/// Physical addresses below this are those of the original PC: RAM, video memory and firmware in turn.
const LOW_MEMORY: u64 = 0x10_0000;

/// Means by which one domain affects another. Ids are those at the sender and at the receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "kebab-case")]
pub enum Means {
    /// A region that the sender can write and the receiver can read.
    Memory(String),
    Notification(u32, u32),
    Call(u32, u32),
    /// The reply to a call.
    Answer(u32, u32),
    /// A fault of the child with this id.
    Fault(u32),
    /// Control of the thread.
    Thread,
    /// The thread's registers, which the domain that controls the thread can read.
    Registers,
    /// Control of the address space.
    Space,
    /// Control of the scheduling context.
    Time,
    /// An endpoint of a third domain. The sender can send on it and the receiver can receive.
    Meeting(String),
    /// I/O ports that both domains hold.
    Ports(u64, u64),
    /// An interrupt that both domains hold.
    Interrupt(String),
    /// A device that one domain controls, or the memory that the device accesses.
    Device(String),
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The domain that acts.
    pub from: String,
    /// The domain that can observe it.
    pub to: String,
    pub by: Means,
}

/// A domain that controls a device, and the IOMMU spaces that confine the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    pub domain: String,
    /// Registers of the device: regions and I/O ports.
    pub through: Vec<String>,
    /// IOMMU spaces of the device. If empty, the device reaches all memory.
    pub confined: Vec<String>,
}

/// Explains why [`Reach::known`] is no fault of the description, and why a change there cannot remove it.
pub const SDK_MEETING: &str = "the SDK's tool gives every endpoint capability the right to receive, so domains that call or \
    report a fault to the same domain can also communicate there, and can receive messages that are meant for it";

/// Result of the search.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// All steps between two domains.
    pub edges: BTreeSet<Edge>,
    /// Domains that control devices.
    pub commands: Vec<Command>,
    /// One line for each path between two compartments that passes through no trusted domain.
    pub violations: Vec<String>,
    /// Known paths of this kernel's images: the owner of the endpoint, and the domains that can receive
    /// there.
    pub known: BTreeMap<String, BTreeSet<String>>,
}

/// Finds all paths of a system.
pub fn reach(authority: &Authority, roles: &Roles, kernel: Kernel) -> Reach {
    let mut reach = Reach {
        commands: commands(authority),
        ..Reach::default()
    };
    direct(authority, &mut reach.edges);
    meetings(authority, &mut reach.edges);
    shared(authority, &mut reach.edges);
    for command in &reach.commands {
        for device in &command.confined {
            let by = || Means::Device(command.through.join(", "));
            reach.edges.insert(Edge {
                from: command.domain.clone(),
                to: device.clone(),
                by: by(),
            });
            reach.edges.insert(Edge {
                from: device.clone(),
                to: command.domain.clone(),
                by: by(),
            });
        }
    }
    if kernel == Kernel::Sdk {
        for edge in &reach.edges {
            if let Means::Meeting(of) = &edge.by {
                reach
                    .known
                    .entry(of.clone())
                    .or_default()
                    .extend([edge.from.clone(), edge.to.clone()]);
            }
        }
        reach.edges.retain(|edge| !matches!(edge.by, Means::Meeting(_)));
    }
    reach.violations = violations(&reach, roles);
    reach
}

/// Adds what each capability makes possible between its holder and the owner of the object.
fn direct(authority: &Authority, edges: &mut BTreeSet<Edge>) {
    let mut add = |from: &str, to: &str, by: Means| {
        if from != to {
            edges.insert(Edge {
                from: from.to_owned(),
                to: to.to_owned(),
                by,
            });
        }
    };
    for (name, domain) in &authority.domains {
        let own = |place: &CapSlot, base: u32| match place {
            CapSlot::Microkit(slot) | CapSlot::Extra(slot) => slot.saturating_sub(base),
        };
        for (place, held) in &domain.caps {
            match held {
                Capability::Notification { of, badge, rights } => {
                    if let (Badge::Signal(its), true) = (badge, rights.send) {
                        add(name, of, Means::Notification(own(place, 10), *its));
                    }
                    // Only the thread to which a notification is bound can wait on it.
                    let bound = authority
                        .domains
                        .get(of)
                        .is_some_and(|d| d.thread.notification.is_some());
                    if rights.receive && !bound {
                        add(of, name, Means::Notification(0, own(place, 10)));
                    }
                }
                Capability::Endpoint { of, badge, rights } if rights.send => match badge {
                    Badge::Fault(child) => add(name, of, Means::Fault(*child)),
                    Badge::Number(number) => add(name, of, Means::Fault(*number as u32)),
                    Badge::Call(its) => {
                        let id = own(place, 74);
                        add(name, of, Means::Call(id, *its));
                        if rights.grant {
                            add(of, name, Means::Answer(*its, id));
                        }
                    }
                    Badge::None | Badge::Signal(_) | Badge::Unknown(_) => add(name, of, Means::Call(0, 0)),
                },
                Capability::Thread(of) => {
                    add(name, of, Means::Thread);
                    add(of, name, Means::Registers);
                }
                Capability::Space(of) => both(&mut add, name, of, Means::Space),
                Capability::Time(of) => both(&mut add, name, of, Means::Time),
                _ => {}
            }
        }
        let thread = &domain.thread;
        both(&mut add, name, &thread.space, Means::Space);
        both(&mut add, name, &thread.table, Means::Thread);
    }
}

fn both(add: &mut impl FnMut(&str, &str, Means), a: &str, b: &str, by: Means) {
    add(a, b, by.clone());
    add(b, a, by);
}

/// Adds endpoints on which domains besides the owner can receive.
fn meetings(authority: &Authority, edges: &mut BTreeSet<Edge>) {
    let mut ends: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (name, domain) in &authority.domains {
        for held in domain.caps.values() {
            if let Capability::Endpoint { of, rights, .. } = held {
                let (senders, receivers) = ends.entry(of).or_default();
                if rights.send && of != name {
                    senders.insert(name);
                }
                if rights.receive && of != name {
                    receivers.insert(name);
                }
            }
        }
    }
    for (of, (senders, receivers)) in ends {
        for from in &senders {
            for to in receivers.iter().filter(|to| *to != from) {
                let (from, to) = ((*from).to_owned(), (*to).to_owned());
                edges.insert(Edge {
                    from,
                    to,
                    by: Means::Meeting(of.to_owned()),
                });
            }
        }
    }
}

/// Adds memory, I/O ports and interrupts that two domains, or a domain and a device, share.
fn shared(authority: &Authority, edges: &mut BTreeSet<Edge>) {
    let devices = authority
        .devices
        .iter()
        .map(|(pci, device)| (format!("device {pci}"), &device.memory));
    let spaces: Vec<(String, &Vec<View>)> = authority
        .domains
        .iter()
        .map(|(name, domain)| (name.clone(), &domain.memory))
        .chain(devices)
        .collect();
    let mut users: BTreeMap<&str, Vec<(&str, &View)>> = BTreeMap::new();
    for (name, views) in &spaces {
        for view in *views {
            match &view.memory {
                Memory::Region(region, _) => users.entry(region).or_default().push((name, view)),
                Memory::Leak(_) => users.entry("outside all regions").or_default().push((name, view)),
                Memory::Own | Memory::Constant => {}
            }
        }
    }
    for (region, users) in users {
        for (from, _) in users.iter().filter(|(_, view)| view.write) {
            for (to, _) in users.iter().filter(|(to, view)| view.read && to != from) {
                let by = Means::Memory(region.to_owned());
                edges.insert(Edge {
                    from: (*from).to_owned(),
                    to: (*to).to_owned(),
                    by,
                });
            }
        }
    }
    let holders: Vec<(&String, &Capability)> = authority
        .domains
        .iter()
        .flat_map(|(name, d)| d.caps.values().map(move |held| (name, held)))
        .collect();
    for (from, held) in &holders {
        for (to, other) in holders.iter().filter(|(to, _)| to != from) {
            let by = match (held, other) {
                (Capability::Ports(a, b), Capability::Ports(c, d)) if a <= d && c <= b => {
                    Means::Ports(*a.max(c), *b.min(d))
                }
                (
                    Capability::Interrupt { source, vector, .. },
                    Capability::Interrupt {
                        source: s, vector: v, ..
                    },
                ) if source == s || vector == v => Means::Interrupt(format!("{source}, vector {vector}")),
                _ => continue,
            };
            edges.insert(Edge {
                from: (*from).clone(),
                to: (*to).clone(),
                by,
            });
        }
    }
}

/// Returns the domains that control devices: those with I/O ports, and those that map physical addresses
/// outside RAM. An IOMMU space confines a device if the domain holds the function's page of configuration
/// space, or its message-signalled interrupts.
fn commands(authority: &Authority) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, domain) in &authority.domains {
        let mut through = Vec::new();
        let mut functions = BTreeSet::new();
        let mut has_ports = false;
        for view in &domain.memory {
            if let (Memory::Region(region, _), Some(at)) = (&view.memory, view.physical)
                && !is_ram(at)
            {
                through.push(format!("{region} at {at:#x}"));
                let own = |pci: &&Pci| {
                    let Pci(bus, device, function) = **pci;
                    let page = u64::from(bus) << 8 | u64::from(device) << 3 | u64::from(function);
                    view.end - view.start == 0x1000 && !view.cached && at & 0xfff_ffff == page << 12
                };
                functions.extend(authority.devices.keys().find(own));
            }
        }
        let mut unknown = false;
        for held in domain.caps.values() {
            match held {
                Capability::Ports(first, last) => {
                    through.push(format!("I/O ports {first:#x} to {last:#x}"));
                    has_ports = true;
                }
                Capability::Interrupt {
                    source: InterruptSource::Message { pci, .. },
                    ..
                } => match authority.devices.contains_key(pci) {
                    true => drop(functions.insert(pci)),
                    false => unknown = true,
                },
                _ => {}
            }
        }
        if through.is_empty() {
            continue;
        }
        let confined = match has_ports || unknown {
            true => Vec::new(),
            false => functions.into_iter().map(|pci| format!("device {pci}")).collect(),
        };
        commands.push(Command {
            domain: name.clone(),
            through,
            confined,
        });
    }
    commands
}

/// Returns true if a physical address is RAM on a machine that has enough. A domain that only knows where its
/// memory lies controls no device.
fn is_ram(at: u64) -> bool {
    (LOW_MEMORY..BOARD.ram_limit).contains(&at)
}

/// Returns one line for each path from one compartment to another that remains when all trusted domains are
/// removed.
fn violations(reach: &Reach, roles: &Roles) -> Vec<String> {
    let mut lines = Vec::new();
    for command in &reach.commands {
        let role = roles.role(&command.domain);
        if command.confined.is_empty() && !role.is_trusted() {
            lines.push(format!(
                "{} ({role}) controls a device ({}), which no IOMMU space confines: by DMA it reaches all memory, that of \
                 every brane included; move the device to a driver domain",
                command.domain,
                command.through.join(", ")
            ));
        }
    }
    // A device counts as part of the domain that controls it.
    let owners: BTreeMap<&str, &str> = reach
        .commands
        .iter()
        .flat_map(|command| {
            command
                .confined
                .iter()
                .map(|device| (device.as_str(), command.domain.as_str()))
        })
        .collect();
    let role = |name: &str| roles.role(owners.get(name).copied().unwrap_or(name));
    let mut next: BTreeMap<&str, BTreeMap<&str, Vec<&Means>>> = BTreeMap::new();
    for edge in &reach.edges {
        if !role(&edge.from).is_trusted() && !role(&edge.to).is_trusted() {
            next.entry(&edge.from)
                .or_default()
                .entry(&edge.to)
                .or_default()
                .push(&edge.by);
        }
    }
    for start in next.keys().filter(|name| role(name).compartment().is_some()) {
        let own = role(start).compartment();
        let mut came: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([*start]);
        while let Some(here) = queue.pop_front() {
            for &to in next.get(here).into_iter().flat_map(BTreeMap::keys) {
                if to == *start || came.contains_key(to) {
                    continue;
                }
                came.insert(to, here);
                match role(to).compartment() {
                    None => queue.push_back(to),
                    // The search that starts at that domain covers the rest.
                    Some(n) if Some(n) == own => {}
                    Some(_) => lines.push(line(&next, &came, &owners, start, to)),
                }
            }
        }
    }
    lines
}

/// Formats a path as `a -> b (means) -> c (means)`.
fn line(
    next: &BTreeMap<&str, BTreeMap<&str, Vec<&Means>>>,
    came: &BTreeMap<&str, &str>,
    owners: &BTreeMap<&str, &str>,
    start: &str,
    end: &str,
) -> String {
    let mut steps = vec![end];
    while let Some(before) = came.get(steps[steps.len() - 1]) {
        steps.push(before);
    }
    steps.reverse();
    let name = |step: &str| match owners.get(step) {
        Some(owner) => format!("{step} of {owner}"),
        None => step.to_owned(),
    };
    let mut text = name(start);
    for pair in steps.windows(2) {
        let means: Vec<String> = next[pair[0]][pair[1]].iter().map(|by| by.to_string()).collect();
        text += &format!(" -> {} ({})", name(pair[1]), means.join(", "));
    }
    text + ": no trusted domain in between"
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Means::Memory(region) => write!(f, "shared memory {region}"),
            Means::Notification(own, its) => write!(f, "notification {own}/{its}"),
            Means::Call(own, its) => write!(f, "call {own}/{its}"),
            Means::Answer(own, its) => write!(f, "answer {own}/{its}"),
            Means::Fault(child) => write!(f, "fault as {child}"),
            Means::Thread => f.write_str("thread control"),
            Means::Registers => f.write_str("registers"),
            Means::Space => f.write_str("address space control"),
            Means::Time => f.write_str("scheduling context control"),
            Means::Meeting(of) => write!(f, "meeting at the endpoint of {of}"),
            Means::Ports(first, last) => write!(f, "I/O ports {first:#x} to {last:#x}"),
            Means::Interrupt(which) => write!(f, "interrupt {which}"),
            Means::Device(through) => write!(f, "control of the device through {through}"),
        }
    }
}
