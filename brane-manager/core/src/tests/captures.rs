//! Captures: who may begin them, which branes take part, and what ends them.

use super::meanwhile::{delete, rename};
use super::*;
use crate::testing::{Manner, World};
use brane_abi::capture::{
    self, BRANE_CAPTURES, Capture, CaptureConfig, End, Link, MAX_CAPTURES, MAX_CONFIG, MAX_PROGRAM,
    MAX_SNAPLEN, MAX_STAGED, QUERY_SNAPLEN, Reader, Stage, Target,
};
use brane_abi::filter::Instruction;
use brane_abi::query::{self, Query};

/// Instances of the system. Three have a brane.
const INSTANCES: usize = 5;

fn wanted(tag: u32, target: Target) -> Capture {
    Capture {
        tag,
        target,
        reader: Reader::Line,
        snaplen: 96,
        staged: false,
    }
}

pub(super) fn capture(tag: u32, target: Target) -> Request {
    Request::Capture(wanted(tag, target))
}

fn brane(name: &str) -> Target {
    Target::Brane(name.into())
}

fn device(name: &str) -> Target {
    Target::Device(name.into())
}

fn interface(brane: &str, name: &str) -> Target {
    Target::Interface(brane.into(), name.into())
}

/// A program of `length` instructions that accepts every frame.
fn program(length: usize) -> Vec<Instruction> {
    vec![
        Instruction {
            code: 6,
            k: 1,
            ..Instruction::default()
        };
        length
    ]
}

fn stage(first: bool, link: Link, program: Vec<Instruction>) -> Request {
    Request::StageCapture(Stage { first, link, program })
}

impl World {
    /// Begins a capture that must begin. Returns its job.
    fn capture(&mut self, tag: u32, target: Target) -> u32 {
        let job = self.begin(&capture(tag, target)).expect_err("a job");
        self.run();
        assert_eq!(self.poll(job), None, "it lasts");
        job
    }

    /// Returns the captures of each brane's domain.
    fn captures(&self) -> Vec<Vec<(u32, Option<String>)>> {
        let of = |config: &BraneConfig| {
            let each = |c: &CaptureConfig| (c.tag, c.interface.clone());
            config.captures.iter().map(each).collect()
        };
        let pds = self.branes.iter();
        pds.map(|pd| pd.config.as_ref().map_or(Vec::new(), of)).collect()
    }

    fn ended(&mut self, job: u32) -> Option<End> {
        self.run();
        match self.poll(job)? {
            Ok(Answer::Captured(end)) => Some(end),
            other => panic!("{other:?}"),
        }
    }

    /// Begins a capture that is refused.
    fn capture_refused(&mut self, request: &Request) -> Refusal {
        self.begin(request).expect("no job").expect_err("a refusal")
    }
}

#[test]
fn each_target_has_its_branes_and_the_events_say_who_looks() {
    let none = || vec![Vec::new(); INSTANCES];
    let at = |n: usize, interface: Option<&str>| {
        let mut all = none();
        all[n].push((5, interface.map(Into::into)));
        all
    };
    let all = (0..INSTANCES)
        .map(|n| vec![(5, None); usize::from(n < 3)])
        .collect();
    for (target, expected, event) in [
        (Target::All, all, "capture-begun"),
        (brane("red"), at(1, None), "capture-begun red"),
        (
            interface("red", "net0"),
            at(1, Some("net0")),
            "capture-begun red vnic1",
        ),
        (
            interface("red", "lo0"),
            at(1, Some("lo0")),
            "capture-begun red lo0",
        ),
        (device("vnic2"), at(2, Some("net0")), "capture-begun blue vnic2"),
        (device("lo.2"), at(2, Some("lo0")), "capture-begun blue lo0"),
    ] {
        let mut w = World::new();
        let job = w.capture(5, target);
        assert_eq!(w.captures(), expected);
        let names = w.events(0);
        assert_eq!(names.last().unwrap(), event);
        assert_eq!(
            w.begin(&Request::StopCapture(5)),
            Ok(Ok(Answer::Done(operator::Done::Nothing)))
        );
        assert_eq!(w.ended(job), Some(End::Stopped));
        assert_eq!(w.captures(), none());
        assert_eq!(w.events(0).last().unwrap(), &event.replace("begun", "ended"));
        let nothing = Ok(Err(Refusal::NoSuchCapture(5)));
        assert_eq!(w.begin(&Request::StopCapture(5)), nothing);
        w.clean();
    }
}

