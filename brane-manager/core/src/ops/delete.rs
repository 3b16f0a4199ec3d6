//! `delete`: shuts a brane down, deletes it and frees its instance. The answer lists the released devices.

use super::reach_state::{PATIENCE_NS, desire, give_up};
use super::shutdown::MAX_DEADLINE_MS;
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::DesiredState;
use crate::operation::{Next, Operation, Progress, Resume, Resumed};
use crate::refusals;
use crate::resources::free;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::string::String;
use brane_abi::operator::{Answer, Receipt, Refusal};

/// State while the brane is being deleted.
#[derive(Debug)]
struct Delete(Receipt);

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    name: &str,
    deadline_ms: u32,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(name)?;
    if m.instances[brane].config.as_ref().is_some_and(|c| c.primary) {
        return Err(refusals::primary_is_never_deleted(name));
    }
    let receipt = Receipt {
        name: String::from(name),
        before: free(m, cx.driver),
        ..Receipt::default()
    };
    let desired = DesiredState::Absent(deadline_ms.min(MAX_DEADLINE_MS));
    desire(m, operator, (brane, desired), Delete(receipt), cx)
}

impl Operation for Delete {
    fn resume(
        mut self: Box<Self>,
        m: &mut Manager,
        job: Resumed,
        resume: Resume,
        cx: &mut Context<'_>,
    ) -> Next {
        match resume {
            Resume::Deleted { released, aborted } => {
                self.0.released = released;
                self.0.aborted = aborted;
                Next::Wait(self)
            }
            Resume::Recycled => Ok(Answer::Receipt(Receipt {
                after: free(m, cx.driver),
                took_us: cx.now.saturating_sub(job.since) / 1_000,
                ..self.0
            }))
            .into(),
            Resume::Late => give_up(m, job),
            _ => Next::Wait(self),
        }
    }

    fn patience_ns(&self) -> Option<u64> {
        Some(PATIENCE_NS)
    }
}
