//! The common second half of `create`, `start` and `shutdown`: waits until the brane is in the desired state.

use crate::Manager;
use crate::ids::{BraneId, OperatorId};
use crate::instance::{DesiredState, Input};
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use brane_abi::operator::{Answer, Done, Refusal};

/// Maximum time that a job waits for a desired state, in nanoseconds. Then the job ends; the brane continues.
pub(super) const PATIENCE_NS: u64 = 60_000_000_000;

/// State while the brane changes to the desired state.
#[derive(Debug)]
pub(super) struct ReachState {
    /// The answer after the brane has reached the desired state.
    pub done: Done,
}

/// Sets the desired state of a brane and begins the job that waits for it.
pub(super) fn desire(
    m: &mut Manager,
    operator: OperatorId,
    (brane, desired): (BraneId, DesiredState),
    operation: impl Operation,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let job = open(m, operator, operation, cx)?;
    m.step(brane, Input::Desire(desired, job), cx);
    Ok(Progress::Pending(job))
}

/// Ends a job that has waited too long.
pub(super) fn give_up(m: &mut Manager, job: Resumed) -> Next {
    m.instances.forget_job(job.id);
    Err(refusals::takes_longer()).into()
}

impl Operation for ReachState {
    fn resume(self: Box<Self>, m: &mut Manager, job: Resumed, resume: Resume, _: &mut Context<'_>) -> Next {
        match resume {
            Resume::GoalReached { aborted: count } => {
                let mut done = self.done;
                if let Done::ShutDown { aborted, .. } = &mut done {
                    *aborted = count;
                }
                Ok(Answer::Done(done)).into()
            }
            Resume::NotStarted(brane, why) => {
                Err(refusals::not_started(m.instances[brane].name(), &why)).into()
            }
            // A brane that could not be created is deleted. The job's failure is already known.
            Resume::Recycled => Ok(Answer::Done(Done::Nothing)).into(),
            Resume::Late => give_up(m, job),
            _ => Next::Wait(self),
        }
    }

    fn patience_ns(&self) -> Option<u64> {
        Some(PATIENCE_NS)
    }
}
