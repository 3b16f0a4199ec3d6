//! A whole system around the manager: branes and watchers that answer as real ones do, or fail in a way that a test wants.

use super::Nics;
use crate::boot::BootConfig;
use crate::{Action, Child, Event, Manager, Reply, Size};
use brane_abi::control::{
    BraneConfig, BraneStatus, InterfaceConfig, InterfaceStatus, Rename, command, report as kind,
};
use brane_abi::hooks::{Subscription, Told, say, tell};
use brane_abi::inside;
use brane_abi::net::MacAddr;
use brane_abi::operator::{Addressing, Answer, Audit, Free, Receipt, Refusal, Request};
use std::collections::VecDeque;

/// How a brane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It does what it is told.
    #[default]
    Honest,
    /// It answers no command of this kind.
    Deaf(u32),
    /// It refuses commands of this kind.
    Refuses(u32),
    /// It faults at commands of this kind.
    Dies(u32),
}

/// A brane's protection domain.
#[derive(Clone, Debug, Default)]
pub struct Pd {
    pub running: bool,
    pub config: Option<BraneConfig>,
    pub started: bool,
    pub manner: Manner,
}

/// A watcher: what it was told, in order.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    pub told: Vec<Told>,
    pub said: Vec<u32>,
    /// It answers nothing any more.
    pub hangs: bool,
    /// It faults at the next thing that it is told.
    pub dies: bool,
}

pub struct World {
    pub manager: Manager,
    pub nics: Nics,
    pub now: u64,
    pub branes: Vec<Pd>,
    pub watchers: Vec<Watcher>,
    pub log: Vec<String>,
    /// Stops and restarts of brane domains, as they came.
    pub resets: u32,
    /// Children that were started for another tenant, in order.
    pub renewed: Vec<Child>,
    events: VecDeque<Pending>,
}

#[derive(Debug)]
enum Pending {
    LinkUp(Child),
    Fault(Child),
    Report(Child, u32, u32, Vec<u8>),
}

/// The token of what a watcher says on its own.
const OWN: u32 = 7;

impl World {
    pub fn with(boot: BootConfig, instances: usize, nics: usize) -> World {
        let mut nics = Nics::new(nics);
        let mut actions = Vec::new();
        let size = Size {
            instances,
            watchers: 2,
            operators: 2,
        };
        let manager = Manager::new(1, Ok(boot), size, &mut nics, &mut actions);
        let mut world = World {
            manager,
            nics,
            now: 1,
            branes: vec![Pd::default(); instances],
            watchers: vec![Watcher::default(); 2],
            log: Vec::new(),
            resets: 0,
            renewed: Vec::new(),
            events: VecDeque::new(),
        };
        for brane in 0..instances {
            world.comes_up(brane);
        }
        for k in 0..2 {
            world.events.push_back(Pending::LinkUp(Child::Watcher(k)));
        }
        world.obey(actions);
        world.run();
        world
    }

