//! The rate of a hostile program: bounded steps forever, and a line in the log for some of its rounds. The
//! timer is trusted.

use sel4_microkit::Channel;
use sel4_microkit::time::{Alarm, Clock};

/// Time between two steps in nanoseconds.
const STEP: u64 = 10_000_000;

/// Rounds between two lines in the log.
const LOG_EVERY: u64 = 50;

/// The timing of the steps.
pub struct Interval {
    clock: Clock,
    alarm: Alarm,
}

impl Interval {
    /// Starts with this clock and the timer at the other end of this channel. The first step is due at once.
    pub fn start(clock: Clock, timer: Channel) -> Interval {
        let alarm = Alarm::new(timer);
        let mut interval = Interval { clock, alarm };
        interval.wake_later();
        interval
    }

    /// Sets a deadline for the next step.
    pub fn wake_later(&mut self) {
        self.alarm.rang();
        // Cannot fail, because the timer knows this operation.
        self.alarm.set(self.clock.now_ns() + STEP);
    }

    /// Returns true if the log mentions this number of rounds.
    pub fn is_told(rounds: u64) -> bool {
        rounds % LOG_EVERY == 1
    }
}
