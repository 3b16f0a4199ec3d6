//! The manager's decisions, without a kernel: events go in, actions come out, time is an argument.
//!
//! The shell (`brane-manager`) turns faults, notifications and calls into [`Event`]s and carries the [`Action`]s out.
//! The NIC drivers are trusted, return their answers at once, and are called through [`Driver`]. Branes, clients,
//! subscribers and operators are not trusted: their reports and requests are checked and counted.
//!
//! [`Manager`] routes an event to the owner of the state concerned, and an owner's effect to the other owners:
//!
//! | module | owns |
//! | --- | --- |
//! | `instance` | instances: lifecycle, heartbeat, faults, pending commands |
//! | `devices` | the device table, and calls to NIC drivers |
//! | `subscribers` | subscriptions and notifications |
//! | `filters` | registrations of external filters |
//! | `jobs` | operators' jobs and their locks |
//! | `captures` | captures under way, and programs that operators collect for the next ones |
//! | `staging` | rules that operators collect for the replacement of a filter |
//! | `suspensions`, `event_log`, `logs` | suspended children; the last events; log levels |
//!
//! No owner depends on another one. `ops` and `views` use them all: an operation changes state for an operator, a view
//! shows state. `children` and `effects` are parts of the routing, `setup` brings the system up.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

mod backoff;
pub mod boot;
mod captures;
mod children;
pub mod decode;
mod devices;
mod driver;
mod effects;
mod event_log;
pub mod fault_reports;
pub mod filter;
mod filters;
mod ids;
mod instance;
mod jobs;
mod logs;
mod lookup;
mod names;
mod operation;
mod operators;
mod ops;
mod refusals;
mod resources;
mod setup;
mod shell;
mod snapshot;
mod staging;
mod subscribers;
mod suspensions;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod text;
mod views;

pub use backoff::{Backoff, FIRST_DELAY_NS, HEALTHY_NS, MAX_DELAY_NS, MAX_DELAY_STARTED_NS};
pub use driver::Driver;
pub use ids::{BraneId, FilterId, OperatorId, SubscriberId};
pub use operators::OPERATORS;
pub use shell::{Action, Child, Event, Reply, Size};

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::report;
use captures::Captures;
use children::Operators;
use devices::Devices;
use event_log::EventLog;
use filters::Filters;
use instance::{Input, Instances, heartbeat};
use logs::Logs;
use operation::Jobs;
use shell::Context;
use staging::Staging;
use subscribers::Subscribers;
use suspensions::Suspensions;

/// The manager: all owners.
#[derive(Debug)]
pub struct Manager {
    pub(crate) instances: Instances,
    pub(crate) devices: Devices,
    pub(crate) subscribers: Subscribers,
    pub(crate) filters: Filters,
    pub(crate) jobs: Jobs,
    pub(crate) captures: Captures,
    pub(crate) staging: Staging,
    pub(crate) operators: Operators,
    pub(crate) suspensions: Suspensions,
    pub(crate) events: EventLog,
    pub(crate) logs: Logs,
    pub(crate) boot_error: Option<String>,
    /// Time of the next heartbeat, in nanoseconds.
    beat_at: u64,
    /// Time of the manager's start, in nanoseconds: the zero of the operators' times.
    epoch: u64,
}

impl Manager {
    /// Returns the reason if the boot configuration cannot be used.
    pub fn boot_error(&self) -> Option<&str> {
        self.boot_error.as_deref()
    }

    /// Returns the time at which [`Event::Tick`] is due, in nanoseconds of the caller's clock.
    pub fn deadline(&self) -> Option<u64> {
        [self.due(), self.next_beat()].into_iter().flatten().min()
    }

    /// Returns the time of the next heartbeat, or `None` if no brane is started and no filter registered.
    pub(crate) fn next_beat(&self) -> Option<u64> {
        let started = |b: &instance::Instance| b.state == instance::LifecycleState::Started;
        let any = self.instances.iter().any(started) || self.filters.needs_heartbeats();
        any.then_some(self.beat_at)
    }

