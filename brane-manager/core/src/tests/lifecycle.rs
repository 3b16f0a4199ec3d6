//! The lifecycle of a brane: created, started, shut down, deleted, and the state after a failure in between.

use super::*;
use crate::testing::{Manner, World};
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::operator::{Answer, Request};
use operator_cli::refusals::Words;

pub(super) fn named(name: &str) -> String {
    name.into()
}

pub(super) fn held(name: &str) -> Request {
    Request::Create {
        name: name.into(),
        families: None,
        start: false,
        memory: None,
    }
}

#[test]
fn a_brane_is_created_started_shut_down_and_deleted_while_others_stay() {
    let mut w = World::new();
    let before = w.free();
    assert_eq!(
        w.done(held("green")),
        "green is created; `branectl start green` starts it"
    );
    assert_eq!(w.state("green"), "created");
    assert!(!w.branes[3].started, "nothing passes before it is started");
    assert_eq!(w.done(Request::Start(named("green"))), "green is started");
    assert!(w.branes[3].started);
    assert_eq!(w.done(Request::Start(named("green"))), "green is started already");
    let shutdown = Request::Shutdown {
        name: named("green"),
        deadline_ms: 100,
    };
    assert!(w.done(shutdown.clone()).ends_with("3 connections were aborted"));
    assert_eq!(w.state("green"), "created");
    assert_eq!(w.done(shutdown), "green is shut down already");
    w.done(Request::Start(named("green")));
    let receipt = w.delete("green").unwrap();
    assert_eq!(w.state("green"), "gone");
    assert_eq!(receipt.after, before, "everything is free again");
    assert_eq!(receipt.before.slots + 1, receipt.after.slots);
    assert_eq!(w.free(), before);
    assert_eq!(w.branes[3].config, None, "the domain is pristine");
    for (i, name) in ["main", "red", "blue"].iter().enumerate() {
        assert_eq!(w.state(name), "started");
        assert_eq!(w.manager.instances[BraneId::new(i)].restarts, 0);
    }
    let lifecycle = [
        "created green",
        "started green",
        "shutdown green",
        "started green",
        "shutdown green",
        "deleted green",
    ];
    let events: Vec<_> = w.events(0).into_iter().filter(|e| e.ends_with("green")).collect();
    assert_eq!(events, lifecycle);
}

#[test]
fn a_deleted_brane_drains_first_where_it_is_given_time() {
    let mut w = World::new();
    w.create("green").unwrap();
    let delete = Request::Delete {
        name: named("green"),
        deadline_ms: 200,
    };
    let Ok(Answer::Receipt(receipt)) = w.call(delete) else {
        panic!()
    };
    assert_eq!((receipt.name.as_str(), receipt.aborted), ("green", 3));
}

#[test]
fn a_brane_lives_until_it_is_deleted_with_or_without_clients() {
    let mut w = World::new();
    w.create("green").unwrap();
    for _ in 0..20 {
        w.client_faults(3);
        w.pass(60_000);
        assert!(w.clients[3]);
    }
    assert_eq!(
        (w.state("green"), w.manager.instances[BraneId::new(3)].restarts),
        ("started", 0)
    );
}

#[test]
fn whatever_fails_in_a_create_leaves_nothing() {
    for kind in [command::CONFIGURE, command::START] {
        for manner in [Manner::Refuses(kind), Manner::Dies(kind), Manner::Deaf(kind)] {
            let mut w = World::new();
            let before = w.free();
            w.branes[3].manner = manner;
            let answer = w.create("green");
            if kind == command::START {
                // A start cannot fail: a brane that faults during it is restarted.
                w.branes[3].manner = Manner::Honest;
                continue;
            }
            let why = answer.unwrap_err();
            assert!(
                why.words().what.starts_with("the brane could not be created: "),
                "{manner:?} {why:?}"
            );
            assert_eq!(why.words().fix, "nothing of it is left");
            w.branes[3].manner = Manner::Honest;
            w.run();
            assert_eq!(w.state("green"), "gone");
            assert_eq!(w.free(), before, "{manner:?}");
            w.create("green").unwrap();
            assert_eq!(w.state("green"), "started");
        }
    }
}

#[test]
fn for_every_k_the_failure_of_the_kth_create_leaves_what_was_there() {
    // All instances except those of the boot are free. The k-th creation fails, in each possible way.
    for k in 0..4 {
        for manner in [
            Manner::Refuses(command::CONFIGURE),
            Manner::Dies(command::CONFIGURE),
            Manner::Deaf(command::CONFIGURE),
        ] {
            let mut w = World::with(boot(), 7, 1);
            for i in 0..k {
                w.create(&format!("b{i}")).unwrap();
            }
            let before = w.free();
            w.branes[3 + k].manner = manner;
            w.create("last").unwrap_err();
            w.branes[3 + k].manner = Manner::Honest;
            assert_eq!(w.free(), before, "{k} {manner:?}");
            for i in 0..k {
                assert_eq!(w.state(&format!("b{i}")), "started");
            }
            w.create("last").unwrap();
        }
    }
}

