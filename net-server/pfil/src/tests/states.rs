//! The table of flows: each transition by hand, and floods.

mod model;

use super::packets::Fields;
use super::*;
use crate::packet::{Flow, Icmp, Packet, Purpose, Transport};
use crate::state::*;
use std::collections::BTreeSet;

const SECOND: u64 = 1_000_000_000;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const US: &str = "10.0.0.1";

/// A table with its time.
struct Bench {
    states: States,
    now: u64,
}

impl Bench {
    fn new(capacity: usize) -> Bench {
        Bench {
            states: States::new(7, capacity).unwrap(),
            now: 5 * SECOND,
        }
    }

    /// Lets a packet pass. Returns the state of its flow, and whether the table had room.
    fn pass(&mut self, fields: &Fields) -> (FlowState, bool) {
        let bytes = fields.bytes();
        let packet = Packet::parse(&bytes).unwrap();
        let classified = self.states.classify(self.now, &packet);
        (classified.state, self.states.note(&packet, classified).is_ok())
    }

    fn state(&self, fields: &Fields) -> FlowState {
        let bytes = fields.bytes();
        self.states
            .classify(self.now, &Packet::parse(&bytes).unwrap())
            .state
    }

    fn phase(&self, port: u16) -> Option<Phase> {
        let mut flows = self.states.iter(self.now);
        flows
            .find(|listed| listed.flow.source.1 == port)
            .map(|listed| listed.phase)
    }

    /// Completes the handshake of a connection from `peer` to us.
    fn connect(&mut self, peer: &str, port: u16) -> bool {
        let [syn, answer, ack] = handshake(peer, port);
        [syn, answer, ack].iter().all(|packet| self.pass(packet).1)
            && self.phase(port) == Some(Phase::Established)
    }
}

fn tcp(
    from: &str,
    port: u16,
    to: &str,
    to_port: u16,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
) -> Fields {
    Fields {
        flags,
        sequence,
        acknowledgement,
        ..Fields::new(6, from, port, to, to_port)
    }
}

fn handshake(peer: &str, port: u16) -> [Fields; 3] {
    [
        tcp(peer, port, US, 80, SYN, 100, 0),
        tcp(US, 80, peer, port, SYN | ACK, u32::MAX, 101),
        tcp(peer, port, US, 80, ACK, 101, 0),
    ]
}

fn data(peer: &str, port: u16, flags: u8) -> Fields {
    tcp(peer, port, US, 80, flags, 101, 0)
}

#[test]
fn a_connection_is_established_by_its_third_packet() {
    let mut bench = Bench::new(16);
    let [syn, answer, ack] = handshake("10.0.0.9", 1000);
    assert_eq!(bench.pass(&answer), (FlowState::Invalid, true));
    assert_eq!(bench.pass(&ack), (FlowState::Invalid, true));
    assert_eq!(bench.states.len(), 0);
    assert_eq!(bench.pass(&syn), (FlowState::New, true));
    assert_eq!(bench.pass(&syn), (FlowState::New, true));
    assert_eq!(bench.pass(&answer), (FlowState::Established, true));
    assert_eq!(bench.phase(1000), Some(Phase::HalfOpen));
    // Forged third packets do not know the answer's number.
    for forged in [
        syn.clone(),
        tcp("10.0.0.9", 1000, US, 80, ACK, 101, 1),
        tcp("10.0.0.9", 1000, US, 80, RST | ACK, 101, 0),
        data("10.0.0.9", 1000, 0),
    ] {
        assert_eq!(bench.pass(&forged), (FlowState::Established, true));
        assert_eq!(bench.phase(1000), Some(Phase::HalfOpen));
    }
    assert_eq!(bench.pass(&ack), (FlowState::Established, true));
    assert_eq!(bench.phase(1000), Some(Phase::Established));
}

#[test]
fn a_connection_that_was_not_answered_is_not_established() {
    let mut bench = Bench::new(16);
    let [syn, _, ack] = handshake("10.0.0.9", 1000);
    bench.pass(&syn);
    assert_eq!(
        bench.pass(&tcp("10.0.0.9", 1000, US, 80, ACK, 101, 1)),
        (FlowState::New, true)
    );
    // A reset belongs to the flow, and does not answer it.
    assert_eq!(
        bench.pass(&tcp(US, 80, "10.0.0.9", 1000, RST | ACK, 0, 101)),
        (FlowState::Established, true)
    );
    assert_eq!(
        bench.pass(&tcp("10.0.0.9", 1000, US, 80, ACK, 101, 1)),
        (FlowState::New, true)
    );
    assert_eq!(bench.pass(&ack), (FlowState::New, true));
    assert_eq!(bench.phase(1000), Some(Phase::HalfOpen));
}

