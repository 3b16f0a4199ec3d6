//! Captures of a brane on the way of real traffic between two branes. The test plays remote, over the real ring.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::capture::{
    CaptureConfig, Captured, End, FrameHeader, Gone, Interface, Link, QUERY_FRAMES, QUERY_SNAPLEN, Reader,
    record,
};
use brane_abi::control::command;
use brane_abi::endpoint::{Endpoint, LinkEvent};
use brane_abi::filter::Instruction;
use brane_abi::layout::capture;
use brane_abi::link::Side;
use brane_abi::query::{Answer, Query, Refusal};
use brane_abi::ring::Consumer;
use brane_abi::shared::SharedRegion;
use brane_socket::{RingSizes, UdpSocket};
use common::*;
use net_server_core::Peer;
use net_server_core::query::Requester;
use std::cell::RefCell;
use std::rc::Rc;
use zerocopy::FromBytes;

const SIZES: RingSizes = RingSizes { rx: 65536, tx: 65536 };
const TAG: u32 = 77;

/// A record, as remote reads it.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    Interface(u32, Interface),
    Frame {
        index: u32,
        sent: bool,
        header: FrameHeader,
        bytes: Vec<u8>,
    },
    Gone(u32, Gone),
}

/// Remote's end of the region.
struct Remote {
    endpoint: Endpoint<Consumer>,
    region: SharedRegion,
}

impl Remote {
    fn new() -> Remote {
        let region = memory(capture::SIZE);
        Remote {
            endpoint: Remote::start(region),
            region,
        }
    }

    fn start(region: SharedRegion) -> Endpoint<Consumer> {
        Endpoint::start(region, Side::B, capture::remote_ring(region).unwrap()).unwrap()
    }

    /// Connects a brane, and brings the link up.
    fn attach(host: &mut Host) -> Remote {
        let mut remote = Remote::new();
        host.brane.connect_captures(remote.region).unwrap();
        host.settle();
        remote.poll();
        remote
    }

    fn poll(&mut self) {
        if self.endpoint.poll() == LinkEvent::PeerRestarted {
            self.endpoint.accept();
        }
        let _ = self.endpoint.poll();
    }

    /// Takes all records of the capture.
    fn records(&mut self) -> Vec<Record> {
        self.poll();
        let mut out = Vec::new();
        while self.endpoint.is_up() {
            let taken = self.endpoint.rings.take(|record| {
                let mut bytes = vec![0; record.len()];
                record.copy_to(&mut bytes);
                (record.meta, bytes)
            });
            let Some(([kind, tag, word], bytes)) = taken.expect("the brane keeps the rules") else {
                break;
            };
            assert_eq!(tag, TAG);
            let index = word & !record::SENT;
            out.push(match kind {
                record::INTERFACE => Record::Interface(index, minicbor::decode(&bytes).unwrap()),
                record::GONE => Record::Gone(index, Gone::read_from_bytes(&bytes).unwrap()),
                record::FRAME => {
                    let (header, rest) = FrameHeader::read_from_prefix(&bytes).unwrap();
                    Record::Frame {
                        index,
                        sent: word & record::SENT != 0,
                        header,
                        bytes: rest.to_vec(),
                    }
                }
                other => panic!("kind {other}"),
            });
        }
        self.endpoint.rings.release();
        out
    }
}

fn config(interface: Option<&str>) -> CaptureConfig {
    CaptureConfig {
        tag: TAG,
        interface: interface.map(Into::into),
        reader: Reader::Line,
        snaplen: 65_535,
        ethernet: Vec::new(),
        raw: Vec::new(),
    }
}

fn begin(host: &mut Host, config: CaptureConfig) -> Result<(), String> {
    let now = host.now();
    let done = host.brane.capture(now, config);
    host.settle();
    done
}

fn frames(records: &[Record]) -> Vec<(bool, Vec<u8>)> {
    let frames = records.iter().filter_map(|record| match record {
        Record::Frame { sent, bytes, .. } => Some((*sent, bytes.clone())),
        _ => None,
    });
    frames.collect()
}

fn gone(records: &[Record]) -> Vec<(u32, u64, u64, Option<End>)> {
    let gone = records.iter().filter_map(|record| match record {
        Record::Gone(index, gone) => Some((*index, gone.matched, gone.dropped, End::from_code(gone.end))),
        _ => None,
    });
    gone.collect()
}

