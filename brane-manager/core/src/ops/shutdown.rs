//! `shutdown`: ends a brane's connections in an orderly way and stops the brane. The brane stays created.

use super::reach_state::{ReachState, desire};
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::{DesiredState, LifecycleState};
use crate::operation::Progress;
use crate::shell::Context;
use brane_abi::operator::{Answer, Done, Refusal};

/// Longest time that an operator can allow for connections to end, in milliseconds.
pub(super) const MAX_DEADLINE_MS: u32 = 30_000;

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    name: &str,
    deadline_ms: u32,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(name)?;
    let b = &m.instances[brane];
    if matches!(b.desired, DesiredState::Stopped(_)) && b.state == LifecycleState::Created {
        return Ok(Progress::Done(Answer::Done(Done::ShutDownAlready(name.into()))));
    }
    let desired = DesiredState::Stopped(deadline_ms.min(MAX_DEADLINE_MS));
    let done = Done::ShutDown {
        brane: name.into(),
        aborted: 0,
    };
    desire(m, operator, (brane, desired), ReachState { done }, cx)
}
