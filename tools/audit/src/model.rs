//! The expected authority of each domain, computed from the typed description alone and never from an image.
//!
//! Slots, addresses and rights are written here a second time on purpose. The image builder has its own copy,
//! so an error in one of the two shows as a difference. [`Kernel`] holds the differences by design between
//! the images of the two kernels, each with its reason.

use branes_system::{ExtraCapKind, IrqSource, ProtectionDomain, System};

use crate::Error;
use crate::authority::*;

/// Top of every stack. A page that is never mapped lies between the stack and the message buffer.
pub const STACK_TOP: u64 = 0x7fff_ffff_d000;
/// Address of the message buffer's page, the highest page.
const MESSAGES: u64 = 0x7fff_ffff_e000;
/// log2 of the bytes of a small page.
const SMALL: u8 = 12;
/// Name of the monitor, if it is a domain.
pub const MONITOR: &str = "monitor";
/// Bytes of the monitor's stack.
pub const MONITOR_STACK: u64 = 0x1000;

/// Slots of a protection domain's capability table.
mod slot {
    pub const INPUT: u32 = 1;
    pub const FAULT: u32 = 2;
    pub const SPACE: u32 = 3;
    pub const REPLY: u32 = 4;
    pub const MONITOR: u32 = 5;
    pub const NOTIFY: u32 = 10;
    pub const CALL: u32 = 74;
    pub const IRQ: u32 = 138;
    pub const CHILD: u32 = 202;
    pub const PORTS: u32 = 394;
    /// Slots of the monitor's own table.
    pub mod monitor {
        pub const INPUT: u32 = 1;
        pub const REPLY: u32 = 2;
        pub const THREAD: u32 = 10;
        pub const TIME: u32 = 138;
        pub const NOTIFICATION: u32 = 202;
    }
}

/// The kernel that an image is for. A method of this type decides each difference by design between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// seL4 5.0.0, with an image of our builder.
    Registry,
    /// The Microkit SDK's kernel (MCS), with an image of its tool.
    Sdk,
}

impl Kernel {
    /// Returns the rights of a capability that is for sending. Our builder gives the right to send only. The
    /// SDK's tool gives every endpoint and notification capability all rights, and a description cannot ask
    /// for less.
    fn send(self, endpoint: bool) -> Rights {
        let receive = self == Kernel::Sdk;
        Rights {
            receive,
            send: true,
            grant: endpoint,
        }
    }

    /// Returns the rights of a domain's capability to its own endpoint or notification. See [`Kernel::send`].
    fn receive(self, endpoint: bool) -> Rights {
        let all = self == Kernel::Sdk;
        Rights {
            receive: true,
            send: all,
            grant: all && endpoint,
        }
    }

    /// Returns true if replies are objects. On MCS kernels each domain has its own. The other kernel keeps
    /// the right to reply in the thread.
    fn has_replies(self) -> bool {
        self == Kernel::Sdk
    }

    /// Returns true if the monitor is a domain of the image. In our image the root task is the monitor: it
    /// holds everything and only waits.
    fn has_monitor(self) -> bool {
        self == Kernel::Sdk
    }

    /// Returns true if domains can be passive and scheduling contexts exist. Our builder warns of both and
    /// omits them.
    fn has_time(self) -> bool {
        self == Kernel::Sdk
    }

    /// Returns true if the image uses the IOMMU. Our builder warns that it does not.
    fn has_iommu(self) -> bool {
        self == Kernel::Sdk
    }
}

