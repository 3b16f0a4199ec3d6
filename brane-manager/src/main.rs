//! The manager's shell: turns faults, notifications and calls into the core's events and carries the core's actions out.
//!
//! It owns side A of each brane's control region and of each subscriber's region, the parent's rights over its children, and
//! the operators' reply regions. Drivers, timer and serial are trusted and called. Branes, clients, subscribers and
//! operators are not trusted. The shell never waits for them, and bounds the work that each causes in one wake and in any
//! time ([`work_budget`]). A child that uses up its budget, here or at another service, is suspended.
#![no_std]
#![no_main]

extern crate alloc;

mod control;
mod nic;
mod serial;

use alloc::vec::Vec;
use brane_abi::layout::{MAX_NICS, NIC_NAMES, ports};
use brane_abi::{offender, operator};
use brane_manager_core::boot::BootConfig;
use brane_manager_core::fault_reports::FaultReports;
use brane_manager_core::{
    Action, BraneId, Child, Event, FilterId, Manager, OperatorId, Reply, Size, SubscriberId,
};
use control::Control;
use nic::{NICS, Nics};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, Region, get_mr, heap, log, logln, protection_domain,
    set_mr, with_msg_bytes,
};
use work_budget::{Budgets, MAX_CALLERS, SWITCH_NS, Terms};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, children, regions};

/// Number of branes of this system.
const INSTANCES: usize = channels::BRANE.len();

const TIMER: Channel = Channel::new(channels::TIMER);
/// Operators, by their number in the core.
const OPERATORS: [Channel; 2] = [Channel::new(channels::CONSOLE), Channel::new(channels::REMOTE)];
/// The operators' reply regions, in the order of [`OPERATORS`].
const REPLIES: [Region; 2] = [regions::CONSOLE_REPLY, regions::REMOTE_REPLY];
const SERIAL: Channel = Channel::new(channels::SERIAL);
const _: () = assert!(NICS.len() <= MAX_NICS, "more NICs than a system can have");

/// Returns the services that report offenders, with their names.
fn services() -> impl Iterator<Item = (Channel, &'static str)> {
    let nics = NICS.into_iter().zip(NIC_NAMES);
    [(TIMER, "timer"), (SERIAL, "serial")].into_iter().chain(nics)
}

/// Budget of a brane or subscriber: a twentieth of the processor, 5 ms at once. A wake receives at most 16 reports from
/// each.
const CHILD: Terms = Terms::new(50, 5_000_000, 1_000_000);
/// Budget of an operator. It is larger, because answers are large and a person waits for them.
const OPERATOR: Terms = Terms::new(150, 40_000_000, 20_000_000);

struct Shell {
    clock: Clock,
    manager: Manager,
    controls: Vec<Control>,
    /// The regions of the subscribers.
    subscribers: Vec<Control>,
    /// The regions of the external filters, for their registrations.
    filters: Vec<Control>,
    actions: Vec<Action>,
    alarm: Alarm,
    /// True if a ring has more reports than one wake may receive. The next wake comes soon, after the turns of other
    /// domains.
    unfinished: bool,
    /// Accounts of all children, by their ids.
    budgets: Budgets<MAX_CALLERS>,
    /// True if the calling operator was suspended in its call, so that it gets no reply now.
    withheld: bool,
    /// First faults of the children that write their backtraces now.
    reports: FaultReports,
}

