//! Subscribers: the order of notifications, replay and its inverse, and that no subscriber can delay a brane forever.

use super::*;
use crate::testing::World;
use brane_abi::control::{Family, Protocol};
use brane_abi::operator::{Answer, Request, SubscriberInfo};
use brane_abi::subscription::{Subscription, Transition, notice, request};

fn all() -> Subscription {
    Subscription::all()
}

fn create(name: &str) -> Request {
    Request::Create {
        name: name.into(),
        families: None,
        start: true,
        memory: None,
    }
}

/// Returns the subscribers as operators see them.
fn listed(w: &mut World) -> Vec<SubscriberInfo> {
    match w.call(Request::Subscribers) {
        Ok(Answer::Subscribers(subscribers)) => subscribers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn external_sources_are_called_after_create_after_start_before_shutdown_before_destroy() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.notifications(0);
    w.done(create("green"));
    assert_eq!(
        w.notifications(0),
        [
            "after-create green inet",
            "after-create green inet6",
            "after-start green inet",
            "after-start green inet6"
        ]
    );
    w.delete("green").unwrap();
    assert_eq!(
        w.notifications(0),
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
    assert_eq!(w.notifications(0), [""; 0], "nothing of the others");
    assert_eq!(
        w.notifications(1),
        [
            "after-start main inet6 again",
            "after-start red inet6 again",
            "after-start blue inet6 again"
        ]
    );
    w.done(create("green"));
    w.done(create("gold"));
    assert_eq!(w.notifications(0).len(), 4);
    assert_eq!(
        w.notifications(1),
        ["after-start green inet6", "after-start gold inet6"]
    );
}

#[test]
fn late_ones_are_told_what_they_missed_and_leaving_runs_the_inverse() {
    let mut w = World::new();
    w.done(Request::Create {
        name: "held".into(),
        families: None,
        start: false,
        memory: None,
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
    assert_eq!(w.notifications(0), up);
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
    assert_eq!(w.notifications(0), down);
    assert_eq!(w.subscribers[0].said.last(), Some(&notice::LEFT));
    assert_eq!(w.call(Request::Subscribers), Ok(Answer::Subscribers(vec![])));
    w.done(create("green"));
    assert_eq!(w.notifications(0), [""; 0]);
}

#[test]
fn nothing_passes_before_a_subscriber_has_answered() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.notifications(0);
    w.subscribers[0].hangs = true;
    let job = w.begin(&create("green")).unwrap_err();
    w.run();
    assert_eq!(w.notifications(0), ["after-create green inet"]);
    assert_eq!((w.state("green"), w.branes[3].started), ("created", false));
    let bound = w.nics.table(0).iter().filter(|v| v.brane == 4).count();
    assert_eq!((bound, w.poll(job)), (0, None));
}

#[test]
fn one_that_hangs_or_faults_is_quarantined_and_the_transition_goes_on() {
    for faults in [false, true] {
        let mut w = World::new();
        w.subscribe(0, &all());
        w.subscribe(1, &all());
        w.notifications(1);
        w.subscribers[0].hangs = !faults;
        w.subscribers[0].dies = faults;
        let since = w.now;
        w.done(create("green"));
        assert_eq!(w.state("green"), "started");
        assert!(
            w.now - since <= 600 * MS,
            "quarantined at its deadline: {}",
            w.now - since
        );
        assert_eq!(w.notifications(1).len(), 4, "the other is notified all the same");
        let subscribers = listed(&mut w);
        let why: Vec<_> = subscribers.iter().map(|h| h.quarantined.as_str()).collect();
        if faults {
            // The subscriber was restarted, and has not subscribed again.
            assert_eq!(why, [""]);
        } else {
            assert_eq!(why, ["no answer within 500 ms", ""]);
        }
        let last = w.events(0);
        assert!(last.contains(&"subscriber-quarantined".into()), "{last:?}");
        w.done(create("gold"));
    }
}

#[test]
fn one_that_was_quarantined_does_not_come_back_by_itself() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.subscribers[0].hangs = true;
    w.done(create("green"));
    let cut = |w: &mut World| listed(w)[0].quarantined.clone();
    assert_eq!(cut(&mut w), "no answer within 500 ms");
    w.event(Event::LinkUp(child::subscriber(0)));
    w.subscribe(0, &all());
    assert_eq!(cut(&mut w), "no answer within 500 ms");
    // A subscriber cannot displace all events by endless subscriptions.
    for _ in 0..100 {
        w.subscribe(1, &all());
    }
    let subscribers = listed(&mut w);
    assert_eq!(subscribers[1].quarantined, "it subscribes again and again");
}

#[test]
fn a_restarted_brane_is_told_anew_with_its_generation() {
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            brane: Some("red".into()),
            family: Some(Family::Inet),
            ..all()
        },
    );
    w.notifications(0);
    w.done(Request::Crash("red".into()));
    w.run();
    let generations: Vec<_> = w.subscribers[0].told.iter().map(|t| t.generation).collect();
    assert_eq!(generations, [0, 1, 1]);
    assert_eq!(
        w.notifications(0),
        ["failed red inet", "after-create red inet", "after-start red inet"]
    );
}

