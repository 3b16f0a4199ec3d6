//! Shows a captured frame in one line, in the style of tcpdump.
//!
//! Owns no state. The bytes come from a network and through a brane, and neither is trusted: a header that is cut off or impossible ends
//! the line, and no byte of a payload is shown. All text is printable ASCII.

use alloc::format;
use alloc::string::String;
use brane_abi::capture::Link;
use brane_abi::net::MacAddr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use etherparse::{
    ArpPacketSlice, EtherType, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice, UdpSlice,
};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMP6: u8 = 58;
const NAMES: &[(u8, &str)] = &[
    (ICMP, "ICMP"),
    (IGMP, "IGMP"),
    (6, "TCP"),
    (17, "UDP"),
    (ICMP6, "ICMP6"),
];
/// Ports of UDP whose protocol the line names: DNS, DHCP and DHCPv6.
const PORTS: &[(u16, &str)] = &[
    (53, "DNS"),
    (67, "DHCP"),
    (68, "DHCP"),
    (5353, "mDNS"),
    (546, "DHCPv6"),
    (547, "DHCPv6"),
];

/// Returns the line of a frame, without its end. `bytes` is the first part of the frame, and `length` the whole frame's length.
pub fn line(link: Link, bytes: &[u8], length: u32) -> String {
    let length = usize::try_from(length).unwrap_or(usize::MAX).max(bytes.len());
    let parsed = match link {
        Link::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok(),
        Link::Raw => LaxSlicedPacket::from_ip(bytes).ok(),
    };
    let Some(packet) = parsed else {
        return format!("[truncated], length {length}");
    };
    let mut out = String::new();
    for tag in &packet.link_exts {
        if let etherparse::LaxLinkExtSlice::Vlan(vlan) = tag {
            out += &format!("vlan {}, ", vlan.vlan_identifier().value());
        }
    }
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => out += &self::arp(arp),
        Some(net) => out += &ip(net, &packet, length),
        None => out += &no_net(&packet, length),
    }
    out
}

/// Returns the line of a frame without a header of IP or ARP.
fn no_net(packet: &LaxSlicedPacket<'_>, length: usize) -> String {
    let kind: Option<EtherType> = packet.ether_payload().map(|payload| payload.ether_type);
    let name = match kind.map(|kind| kind.0) {
        Some(0x0800) => "IP".into(),
        Some(0x86dd) => "IP6".into(),
        Some(0x0806) => "ARP".into(),
        Some(kind @ 0x600..) => format!("ethertype {kind:#06x}"),
        // IEEE 802.3: the field is a length.
        Some(_) => "802.3".into(),
        None => "unknown".into(),
    };
    let cut = if packet.stop_err.is_some() {
        " [truncated or malformed]"
    } else {
        ""
    };
    let stations = match &packet.link {
        Some(LinkSlice::Ethernet2(header)) => {
            format!(
                " {} > {}",
                MacAddr(header.source()),
                MacAddr(header.destination())
            )
        }
        _ => String::new(),
    };
    format!("{name}{stations}{cut}, length {length}")
}

fn arp(arp: &ArpPacketSlice<'_>) -> String {
    let length = arp.slice().len();
    let protocol = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b));
    let station = |bytes: &[u8]| bytes.first_chunk::<6>().map(|b| MacAddr(*b));
    let parts = (
        protocol(arp.sender_protocol_addr()),
        protocol(arp.target_protocol_addr()),
        station(arp.sender_hw_addr()),
    );
    match (arp.operation().0, parts) {
        (1, (Some(sender), Some(target), _)) => {
            format!("ARP, Request who-has {target} tell {sender}, length {length}")
        }
        (2, (Some(sender), _, Some(mac))) => format!("ARP, Reply {sender} is-at {mac}, length {length}"),
        (operation, _) => format!("ARP, operation {operation}, length {length}"),
    }
}

/// An end of a packet, as tcpdump writes it: the port follows the address after a dot.
fn end(ip: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("{ip}.{port}"),
        None => format!("{ip}"),
    }
}

fn ip(net: &LaxNetSlice<'_>, packet: &LaxSlicedPacket<'_>, length: usize) -> String {
    let (name, source, destination, payload, whole, fragment): (_, IpAddr, IpAddr, _, usize, _) = match net {
        LaxNetSlice::Ipv4(v4) => {
            let header = v4.header();
            let head = header.slice().len();
            let whole = match usize::from(header.total_len()) {
                // A frame that the device cuts into segments can have no length in its header.
                0 => length.saturating_sub(14 + head),
                total => total.saturating_sub(head),
            };
            let offset = u32::from(header.fragments_offset().value()) * 8;
            let fragment = header.is_fragmenting_payload().then(|| {
                (
                    u32::from(header.identification()),
                    offset,
                    header.more_fragments(),
                )
            });
            (
                "IP",
                header.source_addr().into(),
                header.destination_addr().into(),
                v4.payload(),
                whole,
                fragment,
            )
        }
        LaxNetSlice::Ipv6(v6) => {
            let header = v6.header();
            let extensions = v6.extensions().slice().len();
            let whole = usize::from(header.payload_length()).saturating_sub(extensions);
            let fragment = v6.is_payload_fragmented().then_some((0, 0, true));
            (
                "IP6",
                header.source_addr().into(),
                header.destination_addr().into(),
                v6.payload(),
                whole,
                fragment,
            )
        }
        LaxNetSlice::Arp(_) => return String::new(),
    };
    let between = |from: Option<u16>, to: Option<u16>| {
        format!("{name} {} > {}", end(source, from), end(destination, to))
    };
    let number = payload.ip_number.0;
    let protocol = NAMES
        .iter()
        .find(|(n, _)| *n == number)
        .map_or_else(|| format!("ip-proto-{number}"), |(_, name)| (*name).into());
    let at = between(None, None);
    if let Some((id, offset, more)) = fragment {
        let plus = if more { "+" } else { "" };
        return match name {
            "IP" => format!("{at}: {protocol} fragment (id {id}, offset {offset}{plus}), length {whole}"),
            _ => format!("{at}: {protocol} fragment, length {whole}"),
        };
    }
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            let ports = (udp.source_port(), udp.destination_port());
            format!("{}: {}", between(Some(ports.0), Some(ports.1)), self::udp(udp))
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let ports = (tcp.source_port(), tcp.destination_port());
            format!(
                "{}: {}",
                between(Some(ports.0), Some(ports.1)),
                self::tcp(tcp, whole)
            )
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let kind = icmp4(icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8());
            format!("{at}: ICMP {kind}, length {whole}")
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let kind = icmp6(icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8(), icmp.payload());
            format!("{at}: ICMP6, {kind}, length {whole}")
        }
        None if packet.stop_err.is_some() || payload.incomplete => {
            format!("{at}: {protocol} [truncated or malformed], length {whole}")
        }
        None => format!("{at}: {protocol}, length {whole}"),
    }
}

