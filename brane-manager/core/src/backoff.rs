//! Computes when a failed child may restart: at once, or with growing delays if it keeps failing quickly.
//!
//! A failure after a healthy time is forgiven entirely. So each failure with a recovery before it gets an immediate
//! restart, however many there are. Only quick repeats wait, because other children and the console must get their
//! turn. A child that came up each time waits less.

/// A child that was up for this time before it failed restarts at once, in nanoseconds.
pub const HEALTHY_NS: u64 = 50_000_000;
/// Delay of the third start in quick succession, in nanoseconds. It doubles with each further one.
pub const FIRST_DELAY_NS: u64 = 10_000_000;
/// Longest delay of a child that came up before it failed, in nanoseconds.
pub const MAX_DELAY_STARTED_NS: u64 = 200_000_000;
/// Longest delay of a child that failed before it came up, in nanoseconds.
pub const MAX_DELAY_NS: u64 = 5_000_000_000;

/// Counts one child's failures in quick succession.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    quick: u32,
}

impl Backoff {
    /// Counts a failure `up_for` nanoseconds after the child came up; `None` means that it did not come up. Returns the
    /// delay before the restart, in nanoseconds.
    pub fn failed(&mut self, up_for: Option<u64>) -> u64 {
        if up_for.is_some_and(|ns| ns >= HEALTHY_NS) {
            self.quick = 0;
            return 0;
        }
        self.quick = self.quick.saturating_add(1);
        let Some(doublings) = self.quick.checked_sub(2) else {
            return 0;
        };
        let most = if up_for.is_some() {
            MAX_DELAY_STARTED_NS
        } else {
            MAX_DELAY_NS
        };
        FIRST_DELAY_NS.saturating_mul(1 << doublings.min(16)).min(most)
    }
}

/// Restarts of a child that has no link with the manager at its start: a client, a subscriber or an operator.
#[derive(Debug, Default)]
pub(crate) struct RestartTimer {
    backoff: Backoff,
    pub running_since: u64,
    /// Time at which the stopped child restarts. `None` if it runs.
    pub restart_at: Option<u64>,
}

impl RestartTimer {
    /// Creates the timer of a child that starts now. Earlier failures are forgiven.
    pub(crate) fn running(now: u64) -> RestartTimer {
        RestartTimer {
            running_since: now,
            ..RestartTimer::default()
        }
    }

    /// Records a failure.
    pub(crate) fn failed(&mut self, now: u64) {
        let up = now.saturating_sub(self.running_since);
        // No event reports the end of the start, so a quick failure counts as one before the child came up.
        let delay = self.backoff.failed((up >= HEALTHY_NS).then_some(up));
        self.restart_at = Some(now + delay);
    }

    /// Returns true if the child must be restarted now.
    pub(crate) fn due(&mut self, now: u64) -> bool {
        let due = self.restart_at.is_some_and(|at| at <= now);
        if due {
            self.restart_at = None;
            self.running_since = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_failures_with_a_recovery_between_never_wait() {
        let mut b = Backoff::default();
        assert!((0..100).all(|_| b.failed(Some(HEALTHY_NS)) == 0));
    }

    #[test]
    fn quick_ones_wait_longer_and_longer_up_to_a_limit() {
        let mut b = Backoff::default();
        let delays: Vec<_> = (0..30).map(|_| b.failed(None)).collect();
        assert_eq!(
            delays[..4],
            [0, FIRST_DELAY_NS, 2 * FIRST_DELAY_NS, 4 * FIRST_DELAY_NS]
        );
        assert!(delays.is_sorted());
        assert_eq!(delays[29], MAX_DELAY_NS);
        assert_eq!(b.failed(Some(0)), MAX_DELAY_STARTED_NS);
        assert_eq!(b.failed(Some(HEALTHY_NS)), 0);
        assert_eq!(b.failed(None), 0, "forgiven");
    }
}
