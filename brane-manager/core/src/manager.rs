//! The state machine: what happens goes in, what is to be done comes out.
//!
//! | module | owns |
//! | --- | --- |
//! | here | events and deadlines |
//! | [`mod@reports`] | reports, failures and restarts of the lives of branes |
//! | [`mod@life`] | the way of each instance to its goal: created, started, shut down, deleted |
//! | [`mod@devices`] | who has which device, and the drivers' tables after it |
//! | [`mod@orders`] | commands to running branes whose answers are awaited |
//! | [`mod@jobs`], [`mod@requests`] | operators: what they ask, and the answers that come later |
//! | [`mod@view`], [`mod@audit`] | what operators are shown |
//! | [`mod@heartbeat`], [`mod@client`] | branes that hang; clients, subscribers and operators that fail |
//! | [`mod@offenders`] | children that are suspended because they used up their budget |

use crate::boot::{BootConfig, BootError};
use crate::brane::{Brane, Goal, State, Step};
use crate::driver::Driver;
use crate::events::Events;
use crate::hooks::Hooks;
use crate::registry::Registry;
use crate::report;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, command, report as kind};
use brane_abi::operator;
pub(crate) use heartbeat::Pulse;
pub(crate) use jobs::Desk;
#[cfg(any(test, feature = "testing"))]
pub(crate) use jobs::Work;
pub use offenders::OPERATORS;
pub(crate) use orders::Order;
pub use requests::Reply;

mod audit;
mod client;
mod devices;
mod heartbeat;
mod jobs;
mod life;
mod offenders;
mod orders;
mod reports;
mod requests;
mod view;

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

/// A protection domain that the manager is the parent of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// `brane-N`
    Brane(usize),
    /// `services-N`
    Client(usize),
    /// `watcher-N`, which can subscribe to transitions.
    Watcher(usize),
    /// An operator, by its number in [`OPERATORS`].
    Operator(usize),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A new life of a brane or watcher is up on its region; its rings are empty.
    LinkUp(Child),
    /// A record of the ring towards us, copied out of it.
    Report {
        /// Whose.
        child: Child,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// Up to one byte more than `MAX_MESSAGE`.
        payload: &'a [u8],
    },
    /// It broke the rules of its region.
    Breach {
        /// Who.
        child: Child,
        /// How.
        what: &'a str,
    },
    /// A record found no room in the ring.
    Dropped {
        /// Whose ring.
        child: Child,
        /// The record's meta word 1.
        token: u32,
    },
    /// A child has faulted and stands still.
    Fault {
        /// Which.
        child: Child,
        /// The kernel's report in words.
        what: &'a str,
    },
    /// A child has used up its budget at a service.
    Offender {
        /// Which.
        child: Child,
        /// When the service allows it more, in nanoseconds.
        until: u64,
        /// The service's protection domain.
        service: &'a str,
    },
    /// Nothing but time has passed. To be said after all that the branes have reported so far.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the child where it is.
    Stop(Child),
    /// Stop the child where it is, so that it can go on later.
    Suspend(Child),
    /// Let a suspended child go on.
    Resume(Child),
    /// Start the child at its entry.
    Restart(Child),
    /// The same for another tenant: it clears the memory that it keeps.
    Renew(Child),
    /// Put a record into the ring of a brane or watcher.
    Send {
        /// Whose.
        child: Child,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Notify the operator of this number: a job of its has come to an end.
    Notify(usize),
    /// Say this on the log.
    Log(String),
}

/// What each step needs: the time, the drivers, and where actions go.
pub(crate) struct Cx<'a> {
    /// Nanoseconds of the shell's clock.
    pub now: u64,
    pub driver: &'a mut dyn Driver,
    pub actions: &'a mut Vec<Action>,
}

impl Cx<'_> {
    pub(crate) fn log(&mut self, text: String) {
        self.actions.push(Action::Log(text));
    }
}

/// The manager.
#[derive(Debug)]
pub struct Manager {
    pub(crate) branes: Vec<Brane>,
    pub(crate) registry: Registry,
    pub(crate) hooks: Hooks,
    pub(crate) watchers: Vec<crate::brane::Client>,
    pub(crate) operators: Vec<crate::brane::Client>,
    pub(crate) offenders: offenders::Offenders,
    pub(crate) events: Events,
    pub(crate) desk: Desk,
    pub(crate) boot_error: Option<String>,
    token: u32,
    /// When the next beat of the heartbeat is due, in nanoseconds.
    beat_at: u64,
    /// When the manager started, in nanoseconds: the zero of what operators are shown.
    pub(crate) epoch: u64,
}

