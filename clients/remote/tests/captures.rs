//! Captured frames from branes to the host. The test plays the branes over the real rings, and the manager and the host.

use brane_abi::capture::line::{Fragment, Header, TIME};
use brane_abi::capture::{Capture, FrameHeader, Gone, Interface, Link, Reader, Target, record};
use brane_abi::endpoint::{Endpoint, LinkEvent};
use brane_abi::layout::capture;
use brane_abi::link::Side;
use brane_abi::operator::Request;
use brane_abi::remote::{Decoder, Hello, Kind, STATUS_OK, VERSION, encode};
use brane_abi::ring::{Producer, RingError};
use brane_abi::shared::SharedRegion;
use remote_core::captures::BUDGET;
use remote_core::{Manager, Reply, Session};
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use zerocopy::{FromBytes, IntoBytes};

const NOW: u64 = 123_456;

/// Zeroed memory that plays a shared region.
fn memory() -> SharedRegion {
    let layout = Layout::from_size_align(capture::SIZE, 4096).unwrap();
    // SAFETY: the layout has a size above zero; the memory is never freed.
    unsafe { SharedRegion::new(NonNull::new(alloc_zeroed(layout)).unwrap(), capture::SIZE) }
}

/// Every request is a job, which ends when the test says so.
#[derive(Default)]
struct Jobs {
    ended: bool,
    cancelled: usize,
}

impl Manager for Jobs {
    fn call(&mut self, _: &[u8]) -> Reply {
        Reply::Later(1)
    }
    fn poll(&mut self, _: u64) -> Reply {
        match self.ended {
            true => Reply::Done(STATUS_OK, b"end".to_vec()),
            false => Reply::Later(1),
        }
    }
    fn cancel(&mut self, _: u64) {
        self.cancelled += 1;
    }
}

struct Bench {
    session: Session,
    manager: Jobs,
    branes: Vec<Endpoint<Producer>>,
    regions: Vec<SharedRegion>,
    decoder: Decoder,
    /// Bytes that the line takes in one wake.
    room: usize,
}

type Frames = Vec<(Kind, u32, Vec<u8>)>;

impl Bench {
    fn new(branes: usize) -> Bench {
        let regions: Vec<_> = (0..branes).map(|_| memory()).collect();
        let mut session = Session::new();
        for region in &regions {
            session.captures.connect(*region).unwrap();
        }
        let mut bench = Bench {
            session,
            manager: Jobs::default(),
            branes: regions.iter().map(|region| start(*region)).collect(),
            regions,
            decoder: Decoder::new(),
            room: usize::MAX,
        };
        bench.links();
        bench.hello(5);
        bench
    }

    /// Brings the links up.
    fn links(&mut self) {
        for _ in 0..2 {
            self.session.captures.wake(NOW);
            for brane in &mut self.branes {
                if brane.poll() == LinkEvent::PeerRestarted {
                    brane.accept();
                }
                let _ = brane.poll();
            }
        }
    }

    fn hello(&mut self, session: u64) {
        let version = VERSION;
        let hello = Hello { version, session };
        assert_eq!(self.send(Kind::Hello, 0, &hello.to_bytes()).len(), 1);
    }

    fn send(&mut self, kind: Kind, number: u32, body: &[u8]) -> Frames {
        self.session.captures.wake(NOW);
        let line = encode(kind, number, body);
        self.session.receive(&line, &mut self.manager);
        self.flush()
    }

    fn wake(&mut self) -> Frames {
        self.session.captures.wake(NOW);
        if self.session.waits() {
            self.session.poll(&mut self.manager);
        }
        self.flush()
    }

    fn flush(&mut self) -> Frames {
        let (mut line, mut room) = (Vec::new(), self.room);
        self.session.flush(|bytes| {
            let count = bytes.len().min(room);
            room -= count;
            line.extend_from_slice(&bytes[..count]);
            count
        });
        let mut heard = Vec::new();
        let mut rest = &line[..];
        while !rest.is_empty() {
            let taken = self
                .decoder
                .feed(rest, |f| heard.push((f.kind, f.number, f.body.to_vec())));
            rest = &rest[taken..];
        }
        assert_eq!(self.decoder.garbled, 0);
        heard
    }

    /// Begins a capture by a request of the number of its tag.
    fn begin(&mut self, tag: u32) -> Frames {
        let capture = Capture {
            tag,
            target: Target::All,
            reader: Reader::Line,
            snaplen: 96,
            staged: false,
        };
        self.send(
            Kind::Request,
            tag,
            &minicbor::to_vec(Request::Capture(capture)).unwrap(),
        )
    }

