//! `remove`: removes a device from its brane.
//!
//! The driver unbinds the vif first. Then the brane removes its interface (`DETACH`), and the answer waits for that.

use super::settle::Settle;
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::Input;
use crate::jobs::Locks;
use crate::operation::{Progress, open, send_change};
use crate::refusals;
use crate::shell::Context;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::command;
use brane_abi::operator::{Answer, Done, Refusal};

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    device_name: &str,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(device_name)?;
    let Some(from) = m.devices.get(device).and_then(|d| d.owner).map(|o| o.brane) else {
        return Err(refusals::has_no_owner(device_name));
    };
    let owner = m.instances[from].name().to_string();
    m.unlocked_brane(&owner)?;
    let interface = m.instances[from].interface_of(device_name);
    let name = interface.map_or(String::new(), |i| i.name.clone());
    let answer = Answer::Done(Done::Removed {
        device: device_name.to_string(),
        interface: name.clone(),
        brane: owner.clone(),
    });
    let progress = match m.instances[from].configured {
        true => {
            let settle = Settle {
                result: Ok(answer),
                locks: Locks {
                    branes: Vec::from([from]),
                    device: Some(device),
                    ..Locks::default()
                },
            };
            Progress::Pending(open(m, operator, settle, cx)?)
        }
        false => Progress::Done(answer),
    };
    m.devices.release(device, cx);
    m.instances.remove_interface(from, device_name);
    m.event(cx.now, "removed", Some(&owner), Some(device_name), name.clone());
    m.step(from, Input::Reconfigured, cx);
    if let Progress::Pending(job) = progress {
        send_change(m, job, (from, command::DETACH, name.into_bytes()), cx);
    }
    Ok(progress)
}
