use super::*;
use brane_abi::control::Counter;
use brane_abi::operator::{CounterGroup, Done};
use brane_abi::query;
use proptest::prelude::*;

fn shown(session: &mut Session) -> String {
    let mut out = Vec::new();
    session.flush(|bytes| {
        let n = bytes.len().min(7);
        out.extend_from_slice(&bytes[..n]);
        n
    });
    String::from_utf8(out).unwrap()
}

fn typed(session: &mut Session, text: &str) -> Vec<Todo> {
    text.bytes().filter_map(|b| session.key(b)).collect()
}

fn names() -> Result<Answer, Refusal> {
    let all = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Ok(Answer::Names(Names {
        branes: all(&["main", "red", "blue"]),
        devices: all(&["vnic0", "vnic1"]),
        interfaces: all(&["red/net0"]),
        nics: all(&["nic0"]),
        logs: all(&["brane-0", "nic0"]),
    }))
}

/// Returns an answer of two lines.
fn stats() -> Result<Answer, Refusal> {
    Ok(Answer::Stats(vec![CounterGroup {
        name: "red".into(),
        counters: vec![Counter {
            name: "state".into(),
            value: 1,
        }],
    }]))
}

fn done(text: &str) -> Result<Answer, Refusal> {
    Ok(Answer::Done(Done::Limited(text.into())))
}

#[test]
fn a_command_is_echoed_and_the_prompt_waits_for_its_answer() {
    let mut s = Session::new();
    assert_eq!(shown(&mut s), "Type `help` for the commands.\r\nbranes> ");
    assert_eq!(
        typed(&mut s, "show red\r"),
        [Todo::Send(Request::Show("red".into()))]
    );
    assert_eq!(shown(&mut s), "show red\r\n");
    assert!(s.is_busy());
    assert_eq!(s.answer(stats()), None);
    assert_eq!(
        shown(&mut s),
        "red\r\n  state  1\r\ncounters that are not listed are 0\r\nbranes> "
    );
}

#[test]
fn what_is_typed_meanwhile_is_carried_out_afterwards() {
    let mut s = Session::new();
    typed(&mut s, "crash red\r");
    assert_eq!(typed(&mut s, "list\rshow blue\r"), [], "not before the answer");
    shown(&mut s);
    assert_eq!(
        s.answer(done("ok")),
        Some(Todo::Send(Request::List { fresh: true }))
    );
    assert_eq!(shown(&mut s), "ok has its new limits\r\nbranes> list\r\n");
    assert_eq!(
        s.answer(done("ok")),
        Some(Todo::Send(Request::Show("blue".into())))
    );
    typed(&mut s, &"x".repeat(2 * TYPEAHEAD));
    assert_eq!(s.kept.len(), TYPEAHEAD);
}

#[test]
fn help_and_errors_need_nobody() {
    let mut s = Session::new();
    shown(&mut s);
    assert_eq!(typed(&mut s, "help\r"), []);
    let text = shown(&mut s);
    for program in [Program::Branectl] {
        for verb in program.verbs() {
            assert!(text.contains(&format!("\r\n{} ", verb.name)), "{text}");
        }
    }
    assert!(text.ends_with("\r\nbranes> "), "{text:?}");
    assert_eq!(typed(&mut s, "lst\r"), []);
    assert_eq!(
        shown(&mut s),
        "lst\r\nno verb \"lst\": did you mean list?\r\nbranes> "
    );
    assert_eq!(typed(&mut s, "crash\r  \r"), []);
    assert_eq!(
        shown(&mut s),
        "crash\r\nmissing BRANE: usage: crash BRANE [-j]\r\nbranes>   \r\nbranes> "
    );
}

#[test]
fn ctrl_c_ends_a_ping_and_shows_what_is_known() {
    let mut s = Session::new();
    typed(&mut s, "in red ping 10.0.2.2\r");
    let echo = query::Answer::Echo {
        from: [10, 0, 2, 2].into(),
        size: 56,
        ttl: 64,
        rtt_us: 250,
    };
    assert_eq!(s.answer(Ok(Answer::Query(echo))), Some(Todo::Pause(1000)));
    assert!(matches!(s.passed(), Some(Todo::Send(_))));
    shown(&mut s);
    assert_eq!(s.key(3), None);
    assert!(!s.is_busy());
    let text = shown(&mut s);
    assert!(
        text.starts_with("^C\r\n2 sent, 1 received, 50% lost\r\n"),
        "{text}"
    );
    assert!(text.ends_with("branes> "));
}

#[test]
fn events_go_on_until_a_key() {
    let mut s = Session::new();
    assert_eq!(
        typed(&mut s, "events\r\n"),
        [Todo::Send(Request::Events { after: 0, wait: true })]
    );
    let event = brane_abi::operator::Event {
        number: 8,
        what: "started".into(),
        brane: Some("red".into()),
        ..Default::default()
    };
    assert_eq!(
        s.answer(Ok(Answer::Events(vec![event]))),
        Some(Todo::Send(Request::Events { after: 8, wait: true }))
    );
    assert!(shown(&mut s).contains("started red\r\n"));
    assert_eq!(s.key(b'q'), None);
    assert!(!s.is_busy());
    assert_eq!(shown(&mut s), "branes> ");
    assert_eq!(s.answer(done("late")), None, "what comes late is not shown");
    assert_eq!(shown(&mut s), "");
}

