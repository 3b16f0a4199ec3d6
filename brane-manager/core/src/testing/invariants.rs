//! Invariants of the manager. They hold after every event and every request of any operator, however branes and clients
//! behave.
//!
//! The manager's state is compared with the facts: the drivers' tables, the calls to the drivers, the commands to the
//! domains, and which domains run. The manager's own audit is not used, because it is under test too.

use super::World;
use super::pd::Pd;
use crate::devices::{Attachment, Device};
use crate::ids::{BraneId, OperatorId};
use crate::instance::{Awaiting, Instance, LifecycleState};
use crate::ops::{Address, Assign, Filter, Rename};
use brane_abi::operator::{JOBS, Kind, Mode};
use brane_abi::vif::{MODE_BRIDGE, MODE_PRIVATE};
use std::any::Any;
use std::collections::BTreeSet;

impl World {
    /// Checks all rules.
    pub(super) fn check(&mut self) {
        self.check_devices();
        self.check_drivers();
        self.check_interfaces();
        for brane in self.manager.instances.ids() {
            self.check_life(brane);
            self.check_view(brane);
        }
        self.check_jobs();
    }

    fn device(&self, name: &str) -> Option<&Device> {
        self.manager.devices.iter().find(|d| d.config.name == name)
    }

    /// Checks that names, numbers and ports of devices are unique, and that pairs have two ends.
    fn check_devices(&self) {
        let devices = || self.manager.devices.iter();
        let names: BTreeSet<_> = devices().map(|d| &d.config.name).collect();
        assert_eq!(names.len(), devices().count(), "two devices have one name");
        let vifs: BTreeSet<_> = devices().map(|d| d.id).collect();
        assert_eq!(vifs.len(), names.len(), "two devices have one number");
        let ports: BTreeSet<_> = devices().filter_map(|d| d.owner).collect();
        let owned = devices().filter(|d| d.owner.is_some()).count();
        assert_eq!(ports.len(), owned, "two devices are on one port");
        for d in devices() {
            let name = &d.config.name;
            if let Some(Attachment { brane, port }) = d.owner {
                let nic = usize::from(port) / self.manager.devices.ports_per_nic();
                assert_eq!(nic, usize::from(d.config.nic), "{name} is on another NIC's port");
                assert!(
                    self.manager.instances[brane].config.is_some(),
                    "{name} has an owner that is not there"
                );
            }
            if let Kind::Pair(peer) = &d.config.kind {
                let back = self.device(peer).map(|p| &p.config.kind);
                assert_eq!(back, Some(&Kind::Pair(name.clone())), "{name} has no other end");
            }
        }
    }

    /// Checks that the drivers agree with the manager: no other vif, port or limits. A vif is bound only while its
    /// brane runs and was told to open.
    fn check_drivers(&mut self) {
        let mut found = 0;
        for nic in self.manager.devices.nics() {
            for entry in crate::Driver::table(&mut self.nics, nic) {
                let of = |d: &&Device| d.config.nic == nic && d.id.number() == entry.vif && d.added;
                let Some(d) = self.manager.devices.iter().find(of) else {
                    panic!("nic{nic} has a vif {} that the manager does not know", entry.vif);
                };
                found += 1;
                let name = &d.config.name;
                assert_eq!(entry.mac, d.mac(), "the MAC address of {name}");
                let at = entry.brane.checked_sub(1).map(|brane| {
                    let first = usize::from(nic) * self.manager.devices.ports_per_nic();
                    Attachment {
                        brane: BraneId::new(brane.into()),
                        port: (first + usize::from(entry.port)) as u8,
                    }
                });
                let believed = d.owner.filter(|_| d.bound);
                assert_eq!(at, believed, "the port of {name}");
                if let Some(Attachment { brane, .. }) = at {
                    let pd = &self.branes[brane.index()];
                    assert!(
                        pd.running && pd.opened,
                        "{name} is bound to a brane that is not open"
                    );
                }
                let passes = d
                    .owner
                    .is_some_and(|owner| passes_frames(&self.manager.instances[owner.brane]));
                assert!(passes || !d.bound, "{name} is bound too early or too late");
                assert!(
                    d.bound || !passes || self.nics.refused,
                    "{name} is not bound though its brane is open"
                );
                let known = self.nics.known(nic, entry.vif).expect("it was added");
                assert_eq!(known.limits, Some(d.limits()), "the limits of {name}");
                let mode = match d.config.mode {
                    Mode::Bridge => MODE_BRIDGE,
                    Mode::Private => MODE_PRIVATE,
                };
                assert_eq!(known.mode, mode, "the mode of {name}");
            }
        }
        let added = self.manager.devices.iter().filter(|d| d.added).count();
        assert_eq!(found, added, "a driver lacks a vif");
    }

