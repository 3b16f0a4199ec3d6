//! A session with a host, over a simulated manager.

use brane_abi::operator::JOBS;
use brane_abi::remote::{
    CHUNK, Chunk, Decoder, Hello, Kind, STATUS_ERROR, STATUS_GONE, STATUS_OK, VERSION, encode,
};
use proptest::prelude::*;
use remote_core::{Manager, Reply, Session};
use std::collections::BTreeMap;

/// Simulated manager. It answers a request with the request's own bytes twice. A request that begins with `l` is a job, one with
/// `x` is refused, and one with `b` has a long answer.
#[derive(Default)]
struct Played {
    calls: Vec<Vec<u8>>,
    jobs: BTreeMap<u64, Option<Vec<u8>>>,
    cancelled: Vec<u64>,
}

impl Manager for Played {
    fn call(&mut self, request: &[u8]) -> Reply {
        self.calls.push(request.to_vec());
        match request.first() {
            Some(b'l') => {
                let job = self.calls.len() as u64;
                self.jobs.insert(job, None);
                Reply::Later(job)
            }
            Some(b'x') => Reply::Done(STATUS_ERROR, request.to_vec()),
            Some(b'b') => Reply::Done(STATUS_OK, vec![7; 70_000]),
            _ => Reply::Done(STATUS_OK, request.repeat(2)),
        }
    }

    fn cancel(&mut self, job: u64) {
        self.cancelled.push(job);
    }

    fn poll(&mut self, job: u64) -> Reply {
        match self.jobs.get(&job).cloned().flatten() {
            Some(text) => Reply::Done(STATUS_OK, text),
            None => Reply::Later(job),
        }
    }
}

struct Bench {
    session: Session,
    manager: Played,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench {
            session: Session::new(),
            manager: Played::default(),
        };
        assert_eq!(bench.hello(VERSION, 5), [(Kind::Hello, 0, hello(5))]);
        bench
    }

    fn hello(&mut self, version: u16, session: u64) -> Vec<(Kind, u32, Vec<u8>)> {
        self.send(Kind::Hello, 0, &Hello { version, session }.to_bytes())
    }

    /// Sends a frame. Returns the session's frames in reply.
    fn send(&mut self, kind: Kind, number: u32, body: &[u8]) -> Vec<(Kind, u32, Vec<u8>)> {
        self.bytes(&encode(kind, number, body))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Vec<(Kind, u32, Vec<u8>)> {
        self.session.receive(bytes, &mut self.manager);
        self.heard()
    }

    fn heard(&mut self) -> Vec<(Kind, u32, Vec<u8>)> {
        let (mut line, mut heard) = (Vec::new(), Vec::new());
        self.session.flush(|bytes| {
            let count = bytes.len().min(700);
            line.extend_from_slice(&bytes[..count]);
            count
        });
        let mut decoder = Decoder::new();
        let mut rest = &line[..];
        while !rest.is_empty() {
            let taken = decoder.feed(rest, |f| heard.push((f.kind, f.number, f.body.to_vec())));
            rest = &rest[taken..];
        }
        assert_eq!(decoder.garbled, 0);
        heard
    }
}

fn hello(session: u64) -> Vec<u8> {
    let version = VERSION;
    Hello { version, session }.to_bytes().to_vec()
}

fn answer(number: u32, status: u8, text: &[u8]) -> (Kind, u32, Vec<u8>) {
    let total = text.len() as u32;
    let chunk = Chunk {
        status,
        total,
        offset: 0,
        bytes: text,
    };
    (Kind::Answer, number, chunk.to_bytes())
}

#[test]
fn a_request_is_done_once_however_often_it_comes() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        assert_eq!(
            bench.send(Kind::Request, 1, b"ab"),
            [answer(1, STATUS_OK, b"abab")]
        );
    }
    assert_eq!(
        bench.send(Kind::Request, 2, b"x"),
        [answer(2, STATUS_ERROR, b"x")]
    );
    assert_eq!(bench.manager.calls, [b"ab".to_vec(), b"x".to_vec()]);
    // Much later its answer is no longer kept, but its number is known.
    for number in 3..40 {
        bench.send(Kind::Request, number, b"c");
    }
    assert_eq!(bench.send(Kind::Request, 1, b"ab"), [answer(1, STATUS_GONE, b"")]);
    assert_eq!(bench.manager.calls.len(), 39);
}

#[test]
fn what_takes_longer_is_told_when_it_is_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(Kind::Request, 1, b"l"), [(Kind::Pending, 1, vec![])]);
    assert_eq!(bench.send(Kind::Request, 1, b"l"), [(Kind::Pending, 1, vec![])]);
    assert!(bench.session.waits());
    bench.session.poll(&mut bench.manager);
    assert_eq!(bench.heard(), [], "it has not ended");
    assert_eq!(
        bench.send(Kind::Request, 2, b"q"),
        [answer(2, STATUS_OK, b"qq")],
        "others need not wait"
    );
    bench.manager.jobs.insert(1, Some(b"end".to_vec()));
    bench.session.poll(&mut bench.manager);
    assert_eq!(bench.heard(), [answer(1, STATUS_OK, b"end")]);
    assert!(!bench.session.waits());
    assert_eq!(bench.send(Kind::Request, 1, b"l"), [answer(1, STATUS_OK, b"end")]);
    assert_eq!(bench.manager.calls.len(), 2);
}