fn udp(udp: &UdpSlice<'_>) -> String {
    let ports = [udp.source_port(), udp.destination_port()];
    let name = PORTS.iter().find(|(port, _)| ports.contains(port));
    let inner = name.map_or(String::new(), |(_, name)| format!(" ({name})"));
    format!("UDP{inner}, length {}", udp.length().saturating_sub(8))
}

fn tcp(tcp: &TcpSlice<'_>, whole: usize) -> String {
    let mut flags = String::new();
    // The letters of tcpdump, in its order.
    for (set, letter) in [
        (tcp.fin(), 'F'),
        (tcp.syn(), 'S'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), '.'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
    ] {
        if set {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags += "none";
    }
    let length = whole.saturating_sub(usize::from(tcp.data_offset()) * 4);
    let sequence = tcp.sequence_number();
    let mut out = format!("Flags [{flags}]");
    if length > 0 {
        let next = sequence.wrapping_add(length as u32);
        out += &format!(", seq {sequence}:{next}");
    } else if tcp.syn() || tcp.fin() || tcp.rst() {
        out += &format!(", seq {sequence}");
    }
    if tcp.ack() {
        out += &format!(", ack {}", tcp.acknowledgment_number());
    }
    out + &format!(", win {}, length {length}", tcp.window_size())
}

/// Returns identifier and sequence number of an echo message.
fn echo(what: &str, [a, b, c, d]: [u8; 4]) -> String {
    let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    format!("{what}, id {id}, seq {sequence}")
}

/// Words of a message of ICMP (RFC 792).
fn icmp4(kind: u8, code: u8, rest: [u8; 4]) -> String {
    match (kind, code) {
        (0, _) => echo("echo reply", rest),
        (8, _) => echo("echo request", rest),
        (3, 0) => "net unreachable".into(),
        (3, 1) => "host unreachable".into(),
        (3, 2) => "protocol unreachable".into(),
        (3, 3) => "port unreachable".into(),
        // RFC 1191, 4: the MTU stands in the last two bytes.
        (3, 4) => format!(
            "unreachable - need to frag (mtu {})",
            u16::from_be_bytes([rest[2], rest[3]])
        ),
        (3, 9 | 10 | 13) => "unreachable - admin prohibited".into(),
        (3, code) => format!("unreachable, code {code}"),
        (5, _) => format!("redirect to {}", Ipv4Addr::from(rest)),
        (11, 0) => "time exceeded in-transit".into(),
        (11, _) => "reassembly time exceeded".into(),
        (kind, code) => format!("type {kind}, code {code}"),
    }
}

/// Words of a message of ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
fn icmp6(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> String {
    let target = || {
        payload
            .first_chunk::<16>()
            .map_or_else(|| "?".into(), |bytes| format!("{}", Ipv6Addr::from(*bytes)))
    };
    match (kind, code) {
        (1, 0) => "destination unreachable, no route".into(),
        (1, 1) => "destination unreachable, admin prohibited".into(),
        (1, 3) => "destination unreachable, address unreachable".into(),
        (1, 4) => "destination unreachable, port unreachable".into(),
        (1, code) => format!("destination unreachable, code {code}"),
        (2, _) => format!("packet too big, mtu {}", u32::from_be_bytes(rest)),
        (3, 0) => "time exceeded in-transit".into(),
        (3, _) => "reassembly time exceeded".into(),
        (4, _) => format!("parameter problem, code {code}"),
        (128, _) => echo("echo request", rest),
        (129, _) => echo("echo reply", rest),
        (130, _) => "multicast listener query".into(),
        (131, _) => "multicast listener report".into(),
        (132, _) => "multicast listener done".into(),
        (133, _) => "router solicitation".into(),
        (134, _) => "router advertisement".into(),
        (135, _) => format!("neighbor solicitation, who has {}", target()),
        (136, _) => format!("neighbor advertisement, tgt is {}", target()),
        (137, _) => "redirect".into(),
        (143, _) => "multicast listener report v2".into(),
        (kind, code) => format!("type {kind}, code {code}"),
    }
}

#[cfg(test)]
mod tests;
