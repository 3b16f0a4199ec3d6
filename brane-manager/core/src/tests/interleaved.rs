//! Two operators with arbitrary concurrent requests: all pairs of requests that meet, and random ones.
//!
//! The rules of [`crate::testing`] are checked after every event.

use super::filter::{add_rule, replace, stage};
use super::meanwhile::{delete, delete_device, limit, pair, remove, rename, rename_device, shutdown};
use super::*;
use crate::testing::{Manner, World, assign};
use brane_abi::operator::Addressing;
use proptest::prelude::*;

/// Returns requests that wait for a brane, or change an object of a waiting request.
fn requests() -> Vec<Request> {
    let named = |name: &str| DeviceConfig {
        name: name.into(),
        ..DeviceConfig::default()
    };
    vec![
        assign("left", "red"),
        assign("left", "blue"),
        assign("right", "blue"),
        assign("vnic1", "blue"),
        assign("vnic1", "green"),
        assign("nic1", "red"),
        remove("left"),
        remove("vnic1"),
        remove("nic1"),
        delete_device("left"),
        delete_device("right"),
        delete_device("vif9"),
        rename_device("right", "other"),
        rename_device("vif9", "right"),
        limit("left"),
        limit("vnic1"),
        Request::AddDevice(named("vif9")),
        pair(),
        delete("red"),
        delete("green"),
        shutdown("red"),
        shutdown("green"),
        Request::Start("red".into()),
        Request::Start("green".into()),
        Request::Create {
            name: "green".into(),
            families: None,
            start: true,
            memory: None,
        },
        Request::Create {
            name: "gold".into(),
            families: None,
            start: false,
            memory: None,
        },
        rename("red", "gold"),
        rename("blue", "gold"),
        Request::RenameInterface {
            brane: "red".into(),
            from: "net0".into(),
            to: "net1".into(),
        },
        Request::Adjust {
            brane: "red".into(),
            interface: "net0".into(),
            addressing: Addressing::default(),
        },
        add_rule("red", 7),
        stage("red", &[8, 9]),
        replace("red"),
        Request::Crash("red".into()),
        Request::Audit,
        Request::batch(&[remove("vnic1"), assign("vnic1", "main"), delete("red")]),
    ]
}

/// Two operators in one world. Neither waits for its jobs.
struct Two {
    world: World,
    jobs: [Vec<u32>; 2],
}

impl Two {
    fn new() -> Two {
        let mut world = World::new();
        world.done(pair());
        world.done(Request::Create {
            name: "green".into(),
            families: None,
            start: true,
            memory: None,
        });
        Two {
            world,
            jobs: [vec![], vec![]],
        }
    }

    fn ask(&mut self, operator: usize, request: &Request) {
        if let Err(job) = self.world.begin_as(operator, request) {
            self.jobs[operator].push(job);
        }
    }

    /// Makes all branes honest from here on. Checks that every job ends, every brane comes back, and no lock remains.
    fn end(mut self) {
        let w = &mut self.world;
        for brane in &mut w.branes {
            brane.manner = Manner::Honest;
        }
        for _ in 0..500 {
            w.run();
            let busy = |b: &crate::instance::Instance| {
                b.is_changing()
                    || !matches!(
                        b.state,
                        LifecycleState::Started | LifecycleState::Created | LifecycleState::Idle
                    )
            };
            // A brane that refused its configuration waits for another one.
            let refused =
                |b: &crate::instance::Instance| b.state == LifecycleState::Refused && !b.is_changing();
            let branes = &w.manager.instances;
            if w.manager.jobs.running().is_empty() && branes.iter().all(|b| !busy(b) || refused(b)) {
                break;
            }
            w.tick();
        }
        for (operator, jobs) in self.jobs.iter().enumerate() {
            for &job in jobs {
                // The result may have been displaced by later ones, but the job does not run.
                assert!(w.poll_as(operator, job).is_some(), "job {job} does not end");
            }
        }
        // A restart repairs a binding that a driver refused, and a command that a brane did not carry out.
        for brane in 0..5 {
            if w.nics.refused || w.branes[brane].strayed {
                w.faults(brane);
            }
        }
        w.run();
        w.nics.refused = false;
        w.until_started("main");
        let names: Vec<String> = w.manager.instances.iter().map(|b| b.name().into()).collect();
        for name in names.into_iter().filter(|n| !n.is_empty() && *n != "main") {
            w.call(delete(&name)).unwrap();
        }
        for device in ["left", "right", "other", "vif9", "vnic1", "vnic2"] {
            w.call(remove(device)).ok();
            w.call(delete_device(device)).ok();
        }
        let free = w.free();
        // The rest: main with net0 on vnic0, and the two NICs.
        assert_eq!((free.slots, free.names, free.vifs), (4, 5, 1));
    }
}

