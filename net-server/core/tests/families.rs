//! Families and protocols: their life, and what a brane without some of them answers.

mod common;

use brane_abi::control::{Family, FamilyConfig, Protocol, all_families, command, report};
use brane_abi::port::FrameMeta;
use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use net_server_core::Brane;
use net_server_core::family::{
    Account, Families, Owner, Part, Protosw, Refused, Shortage, Stage, Why, array,
};
use net_server_core::stack::Stack;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::result::Result;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A stack that writes down what is created and destroyed, and has no memory for the part of this number.
struct Broken {
    stack: Stack,
    created: Vec<Part>,
    destroyed: Vec<Part>,
    fails: usize,
}

impl Owner for Broken {
    fn create(&mut self, part: Part) -> Result<(), Shortage> {
        if self.created.len() == self.fails {
            return Err(Shortage::Heap { wanted: 1 });
        }
        self.stack.create(part)?;
        self.created.push(part);
        Ok(())
    }
    fn mark(&mut self, part: Part, stage: Stage) {
        self.stack.mark(part, stage);
    }
    fn destroy(&mut self, part: Part) {
        self.stack.destroy(part);
        self.destroyed.push(part);
    }
}

#[test]
fn whichever_creation_fails_those_before_it_go_in_reverse_order_and_nothing_is_left() {
    let config = all_families();
    let parts = config.iter().map(|f| 1 + f.protocols.len()).sum();
    assert_eq!(parts, 8);
    for fails in 0..parts {
        let mut owner = Broken {
            stack: Stack::new([1; 32], 0),
            created: Vec::new(),
            destroyed: Vec::new(),
            fails,
        };
        let refused = Families::create(&config, &mut owner).unwrap_err();
        assert_eq!(refused.why, Why::Shortage(Shortage::Heap { wanted: 1 }));
        assert_eq!(owner.created.len(), fails);
        let mut reverse = owner.created.clone();
        reverse.reverse();
        assert_eq!(owner.destroyed, reverse, "the {fails}th");
        let left = (owner.stack.switch, owner.stack.account);
        assert_eq!(left, (Protosw::default(), Account::default()));
    }
}

/// All that can be seen of a brane from outside.
fn visible(brane: &mut Brane) -> String {
    let status = brane.status();
    format!("{status:?} {:?} {:?}", brane.stack.switch, brane.stack.account)
}

#[test]
fn a_brane_whose_creation_fails_is_as_it_was_and_can_be_configured_later() {
    let mut refused = std::collections::BTreeSet::new();
    // All limits at which one more part fits: found by trying, so that no size is written down twice.
    for limit in (0..1 << 20).step_by(1024) {
        let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
        host.brane.stack.account = Account::new(limit);
        let before = visible(&mut host.brane);
        let Err(why) = host.brane.configure(SECOND, host.config.clone()) else {
            assert_eq!(refused.len(), 8, "each part must have failed: {refused:?}");
            return;
        };
        let (part, _) = why.split_once(": no memory: ").expect("a reason");
        refused.insert(part.to_string());
        assert_eq!(visible(&mut host.brane), before);
        host.brane.stack.account = Account::default();
        host.brane.configure(SECOND, host.config.clone()).unwrap();
    }
    panic!("no limit is enough");
}

/// Creates all families with less memory than they need, and again with enough.
#[test]
fn each_step_of_a_creation_can_fail_and_leaves_nothing() {
    let config = all_families();
    let empty = |stack: &Stack, limit| {
        assert_eq!(
            (&stack.switch, &stack.account),
            (&Protosw::default(), &Account::new(limit))
        );
    };
    let (mut limit, mut failed) = (0, Vec::new());
    loop {
        let mut stack = Stack::new([1; 32], 0);
        stack.account = Account::new(limit);
        let Err(refused) = Families::create(&config, &mut stack) else {
            break;
        };
        let Refused {
            part,
            why: Why::Shortage(Shortage::Account { wanted, left }),
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!(
            refused.to_string(),
            format!("{part}: no memory: {wanted} bytes wanted, {left} left")
        );
        failed.push(part);
        empty(&stack, limit);
        // The next table fits by the last byte.
        limit += wanted - left;
        stack.account = Account::default();
        let created = Families::create(&config, &mut stack).unwrap();
        let used = stack.account.used();
        created.destroy(&mut stack);
        empty(&stack, net_server_core::family::DEFAULT_LIMIT);
        // Again: what was freed can be bought.
        let created = Families::create(&config, &mut stack).unwrap();
        assert_eq!(stack.account.used(), used);
        created.destroy(&mut stack);
    }
    failed.dedup();
    let parts = config.iter().flat_map(|f| {
        let protocols = f.protocols.iter().map(|p| Part(f.family, Some(*p)));
        core::iter::once(Part(f.family, None)).chain(protocols)
    });
    assert_eq!(failed, parts.collect::<Vec<_>>());
    assert!(
        array(Family::Inet).len() > 3,
        "some protocols are part of the family"
    );
}

#[test]
fn the_configuration_limits_the_memory_and_the_refusal_says_the_numbers() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    let before = visible(&mut host.brane);
    host.config.memory = Some(1024);
    let why = host.brane.configure(SECOND, host.config.clone()).unwrap_err();
    assert!(
        why.starts_with("inet: no memory: ") && why.ends_with(" bytes wanted, 1024 left"),
        "{why}"
    );
    assert_eq!(visible(&mut host.brane), before);
    host.config.memory = Some(1 << 21);
    host.brane.configure(SECOND, host.config.clone()).unwrap();
}

