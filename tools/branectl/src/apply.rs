//! `apply` and `save`: compares the running system's configuration with a file.
//!
//! The difference is a list of requests in a safe order: obstacles are removed first. Then devices and branes
//! are created, then interfaces are assigned, then branes start. On the other side: the manager, which checks
//! each request again.

use crate::operator::{Failure, Operator};
use brane_abi::control::{FamilyConfig, InterfaceConfig, all_families};
use brane_abi::filter::Edit;
use brane_abi::log::Level;
use brane_abi::operator::{Answer, DeviceConfig, Kind, Request};
use brane_manager_core::boot::{BootConfig, BraneBoot};
use operator_cli::change::addressing;
use operator_cli::error::Error;
use operator_cli::filter;
use std::collections::BTreeSet;

/// Time for the connections of a brane that is deleted or shut down, in milliseconds.
const DEADLINE_MS: u32 = 5000;

/// Returns the configuration of the running system, in its desired state.
pub fn running(system: &mut dyn Operator) -> Result<BootConfig, Failure> {
    match system.call(&Request::Save)? {
        Answer::Saved(bytes) => BootConfig::from_bytes(&bytes)
            .map_err(|e| Failure::Line(format!("the system's configuration cannot be read: {e}"))),
        other => Err(Failure::Line(format!(
            "the system answers something else than its configuration: {other:?}"
        ))),
    }
}

/// Place of an interface: the name of its brane, and its configuration there.
type Place<'a> = (&'a str, &'a InterfaceConfig);

fn place<'a>(config: &'a BootConfig, device: &str) -> Option<Place<'a>> {
    let mut all = config
        .branes
        .iter()
        .flat_map(|b| b.interfaces.iter().map(|i| (b.name.as_str(), i)));
    all.find(|(_, i)| i.device == device)
}

fn brane<'a>(config: &'a BootConfig, name: &str) -> Option<&'a BraneBoot> {
    config.branes.iter().find(|b| b.name == name)
}

fn families(b: &BraneBoot) -> Vec<FamilyConfig> {
    let mut all = b.families.clone().unwrap_or_else(all_families);
    all.sort_by_key(|f| f.family);
    for f in &mut all {
        f.protocols.sort();
    }
    all
}

/// Returns true if a device cannot be changed from `now` into `wanted`.
fn differs(now: &DeviceConfig, wanted: &DeviceConfig) -> bool {
    let mac = wanted.mac.is_some() && now.mac.is_some() && now.mac != wanted.mac;
    now.kind != wanted.kind || now.nic != wanted.nic || mac
}

