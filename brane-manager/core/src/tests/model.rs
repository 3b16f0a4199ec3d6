//! Random events in any order.

use super::captures::capture;
use super::filter::{add_rule, replace, stage};
use super::*;
use brane_abi::capture::Target;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    LinkUp(usize),
    Report(usize, u32, u32, Vec<u8>),
    Breach(usize),
    Fault(bool, usize),
    Wait(u64),
    Ask(Request),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4).prop_map(Step::LinkUp),
        6 => (0usize..4, 0u32..6, 0u32..40, proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(b, k, t, p)| Step::Report(b, k, t, p)),
        1 => (0usize..4).prop_map(Step::Breach),
        4 => (any::<bool>(), 0usize..4).prop_map(|(c, b)| Step::Fault(c, b)),
        3 => (0u64..40_000).prop_map(Step::Wait),
        2 => (0usize..12, "(main|red|blue|x)").prop_map(|(r, name)| Step::Ask(match r {
            6 => add_rule(&name, 1),
            7 => stage(&name, &[2]),
            8 => replace(&name),
            9 => capture(7, Target::All),
            10 => capture(8, Target::Brane(name)),
            11 => Request::StopCapture(7),
            0 => Request::Crash(name),
            1 => Request::Hang(name),
            2 => Request::Show(name),
            3 => Request::Stats(None),
            r => Request::List { fresh: r == 4 },
        })),
    ]
}

proptest! {
    /// Checks three rules, whatever branes and operators do. A child is restarted only when it is stopped, every
    /// stopped child is restarted when its time has come, and an event causes a bounded number of actions.
    #[test]
    fn whatever_happens_everything_runs_again(steps in proptest::collection::vec(steps(), 1..120)) {
        let mut bench = Bench::new();
        let mut running = [[true; 3]; 2];
        let index = |child: Child| match child { Child::Brane(i) => (0, i.index()), Child::Client(i) => (1, i.index()), Child::Subscriber(_) | Child::Filter(_) | Child::Operator(_) | Child::Line => unreachable!() };
        let apply = |running: &mut [[bool; 3]; 2], actions: Vec<Action>, most: usize| {
            prop_assert!(actions.len() <= most, "{:?}", actions);
            for action in actions {
                match action {
                    Action::Stop(c) => { let (k, i) = index(c); running[k][i] = false; }
                    Action::Restart(c) | Action::Renew(c) => {
                        let (k, i) = index(c);
                        prop_assert!(!running[k][i], "restarted while it ran: {:?}", c);
                        running[k][i] = true;
                    }
                    Action::Send { child: Child::Brane(brane), .. } => prop_assert!(running[0][brane.index()]),
                    Action::Send { .. } | Action::Notify(_) | Action::Suspend(_) | Action::Resume(_) => {}
                    Action::Log(text) => prop_assert!(text.is_ascii()),
                }
            }
            Ok(())
        };
        for step in steps {
            let actions = match step {
                Step::LinkUp(brane) => bench.event(Event::LinkUp(child::brane(brane))),
                Step::Report(brane, kind, token, payload) => bench.report(brane, kind, token, &payload),
                Step::Breach(brane) => bench.event(Event::Violation { child: child::brane(brane), what: "a ring index" }),
                Step::Fault(client, brane) => {
                    if brane >= 3 || !running[usize::from(client)][brane] { continue; }
                    running[usize::from(client)][brane] = false;
                    bench.fault(if client { child::client(brane) } else { child::brane(brane) })
                }
                Step::Wait(ms) => { bench.now += ms * MS; bench.event(Event::Tick) }
                Step::Ask(request) => bench.ask(&request).1,
            };
            apply(&mut running, actions, 12)?;
        }
        // Each child can still miss its link, one answer, or both, and then wait for one restart. From then on it
        // behaves.
        for _ in 0..18 {
            let Some(at) = bench.manager.due() else { break };
            prop_assert!(at <= bench.now + LINK_TIMEOUT_NS);
            bench.now = bench.now.max(at);
            let actions = bench.tick();
            let restarted: Vec<usize> = actions
                .iter()
                .filter_map(|a| match a { Action::Restart(Child::Brane(i)) => Some(i.index()), _ => None })
                .collect();
            apply(&mut running, actions, 12)?;
            restarted.into_iter().for_each(|brane| { bench.start(brane); });
        }
        prop_assert_eq!(bench.manager.due(), None);
        prop_assert_eq!(running, [[true; 3]; 2]);
    }
}