/// `a` sends datagrams to the echo service of `b` at `to`. Returns the number of answers.
fn echoes(pair: &mut Pair, to: &str, count: usize, len: usize) -> usize {
    let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
    let answers: Rc<RefCell<usize>> = Rc::default();
    let seen = answers.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES)
            .await
            .unwrap();
        for n in 0..count {
            socket.send_to(&vec![n as u8; len], to).await.unwrap();
        }
        let mut buffer = vec![0; len];
        loop {
            if socket.recv_from(&mut buffer).await.is_ok() {
                *seen.borrow_mut() += 1;
            }
        }
    });
    pair.run(SECOND / 10);
    drop(task);
    answers.take()
}

fn served(features: u32) -> Pair {
    let mut pair = Pair::new(features);
    echo::serve(&mut pair.b, 4);
    // Neighbours are known, and flows are in the caches.
    assert_eq!(echoes(&mut pair, "10.0.2.2:7", 3, 40), 3);
    pair
}

const UDP: &str = "10.0.2.2:7";

/// Program: `ip proto 17` behind an Ethernet header, up to `bytes` bytes.
fn udp(offset: u32, bytes: u32) -> Vec<Instruction> {
    let at = |code, jt, jf, k| Instruction { code, jt, jf, k };
    vec![
        at(0x30, 0, 0, offset + 9),
        at(0x15, 0, 1, 17),
        at(0x06, 0, 0, bytes),
        at(0x06, 0, 0, 0),
    ]
}

#[test]
fn a_capture_has_each_frame_of_both_directions_as_it_is_on_the_wire() {
    for features in [0, brane_abi::port::FEATURE_TX_CSUM] {
        let mut pair = served(features);
        let wire: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let seen = wire.clone();
        pair.wire = Box::new(move |frame| {
            seen.borrow_mut().push(frame.0.clone());
            vec![frame.clone()]
        });
        let mut remote = Remote::attach(&mut pair.b);
        begin(&mut pair.b, config(Some("net0"))).unwrap();
        assert_eq!(echoes(&mut pair, UDP, 5, 40), 5);
        let records = remote.records();
        let Some(Record::Interface(index, interface)) = records.first() else {
            panic!("{records:?}");
        };
        assert_eq!(
            (
                interface.brane.as_str(),
                interface.name.as_str(),
                interface.device.as_str()
            ),
            ("test", "net0", "vnic2")
        );
        assert_eq!(
            (interface.generation, interface.link, *index),
            (1, Link::Ethernet, 1)
        );
        let mut captured = frames(&records);
        assert_eq!(
            captured.iter().filter(|(sent, _)| *sent).count(),
            captured.len() / 2
        );
        let mut wired = wire.borrow().clone();
        assert!(captured.len() >= 10, "{}", captured.len());
        captured.sort();
        wired.sort();
        let mut bytes: Vec<_> = captured.into_iter().map(|(_, bytes)| bytes).collect();
        bytes.sort();
        assert_eq!(bytes, wired);
        let now = pair.b.now();
        pair.b.brane.end_capture(now, TAG);
        pair.b.settle();
        assert_eq!(
            gone(&remote.records()),
            [(1, wired.len() as u64, 0, Some(End::Stopped))]
        );
        assert_eq!(echoes(&mut pair, UDP, 5, 40), 5);
        assert_eq!(remote.records(), []);
    }
}

#[test]
fn a_program_selects_frames_and_their_length_for_each_link_type() {
    let mut pair = served(0);
    let mut remote = Remote::attach(&mut pair.b);
    let config = CaptureConfig {
        snaplen: 60,
        ethernet: udp(14, 42),
        raw: udp(0, u32::MAX),
        ..config(None)
    };
    begin(&mut pair.b, config).unwrap();
    // A ping is no datagram.
    let ping = |to: &str| Query::Ping {
        to: to.parse().unwrap(),
        sequence: 1,
        size: 8,
        timeout_ms: 100,
    };
    for to in ["10.0.2.1", "127.0.0.1"] {
        let now = pair.b.now();
        pair.b.brane.stack.query(now, Requester::Manager(1), ping(to));
        pair.run(SECOND / 5);
    }
    let known = remote.records();
    assert_eq!(frames(&known), []);
    assert_eq!(echoes(&mut pair, UDP, 2, 100), 2);
    let records = remote.records();
    assert_eq!(frames(&records).len(), 4);
    assert!(records.iter().all(|record| match record {
        Record::Frame { header, bytes, .. } => (header.length, bytes.len()) == (142, 42),
        _ => true,
    }));
    // `b` sends to its own address.
    let stack = pair.b.stack.clone();
    let task = pair.b.spawn(async move {
        let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES)
            .await
            .unwrap();
        socket.send_to(&[1; 100], UDP.parse().unwrap()).await.unwrap();
        socket.recv_from(&mut [0; 100]).await.unwrap();
    });
    pair.until(&task, SECOND);
    let records = remote.records();
    // Each packet of `lo0` once: the question and the answer.
    let lengths = records.iter().filter_map(|record| match record {
        Record::Frame {
            index: 0,
            header,
            bytes,
            ..
        } => Some((header.length, bytes.len(), bytes[0])),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [(128, 60, 0x45); 2]);
    let lo0 = |r: &Record| matches!(r, Record::Interface(0, i) if i.link == Link::Raw && i.name == "lo0");
    assert!(known.iter().any(lo0), "{known:?}");
}

