//! Owns the instances: each is a protection domain for a brane, with the domain of the brane's client.
//!
//! Branes and clients are not trusted. An instance changes only by [`Instances::step`], a function of the instance, the
//! time and an input, which returns effects. It makes no calls, and depends on no operation, device table or
//! subscriber.
//!
//! | module | owns |
//! | --- | --- |
//! | [`state`] | the states |
//! | [`lifecycle`] | the steps to the desired state: create, start, shut down, delete |
//! | [`commands`] | commands with pending answers |
//! | [`faults`] | reports of branes, failures and restarts |
//! | [`hooks`] | the external hooks that the brane has, and its reports of them |
//! | [`heartbeat`] | detection of branes that hang |

use crate::backoff::{Backoff, RestartTimer};
use crate::ids::{BraneId, JobId};
use crate::shell::{Action, Child};
use crate::snapshot::BraneSnapshot;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, BraneStatus, FamilyConfig, InterfaceConfig, all_families};
use brane_abi::filter::Rule;
use brane_abi::hook::HookConfig;
use brane_abi::subscription::Transition;

mod commands;
mod faults;
pub(crate) mod heartbeat;
pub(crate) mod hooks;
mod lifecycle;
mod state;

pub(crate) use commands::{Command, CommandResult, PendingCommand};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use lifecycle::LINK_TIMEOUT_NS;
pub(crate) use state::{Awaiting, Counters, DesiredState, LifecycleState};
#[cfg(test)]
pub(crate) use {
    faults::{CRASH_TIMEOUT_NS, MAX_VIOLATIONS},
    lifecycle::CONFIGURE_TIMEOUT_NS,
};

