//! Faults, restarts and suspensions of the manager's children: branes, their clients, subscribers, operators and the driver of the
//! control line.
//!
//! None of them is trusted. Clients have no link with the manager, so a client that hangs is not detected. A subscriber that
//! hangs is quarantined ([`crate::subscribers`]).

use crate::Manager;
use crate::backoff::RestartTimer;
use crate::filters::Filters;
use crate::ids::OperatorId;
use crate::instance::Input;
use crate::operators::operator_name;
use crate::shell::{Action, Child, Context};
use crate::text::{milliseconds, subscriber_name};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Name of the control line's driver.
const LINE: &str = "line";

/// Owns the restarts of the operators' domains, and of the control line's driver.
#[derive(Debug)]
pub(crate) struct Operators {
    domains: Vec<RestartTimer>,
    line: RestartTimer,
}

impl Operators {
    pub(crate) fn new(count: usize) -> Operators {
        Operators {
            domains: (0..count).map(|_| RestartTimer::default()).collect(),
            line: RestartTimer::default(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = OperatorId> + use<> {
        OperatorId::first(self.domains.len())
    }

    /// Returns the time at which the next of them restarts.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let timers = self.domains.iter().chain([&self.line]);
        timers.filter_map(|timer| timer.restart_at).min()
    }
}

impl Manager {
    /// Handles a fault. The child is stopped.
    pub(crate) fn child_fault(&mut self, child: Child, what: &str, cx: &mut Context<'_>) {
        match child {
            Child::Brane(id) => self.step(id, Input::Fault(what), cx),
            Child::Client(id) => self.step(id, Input::ClientFault(what), cx),
            Child::Subscriber(id) => {
                cx.log(format!("{} failed: {what}; restarting it", subscriber_name(id)));
                self.subscribers.fault(cx.now, id);
                self.restart_children(cx);
            }
            Child::Filter(id) => {
                self.filters.fault(cx.now, id, what);
                self.restart_children(cx);
            }
            Child::Operator(id) => {
                let Some(timer) = self.operators.domains.get_mut(id.index()) else {
                    return;
                };
                timer.failed(cx.now);
                cx.log(format!("{} failed: {what}; restarting it", operator_name(id)));
                self.jobs.cancel_all(id);
                self.staging.forget_operator(id);
                self.captures.forget_operator(id);
                self.restart_children(cx);
            }
            Child::Line => {
                self.operators.line.failed(cx.now);
                cx.log(format!("{LINE} failed: {what}; restarting it"));
                self.restart_children(cx);
            }
        }
    }

    /// Restarts the subscribers, filters, operators and the control line's driver if their restart is due.
    pub(crate) fn restart_children(&mut self, cx: &mut Context<'_>) {
        for id in self.subscribers.take_restarts(cx.now) {
            cx.actions.push(Action::Restart(Child::Subscriber(id)));
        }
        for id in self.filters.take_stops() {
            cx.actions.push(Action::Stop(Child::Filter(id)));
        }
        for id in self.filters.take_restarts(cx.now) {
            cx.actions.push(Action::Restart(Child::Filter(id)));
        }
        for id in self.operators.ids() {
            if self.operators.domains[id.index()].due(cx.now) {
                cx.actions.push(Action::Restart(Child::Operator(id)));
            }
        }
        if self.operators.line.due(cx.now) {
            cx.actions.push(Action::Restart(Child::Line));
        }
    }

    /// Suspends a child that has used up its budget at `service`. Does nothing if the child is stopped for another
    /// reason.
    pub(crate) fn offender(&mut self, child: Child, until: u64, service: &str, cx: &mut Context<'_>) {
        if !self.runs(child) {
            return;
        }
        let Some(suspension) = self.suspensions.suspend(cx.now, child, until) else {
            return;
        };
        cx.actions.push(Action::Suspend(child));
        if let Child::Brane(id) = child {
            self.step(id, Input::Suspended, cx);
        }
        if suspension.is_news {
            let (name, brane) = self.child_name(child);
            let ms = milliseconds(suspension.ns);
            cx.log(format!(
                "{name} has used up its budget at {service}; suspended for {ms} this time"
            ));
            let detail = format!("{name} at {service}");
            self.event(cx.now, "suspended", brane.as_deref(), None, detail);
        }
    }

    /// Returns true if a child is suspended.
    pub fn is_suspended(&self, child: Child) -> bool {
        self.suspensions.is_suspended(child)
    }

    /// Resumes the children whose suspension is over.
    pub(crate) fn resume_suspended(&mut self, cx: &mut Context<'_>) {
        let due = self.suspensions.take_due(cx.now).into_iter();
        cx.actions.extend(due.map(Action::Resume));
    }

    /// Returns true if the child was started and has neither faulted nor been stopped since.
    fn runs(&self, child: Child) -> bool {
        match child {
            Child::Brane(id) => self.instances.get(id).is_some_and(|b| b.runs()),
            Child::Client(id) => self.instances.get(id).is_some_and(|b| b.client_runs()),
            Child::Subscriber(id) => self.subscribers.runs(id),
            Child::Filter(id) => self.filters.runs(id),
            Child::Operator(id) => {
                let timer = self.operators.domains.get(id.index());
                timer.is_some_and(|timer| timer.restart_at.is_none())
            }
            Child::Line => self.operators.line.restart_at.is_none(),
        }
    }

    /// Returns the name of a child, and that of its brane if it has one.
    fn child_name(&self, child: Child) -> (String, Option<String>) {
        match child {
            Child::Brane(id) | Child::Client(id) => {
                let Some(b) = self.instances.get(id) else {
                    return Default::default();
                };
                let brane = Some(b.name().to_string()).filter(|name| !name.is_empty());
                let label = match child {
                    Child::Client(_) => format!("the client of {}", b.label()),
                    _ => b.label(),
                };
                (label, brane)
            }
            Child::Subscriber(id) => (subscriber_name(id), None),
            Child::Filter(id) => (Filters::name(id), None),
            Child::Operator(id) => (operator_name(id), None),
            Child::Line => (LINE.into(), None),
        }
    }
}