#[protection_domain]
fn init() -> Shell {
    log::attach(regions::LOG_MANAGER, SERIAL);
    heap::init(regions::HEAP_MANAGER);
    let clock = Clock::new(regions::TSC);
    let text = regions::BOOT_CONFIG;
    // SAFETY: mapped readable for this domain's life, and not written after the boot.
    let text = unsafe { core::slice::from_raw_parts(text.as_ptr(), text.size) };
    let size = Size {
        instances: INSTANCES,
        subscribers: channels::SUBSCRIBER.len(),
        filters: channels::FILTER.len(),
        operators: OPERATORS.len(),
        ports_per_nic: ports::count(wiring::sizes::PORTS_NIC),
    };
    let mut actions = Vec::new();
    let boot = BootConfig::from_bytes(text);
    let manager = Manager::new(clock.now_ns(), boot, size, &mut Nics, &mut actions);
    if let Some(why) = manager.boot_error() {
        logln!(
            "the boot configuration cannot be used: {why}; no brane is configured. Build the image again with a valid one \
             (`boot` in configs.toml)"
        );
    }
    let controls = (0..INSTANCES)
        .map(|i| Control::start(regions::CTL[i].shared(), Channel::new(channels::BRANE[i])))
        .collect();
    let subscribers = regions::SUBSCRIPTION.iter().zip(channels::SUBSCRIBER.iter());
    let subscribers = subscribers.map(|(region, &id)| Control::start(region.shared(), Channel::new(id)));
    let filters = regions::REGISTRATION_FILTER.iter().zip(channels::FILTER.iter());
    let filters = filters.map(|(region, &id)| Control::start(region.shared(), Channel::new(id)));
    let mut shell = Shell {
        clock,
        manager,
        controls,
        subscribers: subscribers.collect(),
        filters: filters.collect(),
        actions,
        alarm: Alarm::new(TIMER),
        unfinished: false,
        budgets: OPERATORS
            .iter()
            .fold(Budgets::new(CHILD, u64::MAX >> 2), |budgets, operator| {
                budgets.with_terms(operator.index(), OPERATOR)
            }),
        withheld: false,
        reports: FaultReports::default(),
    };
    // No brane runs yet. If a brane never reports, only the timer detects that.
    shell.act();
    shell.settle();
    shell
}

fn thread(child: Child) -> sel4_microkit::Child {
    sel4_microkit::Child::new(match child {
        Child::Brane(id) => children::BRANE[id.index()],
        Child::Client(id) => children::SERVICES[id.index()],
        Child::Subscriber(id) => children::SUBSCRIBER[id.index()],
        Child::Filter(id) => children::FILTER[id.index()],
        Child::Operator(id) => [children::CONSOLE, children::REMOTE][id.index()],
    })
}

/// Returns the child with this id.
fn child(id: usize) -> Option<Child> {
    let find = |family: &[usize]| family.iter().position(|&of| of == id);
    let brane = find(&children::BRANE).map(|n| Child::Brane(BraneId::new(n)));
    let client = || find(&children::SERVICES).map(|n| Child::Client(BraneId::new(n)));
    let subscriber = || find(&children::SUBSCRIBER).map(|n| Child::Subscriber(SubscriberId::new(n)));
    let filter = || find(&children::FILTER).map(|n| Child::Filter(FilterId::new(n)));
    let operator =
        || find(&[children::CONSOLE, children::REMOTE]).map(|n| Child::Operator(OperatorId::new(n)));
    brane
        .or_else(client)
        .or_else(subscriber)
        .or_else(filter)
        .or_else(operator)
}

impl Shell {
    fn event(&mut self, event: Event<'_>) {
        let now = self.clock.now_ns();
        self.manager.handle(now, event, &mut Nics, &mut self.actions);
    }

    /// Carries out the core's actions. A command that cannot be sent becomes an event, which ends the incarnation of a
    /// brane, a subscription or a part of a batch. Their number is bounded, so this loop ends.
    fn act(&mut self) {
        while !self.actions.is_empty() {
            for action in core::mem::take(&mut self.actions) {
                if let Action::Stop(child) | Action::Restart(child) | Action::Renew(child) = action {
                    self.reports.take(thread(child).index());
                }
                match action {
                    Action::Log(text) => logln!("{text}"),
                    Action::Stop(child) | Action::Suspend(child) => {
                        ::log::debug!("stop {child:?}");
                        if let Err(why) = thread(child).stop() {
                            ::log::error!("{child:?} cannot be stopped: {why}");
                        }
                    }
                    Action::Resume(child) => {
                        ::log::debug!("resume {child:?}");
                        if let Err(why) = thread(child).resume() {
                            ::log::error!("{child:?} cannot be resumed: {why}");
                        }
                        // Reports in the child's ring were not received while it had no budget.
                        self.unfinished = true;
                    }
                    Action::Restart(child) => {
                        ::log::debug!("restart {child:?}");
                        if let Err(why) = thread(child).restart(sel4_microkit::Child::ENTRY) {
                            ::log::error!("{child:?} cannot be restarted: {why}");
                        }
                    }
                    Action::Renew(child) => {
                        ::log::debug!("restart {child:?} for another tenant");
                        if let Err(why) = thread(child).restart_for_another(sel4_microkit::Child::ENTRY) {
                            ::log::error!("{child:?} cannot be restarted: {why}");
                        }
                    }
                    Action::Notify(operator) => OPERATORS[operator.index()].notify(),
                    Action::Send {
                        child,
                        kind,
                        token,
                        payload,
                    } => {
                        let control = match child {
                            Child::Brane(id) => self.controls.get_mut(id.index()),
                            Child::Subscriber(id) => self.subscribers.get_mut(id.index()),
                            Child::Filter(id) => self.filters.get_mut(id.index()),
                            Child::Client(_) | Child::Operator(_) => None,
                        };
                        let Some(control) = control else { continue };
                        match control.send(kind, token, &payload) {
                            Ok(()) => {}
                            Err(control::SendError::NoRoom) => self.event(Event::Dropped { child, token }),
                            Err(control::SendError::Peer(what)) => {
                                self.event(Event::Violation { child, what })
                            }
                        }
                    }
                }
            }
        }
    }

