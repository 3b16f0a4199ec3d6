//! Notifications of a subscriber are balanced, whatever operators and subscribers do ([`crate::testing::Balance`]).

use super::*;
use crate::testing::World;
use brane_abi::control::{Family, Protocol};
use brane_abi::operator::Request;
use brane_abi::subscription::Subscription;
use proptest::prelude::*;

const NAMES: [&str; 4] = ["red", "blue", "green", "gold"];

#[derive(Clone, Debug)]
enum Step {
    Ask(Request),
    /// A brane faults on its own.
    Fault(usize),
    Subscribe(usize, Subscription),
    Leave(usize),
    /// Whether the subscriber stops acknowledging. It is then quarantined at its next notification.
    Hang(usize, bool),
    Readmit(usize),
    Wait(u64),
}

fn subscriptions() -> impl Strategy<Value = Subscription> {
    let brane = proptest::option::of(proptest::sample::select(&NAMES[..]));
    let family = proptest::option::of(proptest::sample::select(&Family::ALL[..]));
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
    let protocols = proptest::sample::subsequence(all.to_vec(), 0..=3);
    (brane, family, protocols).prop_map(|(brane, family, protocols)| Subscription {
        brane: brane.map(Into::into),
        family,
        protocols,
        ..Subscription::all()
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let name = || proptest::sample::select(&NAMES[..]).prop_map(String::from);
    let create = (name(), any::<bool>()).prop_map(|(name, start)| Request::Create {
        name,
        families: None,
        start,
        memory: None,
    });
    let deadline_ms = 10;
    let request = prop_oneof![
        3 => create,
        3 => name().prop_map(move |name| Request::Delete { name, deadline_ms }),
        2 => name().prop_map(move |name| Request::Shutdown { name, deadline_ms }),
        2 => name().prop_map(Request::Start),
        2 => name().prop_map(Request::Crash),
        3 => (name(), name()).prop_map(|(from, to)| Request::RenameBrane { from, to }),
    ];
    prop_oneof![
        8 => request.prop_map(Step::Ask),
        1 => (0usize..5).prop_map(Step::Fault),
        3 => (0usize..2, subscriptions()).prop_map(|(k, s)| Step::Subscribe(k, s)),
        1 => (0usize..2).prop_map(Step::Leave),
        1 => (0usize..2, any::<bool>()).prop_map(|(k, hangs)| Step::Hang(k, hangs)),
        1 => (0usize..2).prop_map(Step::Readmit),
        1 => (0u64..700).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn what_a_subscriber_learns_is_balanced(steps in proptest::collection::vec(steps(), 1..60)) {
        let mut w = World::new();
        for step in steps {
            match step {
                Step::Ask(request) => drop(w.call(request)),
                Step::Fault(brane) => {
                    w.faults(brane);
                    w.run();
                }
                Step::Subscribe(k, subscription) => w.subscribe(k, &subscription),
                Step::Leave(k) => w.leave(k),
                Step::Hang(k, hangs) => {
                    if core::mem::replace(&mut w.subscribers[k].hangs, hangs) && !hangs {
                        w.answers(k);
                    }
                }
                Step::Readmit(k) => drop(w.call(Request::Readmit(format!("subscriber-{k}")))),
                Step::Wait(ms) => w.pass(ms),
            }
        }
        for k in 0..2 {
            if core::mem::take(&mut w.subscribers[k].hangs) {
                w.answers(k);
            }
            drop(w.call(Request::Readmit(format!("subscriber-{k}"))));
        }
        // A subscriber that leaves has been notified of the end of each item that it knew.
        for k in 0..2 {
            w.subscribe(k, &Subscription::all());
            w.leave(k);
            let balance = &w.subscribers[k].balance;
            prop_assert!(balance.is_empty(), "{balance:?}");
        }
    }
}
