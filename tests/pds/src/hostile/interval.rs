//! How fast a hostile program goes: a step now and then, for ever, and a line in the log for some of its rounds. The timer is
//! trusted.

use sel4_microkit::Channel;
use sel4_microkit::time::{Alarm, Clock};

/// Time between two steps in nanoseconds.
const STEP: u64 = 10_000_000;

/// Rounds between two lines in the log.
const LOG_EVERY: u64 = 50;

/// The time between steps.
pub struct Interval {
    clock: Clock,
    alarm: Alarm,
}

impl Interval {
    /// By this clock and the timer at the other end of this channel, which has our first step at once.
    pub fn start(clock: Clock, timer: Channel) -> Interval {
        let alarm = Alarm::new(timer);
        let mut interval = Interval { clock, alarm };
        interval.wake_later();
        interval
    }

    /// Has the timer notify us for the next step.
    pub fn wake_later(&mut self) {
        self.alarm.rang();
        // The timer knows this operation.
        self.alarm.set(self.clock.now_ns() + STEP);
    }

    /// Whether the log tells of that many rounds.
    pub fn is_told(rounds: u64) -> bool {
        rounds % LOG_EVERY == 1
    }
}
