//! Children that use up their budget: suspended until the given time, resumed once, excused by the heartbeat for a
//! while.

use super::*;
use crate::instance::heartbeat::{EXCUSED_BEATS, PERIOD_NS, SILENT_BEATS};
use crate::suspensions::LONGEST_NS;
use operator_cli::refusals::Words;

const ALL: [Child; 5] = [
    child::brane(1),
    child::client(1),
    child::subscriber(1),
    child::operator(1),
    Child::Line,
];

impl Bench {
    fn offends(&mut self, child: Child, until: u64) -> Vec<Action> {
        self.event(Event::Offender {
            child,
            until,
            service: "timer",
        })
    }
    fn suspends(&mut self, child: Child, until: u64) -> bool {
        self.offends(child, until).contains(&Action::Suspend(child))
    }
    /// Advances the time to `now`. No brane answers meanwhile.
    fn at(&mut self, now: u64) -> Vec<Action> {
        self.now = now;
        self.event(Event::Tick)
    }
    fn suspensions(&mut self, group: &str, name: &str) -> u64 {
        let mut actions = Vec::new();
        let cx = &mut Context {
            now: self.now,
            driver: &mut self.nics,
            actions: &mut actions,
        };
        let stats = all_stats(&self.manager, cx);
        let group = stats.iter().find(|g| g.name == group).expect("the group");
        group
            .counters
            .iter()
            .find(|c| c.name == name)
            .expect("the counter")
            .value
    }
}

#[test]
fn an_offender_is_suspended_once_and_resumed_when_its_time_has_come() {
    for child in ALL {
        let mut bench = Bench::new();
        bench.start_all();
        let until = bench.now + 50 * MS;
        let actions = bench.offends(child, until);
        assert_eq!(actions[0], Action::Suspend(child));
        assert!(bench.manager.is_suspended(child));
        // Another service names the child too, with a later end.
        assert_eq!(bench.offends(child, until + MS), []);
        assert_eq!(bench.manager.deadline(), Some(until + MS));
        assert_eq!(bench.at(until), []);
        assert_eq!(bench.at(until + MS), [Action::Resume(child)]);
        assert!(!bench.manager.is_suspended(child));
        // The child continues. The next suspension causes no log line so soon.
        assert_eq!(bench.offends(child, bench.now + MS), [Action::Suspend(child)]);
    }
}

#[test]
fn suspensions_are_counted_and_told_once_in_a_while() {
    let mut bench = Bench::new();
    bench.start_all();
    for child in ALL {
        for _ in 0..3 {
            let until = bench.now + MS;
            assert!(bench.suspends(child, until));
            bench.at(until);
        }
    }
    for (group, name) in [
        ("manager: red", "suspensions"),
        ("manager: red", "client_suspensions"),
        ("manager: others", "suspensions of subscriber-1"),
        ("manager: others", "suspensions of remote"),
        ("manager: others", "suspensions of line"),
    ] {
        assert_eq!(bench.suspensions(group, name), 3, "{group} {name}");
    }
    assert_eq!(bench.suspensions("manager: others", "suspensions of console"), 0);
    assert_eq!(bench.suspensions("manager: main", "suspensions"), 0);
    let (answer, _) = bench.ask(&Request::Events { after: 0, wait: true });
    let Ok(Ok(Answer::Events(events))) = answer else {
        panic!("{answer:?}")
    };
    let told = events.iter().filter(|e| e.what == "suspended");
    let told: Vec<_> = told.map(|e| (e.brane.as_deref(), e.detail.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("red"), "brane `red` at timer"),
            (Some("red"), "the client of brane `red` at timer"),
            (None, "subscriber-1 at timer"),
            (None, "remote at timer"),
            (None, "line at timer")
        ]
    );
}

#[test]
fn no_service_can_have_a_child_suspended_for_long_or_for_the_past() {
    let mut bench = Bench::new();
    bench.start_all();
    assert_eq!(bench.offends(ALL[0], bench.now), []);
    assert!(bench.suspends(ALL[0], u64::MAX));
    assert_eq!(bench.at(bench.now + LONGEST_NS)[0], Action::Resume(ALL[0]));
    for child in [
        child::brane(3),
        child::client(9),
        child::subscriber(2),
        child::operator(2),
    ] {
        assert_eq!(bench.offends(child, u64::MAX), []);
    }
}

#[test]
fn a_child_that_is_started_anew_is_not_resumed_in_addition() {
    for child in ALL {
        let mut bench = Bench::new();
        bench.start_all();
        let until = bench.now + 50 * MS;
        assert!(bench.suspends(child, until));
        let actions = bench.fault(child);
        assert!(restarts(&actions, child), "{actions:?}");
        assert!(!bench.manager.is_suspended(child));
        assert!(!bench.at(until).contains(&Action::Resume(child)));
    }
}

#[test]
fn a_child_that_stands_still_after_a_fault_is_not_suspended() {
    for child in ALL {
        let mut bench = Bench::new();
        bench.start_all();
        // The third quick failure delays the restart.
        while restarts(&bench.fault(child), child) {}
        let due = bench.manager.deadline().expect("a restart is due");
        assert_eq!(bench.offends(child, due + MS), [], "{child:?}");
        assert!(restarts(&bench.at(due), child));
        assert!(bench.suspends(child, due + MS), "{child:?} runs again");
    }
}

#[test]
fn an_operator_that_faults_is_started_anew_without_its_jobs() {
    let mut bench = Bench::new();
    bench.start_all();
    let Err(job) = bench.ask(&Request::List { fresh: true }).0 else {
        panic!("it waits for the branes")
    };
    let actions = bench.fault(child::operator(0));
    assert!(restarts(&actions, child::operator(0)));
    let (answer, _) = bench.call(operator::POLL, &job.to_le_bytes());
    assert_eq!(
        answer.unwrap().unwrap_err().words().what,
        format!("there is no job {job}")
    );
}

/// Suspends a brane in each beat. Returns the number of beats until it is stopped.
fn beats_of_life(bench: &mut Bench, mut answers: impl FnMut(u32) -> bool, most: u32) -> u32 {
    for beat in 0..most {
        let until = bench.now + PERIOD_NS / 2;
        assert!(bench.suspends(child::brane(1), until));
        bench.at(until);
        let actions = bench.at(bench.manager.deadline().expect("a beat is due"));
        if actions.contains(&Action::Stop(child::brane(1))) {
            return beat;
        }
        for action in actions {
            if let Action::Send {
                child: Child::Brane(brane),
                kind: command::HEARTBEAT,
                token,
                ..
            } = action
                && (brane.index() != 1 || answers(beat))
            {
                bench.report(brane.index(), kind::ALIVE, token, &[]);
            }
        }
    }
    most
}

#[test]
fn a_suspended_brane_does_not_hang_but_one_that_never_answers_does() {
    let mut bench = Bench::new();
    bench.start_all();
    assert_eq!(beats_of_life(&mut bench, |_| true, 100), 100, "it answers");
    assert_eq!(bench.manager.instances[BraneId::new(1)].counters.hangs, 0);
    let beats = beats_of_life(&mut bench, |_| false, 100);
    assert_eq!(beats, EXCUSED_BEATS + SILENT_BEATS);
    assert_eq!(bench.manager.instances[BraneId::new(1)].counters.hangs, 1);
    assert_eq!(bench.manager.instances[BraneId::new(0)].counters.hangs, 0);
}
