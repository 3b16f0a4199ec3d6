//! Owns the faults of children that write their backtraces now.
//!
//! The manager makes a faulted child write its backtrace; the child faults again at the end. The manager then handles
//! the first fault. The child is not trusted: its memory may contain anything, so the second fault may never come. In
//! that case the child is stopped after [`REPORT_NS`].

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Maximum time in which a child writes its backtrace, in nanoseconds. It needs less than a millisecond.
pub const REPORT_NS: u64 = 100_000_000;

/// A delayed fault.
#[derive(Debug)]
struct Held {
    what: String,
    until: u64,
}

/// The delayed faults, by child id.
#[derive(Debug, Default)]
pub struct FaultReports(BTreeMap<usize, Held>);

impl FaultReports {
    /// Delays the first fault of a child, which writes its backtrace from now on.
    pub fn hold(&mut self, now: u64, child: usize, what: String) {
        let until = now.saturating_add(REPORT_NS);
        self.0.insert(child, Held { what, until });
    }

    /// Removes and returns the first fault of a child that has faulted again. Returns `None` if this is the first
    /// fault.
    pub fn take(&mut self, child: usize) -> Option<String> {
        self.0.remove(&child).map(|held| held.what)
    }

    /// Removes the children without a second fault in time, and returns them with their first faults. The caller must
    /// stop the children.
    pub fn take_late(&mut self, now: u64) -> Vec<(usize, String)> {
        let late = self.0.extract_if(.., |_, held| held.until <= now);
        late.map(|(child, held)| (child, held.what)).collect()
    }

    /// Returns the time at which [`Self::take_late`] is due, in nanoseconds.
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
