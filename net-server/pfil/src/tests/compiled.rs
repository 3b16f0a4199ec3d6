//! Compiled rules against a plain evaluation, and views of packets.

use super::packets::{Fields, fields};
use super::*;
use crate::packet::{Flow, Icmp, Packet, Purpose, Transport};
use crate::{compile, for_capture, parse};
use brane_abi::capture::Link;
use branes_bpf::WHOLE;

fn inside(ip: IpAddr, prefix: Cidr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => format!("{:032b}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:0128b}", ip.to_bits()),
    };
    let length = usize::from(prefix.prefix);
    ip.is_ipv4() == prefix.ip.is_ipv4() && bits(ip)[..length] == bits(prefix.ip)[..length]
}

/// Evaluates what a rule demands of a packet, on the fields that the packet was made of.
pub fn matches(rule: &Rule, fields: &Fields) -> bool {
    let family = if fields.source.is_ipv4() {
        Family::Inet
    } else {
        Family::Inet6
    };
    let has_ports = matches!(fields.protocol, 6 | 17);
    let end = |end: &End, ip, port| {
        end.prefix.is_none_or(|prefix| inside(ip, prefix))
            && (end.ports.is_empty()
                || has_ports
                    && end
                        .ports
                        .iter()
                        .any(|range| (range.first..=range.last).contains(&port)))
    };
    rule.family.is_none_or(|wanted| wanted == family)
        && rule.protocol.is_none_or(|wanted| wanted == fields.protocol)
        && end(&rule.from, fields.source, fields.from)
        && end(&rule.to, fields.destination, fields.to)
        && rule
            .flags
            .is_none_or(|flags| fields.flags & flags.mask == flags.set)
        && rule
            .icmp
            .is_none_or(|icmp| icmp.kind == fields.kind && icmp.code.is_none_or(|code| code == fields.code))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_compiled_rule_matches_what_the_rule_says(rule in packet_rule(), fields in fields()) {
        let program = compile(&rule).unwrap();
        let packet = fields.bytes();
        let result = program.run(&packet, packet.len() as u32);
        prop_assert_eq!(result, if matches(&rule, &fields) { WHOLE } else { 0 });
    }

    #[test]
    fn a_program_of_a_capture_decides_as_the_rule_does(rule in packet_rule(), fields in fields(), frame: bool, offset in 0u16..3) {
        let mut packet = fields.bytes();
        let transport = !rule.from.ports.is_empty() || !rule.to.ports.is_empty() || rule.flags.is_some() || rule.icmp.is_some();
        let mut expected = matches(&rule, &fields);
        if fields.source.is_ipv4() {
            packet[6..8].copy_from_slice(&offset.to_be_bytes());
            expected &= offset == 0 || !transport;
        }
        let link = if frame { Link::Ethernet } else { Link::Raw };
        if frame {
            let kind: [u8; 2] = if fields.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
            packet.splice(0..0, [[2; 12].as_slice(), &kind].concat());
        }
        let program = branes_bpf::Program::verify(&for_capture(&rule, link).unwrap()).unwrap();
        prop_assert_eq!(program.run(&packet, packet.len() as u32), if expected { WHOLE } else { 0 });
        // No other frame matches.
        if frame {
            packet[12..14].copy_from_slice(&[8, 6]);
            prop_assert_eq!(program.run(&packet, packet.len() as u32), 0);
        }
    }

    /// Rules that are made for the packet, each with a clause that may be changed: most of them match.
    #[test]
    fn a_rule_made_for_a_packet_matches_it(fields in fields(), clauses in any::<[bool; 8]>(), bits in 0u8..=128, spoil in 0usize..12) {
        let [family, protocol, from, to, from_port, to_port, flags, icmp] = clauses;
        let prefix = |ip: IpAddr| {
            let bits = if ip.is_ipv4() { bits % 33 } else { bits };
            Some(match ip {
                IpAddr::V4(ip) => Cidr { ip: Ipv4Addr::from_bits(ip.to_bits() & crate::check::mask4(bits)).into(), prefix: bits },
                IpAddr::V6(ip) => Cidr { ip: Ipv6Addr::from_bits(ip.to_bits() & crate::check::mask6(bits)).into(), prefix: bits },
            })
        };
        let ports = |port: u16, wanted: bool| match wanted && matches!(fields.protocol, 6 | 17) {
            true => vec![PortRange { first: 1, last: 2 }, PortRange { first: port.saturating_sub(1), last: port }],
            false => vec![],
        };
        let rule = Rule {
            family: family.then_some(if fields.source.is_ipv4() { Family::Inet } else { Family::Inet6 }),
            protocol: (protocol || flags || icmp).then_some(fields.protocol),
            from: End { prefix: prefix(fields.source).filter(|_| from), ports: ports(fields.from, from_port) },
            to: End { prefix: prefix(fields.destination).filter(|_| to), ports: ports(fields.to, to_port) },
            flags: (flags && fields.protocol == 6).then_some(TcpFlags { set: fields.flags & 0x17, mask: 0x17 }),
            icmp: (icmp && matches!(fields.protocol, 1 | 58)).then_some(IcmpMatch { kind: fields.kind, code: Some(fields.code) }),
            ..Rule::default()
        };
        let mut changed = fields.clone();
        match spoil {
            0 => changed.from = changed.from.wrapping_add(1),
            1 => changed.to = changed.to.wrapping_sub(1),
            2 => changed.flags ^= 1,
            3 => changed.code ^= 1,
            4 => changed.kind ^= 1,
            _ => {}
        }
        let packet = changed.bytes();
        let program = compile(&rule).unwrap();
        prop_assert_eq!(program.run(&packet, packet.len() as u32) != 0, matches(&rule, &changed));
        if spoil > 4 {
            prop_assert!(matches(&rule, &changed));
        }
    }

    #[test]
    fn a_view_has_the_fields_and_no_cut_of_it_is_accepted(fields in fields(), cut in any::<proptest::sample::Index>(), tail in 0usize..4) {
        let mut packet = fields.bytes();
        let length = packet.len();
        packet.extend(vec![0; tail]);
        let view = Packet::parse(&packet).unwrap();
        prop_assert_eq!(view.bytes.len(), length);
        prop_assert_eq!((view.source, view.destination, view.protocol), (fields.source, fields.destination, fields.protocol));
        match view.transport {
            Transport::Tcp(tcp) => prop_assert_eq!(
                (tcp.source, tcp.destination, tcp.flags, tcp.sequence, tcp.acknowledgement),
                (fields.from, fields.to, fields.flags, fields.sequence, fields.acknowledgement)
            ),
            Transport::Udp(from, to) => prop_assert_eq!((from, to), (fields.from, fields.to)),
            Transport::Icmp(icmp) => prop_assert_eq!((icmp.kind, icmp.code), (fields.kind, fields.code)),
            Transport::Other => prop_assert!(!matches!(fields.protocol, 1 | 6 | 17 | 58)),
        }
        prop_assert_eq!(Packet::parse(&packet[..cut.index(length)]), None);
    }

    #[test]
    fn no_bytes_cause_a_panic(mut packet in vec(any::<u8>(), 0..120), version in select(vec![0x45u8, 0x46, 0x60]), protocol in select(vec![1u8, 6, 17, 58])) {
        let _ = Packet::parse(&packet);
        let length = packet.len() as u8;
        for (at, value) in [(0, version), (2, 0), (3, length), (4, 0), (5, length.saturating_sub(40)), (6, if version == 0x60 { protocol } else { 0 }), (7, 0)] {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        if version != 0x60 && packet.len() > 9 {
            packet[9] = protocol;
        }
        let _ = Packet::parse(&packet).and_then(|view| view.flow());
    }

    #[test]
    fn rules_survive_their_encoding(rule in rule()) {
        let bytes = minicbor::to_vec(&rule).unwrap();
        prop_assert_eq!(minicbor::decode::<Rule>(&bytes).unwrap(), rule);
    }
}

#[test]
fn the_largest_rule_compiles() {
    let ports = "1,3,5,7,9,11-12,13-14,15-16";
    let rule = parse(&format!(
        "pass inet6 proto tcp from fec0::1:2:3:4:0/113 port {ports} to fec0::1:2:3:4:0/113 port {ports} flags S/SA"
    ))
    .unwrap();
    let program = compile(&rule).unwrap();
    assert!(program.length() < 100, "{}", program.length());
    let mut fields = Fields::new(6, "fec0::1:2:3:4:5", 16, "fec0::1:2:3:4:7fff", 1);
    fields.flags = 0x02;
    assert_ne!(program.run(&fields.bytes(), 0), 0);
    fields.to = 2;
    assert_eq!(program.run(&fields.bytes(), 0), 0);
}

fn icmp_of(packet: &[u8]) -> Icmp {
    match Packet::parse(packet).unwrap().transport {
        Transport::Icmp(icmp) => icmp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_and_replies_belong_to_one_flow() {
    for (protocol, a, b, request, reply) in [
        (1, "10.0.0.1", "10.0.0.2", 8, 0),
        (1, "10.0.0.1", "10.0.0.2", 13, 14),
        (58, "fec0::1", "fec0::2", 128, 129),
    ] {
        let mut there = Fields::new(protocol, a, 77, b, 0);
        there.kind = request;
        let mut back = Fields::new(protocol, b, 77, a, 0);
        back.kind = reply;
        let flow = Packet::parse(&there.bytes()).unwrap().flow().unwrap();
        assert_eq!(
            Packet::parse(&back.bytes()).unwrap().flow(),
            Some(flow.reversed())
        );
        // An echo in the other direction with that identifier is another flow.
        back.kind = request;
        let other = Packet::parse(&back.bytes()).unwrap().flow().unwrap();
        assert!(other != flow && other != flow.reversed());
    }
}

#[test]
fn errors_quote_a_flow() {
    let quote = Fields::new(17, "10.0.0.1", 1000, "10.0.0.9", 53).bytes();
    let mut error = Fields::new(1, "10.0.0.200", 0, "10.0.0.1", 0);
    (error.kind, error.code) = (3, 3);
    error.payload = quote[..28].to_vec();
    let flow = Flow {
        protocol: 17,
        source: ("10.0.0.1".parse().unwrap(), 1000),
        destination: ("10.0.0.9".parse().unwrap(), 53),
    };
    assert_eq!(icmp_of(&error.bytes()).purpose, Purpose::Error(Some(flow)));
    assert_eq!(Packet::parse(&error.bytes()).unwrap().flow(), None);
    // Quoted bytes that end before the ports, and errors to another host than the quoted packet's source.
    error.payload.truncate(23);
    assert_eq!(icmp_of(&error.bytes()).purpose, Purpose::Error(None));
    error.payload = quote.clone();
    error.destination = "10.0.0.2".parse().unwrap();
    assert_eq!(icmp_of(&error.bytes()).purpose, Purpose::Error(None));
    error.destination = "10.0.0.1".parse().unwrap();
    error.payload[7] = 1;
    assert_eq!(
        icmp_of(&error.bytes()).purpose,
        Purpose::Error(None),
        "a later fragment has no ports"
    );
    error.kind = 5;
    assert_eq!(icmp_of(&error.bytes()).purpose, Purpose::Single);
}

#[test]
fn errors_quote_a_flow_behind_extension_headers() {
    let udp = Fields::new(17, "fec0::1", 1000, "fec0::9", 53).bytes();
    let mut error = Fields::new(58, "fec0::200", 0, "fec0::1", 0);
    error.kind = 2;
    let quote = |extensions: &[[u8; 8]]| {
        let mut quote = udp[..40].to_vec();
        quote[6] = if extensions.is_empty() { 17 } else { 44 };
        for extension in extensions {
            quote.extend(extension);
        }
        quote.extend(&udp[40..]);
        quote
    };
    let first = [17, 0, 0, 1, 0, 0, 0, 1];
    for (extensions, found) in [
        (&[][..], true),
        (&[first][..], true),
        (&[[60, 0, 0, 1, 0, 0, 0, 1], [17, 0, 0, 0, 0, 0, 0, 0]], true),
        (&[[60, 0, 0, 1, 0, 0, 0, 1], [17, 9, 0, 0, 0, 0, 0, 0]], false),
        (&[[17, 0, 0, 8, 0, 0, 0, 1]], false),
        (&[[44, 0, 0, 1, 0, 0, 0, 1]; 8], false),
    ] {
        error.payload = quote(extensions);
        let Purpose::Error(flow) = icmp_of(&error.bytes()).purpose else {
            panic!("no error")
        };
        assert_eq!(flow.is_some(), found, "{extensions:?}");
        assert!(flow.is_none_or(|flow| flow.source.1 == 1000 && flow.destination.1 == 53));
    }
}

#[test]
fn wrong_lengths_and_later_fragments_are_refused() {
    let packet = Fields::new(17, "10.0.0.1", 1000, "10.0.0.9", 53).bytes();
    let with = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        Packet::parse(&packet).is_some()
    };
    assert!(with(0, 0x45));
    assert!(!with(0, 0x44), "header below 20 bytes");
    assert!(!with(0, 0x4f), "header behind the end");
    assert!(!with(0, 0x55), "no such version");
    assert!(!with(3, 19), "total length below the header");
    assert!(!with(3, 27), "total length cuts the UDP header");
    assert!(!with(3, 29), "total length behind the end");
    assert!(!with(7, 1), "a later fragment");
    assert!(with(6, 0x20), "the first fragment");
    assert!(with(6, 0x40), "don't fragment");
}
