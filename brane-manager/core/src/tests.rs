//! Tests of the manager: events and requests go in, actions and answers are compared.

use super::*;
use crate::boot::{BootConfig, BootError, BraneBoot};
use crate::instance::{
    CONFIGURE_TIMEOUT_NS, CRASH_TIMEOUT_NS, LINK_TIMEOUT_NS, LifecycleState, MAX_VIOLATIONS,
};
use crate::testing::child;
use crate::views::{all_stats, show};
use brane_abi::control::{BraneConfig, command, report as kind};
use brane_abi::control::{BraneStatus, Counter, InterfaceConfig};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{self, Answer, DeviceConfig, Refusal, Request};
use brane_abi::vif::{Prefix, VifLimits};
use operator_cli::refusals::Words;

mod addresses;
mod balance;
mod captures;
mod devices;
mod filter;
mod filters;
mod heartbeat;
mod interleaved;
mod jobs;
mod lifecycle;
mod limits;
mod logs;
mod meanwhile;
mod model;
mod offenders;
mod steps;
mod subscribers;
mod views;

use crate::testing::{Nics, World};

const MS: u64 = 1_000_000;
/// The brane `red`.
const RED: Child = child::brane(1);

fn boot() -> BootConfig {
    let mac = |i| MacAddr([2, 0, 0, 0, 0, i as u8]);
    let branes = ["main", "red", "blue"]
        .iter()
        .enumerate()
        .map(|(i, name)| BraneBoot {
            name: (*name).into(),
            primary: i == 0,
            interfaces: vec![InterfaceConfig {
                name: "net0".into(),
                device: format!("vnic{i}"),
                mac: mac(i),
                ..InterfaceConfig::default()
            }],
            ..BraneBoot::default()
        });
    BootConfig {
        branes: branes.collect(),
        devices: (0..3)
            .map(|i| DeviceConfig {
                name: format!("vnic{i}"),
                mac: Some(mac(i)),
                ..DeviceConfig::default()
            })
            .collect(),
        ..BootConfig::default()
    }
}

impl World {
    fn new() -> World {
        World::with(boot(), 5, 2)
    }
}

/// A system of three instances; the NIC is a real switch.
struct Bench {
    manager: Manager,
    nics: Nics,
    now: u64,
    /// Actions of the manager's start.
    boot: Vec<Action>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Ok(boot()), 3)
    }
    fn with(boot: Result<BootConfig, BootError>, instances: usize) -> Bench {
        let mut nics = Nics::new(1);
        let mut actions = Vec::new();
        let size = Size {
            instances,
            subscribers: 2,
            filters: 0,
            operators: 2,
            ports_per_nic: 2,
        };
        Bench {
            manager: Manager::new(1, boot, size, &mut nics, &mut actions),
            nics,
            now: 1,
            boot: actions,
        }
    }
    fn event(&mut self, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.manager.handle(self.now, event, &mut self.nics, &mut actions);
        actions
    }
    /// Starts a brane: link up, CONFIGURE, CONFIGURED. Returns the configuration that was sent.
    fn start(&mut self, brane: usize) -> BraneConfig {
        let actions = self.event(Event::LinkUp(child::brane(brane)));
        let [
            Action::Send {
                kind, token, payload, ..
            },
        ] = &actions[..]
        else {
            panic!("{actions:?}")
        };
        assert_eq!(*kind, command::CONFIGURE);
        self.report(brane, kind::CONFIGURED, *token, &[]);
        assert_eq!(
            self.manager.instances[BraneId::new(brane)].state,
            LifecycleState::Started
        );
        minicbor::decode(payload).unwrap()
    }
    fn start_all(&mut self) {
        for brane in 0..3 {
            self.start(brane);
        }
        assert_eq!(self.manager.due(), None);
    }
    fn report(&mut self, brane: usize, kind: u32, token: u32, payload: &[u8]) -> Vec<Action> {
        self.event(Event::Report {
            child: child::brane(brane),
            kind,
            token,
            payload,
        })
    }
    /// Lets time pass; every brane answers its heartbeat. Returns the other actions.
    fn tick(&mut self) -> Vec<Action> {
        let mut actions = self.event(Event::Tick);
        actions.retain(|action| match *action {
            Action::Send {
                child: Child::Brane(brane),
                kind,
                token,
                ..
            } if kind == command::HEARTBEAT => {
                assert_eq!(self.report(brane.index(), kind::ALIVE, token, &[]), []);
                false
            }
            _ => true,
        });
        actions
    }
    fn fault(&mut self, child: Child) -> Vec<Action> {
        self.event(Event::Fault {
            child,
            what: "invalid instruction",
        })
    }
    /// Makes a request of an operator. Returns its answer or the number of its job, and the actions.
    fn ask(&mut self, request: &Request) -> (Result<Result<Answer, Refusal>, u32>, Vec<Action>) {
        self.call(operator::CALL, &minicbor::to_vec(request).unwrap())
    }
    fn call(&mut self, label: u64, argument: &[u8]) -> (Result<Result<Answer, Refusal>, u32>, Vec<Action>) {
        let mut actions = Vec::new();
        let Reply { label, text, job } = self.manager.operator(
            self.now,
            OperatorId::new(0),
            label,
            argument,
            &mut self.nics,
            &mut actions,
        );
        let answer = match label {
            operator::OK => Ok(Ok(minicbor::decode(&text).unwrap())),
            operator::ERROR => Ok(Err(minicbor::decode(&text).unwrap())),
            _ => Err(job),
        };
        (answer, actions)
    }
    fn refused(&mut self, request: &Request) -> Refusal {
        let (answer, actions) = self.ask(request);
        assert_eq!(actions, []);
        answer.unwrap().unwrap_err()
    }
    fn poll(&mut self, job: u32) -> Answer {
        let (answer, _) = self.call(operator::POLL, &job.to_le_bytes());
        answer.expect("the job is over").unwrap()
    }
    /// Returns the manager's view of a brane, without asking the brane.
    fn shown(&mut self, name: &str) -> operator::Brane {
        let brane = self.manager.brane(name).unwrap();
        let mut actions = Vec::new();
        let cx = &mut Context {
            now: self.now,
            driver: &mut self.nics,
            actions: &mut actions,
        };
        show(&self.manager, brane, cx)
    }
}

