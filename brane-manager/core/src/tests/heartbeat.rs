//! The heartbeat: a brane that answers is not stopped, a brane that does not is detected, and no other report is an
//! answer.

use super::*;
use crate::instance::heartbeat::{PERIOD_NS, SILENT_BEATS};
use operator_cli::refusals::Words;
use proptest::prelude::*;

/// Returns the heartbeat probes in a list of actions: brane and token.
fn probes(actions: &[Action]) -> Vec<(usize, u32)> {
    let asked = |action: &Action| match *action {
        Action::Send {
            child: Child::Brane(brane),
            kind,
            token,
            ..
        } if kind == command::HEARTBEAT => Some((brane.index(), token)),
        _ => None,
    };
    actions.iter().filter_map(asked).collect()
}

fn hang(name: &str) -> Request {
    Request::Hang(name.into())
}

impl Bench {
    /// Advances the time to the next beat and returns the actions.
    fn heartbeat(&mut self) -> Vec<Action> {
        self.now = self.manager.deadline().expect("a beat is due");
        self.event(Event::Tick)
    }
}

#[test]
fn a_brane_that_hangs_is_found_and_only_that_one() {
    let mut bench = Bench::new();
    bench.start_all();
    for _ in 0..100 {
        bench.now = bench.manager.deadline().unwrap();
        assert_eq!(bench.tick(), [], "all answer");
    }
    let (answer, actions) = bench.ask(&hang("red"));
    assert!(answer.unwrap().is_ok());
    assert!(matches!(
        actions[..],
        [Action::Send {
            child: RED,
            kind: command::HANG,
            ..
        }]
    ));
    let (since, asked) = (bench.now, bench.manager.deadline().unwrap());
    let actions = loop {
        let actions = bench.heartbeat();
        for (brane, token) in probes(&actions) {
            if brane != 1 {
                assert_eq!(bench.report(brane, kind::ALIVE, token, &[]), []);
            }
        }
        if actions.contains(&Action::Stop(child::brane(1))) {
            break actions;
        }
        assert!(!actions.iter().any(|a| matches!(a, Action::Log(_))));
    };
    assert_eq!(bench.now - since, u64::from(SILENT_BEATS + 1) * PERIOD_NS);
    assert_eq!(bench.now - asked, u64::from(SILENT_BEATS) * PERIOD_NS);
    assert!(actions.contains(&Action::Log(
        "brane `red` hangs: no answer to a heartbeat for 3000 ms; restarting it".into()
    )));
    assert!(restarts(&actions, child::brane(1)));
    assert_eq!(bench.start(1).generation, 1);
    assert_eq!(bench.manager.instances[BraneId::new(1)].counters.hangs, 1);
    assert_eq!(
        bench.shown("red").last_fault,
        "no answer to a heartbeat for 3000 ms"
    );
    for brane in [0, 2] {
        let b = &bench.manager.instances[BraneId::new(brane)];
        assert_eq!((b.restarts, b.counters.hangs, b.counters.reports), (0, 0, 1));
        assert_eq!(b.counters.heartbeats, 104);
    }
}

#[test]
fn only_a_started_brane_is_asked_and_can_be_told_to_hang() {
    let mut bench = Bench::new();
    assert_eq!(bench.manager.next_beat(), None);
    let why = bench.refused(&hang("red"));
    assert_eq!(
        why.words().what,
        "brane \"red\" is starting, it cannot be made to hang now"
    );
    assert_eq!(
        bench.refused(&hang("rde")).words().fix,
        "the branes are main, red, blue"
    );
    bench.event(Event::LinkUp(child::brane(0)));
    bench.start(2);
    let actions = bench.heartbeat();
    assert_eq!(probes(&actions).len(), actions.len());
    assert_eq!(probes(&actions)[0].0, 2);
    bench.fault(child::brane(2));
    assert_eq!(bench.manager.next_beat(), None);
}

