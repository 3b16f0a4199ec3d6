//! The state machine: brings branes up, restarts what fails, gives each its configuration back.
//!
//! A brane's life, as seen from here: its control link comes up, it is sent `CONFIGURE`, it answers `CONFIGURED` and is
//! started. A fault, a broken protocol, a link that does not come up or a missing answer ends that life, and so does silence
//! at the heartbeat ([`mod@heartbeat`]); after the delay that [`crate::Backoff`] names the next one begins. A client's fault
//! concerns the client alone.

use crate::boot::{BootConfig, BootError};
use crate::brane::{Await, Brane, State};
use crate::plan::VifPlan;
use crate::report;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, command, report as kind};
use brane_abi::operator::Mode;
use brane_abi::vif::{MODE_BRIDGE, MODE_PRIVATE};
pub(crate) use heartbeat::Pulse;

mod client;
mod heartbeat;

/// How long a brane may take from its start to the control link, in nanoseconds. It takes milliseconds; a boot of many
/// branes in an emulator on a busy machine takes seconds, and a brane that needs longer than this would never come up.
pub(crate) const LINK_TIMEOUT_NS: u64 = 30_000_000_000;
/// How long a brane may take to answer `CONFIGURE`, in nanoseconds.
pub(crate) const CONFIGURE_TIMEOUT_NS: u64 = 10_000_000_000;
/// How long a brane may take to fault after `CRASH`; then it is stopped.
pub(crate) const CRASH_TIMEOUT_NS: u64 = 1_000_000_000;
/// A `REPORT` without an answer for so long is given up.
pub(crate) const REPORT_TIMEOUT_NS: u64 = 500_000_000;
/// So many unwanted or unbelievable reports in one life are a broken protocol.
pub(crate) const MAX_UNWANTED: u32 = 32;

/// A protection domain that the manager is the parent of, by instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// `brane-N`
    Brane(usize),
    /// `services-N`
    Client(usize),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A new life of the brane is up on the control region; its rings are empty.
    LinkUp {
        /// Which instance.
        brane: usize,
    },
    /// A record of the report ring, copied out of it.
    Report {
        /// Which instance.
        brane: usize,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// Up to one byte more than `MAX_MESSAGE`.
        payload: &'a [u8],
    },
    /// The brane broke the rules of the control region.
    Breach {
        /// Which instance.
        brane: usize,
        /// How.
        what: &'a str,
    },
    /// A command found no room in the ring.
    Dropped {
        /// Which instance.
        brane: usize,
        /// The command's meta word 1.
        token: u32,
    },
    /// A child has faulted and stands still.
    Fault {
        /// Which.
        child: Child,
        /// The kernel's report in words.
        what: &'a str,
    },
    /// Nothing but time has passed. To be said after all that the branes have reported so far.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the child where it is.
    Stop(Child),
    /// Start the child at its entry.
    Restart(Child),
    /// Put a record into the command ring.
    Send {
        /// Which instance.
        brane: usize,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Say this on the log.
    Log(String),
}

/// The manager.
#[derive(Debug)]
pub struct Manager {
    pub(crate) branes: Vec<Brane>,
    pub(crate) boot_error: Option<String>,
    pub(crate) devices: Vec<String>,
    plan: Vec<VifPlan>,
    token: u32,
    /// When the next beat of the heartbeat is due, in nanoseconds.
    beat_at: u64,
}

impl Manager {
    /// For a system of `instances` branes that start about `now` (nanoseconds), with what [`BootConfig::from_bytes`] gave.
    /// Without a usable configuration no brane is configured; the console still answers, and says why.
    pub fn new(now: u64, boot: Result<BootConfig, BootError>, instances: usize) -> Manager {
        let boot = boot.and_then(|b| b.check(instances).map(|()| b));
        let (boot, boot_error) = match boot {
            Ok(boot) => (boot, None),
            Err(e) => (BootConfig::default(), Some(e.to_string())),
        };
        let mut manager = Manager {
            branes: Vec::new(),
            boot_error,
            devices: Vec::new(),
            plan: Vec::new(),
            token: 0,
            beat_at: now + heartbeat::PERIOD_NS,
        };
        let devices = boot.devices;
        let mut configured = boot.branes.into_iter();
        for id in 0..instances {
            let mut brane = configured.next().map_or_else(
                || Brane::new(None, Vec::new()),
                |given| {
                    let mut vifs = Vec::new();
                    for config in &given.interfaces {
                        let vif = manager.devices.len() as u32;
                        let device = devices.iter().find(|d| d.name == config.device);
                        let device = device.cloned().unwrap_or_default();
                        manager.devices.push(config.device.clone());
                        manager.plan.push(VifPlan {
                            vif,
                            brane: id,
                            port: config.port.into(),
                            mac: config.mac,
                            mode: match device.mode {
                                Mode::Bridge => MODE_BRIDGE,
                                Mode::Private => MODE_PRIVATE,
                            },
                            allow: device.allow,
                            rate_up: device.rate_up.unwrap_or(0),
                            rate_down: device.rate_down.unwrap_or(0),
                            label: format!("`{}` of brane `{}`", config.device, given.name),
                        });
                        vifs.push(vif);
                    }
                    let config = BraneConfig {
                        id: id as u32,
                        name: given.name,
                        generation: 0,
                        primary: given.primary,
                        families: given.families,
                        held: given.held,
                        interfaces: given.interfaces,
                    };
                    Brane::new(Some(config), vifs)
                },
            );
            brane.deadline = Some((now + LINK_TIMEOUT_NS, Await::Link));
            manager.branes.push(brane);
        }
        manager
    }