#[test]
fn a_start_that_kills_the_brane_is_tried_again_until_it_is_there() {
    let mut w = World::new();
    w.done(held("green"));
    w.branes[3].manner = Manner::Dies(command::START);
    assert_eq!(w.done(Request::Start(named("green"))), "green is started");
    assert_eq!(
        (w.state("green"), w.manager.instances[BraneId::new(3)].restarts),
        ("started", 1)
    );
}

#[test]
fn a_brane_that_does_not_drain_is_reset_and_held_all_the_same() {
    let mut w = World::new();
    w.create("green").unwrap();
    w.branes[3].manner = Manner::Deaf(command::SHUTDOWN);
    let resets = w.resets;
    w.done(Request::Shutdown {
        name: named("green"),
        deadline_ms: 50,
    });
    assert_eq!((w.state("green"), w.resets), ("created", resets + 1));
    assert!(!w.branes[3].started);
    w.branes[3].manner = Manner::Deaf(command::SHUTDOWN);
    w.done(Request::Start(named("green")));
    let delete = Request::Delete {
        name: named("green"),
        deadline_ms: 50,
    };
    w.call(delete).unwrap();
    assert_eq!(w.state("green"), "gone");
}

#[test]
fn a_crash_at_any_point_of_a_deletion_only_hastens_it() {
    for kind in [command::SHUTDOWN, command::REPORT] {
        let mut w = World::new();
        let before = w.free();
        w.create("green").unwrap();
        w.branes[3].manner = Manner::Dies(kind);
        w.call(Request::Delete {
            name: named("green"),
            deadline_ms: 100,
        })
        .unwrap();
        w.branes[3].manner = Manner::Honest;
        assert_eq!((w.state("green"), w.free()), ("gone", before));
    }
}

#[test]
fn what_cannot_be_is_refused_with_thing_and_remedy() {
    let mut w = World::new();
    let create = |name: &str| Request::Create {
        name: name.into(),
        families: None,
        start: true,
        memory: None,
    };
    assert_eq!(
        w.refused(create("red")),
        "the name \"red\" is taken by a brane: choose another one"
    );
    assert_eq!(
        w.refused(create(&"x".repeat(34))),
        "name too long: 34 bytes, 31 allowed: choose a shorter one"
    );
    w.create("green").unwrap();
    w.create("gold").unwrap();
    assert_eq!(
        w.refused(create("grey")),
        "no free instance for \"grey\": all 5 are in use: delete a brane, or raise `instances` in configs.toml and \
         build the image again"
    );
    let delete = |name: &str| Request::Delete {
        name: name.into(),
        deadline_ms: 0,
    };
    assert!(
        w.refused(delete("main"))
            .starts_with("\"main\" is the primary brane, which is never deleted: ")
    );
    assert_eq!(
        w.refused(delete("gren")),
        "no brane named \"gren\": the branes are main, red, blue, green, gold"
    );
    let twice = vec![FamilyConfig {
        family: Family::Inet,
        protocols: vec![Protocol::Icmp6],
    }];
    assert_eq!(
        w.refused(Request::Create {
            name: named("x"),
            families: Some(twice),
            start: true,
            memory: None,
        }),
        "family inet has no protocol icmp6: the protocols are icmp, udp, tcp"
    );
    w.manager
        .operator(w.now, OperatorId::new(0), 99, &[], &mut w.nics, &mut Vec::new());
    let rubbish = w.manager.operator(
        w.now,
        OperatorId::new(0),
        brane_abi::operator::CALL,
        &[0xff; 40],
        &mut w.nics,
        &mut Vec::new(),
    );
    assert_eq!(rubbish.label, brane_abi::operator::ERROR);
}

#[test]
fn a_brane_can_be_created_with_a_subset_of_protocols() {
    let mut w = World::new();
    let families = vec![FamilyConfig {
        family: Family::Inet6,
        protocols: vec![Protocol::Icmp6, Protocol::Udp],
    }];
    w.done(Request::Create {
        name: named("six"),
        families: Some(families.clone()),
        start: true,
        memory: None,
    });
    let told = w.branes[3].config.as_ref().unwrap().families.clone();
    assert_eq!(told, Some(families.clone()));
    // After a restart the brane gets these families again.
    w.done(Request::Crash(named("six")));
    w.run();
    assert_eq!(w.branes[3].config.as_ref().unwrap().families, Some(families));
}

