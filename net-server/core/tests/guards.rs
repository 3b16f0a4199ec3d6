//! What routers, neighbours and DHCP servers may not say, one rule at a time: none of it makes the brane panic or gives it what no
//! host may give it, and what may be said still counts.

mod common;

use brane_abi::control::Origin;
use brane_abi::port::FrameMeta;
use common::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use net_server_core::ip::checksum;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

const OWN: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const ALL_NODES: &str = "ff02::1";
const ROUTER: &str = "fe80::ff";
const SLAAC: &str = "fd12::77:ff:fe00:1";

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The frame with a router alert in hop-by-hop options before its message.
fn alerted(mut frame: Vec<u8>) -> Vec<u8> {
    let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    let number = std::mem::replace(&mut frame[20], 0);
    frame.splice(54..54, [number, 0, 5, 2, 0, 0, 1, 0]);
    frame
}

/// An ICMPv6 frame with its checksum.
fn icmp6(src: &str, dst: &str, hops: u8, mut message: Vec<u8>) -> Vec<u8> {
    let (src, dst) = (v6(src), v6(dst));
    let pseudo = checksum::pseudo_header(src.into(), dst.into(), 58, message.len()).unwrap();
    let sum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = match dst.octets() {
        [0xff, .., a, b, c, d] => [0x33, 0x33, a, b, c, d],
        _ => OWN,
    };
    let mut frame = [&to[..], &PEER, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([58, hops]);
    frame.extend(src.octets());
    frame.extend(dst.octets());
    frame.extend(message);
    frame
}

/// A prefix information option with lifetimes in seconds.
fn prefix(prefix: &str, len: u8, valid: u32, preferred: u32) -> Vec<u8> {
    let mut option = vec![3, 4, len, 0xc0];
    option.extend(valid.to_be_bytes());
    option.extend(preferred.to_be_bytes());
    option.extend([0; 4]);
    option.extend(v6(prefix).octets());
    option
}

/// A router advertisement with these options.
fn advertisement(options: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(options.concat());
    message
}

/// A brane with SLAAC and, if wanted, DHCP.
fn host(dhcp4: bool) -> Host {
    let mut config = interface(
        1,
        if dhcp4 {
            &["fec0::1/64"]
        } else {
            &["10.0.2.1/24", "fec0::1/64"]
        },
    );
    (config.slaac, config.dhcp4) = (true, dhcp4);
    let mut host = Host::new(config, 0);
    (0..3).for_each(|_| host.settle());
    host
}

/// What the brane sends when this frame comes, and in the seconds after it.
fn give(host: &mut Host, frame: Vec<u8>) -> Vec<Vec<u8>> {
    host.driver.sent(0);
    host.driver.give(0, &(frame, FrameMeta::default()));
    let mut sent = Vec::new();
    for _ in 0..5 {
        host.settle();
        sent.extend(host.driver.sent(0).into_iter().map(|(frame, _)| frame));
        host.clock.0.set(host.now() + SECOND);
    }
    sent
}

fn addresses(host: &mut Host, origin: Origin) -> Vec<IpAddr> {
    let status = host.status();
    let all = status.interfaces[1].addresses.iter();
    all.filter(|a| a.origin == origin).map(|a| a.cidr.ip).collect()
}

#[test]
fn an_advertised_prefix_that_no_host_can_have_gives_no_address_and_its_router_counts() {
    for bad in [
        prefix("ff02::", 64, 3600, 1800),
        prefix("ff02::1", 64, 3600, 1800),
        prefix("ff05::", 64, 3600, 1800),
        prefix("ffff::", 64, 3600, 1800),
        prefix("fe80::", 64, 3600, 1800),
        prefix("fe80:0:0:1::", 64, 3600, 1800),
        prefix("febf::", 64, 3600, 1800),
        prefix("::", 64, 3600, 1800),
        prefix("::ffff:0:0", 64, 3600, 1800),
        prefix("fd12::", 0, 3600, 1800),
        prefix("fd12::", 56, 3600, 1800),
        prefix("fd12::", 65, 3600, 1800),
        prefix("fd12::", 128, 3600, 1800),
        prefix("fd12::", 129, 3600, 1800),
        prefix("fd12::", 255, 3600, 1800),
        prefix("fd12::", 64, 1800, 3600),
        [&prefix("fd12::", 64, 3600, 1800)[..1], &[5], &[0; 38]].concat(),
    ] {
        let mut host = host(false);
        give(
            &mut host,
            icmp6(ROUTER, ALL_NODES, 255, advertisement(std::slice::from_ref(&bad))),
        );
        assert_eq!(
            addresses(&mut host, Origin::Slaac),
            Vec::<IpAddr>::new(),
            "{bad:x?}"
        );
        assert_eq!(host.status().interfaces[1].gateway6, Some(v6(ROUTER)), "{bad:x?}");
        // A good one counts, before it or behind it.
        let good = prefix("fd12::", 64, 3600, 1800);
        for options in [[good.clone(), bad.clone()], [bad.clone(), good.clone()]] {
            let mut host = self::host(false);
            give(&mut host, icmp6(ROUTER, ALL_NODES, 255, advertisement(&options)));
            assert_eq!(
                addresses(&mut host, Origin::Slaac),
                [IpAddr::V6(v6(SLAAC))],
                "{bad:x?}"
            );
        }
    }
}

#[test]
fn a_fixed_address_does_not_end_with_an_advertised_prefix() {
    let mut config = interface(1, &["fd12::77:ff:fe00:1/64"]);
    config.slaac = true;
    let mut host = Host::new(config, 0);
    (0..3).for_each(|_| host.settle());
    let short = advertisement(&[prefix("fd12::", 64, 1, 1)]);
    give(&mut host, icmp6(ROUTER, ALL_NODES, 255, short));
    assert_eq!(addresses(&mut host, Origin::Static), [IpAddr::V6(v6(SLAAC))]);
}

#[test]
fn an_advertisement_that_breaks_a_rule_is_dropped() {
    let good = advertisement(&[prefix("fd12::", 64, 3600, 1800)]);
    let with = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        message
    };
    let long = [good.clone(), vec![1, 2, 0, 0, 0, 0, 0, 0]].concat();
    for (name, frame) in [
        ("hop limit", icmp6(ROUTER, ALL_NODES, 254, good.clone())),
        ("code", icmp6(ROUTER, ALL_NODES, 255, with(1, 1))),
        (
            "no option of no length",
            icmp6(ROUTER, ALL_NODES, 255, with(17, 0)),
        ),
        ("an option that is cut off", icmp6(ROUTER, ALL_NODES, 255, long)),
        (
            "shorter than its header",
            icmp6(ROUTER, ALL_NODES, 255, good[..12].to_vec()),
        ),
        (
            "a router that is not on the link",
            icmp6("fec0::ff", ALL_NODES, 255, good.clone()),
        ),
        (
            "a router that is a group",
            icmp6("ff02::2", ALL_NODES, 255, good.clone()),
        ),
        (
            "a router that is the brane itself",
            icmp6("fe80::77:ff:fe00:1", ALL_NODES, 255, good.clone()),
        ),
    ] {
        let mut host = host(false);
        give(&mut host, frame);
        assert_eq!(
            addresses(&mut host, Origin::Slaac),
            Vec::<IpAddr>::new(),
            "{name}"
        );
        assert_eq!(host.status().interfaces[1].gateway6, None, "{name}");
        assert_eq!(host.counter("malformed"), 1, "{name}");
    }
    let mut host = host(false);
    give(&mut host, icmp6(ROUTER, ALL_NODES, 255, good));
    assert_eq!(addresses(&mut host, Origin::Slaac), [IpAddr::V6(v6(SLAAC))]);
}

