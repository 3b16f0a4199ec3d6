//! `nicctl create`: creates a device, or both ends of a pair. If a driver refuses, nothing is created.

use crate::Manager;
use crate::ids::DeviceId;
use crate::operation::Progress;
use crate::refusals;
use crate::shell::Context;
use alloc::format;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, DeviceConfig, Done, Kind, Refusal};

pub(super) fn run(m: &mut Manager, config: DeviceConfig, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let name = config.name.clone();
    let ends = match &config.kind {
        Kind::Vnic | Kind::Vlan(_) => Vec::from([config]),
        Kind::Pair(peer) if *peer == name => return Err(refusals::pair_with_one_name(&name)),
        Kind::Pair(peer) => {
            let other = DeviceConfig {
                name: peer.clone(),
                kind: Kind::Pair(name.clone()),
                nic: config.nic,
                ..DeviceConfig::default()
            };
            Vec::from([config, other])
        }
        Kind::Phys | Kind::Lo => return Err(refusals::kind_cannot_be_made(&config.kind)),
    };
    let mut added = Vec::new();
    if let Err(why) = add(m, &name, ends, &mut added, cx) {
        for id in added.into_iter().rev() {
            m.devices.remove(id, cx);
        }
        return Err(why);
    }
    let first = added.first().and_then(|&id| m.devices.get(id));
    let mac = first.map(|d| d.mac()).unwrap_or_default();
    m.event(cx.now, "device-added", None, Some(&name), format!("{mac}"));
    Ok(Progress::Done(Answer::Done(Done::DeviceCreated {
        device: name,
        mac,
    })))
}

/// Adds all ends to the table, then to the driver.
fn add(
    m: &mut Manager,
    name: &str,
    ends: Vec<DeviceConfig>,
    added: &mut Vec<DeviceId>,
    cx: &mut Context<'_>,
) -> Result<(), Refusal> {
    for end in ends {
        m.check_device_name_is_free(&end.name)?;
        added.push(m.devices.insert(end)?);
    }
    for &id in added.iter() {
        m.devices
            .add_vif(id, cx.driver)
            .map_err(|why| refusals::device_refused_by_driver(name, why))?;
    }
    Ok(())
}