    /// Checks that interfaces and owned devices match one to one. Names in a brane and names of branes must be unique.
    fn check_interfaces(&self) {
        let mut names = BTreeSet::new();
        let mut devices = 0;
        for b in self.manager.instances.iter() {
            if b.config.is_some() {
                assert!(names.insert(b.name()), "two branes are called {}", b.name());
            }
            let mut inside = BTreeSet::from(["lo0"]);
            for interface in b.interfaces() {
                let name = format!("{} of {}", interface.name, b.name());
                assert!(inside.insert(&interface.name), "{name} is there twice");
                let d = self.device(&interface.device).expect("its device is there");
                assert_eq!(
                    d.owner,
                    Some(Attachment {
                        brane: b.id(),
                        port: interface.port,
                    }),
                    "the owner of the device of {name}"
                );
                assert_eq!(interface.mac, d.mac(), "the MAC address of {name}");
                devices += 1;
            }
        }
        let owned = self.manager.devices.iter().filter(|d| d.owner.is_some());
        assert_eq!(
            owned.count(),
            devices,
            "a device has an owner without an interface"
        );
        if self.manager.boot_error.is_none() {
            let primary = |b: &&Instance| b.config.as_ref().is_some_and(|c| c.primary);
            let primaries = self.manager.instances.iter().filter(primary).count();
            assert_eq!(primaries, 1, "primary branes");
        }
    }

    /// Checks that the right domains run. A client is stopped while the memory that it shares with its brane is
    /// cleared. A free instance contains nothing of an earlier brane.
    fn check_life(&self, id: BraneId) {
        let brane = id.index();
        let b = &self.manager.instances[id];
        let pd = &self.branes[brane];
        let waits = b.state == LifecycleState::Failed || b.awaiting == Some(Awaiting::Delay);
        assert_eq!(
            pd.running,
            !waits,
            "whether {brane} runs, which is {}",
            b.state.word()
        );
        let stands = b.state == LifecycleState::Recycling || b.client.restart_at.is_some();
        assert_eq!(
            self.clients[brane],
            !stands,
            "whether the client of {brane} runs, which is {}",
            b.state.word()
        );
        if matches!(b.state, LifecycleState::Idle | LifecycleState::Starting) && b.config.is_none() {
            assert!(!pd.used, "a free instance has what a brane left in it");
        }
    }

