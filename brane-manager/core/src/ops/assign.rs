//! `assign`: moves a device to a brane, as an interface. If another brane has the device, it loses it.
//!
//! 1. The new owner adds the interface (`ATTACH`) and may refuse it. A brane that is not configured yet is not asked.
//! 2. The driver moves the vif. From then on the old owner gets no frame of it.
//! 3. The old owner removes its interface (`DETACH`). The answer waits for that.
//!
//! If the driver refuses, the new owner is sent `DETACH` and nothing changes.

use super::settle::Settle;
use crate::Manager;
use crate::devices::Attachment;
use crate::encode;
use crate::ids::{BraneId, DeviceId, JobId, OperatorId};
use crate::instance::Input;
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open, open_with_command, send_change};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{InterfaceConfig, command};
use brane_abi::operator::{Addressing, Answer, Done, Refusal};

/// State after `ATTACH` was sent to the new owner.
#[derive(Debug)]
pub(crate) struct Assign {
    pub device: DeviceId,
    pub from: Option<BraneId>,
    pub to: BraneId,
    pub interface: InterfaceConfig,
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    (device_name, brane, interface): (&str, &str, Option<&str>),
    addressing: Option<Addressing>,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(device_name)?;
    let to = m.unlocked_brane(brane)?;
    let Some(d) = m.devices.get(device) else {
        return Err(refusals::device_is_gone());
    };
    let mac = d.mac();
    let from = d.owner.map(|owner| owner.brane).filter(|&from| from != to);
    if let Some(from) = from {
        m.unlocked_brane(m.instances[from].name())?;
    }
    let (name, port) = choose_interface(m, device, to, interface)?;
    let present = from.and_then(|from| m.instances[from].interface_of(device_name).cloned());
    let mut interface = InterfaceConfig {
        name,
        device: device_name.to_string(),
        port,
        mac,
        ..present.unwrap_or_default()
    };
    if let Some(addressing) = addressing {
        super::address::set_addressing(&mut interface, addressing)?;
    }
    let payload = encode(&interface);
    let assign = Assign {
        device,
        from,
        to,
        interface,
    };
    if m.instances[to].configured {
        return open_with_command(m, operator, assign, (to, command::ATTACH, payload), cx);
    }
    if from.is_none() {
        // No brane is sent a command, so no job is needed.
        return assign
            .transfer(m, None, cx)
            .map(|(answer, _)| Progress::Done(answer));
    }
    let settle = Settle {
        result: Ok(Answer::Done(Done::Nothing)),
        locks: assign.locks(),
    };
    let job = open(m, operator, settle, cx)?;
    match assign.transfer(m, Some(job), cx) {
        Ok((answer, true)) => {
            if let Some(job) = m.jobs.get_mut(job) {
                job.operation = assign.settle(Ok(answer));
            }
            Ok(Progress::Pending(job))
        }
        done => {
            m.jobs.abandon(job);
            done.map(|(answer, _)| Progress::Done(answer))
        }
    }
}

impl Operation for Assign {
    fn resume(self: Box<Self>, m: &mut Manager, job: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next {
        if let Err(why) = resume.command_done() {
            return Err(why).into();
        }
        match self.transfer(m, Some(job.id), cx) {
            Ok((answer, true)) => Next::Wait(self.settle(Ok(answer))),
            Ok((answer, false)) => Ok(answer).into(),
            // The port is free again only when the brane has answered that it removed the interface.
            Err(why) if m.instances[self.to].configured => Next::Wait(self.settle(Err(why))),
            Err(why) => Err(why).into(),
        }
    }

    fn locks(&self) -> Locks {
        let mut branes = Vec::from([self.to]);
        branes.extend(self.from);
        Locks {
            branes,
            device: Some(self.device),
            ..Locks::default()
        }
    }
}

impl Assign {
    fn settle(&self, result: Result<Answer, Refusal>) -> Box<Settle> {
        Box::new(Settle {
            result,
            locks: self.locks(),
        })
    }

    /// Moves the device from its old owner to the new one. Returns the answer, and true if the old owner's answer is outstanding.
    /// If the driver refuses, the new owner is sent `DETACH` if it takes commands.
    fn transfer(
        &self,
        m: &mut Manager,
        job: Option<JobId>,
        cx: &mut Context<'_>,
    ) -> Result<(Answer, bool), Refusal> {
        let (name, device_name) = (&self.interface.name, &self.interface.device);
        let from = m.devices.get(self.device).map(|d| d.owner.map(|o| o.brane));
        let to = Attachment {
            brane: self.to,
            port: self.interface.port,
        };
        let instances = &m.instances;
        let passes_frames = |brane: BraneId| instances[brane].passes_frames();
        let moved = match from {
            Some(from) => m
                .devices
                .transfer(self.device, to, passes_frames, cx)
                .map(|()| from)
                .map_err(|why| refusals::binding_refused_by_driver(device_name, why)),
            None => Err(refusals::device_is_gone()),
        };
        let from = match moved {
            Ok(from) => from,
            Err(why) => {
                if let Some(job) = job.filter(|_| m.instances[self.to].configured) {
                    let name = name.clone().into_bytes();
                    send_change(m, job, (self.to, command::DETACH, name), cx);
                }
                return Err(why);
            }
        };
        let old = from.and_then(|from| m.instances[from].interface_of(device_name));
        let old = old.map(|interface| interface.name.clone());
        if let Some(from) = from {
            m.instances.remove_interface(from, device_name);
        }
        m.instances.add_interface(self.to, self.interface.clone());
        let brane = m.instances[self.to].name().to_string();
        let moved = from.map_or(String::new(), |from| {
            format!(" from {}", m.instances[from].name())
        });
        let detail = format!("as {name}{moved}");
        m.event(cx.now, "assigned", Some(&brane), Some(device_name), detail);
        m.step(self.to, Input::Reconfigured, cx);
        let answer = Answer::Done(Done::Assigned {
            device: device_name.to_string(),
            interface: name.clone(),
            brane,
            from: from.map(|from| m.instances[from].name().to_string()),
        });
        match (from, old, job) {
            (Some(from), Some(old), Some(job)) if m.instances[from].configured => {
                send_change(m, job, (from, command::DETACH, old.into_bytes()), cx);
                Ok((answer, true))
            }
            _ => Ok((answer, false)),
        }
    }
}

/// Chooses name and port of the device's interface in the brane.
fn choose_interface(
    m: &Manager,
    device: DeviceId,
    brane: BraneId,
    name: Option<&str>,
) -> Result<(String, u8), Refusal> {
    let b = &m.instances[brane];
    let Some(d) = m.devices.get(device) else {
        return Err(refusals::device_is_gone());
    };
    if d.owner.is_some_and(|owner| owner.brane == brane) {
        let present = b.interface_of(d.name()).map_or("", |i| &i.name);
        return Err(refusals::owned_already(d.name(), b.name(), present));
    }
    let nic = d.config.nic;
    let Some(port) = m.devices.free_port(brane, nic) else {
        return Err(refusals::no_free_port(b.name(), nic, m.devices.ports_per_nic()));
    };
    let name = match name {
        Some(name) => {
            m.check_interface_name(brane, name)?;
            name.to_string()
        }
        None => (0..=b.interfaces().len())
            .map(|n| format!("net{n}"))
            .find(|name| b.interfaces().iter().all(|i| i.name != *name))
            .unwrap_or_default(),
    };
    Ok((name, port))
}
