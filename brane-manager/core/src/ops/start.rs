//! `start`: starts a brane that was created or shut down.

use super::reach_state::{ReachState, desire};
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::{DesiredState, LifecycleState};
use crate::operation::Progress;
use crate::shell::Context;
use brane_abi::operator::{Answer, Done, Refusal};

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    name: &str,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(name)?;
    let b = &m.instances[brane];
    if b.desired == DesiredState::Running && b.state == LifecycleState::Started {
        return Ok(Progress::Done(Answer::Done(Done::StartedAlready(name.into()))));
    }
    let done = Done::Started(name.into());
    desire(
        m,
        operator,
        (brane, DesiredState::Running),
        ReachState { done },
        cx,
    )
}