    fn put(&mut self, brane: usize, kind: u32, tag: u32, word: u32, payload: &[u8]) -> Result<(), RingError> {
        let brane = &mut self.branes[brane];
        let _ = brane.poll();
        assert!(brane.is_up());
        let put = brane.rings.push(&[payload], [kind, tag, word]);
        brane.rings.publish();
        put
    }

    fn frame(&mut self, brane: usize, tag: u32, len: usize) -> Result<(), RingError> {
        self.put(brane, record::FRAME, tag, 1 | record::SENT, &frame(len))
    }
}

fn start(region: SharedRegion) -> Endpoint<Producer> {
    Endpoint::start(region, Side::A, capture::brane_ring(region).unwrap()).unwrap()
}

fn frame(len: usize) -> Vec<u8> {
    let mut payload = vec![7; size_of::<FrameHeader>() + len];
    payload[24..]
        .iter_mut()
        .zip(0u32..)
        .for_each(|(byte, n)| *byte = n as u8);
    payload
}

/// Puts the fragments of a capture together. Checks their sequence from `first` on.
fn records(frames: &Frames, tag: u32, first: u32) -> Vec<(Header, Vec<u8>)> {
    let (mut out, mut bytes) = (Vec::new(), Vec::new());
    let of_tag = frames
        .iter()
        .filter(|(kind, number, _)| *kind == Kind::Captured && *number == tag);
    for ((_, _, body), sequence) in of_tag.zip(first..) {
        let (fragment, rest) = Fragment::read_from_prefix(body).unwrap();
        assert_eq!(u32::from_le_bytes(fragment.sequence), sequence);
        bytes.extend_from_slice(rest);
        if fragment.last == 1 {
            let (header, rest) = Header::read_from_prefix(&bytes).unwrap();
            out.push((header, rest.to_vec()));
            bytes.clear();
        }
    }
    assert!(bytes.is_empty(), "an incomplete record");
    out
}

fn kinds(frames: &Frames) -> Vec<Kind> {
    frames.iter().map(|(kind, ..)| *kind).collect()
}

#[test]
fn records_of_all_branes_arrive_whole_behind_the_present_time() {
    let mut bench = Bench::new(3);
    let frames = bench.begin(9);
    assert_eq!(kinds(&frames), [Kind::Pending, Kind::Captured]);
    let all = records(&frames, 9, 0);
    assert_eq!(
        (all[0].0.kind, all[0].1.as_slice()),
        (TIME, &NOW.to_le_bytes()[..])
    );
    let interface = minicbor::to_vec(Interface {
        brane: "red".into(),
        brane_generation: 0,
        name: "net0".into(),
        device: "vnic1".into(),
        generation: 1,
        link: Link::Ethernet,
    })
    .unwrap();
    bench.put(1, record::INTERFACE, 9, 1, &interface).unwrap();
    bench.frame(1, 9, 60_000).unwrap();
    bench
        .put(2, record::GONE, 9, 3, Gone::default().as_bytes())
        .unwrap();
    let all = records(&bench.wake(), 9, 1);
    let header = |kind: u32, instance, interface, sent| Header {
        kind: kind as u8,
        instance,
        interface,
        sent,
    };
    let mut expected = vec![
        (header(record::INTERFACE, 1, 1, 0), interface),
        (header(record::GONE, 2, 3, 0), Gone::default().as_bytes().to_vec()),
        (header(record::FRAME, 1, 1, 1), frame(60_000)),
    ];
    expected.sort_by_key(|(h, _)| h.kind);
    let mut got = all;
    got.sort_by_key(|(h, _)| h.kind);
    assert_eq!(got, expected);
    assert_eq!(bench.session.captures.violations(), 0);
}

#[test]
fn only_captures_of_this_session_pass() {
    let mut bench = Bench::new(1);
    bench.frame(0, 9, 10).unwrap();
    assert_eq!(bench.wake(), []);
    bench.begin(9);
    bench.frame(0, 9, 10).unwrap();
    bench.frame(0, 8, 10).unwrap();
    assert_eq!(records(&bench.wake(), 9, 1).len(), 1);
    bench.frame(0, 9, 10).unwrap();
    bench.hello(6);
    assert_eq!(bench.manager.cancelled, 1);
    assert_eq!(bench.wake(), []);
    bench.frame(0, 9, 10).unwrap();
    assert_eq!(bench.wake(), []);
    assert_eq!(bench.session.captures.dropped(), 4);
    // A query captures for another reader.
    let other = Capture {
        tag: 3,
        target: Target::All,
        reader: Reader::Query,
        snaplen: 96,
        staged: false,
    };
    bench.send(
        Kind::Request,
        3,
        &minicbor::to_vec(Request::Capture(other)).unwrap(),
    );
    bench.frame(0, 3, 10).unwrap();
    assert_eq!(bench.wake(), []);
    // A cancelled request ends its records at once.
    bench.begin(4);
    bench.frame(0, 4, 10).unwrap();
    assert_eq!(bench.send(Kind::Cancel, 4, &[]), []);
}