    /// Polls the region of a brane or subscriber, unless the child's budget is exhausted. `notified` is true if the
    /// child has notified.
    fn poll_child(&mut self, child: Child, notified: bool) {
        let begin = self.clock.now_ns();
        let id = thread(child).index();
        if self.budgets.exhausted(id, begin).is_none() {
            self.poll(child);
        }
        let end = self.clock.now_ns();
        let entry = if notified { SWITCH_NS } else { 0 };
        if self.budgets.charge(id, end, end.saturating_sub(begin) + entry) {
            while let Some((id, until)) = self.budgets.take_offender(end) {
                self.offender(id, until, "manager");
            }
            self.act();
        }
    }

    /// Handles an offender that a service has reported.
    fn offender(&mut self, id: usize, until: u64, service: &str) {
        if let Some(child) = child(id) {
            self.event(Event::Offender {
                child,
                until,
                service,
            });
        }
    }

    /// Fetches the offenders of a service that has notified the manager.
    fn offenders(&mut self, service: Channel, name: &str) {
        for _ in 0..MAX_CALLERS {
            let reply = service.pp_call(MessageInfo::new(offender::TAKE, 0));
            if reply.label() != offender::OFFENDER || reply.count() < 2 {
                break;
            }
            let (id, until) = (get_mr(0), get_mr(1));
            self.offender(usize::try_from(id).unwrap_or(usize::MAX), until, name);
        }
        self.act();
    }

    fn poll(&mut self, child: Child) {
        let Self {
            controls,
            subscribers,
            filters,
            manager,
            actions,
            clock,
            ..
        } = self;
        let control = match child {
            Child::Brane(id) => controls.get_mut(id.index()),
            Child::Subscriber(id) => subscribers.get_mut(id.index()),
            Child::Filter(id) => filters.get_mut(id.index()),
            Child::Client(_) | Child::Operator(_) => None,
        };
        let now = clock.now_ns();
        let sink = &mut |event: Event<'_>| manager.handle(now, event, &mut Nics, actions);
        self.unfinished |= control.is_some_and(|control| control.poll(child, sink));
        self.act();
    }

    /// Handles the fault of a child, which is stopped.
    fn failed(&mut self, id: usize, what: &str) {
        match child(id) {
            Some(child) => {
                self.event(Event::Fault { child, what });
                self.act();
            }
            None => logln!("child {id}, which is in no family, failed: {what}"),
        }
    }

    /// Stops the children that do not end their backtraces in time, and handles their faults.
    fn end_reports(&mut self) {
        for (id, what) in self.reports.take_late(self.clock.now_ns()) {
            if let Err(why) = sel4_microkit::Child::new(id).stop() {
                ::log::error!("child {id} cannot be stopped: {why}");
            }
            self.failed(id, &what);
        }
    }

    /// Arms the timer for the next deadline. Must be called before sleep.
    fn settle(&mut self) {
        let next = if self.unfinished {
            Some(self.clock.now_ns())
        } else {
            [self.manager.deadline(), self.reports.deadline()]
                .into_iter()
                .flatten()
                .min()
        };
        if let Some(at) = next {
            // If the timer rejects the deadline, the next wake sets it again.
            self.alarm.set(at);
        }
    }
}

