//! Rules for calls of clients.

use crate::chain::Verdict;
use crate::filter::Filter;
use crate::packet::{Packet, Transport};
use crate::socket::Call;
use crate::{Problem, parse, print};
use brane_abi::filter::Direction;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn filter(rules: &[&str]) -> Filter {
    let mut filter = Filter::new(1, 64).unwrap();
    let rules: Vec<_> = rules.iter().map(|text| parse(text).unwrap()).collect();
    filter.replace(&rules).unwrap();
    filter
}

fn call(tcp: bool, from: &str, to: &str) -> Call {
    Call::new(tcp, from.parse().unwrap(), to.parse().unwrap()).unwrap()
}

const CALLS: [Direction; 3] = [Direction::Bind, Direction::Connect, Direction::Accept];

#[test]
fn a_rule_for_a_call_decides_about_that_call_and_no_packet() {
    let packet = call(true, "10.0.2.1:4000", "10.0.2.2:25");
    for (word, wanted) in ["bind", "connect", "accept"].into_iter().zip(CALLS) {
        let mut filter = filter(&[&format!("drop {word} proto tcp to 10.0.0.0/8 port 25")]);
        for direction in [Direction::In, Direction::Out].into_iter().chain(CALLS) {
            let verdict = filter.decide(1, direction, "net0", packet.packet());
            assert_eq!(
                verdict == Verdict::Drop,
                direction == wanted,
                "{word} {direction:?}"
            );
        }
    }
}

#[test]
fn a_rule_without_a_direction_decides_about_packets_and_no_call() {
    let packet = call(false, "[fec0::1]:4000", "[fec0::2]:53");
    let mut filter = filter(&["reject"]);
    for direction in [Direction::In, Direction::Out].into_iter().chain(CALLS) {
        let verdict = filter.decide(1, direction, "net0", packet.packet());
        assert_eq!(verdict == Verdict::Reject, !direction.is_call(), "{direction:?}");
    }
}

#[test]
fn a_call_makes_no_flow() {
    let mut filter = filter(&["pass in state established", "pass connect"]);
    let packet = call(true, "10.0.2.1:4000", "10.0.2.2:25");
    assert_eq!(
        filter.decide(1, Direction::Connect, "net0", packet.packet()),
        Verdict::Pass
    );
    assert_eq!(filter.states(1).count(), 0);
    // The same bytes as a packet are a flow.
    filter.decide(1, Direction::Out, "net0", packet.packet());
    assert_eq!(filter.states(1).count(), 1);
}

#[test]
fn a_rule_for_a_call_has_no_clause_about_things_that_a_call_does_not_have() {
    for (text, column) in [
        ("drop connect proto tcp flags S/SA", 30),
        ("drop accept state new", 19),
        ("drop bind proto icmp icmp-type echo", 17),
        ("drop bind proto 47", 17),
        ("drop bind proto icmp6", 17),
    ] {
        let fault = parse(text).unwrap_err();
        assert_eq!((fault.column, fault.problem), (column, Problem::Call), "{text}");
    }
    for text in [
        "reject connect proto tcp to 10.0.0.0/8 port 25",
        "drop bind proto udp to any port 53",
        "pass accept on net0 inet6 proto tcp from fec0::/64 rate 10/s burst 20",
        "drop bind",
    ] {
        assert_eq!(print(&parse(text).unwrap()), text);
    }
}

proptest! {
    #[test]
    fn a_call_is_a_packet_with_its_addresses_and_ports(
        tcp: bool, v6: bool, source: (u128, u16), destination: (u128, u16),
    ) {
        let end = |(bits, port): (u128, u16)| SocketAddr::new(
            if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }, port);
        let (source, destination) = (end(source), end(destination));
        let call = Call::new(tcp, source, destination).unwrap();
        let packet = Packet::parse(call.packet()).unwrap();
        prop_assert_eq!(packet.bytes.len(), call.packet().len());
        prop_assert_eq!((packet.source, packet.destination), (source.ip(), destination.ip()));
        let ports = match packet.transport {
            Transport::Tcp(header) => (true, header.source, header.destination),
            Transport::Udp(source, destination) => (false, source, destination),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(ports, (tcp, source.port(), destination.port()));
    }
}
