//! Offenders: children that have used up their budget at a service above them, and are suspended until it allows them more.
//!
//! A service (timer, serial, a NIC driver, the manager's own shell) names the offender and until when. It is trusted for that;
//! the child is not trusted. Suspending loses nothing: the child goes on where it was, and what it asked for too often waits
//! in the meantime.

use super::{Action, Child, Cx, Manager, life, milliseconds};
use crate::brane::{State, Step};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Longest suspension in nanoseconds, whatever a service asks for.
pub(crate) const LONGEST_NS: u64 = 1_000_000_000;
/// Least time between two events and log lines about one child, in nanoseconds.
const QUIET_NS: u64 = 10_000_000_000;

/// Names of the operators' protection domains, by number.
pub const OPERATORS: [&str; 2] = ["console", "remote"];

/// What is known of one child's suspensions, over all of its lives.
#[derive(Clone, Copy, Debug)]
struct Record {
    child: Child,
    /// Until when it is suspended; `None` if it is not.
    until: Option<u64>,
    /// How often it was.
    count: u64,
    /// No event about it before this time.
    quiet_until: u64,
}

/// Children that were ever suspended.
#[derive(Debug, Default)]
pub(crate) struct Offenders(Vec<Record>);

impl Offenders {
    fn find(&mut self, child: Child) -> Option<&mut Record> {
        self.0.iter_mut().find(|r| r.child == child)
    }

    /// Whether the child is suspended now.
    pub(super) fn suspended(&self, child: Child) -> bool {
        self.0.iter().any(|r| r.child == child && r.until.is_some())
    }

    /// How often the child was suspended.
    pub(super) fn count(&self, child: Child) -> u64 {
        self.0.iter().find(|r| r.child == child).map_or(0, |r| r.count)
    }

    /// When the next suspension ends.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.0.iter().filter_map(|r| r.until).min()
    }

    /// Forgets the suspension of each child that one of these actions stops or starts.
    pub(super) fn forget(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Stop(child) | Action::Restart(child) | Action::Renew(child) = *action
                && let Some(record) = self.find(child)
            {
                record.until = None;
            }
        }
    }
}

impl Manager {
    /// Suspends a child that has used up its budget at `service`. One that stands still for another reason is left alone.
    pub(super) fn offender(&mut self, child: Child, until: u64, service: &str, cx: &mut Cx<'_>) {
        let until = until.min(cx.now.saturating_add(LONGEST_NS));
        if !self.runs(child) || until <= cx.now {
            return;
        }
        if self.offenders.find(child).is_none() {
            self.offenders.0.push(Record {
                child,
                until: None,
                count: 0,
                quiet_until: 0,
            });
        }
        let Some(record) = self.offenders.find(child) else {
            return;
        };
        if let Some(earlier) = record.until {
            record.until = Some(earlier.max(until));
            return;
        }
        record.until = Some(until);
        record.count += 1;
        let told = record.quiet_until > cx.now;
        if !told {
            record.quiet_until = cx.now + QUIET_NS;
        }
        cx.actions.push(Action::Suspend(child));
        if let Child::Brane(brane) = child {
            self.branes[brane].pulse.suspended();
        }
        if !told {
            let (name, brane) = self.child_name(child);
            let ms = milliseconds(until - cx.now);
            cx.log(format!(
                "{name} has used up its budget at {service}; suspended for {ms} this time"
            ));
            let detail = format!("{name} at {service}");
            self.event(cx.now, "suspended", brane.as_deref(), None, detail);
        }
    }

    /// Whether a child is suspended.
    pub fn is_suspended(&self, child: Child) -> bool {
        self.offenders.suspended(child)
    }

    /// Resumes the children whose time has come.
    pub(super) fn offenders_due(&mut self, cx: &mut Cx<'_>) {
        for record in &mut self.offenders.0 {
            if record.until.is_some_and(|at| at <= cx.now) {
                record.until = None;
                cx.actions.push(Action::Resume(record.child));
            }
        }
    }

    /// Whether the child was started and has not faulted or been stopped since.
    fn runs(&self, child: Child) -> bool {
        match child {
            Child::Brane(brane) => self
                .branes
                .get(brane)
                .is_some_and(|b| b.state != State::Failed && b.step != Some(Step::Delay)),
            Child::Client(brane) => self
                .branes
                .get(brane)
                .is_some_and(|b| b.state != State::Leaving && b.client.restart_at.is_none()),
            Child::Watcher(k) => self.watchers.get(k).is_some_and(|w| w.restart_at.is_none()),
            Child::Operator(k) => self.operators.get(k).is_some_and(|o| o.restart_at.is_none()),
        }
    }

    /// A child in words, and the name of its brane if it has one.
    fn child_name(&self, child: Child) -> (String, Option<String>) {
        match child {
            Child::Brane(brane) | Child::Client(brane) => {
                let named = self.branes.get(brane).map(|b| b.name().to_string());
                let named = named.filter(|name| !name.is_empty());
                let label = self.label(brane);
                let label = match child {
                    Child::Client(_) => format!("the client of {label}"),
                    _ => label,
                };
                (label, named)
            }
            Child::Watcher(k) => (life::watcher(k), None),
            Child::Operator(k) => (operator(k), None),
        }
    }
}

/// The name of an operator's protection domain.
pub(super) fn operator(k: usize) -> String {
    OPERATORS
        .get(k)
        .map_or_else(|| format!("operator {k}"), |name| (*name).into())
}
