//! A whole system around the manager: branes and subscribers that answer like real ones, or fail as the test
//! determines.

use super::pd::{Effect, Pd};
use super::{Balance, Nics, child};
use crate::boot::BootConfig;
use crate::{Action, Child, Event, Manager, OperatorId, Reply, Size};
use brane_abi::operator::{Addressing, Answer, Audit, Free, Receipt, Refusal, Request};
use brane_abi::subscription::{Notification, Subscription, Transition, notice, request};
use operator_cli::refusals::Words;
use std::collections::VecDeque;

/// A subscriber, with its notifications in order.
#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    pub told: Vec<Notification>,
    /// Checks that the notifications are balanced, if the subscriber subscribes to all transitions.
    pub balance: Balance,
    partial: bool,
    pub said: Vec<u32>,
    /// True if the subscriber does not answer any more.
    pub hangs: bool,
    /// True if the subscriber faults at its next notification.
    pub dies: bool,
    /// Token of the last notification, if it has no answer.
    asked: Option<u32>,
}

pub struct World {
    pub manager: Manager,
    pub nics: Nics,
    pub now: u64,
    pub branes: Vec<Pd>,
    /// True for each client that runs.
    pub clients: Vec<bool>,
    pub subscribers: Vec<Subscriber>,
    /// The records that each external filter has got: kind and token.
    pub filters: Vec<Vec<(u32, u32)>>,
    /// True for each filter that runs.
    pub running_filters: Vec<bool>,
    pub log: Vec<String>,
    /// Number of stops and restarts of brane domains.
    pub resets: u32,
    /// Children that were started for another tenant, in order.
    pub renewed: Vec<Child>,
    /// Number of notifications of each operator about ended jobs.
    pub notified: [u32; OPERATORS],
    /// The operator of the next complete request.
    turn: usize,
    pub(super) events: VecDeque<Pending>,
}

#[derive(Debug)]
pub(super) enum Pending {
    LinkUp(Child),
    Fault(Child),
    Report(Child, u32, u32, Vec<u8>),
}

impl Pending {
    pub(super) fn child(&self) -> Child {
        match self {
            Pending::LinkUp(child) | Pending::Fault(child) | Pending::Report(child, ..) => *child,
        }
    }
}

/// Number of operators of the system.
const OPERATORS: usize = 2;

/// Number of external filters of the system.
pub const FILTERS: usize = 2;

/// Token of a subscriber's own requests.
const OWN: u32 = 7;

impl World {
    pub fn with(boot: BootConfig, instances: usize, nics: usize) -> World {
        let mut nics = Nics::new(nics);
        let mut actions = Vec::new();
        let size = Size {
            instances,
            subscribers: 2,
            filters: FILTERS,
            operators: OPERATORS,
            ports_per_nic: 2,
        };
        let manager = Manager::new(1, Ok(boot), size, &mut nics, &mut actions);
        let mut world = World {
            manager,
            nics,
            now: 1,
            branes: vec![Pd::default(); instances],
            clients: vec![true; instances],
            subscribers: vec![Subscriber::default(); 2],
            filters: vec![Vec::new(); FILTERS],
            running_filters: vec![true; FILTERS],
            log: Vec::new(),
            resets: 0,
            renewed: Vec::new(),
            notified: [0; OPERATORS],
            turn: 0,
            events: VecDeque::new(),
        };
        for brane in 0..instances {
            world.comes_up(brane, false);
        }
        for k in 0..2 {
            world.events.push_back(Pending::LinkUp(child::subscriber(k)));
        }
        for k in 0..FILTERS {
            world.events.push_back(Pending::LinkUp(child::filter(k)));
        }
        world.obey(actions);
        world.run();
        world
    }

    fn comes_up(&mut self, brane: usize, scrubs: bool) {
        self.branes[brane].begin(scrubs);
        self.events.push_back(Pending::LinkUp(child::brane(brane)));
    }

