//! `capture` as the console executes it.

use super::*;
use brane_abi::capture::{Capture, Captured, End as Reason, Link, QUERY_FRAMES, Reader, Target};
use brane_abi::operator::Names;

fn names() -> Result<Answer, Refusal> {
    Ok(Answer::Names(Names {
        branes: vec!["main".into(), "red".into()],
        devices: vec!["vnic1".into()],
        ..Names::default()
    }))
}

fn done() -> Result<Answer, Refusal> {
    Ok(Answer::Done(Done::Staged(1)))
}

fn frame(time_ns: u64) -> Captured {
    Captured {
        time_ns,
        interface: "net0".into(),
        link: Link::Ethernet,
        sent: true,
        length: 60,
        bytes: vec![0xff; 20],
    }
}

fn frames(count: usize, dropped: u64, end: Option<Reason>) -> Result<Answer, Refusal> {
    Ok(Answer::Query(query::Answer::Captured {
        frames: (0..count as u64).map(|n| frame(1_000_000 * n)).collect(),
        dropped,
        end,
        now_ns: 5,
    }))
}

fn polled(brane: &str) -> Request {
    Request::Query {
        brane: brane.into(),
        query: Query::Captured(1),
    }
}

#[test]
fn a_capture_is_staged_begun_read_and_stopped() {
    let answers = vec![
        names(),
        done(),
        done(),
        done(),
        frames(1, 0, None),
        frames(0, 0, None),
        frames(2, 3, None),
        done(),
    ];
    let (asked, out, end) = run("capture red -c 3 -s 64 proto udp", answers);
    assert_eq!(asked[0], Request::Names);
    let staged = |request: &Request| matches!(request, Request::StageCapture(_));
    assert!(staged(&asked[1]) && staged(&asked[2]), "{asked:?}");
    let capture = Capture {
        tag: 1,
        target: Target::Brane("red".into()),
        reader: Reader::Query,
        snaplen: 64,
        staged: true,
    };
    assert_eq!(asked[3], Request::Capture(capture));
    assert_eq!(asked[4..7], [polled("red"), polled("red"), polled("red")]);
    assert_eq!(asked[7..], [Request::StopCapture(1)]);
    assert_eq!(out.text.lines().count(), 3);
    assert!(
        out.text.starts_with(
            "0.000000 red/net0 Out ethertype 0xffff ff:ff:ff:ff:ff:ff > ff:ff:ff:ff:ff:ff, length 60\n"
        ),
        "{}",
        out.text
    );
    assert_eq!(out.error, "capture: 3 frames captured, 3 dropped\n");
    assert_eq!(end, Some(End::Success));
}

#[test]
fn all_branes_are_read_and_one_that_does_not_run_is_left_out() {
    let refused = Err(Refusal::NoSuchBrane("main".into(), Default::default()));
    let answers = vec![
        names(),
        done(),
        refused,
        frames(1, 0, None),
        // The second round.
        frames(1, 0, None),
        frames(0, 0, Some(Reason::Moved)),
        // Only one brane is left.
        frames(0, 0, Some(Reason::BraneGone)),
        done(),
    ];
    let (asked, out, end) = run("capture all", answers);
    let expected = ["main", "red", "main", "red", "main"].map(polled);
    assert_eq!(asked[2..7], expected);
    assert_eq!(asked[7..], [Request::StopCapture(1)]);
    assert_eq!(
        out.error,
        "red: the interface has left the brane; capture ended\nmain: the brane was shut down or deleted; capture \
         ended\ncapture: 2 frames captured, 0 dropped\n"
    );
    assert_eq!(end, Some(End::Success));
}

#[test]
fn a_device_is_read_in_the_brane_that_has_it() {
    let devices = || Ok(Answer::Devices(samples::devices()));
    let (asked, ..) = run(
        "capture vnic1",
        vec![names(), devices(), done(), frames(0, 0, None)],
    );
    assert_eq!(asked[1], Request::Devices);
    assert!(
        matches!(&asked[2], Request::Capture(c) if c.target == Target::Device("vnic1".into()) && !c.staged)
    );
    assert_eq!(asked[3], polled("red"));
}

#[test]
fn a_brane_cannot_keep_the_operator_in_one_round() {
    let mut answers = vec![names(), done()];
    answers.extend((0..20).map(|_| frames(QUERY_FRAMES + 5, 0, None)));
    let (asked, out, _) = run("capture all", answers);
    // Eight queries to each brane in each round, and at most the frames of an answer from each.
    let of = |from: usize, brane| {
        asked[from..from + 8]
            .iter()
            .all(|request| *request == polled(brane))
    };
    assert!(of(2, "main") && of(10, "red"), "{asked:?}");
    assert_eq!(out.text.lines().count(), 20 * QUERY_FRAMES);
}

#[test]
fn ctrl_c_stops_the_capture() {
    let mut session = session("capture red");
    let mut out = Output::default();
    assert_eq!(session.step(None, &mut out), Step::Send(Request::Names));
    session.step(Some(names()), &mut out);
    assert_eq!(session.step(Some(done()), &mut out), Step::Send(polled("red")));
    assert_eq!(session.cancel(&mut out), Step::Send(Request::StopCapture(1)));
    assert_eq!(session.step(Some(done()), &mut out), Step::Done(End::Success));
    assert_eq!(out.error, "capture: 0 frames captured, 0 dropped\n");
    // Before the capture has begun there is nothing to stop.
    let mut session = super::session("capture red");
    session.step(None, &mut out);
    assert_eq!(session.cancel(&mut out), Step::Done(End::Success));
}

#[test]
fn what_cannot_be_captured_is_said() {
    let (asked, out, end) = run("capture red -w x.pcapng", vec![]);
    assert_eq!((asked.len(), end), (0, Some(End::Failure)));
    assert!(
        out.error.starts_with("capture -w works only on the host"),
        "{}",
        out.error
    );
    let (_, out, end) = run("capture redd", vec![names()]);
    assert_eq!(
        out.error,
        "no brane or device named \"redd\": did you mean red?\n"
    );
    assert_eq!(end, Some(End::Failure));
    let (asked, out, _) = run("capture red udp port 53", vec![names()]);
    assert_eq!(asked.len(), 1);
    assert!(out.error.contains("column 1"), "{}", out.error);
    let refused = Err(Refusal::NoSuchBrane("red".into(), Default::default()));
    let (_, out, end) = run("capture red", vec![names(), refused]);
    assert_eq!((out.error.contains("red"), end), (true, Some(End::Failure)));
}
