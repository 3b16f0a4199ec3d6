//! Subscribers: the order of what they are told, replay and its inverse, and that none can hold a brane up.

use super::*;
use crate::testing::World;
use brane_abi::control::Family;
use brane_abi::hooks::{Subscription, Transition, tell};
use brane_abi::operator::{Answer, Hook, Request};

fn all() -> Subscription {
    Subscription {
        brane: None,
        family: None,
        transitions: Transition::ALL.to_vec(),
    }
}

fn create(name: &str) -> Request {
    Request::Create {
        name: name.into(),
        families: None,
        start: true,
    }
}

/// The subscribers as operators see them.
fn listed(w: &mut World) -> Vec<Hook> {
    match w.call(Request::Hooks) {
        Ok(Answer::Hooks(hooks)) => hooks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn external_sources_are_called_after_create_after_start_before_shutdown_before_destroy() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.told(0);
    w.done(create("green"));
    assert_eq!(
        w.told(0),
        [
            "after-create green inet",
            "after-create green inet6",
            "after-start green inet",
            "after-start green inet6"
        ]
    );
    w.delete("green").unwrap();
    assert_eq!(
        w.told(0),
        [
            "before-shutdown green inet6",
            "before-shutdown green inet",
            "before-destroy green inet6",
            "before-destroy green inet"
        ]
    );
}

#[test]
fn one_brane_or_all_one_family_or_all() {
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            brane: Some("green".into()),
            ..all()
        },
    );
    w.subscribe(
        1,
        &Subscription {
            family: Some(Family::Inet6),
            transitions: vec![Transition::AfterStart],
            ..all()
        },
    );
    assert_eq!(w.told(0), [""; 0], "nothing of the others");
    assert_eq!(
        w.told(1),
        [
            "after-start main inet6 again",
            "after-start red inet6 again",
            "after-start blue inet6 again"
        ]
    );
    w.done(create("green"));
    w.done(create("gold"));
    assert_eq!(w.told(0).len(), 4);
    assert_eq!(w.told(1), ["after-start green inet6", "after-start gold inet6"]);
}

#[test]
fn late_ones_are_told_what_they_missed_and_leaving_runs_the_inverse() {
    let mut w = World::new();
    w.done(Request::Create {
        name: "held".into(),
        families: None,
        start: false,
    });
    w.subscribe(
        0,
        &Subscription {
            family: Some(Family::Inet),
            ..all()
        },
    );
    let up = [
        "after-create main inet again",
        "after-start main inet again",
        "after-create red inet again",
        "after-start red inet again",
        "after-create blue inet again",
        "after-start blue inet again",
        "after-create held inet again",
    ];
    assert_eq!(w.told(0), up);
    w.leave(0);
    let down = [
        "before-destroy held inet again",
        "before-shutdown blue inet again",
        "before-destroy blue inet again",
        "before-shutdown red inet again",
        "before-destroy red inet again",
        "before-shutdown main inet again",
        "before-destroy main inet again",
    ];
    assert_eq!(w.told(0), down);
    assert_eq!(w.watchers[0].said.last(), Some(&tell::LEFT));
    assert_eq!(w.call(Request::Hooks), Ok(Answer::Hooks(vec![])));
    w.done(create("green"));
    assert_eq!(w.told(0), [""; 0]);
}

#[test]
fn nothing_passes_before_a_subscriber_has_answered() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.told(0);
    w.watchers[0].hangs = true;
    let job = w.begin(&create("green")).unwrap_err();
    w.run();
    assert_eq!(w.told(0), ["after-create green inet"]);
    assert_eq!((w.state("green"), w.branes[3].started), ("created", false));
    let bound = w.nics.table(0).iter().filter(|v| v.brane == 4).count();
    assert_eq!((bound, w.poll(job)), (0, None));
}

#[test]
fn one_that_hangs_or_faults_is_cut_off_and_the_transition_goes_on() {
    for faults in [false, true] {
        let mut w = World::new();
        w.subscribe(0, &all());
        w.subscribe(1, &all());
        w.told(1);
        w.watchers[0].hangs = !faults;
        w.watchers[0].dies = faults;
        let since = w.now;
        w.done(create("green"));
        assert_eq!(w.state("green"), "started");
        assert!(
            w.now - since <= 600 * MS,
            "cut off at its deadline: {}",
            w.now - since
        );
        assert_eq!(w.told(1).len(), 4, "the other is told all the same");
        let hooks = listed(&mut w);
        let why: Vec<_> = hooks.iter().map(|h| h.cut.as_str()).collect();
        if faults {
            // It was started anew, and has not subscribed again.
            assert_eq!(why, [""]);
        } else {
            assert_eq!(why, ["no answer within 500 ms", ""]);
        }
        let last = w.events(0);
        assert!(last.contains(&"hook-cut".into()), "{last:?}");
        w.done(create("gold"));
    }
}