#[test]
fn a_connection_closes_by_two_fins_or_a_reset() {
    let mut bench = Bench::new(16);
    assert!(bench.connect("10.0.0.9", 1000) && bench.connect("10.0.0.9", 2000));
    bench.pass(&data("10.0.0.9", 1000, FIN | ACK));
    bench.pass(&data("10.0.0.9", 1000, FIN | ACK));
    assert_eq!(bench.phase(1000), Some(Phase::Established), "half-closed");
    bench.pass(&tcp(US, 80, "10.0.0.9", 1000, FIN | ACK, 0, 102));
    assert_eq!(bench.phase(1000), Some(Phase::Closing));
    assert_eq!(bench.state(&data("10.0.0.9", 1000, ACK)), FlowState::Established);
    bench.pass(&tcp(US, 80, "10.0.0.9", 2000, RST, 0, 0));
    assert_eq!(bench.phase(2000), Some(Phase::Closing));
    // The ports can be used again at once.
    assert_eq!(bench.state(&handshake("10.0.0.9", 2000)[0]), FlowState::New);
    assert!(bench.connect("10.0.0.9", 2000));
    bench.now += CLOSING_TCP;
    assert_eq!(bench.state(&data("10.0.0.9", 1000, ACK)), FlowState::Invalid);
    assert_eq!(bench.phase(1000), None);
    assert_eq!(bench.phase(2000), Some(Phase::Established));
}

#[test]
fn each_part_has_its_time() {
    let icmp = |kind, from, to| Fields {
        kind,
        ..Fields::new(1, from, 5, to, 0)
    };
    let peer = "10.0.0.9";
    let udp = [Fields::new(17, peer, 5, US, 53), Fields::new(17, US, 53, peer, 5)];
    let gre = [Fields::new(47, peer, 0, US, 0), Fields::new(47, US, 0, peer, 0)];
    for ([there, back], life) in [
        (udp.clone(), ESTABLISHED_OTHER),
        (gre, ESTABLISHED_OTHER),
        ([icmp(8, peer, US), icmp(0, US, peer)], ESTABLISHED_ICMP),
    ] {
        let mut bench = Bench::new(16);
        assert_eq!(bench.pass(&there), (FlowState::New, true));
        assert_eq!(bench.pass(&back), (FlowState::Established, true));
        bench.now += HALF_OPEN - 1;
        assert_eq!(bench.pass(&back), (FlowState::Established, true));
        assert_eq!(bench.pass(&there), (FlowState::Established, true));
        for _ in 0..3 {
            bench.now += life - 1;
            assert_eq!(bench.pass(&back), (FlowState::Established, true));
        }
        bench.now += life;
        let again = if back.protocol == 1 {
            FlowState::Invalid
        } else {
            FlowState::New
        };
        assert_eq!(bench.pass(&back), (again, true));
    }
    // A half-open flow does not live longer by its packets.
    let mut bench = Bench::new(16);
    bench.pass(&udp[0]);
    bench.now += HALF_OPEN - 1;
    assert_eq!(bench.pass(&udp[0]), (FlowState::New, true));
    bench.now += 1;
    assert_eq!(bench.pass(&udp[1]), (FlowState::New, true));
    let mut bench = Bench::new(16);
    assert!(bench.connect(peer, 1));
    bench.now += ESTABLISHED_TCP - 1;
    assert_eq!(bench.pass(&data(peer, 1, ACK)), (FlowState::Established, true));
    bench.now += ESTABLISHED_TCP;
    assert_eq!(bench.pass(&data(peer, 1, ACK)), (FlowState::Invalid, true));
}

#[test]
fn errors_about_known_flows_are_related() {
    let mut bench = Bench::new(16);
    let request = Fields::new(17, US, 1000, "10.0.0.9", 53);
    let mut error = Fields::new(1, "10.0.0.200", 0, US, 0);
    error.kind = 3;
    error.payload = request.bytes();
    assert_eq!(bench.pass(&error), (FlowState::Invalid, true));
    bench.pass(&request);
    assert_eq!(bench.pass(&error), (FlowState::Related, true));
    bench.now += HALF_OPEN;
    assert_eq!(bench.pass(&error), (FlowState::Invalid, true));
    // Messages without a flow begin none.
    let mut advertisement = Fields::new(58, "fe80::1", 0, "ff02::1", 0);
    advertisement.kind = 134;
    let length = bench.states.len();
    assert_eq!(bench.pass(&advertisement), (FlowState::New, true));
    assert_eq!(bench.states.len(), length);
}