fn crash(name: &str) -> Request {
    Request::Crash(name.into())
}

fn restarts(actions: &[Action], child: Child) -> bool {
    actions.contains(&Action::Restart(child))
}

#[test]
fn each_brane_gets_its_own_configuration_and_vif() {
    let mut bench = Bench::new();
    assert_eq!(bench.boot, []);
    let table = bench.nics.table(0);
    assert_eq!(table.len(), 3);
    assert!(
        table.iter().all(|v| v.brane == 0),
        "no frame passes before a brane is configured"
    );
    let red = bench.start(1);
    assert_eq!(
        (red.id, red.name.as_str(), red.generation, red.primary),
        (1, "red", 0, false)
    );
    assert_eq!(red.interfaces[0].device, "vnic1");
    let at: Vec<_> = bench
        .nics
        .table(0)
        .iter()
        .map(|v| (v.vif, v.brane, v.port))
        .collect();
    assert_eq!(
        at,
        [(1, 0, 0), (2, 2, 0), (3, 0, 0)],
        "1 more than the instance; number 0 is the NIC itself"
    );
    assert_eq!(bench.shown("red").state, "started");
    assert_eq!(bench.shown("main").state, "starting");
}

#[test]
fn limits_reach_the_driver_as_they_are_configured() {
    let mut boot = boot();
    let red = &mut boot.devices[1];
    let cidr = Cidr {
        ip: [10, 0, 2, 16].into(),
        prefix: 32,
    };
    (red.allow, red.rate_up, red.rate_down) = (vec![cidr], Some(5), Some(6));
    let bench = Bench::with(Ok(boot), 3);
    let limits: Vec<_> = bench.manager.devices.iter().map(|d| d.limits()).collect();
    let none = |vif| VifLimits {
        vif,
        ..VifLimits::default()
    };
    assert_eq!((limits[1], limits[3]), (none(1), none(3)));
    let mut red = VifLimits {
        allowed: 1,
        rate_up: 5,
        rate_down: 6,
        ..none(2)
    };
    red.allow[0] = Prefix::from(cidr);
    assert_eq!(limits[2], red);
    assert_eq!(bench.boot, [], "the driver takes them");
}

#[test]
fn a_hundred_crashes_each_with_a_recovery_restart_at_once() {
    let mut bench = Bench::new();
    bench.start_all();
    for n in 1..=100 {
        bench.now += 300 * MS;
        let (answer, actions) = bench.ask(&crash("red"));
        assert!(answer.unwrap().is_ok());
        assert!(matches!(
            actions[..],
            [Action::Send {
                child: RED,
                kind: command::CRASH,
                ..
            }]
        ));
        let actions = bench.fault(child::brane(1));
        assert!(restarts(&actions, child::brane(1)), "{n}: {actions:?}");
        bench.now += 5 * MS;
        assert_eq!(
            bench.start(1).generation,
            n,
            "the same configuration, the next generation"
        );
        assert_eq!(bench.manager.due(), None);
    }
    let red = bench.shown("red");
    assert_eq!((red.restarts, red.recovery_us), (100, 5000));
    assert_eq!(red.last_fault, "invalid instruction");
    assert_eq!(bench.shown("blue").restarts, 0);
}

