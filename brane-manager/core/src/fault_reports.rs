//! Owns the faults of children that write their backtraces now.
//!
//! A child that faults is made to write its backtrace, and faults once more at its end. The first fault is what the manager
//! acts on. The child is not trusted: its memory may hold anything, so it may never come to the second fault. Then it is
//! stopped after [`REPORT_NS`].

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// How long a child may take to write its backtrace, in nanoseconds. It takes less than a millisecond.
pub const REPORT_NS: u64 = 100_000_000;

/// A fault that is held back.
#[derive(Debug)]
struct Held {
    what: String,
    until: u64,
}

/// The faults that are held back, by child id.
#[derive(Debug, Default)]
pub struct FaultReports(BTreeMap<usize, Held>);

impl FaultReports {
    /// Holds back the first fault of a child, which writes its backtrace from now on.
    pub fn hold(&mut self, now: u64, child: usize, what: String) {
        let until = now.saturating_add(REPORT_NS);
        self.0.insert(child, Held { what, until });
    }

    /// Returns the first fault of a child that has faulted again, and holds it no more. `None`: this is the first fault.
    pub fn take(&mut self, child: usize) -> Option<String> {
        self.0.remove(&child).map(|held| held.what)
    }

    /// Returns the children that have not come to the second fault in time, with their first faults, and holds these no more. The caller
    /// stops the children.
    pub fn take_late(&mut self, now: u64) -> Vec<(usize, String)> {
        let late = self.0.extract_if(.., |_, held| held.until <= now);
        late.map(|(child, held)| (child, held.what)).collect()
    }

    /// When [`Self::take_late`] is due, in nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.0.values().map(|held| held.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_fault_delivers_the_first() {
        let mut reports = FaultReports::default();
        assert_eq!(reports.take(3), None);
        reports.hold(5, 3, "page fault".into());
        assert_eq!(reports.take(4), None, "another child");
        assert_eq!(reports.take(3), Some("page fault".into()));
        assert_eq!((reports.take(3), reports.deadline()), (None, None));
    }

    #[test]
    fn a_child_that_never_ends_its_report_is_late_once() {
        let mut reports = FaultReports::default();
        reports.hold(5, 3, "first".into());
        reports.hold(9, 4, "second".into());
        assert_eq!(reports.deadline(), Some(5 + REPORT_NS));
        assert_eq!(reports.take_late(4 + REPORT_NS), []);
        assert_eq!(reports.take_late(5 + REPORT_NS), [(3, "first".into())]);
        assert_eq!(reports.deadline(), Some(9 + REPORT_NS));
        assert_eq!(reports.take_late(u64::MAX), [(4, "second".into())]);
        assert_eq!(
            (reports.take_late(u64::MAX), reports.deadline()),
            (Vec::new(), None)
        );
    }
}
