//! Timing of a program that floods: it sleeps until its phase begins. The timer is trusted.

use sel4_microkit::Channel;
use sel4_microkit::time::{Alarm, Clock};
use test_pds_core::phases::{Phase, Turn};

/// The clock, and the deadline of the next phase.
pub struct Sleeper {
    clock: Clock,
    alarm: Alarm,
}

impl Sleeper {
    /// Starts with this clock and the timer at the other end of this channel. The first deadline is due at
    /// once.
    pub fn start(clock: Clock, timer: Channel) -> Sleeper {
        let alarm = Alarm::new(timer);
        let mut sleeper = Sleeper { clock, alarm };
        sleeper.until_next();
        sleeper
    }

    /// Returns the present phase.
    pub fn turn(&self) -> Turn {
        Turn::at(self.clock.now_ns())
    }

    /// Returns true if `phase` is the present phase.
    pub fn is_in(&self, phase: Phase) -> bool {
        self.turn().phase == phase
    }

    /// Sets a deadline at the beginning of the next phase.
    pub fn until_next(&mut self) {
        self.alarm.rang();
        // Cannot fail, because the timer knows this operation.
        self.alarm.set(self.turn().end);
    }
}
