//! Errors that the brane sends about packets that it cannot use, and how many of them.
//!
//! Packets come from any host, checked by [`crate::headers`]. An error goes to one host only, never to a group, never about
//! something that was sent to a group (RFC 1122 3.2.2, RFC 4443 2.4(e)), and only so often (RFC 4443 2.4(f)).

use crate::headers;
use crate::headers::wire::{ETHERNET, ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, ethertype, number};
use crate::ip::checksum;
use crate::ip::extensions::Problem;
use crate::netif::NetIf;
use smoltcp::phy::PacketMeta;
use smoltcp::wire::IpAddress;

/// Errors sent at once, and in a second, at most: RFC 4443 2.4(f)'s example for a small node.
const BURST: u32 = 10;
/// Time for one more, in nanoseconds.
const INTERVAL: u64 = 1_000_000_000 / BURST as u64;

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Limit {
    tokens: u32,
    since: u64,
}

impl Limit {
    /// Full.
    pub fn new(now: u64) -> Limit {
        Limit {
            tokens: BURST,
            since: now,
        }
    }

    /// Whether one more may be sent.
    pub fn take(&mut self, now: u64) -> bool {
        let new = now.saturating_sub(self.since) / INTERVAL;
        self.tokens = u64::from(self.tokens).saturating_add(new).min(BURST.into()) as u32;
        self.since += new.saturating_mul(INTERVAL);
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// Longest error: what every host takes (RFC 1122 3.3.2, RFC 8200 5), in bytes of the IP packet.
const LONGEST4: usize = 576;
const LONGEST6: usize = 1280;

/// What an error says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The brane has no such protocol: destination unreachable, protocol unreachable (RFC 792, RFC 1122 3.2.2.1), or parameter
    /// problem, unrecognized next header (RFC 4443, 3.4).
    Protocol {
        /// Byte of the packet that names the protocol.
        pointer: usize,
    },
    /// Nobody has the port: destination unreachable, port unreachable (RFC 792, RFC 4443 3.1).
    Port,
    /// A rule of the brane's filter rejects the packet: communication administratively prohibited (RFC 1812, 5.2.7.1; RFC 4443, 3.1).
    Prohibited,
    /// An extension header asks for something that the brane does not do: parameter problem.
    Header(Problem),
}

impl Cause {
    /// Type, code and the second word of the ICMPv4 message. An extension header has no such message: IPv4 has none.
    fn icmp4(self) -> Option<(u8, u8, u32)> {
        match self {
            Cause::Protocol { .. } => Some((3, 2, 0)),
            Cause::Port => Some((3, 3, 0)),
            Cause::Prohibited => Some((3, 13, 0)),
            Cause::Header(_) => None,
        }
    }