#[test]
fn tab_completes_verbs_and_names() {
    let mut s = Session::new();
    shown(&mut s);
    assert_eq!(typed(&mut s, "sho\t"), [Todo::Send(Request::Names)]);
    s.answer(names());
    assert_eq!(typed(&mut s, "r\t"), [Todo::Send(Request::Names)]);
    s.answer(names());
    assert_eq!(shown(&mut s), "show red ");
    assert_eq!(typed(&mut s, "\r"), [Todo::Send(Request::Show("red".into()))]);
    s.answer(done("ok"));
    // Several candidates: first their common prefix, then all of them.
    typed(&mut s, "assign v\t");
    s.answer(names());
    typed(&mut s, "\t");
    shown(&mut s);
    s.answer(names());
    assert_eq!(shown(&mut s), "\r\nvnic0  vnic1\r\nbranes> assign vnic");
    // Keys typed before the names arrive are kept. Without names, verbs are completed nevertheless.
    typed(&mut s, "\x15aud\t");
    assert_eq!(typed(&mut s, "\r"), []);
    let refusal = Refusal::TooManyJobs;
    assert_eq!(s.answer(Err(refusal)), Some(Todo::Send(Request::Audit)));
}

#[test]
fn a_brane_is_entered_and_left() {
    let mut s = Session::new();
    assert_eq!(typed(&mut s, "enter red\r"), [Todo::Send(Request::Names)]);
    s.answer(names());
    assert!(shown(&mut s).ends_with("red# "));
    let query = query::Query::Interfaces(None);
    let asked = Request::Query {
        brane: "red".into(),
        query,
    };
    assert_eq!(typed(&mut s, "ifconfig -a\r"), [Todo::Send(asked)]);
    let refusal = query::Refusal::NoSuchInterface("net9".into());
    s.answer(Ok(Answer::Query(query::Answer::Refused(refusal))));
    assert!(
        shown(&mut s)
            .ends_with("no interface named \"net9\": `ifconfig` shows the interfaces of the brane\r\nred# ")
    );
    for line in ["branectl create x\r", "nicctl create vnic x\r"] {
        assert_eq!(typed(&mut s, line), [], "{line}");
        let text = shown(&mut s);
        assert!(
            text.ends_with(
                "manages the whole system, and this prompt only brane red: write exit first; `help` lists the commands here\r\nred# "
            ),
            "{text}"
        );
    }
    typed(&mut s, "exit\r");
    assert!(shown(&mut s).ends_with("exit\r\nbranes> "));
    typed(&mut s, "enter grey\r");
    s.answer(names());
    assert!(shown(&mut s).ends_with("no brane named \"grey\": the branes are main, red, blue\r\nbranes> "));
}

#[test]
fn what_nobody_takes_is_bounded_and_counted() {
    let mut s = Session::new();
    typed(&mut s, "list\r");
    s.answer(done(&"x".repeat(2 * MAX_PENDING)));
    assert!(s.lost() > MAX_PENDING as u64 - 100);
    assert_eq!(shown(&mut s).len(), MAX_PENDING);
    assert_eq!(typed(&mut s, "audit\r"), [Todo::Send(Request::Audit)]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'"'),
        Just(b'\x1b'), Just(b'['), Just(b'\t'), Just(b' '), b'a'..=b'z'], 0..400)) {
        let mut s = Session::new();
        for byte in bytes {
            let mut todo = s.key(byte);
            for _ in 0..100 {
                todo = match todo {
                    Some(Todo::Send(Request::Names)) => s.answer(names()),
                    Some(Todo::Send(_)) => s.answer(done("done")),
                    Some(Todo::Pause(_)) => s.passed(),
                    None => break,
                };
            }
        }
        // After any input, Ctrl-C brings the prompt back.
        s.key(0x18);
        s.key(3);
        s.key(3);
        let mut out = Vec::new();
        s.flush(|b| { out.extend_from_slice(b); b.len() });
        let out = String::from_utf8_lossy(&out);
        prop_assert!(out.ends_with("> ") || out.ends_with("# "), "{}", out);
    }
}

#[test]
fn any_key_ends_a_capture_after_the_system_was_told() {
    let polled = Todo::Send(Request::Query {
        brane: "red".into(),
        query: query::Query::Captured(operator_cli::capture::CONSOLE_TAG),
    });
    let stop = Todo::Send(Request::StopCapture(operator_cli::capture::CONSOLE_TAG));
    for key in *b"q\x03" {
        let mut s = Session::new();
        assert_eq!(typed(&mut s, "capture red\r\n"), [Todo::Send(Request::Names)]);
        assert!(matches!(s.answer(names()), Some(Todo::Send(Request::Capture(_)))));
        assert_eq!(s.answer(done("red")), Some(polled.clone()));
        shown(&mut s);
        assert_eq!(s.key(key), Some(stop.clone()));
        assert!(s.is_busy());
        assert_eq!(s.answer(done("red")), None);
        assert!(!s.is_busy());
        let screen = shown(&mut s);
        assert!(
            screen.ends_with("capture: 0 frames captured, 0 dropped\r\nbranes> "),
            "{screen}"
        );
    }
    // A second key ends the command if the system does not answer.
    let mut s = Session::new();
    typed(&mut s, "capture red\r");
    s.answer(names());
    s.answer(done("red"));
    assert_eq!(s.key(CANCEL), Some(stop));
    assert_eq!(s.key(CANCEL), None);
    assert!(!s.is_busy());
}
