//! What operators have asked for and cannot have at once: jobs under way, and the ends of those that are over.
//!
//! Operators are not trusted. Each has so many jobs ([`JOBS`]); the end of the oldest is forgotten for a new one, and where all
//! are still under way another is refused. A change locks the branes and the device that it is about, so that two operators
//! cannot work against each other halfway.

use super::orders::Outcome;
use super::requests::Begun;
use super::{Action, Cx, Manager};
use crate::brane::{Brane, State};
use crate::names::refusal;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{InterfaceConfig, command};
use brane_abi::inside;
use brane_abi::operator::{self, Answer, Free, JOBS, MAX_BATCH, Receipt, Refusal, Request};

mod ends;

/// How long a job waits for the reports of all branes, in nanoseconds.
const REPORTS_NS: u64 = 500_000_000;
/// How long a job waits for a brane to get to its goal; then it says so, and the brane goes on.
const GOAL_NS: u64 = 60_000_000_000;

/// What a job is about.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A brane gets to a goal: what to say when it is there.
    Goal(String),
    /// A brane is deleted: what was free before, what went home.
    Delete(Receipt),
    /// The new owner is to take a device before the old one loses it.
    Assign {
        device: u32,
        to: usize,
        interface: InterfaceConfig,
    },
    /// It is done; the answer waits for the brane that lost something.
    Settle(Answer),
    /// Other addresses for an interface.
    Adjust {
        brane: usize,
        interface: InterfaceConfig,
    },
    /// Another name for an interface, or for the brane.
    Rename {
        brane: usize,
        interface: Option<String>,
        to: String,
    },
    /// A question to a brane.
    Inside,
    /// The branes are asked how they are, then this is shown.
    Fresh(View),
    /// Waits for an event above this number.
    Events(u64),
    /// Requests one after the other: those to come, and what became of those before.
    Batch(VecDeque<Request>, Vec<operator::Outcome>),
}

/// What is shown after the branes have reported.
#[derive(Clone, Debug)]
pub(crate) enum View {
    List,
    Show(String),
    Stats(Option<String>),
    Audit,
}

/// A job under way.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub number: u32,
    operator: usize,
    since: u64,
    deadline: Option<u64>,
    pub work: Work,
    /// Branes and devices (vif numbers) that nobody else may change meanwhile.
    pub branes: Vec<usize>,
    vif: Option<u32>,
    /// It has failed already; said when all is cleared away.
    failure: Option<Refusal>,
    /// The batch that it is a part of.
    batch: Option<u32>,
    /// Nobody waits for its end.
    unwanted: bool,
}

/// How a job has ended. What is large is made when it is fetched, so that what operators leave lying is small: the manager's
/// heap is bounded.
#[derive(Clone, Debug)]
pub(super) enum End {
    Said(Result<Answer, Refusal>),
    /// The branes have reported since then: this can be shown.
    View(View, u64),
    /// What a brane has answered, as it came.
    Inside(Vec<u8>),
}

impl End {
    /// As a part of a batch: there only short answers are kept.
    fn part(self) -> Result<Answer, Refusal> {
        match self {
            End::Said(result) => result,
            End::Inside(text) => match inside_answer(&text)? {
                answer @ Answer::Inside(
                    inside::Answer::Echo { .. } | inside::Answer::Host(_) | inside::Answer::Refused(_),
                ) => Ok(answer),
                _ => Err(refusal("the answer is too long for a batch", "ask for it alone")),
            },
            End::View(..) => Err(refusal("a batch shows nothing", "ask for it alone")),
        }
    }
}

/// What a brane has answered, checked.
pub(super) fn inside_answer(text: &[u8]) -> Result<Answer, Refusal> {
    let answer = crate::report::inside(text).map(Answer::Inside);
    answer.map_err(|why| refusal(format!("the brane's answer is not believed: {why}"), "ask again"))
}

/// All operators' jobs.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    running: Vec<Job>,
    /// For each operator: jobs that are over, oldest first.
    over: Vec<Vec<(u32, End)>>,
    next: u32,
    /// The batch whose request is begun now.
    begins: Option<u32>,
    /// Ends of parts of batches: the batch, and what became of its part.
    parts: Vec<(u32, Result<Answer, Refusal>)>,
}

/// What a job locks.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    pub branes: Vec<usize>,
    pub vif: Option<u32>,
}

impl Desk {
    pub(crate) fn new(operators: usize) -> Desk {
        Desk {
            over: (0..operators).map(|_| Vec::new()).collect(),
            ..Desk::default()
        }
    }

    /// Begins a job; its number.
    pub(super) fn begin(
        &mut self,
        now: u64,
        operator: usize,
        work: Work,
        locks: Locks,
    ) -> Result<u32, Refusal> {
        // A part of a batch counts with its batch.
        let batch = self.begins;
        let over = self
            .over
            .get_mut(operator)
            .filter(|_| batch.is_none())
            .map_or(0, |over| {
                let running = self.running.iter();
                let running = running
                    .filter(|j| j.operator == operator && j.batch.is_none())
                    .count();
                while !over.is_empty() && over.len() + running >= JOBS {
                    let _ = over.remove(0);
                }
                over.len() + running
            });
        if over >= JOBS {
            return Err(refusal(
                format!("{JOBS} requests are under way already"),
                "wait for one of them",
            ));
        }
        self.next = self.next.wrapping_add(1);
        let deadline = match work {
            Work::Fresh(_) => Some(now + REPORTS_NS),
            Work::Goal(_) | Work::Delete(_) => Some(now + GOAL_NS),
            _ => None,
        };
        self.running.push(Job {
            number: self.next,
            operator,
            since: now,
            deadline,
            work,
            branes: locks.branes,
            vif: locks.vif,
            failure: None,
            batch,
            unwanted: false,
        });
        Ok(self.next)
    }