    /// Why there is no configuration, when there is none.
    pub fn boot_error(&self) -> Option<&str> {
        self.boot_error.as_deref()
    }

    /// The vifs to set up at the driver, in order.
    pub fn vifs(&self) -> &[VifPlan] {
        &self.plan
    }

    /// When [`Event::Tick`] is due, in nanoseconds of the caller's clock.
    pub fn deadline(&self) -> Option<u64> {
        [self.due(), self.next_beat()].into_iter().flatten().min()
    }

    /// When something other than the heartbeat is due.
    fn due(&self) -> Option<u64> {
        self.branes
            .iter()
            .flat_map(|b| [b.deadline.map(|(at, _)| at), b.client.restart_at])
            .flatten()
            .min()
    }

    /// Takes an event that happened at `now` (nanoseconds) and appends what is to be done about it.
    pub fn handle(&mut self, now: u64, event: Event<'_>, actions: &mut Vec<Action>) {
        match event {
            Event::LinkUp { brane } => self.link_up(now, brane, actions),
            Event::Report {
                brane,
                kind,
                token,
                payload,
            } => self.report(now, brane, kind, token, payload, actions),
            Event::Breach { brane, what } => self.breach(now, brane, what, actions),
            Event::Dropped { brane, token } => {
                if let Some(b) = self.branes.get_mut(brane) {
                    b.counts.commands_dropped += 1;
                    b.pulse.not_asked(token);
                }
            }
            Event::Fault { child, what } => match child {
                Child::Brane(brane) => {
                    if let Some(b) = self.branes.get_mut(brane) {
                        b.counts.faults += 1;
                        self.fail(now, brane, "failed", what, actions);
                    }
                }
                Child::Client(brane) => self.client_fault(now, brane, what, actions),
            },
            Event::Tick => self.tick(now, actions),
        }
    }

    /// The brane's name in quotes, or its number where it has none.
    pub(crate) fn label(&self, brane: usize) -> String {
        match self.branes.get(brane).map(Brane::name) {
            Some("") | None => format!("instance {brane} (not configured)"),
            Some(name) => format!("brane `{name}`"),
        }
    }

    pub(crate) fn next_token(&mut self) -> u32 {
        self.token = self.token.wrapping_add(1);
        self.token
    }

    fn link_up(&mut self, now: u64, brane: usize, actions: &mut Vec<Action>) {
        let token = self.next_token();
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        if !matches!(b.state, State::Starting | State::Restarting) || b.linked {
            // It has begun anew though nobody restarted it.
            self.breach(now, brane, "it reset the control link by itself", actions);
            return;
        }
        b.linked = true;
        b.deadline = None;
        let Some(config) = &mut b.config else { return };
        config.generation = b.restarts;
        b.configuring = Some(token);
        b.deadline = Some((now + CONFIGURE_TIMEOUT_NS, Await::Configured));
        actions.push(Action::Send {
            brane,
            kind: command::CONFIGURE,
            token,
            payload: crate::answer::encode(config),
        });
    }

    fn report(
        &mut self,
        now: u64,
        brane: usize,
        report_kind: u32,
        token: u32,
        payload: &[u8],
        actions: &mut Vec<Action>,
    ) {
        let label = self.label(brane);
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        if report_kind == kind::ALIVE && b.pulse.answered(token) {
            b.counts.heartbeats += 1;
            return;
        }
        b.counts.reports += 1;
        match report_kind {
            kind::CONFIGURED if b.configuring == Some(token) => {
                b.configuring = None;
                b.deadline = None;
                b.state = State::Started;
                b.started_at = Some(now);
                let took = match b.failed_at.take() {
                    Some(at) => {
                        b.recovery_ns = now.saturating_sub(at);
                        format!(" again, {} after the failure", milliseconds(b.recovery_ns))
                    }
                    None => String::new(),
                };
                actions.push(Action::Log(format!("{label} is up{took}")));
            }
            kind::REFUSED if b.configuring == Some(token) => {
                b.configuring = None;
                b.deadline = None;
                b.state = State::Refused;
                b.last_fault = format!("refused its configuration: {}", report::reason(payload));
                actions.push(Action::Log(format!("{label} {}", b.last_fault)));
            }
            kind::STATUS if b.reporting.is_some_and(|(t, _)| t == token) => {
                b.reporting = None;
                match report::status(payload) {
                    Ok(status) => {
                        b.status = status;
                        b.status_at = Some(now);
                    }
                    Err(why) => {
                        b.counts.reports_refused += 1;
                        self.unwanted(now, brane, why, actions);
                    }
                }
            }
            _ => {
                b.counts.reports_unexpected += 1;
                self.unwanted(now, brane, "reports that nobody asked for", actions);
            }
        }
    }

