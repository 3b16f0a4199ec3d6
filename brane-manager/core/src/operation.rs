//! The trait of operations. An operation is a request of an operator that is done at once, or begun and resumed until
//! it ends.
//!
//! Each file of [`crate::ops`] has both halves of one operation. `begin` checks the request, and changes nothing unless
//! all of it is possible. [`Operation::resume`] handles the awaited event.

use crate::Manager;
use crate::ids::{BraneId, JobId, OperatorId};
use crate::instance::{Command, CommandResult};
use crate::jobs::{Finished, JobTable, Locks, OnCancel, Opening};
use crate::refusals;
use crate::shell::{Action, Context};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Refusal};
use core::any::Any;
use core::fmt::Debug;

/// Progress of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is encoded at once"
)]
pub(crate) enum Progress {
    Done(Answer),
    Pending(JobId),
}

/// The awaited event of an operation.
pub(crate) enum Resume {
    /// The end of the command that the operation has sent.
    Command(CommandResult),
    /// The brane is in the desired state.
    GoalReached { aborted: u32 },
    /// The brane refuses its configuration.
    NotStarted(BraneId, String),
    /// The brane is deleted, and its devices with these names are released.
    Deleted { released: Vec<String>, aborted: u32 },
    /// The instance of the deleted brane is free.
    Recycled,
    /// [`Operation::is_ready`] has returned true.
    Ready,
    /// The job's deadline has passed.
    Late,
    /// A part of the batch has ended.
    Part(Box<JobResult>),
}

impl Resume {
    /// Returns a refusal unless the brane has carried out the command.
    pub(crate) fn command_done(self) -> Result<(), Refusal> {
        match self {
            Resume::Command(CommandResult::Refused(why)) => Err(refusals::refused_by_brane(&why)),
            Resume::Command(CommandResult::Lost) => Err(refusals::brane_failed()),
            Resume::Command(CommandResult::Late) => Err(refusals::no_answer_in_time()),
            _ => Ok(()),
        }
    }
}

/// Next state of a job.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
pub(crate) enum Next {
    Wait(Box<dyn Operation>),
    End(JobResult),
}

/// The job that is resumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumed {
    pub id: JobId,
    pub operator: OperatorId,
    /// Start of the job, in nanoseconds.
    pub since: u64,
    /// True if the operator has cancelled the job.
    pub cancelled: bool,
}

/// An operation that waits.
pub(crate) trait Operation: Debug + Any {
    /// Continues after a wait.
    fn resume(self: Box<Self>, m: &mut Manager, job: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next;

    /// Returns true if the operation waits for a state and the state has come. Called after every event.
    fn is_ready(&self, _m: &Manager, _since: u64) -> bool {
        false
    }

    /// Returns the longest time from the operation's beginning until it must be resumed, in nanoseconds.
    fn patience_ns(&self) -> Option<u64> {
        None
    }

    /// Returns the effect of a cancellation on the job.
    fn on_cancel(&self) -> OnCancel {
        OnCancel::Continue
    }

    /// Returns the locks of the job.
    fn locks(&self) -> Locks {
        Locks::default()
    }
}

/// An answer that is computed when it is fetched, so unfetched results need little of the manager's heap.
pub(crate) trait Deferred: Debug {
    fn answer(self: Box<Self>, m: &mut Manager, cx: &mut Context<'_>) -> Result<Answer, Refusal>;
}

/// Result of a job.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "each operator has few results, and most are answers"
)]
pub(crate) enum JobResult {
    Answer(Result<Answer, Refusal>),
    Deferred(Box<dyn Deferred>),
}

impl JobResult {
    pub(crate) fn answer(self, m: &mut Manager, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        match self {
            JobResult::Answer(result) => result,
            JobResult::Deferred(deferred) => deferred.answer(m, cx),
        }
    }
}

impl From<Result<Answer, Refusal>> for JobResult {
    fn from(result: Result<Answer, Refusal>) -> JobResult {
        JobResult::Answer(result)
    }
}

impl From<Result<Answer, Refusal>> for Next {
    fn from(result: Result<Answer, Refusal>) -> Next {
        Next::End(JobResult::Answer(result))
    }
}

pub(crate) type Jobs = JobTable<Box<dyn Operation>, JobResult>;

/// Begins the job of an operation that must wait.
pub(crate) fn open(
    m: &mut Manager,
    operator: OperatorId,
    operation: impl Operation,
    cx: &Context<'_>,
) -> Result<JobId, Refusal> {
    let opening = Opening {
        locks: operation.locks(),
        deadline: operation.patience_ns().map(|ns| cx.now + ns),
        on_cancel: operation.on_cancel(),
        operation: Box::new(operation) as Box<dyn Operation>,
    };
    m.jobs
        .open(cx.now, operator, opening)
        .map_err(|_| refusals::too_many_jobs())
}

/// Begins the job of an operation and sends the brane the command that it waits for.
pub(crate) fn open_with_command(
    m: &mut Manager,
    operator: OperatorId,
    operation: impl Operation,
    (brane, kind, payload): (BraneId, u32, Vec<u8>),
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let job = open(m, operator, operation, cx)?;
    send_change(m, job, (brane, kind, payload), cx);
    Ok(Progress::Pending(job))
}

/// Sends a brane the command for a change. The job is resumed with the answer.
pub(crate) fn send_change(
    m: &mut Manager,
    job: JobId,
    (brane, kind, payload): (BraneId, u32, Vec<u8>),
    cx: &mut Context<'_>,
) {
    let command = Command {
        kind,
        payload,
        is_query: false,
        job,
    };
    cx.actions.extend(m.instances.command(brane, cx.now, command));
}

/// Resumes a job. Does nothing if the job has ended.
pub(crate) fn resume(m: &mut Manager, id: JobId, resume: Resume, cx: &mut Context<'_>) {
    let Some(job) = m.jobs.take(id) else { return };
    let (operation, job) = job.replace(());
    let resumed = Resumed {
        id,
        operator: job.operator,
        since: job.since,
        cancelled: job.cancelled,
    };
    match operation.resume(m, resumed, resume, cx) {
        Next::Wait(operation) => m.jobs.put_back(job.replace(operation).1),
        Next::End(result) => {
            if let Finished::Kept(operator) = m.jobs.finish(job, result) {
                cx.actions.push(Action::Notify(operator));
            }
        }
    }
}
