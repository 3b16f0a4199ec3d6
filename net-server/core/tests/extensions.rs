//! IPv6 packets with extension headers: they meet the checks that others meet, and the errors that they draw the same limit.

mod common;
#[path = "common/packets.rs"]
mod packets;

use common::*;
use packets::*;

/// Options for each hop that ask for nothing, in front of `next`.
fn hop_by_hop(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

/// A packet from the peer behind these headers, of which `first` is the number of the first one.
fn behind(first: u8, headers: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let payload = summed("fec0::9", "fec0::1", protocol, payload);
    plain("fec0::9", "fec0::1", first, &[headers, &payload].concat())
}

#[test]
fn errors_about_packets_with_options_for_each_hop_are_limited_like_others() {
    let mut plain_host = echo_host();
    let mut host = echo_host();
    let datagram = udp(5, 9, b"nobody");
    let count = |host: &mut Host, frame: &[u8]| -> usize {
        let sent = (0..400).map(|_| answers(host, frame.to_vec(), 0).len());
        sent.sum()
    };
    let limit = count(&mut plain_host, &packet("fec0::9", "fec0::1", 17, &datagram));
    assert!((1..=20).contains(&limit), "{limit}");
    for frame in [
        behind(0, &hop_by_hop(17), 17, &datagram),
        // Unknown options and a route to visit, which are refused with an error.
        behind(0, &[17, 0, 0xbe, 4, 0, 0, 0, 0], 17, &datagram),
        behind(60, &[17, 0, 0xfe, 4, 0, 0, 0, 0], 17, &datagram),
        behind(43, &[17, 0, 0, 1, 0, 0, 0, 0], 17, &datagram),
        behind(0, &hop_by_hop(132), 132, &[1; 8]),
    ] {
        host.clock.0.set(host.now() + 10 * SECOND);
        // What is due by then is no answer.
        host.settle();
        host.driver.sent(0);
        let before = host.counter("icmp errors limited");
        assert_eq!(count(&mut host, &frame), limit, "{frame:02x?}");
        assert_eq!(host.counter("icmp errors limited") - before, 400 - limit as u64);
    }
}

#[test]
fn errors_about_packets_with_options_for_each_hop_go_to_no_group_and_answer_no_error() {
    let mut host = echo_host();
    let refused = [17, 0, 0xfe, 4, 0, 0, 0, 0];
    let datagram = udp(5, 9, b"nobody");
    let mut to_all = behind(60, &refused, 17, &datagram);
    to_all[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    let mut to_another = behind(0, &hop_by_hop(17), 17, &datagram);
    to_another[..6].fill(0xff);
    // An error message, itself behind what would be refused.
    let error = behind(
        60,
        &[58, 0, 0xfe, 4, 0, 0, 0, 0],
        58,
        &[1, 4, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
    );
    for silent in [to_all, to_another, error] {
        assert_eq!(
            answers(&mut host, silent.clone(), 0),
            Vec::<Vec<u8>>::new(),
            "{silent:02x?}"
        );
    }
}

#[test]
fn a_checksum_behind_extension_headers_is_verified() {
    for (first, headers) in [
        (0, hop_by_hop(17)),
        (60, hop_by_hop(17)),
        (43, vec![17, 0, 0, 0, 0, 0, 0, 0]),
        (0, [hop_by_hop(60), hop_by_hop(17)].concat()),
    ] {
        let mut host = echo_host();
        let good = behind(first, &headers, 17, &udp(5, 7, b"hello"));
        let sent = answers(&mut host, good.clone(), 0);
        assert!(sent.len() == 1 && sent[0].ends_with(b"hello"), "{good:02x?}");
        let mut bad = good;
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(answers(&mut host, bad, 0), Vec::<Vec<u8>>::new());
        assert_eq!(host.counter("bad checksum"), 1);
        assert_eq!(host.counter("udp received"), 1);
    }
    // Of ICMPv6 and TCP too.
    let mut host = echo_host();
    for (protocol, payload) in [(58, echo(128)), (6, syn(1000, 7))] {
        let good = behind(0, &hop_by_hop(protocol), protocol, &payload);
        assert_eq!(answers(&mut host, good.clone(), 0).len(), 1, "{protocol}");
        let mut bad = good;
        bad[14 + 40 + 8 + 4] ^= 1;
        assert_eq!(answers(&mut host, bad, 0), Vec::<Vec<u8>>::new(), "{protocol}");
    }
    assert_eq!(host.counter("bad checksum"), 2);
}

#[test]
fn sources_behind_extension_headers_are_checked() {
    let mut host = echo_host();
    for src in ["fec0::1", "::", "::1", "ff02::1", "::ffff:10.0.2.9"] {
        let payload = summed(src, "fec0::1", 17, &udp(5, 7, b"hello"));
        let frame = plain(src, "fec0::1", 0, &[hop_by_hop(17), payload].concat());
        assert_eq!(answers(&mut host, frame, 0), Vec::<Vec<u8>>::new(), "{src}");
    }
    assert_eq!(
        (host.counter("bad address"), host.counter("udp received")),
        (5, 0)
    );
}

#[test]
fn a_packet_with_extension_headers_is_counted_once_at_its_interface() {
    let mut host = echo_host();
    let before = host.status().interfaces[1].rx_packets;
    answers(&mut host, behind(0, &hop_by_hop(17), 17, &udp(5, 7, b"hello")), 0);
    assert_eq!(host.status().interfaces[1].rx_packets, before + 1);
}
