//! `nicctl list`: all devices with their owners, the loopback devices last.

use crate::Manager;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Device, Owner};

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
    let loopbacks = m.devices.loopbacks().map(|lo| Device {
        config: lo.config.clone(),
        owner: Some(Owner {
            brane: m.instances[lo.brane].name().into(),
            interface: "lo0".into(),
        }),
    });
    Answer::Devices(listed.chain(loopbacks).collect::<Vec<_>>())
}
