//! Two lines, of which the one that said hello last has the session.

use brane_abi::remote::{Decoder, Hello, Kind, STATUS_OK, VERSION, encode};
use remote_core::lines::{Line, Sessions};
use remote_core::{Manager, Reply};

/// A manager whose answer to every request is a job, which ends only when it is cancelled.
#[derive(Default)]
struct Jobs {
    begun: u64,
    cancelled: Vec<u64>,
}

impl Manager for Jobs {
    fn call(&mut self, request: &[u8]) -> Reply {
        if request == b"now" {
            return Reply::Done(STATUS_OK, vec![7; 20_000]);
        }
        self.begun += 1;
        Reply::Later(self.begun)
    }
    fn poll(&mut self, job: u64) -> Reply {
        Reply::Later(job)
    }
    fn cancel(&mut self, job: u64) {
        self.cancelled.push(job);
    }
}

/// Returns the kinds and numbers of all frames for a line.
fn heard(sessions: &mut Sessions, line: Line) -> Vec<(Kind, u32)> {
    let mut bytes = Vec::new();
    sessions.flush(line, |part| {
        bytes.extend_from_slice(part);
        part.len()
    });
    frames(&bytes)
}

fn frames(mut rest: &[u8]) -> Vec<(Kind, u32)> {
    let (mut decoder, mut heard) = (Decoder::new(), Vec::new());
    while !rest.is_empty() {
        let taken = decoder.feed(rest, |frame| heard.push((frame.kind, frame.number)));
        rest = &rest[taken..];
    }
    assert_eq!(decoder.garbled, 0);
    heard
}

fn hello(sessions: &mut Sessions, line: Line, session: u64, manager: &mut Jobs) {
    let version = VERSION;
    let frame = encode(Kind::Hello, 0, &Hello { version, session }.to_bytes());
    sessions.receive(line, &frame, manager);
    assert_eq!(heard(sessions, line), [(Kind::Hello, 0)]);
}

#[test]
fn a_hello_on_one_line_ends_the_session_on_the_other() {
    let (mut sessions, mut manager) = (Sessions::new(), Jobs::default());
    hello(&mut sessions, Line::Uart, 5, &mut manager);
    sessions.receive(Line::Uart, &encode(Kind::Request, 1, b"job"), &mut manager);
    assert_eq!(heard(&mut sessions, Line::Uart), [(Kind::Pending, 1)]);
    assert!(sessions.waits());

    hello(&mut sessions, Line::Console, 6, &mut manager);
    assert_eq!(manager.cancelled, [1]);
    assert!(!sessions.waits());
    // The earlier program is told that it has no session, and nothing is executed for it.
    sessions.receive(Line::Uart, &encode(Kind::Request, 2, b"job"), &mut manager);
    assert_eq!(heard(&mut sessions, Line::Uart), [(Kind::Hello, 0)]);
    assert_eq!(manager.begun, 1);
    // That does not disturb the present one.
    sessions.receive(Line::Console, &encode(Kind::Request, 1, b"job"), &mut manager);
    assert_eq!(heard(&mut sessions, Line::Console), [(Kind::Pending, 1)]);
    // A repeated hello of the present session changes nothing.
    hello(&mut sessions, Line::Console, 6, &mut manager);
    assert_eq!(manager.cancelled, [1]);

    hello(&mut sessions, Line::Uart, 5, &mut manager);
    assert_eq!(manager.cancelled, [1, 2]);
}

#[test]
fn bytes_of_two_lines_do_not_mix_and_a_begun_frame_is_sent_to_its_end() {
    let (mut sessions, mut manager) = (Sessions::new(), Jobs::default());
    hello(&mut sessions, Line::Uart, 5, &mut manager);
    sessions.receive(Line::Uart, &encode(Kind::Request, 1, b"now"), &mut manager);
    let mut begun = Vec::new();
    sessions.flush(Line::Uart, |part| {
        let count = if begun.is_empty() { 100 } else { 0 };
        begun.extend_from_slice(&part[..count]);
        count
    });
    // Half of a frame on one line, and a whole one on the other.
    let request = encode(Kind::Request, 2, b"now");
    sessions.receive(Line::Uart, &request[..4], &mut manager);
    hello(&mut sessions, Line::Console, 6, &mut manager);
    sessions.receive(Line::Uart, &request[4..], &mut manager);
    sessions.flush(Line::Uart, |part| {
        begun.extend_from_slice(part);
        part.len()
    });
    assert_eq!(frames(&begun), [(Kind::Answer, 1), (Kind::Hello, 0)]);
    let parts = encode(Kind::Request, 1, b"now");
    sessions.receive(Line::Console, &parts, &mut manager);
    assert_eq!(heard(&mut sessions, Line::Console), [(Kind::Answer, 1); 3]);
}