#[test]
fn a_capture_ends_only_for_its_operator_and_with_its_job_or_its_operator() {
    let mut w = World::new();
    let job = w.capture(5, brane("red"));
    assert_eq!(
        w.begin_as(0, &Request::StopCapture(5)),
        Ok(Err(Refusal::NoSuchCapture(5)))
    );
    w.cancel_as(0, job);
    w.run();
    assert_eq!(w.captures()[1], [(5, None)]);
    w.cancel(job);
    w.run();
    assert_eq!(w.captures()[1], []);
    w.capture(6, Target::All);
    w.event(Event::Fault {
        child: Child::Operator(OperatorId::new(1)),
        what: "invalid instruction",
    });
    w.run();
    assert_eq!(w.captures(), vec![Vec::new(); INSTANCES]);
    let events = w.events(0);
    assert_eq!(
        events.iter().filter(|e| e.starts_with("capture-ended")).count(),
        2,
        "{events:?}"
    );
    w.clean();
}

#[test]
fn a_brane_that_comes_later_or_restarts_has_the_capture_in_its_configuration() {
    let mut w = World::new();
    let (all, red) = (w.capture(5, Target::All), w.capture(6, brane("red")));
    w.create("green").unwrap();
    assert_eq!(w.captures()[3], [(5, None)]);
    w.faults(1);
    w.run();
    w.until_started("red");
    assert_eq!(w.captures()[1], [(5, None), (6, None)]);
    let began = w.branes[1].config.as_ref().unwrap();
    assert!(began.captures.iter().all(|capture| capture.snaplen == 96));
    assert_eq!((w.ended(all), w.ended(red)), (None, None));
    w.begin(&Request::StopCapture(5)).unwrap().unwrap();
    assert_eq!(w.ended(all), Some(End::Stopped));
    w.faults(1);
    w.run();
    w.until_started("red");
    assert_eq!(w.captures()[1], [(6, None)]);
    w.clean();
}

#[test]
fn a_capture_of_an_interface_ends_when_it_leaves_its_brane() {
    let moves = |w: &mut World| {
        w.assign("vnic1", "blue").unwrap();
    };
    let removed = |w: &mut World| {
        w.done(Request::Remove("vnic1".into()));
    };
    let stopped = |w: &mut World| {
        let name = "red".into();
        w.done(Request::Shutdown { name, deadline_ms: 0 });
    };
    let deleted = |w: &mut World| {
        w.delete("red").unwrap();
    };
    let failed = |w: &mut World| {
        w.faults(1);
        w.run();
        w.until_started("red");
    };
    type Case = (fn(&mut World), End, Option<End>);
    let cases: [Case; 5] = [
        (moves, End::Moved, None),
        (removed, End::Moved, None),
        (stopped, End::BraneGone, Some(End::BraneGone)),
        (deleted, End::BraneGone, Some(End::BraneGone)),
        (failed, End::BraneFailed, None),
    ];
    for (change, end, of_brane) in cases {
        let targets = [device("vnic1"), brane("red"), Target::All];
        let ends = targets.map(|target| {
            let mut w = World::new();
            let job = w.capture(5, target);
            change(&mut w);
            let ended = w.ended(job);
            assert!(ended.is_none() || w.captures().iter().all(Vec::is_empty));
            w.clean();
            ended
        });
        assert_eq!(ends, [Some(end), of_brane, None]);
    }
}