#[test]
fn a_storm_of_crashes_waits_and_is_still_brought_back() {
    let mut bench = Bench::new();
    bench.start_all();
    let mut waited = 0;
    for _ in 0..40 {
        let mut actions = bench.fault(child::brane(2));
        if !restarts(&actions, child::brane(2)) {
            assert_eq!(bench.shown("blue").state, "failed");
            let at = bench.manager.due().expect("a restart is due");
            waited += at - bench.now;
            bench.now = at - 1;
            assert_eq!(bench.tick(), []);
            bench.now = at;
            actions = bench.tick();
        }
        assert!(restarts(&actions, child::brane(2)));
        assert_eq!(bench.shown("blue").state, "restarting");
    }
    assert!(waited > 100_000 * MS, "{waited}");
    bench.start(2);
}

#[test]
fn a_client_fault_restarts_the_client_alone() {
    let mut bench = Bench::new();
    bench.start(0);
    bench.now += 1000 * MS;
    let actions = bench.fault(child::client(0));
    let [Action::Log(_), restart] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(*restart, Action::Restart(child::client(0)));
    let main = bench.shown("main");
    assert_eq!((main.state.as_str(), main.restarts), ("started", 0));
}

#[test]
fn a_brane_that_does_not_answer_or_obey_is_stopped_first() {
    let mut bench = Bench::new();
    bench.event(Event::LinkUp(child::brane(0)));
    bench.now += CONFIGURE_TIMEOUT_NS;
    let actions = bench.tick();
    assert_eq!(actions[0], Action::Stop(child::brane(0)));
    assert!(restarts(&actions, child::brane(0)));

    bench.start(1);
    assert!(bench.ask(&crash("red")).0.unwrap().is_ok());
    bench.now += CRASH_TIMEOUT_NS;
    let actions = bench.tick();
    assert_eq!(actions[0], Action::Stop(child::brane(1)));
    assert!(restarts(&actions, child::brane(1)));
    assert!(bench.shown("red").last_fault.starts_with("did not obey"));
}

#[test]
fn a_brane_that_never_opens_its_link_is_stopped_and_started_anew_later_and_later() {
    let mut bench = Bench::new();
    bench.start(0);
    bench.start(2);
    bench.now += LINK_TIMEOUT_NS - 1;
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.shown("red").state, "starting", "a slow boot is no failure");
    let mut waited = Vec::new();
    for n in 1..20 {
        bench.now = bench.manager.due().expect("the link is awaited");
        let mut actions = bench.tick();
        assert_eq!(actions[0], Action::Stop(child::brane(1)));
        let Action::Log(text) = &actions[1] else {
            panic!("{actions:?}")
        };
        assert!(text.starts_with("brane `red` failed: did not open its control link within 30 s"));
        let since = bench.now;
        if !restarts(&actions, child::brane(1)) {
            assert_eq!(bench.shown("red").state, "failed");
            bench.now = bench.manager.due().expect("a restart is due");
            actions = bench.tick();
        }
        waited.push(bench.now - since);
        assert!(restarts(&actions, child::brane(1)));
        let red = bench.shown("red");
        assert_eq!((red.state.as_str(), red.restarts), ("restarting", n));
        assert!(red.last_fault.starts_with("did not open its control link"));
    }
    assert!(
        waited.is_sorted() && waited[0] == 0 && waited[18] == 5_000 * MS,
        "{waited:?}"
    );
    assert_eq!(bench.start(1).generation, 19, "it comes up after all");
    assert_eq!(bench.manager.due(), None);
    for name in ["main", "blue"] {
        assert_eq!(bench.shown(name).restarts, 0);
    }
}

#[test]
fn a_link_that_opens_in_time_or_before_a_failure_leaves_no_deadline() {
    let mut bench = Bench::new();
    bench.start_all();
    // A fault during the wait for the link: the wait begins anew in the next incarnation.
    bench.fault(child::brane(0));
    bench.now += LINK_TIMEOUT_NS - 1;
    bench.fault(child::brane(0));
    bench.now += 10 * MS;
    bench.tick();
    assert_eq!(bench.shown("main").restarts, 2);
    bench.start(0);
    assert_eq!(bench.manager.due(), None);
}