/// How large the system is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Instances of branes.
    pub instances: usize,
    /// Watchers.
    pub watchers: usize,
    /// Operators: the console, the remote line.
    pub operators: usize,
}

impl Manager {
    /// For a system of this size whose children start about `now` (nanoseconds), with what [`BootConfig::from_bytes`] gave.
    /// The devices are set up at the drivers. Without a usable configuration there is no brane; operators are told why.
    pub fn new(
        now: u64,
        boot: Result<BootConfig, BootError>,
        size: Size,
        driver: &mut dyn Driver,
        actions: &mut Vec<Action>,
    ) -> Manager {
        let boot = boot.and_then(|b| b.check(size.instances).map(|()| b));
        let (boot, boot_error) = match boot {
            Ok(boot) => (boot, None),
            Err(e) => (BootConfig::default(), Some(e.to_string())),
        };
        let mut manager = Manager {
            branes: Vec::new(),
            registry: Registry::new(driver.nics(), boot.mac_pool),
            hooks: Hooks::new(size.watchers),
            watchers: (0..size.watchers).map(|_| Default::default()).collect(),
            operators: (0..size.operators).map(|_| Default::default()).collect(),
            offenders: Default::default(),
            events: Events::default(),
            desk: Desk::new(size.operators),
            boot_error,
            token: 0,
            beat_at: now + heartbeat::PERIOD_NS,
            epoch: now,
        };
        let mut cx = Cx { now, driver, actions };
        manager.boot_devices(boot.devices, &mut cx);
        let mut configured = boot.branes.into_iter();
        for id in 0..size.instances {
            let config = configured.next().map(|given| BraneConfig {
                id: id as u32,
                name: given.name,
                generation: 0,
                primary: given.primary,
                families: given.families,
                held: given.held,
                interfaces: given.interfaces,
            });
            let mut brane = Brane::new(config);
            brane.deadline = Some(now + LINK_TIMEOUT_NS);
            manager.branes.push(brane);
            manager.boot_interfaces(id, &mut cx);
        }
        manager
    }

    /// Why there is no configuration, when there is none.
    pub fn boot_error(&self) -> Option<&str> {
        self.boot_error.as_deref()
    }

    /// When [`Event::Tick`] is due, in nanoseconds of the caller's clock.
    pub fn deadline(&self) -> Option<u64> {
        [self.due(), self.next_beat()].into_iter().flatten().min()
    }

    /// When something other than the heartbeat is due.
    fn due(&self) -> Option<u64> {
        let branes = self.branes.iter().flat_map(|b| {
            let orders = b.orders.iter().map(|o| o.deadline).min();
            [b.deadline, b.crash_by, b.client.restart_at, orders]
        });
        let watchers = self.watchers.iter().chain(&self.operators).map(|w| w.restart_at);
        let others = [
            self.hooks.deadline(),
            self.desk.deadline(),
            self.offenders.deadline(),
        ];
        branes.chain(watchers).chain(others).flatten().min()
    }

