//! Carries the effects of instances to the other owners, and resumes operations and instances after their wait.

use crate::Manager;
use crate::filters::{FilterEvent, Filters};
use crate::ids::BraneId;
use crate::instance::{Audience, Effect, Input};
use crate::operation::{self, Resume};
use crate::ops;
use crate::refusals;
use crate::shell::{Action, Child, Context};
use crate::snapshot::BraneSnapshot;
use crate::subscribers::{SubscriberEvent, Subscribers};
use crate::text::subscriber_name;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::hook::HookConfig;
use brane_abi::operator::{JOBS, MAX_BATCH};
use brane_abi::subscription::Transition;

/// The other owners, as the instances see them.
struct Others<'a> {
    subscribers: &'a Subscribers,
    filters: &'a Filters,
}

impl Audience for Others<'_> {
    fn is_awaited(&self, id: BraneId) -> bool {
        self.subscribers.is_awaited(id)
    }

    fn wants(&self, brane: &BraneSnapshot, transition: Transition) -> bool {
        self.subscribers.wants(brane, transition)
    }

    fn hooks(&self, brane: &str) -> Vec<HookConfig> {
        self.filters.hooks_of(brane)
    }
}

/// Maximum number of steps of an instance in a row: more than its whole lifecycle has.
const MAX_STEPS: usize = 12;

impl Manager {
    /// Passes an input to an instance and carries out the effects.
    pub(crate) fn step(&mut self, id: BraneId, input: Input<'_>, cx: &mut Context<'_>) {
        let effects = self.instances.step(id, cx.now, input);
        self.carry_out(id, effects, cx);
    }

    /// Carries out the effects of an input on an instance.
    pub(crate) fn carry_out(&mut self, id: BraneId, effects: Vec<Effect>, cx: &mut Context<'_>) {
        for effect in effects {
            match effect {
                Effect::Act(action) => cx.actions.push(action),
                Effect::Event { what, brane, detail } => self.event(cx.now, what, Some(&brane), None, detail),
                Effect::Bind => self.devices.bind_all(id, cx),
                Effect::Unbind => self.devices.unbind_all(id, cx),
                Effect::Notify(brane, transition) => self.subscribers.notify(&brane, transition),
                Effect::CommandResult(job, result) => {
                    operation::resume(self, job, Resume::Command(result), cx);
                }
                Effect::GoalReached(job, aborted) => {
                    operation::resume(self, job, Resume::GoalReached { aborted }, cx);
                }
                Effect::NotStarted(job, why) => operation::resume(self, job, Resume::NotStarted(id, why), cx),
                Effect::NotCreated(job, why) => self.jobs.fail(job, Err(refusals::not_created(&why)).into()),
                Effect::Deleted(job, aborted) => {
                    let released = self.devices.release_all(id, cx);
                    self.devices.remove_loopback(id);
                    self.staging.forget_brane(id);
                    if let Some(job) = job {
                        operation::resume(self, job, Resume::Deleted { released, aborted }, cx);
                    }
                }
                Effect::Recycled(job) => operation::resume(self, job, Resume::Recycled, cx),
            }
        }
    }

    /// Runs the next steps of an instance until it must wait.
    fn advance(&mut self, id: BraneId, cx: &mut Context<'_>) {
        for _ in 0..MAX_STEPS {
            let others = Others {
                subscribers: &self.subscribers,
                filters: &self.filters,
            };
            let effects = self.instances.step(id, cx.now, Input::Advance(&others));
            if effects.is_empty() {
                break;
            }
            self.carry_out(id, effects, cx);
        }
    }

    fn advance_all(&mut self, cx: &mut Context<'_>) {
        if !self.captures.is_empty() {
            ops::capture::settle(self, cx);
        }
        for id in self.instances.ids() {
            self.advance(id, cx);
        }
    }

    /// Resumes operations and instances after their wait, and sends the subscribers' notifications. Must be called
    /// after every event.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        self.filter_events(cx);
        // One pass for each request of a batch that begins now.
        for _ in 0..=MAX_BATCH * JOBS {
            self.advance_all(cx);
            self.subscribers.send_due(cx.now);
            self.subscriber_events(cx);
            // A subscriber may have been quarantined: resumes branes that were waiting for it.
            self.advance_all(cx);
            if !ops::resume_due(self, cx) {
                break;
            }
        }
        self.subscribers.send_due(cx.now);
        for (id, record) in self.subscribers.take_outgoing() {
            cx.actions.push(Action::Send {
                child: Child::Subscriber(id),
                kind: record.kind,
                token: record.token,
                payload: record.payload,
            });
        }
    }

    /// Writes the filters' events to the log and to the events, and restarts the filters that have failed.
    fn filter_events(&mut self, cx: &mut Context<'_>) {
        for event in self.filters.take_events() {
            let (what, detail) = match event {
                FilterEvent::Registered(id, hook) => {
                    ("filter-registered", format!("{}: hook {hook}", Filters::name(id)))
                }
                FilterEvent::Left(id) => ("filter-left", Filters::name(id)),
                FilterEvent::Failed(id, why) => {
                    let detail = format!("{}: {why}", Filters::name(id));
                    cx.log(format!("{} failed: {why}; restarting it", Filters::name(id)));
                    ("filter-failed", detail)
                }
            };
            self.event(cx.now, what, None, None, detail);
        }
        self.restart_children(cx);
        for (id, record) in self.filters.take_outgoing() {
            cx.actions.push(Action::Send {
                child: Child::Filter(id),
                kind: record.kind,
                token: record.token,
                payload: record.payload,
            });
        }
    }

    /// Notifies subscribers of a brane's new name, if they know the brane.
    pub(crate) fn notify_renamed(&mut self, id: BraneId, former_name: &str) {
        let instance = &self.instances[id];
        if instance.announced
            && let Some(brane) = instance.snapshot()
        {
            self.subscribers.renamed(&brane, former_name);
        }
    }

    /// Writes the subscribers' events to the log and to the events.
    fn subscriber_events(&mut self, cx: &mut Context<'_>) {
        for event in self.subscribers.take_events() {
            let (what, detail) = match event {
                SubscriberEvent::Joined(id) => ("subscriber-joined", subscriber_name(id)),
                SubscriberEvent::Left(id) => ("subscriber-left", subscriber_name(id)),
                SubscriberEvent::Readmitted(id) => ("subscriber-readmitted", subscriber_name(id)),
                SubscriberEvent::Quarantined(id, why) => {
                    let detail = format!("{}: {why}", subscriber_name(id));
                    cx.log(format!("{detail}; it is notified no more"));
                    ("subscriber-quarantined", detail)
                }
            };
            self.event(cx.now, what, None, None, detail);
        }
    }

    /// Converts a time of the shell's clock to the operators' time: nanoseconds since the manager's start.
    pub(crate) fn since_start(&self, now: u64) -> u64 {
        now.saturating_sub(self.epoch)
    }

    /// Adds an event for operators.
    pub(crate) fn event(
        &mut self,
        now: u64,
        what: &str,
        brane: Option<&str>,
        device: Option<&str>,
        detail: String,
    ) {
        let at = self.since_start(now);
        self.events.push(at, what, brane, device, detail);
    }
}