#[test]
fn what_no_family_has_is_refused() {
    for (families, why) in [
        (
            vec![(Family::Inet, vec![Protocol::Icmp6])],
            "inet icmp6: no protocol of this family",
        ),
        (
            vec![(Family::Inet6, vec![Protocol::Tcp, Protocol::Tcp])],
            "inet6 tcp: there twice",
        ),
        (
            vec![(Family::Inet6, vec![]), (Family::Inet6, vec![])],
            "inet6: there twice",
        ),
    ] {
        let mut host = Host::new(interface(1, &[]), 0);
        host.config.families = Some(subset(&families));
        let before = visible(&mut host.brane);
        assert_eq!(host.brane.configure(SECOND, host.config.clone()), Err(why.into()));
        assert_eq!(visible(&mut host.brane), before);
    }
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    host.config.families = Some(subset(&[(Family::Inet6, vec![])]));
    let why = "net0: an address of inet, which the brane does not have";
    assert_eq!(host.brane.configure(SECOND, host.config.clone()), Err(why.into()));
}

fn subset(families: &[(Family, Vec<Protocol>)]) -> Vec<FamilyConfig> {
    let config = |(family, protocols): &(Family, Vec<Protocol>)| FamilyConfig {
        family: *family,
        protocols: protocols.clone(),
    };
    families.iter().map(config).collect()
}

/// A brane with these families at 10.0.2.1 and fec0::1 as far as it has them, settled.
fn with(families: &[(Family, Vec<Protocol>)]) -> Host {
    let has = |family| families.iter().any(|(f, _)| *f == family);
    let addresses: Vec<&str> = [(Family::Inet, "10.0.2.1/24"), (Family::Inet6, "fec0::1/64")]
        .into_iter()
        .filter(|(f, _)| has(*f))
        .map(|(_, a)| a)
        .collect();
    let mut host = Host::new(interface(1, &addresses), 0);
    host.config.families = Some(subset(families));
    host.settle();
    host.clock.0.set(host.now() + 3 * SECOND);
    host.settle();
    host.driver.sent(0);
    host
}

const PEER4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 9);
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 9);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1);
const PEER_MAC: [u8; 6] = [2, 0x99, 0, 0, 0, 9];
const OWN_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

fn frame(to: [u8; 6], ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&to[..], &PEER_MAC, &ethertype, packet].concat()
}

fn v4(to: [u8; 6], dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: PEER4,
        dst_addr: dst,
        next_header: IpProtocol::from(protocol),
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; 20 + payload.len()];
    ip.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet[20..].copy_from_slice(payload);
    frame(to, [8, 0], &packet)
}

fn v6(to: [u8; 6], dst: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv6Repr {
        src_addr: PEER6,
        dst_addr: dst,
        next_header: IpProtocol::from(next),
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; 40 + payload.len()];
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    packet[40..].copy_from_slice(payload);
    frame(to, [0x86, 0xdd], &packet)
}

fn udp(src: IpAddress, dst: IpAddress) -> Vec<u8> {
    let repr = UdpRepr {
        src_port: 5,
        dst_port: 7,
    };
    let mut bytes = vec![0; 12];
    let fill = |data: &mut [u8]| data.copy_from_slice(b"data");
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &src, &dst, 4, fill, &ChecksumCapabilities::default());
    bytes
}

fn tcp_syn(src: IpAddress, dst: IpAddress) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 5,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &src, &dst, &ChecksumCapabilities::default());
    bytes
}

