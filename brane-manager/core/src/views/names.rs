//! Names that exist, for the completion of command lines.

use crate::Manager;
use crate::text::nic_name;
use alloc::format;
use alloc::string::ToString;
use brane_abi::operator::{Answer, Names};

pub(super) fn show(m: &Manager) -> Answer {
    let branes = m.instances.branes();
    Answer::Names(Names {
        branes: branes.clone().map(|b| b.name().to_string()).collect(),
        devices: m.devices.iter().map(|d| d.name().to_string()).collect(),
        interfaces: branes
            .flat_map(|b| {
                let interfaces = b.interfaces().iter();
                interfaces.map(move |i| format!("{}/{}", b.name(), i.name))
            })
            .collect(),
        nics: m.devices.nics().map(nic_name).collect(),
        logs: m.logs.iter().map(|d| d.name.clone()).collect(),
    })
}