/// Computes the requests that turn `now` into `wanted`. Empty if they are equal. The manager chooses which port
/// of a brane carries an interface, because the file's port numbers count at boot only. An interface that gets
/// another name is removed and assigned again.
pub fn plan(now: &BootConfig, wanted: &BootConfig) -> Result<Vec<Request>, Error> {
    let boot = "write it into the boot configuration and restart the system";
    let primary = |c: &BootConfig| c.branes.iter().find(|b| b.primary).map(|b| b.name.clone());
    if primary(now) != primary(wanted) {
        return Err(Error::new(
            "the primary brane cannot change in a running system",
            boot,
        ));
    }
    if now.mac_pool != wanted.mac_pool {
        return Err(Error::new("the mac-pool cannot change in a running system", boot));
    }
    let mut out = Vec::new();

    // Branes that are deleted, or must be created again.
    let goes = |b: &BraneBoot| {
        brane(wanted, &b.name).is_none_or(|w| families(w) != families(b) || w.memory != b.memory)
    };
    let gone: BTreeSet<&str> = now
        .branes
        .iter()
        .filter(|b| goes(b))
        .map(|b| b.name.as_str())
        .collect();
    if let Some(b) = now
        .branes
        .iter()
        .find(|b| b.primary && gone.contains(b.name.as_str()))
    {
        return Err(Error::new(
            format!(
                "the families and the memory of the primary brane {} cannot change in a running system",
                b.name
            ),
            boot,
        ));
    }

    // Devices that are deleted, or must be created again. Of a pair, both ends.
    let mut remade: BTreeSet<&str> = BTreeSet::new();
    for d in now.devices.iter().filter(|d| !is_fixed(d)) {
        if wanted.device(&d.name).is_none_or(|w| differs(d, w)) {
            remade.insert(&d.name);
            if let Kind::Pair(peer) = &d.kind {
                remade.insert(peer);
            }
        }
    }

    // True if an interface stays: its device, its brane and its name do not change.
    let stays = |device: &str| {
        let (from, to) = (place(now, device), place(wanted, device));
        let same = matches!((from, to), (Some((a, i)), Some((b, j))) if a == b && i.name == j.name);
        same && !remade.contains(device) && from.is_some_and(|(b, _)| !gone.contains(b))
    };
    for b in now.branes.iter().filter(|b| !gone.contains(b.name.as_str())) {
        let leaving = b.interfaces.iter().filter(|i| !stays(&i.device));
        out.extend(leaving.map(|i| Request::Remove(i.device.clone())));
    }
    out.extend(gone.iter().map(|name| Request::Delete {
        name: (*name).into(),
        deadline_ms: DEADLINE_MS,
    }));
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for name in &remade {
        if done.insert(name) {
            out.push(Request::DeleteDevice((*name).into()));
            if let Some(Kind::Pair(peer)) = now.device(name).map(|d| &d.kind) {
                done.insert(peer);
            }
        }
    }

    // New devices, and the limits of all devices.
    let mut made: BTreeSet<&str> = BTreeSet::new();
    for w in wanted.devices.iter().filter(|d| !is_fixed(d)) {
        let kept = now.device(&w.name).filter(|_| !remade.contains(w.name.as_str()));
        match kept {
            Some(n) => out.extend(limit(n, w)),
            None if made.contains(w.name.as_str()) => {
                // The other end of a pair, which was created with the first. Its limits are its own.
                let plain = DeviceConfig {
                    mac: w.mac,
                    ..DeviceConfig::default()
                };
                out.extend(limit(&plain, w));
            }
            None => {
                if let Kind::Pair(peer) = &w.kind {
                    made.insert(peer);
                }
                out.push(Request::AddDevice(w.clone()));
            }
        }
    }
    for w in wanted.devices.iter().filter(|d| is_fixed(d)) {
        if let Some(n) = now.device(&w.name) {
            out.extend(limit(n, w));
        }
    }

    // New branes, then rules, then interfaces.
    for w in &wanted.branes {
        if brane(now, &w.name).is_none() || gone.contains(w.name.as_str()) {
            out.push(Request::Create {
                name: w.name.clone(),
                families: w.families.clone(),
                start: false,
                memory: w.memory,
            });
        }
    }
    // Rules come before interfaces, so that they are in force when the first frame passes.
    for w in &wanted.branes {
        let before = brane(now, &w.name).filter(|_| !gone.contains(w.name.as_str()));
        let rules = before.map_or(&[][..], |b| &b.filter);
        if rules == w.filter {
            continue;
        }
        match w.filter.is_empty() {
            true => out.push(Request::Filter {
                brane: w.name.clone(),
                edit: Edit::Flush,
            }),
            false => out.extend(filter::requests(&w.name, &w.filter)?),
        }
    }
    for w in &wanted.branes {
        for i in &w.interfaces {
            let wants = addressing(i);
            if !stays(&i.device) {
                out.push(Request::Assign {
                    device: i.device.clone(),
                    brane: w.name.clone(),
                    interface: Some(i.name.clone()),
                    addressing: Some(wants),
                });
            } else if place(now, &i.device).is_some_and(|(_, n)| addressing(n) != wants) {
                out.push(Request::Adjust {
                    brane: w.name.clone(),
                    interface: i.name.clone(),
                    addressing: wants,
                });
            }
        }
    }

    // Starts and stops come last.
    for w in &wanted.branes {
        let before = brane(now, &w.name).filter(|_| !gone.contains(w.name.as_str()));
        let runs = before.is_some_and(|b| !b.held);
        match (runs, !w.held) {
            (false, true) => out.push(Request::Start(w.name.clone())),
            (true, false) => out.push(Request::Shutdown {
                name: w.name.clone(),
                deadline_ms: DEADLINE_MS,
            }),
            _ => {}
        }
    }
    out.extend(levels(now, wanted));
    Ok(out)
}

/// Returns true if a device exists in every system.
fn is_fixed(d: &DeviceConfig) -> bool {
    matches!(d.kind, Kind::Phys | Kind::Lo)
}

/// Returns the request that brings a device's mode and limits to the wanted ones, if they differ.
fn limit(now: &DeviceConfig, wanted: &DeviceConfig) -> Option<Request> {
    let request = Request::Limit {
        device: wanted.name.clone(),
        mode: (now.mode != wanted.mode).then_some(wanted.mode),
        allow: (now.allow != wanted.allow).then(|| wanted.allow.clone()),
        rate_up: (now.rate_up != wanted.rate_up).then(|| wanted.rate_up.unwrap_or(0)),
        rate_down: (now.rate_down != wanted.rate_down).then(|| wanted.rate_down.unwrap_or(0)),
    };
    let nothing = Request::Limit {
        device: wanted.name.clone(),
        mode: None,
        allow: None,
        rate_up: None,
        rate_down: None,
    };
    (request != nothing).then_some(request)
}

/// Returns the requests that bring log levels to those of the file. A domain that the file does not name gets
/// the default level.
fn levels(now: &BootConfig, wanted: &BootConfig) -> Vec<Request> {
    let of = |config: &BootConfig, pd: &str| {
        let named = config.log.iter().find(|entry| entry.pd == pd);
        named.map_or(Level::default(), |entry| entry.level)
    };
    let all: BTreeSet<&str> = now.log.iter().chain(&wanted.log).map(|l| l.pd.as_str()).collect();
    let changed = all.into_iter().filter(move |pd| of(now, pd) != of(wanted, pd));
    changed
        .map(|pd| Request::SetLogLevel {
            pd: pd.into(),
            level: of(wanted, pd),
        })
        .collect()
}

#[cfg(test)]
mod tests;