#[test]
fn a_forged_a_second_and_an_old_answer_are_unwanted_and_no_sign_of_life() {
    let mut bench = Bench::new();
    bench.start(0);
    let (_, token) = probes(&bench.heartbeat())[0];
    assert_eq!(
        bench.report(0, kind::ALIVE, token.wrapping_add(1), &[]),
        [],
        "forged"
    );
    assert_eq!(bench.report(0, kind::STATUS, token, &[]), [], "of another kind");
    assert_eq!(bench.report(0, kind::ALIVE, token, b"and more"), [], "the answer");
    assert_eq!(bench.report(0, kind::ALIVE, token, &[]), [], "twice");
    let main = &bench.manager.instances[BraneId::new(0)];
    assert_eq!(
        (
            main.counters.reports_unexpected,
            main.counters.heartbeats,
            main.violations
        ),
        (3, 1, 3)
    );
    // An answer to the previous incarnation does not count for this one. A brane that sends only such answers is
    // detected.
    let (_, old) = probes(&bench.heartbeat())[0];
    bench.fault(child::brane(0));
    bench.start(0);
    let mut stopped = false;
    for _ in 0..=SILENT_BEATS {
        bench.report(0, kind::ALIVE, old, &[]);
        stopped |= bench.heartbeat().contains(&Action::Stop(child::brane(0)));
    }
    assert!(stopped);
    // Many such answers are a protocol violation.
    bench.start(0);
    let mut actions = Vec::new();
    for _ in 0..MAX_VIOLATIONS {
        actions.extend(bench.report(0, kind::ALIVE, old, &[]));
    }
    assert!(actions.contains(&Action::Stop(child::brane(0))));
    assert_eq!(bench.manager.instances[BraneId::new(0)].counters.violations, 1);
}

#[test]
fn a_probe_that_found_no_room_is_asked_again_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.start(0);
    let (brane, token) = probes(&bench.heartbeat())[0];
    bench.event(Event::Dropped {
        child: child::brane(brane),
        token,
    });
    assert_eq!(
        bench.manager.instances[BraneId::new(0)].counters.commands_dropped,
        1
    );
    let (brane, token) = probes(&bench.heartbeat())[0];
    bench.report(brane, kind::ALIVE, token, &[]);
    for _ in 0..SILENT_BEATS {
        let (brane, token) = probes(&bench.heartbeat())[0];
        bench.event(Event::Dropped {
            child: child::brane(brane),
            token,
        });
    }
    assert!(bench.heartbeat().contains(&Action::Stop(child::brane(0))));
}

proptest! {
    /// Checks that a brane that answers is never stopped, and that a mute one is, at the fourth beat at the latest.
    /// Beats come up to 10 s late, as on a machine that sometimes stands still. Answers take up to two beats more. Some
    /// mute branes still send unexpected reports.
    #[test]
    fn who_answers_stays_and_who_is_mute_is_found(
        beats in proptest::collection::vec(
            (0u64..10_000, proptest::array::uniform3(0u32..SILENT_BEATS), proptest::option::of(0usize..3), any::<bool>()),
            1..30
        )
    ) {
        let mut bench = Bench::new();
        bench.start_all();
        let mut answers: Vec<(usize, u32, u32)> = Vec::new();
        let mut mute: [Option<u32>; 3] = [None; 3];
        for (late, delays, falls_mute, babbles) in beats {
            if let Some(brane) = falls_mute {
                mute[brane].get_or_insert(0);
                answers.retain(|&(of, ..)| of != brane);
            }
            for (brane, token, delay) in core::mem::take(&mut answers) {
                match delay.checked_sub(1) {
                    None => prop_assert_eq!(bench.report(brane, kind::ALIVE, token, &[]), []),
                    Some(delay) => answers.push((brane, token, delay)),
                }
            }
            for brane in (0..3).filter(|&i| babbles && mute[i].is_some()) {
                prop_assert_eq!(bench.report(brane, kind::ALIVE, 0, &[]), []);
            }
            bench.now = bench.manager.deadline().expect("a beat is due") + late * MS;
            let actions = bench.event(Event::Tick);
            let asked = probes(&actions).into_iter();
            answers.extend(asked.filter(|&(i, _)| mute[i].is_none()).map(|(i, token)| (i, token, delays[i])));
            for (brane, silent) in mute.iter_mut().enumerate() {
                let stopped = actions.contains(&Action::Stop(child::brane(brane)));
                prop_assert!(!stopped || silent.is_some(), "{} was stopped though it answers", brane);
                if stopped {
                    prop_assert!(restarts(&actions, child::brane(brane)));
                    bench.start(brane);
                    *silent = None;
                } else if let Some(beats) = silent {
                    *beats += 1;
                    prop_assert!(*beats <= SILENT_BEATS, "{} is mute and was not stopped", brane);
                }
            }
        }
    }
}