#[test]
fn one_that_answers_what_was_not_asked_is_quarantined() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.event(Event::Report {
        child: child::subscriber(0),
        kind: request::ACK,
        token: 999,
        payload: &[],
    });
    let subscribers = listed(&mut w);
    assert_eq!(subscribers[0].quarantined, "it answers what was not asked");
}

#[test]
fn an_answer_to_an_earlier_notification_quarantines_a_subscriber() {
    let mut bench = Bench::new();
    bench.start_all();
    let subscriber = child::subscriber(0);
    let say = |token, kind, payload| Event::Report {
        child: subscriber,
        kind,
        token,
        payload,
    };
    let wants = minicbor::to_vec(all()).unwrap();
    let actions = bench.event(say(1, request::SUBSCRIBE, &wants));
    let asked = actions.iter().find_map(|action| match action {
        Action::Send {
            child,
            kind: notice::TRANSITION,
            token,
            ..
        } if *child == subscriber => Some(*token),
        _ => None,
    });
    let asked = asked.unwrap_or_else(|| panic!("{actions:?}"));
    let actions = bench.event(say(asked.wrapping_add(1), request::ACK, &[]));
    let cut = |action: &Action| matches!(action, Action::Log(text) if text.contains("it answers what was not asked"));
    assert!(actions.iter().any(cut), "{actions:?}");
}