/// A flood of SYNs with forged sources, all of which the brane answers, and half of which "acknowledge" with a guessed number.
#[test]
fn a_flood_of_answered_syns_evicts_no_connection_and_keeps_no_host_out() {
    let mut bench = Bench::new(CAPACITY);
    assert!(bench.connect("10.0.0.9", 1000));
    let mut connected = 0;
    let mut legitimate = None;
    for n in 0..100_000u32 {
        bench.now += SECOND / 50_000;
        let forged = Ipv4Addr::from_bits(0xc000_0000 + n).to_string();
        let [syn, answer, mut ack] = handshake(&forged, 1024);
        ack.acknowledgement = n | 1;
        for packet in [&syn, &answer, &ack]
            .into_iter()
            .take(if n % 2 == 0 { 2 } else { 3 })
        {
            assert!(bench.pass(packet).1, "flood packet {n} was refused");
        }
        // Each 1000 SYNs a host connects. Its packets are 100 SYNs apart.
        let port = 2000 + (n / 1000) as u16;
        match n % 1000 {
            0 => legitimate = Some(handshake("10.0.0.77", port)),
            at @ (100 | 200 | 300) => {
                let packet = &legitimate.as_ref().unwrap()[at as usize / 100 - 1];
                assert!(bench.pass(packet).1);
            }
            301 => connected += u32::from(bench.phase(port) == Some(Phase::Established)),
            _ => {}
        }
        if n % 10_000 == 0 {
            assert_eq!(
                bench.pass(&data("10.0.0.9", 1000, ACK)),
                (FlowState::Established, true)
            );
        }
    }
    assert_eq!(bench.phase(1000), Some(Phase::Established));
    assert_eq!(connected, 100);
    assert_eq!(bench.states.counters().refused, 0);
    assert_eq!(bench.states.counters().evicted_established, 0);
    assert!(bench.states.len() <= CAPACITY);
}

/// UDP cannot be proven, so a flood of it fills its own part only.
#[test]
fn a_flood_of_answered_datagrams_leaves_room_for_tcp() {
    let mut bench = Bench::new(CAPACITY);
    for n in 0..10_000u32 {
        bench.now += SECOND / 50_000;
        let forged = Ipv4Addr::from_bits(0xc000_0000 + n).to_string();
        let there = Fields::new(17, &forged, 1, US, 53);
        let back = Fields::new(17, US, 53, &forged, 1);
        assert!(
            [&there, &back, &there]
                .into_iter()
                .all(|packet| bench.pass(packet).1)
        );
    }
    let established = bench
        .states
        .iter(bench.now)
        .filter(|listed| listed.phase == Phase::Established);
    assert_eq!(established.count(), CAPACITY / 4);
    for port in 1000..1000 + CAPACITY as u16 / 2 {
        assert!(bench.connect("10.0.0.9", port), "{port}");
    }
    assert_eq!(bench.states.counters().refused, 0);
    assert_eq!(bench.states.len(), CAPACITY);
}

#[test]
fn a_table_full_of_connections_refuses_until_one_is_idle_or_closes() {
    let mut bench = Bench::new(16);
    for port in 1..=8 {
        assert!(bench.connect("10.0.0.9", port));
        bench.now += SECOND;
    }
    let [syn, answer, ack] = handshake("10.0.0.9", 9);
    assert_eq!(bench.pass(&syn), (FlowState::New, false));
    assert_eq!(bench.states.counters().refused, 1);
    // Flows of other protocols do not need that part.
    assert_eq!(
        bench.pass(&Fields::new(17, US, 1, "10.0.0.9", 53)),
        (FlowState::New, true)
    );
    // Packets keep the first connection, so the second one is idle longest.
    assert!(bench.pass(&data("10.0.0.9", 1, ACK)).1);
    bench.now += GIVES_WAY - 7 * SECOND;
    assert!(!bench.pass(&syn).1, "idle for exactly the limit");
    bench.now += 1;
    assert!(bench.pass(&syn).1 && bench.pass(&answer).1);
    assert_eq!(
        bench.phase(2),
        Some(Phase::Established),
        "a half-open flow evicts no connection"
    );
    assert!(bench.pass(&ack).1);
    assert_eq!((bench.phase(2), bench.phase(9)), (None, Some(Phase::Established)));
    assert_eq!(bench.states.counters().evicted_established, 1);
    // A closing connection goes before any other.
    bench.pass(&data("10.0.0.9", 5, RST));
    assert!(bench.connect("10.0.0.9", 10));
    assert_eq!((bench.phase(3), bench.phase(5)), (Some(Phase::Established), None));
}

#[test]
fn too_little_memory_makes_no_table() {
    assert!(States::new(1, usize::MAX).is_none());
    assert!(States::new(1, usize::MAX / 2).is_none());
    assert_eq!(Bench::new(0).states.len(), 0);
    assert_eq!(States::bytes(CAPACITY), 84 * 1024);
}

#[test]
fn a_result_of_an_older_table_does_no_harm() {
    let mut bench = Bench::new(4);
    let first = Fields::new(17, "10.0.0.9", 1, US, 53).bytes();
    let first = Packet::parse(&first).unwrap();
    let old = bench.states.classify(bench.now, &first);
    bench.states.note(&first, old).unwrap();
    let known = bench.states.classify(bench.now, &first);
    for port in 2..20 {
        bench.pass(&Fields::new(17, "10.0.0.9", port, US, 53));
    }
    bench.states.note(&first, known).unwrap();
    bench.states.note(&first, known).unwrap();
    bench.states.note(&first, old).unwrap();
    assert_eq!(bench.states.iter(bench.now).count(), bench.states.len());
    bench.states.clear();
    bench.states.note(&first, known).unwrap();
    assert_eq!(bench.states.len(), 1);
}
