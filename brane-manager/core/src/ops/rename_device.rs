//! `nicctl rename`: gives a device that no brane has another name.

use crate::Manager;
use crate::operation::Progress;
use crate::refusals;
use crate::shell::Context;
use alloc::format;
use brane_abi::operator::{Answer, Kind, Refusal};

pub(super) fn run(m: &mut Manager, from: &str, to: &str, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(from)?;
    if let Some(d) = m.devices.get(device) {
        if d.config.kind == Kind::Phys {
            return Err(refusals::nic_is_not_renamed(from));
        }
        if let Some(owner) = d.owner {
            let brane = m.instances[owner.brane].name();
            return Err(refusals::owned_device_is_not_renamed(from, brane));
        }
    }
    m.devices.rename(device, to)?;
    m.event(cx.now, "renamed", None, Some(from), format!("to {to}"));
    Ok(Progress::Done(Answer::Done(format!("{from} is called {to} now"))))
}