#[test]
fn a_slow_reader_costs_only_its_own_records_and_learns_how_many() {
    let mut pair = served(0);
    let mut remote = Remote::attach(&mut pair.b);
    begin(&mut pair.b, config(Some("net0"))).unwrap();
    let mut answers = 0;
    for _ in 0..10 {
        answers += echoes(&mut pair, UDP, 20, 1000);
    }
    assert_eq!(answers, 200, "the traffic does not wait for the reader");
    let first = frames(&remote.records()).len();
    assert!(
        (100..200).contains(&first),
        "{first} frames of 1 KiB in a ring of 128 KiB"
    );
    assert_eq!(echoes(&mut pair, UDP, 1, 1000), 1);
    let records = remote.records();
    let Some(Record::Frame { header, .. }) = records.first() else {
        panic!("{records:?}");
    };
    let lost = header.dropped;
    assert_eq!(pair.b.counter("capture dropped"), lost);
    let now = pair.b.now();
    pair.b.brane.end_capture(now, TAG);
    pair.b.settle();
    let total = (first + frames(&records).len()) as u64 + lost;
    assert_eq!(gone(&remote.records()), [(1, total, lost, Some(End::Stopped))]);
}

/// The end of an interface has room, however full the ring is of frames.
#[test]
fn the_last_record_of_an_interface_finds_room_in_a_full_ring() {
    let mut pair = served(0);
    let mut remote = Remote::attach(&mut pair.b);
    begin(&mut pair.b, config(None)).unwrap();
    for _ in 0..10 {
        echoes(&mut pair, UDP, 20, 1000);
    }
    let now = pair.b.now();
    pair.b.brane.end_capture(now, TAG);
    pair.b.settle();
    let ends = gone(&remote.records());
    let lo0 = (0, 0, 0, Some(End::Stopped));
    assert!(
        ends.len() == 2 && ends.contains(&lo0) && ends.iter().any(|end| end.0 == 1 && end.2 > 0),
        "{ends:?}"
    );
}

#[test]
fn an_interface_that_leaves_is_gone_and_its_capture_never_sees_another() {
    for (which, again) in [(Some("net0"), false), (None, true)] {
        let mut pair = served(0);
        let mut remote = Remote::attach(&mut pair.b);
        begin(&mut pair.b, config(which)).unwrap();
        assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
        let matched = frames(&remote.records()).len() as u64;
        let now = pair.b.now();
        pair.b.brane.detach(now, "net0").unwrap();
        pair.b.settle();
        assert_eq!(gone(&remote.records()), [(1, matched, 0, Some(End::Moved))]);
        echoes(&mut pair, UDP, 1, 40);
        assert_eq!(remote.records(), [], "no byte after the end");
        // An interface of the same name and another vif at the same port.
        pair.b.brane.attach(now, interface(2, &["10.0.2.2/24"])).unwrap();
        let mac = interface(2, &[]).mac;
        let info = brane_abi::port::PortInfo {
            generation: 2,
            ..port_info(mac, 0)
        };
        pair.b.driver.announce(0, info);
        pair.run(SECOND / 10);
        echoes(&mut pair, UDP, 3, 40);
        let records = remote.records();
        let news = records.iter().filter_map(|record| match record {
            Record::Interface(_, interface) => Some(interface.generation),
            _ => None,
        });
        assert_eq!(news.collect::<Vec<_>>(), if again { vec![2] } else { vec![] });
        assert_eq!(frames(&records).is_empty(), !again);
    }
}

/// The driver announces another vif at the port, which belongs to the interface as well. It has another generation.
#[test]
fn another_generation_of_the_vif_is_another_interface() {
    for (which, again) in [(Some("net0"), false), (None, true)] {
        let mut pair = served(0);
        let mut remote = Remote::attach(&mut pair.b);
        begin(&mut pair.b, config(which)).unwrap();
        assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
        remote.records();
        let info = brane_abi::port::PortInfo {
            generation: 5,
            ..port_info(interface(2, &[]).mac, 0)
        };
        pair.b.driver.announce(0, info);
        pair.run(SECOND / 10);
        assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
        let records = remote.records();
        assert!(matches!(&records[0], Record::Gone(1, gone) if gone.end == End::Moved.code()));
        assert_eq!(frames(&records[1..]).is_empty(), !again);
        let news = |r: &Record| matches!(r, Record::Interface(1, i) if i.generation == 5);
        assert_eq!(records.iter().any(news), again);
    }
}