#[test]
fn renames_do_not_end_a_capture_and_another_brane_of_the_name_is_not_shown() {
    let mut w = World::new();
    let job = w.capture(5, interface("red", "net0"));
    w.call(rename("red", "rot")).unwrap();
    w.done(Request::RenameInterface {
        brane: "rot".into(),
        from: "net0".into(),
        to: "wan".into(),
    });
    w.done(Request::RenameDevice {
        from: "vnic1".into(),
        to: "eth".into(),
    });
    assert_eq!(w.ended(job), None);
    w.create("red").unwrap();
    assert_eq!(w.captures()[3], []);
    w.call(delete("rot")).unwrap();
    assert_eq!(w.ended(job), Some(End::BraneGone));
    w.clean();
}

/// A brane that is not started shows its first frame to the capture.
#[test]
fn a_capture_can_begin_before_its_brane() {
    let mut w = World::new();
    w.done(Request::Create {
        name: "green".into(),
        families: None,
        start: false,
        memory: None,
    });
    let job = w.capture(5, brane("green"));
    let why = w.capture_refused(&capture(6, interface("green", "lo0")));
    assert!(matches!(why, Refusal::BraneIsNotStarted { .. }), "{why:?}");
    w.done(Request::Start("green".into()));
    assert_eq!(w.ended(job), None);
    assert_eq!(w.captures()[3], [(5, None)]);
    let name = "green".into();
    w.done(Request::Shutdown { name, deadline_ms: 0 });
    assert_eq!(w.ended(job), Some(End::BraneGone));
}

#[test]
fn captures_are_few() {
    let mut w = World::new();
    for tag in 0..BRANE_CAPTURES as u32 {
        w.capture(tag, brane("red"));
    }
    let most = BRANE_CAPTURES as u32;
    for target in [brane("red"), device("vnic1"), Target::All] {
        assert_eq!(
            w.capture_refused(&capture(9, target)),
            Refusal::TooManyCaptures(most)
        );
    }
    assert_eq!(
        w.capture_refused(&capture(0, brane("blue"))),
        Refusal::CaptureTagTaken(0)
    );
    for tag in most..MAX_CAPTURES as u32 {
        w.capture(tag, brane("blue"));
    }
    let most = MAX_CAPTURES as u32;
    assert_eq!(
        w.capture_refused(&capture(9, brane("main"))),
        Refusal::TooManyCaptures(most)
    );
    w.begin(&Request::StopCapture(0)).unwrap().unwrap();
    w.run();
    w.capture(9, brane("main"));
}

#[test]
fn impossible_captures_are_refused_and_begin_nothing() {
    let mut w = World::new();
    for (reader, most) in [(Reader::Line, MAX_SNAPLEN), (Reader::Query, QUERY_SNAPLEN)] {
        for snaplen in [0, most + 1] {
            let bad = Capture {
                reader,
                snaplen,
                ..wanted(1, Target::All)
            };
            let why = Refusal::ImpossibleSnaplen { snaplen, most };
            assert_eq!(w.capture_refused(&Request::Capture(bad)), why);
        }
    }
    for target in [
        brane("x"),
        device("x"),
        interface("x", "net0"),
        interface("red", "x"),
    ] {
        w.capture_refused(&capture(1, target));
    }
    w.done(Request::Remove("vnic1".into()));
    w.capture_refused(&capture(1, device("vnic1")));
    assert_eq!(w.captures(), vec![Vec::new(); INSTANCES]);
    assert!(w.events(0).iter().all(|event| !event.starts_with("capture")));
}

