//! The time of a program that floods: it sleeps until its phase has come. The timer is trusted.

use sel4_microkit::Channel;
use sel4_microkit::time::{Alarm, Clock};
use test_pds_core::phases::{Phase, Turn};

/// The clock, and the deadline of the next phase.
pub struct Sleeper {
    clock: Clock,
    alarm: Alarm,
}

impl Sleeper {
    /// By this clock and the timer at the other end of this channel, which has our first deadline at once.
    pub fn start(clock: Clock, timer: Channel) -> Sleeper {
        let alarm = Alarm::new(timer);
        let mut sleeper = Sleeper { clock, alarm };
        sleeper.until_next();
        sleeper
    }

    /// The present phase.
    pub fn turn(&self) -> Turn {
        Turn::at(self.clock.now_ns())
    }

    /// Whether the phase goes on.
    pub fn is_in(&self, phase: Phase) -> bool {
        self.turn().phase == phase
    }

    /// Has the timer notify us when the next phase begins.
    pub fn until_next(&mut self) {
        self.alarm.rang();
        // The timer knows this operation.
        self.alarm.set(self.turn().end);
    }
}
