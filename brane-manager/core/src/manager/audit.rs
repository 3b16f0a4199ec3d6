//! Who has what, asked three times: of the manager's registry, of the drivers' tables, of the branes.
//!
//! The drivers are trusted, so a difference with them is a fault of ours. Branes are not: a difference with one may be its own
//! lie, and says so by being named.

use super::{Cx, Manager};
use crate::brane::State;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::operator::{Audit, Kind};

/// Most findings that are kept.
const FINDINGS: usize = 64;

impl Manager {
    /// The audit; what a brane has reported before `since` is not taken for its view.
    pub(super) fn audit(&self, since: u64, cx: &mut Cx<'_>) -> Audit {
        let mut findings = Vec::new();
        self.audit_registry(&mut findings);
        for nic in 0..self.registry.nics() as u8 {
            self.audit_driver(nic, cx, &mut findings);
        }
        let mut silent = Vec::new();
        let mut branes = 0;
        for (i, b) in self.branes.iter().enumerate() {
            if b.state != State::Started {
                continue;
            }
            if b.status_at.is_none_or(|at| at < since) {
                silent.push(b.name().to_string());
                continue;
            }
            branes += 1;
            self.audit_brane(i, &mut findings);
        }
        findings.truncate(FINDINGS);
        Audit {
            devices: self.registry.len() as u32,
            branes,
            silent,
            findings,
            free: self.free(cx.driver),
        }
    }

    /// The registry against itself: names, addresses and ports are unique, owners and interfaces match one to one.
    pub(super) fn audit_registry(&self, findings: &mut Vec<String>) {
        let devices: Vec<_> = self.registry.iter().collect();
        for (i, d) in devices.iter().enumerate() {
            let name = &d.config.name;
            for other in &devices[..i] {
                if other.config.name == *name {
                    findings.push(format!("two devices are called {name}"));
                }
                if other.vif == d.vif {
                    findings.push(format!("{name} and {} have one number", other.config.name));
                }
                if d.owner.is_some() && other.owner == d.owner {
                    findings.push(format!("{name} and {} are on one port", other.config.name));
                }
            }
            if let Some((brane, port)) = d.owner {
                let of = self.branes.get(brane).map_or(&[][..], |b| b.interfaces());
                let count = of.iter().filter(|i| i.device == *name && i.port == port).count();
                if count != 1 {
                    findings.push(format!("{name} has an owner with {count} interfaces on it"));
                }
            }
            if let Kind::Pair(peer) = &d.config.kind {
                let back = devices.iter().find(|p| p.config.name == *peer);
                if back.is_none_or(|p| p.config.kind != Kind::Pair(name.clone())) {
                    findings.push(format!("{name} has no other end"));
                }
            }
        }
        let mut primaries = 0;
        for (i, b) in self.branes.iter().enumerate() {
            let Some(config) = &b.config else { continue };
            primaries += usize::from(config.primary);
            let mut others = self.branes[..i].iter().filter(|o| o.config.is_some());
            if others.any(|o| o.name() == b.name()) {
                findings.push(format!("two branes are called {}", b.name()));
            }
            for (n, interface) in config.interfaces.iter().enumerate() {
                if config.interfaces[..n].iter().any(|o| o.name == interface.name) {
                    findings.push(format!("{} has two interfaces {}", b.name(), interface.name));
                }
                let owner = devices.iter().find(|d| d.config.name == interface.device);
                if owner.is_none_or(|d| d.owner != Some((i, interface.port))) {
                    findings.push(format!(
                        "{} of {} is on a device that it has not",
                        interface.name,
                        b.name()
                    ));
                }
            }
        }
        if primaries != 1 && self.boot_error.is_none() {
            findings.push(format!("there are {primaries} primary branes"));
        }
    }

    fn audit_driver(&self, nic: u8, cx: &mut Cx<'_>, findings: &mut Vec<String>) {
        let mut table = cx.driver.table(nic);
        for d in self.registry.iter().filter(|d| d.config.nic == nic && d.added) {
            let name = &d.config.name;
            let Some(at) = table.iter().position(|e| e.vif == d.vif) else {
                findings.push(format!("nic{nic} does not know {name}"));
                continue;
            };
            let entry = table.swap_remove(at);
            if entry.mac != d.mac() {
                findings.push(format!("nic{nic} has {} for {name}, not {}", entry.mac, d.mac()));
            }
            let vlan = match d.config.kind {
                Kind::Vlan(tag) => tag,
                _ => 0,
            };
            if entry.vlan != vlan {
                findings.push(format!("nic{nic} has {name} in VLAN {}, not {vlan}", entry.vlan));
            }
            let bound = d.owner.filter(|_| d.bound);
            let wanted = bound.map_or((0, 0), |(brane, port)| {
                (brane as u16 + 1, u16::from(port) % PORTS_PER_BRANE as u16)
            });
            if (entry.brane, entry.port) != wanted {
                findings.push(format!(
                    "nic{nic} has {name} at port {} of instance {}, not {} of {}",
                    entry.port,
                    i32::from(entry.brane) - 1,
                    wanted.1,
                    i32::from(wanted.0) - 1,
                ));
            }
            let carried = d.owner.is_some_and(|(brane, _)| self.branes[brane].carries());
            if d.bound != carried {
                findings.push(format!(
                    "{name} is bound though its brane is not started, or the other way round"
                ));
            }
        }
        for entry in table {
            findings.push(format!("nic{nic} has a vif {} that nobody knows", entry.vif));
        }
    }

    fn audit_brane(&self, brane: usize, findings: &mut Vec<String>) {
        let b = &self.branes[brane];
        let said = &b.status.interfaces;
        for interface in b.interfaces() {
            let found = said.iter().find(|s| s.device == interface.device);
            match found {
                None => findings.push(format!("{} does not know of {}", b.name(), interface.device)),
                Some(s) if s.name != interface.name || s.mac != interface.mac => findings.push(format!(
                    "{} has {} as {} with {}, not as {} with {}",
                    b.name(),
                    s.device,
                    s.name,
                    s.mac,
                    interface.name,
                    interface.mac
                )),
                Some(_) => {}
            }
        }
        for s in said.iter().filter(|s| s.name != "lo0") {
            if !b.interfaces().iter().any(|i| i.device == s.device) {
                findings.push(format!(
                    "{} says that it has {}, which it has not",
                    b.name(),
                    s.device
                ));
            }
        }
        if said.iter().filter(|s| s.name == "lo0").count() != 1 {
            findings.push(format!("{} has not one lo0", b.name()));
        }
    }
}
