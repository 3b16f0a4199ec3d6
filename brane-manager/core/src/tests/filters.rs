//! Registrations of external filters: checks, what each brane gets, restarts of filters and of branes.

use super::meanwhile::rename;
use super::*;
use crate::testing::{World, child};
use brane_abi::hook::{Head, HookConfig, Registration, notice, request};

fn registration() -> Registration {
    Registration {
        name: "test".into(),
        rank: 100,
        branes: None,
        heads: vec![Head::InetIn],
        headers: None,
        deadline_ms: 100,
        fail_open: false,
    }
}

fn record(w: &mut World, filter: usize, kind: u32, token: u32, payload: &[u8]) {
    w.event(Event::Report {
        child: child::filter(filter),
        kind,
        token,
        payload,
    });
    w.run();
}

fn register(w: &mut World, filter: usize, registration: &Registration) -> u32 {
    let payload = minicbor::to_vec(registration).unwrap();
    record(w, filter, request::REGISTER, 5, &payload);
    let (kind, token) = *w.filters[filter].last().unwrap();
    assert_eq!(token, 5);
    kind
}

/// Returns the hooks that the brane of this instance has.
fn hooks(w: &World, instance: usize) -> Vec<HookConfig> {
    w.branes[instance]
        .config
        .as_ref()
        .map_or(Vec::new(), |c| c.hooks.clone())
}

fn numbers(w: &World, instance: usize) -> Vec<u8> {
    hooks(w, instance).iter().map(|hook| hook.filter).collect()
}

#[test]
fn running_branes_get_a_registration_at_once_and_lose_it_when_the_filter_leaves() {
    let mut w = World::with(boot(), 4, 1);
    assert_eq!(register(&mut w, 1, &registration()), notice::REGISTERED);
    for instance in 0..boot().branes.len() {
        let [hook] = &hooks(&w, instance)[..] else {
            panic!()
        };
        assert_eq!((hook.filter, hook.name.as_str(), hook.rank), (1, "test", 100));
        assert_eq!((hook.deadline_ms, hook.fail_open), (100, false));
    }
    let other = Registration {
        name: "other".into(),
        branes: Some(vec!["red".into()]),
        ..registration()
    };
    assert_eq!(register(&mut w, 0, &other), notice::REGISTERED);
    let red = w.manager.brane("red").unwrap().index();
    assert_eq!(numbers(&w, red), [0, 1]);
    record(&mut w, 1, request::LEAVE, 6, &[]);
    assert_eq!(w.filters[1].last(), Some(&(notice::LEFT, 6)));
    for instance in 0..boot().branes.len() {
        assert_eq!(numbers(&w, instance).is_empty(), instance != red);
    }
}

#[test]
fn a_brane_that_is_created_later_has_its_hooks_in_its_configuration() {
    let mut w = World::with(boot(), 4, 1);
    register(&mut w, 0, &registration());
    let events = w.events(0);
    assert!(
        events.iter().any(|e| e.contains("filter-registered")),
        "{events:?}"
    );
    w.create("late").unwrap();
    let late = w.manager.brane("late").unwrap().index();
    assert_eq!(numbers(&w, late), [0]);
    assert_eq!(w.branes[late].hooks_at_configuration, 1);
}

#[test]
fn a_restarted_brane_has_its_hooks_again_and_a_rename_changes_them() {
    let mut w = World::with(boot(), 4, 1);
    let named = Registration {
        branes: Some(vec!["red".into()]),
        ..registration()
    };
    register(&mut w, 0, &named);
    let red = w.manager.brane("red").unwrap().index();
    w.faults(red);
    w.run();
    assert_eq!(numbers(&w, red), [0]);
    assert_eq!(w.branes[red].hooks_at_configuration, 1);
    w.call(rename("red", "crimson")).unwrap();
    assert!(numbers(&w, red).is_empty());
    w.call(rename("crimson", "red")).unwrap();
    assert_eq!(numbers(&w, red), [0]);
}

#[test]
fn a_registration_that_cannot_be_is_refused_and_changes_nothing() {
    let mut w = World::with(boot(), 3, 1);
    register(&mut w, 0, &registration());
    let bad = [
        Registration {
            heads: Vec::new(),
            ..registration()
        },
        Registration {
            heads: vec![Head::InetIn, Head::InetIn],
            ..registration()
        },
        Registration {
            deadline_ms: 0,
            ..registration()
        },
        Registration {
            deadline_ms: 1001,
            ..registration()
        },
        Registration {
            headers: Some(257),
            ..registration()
        },
        Registration {
            name: "filter".into(),
            ..registration()
        },
        Registration {
            name: String::new(),
            ..registration()
        },
        Registration {
            branes: Some(vec!["red".into(); 17]),
            ..registration()
        },
    ];
    for registration in bad {
        assert_eq!(
            register(&mut w, 0, &registration),
            notice::REFUSED,
            "{registration:?}"
        );
    }
    // The name of another hook.
    assert_eq!(register(&mut w, 1, &registration()), notice::REFUSED);
    record(&mut w, 1, request::REGISTER, 5, b"\xff");
    assert_eq!(w.filters[1].last(), Some(&(notice::REFUSED, 5)));
    assert_eq!(numbers(&w, 0), [0]);
}

#[test]
fn a_filter_that_faults_restarts_and_its_hooks_stay() {
    let mut w = World::with(boot(), 3, 1);
    register(&mut w, 0, &registration());
    w.running_filters[0] = false;
    w.event(Event::Fault {
        child: child::filter(0),
        what: "invalid instruction",
    });
    w.run();
    assert!(w.running_filters[0], "it restarts at once");
    assert_eq!(numbers(&w, 0), [0], "a hook that fails closed stays closed");
    assert_eq!(register(&mut w, 0, &registration()), notice::REGISTERED);
}

#[test]
fn a_filter_that_does_not_answer_or_breaks_the_protocol_is_restarted() {
    for how in 0..3 {
        let mut w = World::with(boot(), 3, 1);
        register(&mut w, 0, &registration());
        let stopped = |w: &mut World| {
            w.log.iter().any(|line| line.starts_with("filter0 failed")) && w.running_filters[0]
        };
        match how {
            0 => {
                for _ in 0..5 {
                    w.pass(1000);
                }
            }
            1 => record(&mut w, 0, 99, 0, &[]),
            _ => record(&mut w, 0, request::ALIVE, 12345, &[]),
        }
        w.pass(6000);
        assert!(stopped(&mut w), "{how}: {:?}", w.log);
    }
}

#[test]
fn a_filter_that_answers_heartbeats_runs_on() {
    let mut w = World::with(boot(), 3, 1);
    register(&mut w, 0, &registration());
    for _ in 0..6 {
        w.pass(1000);
        if let Some((notice::HEARTBEAT, token)) = w.filters[0].last().copied() {
            record(&mut w, 0, request::ALIVE, token, &[]);
        }
    }
    let beats = w.filters[0].iter().filter(|(kind, _)| *kind == notice::HEARTBEAT);
    assert!(beats.count() >= 4);
    assert!(
        !w.log.iter().any(|line| line.contains("filter0 failed")),
        "{:?}",
        w.log
    );
}