/// Input to an instance.
pub(crate) enum Input<'a> {
    /// The brane's incarnation is up on the control region.
    LinkUp,
    /// The brane has sent a report.
    Report {
        kind: u32,
        token: u32,
        payload: &'a [u8],
    },
    /// The brane violated a rule of the control region.
    Violation(&'a str),
    /// A command with this token did not fit into the brane's ring.
    Dropped(u32),
    /// The brane has faulted.
    Fault(&'a str),
    /// The brane's client has faulted.
    ClientFault(&'a str),
    /// A deadline may have passed.
    Tick,
    /// Another owner's state has changed, so the instance may have a next step.
    Advance(&'a dyn Audience),
    /// A heartbeat period has passed. The flag is true if the brane is suspended now.
    Heartbeat(bool),
    /// The brane is suspended.
    Suspended,
    /// An operator wants a fresh status.
    RequestStatus,
    /// An operator makes the brane fault or hang.
    Provoke(Provocation),
    /// An operator sets the desired state. The job waits for it.
    Desire(DesiredState, JobId),
    /// An operator has changed the configuration.
    Reconfigured,
}

/// Faults that an operator can provoke.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Provocation {
    Crash,
    Hang,
}

/// A request of an instance to the rest of the manager, caused by a step.
#[derive(Debug)]
pub(crate) enum Effect {
    /// An action for the shell.
    Act(Action),
    /// An event for operators who follow the events.
    Event {
        what: &'static str,
        brane: String,
        detail: String,
    },
    /// Bind the devices of the instance, so that frames pass.
    Bind,
    /// Unbind the devices of the instance, so that no frame passes.
    Unbind,
    /// Notify the subscribers.
    Notify(BraneSnapshot, Transition),
    /// The command of this job has ended, with or without the brane's answer.
    CommandResult(JobId, CommandResult),
    /// The brane has reached the desired state. The number counts the aborted connections.
    GoalReached(JobId, u32),
    /// The brane refuses its configuration, so it cannot start.
    NotStarted(JobId, String),
    /// The brane failed before it was created, so it is deleted.
    NotCreated(JobId, String),
    /// The brane is deleted and its devices must be released. The number counts the aborted connections.
    Deleted(Option<JobId>, u32),
    /// The instance of a deleted brane is free again.
    Recycled(JobId),
}

/// The lifecycle's view of the subscribers.
pub(crate) trait Audience {
    /// Returns true if a transition of the instance waits for an acknowledgement.
    fn is_awaited(&self, id: BraneId) -> bool;
    /// Returns true if a subscriber would be notified of this transition.
    fn wants(&self, brane: &BraneSnapshot, transition: Transition) -> bool;
    /// Returns the external hooks of the brane with this name.
    fn hooks(&self, brane: &str) -> Vec<HookConfig>;
}

/// Effects of one step, in the order in which they take place.
#[derive(Debug, Default)]
struct Effects(Vec<Effect>);

impl Effects {
    fn act(&mut self, action: Action) {
        self.0.push(Effect::Act(action));
    }

    fn log(&mut self, text: String) {
        self.act(Action::Log(text));
    }

    fn event(&mut self, what: &'static str, brane: &str, detail: String) {
        self.0.push(Effect::Event {
            what,
            brane: brane.into(),
            detail,
        });
    }
}

/// Times of a brane's start and restart, in nanoseconds since the boot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartTimes {
    /// Last start without a shutdown after it.
    pub started: Option<u64>,
    /// Last restart since that start.
    pub restarted: Option<u64>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    id: BraneId,
    /// The brane's number among all branes since the manager's start. 0 if the instance has no brane.
    pub identity: u64,
    /// Configuration of the brane. `None` if the instance has no brane.
    pub config: Option<BraneConfig>,
    pub desired: DesiredState,
    pub state: LifecycleState,
    pub awaiting: Option<Awaiting>,
    /// Time by which the awaited event must come, in nanoseconds.
    pub deadline: Option<u64>,
    /// True if the present incarnation is up on the control region.
    pub linked: bool,
    /// True if `CONFIGURE` was sent in the present incarnation, so changes must be sent as commands.
    pub configured: bool,
    /// True if subscribers were notified of the brane's creation.
    pub announced: bool,
    /// True if the brane has not been created yet. If the creation fails, the brane is deleted.
    pub new: bool,
    /// The job that waits for the desired state.
    pub job: Option<JobId>,
    /// Number of connections that the last shutdown aborted.
    pub aborted: u32,
    pub commands: Vec<PendingCommand>,
    /// Time by which a fault that an operator provoked must come, in nanoseconds.
    pub crash_deadline: Option<u64>,
    /// Token of the `REPORT` without an answer, and the time at which it was sent.
    pub reporting: Option<(u32, u64)>,
    pub heartbeat: Heartbeat,
    /// Number of changes of its hooks that the present incarnation has reported.
    pub hook_reports: u32,
    pub started_at: Option<u64>,
    /// Times for `uptime`.
    pub times: StartTimes,
    pub failed_at: Option<u64>,
    pub recovery_ns: u64,
    pub restarts: u32,
    pub last_fault: String,
    pub status: BraneStatus,
    pub status_at: Option<u64>,
    /// Unexpected or refused reports of the present incarnation.
    pub violations: u32,
    pub backoff: Backoff,
    pub counters: Counters,
    pub client: RestartTimer,
    /// Token of the last command.
    token: u32,
}

impl Instance {
    /// Creates an instance whose domain starts now. Without a configuration it has no brane.
    fn new(id: BraneId, config: Option<BraneConfig>) -> Instance {
        let held = config.as_ref().is_some_and(|c| c.held);
        Instance {
            id,
            state: if config.is_some() {
                LifecycleState::Starting
            } else {
                LifecycleState::Idle
            },
            desired: if held {
                DesiredState::Stopped(0)
            } else {
                DesiredState::Running
            },
            identity: 0,
            config,
            awaiting: Some(Awaiting::Link),
            deadline: None,
            linked: false,
            configured: false,
            announced: false,
            new: false,
            job: None,
            aborted: 0,
            commands: Vec::new(),
            crash_deadline: None,
            reporting: None,
            heartbeat: Heartbeat::default(),
            hook_reports: 0,
            started_at: None,
            times: StartTimes::default(),
            failed_at: None,
            recovery_ns: 0,
            restarts: 0,
            last_fault: String::new(),
            status: BraneStatus::default(),
            status_at: None,
            violations: 0,
            backoff: Backoff::default(),
            counters: Counters::default(),
            client: RestartTimer::default(),
            token: 0,
        }
    }

    pub(crate) fn id(&self) -> BraneId {
        self.id
    }

    /// Returns the brane's name. It is empty if the instance has no brane.
    pub(crate) fn name(&self) -> &str {
        self.config.as_ref().map_or("", |c| &c.name)
    }

    /// Returns the brane's name in quotes, or the instance's number if it has no brane.
    pub(crate) fn label(&self) -> String {
        match self.name() {
            "" => format!("instance {} (not configured)", self.id.index()),
            name => format!("brane `{name}`"),
        }
    }

    /// Returns the configured interfaces without `lo0`.
    pub(crate) fn interfaces(&self) -> &[InterfaceConfig] {
        self.config.as_ref().map_or(&[], |c| &c.interfaces)
    }

    /// Returns the interface over this device.
    pub(crate) fn interface_of(&self, device: &str) -> Option<&InterfaceConfig> {
        self.interfaces().iter().find(|i| i.device == device)
    }

    /// Returns true if frames pass: the brane is started, or its start was commanded.
    pub(crate) fn passes_frames(&self) -> bool {
        match self.state {
            LifecycleState::Started | LifecycleState::Stopping => true,
            LifecycleState::Starting | LifecycleState::Restarting => {
                matches!(self.awaiting, Some(Awaiting::Configured(_, false)))
            }
            LifecycleState::Created => matches!(self.awaiting, Some(Awaiting::Started(_))),
            _ => false,
        }
    }

    /// Returns true if the brane is changing to the desired state; no request may then change that state. The change
    /// continues after the job has timed out: a shutdown until the brane is stopped, a deletion until the instance is
    /// free.
    pub(crate) fn is_changing(&self) -> bool {
        let deleted = self.config.is_some() && matches!(self.desired, DesiredState::Absent(_));
        let ending = matches!(
            self.state,
            LifecycleState::Stopping | LifecycleState::Destroying | LifecycleState::Recycling
        );
        self.job.is_some() || deleted || ending
    }

    /// Returns true if the brane's domain was started and has neither faulted nor been stopped since.
    pub(crate) fn runs(&self) -> bool {
        self.state != LifecycleState::Failed && self.awaiting != Some(Awaiting::Delay)
    }

    /// Returns true if the client's domain was started and has neither faulted nor been stopped since.
    pub(crate) fn client_runs(&self) -> bool {
        self.state != LifecycleState::Recycling && self.client.restart_at.is_none()
    }

    /// Returns false if the brane is started but has not reported since this time.
    pub(crate) fn has_reported(&self, since: u64) -> bool {
        self.state != LifecycleState::Started || self.status_at.is_some_and(|at| at >= since)
    }

    /// Returns the subscribers' view of the brane, or `None` if the instance has no brane.
    pub(crate) fn snapshot(&self) -> Option<BraneSnapshot> {
        let config = self.config.as_ref()?;
        Some(BraneSnapshot {
            id: self.id,
            name: config.name.clone(),
            identity: self.identity,
            generation: self.restarts,
            families: config.families.clone().unwrap_or_else(all_families),
            started: self.state == LifecycleState::Started,
        })
    }

    /// Returns the time of the instance's next deadline, heartbeats excepted.
    fn due(&self) -> Option<u64> {
        let command = self.commands.iter().map(|c| c.deadline).min();
        let all = [
            self.deadline,
            self.crash_deadline,
            self.client.restart_at,
            command,
        ];
        all.into_iter().flatten().min()
    }

    fn next_token(&mut self) -> u32 {
        self.token = self.token.wrapping_add(1);
        self.token
    }

    /// Builds a command to the brane.
    fn send(&self, kind: u32, token: u32, payload: Vec<u8>) -> Action {
        Action::Send {
            child: Child::Brane(self.id),
            kind,
            token,
            payload,
        }
    }

    fn step(&mut self, now: u64, input: Input<'_>, effects: &mut Effects) {
        let before = (self.state, self.restarts);
        match input {
            Input::LinkUp => self.link_up(now, effects),
            Input::Report { kind, token, payload } => self.report(now, kind, token, payload, effects),
            Input::Violation(what) => self.violation(now, what, effects),
            Input::Dropped(token) => self.dropped(now, token, effects),
            Input::Fault(what) => {
                self.counters.faults += 1;
                self.fail(now, "failed", what, effects);
            }
            Input::ClientFault(what) => self.client_fault(now, what, effects),
            Input::Tick => self.tick(now, effects),
            Input::Advance(audience) => self.advance(now, audience, effects),
            Input::Heartbeat(suspended) => self.heartbeat(now, suspended, effects),
            Input::Suspended => self.heartbeat.suspended(),
            Input::RequestStatus => self.request_status(now, effects),
            Input::Provoke(provocation) => self.provoke(now, provocation, effects),
            Input::Desire(desired, job) => self.desire(now, desired, job, effects),
            Input::Reconfigured => {
                if self.state == LifecycleState::Refused {
                    self.stop(now, "its configuration was changed", effects);
                }
            }
        }
        self.note_times(now, before);
    }

    /// Records a start, a restart or a shutdown since `before`: the state and the number of restarts at that time.
    fn note_times(&mut self, now: u64, before: (LifecycleState, u32)) {
        match (before.0, self.state) {
            (LifecycleState::Stopping, LifecycleState::Created) => self.times = StartTimes::default(),
            (_, LifecycleState::Started) => {
                self.times.started.get_or_insert(now);
            }
            _ => {}
        }
        if self.restarts > before.1 {
            self.times.restarted = Some(now);
        }
    }
}

/// All instances, by their number in `system.xml`.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    all: Vec<Instance>,
    /// Number of branes created since the manager's start.
    created: u64,
}

