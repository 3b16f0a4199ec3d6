//! `nicctl list`: all devices with their owners, the loopback devices last.

use crate::Manager;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, DevNet, IfNet, Owner};

pub(super) fn show(m: &Manager) -> Answer {
    let listed = m.devices.iter().map(|d| {
        let owner = d.owner.map(|owner| &m.instances[owner.brane]);
        DevNet {
            config: d.config.clone(),
            ifnet: IfNet::from(owner.and_then(|b| {
                b.interface_of(d.name()).map(|i| Owner {
                    brane: b.name().into(),
                    interface: i.name.clone(),
                })
            })),
        }
    });
    let loopbacks = m.devices.loopbacks().map(|lo| DevNet {
        config: lo.config.clone(),
        ifnet: IfNet::Attached(Owner {
            brane: m.instances[lo.brane].name().into(),
            interface: "lo0".into(),
        }),
    });
    Answer::Devices(listed.chain(loopbacks).collect::<Vec<_>>())
}