#[test]
fn a_subscriber_that_joins_moves_no_brane_on() {
    let mut bench = Bench::new();
    // The brane has its configuration and has not confirmed it.
    bench.event(Event::LinkUp(child::brane(0)));
    let wants = minicbor::to_vec(all()).unwrap();
    let actions = bench.event(Event::Report {
        child: child::subscriber(0),
        kind: request::SUBSCRIBE,
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
    assert_eq!(listed(&mut w)[0].quarantined, "it subscribes again and again");
}

#[test]
fn one_that_resets_its_link_is_quarantined_even_after_it_has_left() {
    let mut w = World::new();
    w.subscribe(0, &all());
    w.leave(0);
    w.event(Event::LinkUp(child::subscriber(0)));
    assert_eq!(listed(&mut w)[0].quarantined, "it reset its link by itself");
}

#[test]
fn one_that_leaves_twice_or_without_a_subscription_is_quarantined() {
    for subscribed in [false, true] {
        let mut w = World::new();
        if subscribed {
            // The subscriber has not acknowledged yet, so it is still leaving.
            w.subscribers[0].hangs = true;
            w.subscribe(0, &all());
            w.leave(0);
            assert_eq!(listed(&mut w), []);
        }
        w.leave(0);
        assert_eq!(listed(&mut w)[0].quarantined, "it sends unknown records");
    }
}

#[test]
fn operators_see_how_much_one_was_told_before_it_was_quarantined() {
    let mut w = World::new();
    w.subscribe(0, &all());
    let told = w.subscribers[0].told.len() as u64;
    assert!(told > 0);
    assert_eq!(listed(&mut w)[0].notified, told);
    w.event(Event::Violation {
        child: child::subscriber(0),
        what: "a record without an end",
    });
    let subscriber = &listed(&mut w)[0];
    assert_eq!(
        (subscriber.quarantined.as_str(), subscriber.notified),
        ("a record without an end", told)
    );
}

/// Returns a subscription to all transitions of the brane with this name.
fn of(brane: &str) -> Subscription {
    Subscription {
        brane: Some(brane.into()),
        family: Some(Family::Inet),
        ..all()
    }
}

fn rename(from: &str, to: &str) -> Request {
    Request::RenameBrane {
        from: from.into(),
        to: to.into(),
    }
}

#[test]
fn a_subscription_by_name_keeps_the_brane_under_any_name_until_it_is_destroyed() {
    let mut w = World::new();
    w.subscribe(0, &of("green"));
    w.done(create("green"));
    w.notifications(0);
    w.done(rename("green", "lime"));
    w.delete("lime").unwrap();
    w.done(create("green"));
    let identities: Vec<_> = w.subscribers[0].told.iter().map(|t| t.identity).collect();
    assert_eq!(identities, [4, 4, 4, 5, 5], "another brane of the same name");
    assert_eq!(
        w.notifications(0),
        [
            "renamed lime inet was green",
            "before-shutdown lime inet",
            "before-destroy lime inet",
            "after-create green inet",
            "after-start green inet",
        ]
    );
}

#[test]
fn a_subscription_by_name_selects_the_brane_that_gets_the_name() {
    let mut w = World::new();
    w.subscribe(0, &of("green"));
    w.done(create("lime"));
    assert_eq!(w.notifications(0), [""; 0]);
    w.done(rename("lime", "green"));
    assert_eq!(
        w.notifications(0),
        ["after-create green inet again", "after-start green inet again"]
    );
    w.delete("green").unwrap();
    assert_eq!(
        w.notifications(0),
        ["before-shutdown green inet", "before-destroy green inet"]
    );
}

#[test]
fn a_failed_brane_that_is_deleted_has_no_other_end() {
    let mut w = World::new();
    w.subscribe(0, &of("green"));
    w.done(create("green"));
    w.branes[3].manner = crate::testing::Manner::Deaf(brane_abi::control::command::CONFIGURE);
    w.notifications(0);
    w.done(Request::Crash("green".into()));
    assert_eq!(w.notifications(0), ["failed green inet"]);
    w.delete("green").unwrap();
    assert_eq!(w.notifications(0), [""; 0]);
}

#[test]
fn protocols_are_notified_each_for_itself_in_the_order_of_the_switch() {
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            brane: Some("green".into()),
            protocols: vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp6],
            transitions: vec![Transition::AfterStart, Transition::BeforeShutdown],
            ..all()
        },
    );
    w.done(create("green"));
    let up = [
        "after-start green inet udp",
        "after-start green inet tcp",
        "after-start green inet6 icmp6",
        "after-start green inet6 udp",
        "after-start green inet6 tcp",
    ];
    assert_eq!(w.notifications(0), up);
    w.delete("green").unwrap();
    let down: Vec<_> = up
        .iter()
        .rev()
        .map(|t| t.replace("after-start", "before-shutdown"))
        .collect();
    assert_eq!(w.notifications(0), down);
}

#[test]
fn a_protocol_that_the_brane_does_not_have_is_not_notified() {
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            protocols: vec![Protocol::Udp],
            ..of("green")
        },
    );
    w.done(Request::Create {
        name: "green".into(),
        families: Some(vec![brane_abi::control::FamilyConfig {
            family: Family::Inet,
            protocols: vec![Protocol::Tcp],
        }]),
        start: true,
        memory: None,
    });
    assert_eq!(w.notifications(0), [""; 0]);
}

