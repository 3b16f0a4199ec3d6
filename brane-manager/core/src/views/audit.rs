//! `audit`: compares three views of the devices' owners: the manager's tables, the drivers' tables, the branes'
//! reports.
//!
//! The drivers are trusted, so a difference with them is an error of the manager. Branes are not trusted, so a
//! difference with a brane may be its own lie; the finding names the brane.

use super::{Fresh, View};
use crate::Manager;
use crate::devices::Attachment;
use crate::ids::BraneId;
use crate::instance::LifecycleState;
use crate::resources::free;
use crate::shell::Context;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Kind, Refusal};

/// Maximum number of findings in one answer.
const FINDINGS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Audit;

impl View for Audit {
    /// Ignores a brane's report from before `since`.
    fn show(&self, m: &Manager, Fresh { since }: Fresh, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let mut findings = Vec::new();
        audit_table(m, &mut findings);
        for nic in m.devices.nics() {
            audit_driver(m, nic, cx, &mut findings);
        }
        let mut silent = Vec::new();
        let mut branes = 0;
        let started = |b: &&crate::instance::Instance| b.state == LifecycleState::Started;
        for b in m.instances.iter().filter(started) {
            if b.has_reported(since) {
                branes += 1;
                audit_brane(m, b.id(), &mut findings);
            } else {
                silent.push(b.name().to_string());
            }
        }
        findings.truncate(FINDINGS);
        Ok(Answer::Audit(brane_abi::operator::Audit {
            devices: m.devices.len() as u32,
            branes,
            silent,
            findings,
            free: free(m, cx.driver),
        }))
    }
}

/// Checks that the table is consistent: names, numbers and ports are unique, owners and interfaces match one to one.
fn audit_table(m: &Manager, findings: &mut Vec<String>) {
    let devices: Vec<_> = m.devices.iter().collect();
    for (i, d) in devices.iter().enumerate() {
        let name = &d.config.name;
        for other in &devices[..i] {
            if other.config.name == *name {
                findings.push(format!("two devices are called {name}"));
            }
            if other.id == d.id {
                findings.push(format!("{name} and {} have one number", other.config.name));
            }
            if d.owner.is_some() && other.owner == d.owner {
                findings.push(format!("{name} and {} are on one port", other.config.name));
            }
        }
        if let Some(owner) = d.owner {
            let of = m.instances.get(owner.brane).map_or(&[][..], |b| b.interfaces());
            let count = of
                .iter()
                .filter(|i| i.device == *name && i.port == owner.port)
                .count();
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
    for b in m.instances.branes() {
        let Some(config) = &b.config else { continue };
        primaries += usize::from(config.primary);
        let mut earlier = m.instances.branes().take_while(|o| o.id() != b.id());
        if earlier.any(|o| o.name() == b.name()) {
            findings.push(format!("two branes are called {}", b.name()));
        }
        for (n, interface) in config.interfaces.iter().enumerate() {
            if config.interfaces[..n].iter().any(|o| o.name == interface.name) {
                findings.push(format!("{} has two interfaces {}", b.name(), interface.name));
            }
            let owner = devices.iter().find(|d| d.config.name == interface.device);
            let attachment = Attachment {
                brane: b.id(),
                port: interface.port,
            };
            if owner.is_none_or(|d| d.owner != Some(attachment)) {
                findings.push(format!(
                    "{} of {} is on a device that it has not",
                    interface.name,
                    b.name()
                ));
            }
        }
    }
    if primaries != 1 && m.boot_error.is_none() {
        findings.push(format!("there are {primaries} primary branes"));
    }
}

fn audit_driver(m: &Manager, nic: u8, cx: &mut Context<'_>, findings: &mut Vec<String>) {
    let mut table = cx.driver.table(nic);
    for d in m.devices.iter().filter(|d| d.config.nic == nic && d.added) {
        let name = &d.config.name;
        let Some(at) = table.iter().position(|e| e.vif == d.id.number()) else {
            findings.push(format!("nic{nic} does not know {name}"));
            continue;
        };
        let entry = table.swap_remove(at);
        if entry.mac != d.mac() {
            findings.push(format!("nic{nic} has {} for {name}, not {}", entry.mac, d.mac()));
        }
        if entry.vlan != d.vlan() {
            findings.push(format!(
                "nic{nic} has {name} in VLAN {}, not {}",
                entry.vlan,
                d.vlan()
            ));
        }
        let bound = d.owner.filter(|_| d.bound);
        let wanted = bound.map_or((0, 0), |owner| {
            let port = m.devices.port_on_nic(owner.port) as u16;
            (owner.brane.index() as u16 + 1, port)
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
        let passes = d
            .owner
            .is_some_and(|owner| m.instances[owner.brane].passes_frames());
        if d.bound != passes {
            findings.push(format!(
                "{name} is bound though its brane is not started, or the other way round"
            ));
        }
    }
    for entry in table {
        findings.push(format!("nic{nic} has an unknown vif {}", entry.vif));
    }
}

fn audit_brane(m: &Manager, brane: BraneId, findings: &mut Vec<String>) {
    let b = &m.instances[brane];
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