#[test]
fn a_shutdown_ends_all_and_a_start_begins_the_captures_of_the_whole_brane_anew() {
    // Without services, which a shutdown would end.
    let mut pair = Pair::new(0);
    let mut remote = Remote::attach(&mut pair.b);
    begin(&mut pair.b, config(None)).unwrap();
    echoes(&mut pair, UDP, 1, 40);
    let now = pair.b.now();
    pair.b.brane.shut_down(now, 5, 0);
    pair.run(SECOND / 10);
    let records = remote.records();
    let ends = gone(&records);
    let whole = |end: &(u32, u64, u64, Option<End>)| (end.2, end.3) == (0, Some(End::BraneGone));
    assert!(ends.len() == 2 && ends.iter().all(whole), "{ends:?}");
    assert!(matches!(records.last(), Some(Record::Gone(..))));
    echoes(&mut pair, UDP, 1, 40);
    assert_eq!(remote.records(), []);
    let now = pair.b.now();
    pair.b.brane.begin(now).unwrap();
    pair.run(SECOND / 10);
    let records = remote.records();
    assert!(
        matches!(&records[0], Record::Interface(0, i) if i.name == "lo0"),
        "{records:?}"
    );
    assert!(
        matches!(&records[1], Record::Interface(1, i) if i.generation == 1),
        "{records:?}"
    );
    assert!(!frames(&records).is_empty(), "the announcements of the interface");
}

#[test]
fn a_capture_of_the_configuration_has_the_first_frame_of_the_brane() {
    let mut host = Host::new(interface(3, &["10.0.2.3/24"]), 0);
    host.config.captures = vec![CaptureConfig {
        reader: Reader::Query,
        snaplen: QUERY_SNAPLEN,
        ..config(None)
    }];
    host.settle();
    let first = host.driver.sent(0);
    let Answer::Captured { frames, .. } = take(&mut host, TAG) else {
        panic!();
    };
    assert!(!first.is_empty());
    let expected: Vec<_> = first.iter().map(|(frame, _)| (true, frame.clone())).collect();
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| (frame.sent, frame.bytes.clone()))
        .collect();
    assert_eq!(seen, expected);
}

fn take(host: &mut Host, tag: u32) -> Answer {
    let now = host.now();
    let query = Query::Captured(tag);
    let answer = host.brane.stack.query(now, Requester::Manager(1), query).unwrap();
    assert!(minicbor::to_vec(&answer).unwrap().len() <= brane_abi::query::MAX_ANSWER);
    answer
}

#[test]
fn queries_take_frames_in_order_and_only_operators_may_ask() {
    let mut pair = served(0);
    let short = CaptureConfig {
        reader: Reader::Query,
        snaplen: 1000,
        ethernet: udp(14, u32::MAX),
        ..config(Some("net0"))
    };
    begin(&mut pair.b, short).unwrap();
    assert_eq!(echoes(&mut pair, UDP, 50, 200), 50);
    let mut all: Vec<Captured> = Vec::new();
    loop {
        let Answer::Captured {
            frames,
            dropped,
            end: None,
            now_ns,
        } = take(&mut pair.b, TAG)
        else {
            panic!();
        };
        assert_eq!((dropped, now_ns), (36, pair.b.now()), "64 of 100 are kept");
        assert!(frames.len() <= QUERY_FRAMES);
        if frames.is_empty() {
            break;
        }
        all.extend(frames);
    }
    assert_eq!(all.len(), 64);
    assert!(all.is_sorted_by_key(|frame| frame.time_ns));
    let plain = |f: &Captured| (f.length, f.bytes.len(), f.interface.as_str()) == (242, 128, "net0");
    assert!(all.iter().all(plain), "{:?}", all[0]);
    let now = pair.b.now();
    let client = Requester::Client { client: 0, token: 1 };
    let answer = pair.b.brane.stack.query(now, client, Query::Captured(TAG));
    assert_eq!(answer, Some(Answer::Refused(Refusal::OperatorsOnly)));
    assert_eq!(take(&mut pair.b, 1), Answer::Refused(Refusal::NoSuchCapture(1)));
    pair.b.brane.detach(now, "net0").unwrap();
    let Answer::Captured { end, .. } = take(&mut pair.b, TAG) else {
        panic!();
    };
    assert_eq!(end, Some(End::Moved));
    pair.b.brane.end_capture(now, TAG);
    assert_eq!(
        take(&mut pair.b, TAG),
        Answer::Refused(Refusal::NoSuchCapture(TAG))
    );
}