#[test]
fn a_question_for_a_group_that_is_none_is_not_answered_and_one_for_a_group_is() {
    let query = |group: &str| {
        let mut message = vec![130, 0, 0, 0, 0, 1, 0, 0];
        message.extend(v6(group).octets());
        message.extend([2, 125, 0, 0]);
        message
    };
    let reports = |sent: Vec<Vec<u8>>| {
        sent.iter()
            .filter(|f| f[12..14] == [0x86, 0xdd] && f.get(62) == Some(&143))
            .count()
    };
    let own = "fe80::77:ff:fe00:1";
    // What the brane reports by itself is over.
    let rested = || {
        let mut host = host(false);
        for _ in 0..300 {
            host.clock.0.set(host.now() + 10 * MS);
            host.settle();
        }
        host.driver.sent(0);
        host
    };
    for (group, dst, hops, answers) in [
        (own, own, 1, false),
        ("fec0::1", "fec0::1", 1, false),
        ("fe80::5:1", own, 1, false),
        ("ff02::1:ff00:1", "ff02::1:ff00:1", 64, false),
        ("ff02::1:ff00:1", "ff02::1:ff00:1", 1, true),
        ("::", ALL_NODES, 1, true),
    ] {
        let mut host = rested();
        give(
            &mut host,
            icmp6("fe80::9", ALL_NODES, 255, vec![133, 0, 0, 0, 0, 0, 0, 0]),
        );
        let asked = alerted(icmp6("fe80::9", dst, hops, query(group)));
        let mut sent = give(&mut host, asked);
        for _ in 0..10 {
            host.clock.0.set(host.now() + MS);
            host.settle();
            sent.extend(host.driver.sent(0).into_iter().map(|(frame, _)| frame));
        }
        assert_eq!(reports(sent) != 0, answers, "{group} to {dst}");
    }
}