    /// Checks that a brane matches the manager's view of it, once it has answered and carried out all commands.
    fn check_view(&self, id: BraneId) {
        let brane = id.index();
        let b = &self.manager.instances[id];
        let pd: &Pd = &self.branes[brane];
        let busy = !b.commands.is_empty()
            || matches!(b.awaiting, Some(Awaiting::Configured(..) | Awaiting::Started(_)));
        let child = crate::Child::Brane(id);
        let on_the_way = self.events.iter().any(|e| e.child() == child);
        if !b.configured || busy || on_the_way || pd.strayed || pd.faulted {
            return;
        }
        let (Some(config), Some(has)) = (&b.config, &pd.config) else {
            panic!("{brane} has another configuration than the manager");
        };
        assert_eq!(has.name, config.name);
        assert_eq!(has.filter, config.filter, "the filter of {}", b.name());
        let tags = |captures: &mut dyn Iterator<Item = u32>| captures.collect::<BTreeSet<u32>>();
        let wanted = tags(&mut self.manager.captures.of(id).map(|capture| capture.tag));
        let found = tags(&mut has.captures.iter().map(|capture| capture.tag));
        assert_eq!(found, wanted, "the captures of {}", b.name());
        let mut sorted = [has.interfaces.clone(), config.interfaces.clone()];
        for interfaces in &mut sorted {
            interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert_eq!(sorted[0], sorted[1], "the interfaces of {}", b.name());
        match b.state {
            LifecycleState::Started => assert!(pd.started, "{} is not open", b.name()),
            LifecycleState::Created => assert!(!pd.started, "{} is open", b.name()),
            _ => {}
        }
    }

    /// Checks that the device and branes of every pending job exist, and that no other brane has the device or port of
    /// the job.
    fn check_jobs(&self) {
        let branes = &self.manager.instances;
        let running = self.manager.jobs.running();
        for job in running {
            let locks = |brane: BraneId| {
                assert!(
                    job.locks.branes.contains(&brane),
                    "{job:?} has not locked {brane:?}"
                );
                assert!(
                    branes[brane].config.is_some(),
                    "{job:?} is about a brane that is gone"
                );
                assert!(
                    branes[brane].job.is_none(),
                    "{job:?} and another job change {brane:?}"
                );
            };
            for other in running.iter().filter(|other| other.id != job.id) {
                let both = job
                    .locks
                    .branes
                    .iter()
                    .any(|brane| other.locks.branes.contains(brane));
                assert!(!both, "{job:?} and {other:?} change one brane");
            }
            let operation: &dyn Any = &*job.operation;
            if let Some(assign) = operation.downcast_ref::<Assign>() {
                locks(assign.to);
                let d = self.device(&assign.interface.device);
                let d = d.filter(|d| d.id == assign.device);
                let Some(d) = d else {
                    panic!("{job:?} is about a device that is gone");
                };
                assert_eq!(
                    job.locks.device,
                    Some(assign.device),
                    "{job:?} has not locked its device"
                );
                if let Some(owner) = d.owner {
                    locks(owner.brane);
                }
                let mut has = branes[assign.to].interfaces().iter();
                let interface = &assign.interface;
                assert!(
                    has.all(|i| i.name != interface.name && i.port != interface.port),
                    "{job:?} takes a name or a port that is taken"
                );
            }
            if let Some(Address { brane, interface }) = operation.downcast_ref() {
                locks(*brane);
                let mut has = branes[*brane].interfaces().iter();
                assert!(has.any(|i| i.name == interface.name), "{job:?}");
            }
            if let Some(filter) = operation.downcast_ref::<Filter>() {
                locks(filter.brane);
            }
            if let Some(rename) = operation.downcast_ref::<Rename>() {
                locks(rename.brane);
                if rename.interface.is_none() {
                    assert!(
                        branes.iter().all(|b| b.name() != rename.to),
                        "{job:?} takes a name twice"
                    );
                }
            }
        }
        for operator in 0..self.notified.len() {
            let kept = self.manager.jobs.kept(OperatorId::new(operator));
            assert!(kept <= JOBS, "operator {operator} has {kept} jobs");
        }
    }
}

/// Returns true if frames must pass between a brane in this state and its devices.
fn passes_frames(b: &Instance) -> bool {
    match (b.state, b.awaiting) {
        (LifecycleState::Started | LifecycleState::Stopping, _) => true,
        (LifecycleState::Created, step) => matches!(step, Some(Awaiting::Started(_))),
        (LifecycleState::Starting | LifecycleState::Restarting, step) => {
            matches!(step, Some(Awaiting::Configured(_, false)))
        }
        _ => false,
    }
}
