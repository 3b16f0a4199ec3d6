//! Owns the jobs: requests of operators that take time, their locks, and their results until these are fetched.
//!
//! Operators are not trusted. Each has at most [`JOBS`] jobs. A new job displaces the oldest result of its operator. If
//! all jobs are still running, another one is refused. A job locks branes, a device and a name, so that two operators
//! cannot change one object at once.
//!
//! The table depends on no operation: `O` is the operation that a job resumes, `R` is a job's result.

use crate::ids::{BraneId, DeviceId, JobId, OperatorId};
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::JOBS;

/// Branes, devices and names that no other job may change while a job runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    pub branes: Vec<BraneId>,
    pub device: Option<DeviceId>,
    /// The name that a brane gets at the end of the job.
    pub brane_name: Option<String>,
    /// The name that a device gets at the end of the job.
    pub device_name: Option<String>,
}

/// Effect of an operator's cancellation on a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCancel {
    /// The job is dropped.
    Drop,
    /// The job continues and its result is dropped.
    Continue,
}

/// Parameters of a new job.
#[derive(Debug)]
pub(crate) struct Opening<O> {
    pub operation: O,
    pub locks: Locks,
    /// Time by which the job must be resumed, in nanoseconds.
    pub deadline: Option<u64>,
    pub on_cancel: OnCancel,
}

/// A running job.
#[derive(Debug)]
pub(crate) struct Job<O, R> {
    pub id: JobId,
    pub operator: OperatorId,
    /// Start of the job, in nanoseconds.
    pub since: u64,
    pub deadline: Option<u64>,
    pub operation: O,
    pub locks: Locks,
    on_cancel: OnCancel,
    /// The result, if it is known already. The job then ends when everything is undone.
    pub failure: Option<R>,
    /// The batch that the job belongs to.
    batch: Option<JobId>,
    /// True if the operator has cancelled the job.
    pub cancelled: bool,
}

impl<O, R> Job<O, R> {
    /// Replaces the operation that the job resumes, and returns the old one.
    pub(crate) fn replace<P>(self, operation: P) -> (O, Job<P, R>) {
        let job = Job {
            id: self.id,
            operator: self.operator,
            since: self.since,
            deadline: self.deadline,
            operation,
            locks: self.locks,
            on_cancel: self.on_cancel,
            failure: self.failure,
            batch: self.batch,
            cancelled: self.cancelled,
        };
        (self.operation, job)
    }
}

/// Destination of a job's result.
pub(crate) enum Finished {
    /// The operator can fetch it.
    Kept(OperatorId),
    /// The batch fetches it by [`JobTable::take_parts`].
    Part,
    /// The operator has cancelled the job, so its result is dropped.
    Dropped,
}

/// State of a job for the operator.
pub(crate) enum Poll<R> {
    Running,
    Ended(R),
    Unknown,
}

/// Error: no other job of this operator can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// All operators' jobs.
#[derive(Debug)]
pub(crate) struct JobTable<O, R> {
    running: Vec<Job<O, R>>,
    /// For each operator: results of its jobs, oldest first.
    results: Vec<Vec<(JobId, R)>>,
    last: u32,
    /// The batch whose request begins now.
    batch: Option<JobId>,
    /// Results of parts of batches, with their batches.
    parts: Vec<(JobId, R)>,
}

impl<O, R> JobTable<O, R> {
    pub(crate) fn new(operators: usize) -> JobTable<O, R> {
        JobTable {
            running: Vec::new(),
            results: (0..operators).map(|_| Vec::new()).collect(),
            last: 0,
            batch: None,
            parts: Vec::new(),
        }
    }

    /// Begins a job. A part of a batch counts with its batch.
    pub(crate) fn open(
        &mut self,
        now: u64,
        operator: OperatorId,
        opening: Opening<O>,
    ) -> Result<JobId, TooMany> {
        let own = |j: &&Job<O, R>| j.operator == operator && j.batch.is_none();
        let running = self.running.iter().filter(own).count();
        if self.batch.is_none()
            && let Some(results) = self.results.get_mut(operator.index())
        {
            let excess = (results.len() + running + 1).saturating_sub(JOBS);
            results.drain(..excess.min(results.len()));
            if results.len() + running >= JOBS {
                return Err(TooMany);
            }
        }
        self.last = self.last.wrapping_add(1);
        let id = JobId::new(self.last);
        self.running.push(Job {
            id,
            operator,
            since: now,
            deadline: opening.deadline,
            operation: opening.operation,
            locks: opening.locks,
            on_cancel: opening.on_cancel,
            failure: None,
            batch: self.batch,
            cancelled: false,
        });
        Ok(id)
    }

