//! Errors that the brane sends about packets that it cannot use, and how many of them.
//!
//! Packets come from any host, checked by [`crate::frame`]. An error goes to one host only, never to a group, never about
//! something that was sent to a group (RFC 1122 3.2.2, RFC 4443 2.4(e)), and only so often (RFC 4443 2.4(f)).

use crate::checksum;
use crate::frame::ETHERNET;
use crate::netif::NetIf;
use core::net::{Ipv4Addr, Ipv6Addr};
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

/// Whether an error may be sent about this frame, and between which addresses.
fn ends(netif: &NetIf, frame: &[u8]) -> Option<(IpAddress, IpAddress)> {
    // The station address of a group: the packet went to many, whatever its IP address says.
    if netif.is_loopback() || frame.first()? & 1 != 0 {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let (src, dst) = if packet.first()? >> 4 == 4 {
        let word = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a));
        let (src, dst) = (word(12)?, word(16)?);
        if src.is_unspecified() || src.is_loopback() {
            return None;
        }
        (IpAddress::Ipv4(src), IpAddress::Ipv4(dst))
    } else {
        let word = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a));
        (IpAddress::Ipv6(word(8)?), IpAddress::Ipv6(word(24)?))
    };
    let one = !src.is_unspecified() && !src.is_multicast() && !netif.is_broadcast(src);
    (one && netif.owns(dst)).then_some((src, dst))
}

/// Whether [`unknown_protocol`] and smoltcp's errors may answer this frame.
pub fn may_answer(netif: &NetIf, frame: &[u8]) -> bool {
    ends(netif, frame).is_some()
}

/// Says that this brane has no such protocol: destination unreachable, protocol unreachable (RFC 792, RFC 1122 3.2.2.1), or
/// parameter problem, unrecognized next header, which stands at byte `pointer` of the packet (RFC 4443 3.4). `false` where
/// that is not allowed or there is no room.
pub fn unknown_protocol(netif: &mut NetIf, frame: &[u8], pointer: usize) -> bool {
    let Some((src, dst)) = ends(netif, frame) else {
        return false;
    };
    let (Some(to), packet) = (frame.get(6..12), &frame[ETHERNET..]) else {
        return false;
    };
    let (header, ethertype, longest) = match src {
        IpAddress::Ipv4(_) => (20, 0x0800u16, LONGEST4),
        IpAddress::Ipv6(_) => (40, 0x86dd, LONGEST6),
    };
    let field = if header == 20 { 2..4 } else { 4..6 };
    let Some(total) = packet
        .get(field)
        .map(|f| usize::from(u16::from_be_bytes([f[0], f[1]])))
    else {
        return false;
    };
    let total = if header == 20 { total } else { total + header };
    let quoted = &packet[..total.min(packet.len()).min(longest - header - 8)];
    let icmp_len = 8 + quoted.len();
    if !netif.tx.has_room() {
        return false;
    }
    let mac = netif.mac;
    netif
        .tx
        .send(ETHERNET + header + icmp_len, PacketMeta::default(), |room| {
            room.fill(0);
            room[..6].copy_from_slice(to);
            room[6..12].copy_from_slice(&mac);
            room[12..14].copy_from_slice(&ethertype.to_be_bytes());
            let (ip, icmp) = room[ETHERNET..].split_at_mut(header);
            icmp[8..].copy_from_slice(quoted);
            match (dst, src) {
                (IpAddress::Ipv4(own), IpAddress::Ipv4(other)) => {
                    ip[0] = 0x45;
                    ip[2..4].copy_from_slice(&((header + icmp_len) as u16).to_be_bytes());
                    (ip[6], ip[8], ip[9]) = (0x40, 64, 1);
                    ip[12..16].copy_from_slice(&own.octets());
                    ip[16..20].copy_from_slice(&other.octets());
                    let sum = !checksum::sum(ip);
                    ip[10..12].copy_from_slice(&sum.to_be_bytes());
                    (icmp[0], icmp[1]) = (3, 2);
                    let sum = !checksum::sum(icmp);
                    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                (IpAddress::Ipv6(own), IpAddress::Ipv6(other)) => {
                    ip[0] = 0x60;
                    ip[4..6].copy_from_slice(&(icmp_len as u16).to_be_bytes());
                    (ip[6], ip[7]) = (58, 64);
                    ip[8..24].copy_from_slice(&own.octets());
                    ip[24..40].copy_from_slice(&other.octets());
                    (icmp[0], icmp[1]) = (4, 1);
                    icmp[4..8].copy_from_slice(&(pointer as u32).to_be_bytes());
                    let pseudo = checksum::pseudo_header(dst, src, 58, icmp_len).unwrap_or(0);
                    let sum = !checksum::add(pseudo, checksum::sum(icmp));
                    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                // `ends` reads both from the same header.
                _ => {}
            }
        });
    true
}
