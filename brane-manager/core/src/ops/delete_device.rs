//! `nicctl delete`: deletes a device that no brane has. If it is an end of a pair, both ends are deleted.

use crate::Manager;
use crate::operation::Progress;
use crate::refusals;
use crate::resources::free;
use crate::shell::Context;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Kind, Receipt, Refusal};

pub(super) fn run(m: &mut Manager, name: String, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(&name)?;
    let before = free(m, cx.driver);
    let ends = m.devices.ends(device);
    for d in ends.iter().filter_map(|&end| m.devices.get(end)) {
        if d.config.kind == Kind::Phys {
            return Err(refusals::nic_is_not_deleted(d.name()));
        }
        if let Some(owner) = d.owner {
            let brane = m.instances[owner.brane].name();
            return Err(refusals::owned_device_is_not_deleted(d.name(), brane));
        }
    }
    let mut released = Vec::new();
    for &end in ends.iter().rev() {
        let name = m
            .devices
            .get(end)
            .map_or_else(String::new, |d| d.name().to_string());
        m.devices.remove(end, cx);
        m.event(cx.now, "device-deleted", None, Some(&name), String::new());
        released.push(name);
    }
    let after = free(m, cx.driver);
    Ok(Progress::Done(Answer::Receipt(Receipt {
        name,
        before,
        after,
        released,
        ..Receipt::default()
    })))
}