#[test]
fn programs_are_collected_for_each_operator_and_checked() {
    let mut w = World::new();
    let staged = |tag| {
        Request::Capture(Capture {
            staged: true,
            ..wanted(tag, brane("red"))
        })
    };
    let more = |length| stage(false, Link::Ethernet, program(length));
    assert_eq!(w.capture_refused(&more(1)), Refusal::NoProgramStaged);
    assert_eq!(w.capture_refused(&staged(1)), Refusal::NoProgramStaged);
    w.begin(&stage(true, Link::Raw, program(2))).unwrap().unwrap();
    w.begin(&more(MAX_STAGED)).unwrap().unwrap();
    w.begin(&more(1)).unwrap().unwrap();
    assert_eq!(w.begin_as(0, &staged(1)), Ok(Err(Refusal::NoProgramStaged)));
    assert!(w.begin(&staged(1)).is_err());
    w.run();
    let config = &w.branes[1].config.as_ref().unwrap().captures[0];
    assert_eq!((config.ethernet.len(), config.raw.len()), (MAX_STAGED + 1, 2));
    assert_eq!(w.capture_refused(&staged(2)), Refusal::NoProgramStaged);

    let mut bad = program(3);
    bad[1].code = 0xffff;
    w.begin(&stage(true, Link::Raw, bad)).unwrap().unwrap();
    let why = w.capture_refused(&staged(2));
    assert!(
        matches!(
            why,
            Refusal::BadProgram {
                link: Link::Raw,
                index: 1,
                ..
            }
        ),
        "{why:?}"
    );

    assert!(matches!(
        w.capture_refused(&stage(true, Link::Raw, program(MAX_STAGED + 1))),
        Refusal::ProgramTooLong { .. }
    ));
    w.begin(&stage(true, Link::Raw, program(1))).unwrap().unwrap();
    let too_long = (0..=MAX_PROGRAM / MAX_STAGED).find_map(|_| w.begin(&more(MAX_STAGED)).unwrap().err());
    assert_eq!(
        too_long,
        Some(Refusal::ProgramTooLong {
            instructions: (MAX_PROGRAM + MAX_STAGED) as u32,
            most: MAX_PROGRAM as u32,
        })
    );
    assert_eq!(w.capture_refused(&staged(2)), Refusal::NoProgramStaged);

    w.begin(&stage(true, Link::Raw, program(1))).unwrap().unwrap();
    for _ in 0..MAX_PROGRAM / MAX_STAGED {
        w.begin(&more(MAX_STAGED)).unwrap().unwrap();
    }
    let why = w.capture_refused(&staged(2));
    assert!(
        matches!(why, Refusal::CaptureTooLong { most, .. } if most as usize == MAX_CONFIG),
        "{why:?}"
    );
}

#[test]
fn a_brane_that_refuses_ends_the_capture_everywhere() {
    let mut w = World::new();
    w.branes[2].manner = Manner::Refuses(command::CAPTURE);
    let job = w.begin(&capture(5, Target::All)).unwrap_err();
    w.run();
    let why = w.poll(job).expect("it has ended").unwrap_err();
    assert!(matches!(why, Refusal::RefusedByBrane(_)), "{why:?}");
    assert_eq!(w.captures(), vec![Vec::new(); INSTANCES]);
}

/// The last records of a capture are in the ring before its answer, so the job waits for the brane.
#[test]
fn the_end_waits_for_the_brane_and_a_silent_brane_is_restarted() {
    let mut w = World::new();
    let job = w.capture(5, brane("red"));
    w.branes[1].manner = Manner::Deaf(command::UNCAPTURE);
    w.begin(&Request::StopCapture(5)).unwrap().unwrap();
    assert_eq!(w.ended(job), None);
    w.branes[1].manner = Manner::Honest;
    w.pass(3000);
    assert_eq!(w.ended(job), Some(End::Stopped));
    w.until_started("red");
    assert_eq!(w.captures()[1], []);
    w.clean();
}

#[test]
fn frames_that_a_brane_reports_are_checked() {
    let frame = |interface: &str, bytes: usize| capture::Captured {
        time_ns: 1,
        interface: interface.into(),
        link: Link::Raw,
        sent: true,
        length: 9,
        bytes: vec![0; bytes],
    };
    let answer = |frames| {
        minicbor::to_vec(query::Answer::Captured {
            frames,
            dropped: 0,
            end: None,
            now_ns: 5,
        })
        .unwrap()
    };
    assert!(decode::query_answer(&answer(vec![frame("net0", 128); 16])).is_ok());
    assert!(decode::query_answer(&answer(vec![frame("net0", 129)])).is_err());
    assert!(decode::query_answer(&answer(vec![frame("net0", 1); 17])).is_err());
    assert!(decode::query_answer(&answer(vec![frame("\x1b[2J", 1)])).is_err());
    let mut w = World::new();
    let query = Query::Captured(5);
    let brane = "red".into();
    assert!(w.call(Request::Query { brane, query }).is_ok());
}
