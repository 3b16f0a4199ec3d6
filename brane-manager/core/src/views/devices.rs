//! `nicctl list`: all devices with their owners, each brane's `lo0` last.

use crate::Manager;
use alloc::format;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Device, DeviceConfig, Kind, Owner};

pub(super) fn show(m: &Manager) -> Answer {
    let listed = m.devices.iter().map(|d| {
        let owner = d.owner.map(|owner| &m.instances[owner.brane]);
        Device {
            config: d.config.clone(),
            owner: owner.and_then(|b| {
                b.interface_of(d.name()).map(|i| Owner {
                    brane: b.name().into(),
                    interface: i.name.clone(),
                })
            }),
        }
    });
    let loopbacks = m.instances.branes().map(|b| Device {
        config: DeviceConfig {
            name: format!("lo.{}", b.id().index()),
            kind: Kind::Lo,
            ..DeviceConfig::default()
        },
        owner: Some(Owner {
            brane: b.name().into(),
            interface: "lo0".into(),
        }),
    });
    Answer::Devices(listed.chain(loopbacks).collect::<Vec<_>>())
}
