//! Phases of the floods: programs that flood the services above the branes take turns by the shared clock.
//! Programs beside them count how much they compute in each phase. Each flood has a phase without one before
//! and after it. So other work of the machine slows down both sides of a comparison equally.
//!
//! No peer is involved. The programs agree on the phase by the trusted clock alone, so a restarted program
//! rejoins the current phase.

/// Length of a phase in nanoseconds.
pub const LENGTH: u64 = 1_000_000_000;

/// Action of a phase, by one program alone. The other flood programs sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client computes. The progress of the neighbors beside it is their fair share.
    Spin,
    /// The client sets far deadlines at the timer.
    Far,
    /// The client sets deadlines at the timer that have passed.
    Due,
    /// The client notifies serial.
    Serial,
    /// The client fills its log ring.
    Log,
    /// The brane rings the manager's doorbell.
    Bell,
    /// The brane sends the manager unsolicited reports.
    Reports,
    /// The operator calls the manager.
    Calls,
    /// The operator fills its line's output ring.
    Output,
    /// The operator consumes the input of its line. The other end always has more.
    Input,
}

impl Phase {
    /// All floods, in order. Every second phase is [`Phase::Spin`].
    pub const FLOODS: [Phase; 9] = [
        Phase::Far,
        Phase::Due,
        Phase::Serial,
        Phase::Log,
        Phase::Bell,
        Phase::Reports,
        Phase::Calls,
        Phase::Output,
        Phase::Input,
    ];

    /// Returns the phase's name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Spin => "spin",
            Phase::Far => "far",
            Phase::Due => "due",
            Phase::Serial => "serial",
            Phase::Log => "log",
            Phase::Bell => "bell",
            Phase::Reports => "reports",
            Phase::Calls => "calls",
            Phase::Output => "output",
            Phase::Input => "input",
        }
    }
}

/// A phase at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub phase: Phase,
    /// Number of earlier phases.
    pub number: u64,
    /// End of the phase, in nanoseconds of the shared clock.
    pub end: u64,
}

impl Turn {
    /// Returns the phase at this time, in nanoseconds of the shared clock.
    pub fn at(now: u64) -> Turn {
        let number = now / LENGTH;
        Turn {
            phase: match number % 2 {
                0 => Phase::Spin,
                _ => Phase::FLOODS[(number / 2 % Phase::FLOODS.len() as u64) as usize],
            },
            number,
            end: (number + 1).saturating_mul(LENGTH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_without_a_gap() {
        let mut now = 5;
        for number in 0..30 {
            let turn = Turn::at(now);
            let phase = match number as usize {
                n if n % 2 == 0 => Phase::Spin,
                n => Phase::FLOODS[n / 2 % 9],
            };
            assert_eq!((turn.number, turn.phase), (number, phase));
            assert_eq!(Turn::at(turn.end - 1), turn);
            now = turn.end;
        }
        assert_eq!(Turn::at(u64::MAX).end, u64::MAX);
    }
}
