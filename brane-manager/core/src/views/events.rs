//! `events`: returns the events with numbers above the given one. If there are none, the job waits for the next one if
//! the operator asks for that.

use crate::Manager;
use crate::ids::OperatorId;
use crate::jobs::OnCancel;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open};
use crate::shell::Context;
use alloc::boxed::Box;
use brane_abi::operator::{Answer, Refusal};

/// Waits for an event with a number above this one.
#[derive(Debug)]
struct Follow(u64);

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    (after, wait): (u64, bool),
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    match m.events.after(after) {
        events if !events.is_empty() || !wait => Ok(Progress::Done(Answer::Events(events))),
        _ => open(m, operator, Follow(after), cx).map(Progress::Pending),
    }
}

impl Operation for Follow {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, _: Resume, _: &mut Context<'_>) -> Next {
        Ok(Answer::Events(m.events.after(self.0))).into()
    }

    fn is_ready(&self, m: &Manager, _: u64) -> bool {
        !m.events.after(self.0).is_empty()
    }

    fn on_cancel(&self) -> OnCancel {
        OnCancel::Drop
    }
}