#[test]
fn a_message_for_another_host_whose_address_ends_like_ours_is_not_answered() {
    let mut host = host(false);
    let mut question = vec![135, 0, 0, 0, 0, 0, 0, 0];
    question.extend(v6("fec0::1").octets());
    question.extend([1, 1]);
    question.extend(PEER);
    // Answers to the peer; announcements and questions for routers go to groups.
    let answers = |host: &mut Host, frame: Vec<u8>| {
        let sent = give(host, frame);
        sent.iter().filter(|f| f[..6] == PEER).count()
    };
    let asked = icmp6("fec0::9", "ff02::1:ff00:1", 255, question);
    assert_eq!(answers(&mut host, asked), 1);
    let echo = |dst: &str| icmp6("fec0::9", dst, 64, vec![128, 0, 0, 0, 0, 1, 0, 1, 5, 5]);
    assert_eq!(answers(&mut host, echo("fec0::1")), 1);
    // smoltcp takes this one for a group of its own.
    assert_eq!(answers(&mut host, echo("2001:db8::1:1")), 0);
    assert_eq!(host.counter("not for us"), 1);
}

/// A DHCP server: what it gives, and from where.
struct Server {
    from: Ipv4Addr,
    given: Ipv4Addr,
    mask: Ipv4Addr,
    router: Ipv4Addr,
    lease: u32,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            from: Ipv4Addr::new(10, 0, 2, 2),
            given: Ipv4Addr::new(10, 0, 2, 77),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            router: Ipv4Addr::new(10, 0, 2, 2),
            lease: 3600,
        }
    }
}

impl Server {
    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        if frame.get(12..14)? != [8, 0] || frame[23] != 17 || frame.get(34..38)? != [0, 68, 0, 67] {
            return None;
        }
        let question = DhcpPacket::new_checked(&frame[42..]).ok()?;
        let question = DhcpRepr::parse(&question).ok()?;
        let answer = DhcpRepr {
            message_type: match question.message_type {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                _ => DhcpMessageType::Ack,
            },
            transaction_id: question.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(OWN),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: self.given,
            server_ip: self.from,
            router: Some(self.router),
            subnet_mask: Some(self.mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(Ipv4Addr::new(10, 0, 2, 2)),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: Some(self.lease),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut message = vec![0; answer.buffer_len()];
        answer
            .emit(&mut DhcpPacket::new_unchecked(&mut message[..]))
            .unwrap();
        Some(udp4(self.from, Ipv4Addr::BROADCAST, 67, 68, &message))
    }
}

fn udp4(src: Ipv4Addr, dst: Ipv4Addr, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr};
    let mut frame = [&[0xff; 6][..], &PEER, &[8, 0]].concat();
    if !dst.is_broadcast() {
        frame[..6].copy_from_slice(&OWN);
    }
    let ip = Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Udp,
        payload_len: 8 + data.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; 28 + data.len()];
    ip.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet[20..22].copy_from_slice(&from.to_be_bytes());
    packet[22..24].copy_from_slice(&to.to_be_bytes());
    packet[24..26].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    packet[28..].copy_from_slice(data);
    // No checksum (RFC 768).
    frame.extend(packet);
    frame
}