#[test]
fn the_answer_comes_behind_the_last_record_and_other_answers_before_all() {
    let mut bench = Bench::new(2);
    bench.begin(9);
    bench.room = 0;
    for _ in 0..3 {
        bench.frame(1, 9, 3000).unwrap();
    }
    bench
        .put(1, record::GONE, 9, 1, Gone::default().as_bytes())
        .unwrap();
    bench.manager.ended = true;
    assert_eq!(bench.wake(), []);
    bench.room = usize::MAX;
    let frames = bench.send(Kind::Request, 10, b"another");
    // One frame was made before.
    assert_eq!(frames[1], (Kind::Pending, 10, vec![]));
    let (last, before) = frames.split_last().unwrap();
    assert_eq!((last.0, last.1), (Kind::Answer, 9));
    let all = records(&before.to_vec(), 9, 1);
    assert_eq!(all.len(), 4);
    assert_eq!(u32::from(all[3].0.kind), record::GONE);
    // Nothing follows an answer.
    bench.frame(1, 9, 10).unwrap();
    assert!(!kinds(&bench.wake()).contains(&Kind::Captured));
}

#[test]
fn a_full_line_takes_nothing_from_the_rings_and_a_wake_takes_a_bounded_number() {
    let mut bench = Bench::new(1);
    bench.begin(9);
    bench.room = 0;
    let mut put = 0;
    while bench.frame(0, 9, 1000).is_ok() {
        put += 1;
        bench.wake();
    }
    assert!(put <= 128, "{put} records of 1 KiB in a ring of 128 KiB");
    bench.room = usize::MAX;
    assert_eq!(records(&bench.wake(), 9, 1).len(), put);
    // Many short ones.
    let mut put = 0;
    while bench.frame(0, 9, 0).is_ok() {
        put += 1;
    }
    assert!(put > 2 * BUDGET);
    let taken = bench.wake().len();
    assert_eq!(taken, BUDGET);
    assert!(!bench.session.captures.arm(), "there are more");
    let mut all = taken;
    while all < put {
        all += bench.wake().len();
    }
    assert!(bench.session.captures.arm());
}

/// The answer of an ended capture is not held up by the frames of another one.
#[test]
fn a_busy_capture_does_not_keep_the_end_of_another_one() {
    let mut bench = Bench::new(1);
    bench.begin(9);
    bench.begin(10);
    bench.manager.ended = true;
    let mut answered = Vec::new();
    for _ in 0..10 {
        while bench.frame(0, 10, 1000).is_ok() {}
        let frames = bench.wake();
        answered.extend(frames.into_iter().filter(|f| f.0 == Kind::Answer).map(|f| f.1));
    }
    answered.sort();
    assert_eq!(answered, [9, 10]);
}

#[test]
fn a_lying_brane_is_quarantined_until_it_restarts_and_the_others_go_on() {
    let gone = Gone::default();
    let long_name = minicbor::to_vec(Interface {
        brane: "x".repeat(200),
        brane_generation: 0,
        name: "net0".into(),
        device: "vnic1".into(),
        generation: 1,
        link: Link::Ethernet,
    })
    .unwrap();
    let lies: [(u32, u32, &[u8]); 6] = [
        (9, 1, &[]),
        (record::FRAME, 1, &[0; 23]),
        (record::FRAME, 256, &[0; 30]),
        (record::GONE, 1, &gone.as_bytes()[1..]),
        (record::INTERFACE, 1, b"rubbish"),
        (record::INTERFACE, 1, &long_name),
    ];
    for (kind, word, payload) in lies {
        let mut bench = Bench::new(2);
        bench.begin(9);
        bench.put(0, kind, 9, word, payload).unwrap();
        bench.frame(0, 9, 10).unwrap();
        bench.frame(1, 9, 10).unwrap();
        let all = records(&bench.wake(), 9, 1);
        assert_eq!(all.len(), 1, "{kind}: {all:?}");
        assert_eq!(all[0].0.instance, 1);
        assert_eq!(bench.session.captures.violations(), 1);
        bench.branes[0] = start(bench.regions[0]);
        bench.links();
        bench.frame(0, 9, 10).unwrap();
        assert_eq!(records(&bench.wake(), 9, 2).len(), 1);
    }
}

#[test]
fn impossible_indices_are_a_violation() {
    let mut bench = Bench::new(1);
    bench.begin(9);
    let part = bench.regions[0].part(capture::RECORD_INDICES, 64).unwrap();
    // SAFETY: inside the region; one thread runs all that use it.
    unsafe { part.base().write_bytes(0x5a, 64) };
    assert_eq!(bench.wake(), []);
    assert_eq!(bench.session.captures.violations(), 1);
}
