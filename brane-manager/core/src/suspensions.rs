//! Owns the suspensions of children that have used up their budget at a service above them.
//!
//! The service (timer, serial, a NIC driver, the manager's own shell) names the offender and the end of the suspension.
//! It is trusted for that; the child is not trusted. A suspension loses nothing: the child continues at the point where
//! it was stopped, and its requests wait.

use crate::shell::{Action, Child};
use alloc::vec::Vec;

/// Maximum length of a suspension in nanoseconds, whatever a service asks for.
pub(crate) const LONGEST_NS: u64 = 1_000_000_000;
/// Minimum time between two events and log lines about one child, in nanoseconds.
const QUIET_NS: u64 = 10_000_000_000;

/// Suspensions of one child, over all of its incarnations.
#[derive(Clone, Copy, Debug)]
struct Record {
    child: Child,
    /// End of the present suspension. `None` if the child is not suspended.
    until: Option<u64>,
    count: u64,
    /// Time before which there is no other event about the child.
    quiet_until: u64,
}

/// A suspension that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspension {
    /// Length in nanoseconds.
    pub ns: u64,
    /// True if operators must see an event.
    pub is_news: bool,
}

/// Children that were ever suspended.
#[derive(Debug)]
pub(crate) struct Suspensions(Vec<Record>);

impl Suspensions {
    /// Reserves memory for this number of children, so the manager's use of memory does not depend on suspensions.
    pub(crate) fn new(children: usize) -> Suspensions {
        Suspensions(Vec::with_capacity(children))
    }

    fn find(&mut self, child: Child) -> Option<&mut Record> {
        self.0.iter_mut().find(|r| r.child == child)
    }

    pub(crate) fn is_suspended(&self, child: Child) -> bool {
        self.0.iter().any(|r| r.child == child && r.until.is_some())
    }

    /// Returns how often the child was suspended.
    pub(crate) fn count(&self, child: Child) -> u64 {
        self.0.iter().find(|r| r.child == child).map_or(0, |r| r.count)
    }

    /// Returns the time at which the next suspension ends.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.0.iter().filter_map(|r| r.until).min()
    }

    /// Suspends a running child until this time, or extends its suspension. Returns a new suspension.
    pub(crate) fn suspend(&mut self, now: u64, child: Child, until: u64) -> Option<Suspension> {
        let until = until.min(now.saturating_add(LONGEST_NS));
        if until <= now {
            return None;
        }
        if self.find(child).is_none() {
            self.0.push(Record {
                child,
                until: None,
                count: 0,
                quiet_until: 0,
            });
        }
        let record = self.find(child)?;
        if let Some(earlier) = record.until {
            record.until = Some(earlier.max(until));
            return None;
        }
        record.until = Some(until);
        record.count += 1;
        let is_news = record.quiet_until <= now;
        if is_news {
            record.quiet_until = now + QUIET_NS;
        }
        Some(Suspension {
            ns: until - now,
            is_news,
        })
    }

    /// Ends the suspensions whose time is over and returns their children.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<Child> {
        let mut due = Vec::new();
        for record in &mut self.0 {
            if record.until.is_some_and(|at| at <= now) {
                record.until = None;
                due.push(record.child);
            }
        }
        due
    }

    /// Removes the suspension of each child that one of these actions stops or starts.
    pub(crate) fn forget(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Stop(child) | Action::Restart(child) | Action::Renew(child) = *action
                && let Some(record) = self.find(child)
            {
                record.until = None;
            }
        }
    }
}
