//! `save`: returns the boot configuration that brings the system up in its present desired state.

use crate::Manager;
use crate::boot::{BootConfig, BraneBoot};
use crate::instance::{DesiredState, Instance, LifecycleState};
use brane_abi::operator::{Answer, Kind};

pub(super) fn show(m: &Manager) -> Answer {
    let wanted =
        |b: &&Instance| !matches!(b.desired, DesiredState::Absent(_)) && b.state != LifecycleState::Recycling;
    let brane = |b: &Instance| {
        let config = b.config.as_ref()?;
        Some(BraneBoot {
            name: config.name.clone(),
            primary: config.primary,
            interfaces: config.interfaces.clone(),
            families: config.families.clone(),
            held: matches!(b.desired, DesiredState::Stopped(_)),
            filter: config.filter.clone(),
            memory: config.memory,
        })
    };
    let devices = m.devices.iter();
    let devices = devices.filter(|d| d.config.kind != Kind::Phys || d.owner.is_some());
    let saved = BootConfig {
        branes: m.instances.iter().filter(wanted).filter_map(brane).collect(),
        devices: devices.map(|d| d.config.clone()).collect(),
        mac_pool: m.devices.pool(),
        log: m.logs.saved(),
    };
    Answer::Saved(saved.to_bytes())
}
