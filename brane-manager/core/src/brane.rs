//! What the manager remembers of one instance: its brane and the brane's client.

use crate::backoff::Backoff;
use crate::manager::Pulse;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, BraneStatus};

/// Where a brane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Runs for the first time, not yet configured.
    Starting,
    /// Configured, open for clients.
    Started,
    /// Has failed and does not run; starts again when the deadline has come.
    Failed,
    /// Runs again, not yet configured.
    Restarting,
    /// Does not take its configuration; runs, and waits for a restart that nobody asks for.
    Refused,
}

impl State {
    /// In a word, as `brane_abi::console::Brane` has it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Started => "started",
            State::Restarting => "restarting",
            State::Failed | State::Refused => "failed",
        }
    }
}

/// What is awaited until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Await {
    /// The end of the delay before a restart.
    Restart,
    /// The control link, after a start or restart.
    Link,
    /// The answer to `CONFIGURE`.
    Configured,
    /// The fault that `CRASH` asks for.
    Crash,
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
    /// What it is told; `None` for an instance that the boot configuration does not use.
    pub config: Option<BraneConfig>,
    /// Its vifs' numbers at the driver, one for each interface.
    pub vifs: Vec<u32>,
    pub state: State,
    /// Whether the present life of the brane has come up on the control region.
    pub linked: bool,
    /// The token of the `CONFIGURE` that has no answer yet.
    pub configuring: Option<u32>,
    /// The token of the `REPORT` that has no answer yet, and when it was sent.
    pub reporting: Option<(u32, u64)>,
    pub pulse: Pulse,
    pub deadline: Option<(u64, Await)>,
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

/// The client of an instance.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub backoff: Backoff,
    pub running_since: u64,
    /// Has failed; starts again at this time.
    pub restart_at: Option<u64>,
}

impl Brane {
    pub(crate) fn new(config: Option<BraneConfig>, vifs: Vec<u32>) -> Brane {
        Brane {
            config,
            vifs,
            state: State::Starting,
            linked: false,
            configuring: None,
            reporting: None,
            pulse: Pulse::default(),
            deadline: None,
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
}
