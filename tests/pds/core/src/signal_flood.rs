//! A flood of timer interrupts on a kernel that is busy with system calls: the next deadline, and the work
//! until then.
//!
//! Independent of the timer: time is an argument.

/// Nanoseconds between two deadlines: the minimum, and the maximum addition to it.
pub const GAP: (u64, u64) = (400_000, 200_000);

/// Growth of the gap from deadline to deadline. A prime number, so that the deadlines pass over every phase of
/// the kernel's own tick. Both interrupts should then coincide at times.
const DRIFT: u64 = 1_709;

/// Work until the next deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Protected calls, one after the other. The interrupt mostly finds the processor in the kernel.
    Calls,
    /// No work, with known values in all floating-point registers. The interrupt pre-empts the thread.
    Hold,
}

/// State of the flood.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalFlood {
    deadlines: u64,
    gap: u64,
}

impl SignalFlood {
    /// Counts a deadline that has passed. Returns the work until the next one.
    pub fn deadline(&mut self) -> Work {
        self.deadlines += 1;
        self.gap = (self.gap + DRIFT) % GAP.1;
        // Calls three times out of four, because they are the purpose of the flood.
        match self.deadlines % 4 {
            0 => Work::Hold,
            _ => Work::Calls,
        }
    }

    /// Returns the next deadline, in nanoseconds of the clock that shows `now`.
    pub fn next(&self, now: u64) -> u64 {
        now + GAP.0 + self.gap
    }

    /// Returns the number of deadlines so far.
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
