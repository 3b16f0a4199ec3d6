//! The steps of the checker and the expected results: each raised interrupt arrives, no other arrives, and a
//! stopped thread does not run.
//!
//! Independent of devices and capabilities. The devices are trusted. Under test are the kernel, and the work of
//! the image builder and the root task on the description.

use core::fmt;

/// Number of steps for which the subject runs, and then for which it is stopped.
pub const PHASE: u64 = 8;

/// The failure that the checker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interrupt of this source was raised and did not arrive.
    Missing(usize),
    /// The interrupt of this source arrived and had not been raised.
    Unexpected(usize),
    /// The subject was notified and did not run.
    Stands,
    /// The subject ran while it was stopped.
    Moves,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Missing(source) => write!(f, "interrupt {source} was raised and did not come"),
            Failure::Unexpected(source) => write!(f, "interrupt {source} came without being raised"),
            Failure::Stands => f.write_str("the subject does not run"),
            Failure::Moves => f.write_str("the subject runs although it is stopped"),
        }
    }
}

/// Change of the subject's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// No change.
    Keep,
    /// The subject is stopped.
    Stop,
    /// The subject is resumed.
    Resume,
}

/// Actions of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Source whose interrupt is raised.
    pub raise: usize,
    /// Change of the subject's state.
    pub subject: Subject,
}

/// State of the check.
#[derive(Clone, Copy, Debug)]
pub struct IrqChecker {
    sources: usize,
    steps: u64,
    awaited: Option<usize>,
    stopped: bool,
    /// Count of the subject when it was last stopped or resumed.
    count: u64,
}

impl IrqChecker {
    /// Creates a check with this number of interrupt sources (above 0), and the subject's present count. The
    /// subject runs.
    pub fn new(sources: usize, count: u64) -> IrqChecker {
        IrqChecker {
            sources,
            steps: 0,
            awaited: None,
            stopped: false,
            count,
        }
    }

    /// Checks an interrupt that has arrived.
    pub fn came(&mut self, source: usize) -> Result<(), Failure> {
        match self.awaited.take() {
            Some(awaited) if awaited == source => Ok(()),
            _ => Err(Failure::Unexpected(source)),
        }
    }

    /// Returns the next step. Enough time must have passed since the last one for all its effects. The subject
    /// is notified once in each step, and `count` is its number of seen notifications.
    pub fn step(&mut self, count: u64) -> Result<Step, Failure> {
        if let Some(source) = self.awaited {
            return Err(Failure::Missing(source));
        }
        if self.stopped && count != self.count {
            return Err(Failure::Moves);
        }
        let raise = (self.steps % self.sources as u64) as usize;
        self.awaited = Some(raise);
        self.steps += 1;
        let subject = if !self.steps.is_multiple_of(PHASE) {
            Subject::Keep
        } else if self.stopped {
            Subject::Resume
        } else if count == self.count {
            return Err(Failure::Stands);
        } else {
            Subject::Stop
        };
        if subject != Subject::Keep {
            self.stopped = subject == Subject::Stop;
            self.count = count;
        }
        Ok(Step { raise, subject })
    }

    /// Returns how often each source has interrupted, if the number is the same for all sources at this moment.
    pub fn sweeps(&self) -> Option<u64> {
        let sources = self.sources as u64;
        (self.awaited.is_none() && self.steps.is_multiple_of(sources)).then_some(self.steps / sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: usize = 5;

    /// Runs steps without a failure, with a subject that counts unless it is stopped. Returns the final state.
    fn sound(steps: u64) -> (IrqChecker, u64, bool) {
        let (mut checker, mut count, mut runs) = (IrqChecker::new(SOURCES, 0), 0, true);
        let mut sweeps = 0;
        for _ in 0..steps {
            let step = checker.step(count).unwrap();
            assert_eq!(checker.sweeps(), None);
            checker.came(step.raise).unwrap();
            sweeps = checker.sweeps().unwrap_or(sweeps);
            match step.subject {
                Subject::Keep => {}
                Subject::Stop => runs = false,
                Subject::Resume => runs = true,
            }
            count += u64::from(runs);
        }
        assert_eq!(sweeps, steps / SOURCES as u64);
        (checker, count, runs)
    }

    #[test]
    fn every_source_interrupts_and_the_subject_runs_half_of_the_time() {
        let (_, count, _) = sound(160 * PHASE);
        assert!((79 * PHASE..=81 * PHASE).contains(&count), "{count}");
    }

    #[test]
    fn interrupts_that_are_lost_or_wrong_are_seen() {
        let (mut checker, count, _) = sound(3);
        let step = checker.step(count).unwrap();
        assert_eq!(checker.step(count), Err(Failure::Missing(step.raise)));
        assert_eq!(
            checker.came(step.raise + 1),
            Err(Failure::Unexpected(step.raise + 1))
        );
        let (mut checker, _, _) = sound(3);
        assert_eq!(checker.came(0), Err(Failure::Unexpected(0)));
    }

    #[test]
    fn a_subject_that_runs_or_stands_at_the_wrong_time_is_seen() {
        let (mut checker, count, runs) = sound(PHASE);
        assert!(!runs);
        assert_eq!(checker.step(count + 1), Err(Failure::Moves));
        let (mut checker, _, _) = sound(PHASE - 1);
        assert_eq!(checker.step(0), Err(Failure::Stands));
    }
}