#[test]
fn stale_forged_and_unbelievable_reports_change_nothing_and_count() {
    let mut bench = Bench::new();
    // Before any CONFIGURE, with any token.
    for token in 0..4 {
        bench.report(0, kind::CONFIGURED, token, &[]);
        bench.report(0, kind::REFUSED, token, b"no");
        bench.report(0, kind::STATUS, token, &[0x82, 0x80, 0x80]);
    }
    assert_eq!(bench.shown("main").state, "starting");
    assert_eq!(
        bench.manager.instances[BraneId::new(0)]
            .counters
            .reports_unexpected,
        12
    );
    bench.start(0);
    bench.ask(&Request::List { fresh: true }).0.unwrap_err();
    let token = bench.manager.instances[BraneId::new(0)].reporting.unwrap().0;
    assert_eq!(bench.report(0, kind::STATUS, token, b"rubbish"), []);
    assert_eq!(
        bench.manager.instances[BraneId::new(0)].counters.reports_refused,
        1
    );
    assert_eq!(bench.shown("main").state, "started");
    // The brane continues in this way: it is stopped and restarted.
    let mut actions = Vec::new();
    for _ in 0..MAX_VIOLATIONS {
        actions.extend(bench.report(0, 77, 0, &[]));
    }
    assert!(actions.contains(&Action::Stop(child::brane(0))));
    assert_eq!(bench.shown("main").state, "restarting");
    assert!(
        bench
            .shown("main")
            .last_fault
            .contains("reports without a request")
    );
}

#[test]
fn a_link_reset_by_the_brane_itself_is_a_breach() {
    let mut bench = Bench::new();
    bench.start(0);
    let actions = bench.event(Event::LinkUp(child::brane(0)));
    assert_eq!(actions[0], Action::Stop(child::brane(0)));
}

#[test]
fn a_refused_configuration_shows_its_reason() {
    let mut bench = Bench::new();
    let actions = bench.event(Event::LinkUp(child::brane(1)));
    let [Action::Send { token, .. }] = actions[..] else {
        panic!()
    };
    bench.report(1, kind::REFUSED, token, b"no port 1\x07");
    let red = bench.shown("red");
    assert_eq!(red.state, "failed");
    assert_eq!(red.last_fault, "refused its configuration: no port 1?");
}

#[test]
fn a_status_reaches_the_operator() {
    let mut bench = Bench::new();
    bench.start(1);
    let (answer, actions) = bench.ask(&Request::List { fresh: true });
    let job = answer.unwrap_err();
    let [
        Action::Send {
            child: RED,
            kind: command::REPORT,
            token,
            ..
        },
    ] = actions[..]
    else {
        panic!("only started branes are asked: {actions:?}")
    };
    let status = BraneStatus {
        counters: vec![Counter {
            name: "udp-in".into(),
            value: 9,
        }],
        ..BraneStatus::default()
    };
    bench.report(1, kind::STATUS, token, &minicbor::to_vec(&status).unwrap());
    bench.now += 7 * MS;
    let red = bench.shown("red");
    assert_eq!((red.status_age_ms, &red.status), (7, &status));
    assert_eq!(red.vifs[0].name, "vnic1");
    assert_eq!(red.vifs[0].counters[0].name, "rx_frames");
    let Answer::Branes(list) = bench.poll(job) else {
        panic!()
    };
    assert_eq!(
        (list.len(), list[1].status_age_ms),
        (3, 7),
        "as it is when it is fetched"
    );
    let (answer, actions) = bench.ask(&Request::Stats(None));
    let [Action::Send { token, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    bench.report(1, kind::STATUS, token, &minicbor::to_vec(&status).unwrap());
    let Answer::Stats(groups) = bench.poll(answer.unwrap_err()) else {
        panic!()
    };
    let names: Vec<_> = groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "nic0",
            "vnic0",
            "vnic1",
            "vnic2",
            "main",
            "red",
            "blue",
            "manager: main",
            "manager: red",
            "manager: blue",
            "manager: others"
        ]
    );
}

#[test]
fn refusals_name_the_thing_and_the_remedy() {
    let mut bench = Bench::new();
    let why = bench.refused(&crash("rde"));
    assert_eq!(why.words().what, "no brane named \"rde\"");
    assert_eq!(why.words().fix, "the branes are main, red, blue");
    let why = bench.refused(&crash("red"));
    assert_eq!(
        why.words().what,
        "brane \"red\" is starting, it cannot be made to fault now"
    );
    bench.refused(&Request::Show(String::new()));
    for (label, argument, what) in [(99, &b""[..], "99"), (operator::CALL, b"rubbish", "not readable")] {
        let why = bench.call(label, argument).0.unwrap().unwrap_err();
        assert!(why.words().what.contains(what), "{why:?}");
    }
}

#[test]
fn without_a_boot_configuration_operators_are_told_why() {
    for boot in [Err(BootError::Checksum), Ok(boot())] {
        let mut bench = Bench::with(boot, 2);
        assert!(bench.manager.boot_error().is_some());
        assert_eq!(bench.nics.table(0).len(), 0);
        assert_eq!(bench.event(Event::LinkUp(child::brane(0))), []);
        let why = bench.refused(&Request::List { fresh: false });
        assert!(
            why.words()
                .what
                .starts_with("no brane is configured: the boot configuration cannot be used: it ")
        );
        assert!(
            restarts(&bench.fault(child::brane(1)), child::brane(1)),
            "faults are still handled"
        );
    }
}
