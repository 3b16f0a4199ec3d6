//! Jobs of operators: their number, their cancellation, and batches.

use super::lifecycle::{held, named};
use super::meanwhile::rename;
use super::*;
use crate::testing::{Manner, World};
use brane_abi::operator::{Answer, Request};
use brane_abi::query::{self, Query};
use operator_cli::refusals::Words;

#[test]
fn operators_cannot_work_against_each_other_halfway() {
    let mut w = World::new();
    w.branes[1].manner = Manner::Deaf(command::RENAME);
    let rename = Request::RenameBrane {
        from: named("red"),
        to: named("rot"),
    };
    let job = w.begin(&rename).unwrap_err();
    let why = w.refused(Request::Delete {
        name: named("red"),
        deadline_ms: 0,
    });
    assert_eq!(
        why,
        "brane \"red\" is being changed (started): try again in a moment"
    );
    assert!((0..100).any(|_| {
        w.tick();
        w.poll(job).is_some()
    }));
    assert!(
        w.refused(Request::Start(named("x")))
            .starts_with("no brane named")
    );
    // The jobs of one operator are bounded.
    let number = w.events(0).len() as u64;
    let jobs: Vec<_> = (0..8)
        .map(|_| {
            w.begin(&Request::Events {
                after: number + 100,
                wait: true,
            })
        })
        .collect();
    assert!(jobs.iter().all(Result::is_err));
    let ninth = w
        .begin(&Request::Events {
            after: number + 100,
            wait: true,
        })
        .unwrap()
        .unwrap_err();
    assert_eq!(ninth.words().what, "8 requests are under way already");
    assert!(
        w.poll(999)
            .unwrap()
            .unwrap_err()
            .words()
            .what
            .contains("no job 999")
    );
}

#[test]
fn who_waits_no_longer_takes_no_place() {
    let mut w = World::new();
    let last = w.events(0).len() as u64;
    for _ in 0..20 {
        let job = w
            .begin(&Request::Events {
                after: last + 100,
                wait: true,
            })
            .unwrap_err();
        w.cancel(job);
        assert!(w.poll(job).unwrap().unwrap_err().words().what.contains("no job"));
    }
    // A change continues; a batch ends after its running request.
    let job = w
        .begin(&Request::batch(&[held("green"), held("gold")]))
        .unwrap_err();
    w.cancel(job);
    w.run();
    assert_eq!((w.state("green"), w.state("gold")), ("created", "gone"));
    assert!(w.poll(job).unwrap().is_err(), "its end is not kept");
    w.delete("green").unwrap();
}

#[test]
fn a_brane_that_keeps_queries_open_is_notified_of_changes_all_the_same() {
    let mut w = World::new();
    w.branes[1].manner = Manner::Deaf(command::QUERY);
    let ask = Request::Query {
        brane: named("red"),
        query: brane_abi::query::Query::Routes,
    };
    for _ in 0..32 {
        let job = w.begin(&ask).unwrap_err();
        w.cancel(job);
    }
    // Requests that are not sent occupy no place among the operator's jobs.
    for _ in 0..3 * brane_abi::operator::JOBS {
        assert!(w.refused(ask.clone()).contains("too much to answer"));
    }
    w.done(Request::Remove("vnic1".into()));
    assert_eq!(w.branes[1].config.as_ref().unwrap().interfaces.len(), 0);
    w.clean();
}

#[test]
fn events_come_to_who_waits_for_them() {
    let mut w = World::new();
    let last = w.events(0).len() as u64;
    let job = w
        .begin(&Request::Events {
            after: last,
            wait: true,
        })
        .unwrap_err();
    w.run();
    assert_eq!(w.poll(job), None);
    w.create("green").unwrap();
    let Some(Ok(Answer::Events(events))) = w.poll(job) else {
        panic!()
    };
    assert_eq!((events[0].number, events[0].what.as_str()), (last + 1, "created"));
    assert_eq!(events[0].brane.as_deref(), Some("green"));
}

#[test]
fn a_batch_does_one_after_the_other_up_to_the_first_that_is_refused() {
    let mut w = World::new();
    let before = w.free();
    let create = |name: &str| Request::Create {
        name: name.into(),
        families: None,
        start: true,
        memory: None,
    };
    let vnic = DeviceConfig {
        name: "vif9".into(),
        ..DeviceConfig::default()
    };
    let batch = Request::batch(&[
        Request::AddDevice(vnic),
        create("green"),
        crate::testing::assign("vif9", "green"),
        Request::Start(named("green")),
        create("red"),
        create("gold"),
    ]);
    let Ok(Answer::Batch(parts)) = w.call(batch) else {
        panic!()
    };
    let done: Vec<bool> = parts.iter().map(|o| o.answer.is_some()).collect();
    assert_eq!(done, [true, true, true, true, false], "gold is not begun");
    assert!(parts.is_sorted_by_key(|o| o.at_us));
    assert!(parts[4].refusal.as_ref().unwrap().words().what.contains("taken"));
    assert_eq!((w.owner("vif9"), w.state("gold")), ("green/net0".into(), "gone"));
    w.delete("green").unwrap();
    w.call(Request::DeleteDevice("vif9".into())).unwrap();
    assert_eq!(w.free(), before);
    for bad in [
        vec![],
        vec![Request::Stats(None)],
        vec![Request::batch(&[Request::Start(named("red"))])],
    ] {
        assert!(
            w.refused(Request::batch(&bad))
                .starts_with("a batch has 1 to 16 requests")
        );
    }
}