    fn find(&mut self, job: u32) -> Option<&mut Job> {
        self.running.iter_mut().find(|j| j.number == job)
    }

    fn take(&mut self, job: u32) -> Option<Job> {
        let at = self.running.iter().position(|j| j.number == job)?;
        Some(self.running.swap_remove(at))
    }

    fn finish(&mut self, job: Job, end: End, actions: &mut Vec<Action>) {
        let end = job.failure.map_or(end, |why| End::Said(Err(why)));
        if let Some(batch) = job.batch {
            self.parts.push((batch, end.part()));
        } else if let Some(over) = self.over.get_mut(job.operator).filter(|_| !job.unwanted) {
            over.push((job.number, end));
            actions.push(Action::Notify(job.operator));
        }
    }

    /// The end of an operator's job; `None` while it is under way. It is forgotten with this.
    pub(super) fn poll(&mut self, operator: usize, job: u32) -> Option<End> {
        if self
            .running
            .iter()
            .any(|j| j.number == job && j.operator == operator)
        {
            return None;
        }
        let unknown = || {
            let what = format!("there is no job {job}");
            End::Said(Err(refusal(
                what,
                "its answer was fetched already, or is too old; ask again",
            )))
        };
        let Some(over) = self.over.get_mut(operator) else {
            return Some(unknown());
        };
        match over.iter().position(|(number, _)| *number == job) {
            Some(at) => Some(over.remove(at).1),
            None => Some(unknown()),
        }
    }

    /// Nobody waits for an operator's job any more: a question is given up, a batch begins nothing more, a change goes on.
    pub(super) fn cancel(&mut self, operator: usize, job: u32) {
        if let Some(over) = self.over.get_mut(operator) {
            over.retain(|(number, _)| *number != job);
        }
        let own = |j: &Job| j.number == job && j.operator == operator && j.batch.is_none();
        let Some(at) = self.running.iter().position(own) else {
            return;
        };
        match &mut self.running[at].work {
            Work::Events(_) | Work::Fresh(_) | Work::Inside => {
                self.running.swap_remove(at);
                return;
            }
            Work::Batch(left, _) => left.clear(),
            _ => {}
        }
        self.running[at].unwanted = true;
    }

    /// The operator has failed: its next life knows of no job of the last one.
    pub(super) fn leave(&mut self, operator: usize) {
        let own = self.running.iter().filter(|j| j.operator == operator);
        let numbers: Vec<u32> = own.map(|j| j.number).collect();
        numbers.into_iter().for_each(|job| self.cancel(operator, job));
        if let Some(over) = self.over.get_mut(operator) {
            over.clear();
        }
    }

    /// The job will end in this failure.
    pub(super) fn fails(&mut self, job: u32, why: &str) {
        if let Some(job) = self.find(job) {
            job.failure = Some(refusal(
                format!("the brane could not be created: {why}"),
                "nothing of it is left",
            ));
        }
    }

    /// Forgets a job that did not begin.
    pub(super) fn abandon(&mut self, job: u32) {
        self.running.retain(|j| j.number != job);
    }

    pub(super) fn set_work(&mut self, job: u32, work: Work) {
        if let Some(job) = self.find(job) {
            job.work = work;
        }
    }

    pub(super) fn locked(&self, brane: usize) -> bool {
        self.running.iter().any(|j| j.branes.contains(&brane))
    }

    pub(super) fn vif_locked(&self, vif: u32) -> bool {
        self.running.iter().any(|j| j.vif == Some(vif))
    }

    /// Returns true if a brane gets this name when its job ends.
    pub(super) fn renames_to(&self, name: &str) -> bool {
        let gives = |job: &Job| matches!(&job.work, Work::Rename { interface: None, to, .. } if to == name);
        self.running.iter().any(gives)
    }

    /// The jobs under way, for the rules of the tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn under_way(&self) -> &[Job] {
        &self.running
    }

    /// How many jobs of an operator are under way or kept until they are fetched.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn kept(&self, operator: usize) -> usize {
        let own = |j: &&Job| j.operator == operator && j.batch.is_none();
        self.running.iter().filter(own).count() + self.over[operator].len()
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.running.iter().filter_map(|j| j.deadline).min()
    }

    /// Whether an operator has asked for the next event.
    fn followers(&self) -> Vec<(u32, u64)> {
        let all = self.running.iter();
        all.filter_map(|j| match j.work {
            Work::Events(after) => Some((j.number, after)),
            _ => None,
        })
        .collect()
    }

    /// Jobs that wait for reports: number, since when, whether their time is over.
    fn waiting(&self, now: u64) -> Vec<(u32, u64, bool)> {
        let all = self.running.iter().filter(|j| matches!(j.work, Work::Fresh(_)));
        all.map(|j| (j.number, j.since, j.deadline.is_some_and(|at| at <= now)))
            .collect()
    }
}
