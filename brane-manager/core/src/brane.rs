//! What the manager remembers of one instance: its brane and the brane's client.

use crate::backoff::Backoff;
use crate::hooks::Living;
use crate::manager::{Order, Pulse};
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, BraneStatus, Family, InterfaceConfig, all_families};
use brane_abi::hooks::Transition;

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Has no brane; runs, pristine, and waits to become one.
    Idle,
    /// Runs for the first time as this brane, not yet configured.
    Starting,
    /// Configured and held: everything is created, nothing passes.
    Created,
    /// Open for clients.
    Started,
    /// To be held or deleted: connections end.
    Stopping,
    /// To be deleted: those who subscribed are told.
    Destroying,
    /// Was deleted; starts pristine, for the next brane.
    Leaving,
    /// Has failed and does not run; starts again when the deadline has come.
    Failed,
    /// Runs again, not yet configured.
    Restarting,
    /// Does not take its configuration; runs, and waits for another one.
    Refused,
}

impl State {
    /// In a word, as `brane_abi::operator::Brane` has it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            State::Idle => "free",
            State::Starting => "starting",
            State::Created => "created",
            State::Started => "started",
            State::Stopping => "stopping",
            State::Destroying | State::Leaving => "deleting",
            State::Restarting => "restarting",
            State::Failed | State::Refused => "failed",
        }
    }
}

/// Where a brane is to get to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Created, and no more. What is still connected gets so many milliseconds.
    Held(u32),
    /// Started.
    Started,
    /// Deleted. What is still connected gets so many milliseconds.
    Gone(u32),
}

/// What an instance waits for before it can take its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The end of the delay before a restart.
    Delay,
    /// The control link, after a start or restart.
    Link,
    /// The answer to the `CONFIGURE` of this token; whether it said to hold.
    Configured(u32, bool),
    /// The answers of those who subscribed to this.
    Hooks(Transition),
    /// The answer to the `START` of this token.
    Start(u32),
    /// The answer to the `SHUTDOWN` of this token.
    Drained(u32),
}

/// Counts of one instance, shown by `stats`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub faults: u64,
    pub hangs: u64,
    pub heartbeats: u64,
    pub breaches: u64,
    pub reports: u64,
    pub reports_refused: u64,
    pub reports_unexpected: u64,
    pub commands_dropped: u64,
    pub client_faults: u64,
    pub client_restarts: u64,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Brane {
    /// What the brane is told; `None` where there is none.
    pub config: Option<BraneConfig>,
    pub goal: Goal,
    pub state: State,
    pub step: Option<Step>,
    /// When the step, if it has not come by then, has failed, in nanoseconds.
    pub deadline: Option<u64>,
    /// Whether the present life has come up on the control region.
    pub linked: bool,
    /// Whether `CONFIGURE` was sent in the present life: further commands make sense.
    pub told: bool,
    /// Those who subscribed heard of its creation.
    pub announced: bool,
    /// It was never created yet: if that fails, it is deleted.
    pub new: bool,
    /// The job that waits for the goal.
    pub job: Option<u32>,
    /// Sockets that the last shutdown cut off.
    pub cut: u32,
    /// Commands whose answers are awaited.
    pub orders: Vec<Order>,
    /// A fault was asked for, and has to come by then.
    pub crash_by: Option<u64>,
    /// The token of the `REPORT` that has no answer yet, and when it was sent.
    pub reporting: Option<(u32, u64)>,
    pub pulse: Pulse,
    pub started_at: Option<u64>,
    pub failed_at: Option<u64>,
    pub recovery_ns: u64,
    pub restarts: u32,
    pub last_fault: String,
    pub status: BraneStatus,
    pub status_at: Option<u64>,
    /// Unwanted reports in the present life.
    pub unwanted: u32,
    pub backoff: Backoff,
    pub counts: Counts,
    pub client: Client,
}

/// The client of an instance, or a subscriber.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub backoff: Backoff,
    pub running_since: u64,
    /// Has failed; starts again at this time.
    pub restart_at: Option<u64>,
}

impl Brane {
    /// An instance that starts; `config` of the brane that it is to be.
    pub(crate) fn new(config: Option<BraneConfig>) -> Brane {
        let held = config.as_ref().is_some_and(|c| c.held);
        Brane {
            state: if config.is_some() {
                State::Starting
            } else {
                State::Idle
            },
            goal: if held { Goal::Held(0) } else { Goal::Started },
            config,
            step: Some(Step::Link),
            deadline: None,
            linked: false,
            told: false,
            announced: false,
            new: false,
            job: None,
            cut: 0,
            orders: Vec::new(),
            crash_by: None,
            reporting: None,
            pulse: Pulse::default(),
            started_at: None,
            failed_at: None,
            recovery_ns: 0,
            restarts: 0,
            last_fault: String::new(),
            status: BraneStatus::default(),
            status_at: None,
            unwanted: 0,
            backoff: Backoff::default(),
            counts: Counts::default(),
            client: Client::default(),
        }
    }

    /// The brane's name; an instance without a configuration has none.
    pub(crate) fn name(&self) -> &str {
        self.config.as_ref().map_or("", |c| &c.name)
    }

    /// Its interfaces but for `lo0`, as they are wanted.
    pub(crate) fn interfaces(&self) -> &[InterfaceConfig] {
        self.config.as_ref().map_or(&[], |c| &c.interfaces)
    }

    /// Whether its ports are to carry frames: it is started, or will be without another step of ours.
    pub(crate) fn carries(&self) -> bool {
        match self.state {
            State::Started | State::Stopping => true,
            State::Starting | State::Restarting => matches!(self.step, Some(Step::Configured(_, false))),
            State::Created => matches!(self.step, Some(Step::Start(_))),
            _ => false,
        }
    }

    /// Returns true if the brane is on its way to a goal, so that no request may give it another one. A job that waited too
    /// long has ended, but the way goes on: a shutdown until the brane is held, a deletion until the instance is free.
    pub(crate) fn moving(&self) -> bool {
        let deleted = self.config.is_some() && matches!(self.goal, Goal::Gone(_));
        let ending = matches!(self.state, State::Stopping | State::Destroying | State::Leaving);
        self.job.is_some() || deleted || ending
    }

    /// As subscribers hear of it.
    pub(crate) fn living(&self, instance: usize) -> Option<Living> {
        let config = self.config.as_ref()?;
        let families: Vec<Family> = match &config.families {
            Some(families) => families.iter().map(|f| f.family).collect(),
            None => all_families().iter().map(|f| f.family).collect(),
        };
        Some(Living {
            instance,
            name: config.name.clone(),
            generation: self.restarts,
            families,
            started: matches!(self.state, State::Started | State::Stopping),
        })
    }
}