#[test]
fn one_that_was_cut_off_does_not_come_back_by_itself() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.watchers[0].hangs = true;
    w.done(create("green"));
    let cut = |w: &mut World| listed(w)[0].cut.clone();
    assert_eq!(cut(&mut w), "no answer within 500 ms");
    w.event(Event::LinkUp(child::subscriber(0)));
    w.subscribe(0, &all());
    assert_eq!(cut(&mut w), "no answer within 500 ms");
    // Nor does one drown the events by subscribing for ever.
    for _ in 0..100 {
        w.subscribe(1, &all());
    }
    let hooks = listed(&mut w);
    assert_eq!(hooks[1].cut, "it subscribes again and again");
}

#[test]
fn a_restarted_brane_is_told_anew_with_its_generation() {
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            brane: Some("red".into()),
            family: Some(Family::Inet),
            transitions: Transition::ALL.to_vec(),
        },
    );
    w.told(0);
    w.done(Request::Crash("red".into()));
    w.run();
    assert_eq!(w.watchers[0].told[1].generation, 1);
    assert_eq!(w.told(0), ["after-create red inet", "after-start red inet"]);
}

#[test]
fn one_that_answers_what_was_not_asked_is_cut_off() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.event(Event::Report {
        child: child::subscriber(0),
        kind: brane_abi::hooks::say::DONE,
        token: 999,
        payload: &[],
    });
    let hooks = listed(&mut w);
    assert_eq!(hooks[0].cut, "it answers what was not asked");
}

#[test]
fn an_answer_to_an_earlier_question_cuts_a_subscriber_off() {
    let mut bench = Bench::new();
    bench.start_all();
    let watcher = child::subscriber(0);
    let say = |token, kind, payload| Event::Report {
        child: watcher,
        kind,
        token,
        payload,
    };
    let wants = minicbor::to_vec(all()).unwrap();
    let actions = bench.event(say(1, brane_abi::hooks::say::SUBSCRIBE, &wants));
    let asked = actions.iter().find_map(|action| match action {
        Action::Send {
            child,
            kind: tell::TRANSITION,
            token,
            ..
        } if *child == watcher => Some(*token),
        _ => None,
    });
    let asked = asked.unwrap_or_else(|| panic!("{actions:?}"));
    let actions = bench.event(say(asked.wrapping_add(1), brane_abi::hooks::say::DONE, &[]));
    let cut = |action: &Action| matches!(action, Action::Log(text) if text.contains("it answers what was not asked"));
    assert!(actions.iter().any(cut), "{actions:?}");
}

#[test]
fn a_subscriber_that_joins_moves_no_brane_on() {
    let mut bench = Bench::new();
    // It has its configuration and has not said so.
    bench.event(Event::LinkUp(child::brane(0)));
    let wants = minicbor::to_vec(all()).unwrap();
    let actions = bench.event(Event::Report {
        child: child::subscriber(0),
        kind: brane_abi::hooks::say::SUBSCRIBE,
        token: 1,
        payload: &wants,
    });
    let moves = |action: &&Action| {
        matches!(
            action,
            Action::Send {
                child: Child::Brane(_),
                ..
            }
        )
    };
    assert_eq!(actions.iter().find(moves), None);
    assert_ne!(
        bench.manager.instances[BraneId::new(0)].state,
        LifecycleState::Started
    );
}

#[test]
fn leaving_in_between_does_not_let_one_subscribe_for_ever() {
    let mut w = World::new();
    for _ in 0..64 {
        w.subscribe(0, &all());
        w.leave(0);
        assert_eq!(listed(&mut w), []);
    }
    w.subscribe(0, &all());
    assert_eq!(listed(&mut w)[0].cut, "it subscribes again and again");
}

#[test]
fn one_that_resets_its_link_is_cut_off_even_after_it_has_left() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.leave(0);
    w.event(Event::LinkUp(child::subscriber(0)));
    assert_eq!(listed(&mut w)[0].cut, "it reset its link by itself");
}

#[test]
fn one_that_leaves_twice_or_without_a_subscription_is_cut_off() {
    for subscribed in [false, true] {
        let mut w = World::new();
        if subscribed {
            // It has not answered yet, so that it is still leaving.
            w.watchers[0].hangs = true;
            w.subscribe(0, &all());
            w.leave(0);
            assert_eq!(listed(&mut w), []);
        }
        w.leave(0);
        assert_eq!(listed(&mut w)[0].cut, "it says what nobody understands");
    }
}

#[test]
fn operators_see_how_much_one_was_told_before_it_was_cut_off() {
    let mut w = World::new();
    w.subscribe(0, &all());
    let told = w.watchers[0].told.len() as u64;
    assert!(told > 0);
    assert_eq!(listed(&mut w)[0].told, told);
    w.event(Event::Violation {
        child: child::subscriber(0),
        what: "a record without an end",
    });
    let hook = &listed(&mut w)[0];
    assert_eq!((hook.cut.as_str(), hook.told), ("a record without an end", told));
}