#[test]
fn any_two_requests_that_meet_at_any_point_of_the_first_keep_the_rules() {
    let requests = requests();
    let mut met = 0;
    for first in &requests {
        for second in &requests {
            for events in 0..4 {
                let mut two = Two::new();
                two.ask(0, first);
                for _ in 0..events {
                    two.world.step();
                }
                two.ask(1, second);
                met += 1;
                two.end();
            }
        }
    }
    assert_eq!(met, 4 * requests.len() * requests.len());
}

#[derive(Clone, Debug)]
enum Move {
    /// An operator begins the request at this index.
    Ask(usize, usize),
    See(usize),
    Pass(u64),
    Cancel(usize, usize),
    Fetch(usize, usize),
    Fault(usize),
    ClientFault(usize),
    Behave(usize, Manner),
    Refuse(u32),
}

fn moves() -> impl Strategy<Value = Move> {
    let kinds = [
        command::CONFIGURE,
        command::START,
        command::SHUTDOWN,
        command::ATTACH,
        command::DETACH,
        command::ADJUST,
        command::RENAME,
        command::FILTER,
        command::REPORT,
    ];
    let kind = proptest::sample::select(kinds.to_vec());
    let manner = prop_oneof![
        2 => Just(Manner::Honest),
        1 => kind.clone().prop_map(Manner::Deaf),
        1 => kind.clone().prop_map(Manner::Refuses),
        1 => kind.prop_map(Manner::Dies),
    ];
    prop_oneof![
        8 => (0usize..2, 0..requests().len()).prop_map(|(o, r)| Move::Ask(o, r)),
        12 => (0usize..8).prop_map(Move::See),
        2 => (0u64..3_000).prop_map(Move::Pass),
        1 => (0usize..2, 0usize..30).prop_map(|(o, j)| Move::Cancel(o, j)),
        2 => (0usize..2, 0usize..30).prop_map(|(o, j)| Move::Fetch(o, j)),
        1 => (0usize..5).prop_map(Move::Fault),
        1 => (0usize..5).prop_map(Move::ClientFault),
        2 => (0usize..5, manner).prop_map(|(b, m)| Move::Behave(b, m)),
        1 => (0u32..6).prop_map(Move::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn whatever_two_operators_do_at_once_keeps_the_rules(moves in proptest::collection::vec(moves(), 1..150)) {
        let requests = requests();
        let mut two = Two::new();
        for step in moves {
            let w = &mut two.world;
            match step {
                Move::Ask(operator, request) => two.ask(operator, &requests[request]),
                Move::See(place) => { w.step_of(place); w.now += 1_000; }
                Move::Pass(ms) => { w.now += ms * MS; w.event(Event::Tick); }
                Move::Cancel(operator, job) => {
                    // Any job, also of the other operator.
                    let all: Vec<u32> = two.jobs.iter().flatten().copied().collect();
                    if let Some(&job) = all.get(job) { w.cancel_as(operator, job) }
                }
                Move::Fetch(operator, job) => if let Some(&job) = two.jobs[operator].get(job) { w.poll_as(operator, job); },
                Move::Fault(brane) => w.faults(brane),
                Move::ClientFault(brane) => w.client_faults(brane),
                Move::Behave(brane, manner) => w.branes[brane].manner = manner,
                Move::Refuse(calls) => w.nics.refuse_after = Some(calls),
            }
        }
        two.world.nics.refuse_after = None;
        two.end();
    }
}
