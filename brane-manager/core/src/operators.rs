//! Handles the calls of operators: a request, a poll for a job's result, a cancellation.
//!
//! Operators are not trusted. The bytes of a call may be arbitrary, and the answer is bounded by the operator's reply
//! region.

use crate::Manager;
use crate::driver::Driver;
use crate::encode;
use crate::ids::{JobId, OperatorId};
use crate::jobs::Poll;
use crate::operation::Progress;
use crate::ops;
use crate::refusals;
use crate::shell::{Action, Context, Reply};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{self, Answer, Done, Request};

/// Names of the operators' protection domains, by number.
pub const OPERATORS: [&str; 2] = ["console", "remote"];

/// Returns the name of an operator's protection domain.
pub(crate) fn operator_name(id: OperatorId) -> String {
    OPERATORS
        .get(id.index())
        .map_or_else(|| format!("operator {}", id.index()), |name| (*name).into())
}

fn job(argument: &[u8]) -> JobId {
    let number = argument.get(..4).and_then(|b| b.try_into().ok());
    JobId::new(number.map_or(0, u32::from_le_bytes))
}

impl Manager {
    /// Handles one call of an operator, with its label and message bytes.
    pub fn operator(
        &mut self,
        now: u64,
        operator: OperatorId,
        label: u64,
        argument: &[u8],
        driver: &mut dyn Driver,
        actions: &mut Vec<Action>,
    ) -> Reply {
        let first = actions.len();
        let cx = &mut Context { now, driver, actions };
        let result = match label {
            operator::CALL => match minicbor::decode::<Request>(argument) {
                Ok(request) => ops::begin(self, operator, request, cx),
                Err(_) => Err(refusals::unreadable_request()),
            },
            operator::CANCEL => {
                self.jobs.cancel(operator, job(argument));
                Ok(Progress::Done(Answer::Done(Done::Nothing)))
            }
            operator::POLL => match self.jobs.poll(operator, job(argument)) {
                Poll::Running => Ok(Progress::Pending(job(argument))),
                Poll::Ended(result) => result.answer(self, cx).map(Progress::Done),
                Poll::Unknown => Err(refusals::no_such_job(job(argument).number())),
            },
            other => Err(refusals::unknown_call(other)),
        };
        self.settle(cx);
        self.suspensions.forget(&actions[first..]);
        let error = |why| Reply {
            label: operator::ERROR,
            text: encode(&why),
            job: 0,
        };
        let reply = match result {
            Ok(Progress::Pending(job)) => Reply {
                label: operator::LATER,
                text: Vec::new(),
                job: job.number(),
            },
            Ok(Progress::Done(answer)) => Reply {
                label: operator::OK,
                text: encode(&answer),
                job: 0,
            },
            Err(why) => error(why),
        };
        match reply.text.len() > operator::REPLY_SIZE {
            true => error(refusals::answer_too_long(reply.text.len())),
            false => reply,
        }
    }
}