fn echo4() -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 1,
        data: b"ping",
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Icmpv4Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::default(),
    );
    bytes
}

fn echo6() -> Vec<u8> {
    let repr = Icmpv6Repr::EchoRequest {
        ident: 1,
        seq_no: 1,
        data: b"ping",
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
    repr.emit(&PEER6, &OWN6, &mut packet, &ChecksumCapabilities::default());
    bytes
}

fn arp() -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(PEER_MAC),
        source_protocol_addr: PEER4,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: OWN4,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    frame([0xff; 6], [8, 6], &bytes)
}

fn solicitation() -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: OWN6,
        lladdr: Some(EthernetAddress(PEER_MAC).into()),
    });
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
    repr.emit(&PEER6, &OWN6, &mut packet, &ChecksumCapabilities::default());
    let mut frame = v6(OWN_MAC, OWN6, 58, &bytes);
    frame[14 + 7] = 255;
    frame
}

/// What the brane sends when this frame comes.
fn answers(host: &mut Host, frame: Vec<u8>) -> Vec<Vec<u8>> {
    host.clock.0.set(host.now() + SECOND);
    host.driver.give(0, &(frame, FrameMeta::default()));
    host.settle();
    let sent = host.driver.sent(0).into_iter().map(|(frame, _)| frame);
    // Reports of groups, behind hop-by-hop options, are no answers.
    sent.filter(|frame| !(frame[12..14] == [0x86, 0xdd] && frame[20] == 0))
        .collect()
}

/// The brane knows where the peer is, so that its answers need no question before them.
fn introduce(host: &mut Host) {
    answers(host, arp());
    answers(host, solicitation());
}

/// Checks that `answer` says "protocol unreachable" about the packet in `frame`.
fn assert_unreachable4(answer: &[u8], frame: &[u8]) {
    assert_eq!((&answer[..6], &answer[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
    let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    assert!(ip.verify_checksum());
    assert_eq!(
        (ip.src_addr(), ip.dst_addr(), ip.next_header()),
        (OWN4, PEER4, IpProtocol::Icmp)
    );
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (3, 2));
    let quoted = &ip.payload()[8..];
    assert_eq!(quoted, &frame[14..14 + quoted.len()]);
    assert!(quoted.len() == frame.len() - 14 || answer.len() == 14 + 576);
}

/// The same for "unrecognized next header", which stands at byte `pointer`.
fn assert_problem6(answer: &[u8], frame: &[u8], pointer: u32) {
    let ip = Ipv6Packet::new_checked(&answer[14..]).unwrap();
    assert_eq!(
        (ip.src_addr(), ip.dst_addr(), ip.next_header()),
        (OWN6, PEER6, IpProtocol::Icmpv6)
    );
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum(&OWN6, &PEER6));
    assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (4, 1));
    assert_eq!(ip.payload()[4..8], pointer.to_be_bytes());
    assert_eq!(ip.payload()[8..], frame[14..]);
}

const BOTH: [Family; 2] = [Family::Inet, Family::Inet6];

#[test]
fn a_protocol_that_is_not_there_is_answered_as_the_rfcs_want() {
    let mut host = with(&[
        (Family::Inet, vec![Protocol::Icmp]),
        (Family::Inet6, vec![Protocol::Icmp6]),
    ]);
    let (p4, o4, p6, o6) = (PEER4.into(), OWN4.into(), PEER6.into(), OWN6.into());
    for (protocol, payload) in [
        (17, udp(p4, o4)),
        (6, tcp_syn(p4, o4)),
        (132, vec![1; 700]),
        (58, vec![0; 8]),
    ] {
        let frame = v4(OWN_MAC, OWN4, protocol, &payload);
        let sent = answers(&mut host, frame.clone());
        assert_eq!(sent.len(), 1, "protocol {protocol}");
        assert_unreachable4(&sent[0], &frame);
    }
    for (next, payload, pointer) in [
        (17, udp(p6, o6), 6),
        (6, tcp_syn(p6, o6), 6),
        (132, vec![1; 70], 6),
        (1, vec![0; 8], 6),
        // Behind options for each hop.
        (0, vec![132, 0, 1, 4, 0, 0, 0, 0, 9, 9], 40),
    ] {
        let frame = v6(OWN_MAC, OWN6, next, &payload);
        let sent = answers(&mut host, frame.clone());
        assert_eq!(sent.len(), 1, "next header {next}");
        assert_problem6(&sent[0], &frame, pointer);
    }
    // To a group, by either address, and what is no first fragment or says that it ends: not a word.
    let datagram = |dst: Ipv4Addr| udp(p4, dst.into());
    let (all, here) = (Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 2, 255));
    let mut later = v4(OWN_MAC, OWN4, 132, &[1; 16]);
    later[14 + 7] = 2;
    let sum = !net_server_core::ip::checksum::sum(&[&later[14..24], &[0, 0], &later[26..34]].concat());
    later[24..26].copy_from_slice(&sum.to_be_bytes());
    for silent in [
        v4([0xff; 6], all, 17, &datagram(all)),
        v4([0xff; 6], here, 17, &datagram(here)),
        v4([0xff; 6], OWN4, 132, &[1; 16]),
        v4([1, 0, 0x5e, 0, 0, 1], Ipv4Addr::new(224, 0, 0, 1), 132, &[1; 16]),
        v6(
            [0x33, 0x33, 0, 0, 0, 1],
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            132,
            &[1; 16],
        ),
        v6(OWN_MAC, OWN6, 59, &[]),
        v4(OWN_MAC, Ipv4Addr::new(10, 0, 2, 77), 132, &[1; 16]),
        later,
    ] {
        assert_eq!(
            answers(&mut host, silent.clone()),
            Vec::<Vec<u8>>::new(),
            "{silent:x?}"
        );
    }
    assert_eq!(host.counter("no protocol"), 16);
}

