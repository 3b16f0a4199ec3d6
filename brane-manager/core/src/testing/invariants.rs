//! Invariants of the manager. They hold after every event and every request of any operator, however branes and clients behave.
//!
//! It is compared with what really happened: the drivers' tables, what the drivers were told, what the domains were told, and
//! which of them run. The manager's own audit is not used, since it is under test too.

use super::World;
use super::pd::Pd;
use crate::brane::{Brane, State, Step};
use crate::manager::Work;
use crate::registry::Device;
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::operator::{JOBS, Kind, Mode};
use brane_abi::vif::{MODE_BRIDGE, MODE_PRIVATE};
use std::collections::BTreeSet;

impl World {
    /// Checks all rules.
    pub(super) fn check(&mut self) {
        self.check_devices();
        self.check_drivers();
        self.check_interfaces();
        for brane in 0..self.branes.len() {
            self.check_life(brane);
            self.check_view(brane);
        }
        self.check_jobs();
    }

    fn device(&self, name: &str) -> Option<&Device> {
        self.manager.registry.iter().find(|d| d.config.name == name)
    }

    /// Names, numbers and ports of devices are unique, and pairs have two ends.
    fn check_devices(&self) {
        let devices = || self.manager.registry.iter();
        let names: BTreeSet<_> = devices().map(|d| &d.config.name).collect();
        assert_eq!(names.len(), devices().count(), "two devices have one name");
        let vifs: BTreeSet<_> = devices().map(|d| d.vif).collect();
        assert_eq!(vifs.len(), names.len(), "two devices have one number");
        let ports: BTreeSet<_> = devices().filter_map(|d| d.owner).collect();
        let owned = devices().filter(|d| d.owner.is_some()).count();
        assert_eq!(ports.len(), owned, "two devices are on one port");
        for d in devices() {
            let name = &d.config.name;
            if let Some((brane, port)) = d.owner {
                let nic = usize::from(port) / PORTS_PER_BRANE;
                assert_eq!(nic, usize::from(d.config.nic), "{name} is on another NIC's port");
                assert!(
                    self.manager.branes[brane].config.is_some(),
                    "{name} has an owner that is not there"
                );
            }
            if let Kind::Pair(peer) = &d.config.kind {
                let back = self.device(peer).map(|p| &p.config.kind);
                assert_eq!(back, Some(&Kind::Pair(name.clone())), "{name} has no other end");
            }
        }
    }

