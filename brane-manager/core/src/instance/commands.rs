//! Commands to running branes, and their pending answers.
//!
//! Branes are not trusted. A brane that does not answer a change within [`CHANGE_NS`] violates the protocol. It is
//! restarted with the configuration of that time. A query may stay without an answer; that affects only its operator.

use super::{Effect, Effects, Instance, Instances};
use crate::decode;
use crate::ids::{BraneId, JobId};
use crate::shell::Action;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::report as kind;
use brane_abi::query::MAX_ANSWER;

/// Maximum time for the answer to a change, in nanoseconds.
pub(crate) const CHANGE_NS: u64 = 2_000_000_000;
/// Maximum time for the answer to a query, in nanoseconds. It includes the longest time that a query can ask for.
pub(crate) const QUERY_NS: u64 = 12_000_000_000;
/// Number of pending commands of one brane from which on queries are refused. Changes are always sent, because the
/// manager has made them already. They are few, because each locks its brane.
const MAX_PENDING: usize = 32;

/// A command to a brane.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// `brane_abi::control::command::*`.
    pub kind: u32,
    pub payload: Vec<u8>,
    /// True if the brane need not answer.
    pub is_query: bool,
    /// The job that waits for the answer.
    pub job: JobId,
}

/// A command with a pending answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCommand {
    pub token: u32,
    pub deadline: u64,
    pub is_query: bool,
    pub job: JobId,
}

/// Result of a command.
#[derive(Clone, Debug)]
pub(crate) enum CommandResult {
    Done,
    /// The brane's reason, in printable form.
    Refused(String),
    /// The bytes of the answer, not decoded yet.
    Answer(Vec<u8>),
    /// The brane failed before it answered, or accepts no more commands.
    Lost,
    /// No answer in time.
    Late,
}

impl Instances {
    /// Adds a pending command and returns the action that sends it. Returns `None` if the command is a query and too
    /// many commands are pending.
    pub(crate) fn command(&mut self, id: BraneId, now: u64, command: Command) -> Option<Action> {
        let b = self.all.get_mut(id.index())?;
        if command.is_query && b.commands.len() >= MAX_PENDING {
            return None;
        }
        let token = b.next_token();
        b.commands.push(PendingCommand {
            token,
            deadline: now + if command.is_query { QUERY_NS } else { CHANGE_NS },
            is_query: command.is_query,
            job: command.job,
        });
        Some(b.send(command.kind, token, command.payload))
    }
}

impl Instance {
    pub(super) fn is_pending(&self, token: u32) -> bool {
        self.commands.iter().any(|c| c.token == token)
    }

    /// Handles the answer to a pending command.
    pub(super) fn command_answered(
        &mut self,
        now: u64,
        report: u32,
        token: u32,
        payload: &[u8],
        effects: &mut Effects,
    ) {
        let Some(at) = self.commands.iter().position(|c| c.token == token) else {
            return;
        };
        let command = self.commands.swap_remove(at);
        let result = match report {
            kind::DONE => CommandResult::Done,
            kind::ANSWER if command.is_query && payload.len() <= MAX_ANSWER => {
                CommandResult::Answer(payload.to_vec())
            }
            kind::REFUSED => CommandResult::Refused(decode::reason(payload)),
            _ => {
                self.counters.reports_refused += 1;
                self.report_violation(now, "answers of the wrong kind", effects);
                CommandResult::Lost
            }
        };
        if command.job == super::hooks::NO_JOB {
            if let CommandResult::Refused(why) = result {
                effects.log(format!("{} refused its external hooks: {why}", self.label()));
            }
            return;
        }
        effects.0.push(Effect::CommandResult(command.job, result));
    }

    /// Ends all pending commands, because the brane will not answer any more.
    pub(super) fn lose_commands(&mut self, effects: &mut Effects) {
        for command in core::mem::take(&mut self.commands) {
            effects
                .0
                .push(Effect::CommandResult(command.job, CommandResult::Lost));
        }
    }

    /// Ends the commands whose time is over.
    pub(super) fn commands_due(&mut self, now: u64, effects: &mut Effects) {
        let late = |c: &PendingCommand| c.deadline <= now;
        if self.commands.iter().any(|c| late(c) && !c.is_query) {
            // This ends the queries too.
            return self.violation(now, "no answer to a change", effects);
        }
        for command in self.commands.extract_if(.., |c| late(c)) {
            effects
                .0
                .push(Effect::CommandResult(command.job, CommandResult::Late));
        }
    }
}