    /// Returns the time of the next deadline, heartbeats excepted.
    pub(crate) fn due(&self) -> Option<u64> {
        let all = [
            self.instances.due(),
            self.subscribers.deadline(),
            self.filters.deadline(),
            self.operators.deadline(),
            self.jobs.deadline(),
            self.suspensions.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// Handles an event that happened at `now` (nanoseconds) and appends the resulting actions.
    pub fn handle(&mut self, now: u64, event: Event<'_>, driver: &mut dyn Driver, actions: &mut Vec<Action>) {
        let first = actions.len();
        let cx = &mut Context { now, driver, actions };
        match event {
            Event::LinkUp(child) => match child {
                Child::Brane(id) => self.step(id, Input::LinkUp, cx),
                Child::Subscriber(id) => self.subscribers.link_up(id),
                Child::Filter(id) => self.filters.link_up(now, id),
                Child::Client(_) | Child::Operator(_) | Child::Line => {}
            },
            Event::Report {
                child,
                kind,
                token,
                payload,
            } => match child {
                Child::Brane(id) => {
                    let input = Input::Report { kind, token, payload };
                    let effects = self.instances.step(id, now, input);
                    // Nothing waits for the answer to a heartbeat. Each brane sends one in each second, and `settle`
                    // visits all branes, so such an answer ends here.
                    if kind == report::ALIVE && effects.is_empty() {
                        return;
                    }
                    self.carry_out(id, effects, cx);
                }
                Child::Subscriber(id) => {
                    let announced = self.instances.iter().filter(|b| b.announced);
                    let branes: Vec<_> = announced.filter_map(|b| b.snapshot()).collect();
                    self.subscribers.record(id, kind, token, payload, &branes);
                }
                Child::Filter(id) => self.filters.record(now, id, kind, token, payload),
                Child::Client(_) | Child::Operator(_) | Child::Line => {}
            },
            Event::Violation { child, what } => match child {
                Child::Brane(id) => self.step(id, Input::Violation(what), cx),
                Child::Subscriber(id) => self.subscribers.quarantine(id, what),
                Child::Filter(id) => self.filters.fail(now, id, what),
                Child::Client(_) | Child::Operator(_) | Child::Line => {}
            },
            Event::Dropped { child, token } => match child {
                Child::Brane(id) => self.step(id, Input::Dropped(token), cx),
                Child::Subscriber(id) => self.subscribers.quarantine(id, "its ring is full"),
                Child::Filter(id) => self.filters.fail(now, id, "its ring is full"),
                Child::Client(_) | Child::Operator(_) | Child::Line => {}
            },
            Event::Fault { child, what } => self.child_fault(child, what, cx),
            Event::Offender {
                child,
                until,
                service,
            } => self.offender(child, until, service, cx),
            Event::Tick => self.tick(cx),
        }
        self.settle(cx);
        self.suspensions.forget(&actions[first..]);
    }

    fn tick(&mut self, cx: &mut Context<'_>) {
        for id in self.instances.ids() {
            self.step(id, Input::Tick, cx);
        }
        self.restart_children(cx);
        self.resume_suspended(cx);
        self.subscribers.tick(cx.now);
        if cx.now < self.beat_at {
            return;
        }
        self.beat_at = cx.now + heartbeat::PERIOD_NS;
        for id in self.instances.ids() {
            let suspended = self.suspensions.is_suspended(Child::Brane(id));
            self.step(id, Input::Heartbeat(suspended), cx);
        }
        let suspensions = &self.suspensions;
        self.filters
            .heartbeat(cx.now, |id| suspensions.is_suspended(Child::Filter(id)));
    }
}

/// Encodes a message to a brane, a subscriber or an operator in CBOR.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a vector cannot fail, and all the types used can be encoded.
    let _ = minicbor::encode(value, &mut out);
    out
}