#[test]
fn a_brane_without_icmp_answers_no_echo_and_sends_no_errors() {
    let others = vec![Protocol::Udp, Protocol::Tcp];
    let mut host = with(&BOTH.map(|family| (family, others.clone())));
    introduce(&mut host);
    let (p4, o4, p6, o6) = (PEER4.into(), OWN4.into(), PEER6.into(), OWN6.into());
    for silent in [
        v4(OWN_MAC, OWN4, 1, &echo4()),
        v6(OWN_MAC, OWN6, 58, &echo6()),
        v4(OWN_MAC, OWN4, 17, &udp(p4, o4)),
        v6(OWN_MAC, OWN6, 17, &udp(p6, o6)),
        v4(OWN_MAC, OWN4, 132, &[1; 16]),
        v6(OWN_MAC, OWN6, 132, &[1; 16]),
    ] {
        assert_eq!(
            answers(&mut host, silent.clone()),
            Vec::<Vec<u8>>::new(),
            "{silent:x?}"
        );
    }
    // Its neighbours find it all the same, and TCP resets what nobody wants.
    assert_eq!(answers(&mut host, arp()).len(), 1);
    assert_eq!(answers(&mut host, solicitation()).len(), 1);
    let reset = answers(&mut host, v4(OWN_MAC, OWN4, 6, &tcp_syn(p4, o4)));
    assert_eq!(reset[0][14 + 20 + 13] & 4, 4);
    // One with all of them answers each of these.
    let mut host = with(
        &all_families()
            .into_iter()
            .map(|f| (f.family, f.protocols))
            .collect::<Vec<_>>(),
    );
    introduce(&mut host);
    for loud in [
        v4(OWN_MAC, OWN4, 1, &echo4()),
        v6(OWN_MAC, OWN6, 58, &echo6()),
        v4(OWN_MAC, OWN4, 17, &udp(p4, o4)),
        v6(OWN_MAC, OWN6, 17, &udp(p6, o6)),
    ] {
        assert_eq!(answers(&mut host, loud).len(), 1);
    }
}

#[test]
fn a_family_that_is_not_there_ignores_its_frames() {
    let (p4, o4, p6, o6) = (PEER4.into(), OWN4.into(), PEER6.into(), OWN6.into());
    let inet: [Vec<u8>; 3] = [
        arp(),
        v4(OWN_MAC, OWN4, 1, &echo4()),
        v4(OWN_MAC, OWN4, 17, &udp(p4, o4)),
    ];
    let inet6 = [
        solicitation(),
        v6(OWN_MAC, OWN6, 58, &echo6()),
        v6(OWN_MAC, OWN6, 17, &udp(p6, o6)),
    ];
    for (family, foreign, own) in [(Family::Inet, &inet6, &inet), (Family::Inet6, &inet, &inet6)] {
        let mut host = Host::new(interface(1, &[]), 0);
        let address = if family == Family::Inet {
            "10.0.2.1/24"
        } else {
            "fec0::1/64"
        };
        host.config.interfaces = vec![interface(1, &[address])];
        host.config.families = Some(subset(&[(family, family.protocols().to_vec())]));
        // From its first frame on it sends nothing of the other family: no announcement, no report of groups.
        let mut sent = Vec::new();
        for _ in 0..5 {
            host.settle();
            sent.extend(host.driver.sent(0));
            host.clock.0.set(host.now() + SECOND);
        }
        let v6 = |frame: &Vec<u8>| frame[12..14] == [0x86, 0xdd];
        assert!(!sent.is_empty() && sent.iter().all(|(f, _)| v6(f) == (family == Family::Inet6)));
        for frame in foreign {
            assert_eq!(answers(&mut host, frame.clone()), Vec::<Vec<u8>>::new());
        }
        assert_eq!(host.counter("no family"), 3);
        for frame in own {
            assert_eq!(answers(&mut host, frame.clone()).len(), 1);
        }
        let lo0 = &host.status().interfaces[0];
        assert_eq!(lo0.addresses.len(), 1);
    }
}