/// Computes the authority that a system's description asks for.
///
/// # Errors
/// A mapped region has no size.
pub fn authority(system: &System, kernel: Kernel) -> Result<Authority, Error> {
    let mut authority = Authority::default();
    for (index, pd) in system.protection_domains.iter().enumerate() {
        authority
            .domains
            .insert(pd.name.clone(), domain(system, kernel, index, pd)?);
    }
    if kernel.has_monitor() {
        authority
            .domains
            .insert(MONITOR.to_owned(), monitor(system, kernel));
    }
    if kernel.has_iommu() {
        for space in &system.io_address_spaces {
            let (bus, device, function) = space.peripheral;
            let mut memory = Vec::new();
            for map in &space.maps {
                let access = Access {
                    read: map.read,
                    write: map.write,
                    cached: true,
                };
                memory.push(view(system, &map.mr, map.iovaddr, access)?);
            }
            let reached = Device {
                domain_id: space.domain_id,
                memory,
            };
            authority.devices.insert(Pci(bus, device, function), reached);
        }
    }
    authority.settle(|name| stack_size(system, name));
    Ok(authority)
}

/// Returns the bytes of a domain's stack.
pub fn stack_size(system: &System, name: &str) -> Option<u64> {
    match name {
        MONITOR => Some(MONITOR_STACK),
        _ => system.pd(name).map(|pd| pd.stack_size),
    }
}

#[derive(Clone, Copy)]
struct Access {
    read: bool,
    write: bool,
    cached: bool,
}

fn view(system: &System, name: &str, start: u64, access: Access) -> Result<View, Error> {
    let size = system
        .region(name)
        .and_then(|region| Some((region, region.size?)));
    let (region, size) = size.ok_or_else(|| Error::NoSize(name.to_owned()))?;
    Ok(View {
        start,
        end: start.saturating_add(size),
        memory: Memory::Region(name.to_owned(), 0),
        physical: region.phys_addr,
        page_bits: region.page_size.trailing_zeros() as u8,
        read: access.read,
        write: access.write,
        cached: access.cached,
    })
}

/// Returns stack and message buffer. Both kernels' images have them at the same addresses.
fn own_pages(stack_size: u64) -> [View; 2] {
    let page = |start, end| View {
        start,
        end,
        memory: Memory::Own,
        physical: None,
        page_bits: SMALL,
        read: true,
        write: true,
        cached: true,
    };
    [
        page(STACK_TOP - stack_size, STACK_TOP),
        page(MESSAGES, MESSAGES + (1 << SMALL)),
    ]
}

fn domain(system: &System, kernel: Kernel, index: usize, pd: &ProtectionDomain) -> Result<Domain, Error> {
    let name = &pd.name;
    let number = Badge::Number(index as u64 + 1);
    let faults = match (&pd.parent, pd.child_id) {
        (Some(parent), Some(child)) => (parent.clone(), Badge::Fault(child.into())),
        _ => (MONITOR.to_owned(), number),
    };
    let mut memory = own_pages(pd.stack_size).to_vec();
    for map in &pd.maps {
        let branes_system::Map {
            read, write, cached, ..
        } = *map;
        memory.push(view(system, &map.mr, map.vaddr, Access { read, write, cached })?);
    }
    Ok(Domain {
        thread: Thread {
            priority: pd.priority,
            space: name.clone(),
            table: name.clone(),
            notification: Some(name.clone()),
            faults: Some(faults.clone()),
            messages: Some(MESSAGES),
        },
        caps: caps(system, kernel, pd, faults, number).into_iter().collect(),
        memory,
    })
}