impl Handler for Shell {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        for (service, name) in services() {
            if channels.contains(service) {
                self.offenders(service, name);
            }
        }
        let tick = channels.contains(TIMER);
        // Reports sent in time are received before a tick. Answers to a heartbeat do not wake the manager.
        let all = core::mem::take(&mut self.unfinished) || tick;
        for brane in 0..INSTANCES {
            let notified = channels.contains(Channel::new(channels::BRANE[brane]));
            if all || notified {
                self.poll_child(Child::Brane(BraneId::new(brane)), notified);
            }
        }
        for (k, &id) in channels::SUBSCRIBER.iter().enumerate() {
            let notified = channels.contains(Channel::new(id));
            if all || notified {
                self.poll_child(Child::Subscriber(SubscriberId::new(k)), notified);
            }
        }
        for (k, &id) in channels::FILTER.iter().enumerate() {
            let notified = channels.contains(Channel::new(id));
            if all || notified {
                self.poll_child(Child::Filter(FilterId::new(k)), notified);
            }
        }
        if tick {
            self.alarm.rang();
            self.end_reports();
            self.event(Event::Tick);
            self.act();
        }
        self.settle();
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        let Some(operator) = OPERATORS.iter().position(|&o| o == channel) else {
            // No other domain has a channel for calls.
            return Ok(MessageInfo::new(operator::ERROR, 0));
        };
        let begin = self.clock.now_ns();
        if let Some(until) = self.budgets.exhausted(channel.index(), begin) {
            // The operator is stopped in its call, which begins anew after the resumption.
            self.offender(channel.index(), until, "manager");
            self.act();
            self.settle();
            self.withheld = self
                .manager
                .is_suspended(Child::Operator(OperatorId::new(operator)));
            if self.withheld {
                return Ok(MessageInfo::default());
            }
        }
        // Copied first, because the calls to the drivers overwrite the message words.
        let mut argument = [0; operator::MAX_REQUEST];
        let sent = info.count().saturating_sub(1) * 8;
        let first = match info.count() {
            0 => 0,
            _ => get_mr(0),
        };
        let len = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .min(sent)
            .min(argument.len());
        with_msg_bytes(|bytes| argument[..len].copy_from_slice(&bytes[8..8 + len]));
        let now = self.clock.now_ns();
        let job = (first as u32).to_le_bytes();
        let argument = match info.label() {
            operator::POLL | operator::CANCEL => &job[..],
            _ => &argument[..len],
        };
        let Reply { label, text, job } = self.manager.operator(
            now,
            OperatorId::new(operator),
            info.label(),
            argument,
            &mut Nics,
            &mut self.actions,
        );
        let reply = REPLIES[operator];
        let len = text.len().min(reply.size);
        // SAFETY: `len` bytes lie inside the region, which is mapped writable here and only readable by the operator.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), reply.as_ptr(), len) };
        self.act();
        self.settle();
        let end = self.clock.now_ns();
        // An exhausted operator is stopped at its next call. If it were stopped in this one, it would repeat the call.
        let _ = self
            .budgets
            .charge(channel.index(), end, end.saturating_sub(begin) + SWITCH_NS);
        set_mr(0, len as u64);
        set_mr(1, job.into());
        Ok(MessageInfo::new(label, 2))
    }

    fn answers(&mut self) -> bool {
        !core::mem::take(&mut self.withheld)
    }

    fn fault(
        &mut self,
        child: sel4_microkit::Child,
        info: MessageInfo,
    ) -> Result<Option<MessageInfo>, Never> {
        let index = child.index();
        // The second fault ends the backtrace that was started at the first one.
        match self.reports.take(index) {
            Some(first) => self.failed(index, &first),
            None => {
                let what = alloc::format!("{}", info.fault());
                match child.write_backtrace() {
                    Ok(()) => self.reports.hold(self.clock.now_ns(), index, what),
                    Err(_) => self.failed(index, &what),
                }
            }
        }
        self.settle();
        Ok(None)
    }
}