#[test]
fn no_depth_of_batches_in_batches_takes_the_stack() {
    let mut w = World::new();
    let mut nested = Request::batch(&[Request::Names]);
    while minicbor::to_vec(&nested).unwrap().len() < brane_abi::operator::MAX_REQUEST - 8 {
        nested = Request::batch(&[nested]);
    }
    assert!(w.refused(nested).starts_with("a batch has"));
}

#[test]
fn a_batch_keeps_the_answer_to_a_ping_but_no_long_answer() {
    let mut bench = Bench::new();
    bench.start_all();
    let to = [10, 0, 2, 2].into();
    let ping = Request::Query {
        brane: named("red"),
        query: Query::Ping {
            to,
            sequence: 1,
            size: 8,
            timeout_ms: 100,
        },
    };
    let echo = query::Answer::Echo {
        from: to,
        size: 8,
        ttl: 64,
        rtt_us: 9,
    };
    let long = query::Answer::Routes(Vec::new());
    for (answer, kept) in [(echo, true), (long, false)] {
        let (job, actions) = bench.ask(&Request::batch(std::slice::from_ref(&ping)));
        let [Action::Send { token, .. }] = actions[..] else {
            panic!("{actions:?}")
        };
        let text = minicbor::to_vec(&answer).unwrap();
        bench.report(1, kind::ANSWER, token, &text);
        let Answer::Batch(parts) = bench.poll(job.unwrap_err()) else {
            panic!()
        };
        if kept {
            assert_eq!(parts[0].answer, Some(Answer::Query(answer)));
        } else {
            let why = parts[0].refusal.as_ref().unwrap();
            assert_eq!(why.words().what, "the answer is too long for a batch");
        }
    }
}

#[test]
fn answers_that_nobody_fetched_make_room_for_requests_under_way() {
    let mut w = World::new();
    let last = w.events(0).len() as u64;
    let over: Vec<_> = (0..5)
        .map(|_| w.begin(&Request::Audit).expect_err("it waits for the branes"))
        .collect();
    w.run();
    for _ in 0..4 {
        w.begin(&Request::Events {
            after: last + 100,
            wait: true,
        })
        .expect_err("it waits for an event");
    }
    // The last of these requests displaced the oldest answer.
    let mut fetched = over.iter().map(|&job| w.poll(job).unwrap().is_ok());
    assert_eq!(fetched.by_ref().take(2).collect::<Vec<_>>(), [false, true]);
    assert!(fetched.all(|there| there));
}

#[test]
fn all_events_that_are_kept_are_fetched_without_a_wait() {
    let mut w = World::new();
    for _ in 0..50 {
        w.done(rename("red", "rot"));
        w.done(rename("rot", "red"));
    }
    let (mut numbers, mut answers) = (Vec::new(), 0);
    loop {
        let after = numbers.last().copied().unwrap_or(0);
        let Ok(Ok(Answer::Events(list))) = w.begin(&Request::Events { after, wait: false }) else {
            panic!("not answered at once")
        };
        answers += 1;
        if list.is_empty() {
            break;
        }
        numbers.extend(list.iter().map(|e| e.number));
    }
    assert!(answers > 2 && numbers.len() >= 100, "{answers} {}", numbers.len());
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b));
}

/// Returns a brane's state, and the milliseconds since its start and its last restart.
fn uptime(w: &mut World, brane: &str) -> (String, Option<u64>, Option<u64>) {
    use brane_abi::operator::Cell;
    let Ok(Answer::Report(report)) = w.call(Request::Uptime) else {
        panic!()
    };
    assert_eq!(report.facts, [("up_us".into(), Cell::Micros(w.now / 1_000))]);
    assert_eq!(report.columns, ["brane", "state", "started_us", "restarted_us"]);
    let mut rows = report.rows.into_iter();
    let row = rows.find(|row| row[0] == Cell::Text(brane.into())).unwrap();
    let time = |cell: &Cell| match cell {
        Cell::Micros(us) => Some(us / 1_000),
        _ => None,
    };
    let Cell::Text(state) = &row[1] else {
        panic!("{row:?}")
    };
    (state.clone(), time(&row[2]), time(&row[3]))
}

#[test]
fn uptime_counts_from_the_start_and_from_the_last_restart() {
    let mut w = World::new();
    let (state, begun, restarted) = uptime(&mut w, "red");
    let begun = begun.unwrap();
    assert_eq!((state.as_str(), restarted), ("started", None));
    w.pass(10_000);
    w.done(Request::Crash(named("red")));
    w.until_started("red");
    w.pass(5_000);
    let (_, started, restarted) = uptime(&mut w, "red");
    assert!(started.unwrap() >= begun + 15_000, "the start stays");
    assert!((4_500..10_000).contains(&restarted.unwrap()), "{restarted:?}");
    // A shutdown clears both times, and a start begins the first one.
    w.done(Request::Shutdown {
        name: named("red"),
        deadline_ms: 0,
    });
    assert_eq!(uptime(&mut w, "red"), ("created".into(), None, None));
    w.pass(5_000);
    w.done(Request::Start(named("red")));
    let (_, started, restarted) = uptime(&mut w, "red");
    assert!(started.unwrap() < 1_000 && restarted.is_none());
    w.create("green").unwrap();
    let (_, started, _) = uptime(&mut w, "green");
    assert!(started.unwrap() < 1_000);
}