    /// The drivers have what the manager believes: no other vif, no other port, no other limits. A vif is bound only while its
    /// brane runs and was told to open.
    fn check_drivers(&mut self) {
        let mut found = 0;
        for nic in 0..self.manager.registry.nics() as u8 {
            for entry in crate::Driver::table(&mut self.nics, nic) {
                let of = |d: &&Device| d.config.nic == nic && d.vif == entry.vif && d.added;
                let Some(d) = self.manager.registry.iter().find(of) else {
                    panic!("nic{nic} has a vif {} that the manager does not know", entry.vif);
                };
                found += 1;
                let name = &d.config.name;
                assert_eq!(entry.mac, d.mac(), "the MAC address of {name}");
                let at = entry.brane.checked_sub(1).map(|brane| {
                    let port = usize::from(nic) * PORTS_PER_BRANE + usize::from(entry.port);
                    (usize::from(brane), port as u8)
                });
                let believed = d.owner.filter(|_| d.bound);
                assert_eq!(at, believed, "the port of {name}");
                if let Some((brane, _)) = at {
                    let pd = &self.branes[brane];
                    assert!(
                        pd.running && pd.opened,
                        "{name} is bound to a brane that is not open"
                    );
                }
                let carries = d.owner.is_some_and(|(b, _)| carries(&self.manager.branes[b]));
                assert!(carries || !d.bound, "{name} is bound too early or too late");
                assert!(
                    d.bound || !carries || self.nics.refused,
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
        let added = self.manager.registry.iter().filter(|d| d.added).count();
        assert_eq!(found, added, "a driver lacks a vif");
    }

    /// Interfaces and owned devices belong together one to one; names in a brane and names of branes are unique.
    fn check_interfaces(&self) {
        let mut names = BTreeSet::new();
        let mut devices = 0;
        for (i, b) in self.manager.branes.iter().enumerate() {
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
                    Some((i, interface.port)),
                    "the owner of the device of {name}"
                );
                assert_eq!(interface.mac, d.mac(), "the MAC address of {name}");
                devices += 1;
            }
        }
        let owned = self.manager.registry.iter().filter(|d| d.owner.is_some());
        assert_eq!(
            owned.count(),
            devices,
            "a device has an owner without an interface"
        );
        if self.manager.boot_error.is_none() {
            let primary = |b: &&Brane| b.config.as_ref().is_some_and(|c| c.primary);
            let primaries = self.manager.branes.iter().filter(primary).count();
            assert_eq!(primaries, 1, "primary branes");
        }
    }

    /// Domains run when they are to: a client stands still while the memory that it shares with its brane is cleared, and a free
    /// instance holds nothing of the brane before.
    fn check_life(&self, brane: usize) {
        let b = &self.manager.branes[brane];
        let pd = &self.branes[brane];
        let waits = b.state == State::Failed || b.step == Some(Step::Delay);
        assert_eq!(
            pd.running,
            !waits,
            "whether {brane} runs, which is {}",
            b.state.word()
        );
        let stands = b.state == State::Leaving || b.client.restart_at.is_some();
        assert_eq!(
            self.clients[brane],
            !stands,
            "whether the client of {brane} runs, which is {}",
            b.state.word()
        );
        if matches!(b.state, State::Idle | State::Starting) && b.config.is_none() {
            assert!(!pd.used, "a free instance has what a brane left in it");
        }
    }

    /// A brane that has answered everything, and did all that it was told, is as the manager believes it to be.
    fn check_view(&self, brane: usize) {
        let b = &self.manager.branes[brane];
        let pd: &Pd = &self.branes[brane];
        let busy = !b.orders.is_empty() || matches!(b.step, Some(Step::Configured(..) | Step::Start(_)));
        let child = crate::Child::Brane(brane);
        let on_the_way = self.events.iter().any(|e| e.child() == child);
        if !b.told || busy || on_the_way || pd.strayed || pd.faulted {
            return;
        }
        let (Some(config), Some(has)) = (&b.config, &pd.config) else {
            panic!("{brane} has another configuration than the manager");
        };
        assert_eq!(has.name, config.name);
        let mut sorted = [has.interfaces.clone(), config.interfaces.clone()];
        for interfaces in &mut sorted {
            interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert_eq!(sorted[0], sorted[1], "the interfaces of {}", b.name());
        match b.state {
            State::Started => assert!(pd.started, "{} is not open", b.name()),
            State::Created => assert!(!pd.started, "{} is open", b.name()),
            _ => {}
        }
    }

    /// Checks that the device and branes of every pending job exist, and that no other brane has the device or port that the job takes.
    fn check_jobs(&self) {
        let branes = &self.manager.branes;
        for job in self.manager.desk.under_way() {
            let locks = |brane: usize| {
                assert!(job.branes.contains(&brane), "{job:?} has not locked {brane}");
                assert!(
                    branes[brane].config.is_some(),
                    "{job:?} is about a brane that is gone"
                );
                assert!(
                    branes[brane].job.is_none(),
                    "{job:?} and another job change {brane}"
                );
            };
            let others = self.manager.desk.under_way().iter();
            for other in others.filter(|other| other.number != job.number) {
                let both = job.branes.iter().any(|brane| other.branes.contains(brane));
                assert!(!both, "{job:?} and {other:?} change one brane");
            }
            match &job.work {
                Work::Assign {
                    device,
                    to,
                    interface,
                } => {
                    locks(*to);
                    let d = self.device(&interface.device);
                    let d = d.filter(|d| d.vif == *device);
                    let Some(d) = d else {
                        panic!("{job:?} is about a device that is gone");
                    };
                    if let Some((from, _)) = d.owner {
                        locks(from);
                    }
                    let mut has = branes[*to].interfaces().iter();
                    assert!(
                        has.all(|i| i.name != interface.name && i.port != interface.port),
                        "{job:?} takes a name or a port that is taken"
                    );
                }
                Work::Adjust { brane, interface } => {
                    locks(*brane);
                    let mut has = branes[*brane].interfaces().iter();
                    assert!(has.any(|i| i.name == interface.name), "{job:?}");
                }
                Work::Rename {
                    brane,
                    interface: None,
                    to,
                } => {
                    locks(*brane);
                    assert!(
                        branes.iter().all(|b| b.name() != to),
                        "{job:?} takes a name twice"
                    );
                }
                Work::Rename { brane, .. } => locks(*brane),
                _ => {}
            }
        }
        for operator in 0..self.notified.len() {
            let kept = self.manager.desk.kept(operator);
            assert!(kept <= JOBS, "operator {operator} has {kept} jobs");
        }
    }
}

/// Whether frames are to pass between a brane in this state and its devices.
fn carries(b: &Brane) -> bool {
    match (b.state, b.step) {
        (State::Started | State::Stopping, _) => true,
        (State::Created, step) => matches!(step, Some(Step::Start(_))),
        (State::Starting | State::Restarting, step) => matches!(step, Some(Step::Configured(_, false))),
        _ => false,
    }
}