    /// Type, code and the second word of the ICMPv6 message.
    fn icmp6(self) -> (u8, u8, u32) {
        match self {
            Cause::Protocol { pointer } => (4, 1, pointer as u32),
            Cause::Port => (1, 4, 0),
            Cause::Prohibited => (1, 1, 0),
            Cause::Header(Problem { code, pointer }) => (4, code, pointer as u32),
        }
    }
}

/// Returns the byte at which the IP packet begins in a frame of this interface.
fn start(netif: &NetIf) -> usize {
    if netif.is_loopback() { 0 } else { ETHERNET }
}

/// Returns true if a packet is an ICMP error (RFC 792; RFC 4443, 2.1) or a redirect.
fn is_error(packet: &[u8]) -> bool {
    let Some(first) = packet.first() else {
        return false;
    };
    match first >> 4 {
        4 => {
            let kind = packet.get(usize::from(first & 15) * 4);
            packet.get(9) == Some(&number::ICMP) && matches!(kind, Some(3 | 4 | 5 | 11 | 12))
        }
        _ => packet.get(6) == Some(&number::ICMPV6) && matches!(packet.get(IPV6_HEADER), Some(0..128 | 137)),
    }
}

/// Returns source and destination of a received frame if an error about it may be sent. There is no error about an error, because two
/// hosts would answer each other for ever (RFC 1122, 3.2.2; RFC 4443, 2.4(e)).
fn ends(netif: &NetIf, frame: &[u8]) -> Option<(IpAddress, IpAddress)> {
    if frame.get(start(netif)..).is_none_or(is_error) {
        return None;
    }
    let (src, dst) = headers::ends(frame, start(netif))?;
    let one = !src.is_unspecified() && !src.is_multicast() && !netif.is_broadcast(src);
    // All that is on lo0 is for the brane itself.
    if netif.is_loopback() {
        return (one && !dst.is_multicast() && !dst.is_broadcast()).then_some((src, dst));
    }
    // The station address of a group: the packet went to many, whatever its IP address says.
    let sent_to_one = frame.first()? & 1 == 0;
    (sent_to_one && one && netif.owns(dst)).then_some((src, dst))
}

/// Returns true if [`send`] may answer this frame.
pub fn may_answer(netif: &NetIf, frame: &[u8]) -> bool {
    ends(netif, frame).is_some()
}

/// Sends an error about a received frame to its sender. Returns false if that is not allowed or there is no room.
pub fn send(netif: &mut NetIf, frame: &[u8], cause: Cause) -> bool {
    let Some((src, dst)) = ends(netif, frame) else {
        return false;
    };
    let start = start(netif);
    let packet = &frame[start..];
    let (header, ethertype, longest, message) = match src {
        IpAddress::Ipv4(_) => (IPV4_HEADER, ethertype::IPV4, LONGEST4, cause.icmp4()),
        IpAddress::Ipv6(_) => (IPV6_HEADER, ethertype::IPV6, LONGEST6, Some(cause.icmp6())),
    };
    let Some((kind, code, word)) = message else {
        return false;
    };
    let field = if header == IPV4_HEADER { 2..4 } else { 4..6 };
    let Some(total) = packet
        .get(field)
        .map(|f| usize::from(u16::from_be_bytes([f[0], f[1]])))
    else {
        return false;
    };
    let total = if header == IPV4_HEADER {
        total
    } else {
        total + header
    };
    let quoted = &packet[..total.min(packet.len()).min(longest - header - 8)];
    let icmp_len = ICMP_HEADER + quoted.len();
    if !netif.tx.has_room() {
        return false;
    }
    let mac = netif.mac;
    let fill = |room: &mut [u8]| {
        // The ring holds what was sent before: no byte of that may leave again.
        room[..start + header + ICMP_HEADER].fill(0);
        if start != 0 {
            room[..6].copy_from_slice(&frame[6..12]);
            room[6..12].copy_from_slice(&mac);
            room[12..14].copy_from_slice(&ethertype.to_be_bytes());
        }
        let (ip, icmp) = room[start..].split_at_mut(header);
        (icmp[0], icmp[1]) = (kind, code);
        icmp[4..8].copy_from_slice(&word.to_be_bytes());
        icmp[ICMP_HEADER..].copy_from_slice(quoted);
        match (dst, src) {
            (IpAddress::Ipv4(own), IpAddress::Ipv4(other)) => {
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&((header + icmp_len) as u16).to_be_bytes());
                (ip[6], ip[8], ip[9]) = (0x40, 64, number::ICMP);
                ip[12..16].copy_from_slice(&own.octets());
                ip[16..20].copy_from_slice(&other.octets());
                let sum = !checksum::sum(ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                let sum = !checksum::sum(icmp);
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddress::Ipv6(own), IpAddress::Ipv6(other)) => {
                ip[0] = 0x60;
                ip[4..6].copy_from_slice(&(icmp_len as u16).to_be_bytes());
                (ip[6], ip[7]) = (number::ICMPV6, 64);
                ip[8..24].copy_from_slice(&own.octets());
                ip[24..40].copy_from_slice(&other.octets());
                let pseudo = checksum::pseudo_header(dst, src, number::ICMPV6, icmp_len).unwrap_or(0);
                let sum = !checksum::add(pseudo, checksum::sum(icmp));
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            // `ends` reads both from the same header.
            _ => {}
        }
    };
    let len = start + header + icmp_len;
    netif.tx.send(len, PacketMeta::default(), fill);
    true
}