#[test]
fn so_many_are_under_way_and_no_more() {
    let mut bench = Bench::new();
    for number in 1..=JOBS as u32 {
        assert_eq!(
            bench.send(Kind::Request, number, b"l"),
            [(Kind::Pending, number, vec![])]
        );
    }
    assert_eq!(bench.send(Kind::Request, 99, b"l"), [(Kind::Busy, 99, vec![])]);
    assert_eq!(bench.manager.calls.len(), JOBS);
    assert_eq!(bench.send(Kind::Cancel, 3, b""), []);
    assert_eq!(bench.manager.cancelled, [3], "the manager need not keep it");
    assert_eq!(bench.send(Kind::Request, 99, b"l"), [(Kind::Pending, 99, vec![])]);
    assert_eq!(
        bench.send(Kind::Request, 3, b"l"),
        [answer(3, STATUS_GONE, b"")],
        "it is not done again"
    );
    // Another program begins: the jobs of the earlier program are cancelled.
    bench.hello(VERSION, 6);
    assert_eq!(bench.manager.cancelled.len(), 1 + JOBS);
}

#[test]
fn long_answers_come_in_parts_and_take_turns() {
    let mut bench = Bench::new();
    let mut line = encode(Kind::Request, 1, b"b");
    line.extend(encode(Kind::Request, 2, b"b"));
    let heard = bench.bytes(&line);
    let numbers: Vec<u32> = heard.iter().map(|(_, number, _)| *number).take(4).collect();
    assert!(numbers == [1, 2, 1, 2] || numbers == [2, 1, 2, 1], "{numbers:?}");
    for wanted in [1, 2] {
        let mut whole = Vec::new();
        for (_, _, body) in heard.iter().filter(|(_, number, _)| *number == wanted) {
            let chunk = Chunk::from_bytes(body).unwrap();
            assert_eq!((chunk.offset as usize, chunk.total), (whole.len(), 0x1_0000));
            assert!(chunk.bytes.len() <= CHUNK);
            whole.extend_from_slice(chunk.bytes);
        }
        assert_eq!(whole, [7; 0x1_0000], "what goes beyond the region is cut off");
    }
}

#[test]
fn a_garbled_request_is_not_done_and_the_host_hears_of_it() {
    let mut bench = Bench::new();
    let mut line = encode(Kind::Request, 1, b"ab");
    line[2] ^= 0x40;
    assert_eq!(bench.bytes(&line), [(Kind::Garbled, 1, vec![])]);
    assert!(bench.manager.calls.is_empty());
    assert_eq!(
        bench.send(Kind::Request, 1, b"ab"),
        [answer(1, STATUS_OK, b"abab")]
    );
    assert_eq!(bench.session.garbled(), 1);
}

#[test]
fn nothing_is_done_for_whom_has_not_said_hello_in_this_version() {
    let mut bench = Bench {
        session: Session::new(),
        manager: Played::default(),
    };
    assert_eq!(bench.send(Kind::Request, 1, b"ab"), [(Kind::Hello, 0, hello(0))]);
    assert_eq!(bench.hello(VERSION + 1, 8), [(Kind::Hello, 0, hello(0))]);
    assert_eq!(bench.hello(VERSION, 0), [(Kind::Hello, 0, hello(0))]);
    assert!(bench.manager.calls.is_empty());
}

#[test]
fn a_new_session_has_numbers_of_its_own() {
    let mut bench = Bench::new();
    bench.send(Kind::Request, 1, b"ab");
    bench.send(Kind::Request, 2, b"l");
    assert_eq!(bench.hello(VERSION, 6), [(Kind::Hello, 0, hello(6))]);
    assert!(!bench.session.waits());
    assert_eq!(
        bench.send(Kind::Request, 1, b"cd"),
        [answer(1, STATUS_OK, b"cdcd")]
    );
    // A repeated hello in one session changes nothing.
    bench.hello(VERSION, 6);
    assert_eq!(
        bench.send(Kind::Request, 1, b"cd"),
        [answer(1, STATUS_OK, b"cdcd")]
    );
    assert_eq!(bench.manager.calls.len(), 3);
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    let mut bench = Bench::new();
    let heard = bench.send(Kind::Request, 1, &[b'a'; 800]);
    let chunk = Chunk::from_bytes(&heard[0].2).unwrap();
    assert_eq!(chunk.status, STATUS_ERROR);
    assert!(bench.manager.calls.is_empty());
}

proptest! {
    #[test]
    fn whatever_comes_is_bounded(frames in proptest::collection::vec(
        (1..8_u8, 0..20_u32, proptest::collection::vec(any::<u8>(), 0..12), 0..40_usize), 0..200))
    {
        let mut bench = Bench::new();
        for (kind, number, body, hit) in frames {
            let kinds = [Kind::Hello, Kind::Request, Kind::Request, Kind::Cancel, Kind::Answer, Kind::Pending, Kind::Busy];
            let mut line = encode(kinds[kind as usize - 1], number, &body);
            if let Some(byte) = line.get_mut(hit) {
                *byte = byte.wrapping_add(u8::from(hit < 8));
            }
            bench.session.receive(&line, &mut bench.manager);
        }
        let heard = bench.heard();
        // At most the waiting short frames and the answers under way.
        prop_assert!(heard.len() <= 32 + JOBS * 70);
        let mut known = BTreeMap::new();
        for (kind, number, body) in heard {
            if kind == Kind::Answer {
                let chunk = Chunk::from_bytes(&body).unwrap();
                if chunk.status != STATUS_GONE {
                    let so_far = known.entry(number).or_insert(0);
                    prop_assert_eq!(chunk.offset, *so_far);
                    *so_far += chunk.bytes.len() as u32;
                }
            }
        }
    }
}