    fn comes_up(&mut self, brane: usize) {
        let manner = self.branes[brane].manner;
        self.branes[brane] = Pd {
            running: true,
            manner,
            ..Pd::default()
        };
        self.events.push_back(Pending::LinkUp(Child::Brane(brane)));
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Renew(child) = action {
                self.renewed.push(child);
            }
            match action {
                Action::Log(text) => {
                    assert!(text.is_ascii(), "{text:?}");
                    self.log.push(text);
                }
                Action::Notify(_) => {}
                Action::Stop(Child::Brane(brane)) => {
                    self.branes[brane].running = false;
                    self.events
                        .retain(|e| !matches!(e, Pending::LinkUp(c) | Pending::Fault(c) | Pending::Report(c, ..) if *c == Child::Brane(brane)));
                }
                Action::Renew(Child::Brane(brane)) | Action::Restart(Child::Brane(brane)) => {
                    assert!(
                        !self.branes[brane].running,
                        "brane {brane} was restarted while it ran"
                    );
                    self.resets += 1;
                    self.comes_up(brane);
                }
                Action::Stop(_) => {}
                Action::Restart(Child::Watcher(k)) => {
                    self.watchers[k] = Watcher::default();
                    self.events.push_back(Pending::LinkUp(Child::Watcher(k)));
                }
                Action::Restart(Child::Client(_)) | Action::Renew(_) => {}
                Action::Send {
                    child: Child::Brane(brane),
                    kind,
                    token,
                    payload,
                } => self.command(brane, kind, token, &payload),
                Action::Send {
                    child: Child::Watcher(k),
                    kind,
                    token,
                    payload,
                } => self.tell(k, kind, token, &payload),
                Action::Send { .. } => panic!("clients have no ring"),
            }
        }
    }

    fn tell(&mut self, k: usize, kind: u32, token: u32, payload: &[u8]) {
        let watcher = &mut self.watchers[k];
        watcher.said.push(kind);
        if kind == tell::TRANSITION {
            watcher.told.push(minicbor::decode(payload).unwrap());
            if watcher.dies {
                self.events.push_back(Pending::Fault(Child::Watcher(k)));
            } else if !watcher.hangs {
                self.events
                    .push_back(Pending::Report(Child::Watcher(k), say::DONE, token, Vec::new()));
            }
        }
    }

    fn command(&mut self, brane: usize, kind: u32, token: u32, payload: &[u8]) {
        let pd = &mut self.branes[brane];
        assert!(pd.running, "a command to brane {brane}, which stands still");
        let child = Child::Brane(brane);
        let mut answer = |kind, payload| {
            self.events
                .push_back(Pending::Report(child, kind, token, payload))
        };
        match pd.manner {
            Manner::Deaf(k) if k == kind => return,
            Manner::Refuses(k) if k == kind => return answer(kind::REFUSED, b"I do not want to".to_vec()),
            Manner::Dies(k) if k == kind => {
                pd.running = false;
                return self.events.push_back(Pending::Fault(child));
            }
            _ => {}
        }
        let no = |why: &str| (kind::REFUSED, why.as_bytes().to_vec());
        let done = (kind::DONE, Vec::new());
        let (kind, payload) = match kind {
            command::CONFIGURE => {
                assert!(pd.config.is_none(), "brane {brane} is configured once in a life");
                let config: BraneConfig = minicbor::decode(payload).unwrap();
                pd.started = !config.held;
                pd.config = Some(config);
                (kind::CONFIGURED, Vec::new())
            }
            command::START => {
                assert!(pd.config.is_some() && !pd.started);
                pd.started = true;
                done
            }
            command::SHUTDOWN => {
                pd.started = false;
                (kind::DRAINED, 3u32.to_le_bytes().to_vec())
            }
            command::HEARTBEAT => (kind::ALIVE, Vec::new()),
            command::CRASH => {
                pd.running = false;
                return self.events.push_back(Pending::Fault(child));
            }
            command::HANG => {
                pd.manner = Manner::Deaf(command::HEARTBEAT);
                return;
            }
            command::REPORT => (kind::STATUS, minicbor::to_vec(pd.status()).unwrap()),
            command::ATTACH => {
                let interface: InterfaceConfig = minicbor::decode(payload).unwrap();
                let config = pd.config.as_mut().unwrap();
                assert!(
                    config
                        .interfaces
                        .iter()
                        .all(|i| i.name != interface.name && i.port != interface.port)
                );
                config.interfaces.push(interface);
                done
            }
            command::DETACH => {
                let name = std::str::from_utf8(payload).unwrap();
                let interfaces = &mut pd.config.as_mut().unwrap().interfaces;
                let before = interfaces.len();
                interfaces.retain(|i| i.name != name);
                assert_eq!(interfaces.len() + 1, before, "{name}");
                done
            }
            command::ADJUST => {
                let interface: InterfaceConfig = minicbor::decode(payload).unwrap();
                let interfaces = &mut pd.config.as_mut().unwrap().interfaces;
                let place = interfaces.iter_mut().find(|i| i.name == interface.name);
                *place.unwrap() = interface;
                done
            }
            command::RENAME => {
                let rename: Rename = minicbor::decode(payload).unwrap();
                let config = pd.config.as_mut().unwrap();
                match rename.interface {
                    None => config.name = rename.to,
                    Some(from) => {
                        config
                            .interfaces
                            .iter_mut()
                            .find(|i| i.name == from)
                            .unwrap()
                            .name = rename.to;
                    }
                }
                done
            }
            command::QUERY => {
                let _: inside::Query = minicbor::decode(payload).unwrap();
                let answer = inside::Answer::Interfaces(pd.status().interfaces);
                (kind::ANSWER, minicbor::to_vec(answer).unwrap())
            }
            _ => no("unknown"),
        };
        answer(kind, payload);
    }

    fn step(&mut self) -> bool {
        let Some(pending) = self.events.pop_front() else {
            return false;
        };
        let mut actions = Vec::new();
        let event = match &pending {
            Pending::LinkUp(child) => Event::LinkUp(*child),
            Pending::Fault(child) => Event::Fault {
                child: *child,
                what: "invalid instruction",
            },
            Pending::Report(child, kind, token, payload) => Event::Report {
                child: *child,
                kind: *kind,
                token: *token,
                payload,
            },
        };
        self.manager.handle(self.now, event, &mut self.nics, &mut actions);
        self.obey(actions);
        true
    }

    /// Lets everybody work until nobody has anything to do at this time.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
            self.now += 1_000;
        }
        panic!("the system does not come to rest");
    }

    /// Lets the time pass to the next deadline.
    pub fn tick(&mut self) {
        self.now = self.now.max(self.manager.deadline().expect("something is due"));
        self.pass(0);
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms * 1_000_000;
        let mut actions = Vec::new();
        self.manager
            .handle(self.now, Event::Tick, &mut self.nics, &mut actions);
        self.obey(actions);
        self.run();
    }

    /// Lets the time pass until a brane is there.
    pub fn until_started(&mut self, name: &str) {
        for _ in 0..100 {
            if self.state(name) == "started" {
                return;
            }
            self.tick();
        }
        panic!("{name} is {}", self.state(name));
    }

    /// Begins a request: its answer, or the job.
    pub fn begin(&mut self, request: &Request) -> Result<Result<Answer, Refusal>, u32> {
        let text = minicbor::to_vec(request).unwrap();
        assert!(text.len() <= brane_abi::operator::MAX_REQUEST);
        self.ask(brane_abi::operator::CALL, &text)
    }

    fn ask(&mut self, label: u64, argument: &[u8]) -> Result<Result<Answer, Refusal>, u32> {
        let mut actions = Vec::new();
        let Reply { label, text, job } =
            self.manager
                .operator(self.now, 1, label, argument, &mut self.nics, &mut actions);
        self.obey(actions);
        match label {
            brane_abi::operator::OK => Ok(Ok(minicbor::decode(&text).unwrap())),
            brane_abi::operator::ERROR => Ok(Err(minicbor::decode(&text).unwrap())),
            _ => Err(job),
        }
    }

    /// Nobody waits for a job any more.
    pub fn cancel(&mut self, job: u32) {
        let label = brane_abi::operator::CANCEL;
        assert!(self.ask(label, &job.to_le_bytes()).is_ok());
    }

    /// The answer to a job, if it is there.
    pub fn poll(&mut self, job: u32) -> Option<Result<Answer, Refusal>> {
        self.ask(brane_abi::operator::POLL, &job.to_le_bytes()).ok()
    }

    /// A request from its beginning to its answer; time passes where nothing else happens.
    pub fn call(&mut self, request: Request) -> Result<Answer, Refusal> {
        let job = match self.begin(&request) {
            Ok(answer) => {
                self.run();
                return answer;
            }
            Err(job) => job,
        };
        for _ in 0..500 {
            self.run();
            if let Some(answer) = self.poll(job) {
                return answer;
            }
            self.tick();
        }
        panic!("no answer to {request:?}");
    }

    pub fn done(&mut self, request: Request) -> String {
        match self.call(request.clone()) {
            Ok(Answer::Done(said)) => said,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// The refusal of a request, as one line.
    pub fn refused(&mut self, request: Request) -> String {
        match self.call(request.clone()) {
            Err(Refusal { what, help }) => format!("{what}: {help}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    pub fn create(&mut self, name: &str) -> Result<Answer, Refusal> {
        self.call(Request::Create {
            name: name.into(),
            families: None,
            start: true,
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

    /// An audit; all three views agree.
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
        let found = self
            .manager
            .branes
            .iter()
            .find(|b| b.config.is_some() && b.name() == name);
        found.map_or("gone", |b| b.state.word())
    }

    /// Who has a device, as `brane/interface`.
    pub fn owner(&mut self, device: &str) -> String {
        let Ok(Answer::Devices(all)) = self.call(Request::Devices) else {
            panic!()
        };
        let found = all
            .into_iter()
            .find(|d| d.config.name == device)
            .expect("there is such a device");
        found
            .owner
            .map_or("home".into(), |o| format!("{}/{}", o.brane, o.interface))
    }

    /// The names of the events so far, with what they happened to.
    pub fn events(&mut self, after: u64) -> Vec<String> {
        let Ok(Answer::Events(all)) = self.call(Request::Events(after)) else {
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
        self.events
            .push_back(Pending::Report(Child::Watcher(k), say::SUBSCRIBE, OWN, payload));
        self.run();
    }

    pub fn leave(&mut self, k: usize) {
        self.events
            .push_back(Pending::Report(Child::Watcher(k), say::LEAVE, OWN, Vec::new()));
        self.run();
    }

    /// What a watcher was told, in words, and forgets.
    pub fn told(&mut self, k: usize) -> Vec<String> {
        let text = |t: &Told| {
            let replay = if t.replay { " again" } else { "" };
            format!("{} {} {}{replay}", t.transition.name(), t.brane, t.family.name())
        };
        std::mem::take(&mut self.watchers[k].told)
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

impl Pd {
    fn status(&self) -> BraneStatus {
        let named = |name: &str, device: &str, mac| InterfaceStatus {
            name: name.into(),
            device: device.into(),
            mac,
            ..InterfaceStatus::default()
        };
        let mut interfaces = vec![named("lo0", "lo", MacAddr::default())];
        let config = self.config.iter().flat_map(|c| &c.interfaces);
        interfaces.extend(config.map(|i| named(&i.name, &i.device, i.mac)));
        BraneStatus {
            interfaces,
            counters: Vec::new(),
        }
    }
}
