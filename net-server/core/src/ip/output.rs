//! Writes whole IP packets of the brane that no socket of smoltcp sends: group membership, and datagrams to groups.
//!
//! The caller has chosen interface, source and destination. What is written passes the head for sent packets like any other frame.

use crate::headers::wire::{ETHERNET, IPV4_HEADER, IPV6_HEADER, ethertype};
use crate::ip::checksum;
use crate::netif::NetIf;
use smoltcp::phy::PacketMeta;
use smoltcp::wire::IpAddress;

/// Router alert of IPv4 (RFC 2113).
const ALERT4: [u8; 4] = [0x94, 4, 0, 0];
/// Hop-by-hop options of IPv6 with router alert for MLD (RFC 2711) and padding. The first byte is the next header.
const ALERT6: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];

/// Header of a packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The brane's address.
    pub src: IpAddress,
    /// The destination, of the same family.
    pub dst: IpAddress,
    /// Protocol number.
    pub number: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Asks routers to look at the packet (RFC 2113, RFC 2711).
    pub alert: bool,
}

/// Returns the station address of a group (RFC 1112, 6.4; RFC 2464, 7).
pub fn group_station(group: IpAddress) -> [u8; 6] {
    match group {
        IpAddress::Ipv4(group) => {
            let [_, b, c, d] = group.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddress::Ipv6(group) => {
            let o = group.octets();
            [0x33, 0x33, o[12], o[13], o[14], o[15]]
        }
    }
}

/// Returns the length of the headers that [`send_to_group`] writes, without the Ethernet header.
fn header_len(head: &Head) -> usize {
    match head.dst {
        IpAddress::Ipv4(_) => IPV4_HEADER + if head.alert { ALERT4.len() } else { 0 },
        IpAddress::Ipv6(_) => IPV6_HEADER + if head.alert { ALERT6.len() } else { 0 },
    }
}

/// Sends a packet to a group, with `len` bytes of payload that `fill` writes in full. Returns false if the packet is longer than the
/// MTU. A packet that finds no room in the ring is dropped, and the interface counts it.
pub fn send_to_group(netif: &mut NetIf, head: &Head, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
    let ip_len = header_len(head);
    if ip_len + len > netif.tx.caps.ip_mtu() {
        return false;
    }
    let start = if netif.is_loopback() { 0 } else { ETHERNET };
    let mac = netif.mac;
    netif
        .tx
        .send(start + ip_len + len, PacketMeta::default(), |room| {
            room[..start + ip_len].fill(0);
            if start != 0 {
                room[..6].copy_from_slice(&group_station(head.dst));
                room[6..12].copy_from_slice(&mac);
                let kind = match head.dst {
                    IpAddress::Ipv4(_) => ethertype::IPV4,
                    IpAddress::Ipv6(_) => ethertype::IPV6,
                };
                room[12..14].copy_from_slice(&kind.to_be_bytes());
            }
            let (ip, payload) = room[start..].split_at_mut(ip_len);
            write_header(ip, head, len);
            fill(payload);
        });
    true
}

fn write_header(ip: &mut [u8], head: &Head, len: usize) {
    match (head.src, head.dst) {
        (IpAddress::Ipv4(src), IpAddress::Ipv4(dst)) => {
            ip[0] = 0x40 | (ip.len() / 4) as u8;
            let total = ip.len() + len;
            ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            // No identification, because it may not be fragmented (RFC 6864, 4.1).
            (ip[6], ip[8], ip[9]) = (0x40, head.ttl, head.number);
            ip[12..16].copy_from_slice(&src.octets());
            ip[16..20].copy_from_slice(&dst.octets());
            if head.alert {
                // Internetwork control (RFC 3376, 4).
                ip[1] = 0xc0;
                ip[IPV4_HEADER..].copy_from_slice(&ALERT4);
            }
            let sum = !checksum::sum(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            let extensions = ip.len() - IPV6_HEADER;
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&((extensions + len) as u16).to_be_bytes());
            (ip[6], ip[7]) = (head.number, head.ttl);
            ip[8..24].copy_from_slice(&src.octets());
            ip[24..40].copy_from_slice(&dst.octets());
            if head.alert {
                // The number 0 is that of the hop-by-hop options (RFC 8200, 4.3).
                ip[6] = 0;
                ip[IPV6_HEADER..].copy_from_slice(&ALERT6);
                ip[IPV6_HEADER] = head.number;
            }
        }
        // Callers take both addresses from one family.
        _ => {}
    }
}