    /// Takes an event that happened at `now` (nanoseconds) and appends what is to be done about it.
    pub fn handle(&mut self, now: u64, event: Event<'_>, driver: &mut dyn Driver, actions: &mut Vec<Action>) {
        let first = actions.len();
        let cx = &mut Cx { now, driver, actions };
        match event {
            Event::LinkUp(child) => match child {
                Child::Brane(brane) => self.link_up(brane, cx),
                Child::Watcher(k) => self.hooks.link_up(k),
                Child::Client(_) | Child::Operator(_) => {}
            },
            Event::Report {
                child,
                kind,
                token,
                payload,
            } => match child {
                Child::Brane(brane) => self.report(brane, kind, token, payload, cx),
                Child::Watcher(k) => {
                    let living: Vec<_> = self.living();
                    self.hooks.record(now, k, kind, token, payload, &living);
                }
                Child::Client(_) | Child::Operator(_) => {}
            },
            Event::Breach { child, what } => match child {
                Child::Brane(brane) => self.breach(brane, what, cx),
                Child::Watcher(k) => self.hooks.cut(k, what),
                Child::Client(_) | Child::Operator(_) => {}
            },
            Event::Dropped { child, token } => match child {
                Child::Brane(brane) => self.dropped(brane, token, cx),
                Child::Watcher(k) => self.hooks.cut(k, "its ring is full"),
                Child::Client(_) | Child::Operator(_) => {}
            },
            Event::Fault { child, what } => match child {
                Child::Brane(brane) => {
                    if let Some(b) = self.branes.get_mut(brane) {
                        b.counts.faults += 1;
                        self.fail(brane, "failed", what, cx);
                    }
                }
                Child::Client(brane) => self.client_fault(brane, what, cx),
                Child::Watcher(k) => self.watcher_fault(k, what, cx),
                Child::Operator(k) => self.operator_fault(k, what, cx),
            },
            Event::Offender {
                child,
                until,
                service,
            } => self.offender(child, until, service, cx),
            Event::Tick => self.tick(cx),
        }
        self.settle(cx);
        self.offenders.forget(&actions[first..]);
    }

    /// After each event: lets everybody go on whose wait is over, and hands out what subscribers are told.
    pub(crate) fn settle(&mut self, cx: &mut Cx<'_>) {
        // Once more for each request of a batch that begins now.
        for _ in 0..=operator::MAX_BATCH * operator::JOBS {
            for brane in 0..self.branes.len() {
                self.advance(brane, cx);
            }
            self.hook_news(cx);
            if !self.jobs_due(cx) {
                break;
            }
        }
        for (k, record) in core::mem::take(&mut self.hooks.out) {
            cx.actions.push(Action::Send {
                child: Child::Watcher(k),
                kind: record.kind,
                token: record.token,
                payload: record.payload,
            });
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

    /// Something happened that operators may want to know.
    pub(crate) fn event(
        &mut self,
        now: u64,
        what: &str,
        brane: Option<&str>,
        device: Option<&str>,
        detail: String,
    ) {
        let at = now.saturating_sub(self.epoch);
        self.events.push(at, what, brane, device, detail);
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        for brane in 0..self.branes.len() {
            self.clients_due(brane, cx);
            self.orders_due(brane, cx);
            let b = &mut self.branes[brane];
            if b.crash_by.is_some_and(|at| at <= cx.now) {
                self.stop(brane, "did not obey `crash` within 1 s, so it was stopped", cx);
                continue;
            }
            if b.deadline.is_none_or(|at| at > cx.now) {
                continue;
            }
            b.deadline = None;
            match b.step {
                Some(Step::Delay) => self.restart(brane, cx),
                Some(Step::Link) => {
                    let what = "did not open its control link within 30 s, so it was stopped";
                    self.stop(brane, what, cx);
                }
                Some(Step::Configured(..)) => self.breach(brane, "no answer to its configuration", cx),
                Some(Step::Start(_)) => self.breach(brane, "no answer to its start", cx),
                Some(Step::Drained(_)) => self.not_drained(brane, cx),
                Some(Step::Hooks(_)) | None => {}
            }
        }
        self.watchers_due(cx);
        self.operators_due(cx);
        self.offenders_due(cx);
        self.hooks.tick(cx.now);
        self.beat(cx);
    }

    /// Asks all started branes for a fresh status.
    pub(crate) fn refresh(&mut self, cx: &mut Cx<'_>) {
        for brane in 0..self.branes.len() {
            let token = self.next_token();
            let b = &mut self.branes[brane];
            let waiting = b
                .reporting
                .is_some_and(|(_, sent)| cx.now.saturating_sub(sent) < REPORT_TIMEOUT_NS);
            if b.state != State::Started || waiting {
                continue;
            }
            b.reporting = Some((token, cx.now));
            cx.actions.push(order(brane, command::REPORT, token));
        }
    }
}

/// A command without a payload.
pub(crate) fn order(brane: usize, kind: u32, token: u32) -> Action {
    command(brane, kind, token, Vec::new())
}

/// A command.
pub(crate) fn command(brane: usize, kind: u32, token: u32, payload: Vec<u8>) -> Action {
    Action::Send {
        child: Child::Brane(brane),
        kind,
        token,
        payload,
    }
}

pub(crate) fn milliseconds(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

#[cfg(test)]
mod tests;
