//! Reports of branes, which are not trusted, and the end of an incarnation that violates the protocol, faults or is too
//! slow.

use super::{Awaiting, DesiredState, Effect, Effects, Heartbeat, Instance, LifecycleState, Provocation};
use crate::decode;
use crate::shell::{Action, Child};
use crate::text::milliseconds;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::{command, report as kind};
use brane_abi::subscription::Transition;

/// Maximum time until a brane faults after `CRASH`, in nanoseconds. Then the brane is stopped.
pub(crate) const CRASH_TIMEOUT_NS: u64 = 1_000_000_000;
/// Time without an answer after which another `REPORT` is sent, in nanoseconds.
const REPORT_TIMEOUT_NS: u64 = 500_000_000;
/// Number of unexpected or refused reports of one incarnation that is a protocol violation.
pub(crate) const MAX_VIOLATIONS: u32 = 32;

impl Instance {
    pub(super) fn report(
        &mut self,
        now: u64,
        report: u32,
        token: u32,
        payload: &[u8],
        effects: &mut Effects,
    ) {
        if report == kind::ALIVE && self.heartbeat.answered(token) {
            self.counters.heartbeats += 1;
            return;
        }
        self.counters.reports += 1;
        match report {
            kind::CONFIGURED | kind::REFUSED if matches!(self.awaiting, Some(Awaiting::Configured(t, _)) if t == token) =>
            {
                let refused = (report == kind::REFUSED).then(|| decode::reason(payload));
                self.configured(now, refused, effects);
            }
            kind::DONE if self.awaiting == Some(Awaiting::Started(token)) => self.started(now, effects),
            kind::DRAINED if self.awaiting == Some(Awaiting::Drained(token)) => {
                self.aborted = payload.try_into().map_or(0, u32::from_le_bytes);
                self.stopped(effects);
            }
            kind::STATUS if self.reporting.is_some_and(|(t, _)| t == token) => {
                self.reporting = None;
                match decode::status(payload) {
                    Ok(status) => {
                        self.status = status;
                        self.status_at = Some(now);
                    }
                    Err(why) => {
                        self.counters.reports_refused += 1;
                        self.report_violation(now, format!("a report is {}", why.code()), effects);
                    }
                }
            }
            kind::HOOKS if self.configured => self.hooks_changed(now, payload, effects),
            kind::DONE | kind::REFUSED | kind::ANSWER if self.is_pending(token) => {
                self.command_answered(now, report, token, payload, effects);
            }
            _ => {
                self.counters.reports_unexpected += 1;
                self.report_violation(now, "reports without a request", effects);
            }
        }
    }

    /// Counts an unexpected or refused report. Number [`MAX_VIOLATIONS`] ends the incarnation.
    pub(super) fn report_violation(&mut self, now: u64, what: impl ToString, effects: &mut Effects) {
        self.violations += 1;
        if self.violations == MAX_VIOLATIONS {
            self.violation(now, &what.to_string(), effects);
        }
    }

    /// Ends the incarnation of a brane that violated the protocol.
    pub(super) fn violation(&mut self, now: u64, what: &str, effects: &mut Effects) {
        self.counters.violations += 1;
        if self.state != LifecycleState::Failed {
            self.stop(now, &format!("broke the control protocol: {what}"), effects);
        }
    }

    /// Handles a command that did not reach the brane.
    pub(super) fn dropped(&mut self, now: u64, token: u32, effects: &mut Effects) {
        self.counters.commands_dropped += 1;
        self.heartbeat.dropped(token);
        if self.reporting.is_some_and(|(t, _)| t == token) {
            self.reporting = None;
        }
        let needed = match self.awaiting {
            Some(Awaiting::Configured(t, _) | Awaiting::Started(t) | Awaiting::Drained(t)) => t == token,
            _ => self.is_pending(token),
        };
        if needed {
            self.violation(now, "it does not take its commands", effects);
        }
    }