#[test]
fn errors_are_limited() {
    let mut host = with(&[(Family::Inet, vec![Protocol::Icmp])]);
    let frame = v4(OWN_MAC, OWN4, 132, &[1; 16]);
    let burst = |host: &mut Host| {
        for _ in 0..100 {
            host.driver.give(0, &(frame.clone(), FrameMeta::default()));
        }
        host.settle();
        host.driver.sent(0).len()
    };
    assert_eq!(burst(&mut host), 10);
    assert_eq!(burst(&mut host), 0);
    host.clock.0.set(host.now() + SECOND / 2);
    assert_eq!(burst(&mut host), 5);
    host.clock.0.set(host.now() + 100 * SECOND);
    assert_eq!(burst(&mut host), 10);
    assert_eq!(host.counter("icmp errors limited"), 400 - 25);
}

#[test]
fn a_client_is_told_that_a_protocol_is_not_there() {
    let mut pair = Pair::new(0);
    pair.a.config.generation = 1;
    pair.a.config.families = Some(subset(&[
        (Family::Inet, vec![Protocol::Icmp, Protocol::Udp]),
        (Family::Inet6, vec![Protocol::Icmp6, Protocol::Tcp]),
    ]));
    pair.a.restart();
    pair.run(SECOND / 100);
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let sizes = RingSizes::default();
        let listen = async |at| {
            TcpListener::bind(&stack, at, ListenOptions::default())
                .await
                .map(|_| ())
        };
        let bind = async |at| UdpSocket::bind(&stack, at, sizes).await.map(|_| ());
        [
            TcpStream::connect(&stack, at("10.0.2.2:80"), sizes)
                .await
                .map(|_| ()),
            listen(at("10.0.2.1:80")).await,
            bind(at("[fec0::1]:80")).await,
            listen(at("[::]:80")).await,
            bind(at("[::]:80")).await,
        ]
    });
    let no = Err(Error::NotSupported);
    assert_eq!(pair.until(&task, SECOND), [no, no, no, Ok(()), Ok(())]);
}

#[test]
fn created_is_not_started() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    host.config.held = true;
    host.settle();
    let stack = host.stack.clone();
    let early = host.spawn(async move {
        UdpSocket::bind(&stack, at("[::]:7"), RingSizes::default())
            .await
            .map(|_| ())
    });
    for _ in 0..5 {
        for frame in [arp(), solicitation(), v4(OWN_MAC, OWN4, 1, &echo4())] {
            assert_eq!(answers(&mut host, frame), Vec::<Vec<u8>>::new());
        }
    }
    assert_eq!(early.borrow_mut().take(), Some(Err(Error::NotReady)));
    assert!(!host.stack.is_ready());
    let status = host.status();
    assert!(status.interfaces.len() == 2 && !status.interfaces[1].up);
    let stages: Vec<_> = host
        .brane
        .stack
        .switch
        .iter()
        .map(|(.., stage, _)| stage.name())
        .collect();
    assert_eq!(stages, ["created"; 6]);
    // Twice: it cannot fail.
    for token in [5, 6] {
        host.manager.command(command::START, token, &[]);
        host.settle();
        assert_eq!(host.manager.report(), Some((report::DONE, token, vec![])));
    }
    assert!(host.stack.is_ready());
    let sent: Vec<_> = host.driver.sent(0);
    assert!(
        sent.iter().any(|(f, _)| f[12..14] == [8, 6]),
        "announced from the start on"
    );
    let replies = answers(&mut host, arp());
    assert!(replies.iter().any(|f| f[12..14] == [8, 6] && f[21] == 2));
}
