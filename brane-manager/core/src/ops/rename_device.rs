//! `nicctl rename`: gives a device another name. A brane that has the device continues to use it, and may refuse
//! (`RENAME`).

use crate::Manager;
use crate::encode;
use crate::ids::{BraneId, DeviceId, OperatorId};
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open_with_command};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{self, command};
use brane_abi::operator::{Answer, Done, Kind, Refusal};

/// State after `RENAME` was sent to the brane that has the device.
#[derive(Debug)]
struct RenameDevice {
    device: DeviceId,
    brane: BraneId,
    from: String,
    to: String,
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    from: String,
    to: String,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(&from)?;
    m.check_device_name_is_free(&to)?;
    m.devices.check_name(&to)?;
    let Some(d) = m.devices.get(device) else {
        return Err(refusals::no_such_device(
            &from,
            m.devices.iter().map(|d| d.name()),
        ));
    };
    if d.config.kind == Kind::Phys {
        return Err(refusals::nic_is_not_renamed(&from));
    }
    let Some(owner) = d.owner else {
        return apply(m, device, None, &from, &to, cx).map(Progress::Done);
    };
    let brane = owner.brane;
    let b = &m.instances[brane];
    m.unlocked_brane(b.name())?;
    let interface = b.interface_of(&from).map(|i| i.name.clone());
    if !b.configured || interface.is_none() {
        return apply(m, device, Some(brane), &from, &to, cx).map(Progress::Done);
    }
    let payload = encode(&control::Rename {
        interface,
        to: to.clone(),
        device: true,
    });
    let operation = RenameDevice {
        device,
        brane,
        from,
        to,
    };
    open_with_command(m, operator, operation, (brane, command::RENAME, payload), cx)
}

impl Operation for RenameDevice {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next {
        let done = resume.command_done();
        done.and_then(|()| apply(m, self.device, Some(self.brane), &self.from, &self.to, cx))
            .into()
    }

    fn locks(&self) -> Locks {
        Locks {
            branes: Vec::from([self.brane]),
            device: Some(self.device),
            device_name: Some(self.to.clone()),
            ..Locks::default()
        }
    }
}

/// Writes the new name to the table and to the configuration of the brane that has the device.
fn apply(
    m: &mut Manager,
    device: DeviceId,
    brane: Option<BraneId>,
    from: &str,
    to: &str,
    cx: &mut Context<'_>,
) -> Result<Answer, Refusal> {
    m.devices.rename(device, to)?;
    let owner = brane.map(|brane| {
        m.instances.rename_device(brane, from, to);
        String::from(m.instances[brane].name())
    });
    m.event(
        cx.now,
        "renamed",
        owner.as_deref(),
        Some(from),
        format!("to {to}"),
    );
    Ok(Answer::Done(Done::Renamed {
        from: from.into(),
        to: to.into(),
    }))
}