/// Lets a server answer for `time`.
fn served(host: &mut Host, server: &Server, time: u64) {
    let end = host.now() + time;
    while host.now() < end {
        host.settle();
        for (frame, _) in host.driver.sent(0) {
            if let Some(answer) = server.answer(&frame) {
                host.driver.give(0, &(answer, FrameMeta::default()));
            }
        }
        host.settle();
        host.clock.0.set(host.now() + SECOND / 2);
    }
}

#[test]
fn a_lease_that_no_host_can_have_is_not_taken_and_its_renewal_makes_no_brane_panic() {
    let v4 = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    let server = Server::default;
    for (name, server, taken) in [
        ("a good one", server(), true),
        (
            "one address alone",
            Server {
                mask: v4(255, 255, 255, 255),
                ..server()
            },
            true,
        ),
        (
            "a server without address",
            Server {
                from: v4(0, 0, 0, 0),
                ..server()
            },
            false,
        ),
        (
            "a server on this host",
            Server {
                from: v4(127, 0, 0, 1),
                ..server()
            },
            false,
        ),
        (
            "a server that is many",
            Server {
                from: v4(224, 0, 0, 1),
                ..server()
            },
            false,
        ),
        (
            "a group",
            Server {
                given: v4(224, 0, 0, 1),
                ..server()
            },
            false,
        ),
        (
            "everybody",
            Server {
                given: v4(255, 255, 255, 255),
                ..server()
            },
            false,
        ),
        (
            "a loopback address",
            Server {
                given: v4(127, 0, 0, 1),
                ..server()
            },
            false,
        ),
        (
            "a reserved address",
            Server {
                given: v4(240, 0, 0, 1),
                ..server()
            },
            false,
        ),
        (
            "the network's broadcast address",
            Server {
                given: v4(10, 0, 2, 255),
                ..server()
            },
            false,
        ),
        (
            "the network itself",
            Server {
                given: v4(10, 0, 2, 0),
                ..server()
            },
            false,
        ),
        (
            "a network of everything",
            Server {
                mask: v4(0, 0, 0, 0),
                ..server()
            },
            false,
        ),
        (
            "a mask with a hole",
            Server {
                mask: v4(255, 0, 255, 0),
                ..server()
            },
            false,
        ),
        ("no time", Server { lease: 0, ..server() }, false),
    ] {
        let mut host = host(true);
        served(&mut host, &server, 15 * SECOND);
        let leased = addresses(&mut host, Origin::Dhcp);
        assert_eq!(leased == [IpAddr::V4(server.given)], taken, "{name}");
        assert_eq!(leased.is_empty(), !taken, "{name}");
        // Beyond half of the lease, when it is to be renewed.
        host.clock.0.set(host.now() + 1900 * SECOND);
        served(&mut host, &server, 5 * SECOND);
    }
}

#[test]
fn a_router_from_dhcp_that_is_no_host_is_ignored_and_off_link_datagrams_make_no_brane_panic() {
    for bad in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(10, 0, 2, 77),
    ] {
        let mut host = host(true);
        echo::udp(&host);
        let server = Server {
            router: bad,
            ..Server::default()
        };
        served(&mut host, &server, 15 * SECOND);
        assert_eq!(addresses(&mut host, Origin::Dhcp), [IpAddr::V4(server.given)]);
        assert_eq!(host.status().interfaces[1].gateway4, None, "{bad}");
        give(
            &mut host,
            udp4(Ipv4Addr::new(192, 0, 2, 1), server.given, 5, 7, b"far"),
        );
        // And a segment that is answered.
        assert_eq!(host.counter("udp received"), 1);
    }
}

#[test]
fn a_configured_router_that_is_no_host_is_refused() {
    for (v4, v6) in [
        ("224.0.0.1", None),
        ("0.0.0.0", None),
        ("10.0.2.2", Some("ff02::2")),
        ("10.0.2.2", Some("::")),
    ] {
        let mut config = interface(1, &["10.0.2.1/24", "fec0::1/64"]);
        config.gateway4 = Some(v4.parse().unwrap());
        config.gateway6 = v6.map(|text| text.parse().unwrap());
        let mut host = Host::new(config, 0);
        (0..3).for_each(|_| host.settle());
        let (kind, _, text) = host.manager.report().expect("an answer");
        assert_eq!(kind, brane_abi::control::report::REFUSED);
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with(" cannot be a router"), "{text}");
    }
}
