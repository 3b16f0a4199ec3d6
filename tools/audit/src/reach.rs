//! Who can reach whom: every way by which one domain's doing can be noticed by another, and whether branes reach each other
//! other than through those that are trusted to keep them apart.
//!
//! A way is an authority, not an intention: it counts whether or not a program uses it. Time, caches and other things that are
//! no capabilities are out of its sight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use branes_qemu::board::BOARD;
use serde::Serialize;

use crate::authority::*;
use crate::model::Kernel;
use crate::roles::Roles;

/// Physical addresses below this are the old PC's: RAM, video memory and firmware in turn.
const LOW_MEMORY: u64 = 0x10_0000;

/// How one domain reaches another. Ids are those at the sender and at the receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "kebab-case")]
pub enum Means {
    /// A region that the one writes and the other reads.
    Memory(String),
    /// A notification.
    Notification(u32, u32),
    /// A call.
    Call(u32, u32),
    /// The answer to a call.
    Answer(u32, u32),
    /// A fault, as this child.
    Fault(u32),
    /// Control of the thread.
    Thread,
    /// Its registers, for whoever controls it.
    Registers,
    /// Control of the address space.
    Space,
    /// Control of the scheduling context.
    Time,
    /// An endpoint of a third, on which the one may send and the other receive.
    Meeting(String),
    /// The same I/O ports.
    Ports(u64, u64),
    /// The same interrupt.
    Interrupt(String),
    /// A device that the one commands, or the memory that it moves.
    Device(String),
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Who acts.
    pub from: String,
    /// Who can notice.
    pub to: String,
    /// How.
    pub by: Means,
}

/// A domain that commands a device, and what the device reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The domain.
    pub domain: String,
    /// Its registers: regions and I/O ports.
    pub through: Vec<String>,
    /// The IOMMU spaces that hold the device; none: it reaches all memory.
    pub confined: Vec<String>,
}

/// Why such a way is no fault of the description, and cannot be mended in it.
pub const SDK_MEETING: &str = "the SDK's tool gives every endpoint capability the right to receive, so those who may call or \
    report a fault to the same domain can also talk to each other there, and take what is meant for it";

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// All ways between domains.
    pub edges: BTreeSet<Edge>,
    /// Who commands devices.
    pub commands: Vec<Command>,
    /// Each way between two compartments that nobody trusted stands in, in a line.
    pub violations: Vec<String>,
    /// Ways of the same kind that are known of this kernel: endpoints, and who meets there.
    pub known: BTreeMap<String, BTreeSet<String>>,
}

/// Searches.
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

/// What each capability makes possible between its holder and the owner of the object.
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
        let own = |place: &Place, base: u32| match place {
            Place::Usual(slot) | Place::Extra(slot) => slot.saturating_sub(base),
        };
        for (place, held) in &domain.caps {
            match held {
                Held::Notification { of, badge, rights } => {
                    if let (Badge::Signal(its), true) = (badge, rights.send) {
                        add(name, of, Means::Notification(own(place, 10), *its));
                    }
                    // Only the thread that it is bound to can wait on a notification.
                    let bound = authority
                        .domains
                        .get(of)
                        .is_some_and(|d| d.thread.notification.is_some());
                    if rights.receive && !bound {
                        add(of, name, Means::Notification(0, own(place, 10)));
                    }
                }
                Held::Endpoint { of, badge, rights } if rights.send => match badge {
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
                Held::Thread(of) => {
                    add(name, of, Means::Thread);
                    add(of, name, Means::Registers);
                }
                Held::Space(of) => both(&mut add, name, of, Means::Space),
                Held::Time(of) => both(&mut add, name, of, Means::Time),
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

/// Endpoints on which others than their owner may receive.
fn meetings(authority: &Authority, edges: &mut BTreeSet<Edge>) {
    let mut ends: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (name, domain) in &authority.domains {
        for held in domain.caps.values() {
            if let Held::Endpoint { of, rights, .. } = held {
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

/// Memory, I/O ports and interrupts that two domains, or a domain and a device, have in common.
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
    let holders: Vec<(&String, &Held)> = authority
        .domains
        .iter()
        .flat_map(|(name, d)| d.caps.values().map(move |held| (name, held)))
        .collect();
    for (from, held) in &holders {
        for (to, other) in holders.iter().filter(|(to, _)| to != from) {
            let by = match (held, other) {
                (Held::Ports(a, b), Held::Ports(c, d)) if a <= d && c <= b => {
                    Means::Ports(*a.max(c), *b.min(d))
                }
                (
                    Held::Interrupt { source, vector, .. },
                    Held::Interrupt {
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

/// Who commands devices: domains that see memory at a physical address outside of RAM, or have I/O ports. A space of the IOMMU confines the
/// device of a domain that has the function's page of configuration space, or its messages.
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
                Held::Ports(first, last) => {
                    through.push(format!("I/O ports {first:#x} to {last:#x}"));
                    has_ports = true;
                }
                Held::Interrupt {
                    source: Source::Message { pci, .. },
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

/// Whether a physical address is RAM's on a large enough machine: knowing where one's memory lies commands no device.
fn is_ram(at: u64) -> bool {
    (LOW_MEMORY..BOARD.ram_limit).contains(&at)
}

/// Every way from one compartment to another once all that are trusted are taken out.
fn violations(reach: &Reach, roles: &Roles) -> Vec<String> {
    let mut lines = Vec::new();
    for command in &reach.commands {
        let role = roles.role(&command.domain);
        if command.confined.is_empty() && !role.is_trusted() {
            lines.push(format!(
                "{} ({role}) commands a device ({}), which no IOMMU space confines: by DMA it reaches all memory, that of \
                 every brane too; give the device to a driver domain",
                command.domain,
                command.through.join(", ")
            ));
        }
    }
    // A device belongs to whoever commands it.
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
                    // Its own compartment goes on from there by itself.
                    Some(n) if Some(n) == own => {}
                    Some(_) => lines.push(line(&next, &came, &owners, start, to)),
                }
            }
        }
    }
    lines
}

/// A way as `a -> b (how) -> c (how)`.
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
    text + ": nobody who is trusted stands between"
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
            Means::Device(through) => write!(f, "commands of the device through {through}"),
        }
    }
}
