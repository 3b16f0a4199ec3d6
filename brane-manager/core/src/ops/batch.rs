//! A batch: requests that run one after another, up to the first refusal. Effects of earlier requests remain.

use crate::Manager;
use crate::ids::OperatorId;
use crate::operation::{JobResult, Next, Operation, Progress, Resume, Resumed, open, resume};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Encoded, MAX_BATCH, Outcome, Refusal, Request};
use brane_abi::query::{self, Query};

#[derive(Debug)]
struct Batch {
    left: VecDeque<Request>,
    outcomes: Vec<Outcome>,
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    requests: &[Encoded],
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let count = requests.len();
    let requests: VecDeque<Request> = match count > MAX_BATCH {
        true => VecDeque::new(),
        false => requests.iter().filter_map(Encoded::read).collect(),
    };
    let fits = |r: &Request| match r {
        Request::Query { query, .. } => matches!(query, Query::Ping { .. } | Query::Host { .. }),
        other => other.changes(),
    };
    if requests.is_empty() || requests.len() != count || !requests.iter().all(fits) {
        return Err(refusals::bad_batch());
    }
    let batch = Batch {
        left: requests,
        outcomes: Vec::new(),
    };
    let job = open(m, operator, batch, cx)?;
    resume(m, job, Resume::Ready, cx);
    Ok(Progress::Pending(job))
}

impl Operation for Batch {
    /// Handles the end of the last request and begins the next ones until one must wait.
    fn resume(
        mut self: Box<Self>,
        m: &mut Manager,
        job: Resumed,
        resume: Resume,
        cx: &mut Context<'_>,
    ) -> Next {
        let mut ended = match resume {
            Resume::Part(result) => Some(part(*result, m, cx)),
            _ => None,
        };
        // Each pass removes a request.
        for _ in 0..=MAX_BATCH {
            let mut refused = false;
            if let Some(result) = ended.take() {
                refused = result.is_err();
                let (answer, refusal) = match result {
                    Ok(answer) => (Some(answer), None),
                    Err(why) => (None, Some(why)),
                };
                self.outcomes.push(Outcome {
                    answer,
                    refusal,
                    at_us: cx.now.saturating_sub(job.since) / 1_000,
                });
            }
            let next = self.left.pop_front().filter(|_| !refused && !job.cancelled);
            let Some(request) = next else { break };
            m.jobs.set_batch(Some(job.id));
            let begun = super::begin(m, job.operator, request, cx);
            m.jobs.set_batch(None);
            ended = match begun {
                Ok(Progress::Pending(_)) => return Next::Wait(self),
                Ok(Progress::Done(answer)) => Some(Ok(answer)),
                Err(why) => Some(Err(why)),
            };
        }
        Ok(Answer::Batch(self.outcomes)).into()
    }
}

/// Returns the answer of a part. A batch stores only short answers.
fn part(result: JobResult, m: &mut Manager, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
    let deferred = match result {
        JobResult::Answer(result) => return result,
        JobResult::Deferred(deferred) => deferred,
    };
    match deferred.answer(m, cx)? {
        answer @ Answer::Query(
            query::Answer::Echo { .. } | query::Answer::Host(_) | query::Answer::Refused(_),
        ) => Ok(answer),
        _ => Err(refusals::too_long_for_a_batch()),
    }
}