    fn unwanted(&mut self, now: u64, brane: usize, what: impl ToString, actions: &mut Vec<Action>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.unwanted += 1;
        if b.unwanted == MAX_UNWANTED {
            self.breach(now, brane, &what.to_string(), actions);
        }
    }

    fn breach(&mut self, now: u64, brane: usize, what: &str, actions: &mut Vec<Action>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.counts.breaches += 1;
        if b.state == State::Failed {
            return;
        }
        let what = format!("broke the control protocol: {what}");
        self.stop(now, brane, &what, actions);
    }

    /// The brane's life is over; it stands still. `how` is the log's verb for it.
    fn fail(&mut self, now: u64, brane: usize, how: &str, what: &str, actions: &mut Vec<Action>) {
        let label = self.label(brane);
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        let delay = b
            .backoff
            .failed(b.started_at.take().map(|at| now.saturating_sub(at)));
        b.state = State::Failed;
        b.linked = false;
        b.configuring = None;
        b.reporting = None;
        b.pulse = Pulse::default();
        b.unwanted = 0;
        b.failed_at.get_or_insert(now);
        b.last_fault = what.into();
        actions.push(Action::Log(if delay == 0 {
            format!("{label} {how}: {what}; restarting it")
        } else {
            format!("{label} {how}: {what}; restarting it in {}", milliseconds(delay))
        }));
        if delay == 0 {
            self.restart(now, brane, actions);
        } else {
            b.deadline = Some((now + delay, Await::Restart));
        }
    }

    fn restart(&mut self, now: u64, brane: usize, actions: &mut Vec<Action>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.deadline = Some((now + LINK_TIMEOUT_NS, Await::Link));
        b.restarts += 1;
        b.state = State::Restarting;
        actions.push(Action::Restart(Child::Brane(brane)));
    }

    fn tick(&mut self, now: u64, actions: &mut Vec<Action>) {
        for brane in 0..self.branes.len() {
            self.clients_due(now, brane, actions);
            let Some((at, what)) = self.branes[brane].deadline else {
                continue;
            };
            if at > now {
                continue;
            }
            self.branes[brane].deadline = None;
            match what {
                Await::Restart => self.restart(now, brane, actions),
                Await::Configured => self.breach(now, brane, "no answer to its configuration", actions),
                Await::Link => {
                    let what = "did not open its control link within 30 s, so it was stopped";
                    self.stop(now, brane, what, actions);
                }
                Await::Crash => {
                    let what = "did not obey `crash` within 1 s, so it was stopped";
                    self.stop(now, brane, what, actions);
                }
            }
        }
        self.beat(now, actions);
    }

    /// Ends the life of a brane that runs but does not do what it must.
    fn stop(&mut self, now: u64, brane: usize, what: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Stop(Child::Brane(brane)));
        self.fail(now, brane, "failed", what, actions);
    }

    /// Asks all started branes for a fresh status.
    pub(crate) fn refresh(&mut self, now: u64, actions: &mut Vec<Action>) {
        for brane in 0..self.branes.len() {
            let token = self.next_token();
            let b = &mut self.branes[brane];
            let waiting = b
                .reporting
                .is_some_and(|(_, sent)| now.saturating_sub(sent) < REPORT_TIMEOUT_NS);
            if b.state != State::Started || waiting {
                continue;
            }
            b.reporting = Some((token, now));
            actions.push(order(brane, command::REPORT, token));
        }
    }

    /// Makes a started brane fault.
    pub(crate) fn crash(&mut self, now: u64, brane: usize, actions: &mut Vec<Action>) {
        let token = self.next_token();
        self.branes[brane].deadline = Some((now + CRASH_TIMEOUT_NS, Await::Crash));
        actions.push(order(brane, command::CRASH, token));
    }
}

/// A command without a payload.
fn order(brane: usize, kind: u32, token: u32) -> Action {
    Action::Send {
        brane,
        kind,
        token,
        payload: Vec::new(),
    }
}

pub(crate) fn milliseconds(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

#[cfg(test)]
mod tests;