impl Instances {
    /// Adds the next instance, whose domain starts now.
    pub(crate) fn add(&mut self, now: u64, config: Option<BraneConfig>) -> BraneId {
        let id = BraneId::new(self.all.len());
        let mut instance = Instance::new(id, config);
        if instance.config.is_some() {
            self.created += 1;
            instance.identity = self.created;
        }
        instance.deadline = Some(now + LINK_TIMEOUT_NS);
        self.all.push(instance);
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = BraneId> + use<> {
        BraneId::first(self.all.len())
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Instance> + Clone {
        self.all.iter()
    }

    /// Returns the instances that have a brane.
    pub(crate) fn branes(&self) -> impl DoubleEndedIterator<Item = &Instance> + Clone {
        self.all.iter().filter(|b| b.config.is_some())
    }

    /// Returns an instance. `None` if the system has no such instance.
    pub(crate) fn get(&self, id: BraneId) -> Option<&Instance> {
        self.all.get(id.index())
    }

    /// Returns the brane of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Instance> {
        self.branes().find(|b| b.name() == name)
    }

    /// Handles an input and returns its effects.
    pub(crate) fn step(&mut self, id: BraneId, now: u64, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Effects::default();
        if let Some(instance) = self.all.get_mut(id.index()) {
            instance.step(now, input, &mut effects);
        }
        effects.0
    }

    /// Returns the time of the next deadline in nanoseconds, heartbeats excepted.
    pub(crate) fn due(&self) -> Option<u64> {
        self.all.iter().filter_map(Instance::due).min()
    }

    /// Returns a free instance for a new brane. Prefers an instance whose domain is up.
    pub(crate) fn free(&self) -> Option<BraneId> {
        let mut free = self
            .all
            .iter()
            .filter(|b| b.state == LifecycleState::Idle && b.job.is_none());
        let first = free.clone().next();
        free.find(|b| b.linked).or(first).map(Instance::id)
    }

    /// Makes a free instance the brane of this name. The job waits for the desired state.
    pub(crate) fn create(
        &mut self,
        id: BraneId,
        name: String,
        (families, memory): (Option<Vec<FamilyConfig>>, Option<u32>),
        desired: DesiredState,
        job: JobId,
    ) {
        let Some(b) = self.all.get_mut(id.index()) else {
            return;
        };
        self.created += 1;
        b.identity = self.created;
        b.config = Some(BraneConfig {
            id: id.index() as u32,
            name,
            families,
            memory,
            ..BraneConfig::default()
        });
        b.state = LifecycleState::Starting;
        b.desired = desired;
        b.new = true;
        b.job = Some(job);
        b.restarts = 0;
        b.last_fault = String::new();
        b.aborted = 0;
        if b.awaiting == Some(Awaiting::Delay) {
            b.failed_at = None;
        }
    }

    fn config(&mut self, id: BraneId) -> Option<&mut BraneConfig> {
        self.all.get_mut(id.index())?.config.as_mut()
    }

    pub(crate) fn rename(&mut self, id: BraneId, to: String) {
        if let Some(config) = self.config(id) {
            config.name = to;
        }
    }

    /// Returns the rules of a brane's filter.
    pub(crate) fn filter(&self, id: BraneId) -> &[Rule] {
        let config = self.get(id).and_then(|b| b.config.as_ref());
        config.map_or(&[], |config| &config.filter)
    }

    /// Replaces the rules of a brane's filter.
    pub(crate) fn set_filter(&mut self, id: BraneId, rules: Vec<Rule>) {
        if let Some(config) = self.config(id) {
            config.filter = rules;
        }
    }

    pub(crate) fn add_interface(&mut self, id: BraneId, interface: InterfaceConfig) {
        if let Some(config) = self.config(id) {
            config.interfaces.push(interface);
        }
    }

    /// Removes the interface over this device.
    pub(crate) fn remove_interface(&mut self, id: BraneId, device: &str) {
        if let Some(config) = self.config(id) {
            config.interfaces.retain(|i| i.device != device);
        }
    }

    /// Removes and returns the configured interfaces.
    pub(crate) fn take_interfaces(&mut self, id: BraneId) -> Vec<InterfaceConfig> {
        self.config(id)
            .map_or_else(Vec::new, |config| core::mem::take(&mut config.interfaces))
    }

    /// Replaces the interface of equal name.
    pub(crate) fn replace_interface(&mut self, id: BraneId, interface: InterfaceConfig) {
        if let Some(config) = self.config(id)
            && let Some(old) = config.interfaces.iter_mut().find(|i| i.name == interface.name)
        {
            *old = interface;
        }
    }

    /// Renames the device of an interface.
    pub(crate) fn rename_device(&mut self, id: BraneId, from: &str, to: &str) {
        if let Some(config) = self.config(id)
            && let Some(interface) = config.interfaces.iter_mut().find(|i| i.device == from)
        {
            interface.device = to.into();
        }
    }

    /// Renames an interface and returns the name of its device.
    pub(crate) fn rename_interface(&mut self, id: BraneId, from: &str, to: String) -> Option<String> {
        let interfaces = &mut self.config(id)?.interfaces;
        let interface = interfaces.iter_mut().find(|i| i.name == from)?;
        interface.name = to;
        Some(interface.device.clone())
    }

    /// Clears this job from all instances that wait for it.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        for b in &mut self.all {
            if b.job == Some(job) {
                b.job = None;
            }
        }
    }
}

impl core::ops::Index<BraneId> for Instances {
    type Output = Instance;

    fn index(&self, id: BraneId) -> &Instance {
        &self.all[id.index()]
    }
}
