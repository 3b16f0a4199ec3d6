//! The steps of each instance to its desired state.
//!
//! When an instance no longer waits, [`Instance::advance`] takes its next step. Creation may fail, and then its effects
//! are undone. A start cannot fail, because a brane that fails during it is restarted. Shutdown and deletion cannot
//! fail either, but need time. If a brane or subscriber does not act in its time, the manager continues without it, in
//! the end by a reset of the protection domain.
//!
//! ```text
//! free → starting → [after create] created → [after start] started
//! started → [before shutdown] stopping → created → [before destroy] deleting → free
//! any → [failed] failed → restarting → created / started
//! ```

use super::{Audience, Awaiting, DesiredState, Effect, Effects, Instance, LifecycleState};
use crate::encode;
use crate::ids::JobId;
use crate::shell::{Action, Child};
use crate::text::milliseconds;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::command;
use brane_abi::subscription::Transition;

/// Maximum time from a brane's start to its control link, in nanoseconds. Usually it is milliseconds. A boot of many
/// branes in an emulator on a busy machine takes seconds. A brane that needs longer than this bound never comes up.
pub(crate) const LINK_TIMEOUT_NS: u64 = 30_000_000_000;
/// Maximum time for the answer to `CONFIGURE`, in nanoseconds.
pub(crate) const CONFIGURE_TIMEOUT_NS: u64 = 10_000_000_000;
/// Maximum time for the answer to `START`, in nanoseconds.
const START_TIMEOUT_NS: u64 = 1_000_000_000;
/// Time after the deadline of a shutdown in which its answer may still come, in nanoseconds.
const DRAIN_GRACE_NS: u64 = 500_000_000;

impl Instance {
    /// Sets the desired state. The job waits for the state.
    pub(super) fn desire(&mut self, now: u64, desired: DesiredState, job: JobId, effects: &mut Effects) {
        self.desired = desired;
        self.job = Some(job);
        self.aborted = 0;
        if self.state == LifecycleState::Refused && desired == DesiredState::Running {
            self.stop(now, "it is to be tried again", effects);
        }
    }

    pub(super) fn link_up(&mut self, now: u64, effects: &mut Effects) {
        if self.awaiting != Some(Awaiting::Link) || self.linked {
            return self.violation(now, "it reset the control link by itself", effects);
        }
        self.linked = true;
        self.awaiting = None;
        self.deadline = None;
        if self.state == LifecycleState::Recycling {
            self.state = LifecycleState::Idle;
            self.client.running_since = now;
            effects.act(Action::Renew(Child::Client(self.id)));
            if let Some(job) = self.job.take() {
                effects.0.push(Effect::Recycled(job));
            }
        }
    }

    /// Takes the next step. If there are no effects, the next step needs another input.
    pub(super) fn advance(&mut self, now: u64, audience: &dyn Audience, effects: &mut Effects) {
        self.update_hooks(now, audience, effects);
        let absent = matches!(self.desired, DesiredState::Absent(_)) && self.config.is_some();
        match self.awaiting {
            Some(Awaiting::Subscribers(_)) if !audience.is_awaited(self.id) => self.awaiting = None,
            // A brane that must be deleted need not come up first.
            Some(Awaiting::Delay | Awaiting::Link | Awaiting::Configured(..) | Awaiting::Started(_))
                if absent =>
            {
                self.awaiting = None;
                self.deadline = None;
            }
            Some(_) => return,
            None => {}
        }
        match (self.desired, self.state) {
            (_, LifecycleState::Idle | LifecycleState::Recycling) => {}
            (DesiredState::Stopped(_) | DesiredState::Absent(_), LifecycleState::Started) => {
                self.state = LifecycleState::Stopping;
                self.notify(Transition::BeforeShutdown, effects);
            }
            (DesiredState::Absent(0), LifecycleState::Stopping) => self.stopped(effects),
            (DesiredState::Absent(ms) | DesiredState::Stopped(ms), LifecycleState::Stopping) => {
                self.drain(now, ms, effects);
            }
            (_, LifecycleState::Destroying) => self.recycle(now, effects),
            (DesiredState::Absent(_), _) => {
                self.state = LifecycleState::Destroying;
                // Devices may be bound for a start that is not awaited any more.
                effects.0.push(Effect::Unbind);
                if core::mem::take(&mut self.announced) {
                    self.notify(Transition::BeforeDestroy, effects);
                }
            }
            (_, LifecycleState::Starting | LifecycleState::Restarting) if self.linked => {
                self.configure(now, audience, effects);
            }
            (DesiredState::Running, LifecycleState::Created) => self.start(now, effects),
            (DesiredState::Running, LifecycleState::Started)
            | (DesiredState::Stopped(_), LifecycleState::Created) => {
                if let Some(job) = self.job.take() {
                    effects.0.push(Effect::GoalReached(job, self.aborted));
                }
            }
            _ => {}
        }
    }

    /// Notifies subscribers. The instance waits for their acknowledgements.
    fn notify(&mut self, transition: Transition, effects: &mut Effects) {
        if let Some(snapshot) = self.snapshot() {
            effects.0.push(Effect::Notify(snapshot, transition));
            self.awaiting = Some(Awaiting::Subscribers(transition));
        }
    }

