//! When a child that has failed may start again: at once, but later and later when it keeps failing quickly.
//!
//! A failure after a healthy time is forgiven entirely, so any number of failures with a recovery between them each get
//! an immediate restart. Only quick repeats wait, and one that at least came up each time waits less: other children
//! and the console must get their turn, and that is all.

/// A child that was up for so long before it failed starts again at once, in nanoseconds.
pub const HEALTHY_NS: u64 = 50_000_000;
/// Delay of the third start in quick succession; doubles with each further one.
pub const FIRST_DELAY_NS: u64 = 10_000_000;
/// Longest delay of a child that had come up before it failed.
pub const MAX_DELAY_STARTED_NS: u64 = 200_000_000;
/// Longest delay of a child that failed before it had come up.
pub const MAX_DELAY_NS: u64 = 5_000_000_000;

/// The memory of one child's failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    quick: u32,
}

impl Backoff {
    /// The child has failed, `up_for` nanoseconds after it had come up (`None`: it had not). Returns the delay before
    /// it may start again, in nanoseconds.
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
