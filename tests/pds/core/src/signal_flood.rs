//! A flood of timer interrupts on a kernel that is busy with system calls: when the next deadline is, and what is done
//! until then. Knows nothing of the timer; time is an argument.

/// Nanoseconds between two deadlines: at least, and how much more at most.
pub const GAP: (u64, u64) = (400_000, 200_000);

/// By how much the gap grows from deadline to deadline. A prime number, so that the deadlines pass over every phase of the
/// kernel's own tick, whose interrupt is to come together with theirs.
const DRIFT: u64 = 1_709;

/// What is done until the next deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Protected calls, one after the other: the interrupt finds the processor in the kernel more often than not.
    Calls,
    /// Nothing, with known values in all floating-point registers: the interrupt pre-empts us.
    Hold,
}

/// Where the flood is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalFlood {
    deadlines: u64,
    gap: u64,
}

impl SignalFlood {
    /// A deadline has come; returns what is done until the next.
    pub fn deadline(&mut self) -> Work {
        self.deadlines += 1;
        self.gap = (self.gap + DRIFT) % GAP.1;
        // Calls three times out of four: they are what the flood is for.
        match self.deadlines % 4 {
            0 => Work::Hold,
            _ => Work::Calls,
        }
    }

    /// The next deadline, in nanoseconds of the clock that shows `now`.
    pub fn next(&self, now: u64) -> u64 {
        now + GAP.0 + self.gap
    }

    /// Deadlines so far.
    pub fn deadlines(&self) -> u64 {
        self.deadlines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_about_every_half_millisecond_and_in_all_phases() {
        const TICK: u64 = 5_000_000;
        let (mut flood, mut now) = (SignalFlood::default(), 0);
        let mut phases = [false; 500];
        let mut holds = 0;
        for i in 1..=20_000 {
            holds += u64::from(flood.deadline() == Work::Hold);
            let next = flood.next(now);
            assert!((400_000..600_000).contains(&(next - now)));
            now = next;
            phases[(now % TICK / (TICK / 500)) as usize] = true;
            assert_eq!(flood.deadlines(), i);
        }
        assert_eq!(holds, 5_000);
        assert!(phases.iter().all(|&seen| seen));
    }
}