    fn configure(&mut self, now: u64, audience: &dyn Audience, effects: &mut Effects) {
        let token = self.next_token();
        let awaited = self
            .snapshot()
            .is_some_and(|brane| audience.wants(&brane, Transition::AfterCreate));
        // No frame may pass before the subscribers have acknowledged the creation.
        let held = self.desired != DesiredState::Running || awaited;
        let generation = self.restarts;
        let Some(config) = &mut self.config else { return };
        config.generation = generation;
        config.held = held;
        config.hooks = audience.hooks(&config.name);
        let payload = encode(config);
        self.configured = true;
        self.awaiting = Some(Awaiting::Configured(token, held));
        self.deadline = Some(now + CONFIGURE_TIMEOUT_NS);
        if !held {
            effects.0.push(Effect::Bind);
        }
        effects.act(self.send(command::CONFIGURE, token, payload));
    }

    /// Handles the answer to `CONFIGURE`. `refused` is the brane's reason if it refuses.
    pub(super) fn configured(&mut self, now: u64, refused: Option<String>, effects: &mut Effects) {
        let held = matches!(self.awaiting, Some(Awaiting::Configured(_, true)));
        self.awaiting = None;
        self.deadline = None;
        if let Some(why) = refused {
            self.state = LifecycleState::Refused;
            // Changes from now on are for the next incarnation.
            self.configured = false;
            let what = format!("refused its configuration: {why}");
            effects.log(format!("{} {what}", self.label()));
            effects.0.push(Effect::Unbind);
            self.give_up_new(&what, effects);
            if !matches!(self.desired, DesiredState::Absent(_))
                && let Some(job) = self.job.take()
            {
                effects.0.push(Effect::NotStarted(job, what.clone()));
            }
            self.last_fault = what;
            return;
        }
        self.state = LifecycleState::Created;
        self.announced = true;
        if core::mem::take(&mut self.new) {
            effects.event("created", self.name(), String::new());
        }
        self.notify(Transition::AfterCreate, effects);
        if !held {
            // No subscriber waits for this transition, so the brane was not held and has started.
            self.running(now, effects);
        }
    }

    fn start(&mut self, now: u64, effects: &mut Effects) {
        let token = self.next_token();
        self.awaiting = Some(Awaiting::Started(token));
        self.deadline = Some(now + START_TIMEOUT_NS);
        effects.0.push(Effect::Bind);
        effects.act(self.send(command::START, token, Vec::new()));
    }

    /// Handles the answer to `START`.
    pub(super) fn started(&mut self, now: u64, effects: &mut Effects) {
        self.awaiting = None;
        self.deadline = None;
        self.running(now, effects);
    }

    fn running(&mut self, now: u64, effects: &mut Effects) {
        self.state = LifecycleState::Started;
        self.started_at = Some(now);
        let (what, detail) = match self.failed_at.take() {
            Some(at) => {
                self.recovery_ns = now.saturating_sub(at);
                let took = milliseconds(self.recovery_ns);
                ("restarted", format!("{took} after the failure"))
            }
            None => ("started", String::new()),
        };
        effects.log(match detail.as_str() {
            "" => format!("{} is up", self.label()),
            detail => format!("{} is up again, {detail}", self.label()),
        });
        effects.event(what, self.name(), detail);
        self.notify(Transition::AfterStart, effects);
    }

    fn drain(&mut self, now: u64, ms: u32, effects: &mut Effects) {
        let token = self.next_token();
        self.awaiting = Some(Awaiting::Drained(token));
        self.deadline = Some(now + u64::from(ms) * 1_000_000 + DRAIN_GRACE_NS);
        effects.act(self.send(command::SHUTDOWN, token, ms.to_le_bytes().to_vec()));
    }

    /// Puts the brane into the created state. Its connections have ended, or need not end.
    pub(super) fn stopped(&mut self, effects: &mut Effects) {
        effects.0.push(Effect::Unbind);
        self.awaiting = None;
        self.deadline = None;
        self.started_at = None;
        self.state = LifecycleState::Created;
        let detail = match self.aborted {
            0 => String::new(),
            aborted => format!("{aborted} aborted"),
        };
        effects.event("shutdown", self.name(), detail);
    }

    /// Ends the brane: its devices are released, and brane and client start with cleared memory.
    fn recycle(&mut self, now: u64, effects: &mut Effects) {
        effects.act(Action::Stop(Child::Brane(self.id)));
        effects.act(Action::Stop(Child::Client(self.id)));
        effects.0.push(Effect::Unbind);
        self.lose_commands(effects);
        let old = core::mem::replace(self, Instance::new(self.id, None));
        let name = old.name();
        // Counters and tokens belong to the instance. The job waits for the end of the deletion.
        self.counters = old.counters;
        self.token = old.token;
        self.job = old.job;
        self.aborted = old.aborted;
        self.state = LifecycleState::Recycling;
        self.deadline = Some(now + LINK_TIMEOUT_NS);
        self.client.running_since = now;
        effects.0.push(Effect::Deleted(self.job, self.aborted));
        // The client stays stopped until the brane has cleared the memory that they share.
        effects.act(Action::Renew(Child::Brane(self.id)));
        effects.event("deleted", name, String::new());
        effects.log(format!("brane `{name}` is deleted"));
    }
}