#[test]
fn without_a_reader_the_frames_are_counted_and_a_new_reader_learns_the_interfaces() {
    let mut pair = served(0);
    // The reports of the groups that each interface has are sent in the first seconds.
    pair.run(5 * SECOND);
    begin(&mut pair.b, config(Some("net0"))).unwrap();
    assert_eq!(echoes(&mut pair, UDP, 2, 40), 2);
    assert_eq!(pair.b.counter("capture dropped"), 4);
    let mut remote = Remote::attach(&mut pair.b);
    for _ in 0..2 {
        assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
        let records = remote.records();
        assert!(matches!(records[0], Record::Interface(..)), "{records:?}");
        assert_eq!(frames(&records).len(), 2);
        remote.endpoint = Remote::start(remote.region);
        remote.poll();
        pair.b.settle();
        remote.poll();
    }
}

/// Remote is not trusted by the brane.
#[test]
fn a_reader_that_breaks_the_ring_is_ignored_until_it_restarts() {
    let mut pair = served(0);
    let mut remote = Remote::attach(&mut pair.b);
    begin(&mut pair.b, config(Some("net0"))).unwrap();
    assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
    let region = remote.region.part(capture::RECORD_INDICES, 128).unwrap();
    // SAFETY: inside the region. The brane does not run meanwhile.
    unsafe { region.base().write_bytes(0x5a, 128) };
    for _ in 0..10 {
        assert_eq!(echoes(&mut pair, UDP, 20, 1000), 20);
    }
    let lost = pair.b.counter("capture dropped");
    assert!(lost >= 200, "{lost}");
    remote.endpoint = Remote::start(remote.region);
    remote.poll();
    pair.b.settle();
    remote.poll();
    assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
    assert_eq!(frames(&remote.records()).len(), 2);
}

#[test]
fn captures_are_few_and_their_programs_are_checked() {
    let mut pair = served(0);
    let mut bad = config(None);
    bad.raw = vec![Instruction {
        code: 0xffff,
        ..Instruction::default()
    }];
    let why = begin(&mut pair.b, bad).unwrap_err();
    assert!(why.contains("lo0: instruction 0"), "{why}");
    begin(&mut pair.b, config(None)).unwrap();
    assert!(
        begin(&mut pair.b, config(None))
            .unwrap_err()
            .contains("there is a capture")
    );
    let other = |tag| CaptureConfig { tag, ..config(None) };
    begin(&mut pair.b, other(1)).unwrap();
    assert!(begin(&mut pair.b, other(2)).unwrap_err().contains("at most"));
    let now = pair.b.now();
    pair.b.brane.end_capture(now, 1);
    begin(&mut pair.b, other(2)).unwrap();
}

/// Remote passes the answer of the manager on only behind the records that it finds.
#[test]
fn the_last_record_is_in_the_ring_before_the_manager_is_notified() {
    let mut pair = served(0);
    let mut remote = Remote::attach(&mut pair.b);
    begin(&mut pair.b, config(Some("net0"))).unwrap();
    assert_eq!(echoes(&mut pair, UDP, 1, 40), 1);
    remote.records();
    pair.b.manager.sleep();
    pair.b.manager.command(command::UNCAPTURE, 9, &TAG.to_le_bytes());
    let (now, mut seen) = (pair.b.now(), None);
    pair.b.brane.turn(now, |peer| {
        if peer == Peer::Manager {
            seen = Some(gone(&remote.records()));
        }
    });
    assert_eq!(seen, Some(vec![(1, 2, 0, Some(End::Stopped))]));
}

/// The reader learns of an interface without frames, so it knows when the capture is in force.
#[test]
fn interfaces_are_announced_before_they_have_frames() {
    for early in [true, false] {
        let mut pair = served(0);
        let remote = early.then(|| Remote::attach(&mut pair.b));
        begin(&mut pair.b, config(None)).unwrap();
        let mut remote = remote.unwrap_or_else(|| Remote::attach(&mut pair.b));
        remote.poll();
        pair.b.settle();
        let records = remote.records();
        assert!(
            matches!(&records[..], [Record::Interface(0, _), Record::Interface(1, _)]),
            "{early}: {records:?}"
        );
    }
}