#[test]
fn subscribers_are_notified_in_turn_and_in_the_inverse_order_on_the_way_down() {
    let mut w = World::new();
    for k in [0, 1] {
        w.subscribe(k, &of("green"));
        w.subscribers[k].hangs = true;
    }
    let job = w.begin(&create("green")).unwrap_err();
    w.run();
    assert_eq!(
        (w.notifications(0).len(), w.notifications(1).len()),
        (1, 0),
        "after create: the first"
    );
    w.answers(0);
    assert_eq!(
        (w.notifications(0).len(), w.notifications(1).len()),
        (0, 1),
        "then the second"
    );
    w.answers(1);
    assert_eq!(
        (w.notifications(0).len(), w.notifications(1).len()),
        (1, 0),
        "after start"
    );
    w.answers(0);
    w.answers(1);
    assert!(w.poll(job).is_some());
    w.notifications(1);
    let job = w
        .begin(&Request::Delete {
            name: "green".into(),
            deadline_ms: 0,
        })
        .unwrap_err();
    w.run();
    for transition in ["before-shutdown", "before-destroy"] {
        let text = [format!("{transition} green inet")];
        assert_eq!(
            (w.notifications(0), w.notifications(1)),
            (vec![], text.to_vec()),
            "the second comes first"
        );
        w.answers(1);
        assert_eq!((w.notifications(0), w.notifications(1)), (text.to_vec(), vec![]));
        w.answers(0);
    }
    assert!(w.poll(job).is_some());
}

#[test]
fn a_quarantined_subscriber_does_not_hold_the_next_one_up() {
    let mut w = World::new();
    w.subscribe(0, &of("green"));
    w.subscribe(1, &of("green"));
    w.subscribers[0].hangs = true;
    w.done(create("green"));
    assert_eq!(listed(&mut w)[0].quarantined, "no answer within 500 ms");
    assert_eq!(
        w.notifications(1),
        ["after-create green inet", "after-start green inet"]
    );
}

#[test]
fn another_subscription_ends_the_first_one_before_it_begins() {
    let mut w = World::new();
    w.subscribe(0, &of("red"));
    w.notifications(0);
    w.subscribe(0, &of("blue"));
    assert_eq!(
        w.notifications(0),
        [
            "before-shutdown red inet again",
            "before-destroy red inet again",
            "after-create blue inet again",
            "after-start blue inet again",
        ]
    );
}

#[test]
fn one_that_joins_during_a_shutdown_is_not_told_of_a_start() {
    let mut w = World::new();
    w.subscribe(0, &of("red"));
    w.subscribers[0].hangs = true;
    w.answers(0);
    w.answers(0);
    let job = w
        .begin(&Request::Shutdown {
            name: "red".into(),
            deadline_ms: 0,
        })
        .unwrap_err();
    w.run();
    w.subscribe(1, &of("red"));
    assert_eq!(w.notifications(1), ["after-create red inet again"]);
    w.subscribers[0].hangs = false;
    w.answers(0);
    assert!(w.poll(job).is_some());
    assert_eq!(w.notifications(1), [""; 0]);
}

#[test]
fn an_operator_readmits_a_quarantined_subscriber() {
    let mut w = World::new();
    let readmit = || Request::Readmit("subscriber-0".into());
    w.subscribe(0, &all());
    let refused = w.refused(readmit());
    assert!(refused.contains("is not quarantined"), "{refused}");
    w.subscribers[0].hangs = true;
    w.done(create("green"));
    assert_eq!(listed(&mut w)[0].quarantined, "no answer within 500 ms");
    w.done(readmit());
    w.subscribe(0, &of("green"));
    assert_eq!(listed(&mut w)[0].quarantined, "");
    w.notifications(0);
    w.delete("green").unwrap();
    assert_eq!(
        w.notifications(0),
        ["before-shutdown green inet", "before-destroy green inet"]
    );
    let refused = w.refused(Request::Readmit("subscriber-7".into()));
    assert!(refused.contains("subscriber-7"), "{refused}");
}