    /// Makes the jobs that begin from now on parts of this batch.
    pub(crate) fn set_batch(&mut self, batch: Option<JobId>) {
        self.batch = batch;
    }

    /// Returns the running jobs.
    pub(crate) fn running(&self) -> &[Job<O, R>] {
        &self.running
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job<O, R>> {
        self.running.iter_mut().find(|j| j.id == id)
    }

    /// Takes a job out of the table to resume it. The caller must then call [`Self::put_back`] or [`Self::finish`].
    pub(crate) fn take(&mut self, id: JobId) -> Option<Job<O, R>> {
        let at = self.running.iter().position(|j| j.id == id)?;
        Some(self.running.swap_remove(at))
    }

    pub(crate) fn put_back(&mut self, job: Job<O, R>) {
        self.running.push(job);
    }

    /// Ends a job that was taken.
    pub(crate) fn finish(&mut self, job: Job<(), R>, result: R) -> Finished {
        let result = job.failure.unwrap_or(result);
        if let Some(batch) = job.batch {
            self.parts.push((batch, result));
            return Finished::Part;
        }
        match self.results.get_mut(job.operator.index()) {
            Some(results) if !job.cancelled => {
                results.push((job.id, result));
                Finished::Kept(job.operator)
            }
            _ => Finished::Dropped,
        }
    }

    /// Removes a job that did not begin.
    pub(crate) fn abandon(&mut self, id: JobId) {
        self.running.retain(|j| j.id != id);
    }

    /// Returns and removes the result of an operator's job.
    pub(crate) fn poll(&mut self, operator: OperatorId, id: JobId) -> Poll<R> {
        if self.running.iter().any(|j| j.id == id && j.operator == operator) {
            return Poll::Running;
        }
        let Some(results) = self.results.get_mut(operator.index()) else {
            return Poll::Unknown;
        };
        match results.iter().position(|(number, _)| *number == id) {
            Some(at) => Poll::Ended(results.remove(at).1),
            None => Poll::Unknown,
        }
    }

    /// Cancels an operator's job.
    pub(crate) fn cancel(&mut self, operator: OperatorId, id: JobId) {
        if let Some(results) = self.results.get_mut(operator.index()) {
            results.retain(|(number, _)| *number != id);
        }
        let own = |j: &Job<O, R>| j.id == id && j.operator == operator && j.batch.is_none();
        let Some(at) = self.running.iter().position(own) else {
            return;
        };
        match self.running[at].on_cancel {
            OnCancel::Drop => drop(self.running.swap_remove(at)),
            OnCancel::Continue => self.running[at].cancelled = true,
        }
    }

    /// Cancels all jobs of an operator that has failed, because its next incarnation does not know them.
    pub(crate) fn cancel_all(&mut self, operator: OperatorId) {
        let own = self.running.iter().filter(|j| j.operator == operator);
        let ids: Vec<JobId> = own.map(|j| j.id).collect();
        ids.into_iter().for_each(|id| self.cancel(operator, id));
        if let Some(results) = self.results.get_mut(operator.index()) {
            results.clear();
        }
    }

    /// Sets the result of a running job that ends later.
    pub(crate) fn fail(&mut self, id: JobId, failure: R) {
        if let Some(job) = self.get_mut(id) {
            job.failure = Some(failure);
        }
    }

    pub(crate) fn locks_brane(&self, brane: BraneId) -> bool {
        self.running.iter().any(|j| j.locks.branes.contains(&brane))
    }

    pub(crate) fn locks_device(&self, device: DeviceId) -> bool {
        self.running.iter().any(|j| j.locks.device == Some(device))
    }

    /// Returns true if a brane gets this name when a job ends.
    pub(crate) fn locks_brane_name(&self, name: &str) -> bool {
        self.running
            .iter()
            .any(|j| j.locks.brane_name.as_deref() == Some(name))
    }

    /// Returns true if a device gets this name when a job ends.
    pub(crate) fn locks_device_name(&self, name: &str) -> bool {
        self.running
            .iter()
            .any(|j| j.locks.device_name.as_deref() == Some(name))
    }

    /// Returns the time of the jobs' next deadline.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.running.iter().filter_map(|j| j.deadline).min()
    }

    /// Takes the results of parts of batches, each with its batch.
    pub(crate) fn take_parts(&mut self) -> Vec<(JobId, R)> {
        core::mem::take(&mut self.parts)
    }

    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns the number of an operator's jobs that run or have a stored result.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn kept(&self, operator: OperatorId) -> usize {
        let own = |j: &&Job<O, R>| j.operator == operator && j.batch.is_none();
        self.running.iter().filter(own).count() + self.results[operator.index()].len()
    }
}