#[test]
fn a_brane_gets_another_name() {
    let mut w = World::new();
    let rename = |from: &str, to: &str| Request::RenameBrane {
        from: from.into(),
        to: to.into(),
    };
    assert_eq!(w.done(rename("red", "rouge")), "red is called rouge now");
    assert_eq!(w.state("rouge"), "started");
    assert_eq!(w.branes[1].config.as_ref().unwrap().name, "rouge");
    assert!(w.refused(rename("rouge", "blue")).contains("taken by a brane"));
    w.branes[1].manner = Manner::Refuses(command::RENAME);
    assert_eq!(
        w.refused(rename("rouge", "rot")),
        "the brane refuses it: I do not want to: nothing was changed"
    );
    w.clean();
    // A brane that does not answer is restarted; its name is unchanged.
    w.branes[1].manner = Manner::Deaf(command::RENAME);
    assert!(
        w.refused(rename("rouge", "rot"))
            .starts_with("the brane failed before it answered")
    );
    w.branes[1].manner = Manner::Honest;
    w.run();
    assert_eq!(
        (w.state("rouge"), w.manager.instances[BraneId::new(1)].restarts),
        ("started", 1)
    );
    w.clean();
}

#[test]
fn the_next_tenant_finds_nothing_of_the_last_one() {
    let mut w = World::new();
    w.create("green").unwrap();
    w.delete("green").unwrap();
    assert_eq!(
        w.renewed,
        [child::brane(3), child::client(3)],
        "the brane clears first, its client stands still meanwhile"
    );
    w.create("gold").unwrap();
    w.done(Request::Crash(named("gold")));
    w.run();
    assert_eq!(
        w.renewed.len(),
        2,
        "a restart of the same brane keeps what its client reads"
    );
}

#[test]
fn the_client_of_a_deleted_brane_stands_still_until_its_memory_is_cleared() {
    let mut w = World::new();
    w.create("green").unwrap();
    let delete = Request::Delete {
        name: named("green"),
        deadline_ms: 0,
    };
    let job = w.begin(&delete).unwrap_err();
    assert_eq!(w.state("green"), "gone", "its name is free");
    assert!(
        !w.clients[3],
        "the client could still read what its brane left there"
    );
    assert!(w.branes[3].scrubs && w.poll(job).is_none());
    w.run();
    assert!(w.clients[3] && !w.branes[3].used);
    assert!(w.poll(job).unwrap().is_ok());
}

#[test]
fn a_domain_that_fails_while_it_is_cleared_is_cleared_again() {
    let mut w = World::new();
    w.create("green").unwrap();
    let delete = Request::Delete {
        name: named("green"),
        deadline_ms: 0,
    };
    let job = w.begin(&delete).unwrap_err();
    // The brane faults before it opens its link; the later faults delay the restart.
    for n in 1..6 {
        w.faults(3);
        while w.renewed.len() == n {
            if !w.step() {
                w.now = w.manager.deadline().unwrap();
                w.event(Event::Tick);
            }
            assert!(!w.clients[3], "the client waits");
        }
        assert_eq!(w.renewed, vec![child::brane(3); n + 1]);
        assert!(w.branes[3].used, "nothing is cleared yet");
    }
    w.run();
    assert!(!w.branes[3].used && w.clients[3]);
    assert!(w.poll(job).unwrap().is_ok());
    assert_eq!(w.renewed.last(), Some(&child::client(3)));
}

#[test]
fn a_created_brane_is_told_its_own_number() {
    let mut w = World::new();
    for (name, number) in [("green", 3), ("gold", 4)] {
        w.create(name).unwrap();
        assert_eq!(w.branes[number].config.as_ref().unwrap().id, number as u32);
    }
}

#[test]
fn a_shutdown_waits_while_the_brane_is_on_its_way_to_either_state() {
    use brane_abi::subscription::{Subscription, Transition};
    let shutdown = |name: &str| Request::Shutdown {
        name: named(name),
        deadline_ms: 10,
    };
    // The brane must be held, but has failed and is not up again.
    let mut w = World::new();
    w.done(held("green"));
    w.faults(3);
    w.step();
    assert_eq!(w.state("green"), "restarting");
    let job = w.begin(&shutdown("green")).expect_err("it waits");
    w.run();
    assert_eq!(w.state("green"), "created");
    assert!(w.poll(job).unwrap().is_ok());
    // The brane must be started, but a subscriber must acknowledge first.
    w.subscribe(
        0,
        &Subscription {
            brane: Some(named("red")),
            family: None,
            transitions: vec![Transition::AfterCreate],
            protocols: vec![],
        },
    );
    w.subscribers[0].hangs = true;
    w.faults(1);
    w.run();
    assert_eq!(w.state("red"), "created");
    let job = w.begin(&shutdown("red")).expect_err("it waits");
    w.subscribers[0].hangs = false;
    w.answers(0);
    w.run();
    assert_eq!(w.state("red"), "created");
    assert!(w.poll(job).unwrap().is_ok());
}

#[test]
fn a_link_that_opens_while_a_brane_waits_for_its_restart_does_not_call_the_restart_off() {
    let mut bench = Bench::new();
    bench.start_all();
    let red = child::brane(1);
    while restarts(&bench.fault(red), red) {}
    assert_eq!(bench.event(Event::LinkUp(red)), []);
    bench.now = bench.manager.due().expect("a restart is due");
    assert!(restarts(&bench.tick(), red));
}
