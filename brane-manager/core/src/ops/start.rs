//! `start`: starts a brane that was created or shut down.

use super::reach_state::{ReachState, desire};
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::{DesiredState, LifecycleState};
use crate::operation::Progress;
use crate::shell::Context;
use alloc::format;
use brane_abi::operator::{Answer, Refusal};

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    name: &str,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(name)?;
    let b = &m.instances[brane];
    if b.desired == DesiredState::Running && b.state == LifecycleState::Started {
        return Ok(Progress::Done(Answer::Done(format!("{name} is started already"))));
    }
    let done = format!("{name} is started");
    desire(
        m,
        operator,
        (brane, DesiredState::Running),
        ReachState { done },
        cx,
    )
}
