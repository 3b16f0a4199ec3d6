//! The states of an instance: its lifecycle state, its desired state, and the event that it waits for.

use brane_abi::subscription::Transition;

/// State of an instance and of the brane in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifecycleState {
    /// The instance has no brane. It runs with cleared memory.
    Idle,
    /// The brane's first incarnation runs and is not configured yet.
    Starting,
    /// The brane is configured and stopped: its protocols exist, but no frame passes.
    Created,
    /// The brane serves clients.
    Started,
    /// The brane must be stopped or deleted: its connections end.
    Stopping,
    /// The brane must be deleted: subscribers are notified.
    Destroying,
    /// The brane is deleted: the instance clears its memory for the next one.
    Recycling,
    /// The brane has failed and does not run. It restarts at the deadline.
    Failed,
    /// A later incarnation runs and is not configured yet.
    Restarting,
    /// The brane runs and has refused its configuration.
    Refused,
}

impl LifecycleState {
    /// Returns the state as a word of `brane_abi::operator::Brane::state`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            LifecycleState::Idle => "free",
            LifecycleState::Starting => "starting",
            LifecycleState::Created => "created",
            LifecycleState::Started => "started",
            LifecycleState::Stopping => "stopping",
            LifecycleState::Destroying | LifecycleState::Recycling => "deleting",
            LifecycleState::Restarting => "restarting",
            LifecycleState::Failed | LifecycleState::Refused => "failed",
        }
    }
}

/// State that the operators want a brane to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DesiredState {
    /// Created and not started. Open connections have this many milliseconds to end.
    Stopped(u32),
    /// Started.
    Running,
    /// Deleted. Open connections have this many milliseconds to end.
    Absent(u32),
}

/// Event that an instance waits for before its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaiting {
    /// The end of the delay before a restart.
    Delay,
    /// The control link, after a start or restart.
    Link,
    /// The answer to the `CONFIGURE` with this token. The flag is true if the brane must not start yet.
    Configured(u32, bool),
    /// The acknowledgements of the subscribers to this transition.
    Subscribers(Transition),
    /// The answer to the `START` with this token.
    Started(u32),
    /// The answer to the `SHUTDOWN` with this token.
    Drained(u32),
}

/// Counters of one instance, as `stats` shows them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub faults: u64,
    pub hangs: u64,
    pub heartbeats: u64,
    pub violations: u64,
    pub reports: u64,
    pub reports_refused: u64,
    pub reports_unexpected: u64,
    pub commands_dropped: u64,
    pub client_faults: u64,
    pub client_restarts: u64,
}