    /// Ends the incarnation of a brane whose domain is stopped. `how` is the verb of the log line.
    pub(super) fn fail(&mut self, now: u64, how: &str, what: &str, effects: &mut Effects) {
        let label = self.label();
        effects.0.push(Effect::Unbind);
        if core::mem::take(&mut self.announced)
            && let Some(snapshot) = self.snapshot()
        {
            effects.0.push(Effect::Notify(snapshot, Transition::Failed));
        }
        self.lose_commands(effects);
        let up = self.started_at.take().map(|at| now.saturating_sub(at));
        let idle = matches!(self.state, LifecycleState::Idle | LifecycleState::Recycling);
        let deleting =
            self.state == LifecycleState::Destroying || matches!(self.desired, DesiredState::Absent(_));
        self.linked = false;
        self.configured = false;
        self.reporting = None;
        self.crash_deadline = None;
        self.heartbeat = Heartbeat::default();
        self.violations = 0;
        self.hook_reports = 0;
        self.status.hooks.clear();
        self.last_fault = what.into();
        self.awaiting = None;
        self.deadline = None;
        if deleting && !idle {
            // The brane needs no further incarnation: the deletion continues and restarts the instance.
            self.state = LifecycleState::Failed;
            effects.log(format!("{label} {how}: {what}; it is deleted"));
            return;
        }
        let delay = self.backoff.failed(up);
        if !idle {
            self.state = LifecycleState::Failed;
            self.failed_at.get_or_insert(now);
        }
        effects.log(if delay == 0 {
            format!("{label} {how}: {what}; restarting it")
        } else {
            format!("{label} {how}: {what}; restarting it in {}", milliseconds(delay))
        });
        if delay == 0 {
            self.restart(now, effects);
        } else {
            self.awaiting = Some(Awaiting::Delay);
            self.deadline = Some(now + delay);
        }
        if !idle {
            effects.event("failed", self.name(), what.into());
            self.give_up_new(what, effects);
        }
    }

    /// Deletes a brane that failed before it was created, with all its state.
    pub(super) fn give_up_new(&mut self, why: &str, effects: &mut Effects) {
        if self.new {
            self.desired = DesiredState::Absent(0);
            if let Some(job) = self.job {
                effects.0.push(Effect::NotCreated(job, why.into()));
            }
        }
    }

    fn restart(&mut self, now: u64, effects: &mut Effects) {
        self.awaiting = Some(Awaiting::Link);
        self.deadline = Some(now + super::LINK_TIMEOUT_NS);
        self.restarts += 1;
        if !matches!(self.state, LifecycleState::Idle | LifecycleState::Recycling) {
            self.state = LifecycleState::Restarting;
        }
        let child = Child::Brane(self.id);
        effects.act(match self.state {
            // The instance failed while it cleared its memory, so it must clear it again.
            LifecycleState::Recycling => Action::Renew(child),
            _ => Action::Restart(child),
        });
    }

    /// Stops a running brane, so that its next incarnation starts later.
    pub(super) fn stop(&mut self, now: u64, what: &str, effects: &mut Effects) {
        effects.act(Action::Stop(Child::Brane(self.id)));
        self.fail(now, "failed", what, effects);
    }

    /// Handles the deadlines that have passed.
    pub(super) fn tick(&mut self, now: u64, effects: &mut Effects) {
        self.client_due(now, effects);
        self.commands_due(now, effects);
        if self.crash_deadline.is_some_and(|at| at <= now) {
            return self.stop(now, "did not obey `crash` within 1 s, so it was stopped", effects);
        }
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        match self.awaiting {
            Some(Awaiting::Delay) => self.restart(now, effects),
            Some(Awaiting::Link) => {
                let what = "did not open its control link within 30 s, so it was stopped";
                self.stop(now, what, effects);
            }
            Some(Awaiting::Configured(..)) => self.violation(now, "no answer to its configuration", effects),
            Some(Awaiting::Started(_)) => self.violation(now, "no answer to its start", effects),
            Some(Awaiting::Drained(_)) => {
                self.stop(
                    now,
                    "did not end its connections in time, so it was reset",
                    effects,
                );
            }
            Some(Awaiting::Subscribers(_)) | None => {}
        }
    }

    /// Asks a started brane for its status, unless it was asked shortly before.
    pub(super) fn request_status(&mut self, now: u64, effects: &mut Effects) {
        let asked = self
            .reporting
            .is_some_and(|(_, sent)| now.saturating_sub(sent) < REPORT_TIMEOUT_NS);
        if self.state == LifecycleState::Started && !asked {
            let token = self.next_token();
            self.reporting = Some((token, now));
            effects.act(self.send(command::REPORT, token, Vec::new()));
        }
    }

    /// Makes a started brane fault or hang. The heartbeat detects the latter.
    pub(super) fn provoke(&mut self, now: u64, provocation: Provocation, effects: &mut Effects) {
        let token = self.next_token();
        let kind = match provocation {
            Provocation::Crash => {
                self.crash_deadline = Some(now + CRASH_TIMEOUT_NS);
                command::CRASH
            }
            Provocation::Hang => command::HANG,
        };
        effects.act(self.send(kind, token, Vec::new()));
    }

    /// Handles a fault of the client, which is restarted while the brane continues.
    pub(super) fn client_fault(&mut self, now: u64, what: &str, effects: &mut Effects) {
        self.counters.client_faults += 1;
        self.client.failed(now);
        effects.log(format!(
            "the client of {} failed: {what}; restarting it",
            self.label()
        ));
        self.client_due(now, effects);
    }

    /// Restarts the client if its restart is due.
    fn client_due(&mut self, now: u64, effects: &mut Effects) {
        if self.client.due(now) {
            self.counters.client_restarts += 1;
            effects.act(Action::Restart(Child::Client(self.id)));
        }
    }
}
