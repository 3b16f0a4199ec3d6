//! What the checker does at each step, and what it must find: interrupts that come when they were raised and at no other
//! time, and a thread that stands while it is stopped.
//!
//! Knows nothing of devices and capabilities. The devices are trusted; what is examined is the kernel, and what the image
//! builder and the root task made of the description.

use core::fmt;

/// Steps for which the subject runs, and for which it is stopped, in turn.
pub const PHASE: u64 = 8;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interrupt of this source was raised and did not come.
    Missing(usize),
    /// The interrupt of this source came and had not been raised.
    Unexpected(usize),
    /// The subject was notified and did nothing.
    Stands,
    /// The subject did something while it was stopped.
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

/// What happens to the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Nothing.
    Keep,
    /// It is stopped.
    Stop,
    /// It goes on.
    Resume,
}

/// What is done in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The source whose interrupt is raised.
    pub raise: usize,
    /// What happens to the subject.
    pub subject: Subject,
}

/// Where the examination is.
#[derive(Clone, Copy, Debug)]
pub struct IrqChecker {
    sources: usize,
    steps: u64,
    awaited: Option<usize>,
    stopped: bool,
    /// The subject's count when it was last stopped or resumed.
    count: u64,
}

impl IrqChecker {
    /// An examination with so many sources of interrupts (above 0), and the subject's count now. The subject runs.
    pub fn new(sources: usize, count: u64) -> IrqChecker {
        IrqChecker {
            sources,
            steps: 0,
            awaited: None,
            stopped: false,
            count,
        }
    }

    /// An interrupt has come.
    pub fn came(&mut self, source: usize) -> Result<(), Failure> {
        match self.awaited.take() {
            Some(awaited) if awaited == source => Ok(()),
            _ => Err(Failure::Unexpected(source)),
        }
    }

    /// The next step, long enough after the one before for everything to have happened. The subject is notified once in
    /// each; `count` is how often it saw that.
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

    /// How often each source has interrupted, if all of them have as often at this moment.
    pub fn sweeps(&self) -> Option<u64> {
        let sources = self.sources as u64;
        (self.awaited.is_none() && self.steps.is_multiple_of(sources)).then_some(self.steps / sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: usize = 5;

    /// Steps in which all is well, with a subject that counts unless it is stopped; returns where that ends.
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