fn caps(
    system: &System,
    kernel: Kernel,
    pd: &ProtectionDomain,
    faults: (String, Badge),
    number: Badge,
) -> Vec<(CapSlot, Capability)> {
    let name = &pd.name;
    let endpoint = |of: &str, badge, rights| Capability::Endpoint {
        of: of.to_owned(),
        badge,
        rights,
    };
    let notification = |of: &str, badge, rights| Capability::Notification {
        of: of.to_owned(),
        badge,
        rights,
    };
    let mut caps = Vec::new();
    let mut give = |slot: u32, held: Capability| caps.push((CapSlot::Microkit(slot), held));

    let called = system.ends(name).any(|(_, other)| other.pp) || system.children(name).next().is_some();
    give(
        slot::INPUT,
        match called {
            true => endpoint(name, Badge::None, kernel.receive(true)),
            false => notification(name, Badge::None, kernel.receive(false)),
        },
    );
    give(slot::FAULT, endpoint(&faults.0, faults.1, kernel.send(true)));
    give(slot::SPACE, Capability::Space(name.clone()));
    if kernel.has_replies() {
        give(slot::REPLY, Capability::Reply(name.clone()));
    }
    if kernel.has_time() && pd.passive {
        // A passive domain asks the monitor to remove its scheduling context.
        give(slot::MONITOR, endpoint(MONITOR, number, kernel.send(true)));
    }
    for (own, other) in system.ends(name) {
        let (id, its) = (u32::from(own.id), u32::from(other.id));
        if own.notify {
            give(
                slot::NOTIFY + id,
                notification(&other.pd, Badge::Signal(its), kernel.send(false)),
            );
        }
        if own.pp {
            give(
                slot::CALL + id,
                endpoint(&other.pd, Badge::Call(its), kernel.send(true)),
            );
        }
    }
    for irq in &pd.irqs {
        let (vector, badge) = (irq.vector.into(), Badge::Signal(irq.id.into()));
        let (source, of) = (source(irq.source), name.clone());
        give(
            slot::IRQ + u32::from(irq.id),
            Capability::Interrupt {
                source,
                vector,
                of,
                badge,
            },
        );
    }
    for child in system.children(name) {
        if let Some(id) = child.child_id {
            give(
                slot::CHILD + u32::from(id),
                Capability::Thread(child.name.clone()),
            );
        }
    }
    for ports in &pd.ioports {
        let first = u64::from(ports.addr);
        let last = (first + u64::from(ports.size)).saturating_sub(1);
        give(slot::PORTS + u32::from(ports.id), Capability::Ports(first, last));
    }
    for extra in &pd.cspace {
        let of = extra.pd.clone();
        let held = match extra.kind {
            ExtraCapKind::Tcb => Capability::Thread(of),
            ExtraCapKind::VSpace => Capability::Space(of),
            ExtraCapKind::SchedulingContext if kernel.has_time() => Capability::Time(of),
            ExtraCapKind::SchedulingContext => continue,
        };
        caps.push((CapSlot::Extra(extra.slot.into()), held));
    }
    caps
}

fn source(source: IrqSource) -> InterruptSource {
    match source {
        IrqSource::IoApic {
            ioapic,
            pin,
            level,
            active_low,
        } => InterruptSource::Pin {
            ioapic: ioapic.into(),
            pin: pin.into(),
            level,
            active_low,
        },
        IrqSource::Msi {
            bus,
            device,
            function,
            handle,
        } => InterruptSource::Message {
            pci: Pci(bus, device, function),
            handle: handle.into(),
        },
    }
}

/// Computes the SDK's monitor. It names threads, removes the scheduling contexts of passive domains, and
/// handles faults of domains without a parent.
fn monitor(system: &System, kernel: Kernel) -> Domain {
    let name = || MONITOR.to_owned();
    let input = Capability::Endpoint {
        of: name(),
        badge: Badge::None,
        rights: kernel.receive(true),
    };
    let mut caps = vec![
        (slot::monitor::INPUT, input),
        (slot::monitor::REPLY, Capability::Reply(name())),
    ];
    for (index, pd) in (0u32..).zip(&system.protection_domains) {
        caps.push((slot::monitor::THREAD + index, Capability::Thread(pd.name.clone())));
        if pd.passive {
            let of = pd.name.clone();
            let rights = kernel.receive(false);
            caps.push((slot::monitor::TIME + index, Capability::Time(of.clone())));
            let notification = Capability::Notification {
                of,
                badge: Badge::None,
                rights,
            };
            caps.push((slot::monitor::NOTIFICATION + index, notification));
        }
    }
    Domain {
        thread: Thread {
            priority: u8::MAX,
            space: name(),
            table: name(),
            notification: None,
            faults: None,
            messages: Some(MESSAGES),
        },
        caps: caps
            .into_iter()
            .map(|(slot, held)| (CapSlot::Microkit(slot), held))
            .collect(),
        memory: own_pages(MONITOR_STACK).to_vec(),
    }
}
