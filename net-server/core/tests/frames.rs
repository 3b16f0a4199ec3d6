//! Frames that no well-behaved host sends: dropped, counted, never a panic, and the brane goes on.

mod common;

use brane_abi::port::{self, FrameMeta};
use common::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

/// A brane with UDP and TCP open, whose neighbour 10.0.2.9 is known.
fn host() -> Host {
    let mut config = interface(1, &["10.0.2.1/24", "fec0::1/64"]);
    config.dhcp4 = true;
    config.slaac = true;
    let mut host = Host::new(config, 0);
    host.settle();
    echo::serve(&mut host, 4);
    host.driver
        .give(0, &(arp([10, 0, 2, 9], [10, 0, 2, 1]), FrameMeta::default()));
    host.settle();
    host.driver.sent(0);
    host
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([0x52, 0x54, 0, 0, 0, 9]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn arp(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 9];
    payload.extend(from);
    payload.extend([0; 6]);
    payload.extend(to);
    ethernet(0x0806, &payload)
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let all: Vec<u8> = parts.concat();
    (!net_server_core::ip::checksum::sum(&all)).to_be_bytes()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 2, 9, 10, 0, 2, 1]);
    let checksum = sum(&[&header]);
    header[10..12].copy_from_slice(&checksum);
    ethernet(0x0800, &[header, payload.to_vec()].concat())
}

fn transport(protocol: u8, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut pseudo = vec![10, 0, 2, 9, 10, 0, 2, 1, 0, protocol];
    pseudo.extend((bytes.len() as u16).to_be_bytes());
    let at = if protocol == 6 { 16 } else { 6 };
    let checksum = sum(&[&pseudo, &bytes]);
    bytes[at..at + 2].copy_from_slice(&checksum);
    ipv4(protocol, &bytes)
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x10, 0, 0, 7];
    bytes.extend((8 + data.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    transport(17, bytes)
}

fn syn(port: u16) -> Vec<u8> {
    let mut bytes = port.to_be_bytes().to_vec();
    bytes.extend([
        0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0x20, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
    ]);
    transport(6, bytes)
}

fn ping() -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let checksum = sum(&[&bytes]);
    bytes[2..4].copy_from_slice(&checksum);
    ipv4(1, &bytes)
}

fn neighbour_solicitation() -> Vec<u8> {
    let src: [u8; 16] = core::net::Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 9).octets();
    let dst: [u8; 16] = core::net::Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1).octets();
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(dst);
    message.extend([1, 1, 0x52, 0x54, 0, 0, 0, 9]);
    let checksum = sum(&[&src, &dst, &[0, 0, 0, 32, 0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&checksum);
    let header = [0x60, 0, 0, 0, 0, 32, 58, 255];
    ethernet(0x86dd, &[&header[..], &src, &dst, &message].concat())
}

fn good() -> Vec<Vec<u8>> {
    vec![
        udp(b"hello"),
        syn(4000),
        ping(),
        arp([10, 0, 2, 9], [10, 0, 2, 1]),
        neighbour_solicitation(),
    ]
}

fn give(host: &mut Host, frame: Vec<u8>, flags: u8) -> Vec<Vec<u8>> {
    let meta = FrameMeta {
        flags,
        ..FrameMeta::default()
    };
    host.driver.give(0, &(frame, meta));
    host.settle();
    host.driver.sent(0).into_iter().map(|(frame, _)| frame).collect()
}

#[test]
fn sound_frames_are_answered() {
    let mut host = host();
    let answers = give(&mut host, udp(b"hello"), 0);
    assert!(
        answers.len() == 1 && answers[0].ends_with(b"hello"),
        "{answers:02x?}"
    );
    let answers = give(&mut host, syn(4000), 0);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][47] & 0x12, 0x12, "SYN ACK");
    let answers = give(&mut host, ping(), 0);
    assert_eq!((answers.len(), answers[0][34]), (1, 0), "echo reply");
    assert_eq!(give(&mut host, arp([10, 0, 2, 9], [10, 0, 2, 1]), 0).len(), 1);
    assert_eq!(give(&mut host, neighbour_solicitation(), 0).len(), 1);
    for name in ["malformed", "bad checksum"] {
        assert_eq!(host.counter(name), 0);
    }
}

