//! Addresses that the network gives: DHCP against a server that the test plays, SLAAC against a router that it plays.

mod common;

use brane_abi::control::Origin;
use brane_abi::port::FrameMeta;
use common::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::Duration;
use smoltcp::wire::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const OFFERED: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);
const SERVER_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);

/// What a DHCP server answers to a frame, if it is a question for one.
fn dhcp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let checksums = ChecksumCapabilities::default();
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    if (udp.src_port(), udp.dst_port()) != (68, 67) {
        return None;
    }
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    let question = DhcpPacket::new_checked(udp.payload()).ok()?;
    let question = DhcpRepr::parse(&question).ok()?;
    let message_type = match question.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => {
            assert_eq!(question.requested_ip, Some(OFFERED));
            DhcpMessageType::Ack
        }
        other => panic!("unexpected {other:?}"),
    };
    let answer = DhcpRepr {
        message_type,
        transaction_id: question.transaction_id,
        secs: 0,
        client_hardware_address: question.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: OFFERED,
        server_ip: SERVER,
        router: Some(SERVER),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(3600),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let udp = UdpRepr {
        src_port: 67,
        dst_port: 68,
    };
    let payload_len = udp.header_len() + answer.buffer_len();
    let ip = Ipv4Repr {
        src_addr: SERVER,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len,
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + ip.buffer_len() + payload_len];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(SERVER_MAC);
    ethernet.set_dst_addr(EthernetAddress::BROADCAST);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let (src, dst) = (SERVER.into(), Ipv4Addr::BROADCAST.into());
    let fill = |room: &mut [u8]| answer.emit(&mut DhcpPacket::new_unchecked(room)).unwrap();
    udp.emit(&mut datagram, &src, &dst, answer.buffer_len(), fill, &checksums);
    Some(frame)
}

/// A router advertisement for `fd12::/64`.
fn advertisement() -> Vec<u8> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let message = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::from_secs(1800),
        reachable_time: Duration::from_millis(0),
        retrans_time: Duration::from_millis(0),
        lladdr: Some(SERVER_MAC.into()),
        mtu: None,
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: 64,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: Duration::from_secs(3600),
            preferred_lifetime: Duration::from_secs(1800),
            prefix: Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 0),
        }),
    });
    let ip = Ipv6Repr {
        src_addr: router,
        dst_addr: all_nodes,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let mut frame = vec![0; 14 + ip.buffer_len() + message.buffer_len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(SERVER_MAC);
    ethernet.set_dst_addr(EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
    ethernet.set_ethertype(EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    ip.emit(&mut packet);
    let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
    message.emit(&router, &all_nodes, &mut icmp, &ChecksumCapabilities::default());
    frame
}

/// Runs for `time`, answering frames by `answer`; returns what was sent.
fn run(host: &mut Host, time: u64, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let (end, mut all) = (host.now() + time, Vec::new());
    while host.now() < end {
        host.settle();
        for (frame, _) in host.driver.sent(0) {
            if let Some(answer) = answer(&frame) {
                host.driver.give(0, &(answer, FrameMeta::default()));
            }
            all.push(frame);
        }
        host.clock.0.set(host.now() + 10 * MS);
    }
    all
}

#[test]
fn dhcp_gives_an_address_and_a_router() {
    let mut config = interface(1, &[]);
    config.dhcp4 = true;
    let mut host = Host::new(config, 0);
    let sent = run(&mut host, 5 * SECOND, dhcp_answer);
    let status = host.status();
    let net0 = &status.interfaces[1];
    let lease = net0
        .addresses
        .iter()
        .find(|a| a.origin == Origin::Dhcp)
        .expect("a lease");
    assert_eq!(lease.cidr, cidr("10.0.2.77/24"));
    assert_eq!(net0.gateway4, Some(SERVER));
    let announced =
        |f: &Vec<u8>| f[12..14] == [8, 6] && f[28..32] == OFFERED.octets() && f[38..42] == OFFERED.octets();
    assert!(sent.iter().any(announced), "the new address was not announced");
    assert!(
        host.stack
            .identity()
            .addresses
            .iter()
            .any(|a| a.to_string().contains("10.0.2.77"))
    );
}

#[test]
fn a_router_gives_a_prefix() {
    let mut config = interface(1, &[]);
    config.slaac = true;
    let mut host = Host::new(config, 0);
    let solicited = |f: &[u8]| f[12..14] == [0x86, 0xdd] && f.get(54) == Some(&133);
    let sent = run(&mut host, 3 * SECOND, |f| solicited(f).then(advertisement));
    assert!(sent.iter().any(|f| solicited(f)), "no router solicitation");
    let status = host.status();
    let net0 = &status.interfaces[1];
    let slaac = net0
        .addresses
        .iter()
        .find(|a| a.origin == Origin::Slaac)
        .expect("an address");
    assert_eq!(slaac.cidr, cidr("fd12::77:ff:fe00:1/64"));
    assert_eq!(net0.gateway6, Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff)));
    // And rests afterwards: no frame for a minute.
    run(&mut host, 3 * SECOND, |_| None);
    host.turns = 0;
    assert!(run(&mut host, 60 * SECOND, |_| None).len() < 3);
}

#[test]
fn a_configuration_that_the_stack_cannot_take_is_refused_with_the_reason() {
    for (bad, why) in [
        ("224.0.0.1/24", "224.0.0.1/24 cannot be an interface's address"),
        ("0.0.0.0/0", "0.0.0.0/0 cannot"),
        ("10.0.0.1/33", "10.0.0.1/33 cannot"),
        ("ff02::1/64", "ff02::1/64 cannot"),
    ] {
        let mut host = Host::new(interface(1, &[bad]), 0);
        for _ in 0..3 {
            host.settle();
        }
        let (kind, _, text) = host.manager.report().expect("an answer");
        assert_eq!(kind, brane_abi::control::report::REFUSED);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("net0: ") && text.contains(why), "{text}");
    }
}
