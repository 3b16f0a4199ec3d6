//! A query to a brane: `ifconfig`, `route`, `netstat`, `ping` and the like. It changes nothing and may stay without an answer.

use crate::Manager;
use crate::decode;
use crate::encode;
use crate::ids::OperatorId;
use crate::instance::{Command, CommandResult};
use crate::jobs::OnCancel;
use crate::operation::{Deferred, JobResult, Next, Operation, Progress, Resume, Resumed, open};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::vec::Vec;
use brane_abi::control::command;
use brane_abi::operator::{Answer, Purpose, Refusal};
use brane_abi::query::{self, MAX_QUERY};

/// State after `QUERY` was sent to the brane.
#[derive(Debug)]
struct Query;

/// The bytes of the brane's answer.
#[derive(Debug)]
struct Raw(Vec<u8>);

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    brane: &str,
    query: &query::Query,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.started_brane(brane, Purpose::Query)?;
    let payload = encode(query);
    if payload.len() > MAX_QUERY {
        return Err(refusals::query_too_long());
    }
    let job = open(m, operator, Query, cx)?;
    let command = Command {
        kind: command::QUERY,
        payload,
        is_query: true,
        job,
    };
    let Some(action) = m.instances.command(brane, cx.now, command) else {
        m.jobs.abandon(job);
        return Err(refusals::too_many_queries(m.instances[brane].name()));
    };
    cx.actions.push(action);
    Ok(Progress::Pending(job))
}

impl Operation for Query {
    fn resume(self: Box<Self>, _: &mut Manager, _: Resumed, resume: Resume, _: &mut Context<'_>) -> Next {
        match resume {
            Resume::Command(CommandResult::Answer(bytes)) => {
                Next::End(JobResult::Deferred(Box::new(Raw(bytes))))
            }
            other => match other.command_done() {
                Ok(()) => Ok(Answer::Query(query::Answer::Refused(query::Refusal::NoAnswer))).into(),
                Err(why) => Err(why).into(),
            },
        }
    }

    fn on_cancel(&self) -> OnCancel {
        OnCancel::Drop
    }
}

impl Deferred for Raw {
    fn answer(self: Box<Self>, _: &mut Manager, _: &mut Context<'_>) -> Result<Answer, Refusal> {
        let answer = decode::query_answer(&self.0).map(Answer::Query);
        answer.map_err(refusals::answer_not_believed)
    }
}