#[test]
fn each_fault_is_counted_by_its_name() {
    let with = |frame: &[u8], at: usize, value: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + value.len()].copy_from_slice(value);
        frame
    };
    let reheader = |mut frame: Vec<u8>| {
        frame[24..26].copy_from_slice(&[0, 0]);
        let checksum = sum(&[&frame[14..14 + usize::from(frame[14] & 15) * 4]]);
        frame[24..26].copy_from_slice(&checksum);
        frame
    };
    let u = udp(b"hello");
    let mut source_route = ipv4(17, &[0; 20]);
    source_route[14] = 0x47;
    source_route[34..38].copy_from_slice(&[131, 7, 4, 10]);
    for (name, frame) in [
        ("truncated", u[..13].to_vec()),
        ("truncated", u[..30].to_vec()),
        ("bad length", with(&u, 16, &[0, 10])),
        ("bad length", u[..40].to_vec()),
        ("bad length", reheader(with(&u, 38, &[0x23, 0x28]))),
        ("bad header", with(&u, 14, &[0x65])),
        ("bad header", with(&u, 14, &[0x44])),
        ("bad header", reheader(source_route)),
        ("bad address", reheader(with(&u, 26, &[255; 4]))),
        ("bad address", with(&u, 6, &[1])),
        ("bad fragment", reheader(with(&u, 20, &[0x20, 0]))),
        ("bad fragment", reheader(with(&u, 20, &[0x1f, 0xff]))),
        ("bad checksum", with(&u, 24, &[1, 2])),
        ("bad checksum", with(&u, 42, b"HELLO")),
        ("bad checksum", with(&syn(1), 38, &[9])),
        ("bad checksum", with(&ping(), 44, &[9])),
        ("bad checksum", with(&neighbour_solicitation(), 80, &[9])),
        ("unknown ethertype", ethernet(0x88b5, &[0; 46])),
        ("not for us", with(&u, 5, &[77])),
    ] {
        let mut host = host();
        assert_eq!(
            give(&mut host, frame.clone(), 0),
            Vec::<Vec<u8>>::new(),
            "{name}: {frame:02x?}"
        );
        assert_eq!(host.counter(name), 1, "{name}: {frame:02x?}");
        let malformed = !matches!(name, "bad checksum" | "unknown ethertype" | "not for us");
        assert_eq!(host.counter("malformed"), u64::from(malformed));
    }
}

#[test]
fn a_partial_checksum_is_taken_from_the_driver() {
    let mut host = host();
    let mut frame = udp(b"hello");
    frame[40..42].copy_from_slice(&[0x12, 0x34]);
    assert_eq!(give(&mut host, frame.clone(), port::FLAG_NEEDS_CSUM).len(), 1);
    assert_eq!(give(&mut host, frame.clone(), port::FLAG_DATA_VALID).len(), 1);
    assert_eq!(give(&mut host, frame, 0).len(), 0);
    assert_eq!(host.counter("bad checksum"), 1);
}

#[test]
fn a_flood_of_syns_is_answered_and_keeps_a_bounded_queue() {
    let mut host = host();
    for port in 1..=1000 {
        let answers = give(&mut host, syn(port), 0);
        assert!(
            answers.iter().any(|f| f[36..38] == port.to_be_bytes()),
            "no answer to {port}"
        );
    }
    assert_eq!(host.counter("tcp connections"), 0);
    // One source has its share of the queue.
    assert_eq!(host.counter("tcp half-open"), 64);
    assert_eq!(host.counter("tcp syn cookies"), 936);
    // All are given up in the end.
    for _ in 0..200 {
        host.clock.0.set(host.now() + SECOND / 10);
        host.settle();
        host.driver.sent(0);
    }
    assert_eq!(host.counter("tcp half-open"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a few bytes are changed to, wherever the frame is cut, and whatever the driver says of its checksum.
    #[test]
    fn mutated_frames_do_no_harm(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), any::<prop::sample::Index>(), any::<bool>()),
            1..200,
        )
    ) {
        let mut host = host();
        let good = good();
        for (which, bytes, cut, intact) in changes {
            let mut frame = good[which.index(good.len())].clone();
            for (at, value) in bytes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if cut.index(4) == 0 {
                frame.truncate(cut.index(frame.len()));
            }
            // The destination stays, or most of it would be dropped at once.
            if frame.len() >= 6 {
                frame[..6].copy_from_slice(&MAC);
            }
            give(&mut host, frame, if intact { port::FLAG_DATA_VALID } else { 0 });
            host.clock.0.set(host.now() + MS);
        }
        // Whatever it learnt or opened meanwhile, it still answers.
        give(&mut host, arp([10, 0, 2, 9], [10, 0, 2, 1]), 0);
        let answers = give(&mut host, udp(b"alive"), 0);
        prop_assert!(answers.iter().any(|f| f.ends_with(b"alive")), "{:?}", host.status().counters);
    }

    #[test]
    fn any_bytes_are_looked_at_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), intact in any::<bool>()) {
        let _ = net_server_core::headers::ethernet(&bytes, MAC, intact);
        let _ = net_server_core::headers::ip(&bytes, intact);
        let _ = net_server_core::headers::outgoing(&bytes);
    }
}
