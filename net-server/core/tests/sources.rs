//! Addresses that no other host can send from: what comes from them is dropped and counted, by the long way in and by the short
//! one, and the same from a neighbour is answered.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::control::command;
use brane_abi::port::FLAG_DATA_VALID;
use common::*;
use packets::*;
use proptest::prelude::*;

/// Sources that no frame from the wire may have, for a brane at 10.0.2.1/24 and fec0::1/64.
const BAD4: [&str; 12] = [
    // Its own, those of its networks, and of everybody (RFC 1122, 3.2.1.3).
    "10.0.2.1",
    "10.0.2.255",
    "255.255.255.255",
    // This host, this network, groups, and the reserved rest.
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "250.1.2.3",
    "255.255.255.254",
];
const BAD6: [&str; 8] = [
    "fec0::1",
    "fe80::77:ff:fe00:1",
    "::1",
    "::",
    "ff02::1",
    "ff05::9",
    "::ffff:10.0.2.9",
    "::ffff:127.0.0.1",
];

/// Each kind of packet that is answered.
fn questions(src: &str) -> Vec<Vec<u8>> {
    let (dst, icmp, kind) = match src.contains(':') {
        true => ("fec0::1", 58, 128),
        false => ("10.0.2.1", 1, 8),
    };
    vec![
        packet(src, dst, 17, &udp(5, 7, b"hello")),
        // Nobody has this port.
        packet(src, dst, 17, &udp(5, 9, b"hello")),
        packet(src, dst, 6, &syn(1000, 7)),
        packet(src, dst, 6, &syn(1000, 9)),
        packet(src, dst, icmp, &echo(kind)),
        // Nobody has this protocol.
        plain(src, dst, 132, &[1; 16]),
    ]
}

#[test]
fn a_datagram_from_a_broadcast_address_is_not_answered_to_everybody() {
    let mut host = echo_host();
    for src in ["10.0.2.255", "255.255.255.255"] {
        let frame = packet(src, "10.0.2.1", 17, &udp(5, 7, b"hello"));
        assert_eq!(answers(&mut host, frame, 0), Vec::<Vec<u8>>::new(), "{src}");
    }
    assert_eq!(host.counter("bad address"), 2);
    assert_eq!(host.counter("udp received"), 0);
}

#[test]
fn nothing_from_a_source_that_no_other_host_has_is_answered() {
    let mut host = echo_host();
    for good in ["10.0.2.9", "fec0::9"] {
        for question in questions(good) {
            let sent = answers(&mut host, question.clone(), 0);
            assert_eq!(sent.len(), 1, "{question:02x?}");
            assert_eq!(sent[0][..6], PEER_MAC, "{question:02x?}");
        }
    }
    let mut dropped = 0;
    for bad in BAD4.iter().chain(&BAD6) {
        for question in questions(bad) {
            for flags in [0, FLAG_DATA_VALID] {
                // So that no answer is held back by a limit. What is due by then is no answer.
                host.clock.0.set(host.now() + SECOND);
                host.settle();
                host.driver.sent(0);
                let sent = answers(&mut host, question.clone(), flags);
                assert_eq!(sent, Vec::<Vec<u8>>::new(), "{bad}: {question:02x?}");
                dropped += 1;
            }
        }
    }
    assert_eq!(host.counter("bad address"), dropped);
}

#[test]
fn a_neighbour_is_not_learnt_under_the_branes_own_address() {
    let mut host = echo_host();
    let arp = |sender: [u8; 4]| {
        let mut arp = [
            &OWN_MAC[..],
            &PEER_MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &PEER_MAC,
        ]
        .concat();
        arp.extend(sender);
        arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 2, 1]);
        arp
    };
    assert_eq!(answers(&mut host, arp([10, 0, 2, 9]), 0).len(), 1);
    assert_eq!(answers(&mut host, arp([10, 0, 2, 1]), 0).len(), 0);
    assert_eq!(answers(&mut host, arp([10, 0, 2, 255]), 0).len(), 0);
    assert_eq!(host.counter("bad address"), 2);
}

