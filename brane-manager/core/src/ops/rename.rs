//! `rename`: gives a brane or one of its interfaces another name. The brane may refuse (`RENAME`).

use crate::Manager;
use crate::encode;
use crate::ids::{BraneId, OperatorId};
use crate::instance::Input;
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open_with_command};
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{self, command};
use brane_abi::operator::{Answer, Done, Refusal};

/// State after `RENAME` was sent to the brane.
#[derive(Debug)]
pub(crate) struct Rename {
    pub brane: BraneId,
    /// The interface's present name. `None` renames the brane.
    pub interface: Option<String>,
    pub to: String,
}

pub(super) fn begin_brane(
    m: &mut Manager,
    operator: OperatorId,
    from: &str,
    to: String,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(from)?;
    m.check_brane_name(&to)?;
    let rename = Rename {
        brane,
        interface: None,
        to,
    };
    rename.begin(m, operator, cx)
}

pub(super) fn begin_interface(
    m: &mut Manager,
    operator: OperatorId,
    brane: &str,
    from: String,
    to: String,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(brane)?;
    m.interface(brane, &from)?;
    m.check_interface_name(brane, &to)?;
    let rename = Rename {
        brane,
        interface: Some(from),
        to,
    };
    rename.begin(m, operator, cx)
}

impl Operation for Rename {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next {
        resume.command_done().map(|()| self.apply(m, cx)).into()
    }

    fn locks(&self) -> Locks {
        Locks {
            branes: Vec::from([self.brane]),
            brane_name: self.interface.is_none().then(|| self.to.clone()),
            ..Locks::default()
        }
    }
}

impl Rename {
    fn begin(self, m: &mut Manager, operator: OperatorId, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
        let brane = self.brane;
        if !m.instances[brane].configured {
            return Ok(Progress::Done(self.apply(m, cx)));
        }
        let payload = encode(&control::Rename {
            interface: self.interface.clone(),
            to: self.to.clone(),
            device: false,
        });
        open_with_command(m, operator, self, (brane, command::RENAME, payload), cx)
    }

    /// Writes the new name to the configuration.
    fn apply(self, m: &mut Manager, cx: &mut Context<'_>) -> Answer {
        let Rename { brane, interface, to } = self;
        let old = m.instances[brane].name().to_string();
        let (device, detail, done) = match interface {
            None => {
                m.instances.rename(brane, to.clone());
                m.notify_renamed(brane, &old);
                (
                    None,
                    format!("to {to}"),
                    Done::Renamed {
                        from: old.clone(),
                        to,
                    },
                )
            }
            Some(from) => (
                m.instances.rename_interface(brane, &from, to.clone()),
                format!("{from} to {to}"),
                Done::InterfaceRenamed {
                    brane: old.clone(),
                    from,
                    to,
                },
            ),
        };
        m.event(cx.now, "renamed", Some(&old), device.as_deref(), detail);
        m.step(brane, Input::Reconfigured, cx);
        Answer::Done(done)
    }
}