    /// Carries out the manager's actions, and checks the rules afterwards.
    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(text) => {
                    assert!(text.is_ascii(), "{text:?}");
                    self.log.push(text);
                }
                Action::Notify(operator) => self.notified[operator.index()] += 1,
                Action::Stop(child) => self.stops(child),
                Action::Renew(child) => {
                    self.renewed.push(child);
                    self.restarts(child, true);
                }
                Action::Restart(child) => self.restarts(child, false),
                Action::Suspend(_) | Action::Resume(_) => {}
                Action::Send {
                    child: child @ Child::Brane(id),
                    kind,
                    token,
                    payload,
                } => {
                    let brane = id.index();
                    match self.branes[brane].obey(kind, &payload) {
                        Effect::Report(kind, payload) => {
                            self.events
                                .push_back(Pending::Report(child, kind, token, payload));
                        }
                        Effect::Fault => self.faults(brane),
                        Effect::Nothing => {}
                    }
                }
                Action::Send {
                    child: Child::Subscriber(id),
                    kind,
                    token,
                    payload,
                } => self.report(id.index(), kind, token, &payload),
                Action::Send {
                    child: Child::Filter(id),
                    kind,
                    token,
                    ..
                } => self.filters[id.index()].push((kind, token)),
                Action::Send { .. } => panic!("clients have no ring"),
            }
        }
        self.check();
    }

    fn stops(&mut self, child: Child) {
        match child {
            Child::Brane(brane) => {
                self.branes[brane.index()].running = false;
                self.events.retain(|e| e.child() != child);
            }
            Child::Client(brane) => self.clients[brane.index()] = false,
            Child::Filter(id) => self.running_filters[id.index()] = false,
            Child::Subscriber(_) | Child::Operator(_) | Child::Line => panic!("{child:?} is not stopped"),
        }
    }

    fn restarts(&mut self, child: Child, scrubs: bool) {
        match child {
            Child::Brane(brane) => {
                let brane = brane.index();
                let pd = &self.branes[brane];
                assert!(!pd.running, "brane {brane} was restarted while it ran");
                self.resets += 1;
                self.comes_up(brane, scrubs);
            }
            Child::Client(brane) => {
                let brane = brane.index();
                assert!(!self.clients[brane], "client {brane} was restarted while it ran");
                self.clients[brane] = true;
            }
            Child::Subscriber(id) => {
                self.subscribers[id.index()] = Subscriber::default();
                self.events.push_back(Pending::LinkUp(child));
            }
            Child::Filter(id) => {
                self.running_filters[id.index()] = true;
                self.filters[id.index()].clear();
                self.events.push_back(Pending::LinkUp(child));
            }
            Child::Operator(_) | Child::Line => {}
        }
    }

    /// Makes a brane fault, before it opens its link if the link is not open yet. The manager handles the fault in its
    /// order.
    pub fn faults(&mut self, brane: usize) {
        let pd = &mut self.branes[brane];
        let child = child::brane(brane);
        if pd.running && !pd.faulted {
            pd.faulted = true;
            self.events
                .retain(|e| !matches!(e, Pending::LinkUp(c) if *c == child));
            self.events.push_back(Pending::Fault(child));
        }
    }

    /// Makes a client fault. The manager handles the fault at once.
    pub fn client_faults(&mut self, brane: usize) {
        if core::mem::take(&mut self.clients[brane]) {
            self.event(Event::Fault {
                child: child::client(brane),
                what: "invalid instruction",
            });
        }
    }

    /// Lets the manager handle an event.
    pub fn event(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.manager.handle(self.now, event, &mut self.nics, &mut actions);
        self.obey(actions);
    }

    fn report(&mut self, k: usize, kind: u32, token: u32, payload: &[u8]) {
        let subscriber = &mut self.subscribers[k];
        subscriber.said.push(kind);
        if kind == notice::TRANSITION {
            let told: Notification = minicbor::decode(payload).unwrap();
            if !subscriber.partial {
                subscriber.balance.check(&told);
            }
            subscriber.told.push(told);
            subscriber.asked = subscriber.hangs.then_some(token);
            if subscriber.dies {
                self.events.push_back(Pending::Fault(child::subscriber(k)));
            } else if !subscriber.hangs {
                self.events.push_back(Pending::Report(
                    child::subscriber(k),
                    request::ACK,
                    token,
                    Vec::new(),
                ));
            }
        }
    }

    /// Lets the manager handle the first pending event. Returns false if there is none.
    pub fn step(&mut self) -> bool {
        self.step_of(0)
    }

    /// Selects the child of the pending event at `place`, and lets the manager handle this child's first event. Events
    /// of one child come in order, those of several children in any order.
    pub fn step_of(&mut self, place: usize) -> bool {
        if self.events.is_empty() {
            return false;
        }
        let child = self.events[place % self.events.len()].child();
        let first = self.events.iter().position(|e| e.child() == child);
        let Some(pending) = first.and_then(|at| self.events.remove(at)) else {
            return false;
        };
        let event = match &pending {
            Pending::LinkUp(child) => {
                if let Child::Brane(brane) = *child {
                    self.branes[brane.index()].is_up();
                }
                Event::LinkUp(*child)
            }
            Pending::Fault(child) => {
                if let Child::Brane(brane) = *child {
                    self.branes[brane.index()].running = false;
                }
                Event::Fault {
                    child: *child,
                    what: "invalid instruction",
                }
            }
            Pending::Report(child, kind, token, payload) => Event::Report {
                child: *child,
                kind: *kind,
                token: *token,
                payload,
            },
        };
        self.event(event);
        true
    }

    /// Lets all participants work until no event is pending at this time.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
            self.now += 1_000;
        }
        panic!("the system does not come to rest");
    }

    /// Advances the time to the next deadline.
    pub fn tick(&mut self) {
        self.now = self.now.max(self.manager.deadline().expect("something is due"));
        self.pass(0);
    }

    /// Advances the time by `ms` milliseconds.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
        self.event(Event::Tick);
        self.run();
    }

    /// Advances the time until a brane is started.
    pub fn until_started(&mut self, name: &str) {
        for _ in 0..100 {
            if self.state(name) == "started" {
                return;
            }
            self.tick();
        }
        panic!("{name} is {}", self.state(name));
    }

    /// Begins a request of operator 1. Returns its answer, or the job.
    pub fn begin(&mut self, request: &Request) -> Result<Result<Answer, Refusal>, u32> {
        self.begin_as(1, request)
    }

    /// Begins a request of an operator. Returns its answer, or the job.
    pub fn begin_as(&mut self, operator: usize, request: &Request) -> Result<Result<Answer, Refusal>, u32> {
        let text = minicbor::to_vec(request).unwrap();
        assert!(text.len() <= brane_abi::operator::MAX_REQUEST);
        self.ask(operator, brane_abi::operator::CALL, &text)
    }

    fn ask(&mut self, operator: usize, label: u64, argument: &[u8]) -> Result<Result<Answer, Refusal>, u32> {
        let mut actions = Vec::new();
        let Reply { label, text, job } = self.manager.operator(
            self.now,
            OperatorId::new(operator),
            label,
            argument,
            &mut self.nics,
            &mut actions,
        );
        self.obey(actions);
        match label {
            brane_abi::operator::OK => Ok(Ok(minicbor::decode(&text).unwrap())),
            brane_abi::operator::ERROR => Ok(Err(minicbor::decode(&text).unwrap())),
            _ => Err(job),
        }
    }

    /// Cancels a job of operator 1.
    pub fn cancel(&mut self, job: u32) {
        self.cancel_as(1, job);
    }

    pub fn cancel_as(&mut self, operator: usize, job: u32) {
        let label = brane_abi::operator::CANCEL;
        assert!(self.ask(operator, label, &job.to_le_bytes()).is_ok());
    }

    /// Returns the answer to a job of operator 1, if there is one.
    pub fn poll(&mut self, job: u32) -> Option<Result<Answer, Refusal>> {
        self.poll_as(1, job)
    }

    pub fn poll_as(&mut self, operator: usize, job: u32) -> Option<Result<Answer, Refusal>> {
        let label = brane_abi::operator::POLL;
        self.ask(operator, label, &job.to_le_bytes()).ok()
    }

    /// Makes a request and returns its answer. The operators take turns.
    pub fn call(&mut self, request: Request) -> Result<Answer, Refusal> {
        let operator = self.turn;
        self.turn = (self.turn + 1) % OPERATORS;
        self.call_as(operator, request)
    }

    /// Makes a request of an operator and returns its answer. Time passes when no event is pending. The other operator
    /// tries to cancel and to fetch the job.
    pub fn call_as(&mut self, operator: usize, request: Request) -> Result<Answer, Refusal> {
        let other = (operator + 1) % OPERATORS;
        let before = self.notified[operator];
        let job = match self.begin_as(operator, &request) {
            Ok(answer) => {
                self.run();
                return answer;
            }
            Err(job) => job,
        };
        for _ in 0..500 {
            self.run();
            self.cancel_as(other, job);
            let stolen = self.poll_as(other, job);
            let refused = matches!(&stolen, Some(Err(Refusal::NoSuchJob(number))) if *number == job);
            assert!(refused, "another operator's job: {stolen:?}");
            if let Some(answer) = self.poll_as(operator, job) {
                assert!(
                    self.notified[operator] > before,
                    "the end of {request:?} was not told"
                );
                return answer;
            }
            self.tick();
        }
        panic!("no answer to {request:?}");
    }

    pub fn done(&mut self, request: Request) -> String {
        match self.call(request.clone()) {
            Ok(Answer::Done(done)) => operator_cli::done::words(&done),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// Returns the refusal of a request, as one line.
    pub fn refused(&mut self, request: Request) -> String {
        match self.call(request.clone()) {
            Err(why) => why.words().to_string(),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    pub fn create(&mut self, name: &str) -> Result<Answer, Refusal> {
        self.call(Request::Create {
            name: name.into(),
            families: None,
            start: true,
            memory: None,
        })
    }

    pub fn delete(&mut self, name: &str) -> Result<Receipt, Refusal> {
        let answer = self.call(Request::Delete {
            name: name.into(),
            deadline_ms: 0,
        })?;
        let Answer::Receipt(receipt) = answer else {
            panic!("{answer:?}")
        };
        Ok(receipt)
    }

    pub fn assign(&mut self, device: &str, brane: &str) -> Result<Answer, Refusal> {
        self.call(assign(device, brane))
    }

    /// Makes an audit, in which all three views must agree.
    pub fn clean(&mut self) -> Audit {
        let answer = self.call(Request::Audit).unwrap();
        let Answer::Audit(audit) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(audit.findings, [""; 0], "the audit is clean");
        audit
    }

    pub fn free(&mut self) -> Free {
        self.clean().free
    }

    pub fn state(&self, name: &str) -> &'static str {
        let found = self.manager.instances.find(name);
        found.map_or("gone", |b| b.state.word())
    }

    /// Returns the owner of a device, as `brane/interface`.
    pub fn owner(&mut self, device: &str) -> String {
        let Ok(Answer::Devices(all)) = self.call(Request::Devices) else {
            panic!()
        };
        let found = all
            .into_iter()
            .find(|d| d.config.name == device)
            .expect("there is such a device");
        found
            .ifnet
            .owner()
            .map_or("unattached".into(), |o| format!("{}/{}", o.brane, o.interface))
    }

    /// Returns the names of the events so far, with their subjects.
    pub fn events(&mut self, after: u64) -> Vec<String> {
        let Ok(Answer::Events(all)) = self.call(Request::Events { after, wait: true }) else {
            panic!()
        };
        let text = |e: &brane_abi::operator::Event| {
            let to = [&e.brane, &e.device].into_iter().flatten();
            to.fold(e.what.clone(), |text, name| format!("{text} {name}"))
        };
        all.iter().map(text).collect()
    }

    pub fn subscribe(&mut self, k: usize, wants: &Subscription) {
        let payload = minicbor::to_vec(wants).unwrap();
        let all = |transition| wants.transitions.contains(transition);
        self.subscribers[k].partial |= !Transition::ALL.iter().all(all);
        self.events.push_back(Pending::Report(
            child::subscriber(k),
            request::SUBSCRIBE,
            OWN,
            payload,
        ));
        self.run();
    }

    pub fn leave(&mut self, k: usize) {
        self.events.push_back(Pending::Report(
            child::subscriber(k),
            request::LEAVE,
            OWN,
            Vec::new(),
        ));
        self.run();
    }

    /// Lets a hanging subscriber answer its last notification; it hangs again afterwards. Returns false if there was
    /// none.
    pub fn answers(&mut self, k: usize) -> bool {
        let Some(token) = self.subscribers[k].asked.take() else {
            return false;
        };
        let report = Pending::Report(child::subscriber(k), request::ACK, token, Vec::new());
        self.events.push_back(report);
        self.run();
        true
    }

    /// Removes and returns a subscriber's notifications, in words.
    pub fn notifications(&mut self, k: usize) -> Vec<String> {
        let text = |t: &Notification| {
            let replay = if t.replay { " again" } else { "" };
            let protocol = t.protocol.map_or(String::new(), |p| format!(" {}", p.name()));
            let was = t
                .former_name
                .as_ref()
                .map_or(String::new(), |was| format!(" was {was}"));
            let (transition, brane, family) = (t.transition.name(), &t.brane, t.family.name());
            format!("{transition} {brane} {family}{protocol}{was}{replay}")
        };
        std::mem::take(&mut self.subscribers[k].told)
            .iter()
            .map(text)
            .collect()
    }
}

pub fn assign(device: &str, brane: &str) -> Request {
    Request::Assign {
        device: device.into(),
        brane: brane.into(),
        interface: None,
        addressing: Some(Addressing::default()),
    }
}