#[test]
fn a_host_without_an_address_may_ask_for_one_and_a_querier_for_groups() {
    let mut host = echo_host();
    let mut ask = packet("0.0.0.0", "255.255.255.255", 17, &udp(68, 67, &[1; 20]));
    ask[..6].fill(0xff);
    let mut query = packet("0.0.0.0", "224.0.0.1", 2, &[0x11, 10, 0, 0, 0, 0, 0, 0]);
    query[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    // It does not pass routers.
    query[22] = 1;
    query[24..26].fill(0);
    let sum = !net_server_core::ip::checksum::sum(&query[14..34]);
    query[24..26].copy_from_slice(&sum.to_be_bytes());
    answers(&mut host, ask, 0);
    answers(&mut host, query.clone(), 0);
    assert_eq!(host.counter("malformed") + host.counter("bad checksum"), 0);
    // A query whose checksum is wrong is none.
    query[35] ^= 1;
    answers(&mut host, query, 0);
    assert_eq!(host.counter("bad checksum"), 1);
}

#[test]
fn segments_to_a_group_are_dropped() {
    let mut host = echo_host();
    for (src, dst, mac) in [
        ("10.0.2.9", "224.0.0.1", [1, 0, 0x5e, 0, 0, 1]),
        ("10.0.2.9", "255.255.255.255", [0xff; 6]),
        ("10.0.2.9", "10.0.2.255", [0xff; 6]),
        ("fec0::9", "ff02::1", [0x33, 0x33, 0, 0, 0, 1]),
    ] {
        for port in [7, 9] {
            let mut frame = packet(src, dst, 6, &syn(1000, port));
            frame[..6].copy_from_slice(&mac);
            assert_eq!(answers(&mut host, frame, 0), Vec::<Vec<u8>>::new(), "{dst}");
        }
    }
    assert_eq!(host.counter("bad address"), 8);
}

#[test]
fn a_flow_that_the_short_way_knows_ends_when_its_sender_becomes_the_brane_itself() {
    let mut host = echo_host();
    let datagram = || packet("10.0.2.9", "10.0.2.1", 17, &udp(5, 7, b"hello"));
    for _ in 0..3 {
        assert_eq!(answers(&mut host, datagram(), FLAG_DATA_VALID).len(), 1);
    }
    let mut interface = host.config.interfaces[0].clone();
    interface.addresses.push(cidr("10.0.2.9/24"));
    let text = minicbor::to_vec(&interface).unwrap();
    host.manager.command(command::ADJUST, 5, &text);
    host.settle();
    host.driver.sent(0);
    assert_eq!(host.status().interfaces[1].addresses.len(), 4);
    for _ in 0..3 {
        assert_eq!(answers(&mut host, datagram(), FLAG_DATA_VALID).len(), 0);
    }
    assert_eq!(
        (host.counter("bad address"), host.counter("udp received")),
        (3, 3)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The short way compares whole addresses: whatever flows it knows, a source that no host has does not pass.
    #[test]
    fn no_known_flow_lets_a_bad_source_in(
        order in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 1u16..4), 1..60),
    ) {
        let mut host = echo_host();
        for (known, which, port) in order {
            let bad: Vec<&str> = BAD4.iter().chain(&BAD6).copied().collect();
            let src = match (known, which.index(2)) {
                (true, 0) => "10.0.2.9",
                (true, _) => "fec0::9",
                (false, _) => bad[which.index(bad.len())],
            };
            let dst = if src.contains(':') { "fec0::1" } else { "10.0.2.1" };
            let frame = packet(src, dst, 17, &udp(port, 7, b"hello"));
            prop_assert_eq!(answers(&mut host, frame, FLAG_DATA_VALID).len(), usize::from(known), "{}", src);
        }
    }
}
