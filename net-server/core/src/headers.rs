//! A look at a received frame before the stack sees it: what is wrong with it, or whose it is.
//!
//! Frames come from any host on the network, by way of the trusted driver. What passes here has consistent lengths and right
//! checksums, so the stack below is told not to check them again. Addresses are those of one host, or of a group that it may be
//! sent to; what depends on the brane's own addresses is checked in [`crate::stack`]. Nothing is copied and nothing panics,
//! whatever the bytes.

use crate::ip::address::{is_host4, is_host6, stays_inside6};
use crate::ip::checksum;
use crate::ip::extensions::{self, Problem, Walked};
use brane_abi::control::Protocol;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::wire::IpAddress;

/// Ethernet header in bytes.
pub const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const IGMP: u8 = 2;
const NOTHING: u8 = 59;

/// TCP flag bits (RFC 9293, 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Shorter than the headers it begins.
    Truncated,
    /// A length field contradicts another one or the frame.
    Length,
    /// Wrong version, header length or option.
    Header,
    /// An address that such a packet may not have.
    Address,
    /// A fragment that cannot be part of any packet.
    Fragment,
    /// Wrong checksum.
    Checksum,
    /// Neither ARP, nor IPv4, nor IPv6.
    Ethertype,
    /// For another station.
    NotForUs,
}

/// Ports and addresses of a TCP segment or UDP datagram, and where its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Sender.
    pub src: IpAddress,
    /// Receiver.
    pub dst: IpAddress,
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// First byte of the transport header, from the frame's start.
    pub header: usize,
    /// First byte of the payload, from the frame's start.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
    /// TCP's flags; 0 for UDP.
    pub flags: u8,
}

/// Whose a packet without ports is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Address resolution, part of `inet`.
    Arp,
    /// Group membership, part of `inet`.
    Igmp,
    /// ICMP.
    Icmp,
    /// ICMPv6: either neighbour discovery or group membership, which are part of `inet6`, or the protocol's own.
    Icmp6 {
        /// The former.
        discovery: bool,
    },
    /// It ends there (RFC 8200, 4.7).
    Nothing,
    /// A protocol that is not known.
    Unknown {
        /// Which byte of the packet says so.
        pointer: usize,
    },
    /// An IPv6 extension header asks for something that the brane does not do.
    Refused(Problem),
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ARP, ICMP, or an IP packet without ports: for the stack itself. `neighbour` says that it may answer a question
    /// for a link-layer address.
    Other {
        /// ARP or ICMPv6.
        neighbour: bool,
        /// Whose it is.
        next: Next,
    },
    /// A fragment of an IPv4 packet.
    Fragment {
        /// The packet's protocol (IANA's number).
        protocol: u8,
        /// It is the first of the packet.
        first: bool,
    },
    /// An IPv6 packet with extension headers that ask for nothing. It is to be handed in again without them.
    Extended {
        /// What stands behind them.
        protocol: u8,
        /// Their length in bytes.
        len: usize,
    },
    /// A whole TCP segment.
    Tcp(Transport),
    /// A whole UDP datagram.
    Udp(Transport),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The protocol of this number, in `inet`; `None` for one that no brane can have.
pub fn protocol(number: u8) -> Option<Protocol> {
    match number {
        ICMP => Some(Protocol::Icmp),
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// Whether a frame, or without `link` layer header a packet, is of IPv6; any other counts as one of IPv4.
pub fn is_ipv6(frame: &[u8], link: bool) -> bool {
    if link {
        u16_at(frame, 12) == Some(IPV6)
    } else {
        frame.first().is_some_and(|byte| byte >> 4 == 6)
    }
}

/// Reads source and destination address of an IP packet that begins at byte `start` of `frame`.
pub fn ends(frame: &[u8], start: usize) -> Option<(IpAddress, IpAddress)> {
    let packet = frame.get(start..)?;
    if packet.first()? >> 4 == 4 {
        let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
        Some((address(12)?.into(), address(16)?.into()))
    } else {
        let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
        Some((address(8)?.into(), address(24)?.into()))
    }
}

/// Looks at an Ethernet frame for the station `mac`. `intact`: the transport checksum need not be verified.
pub fn ethernet(frame: &[u8], mac: [u8; 6], intact: bool) -> Result<Kind, Reason> {
    let (Some(dst), Some(src), Some(ethertype)) =
        (frame.first_chunk::<6>(), frame.get(6..12), u16_at(frame, 12))
    else {
        return Err(Reason::Truncated);
    };
    if *dst != mac && dst[0] & 1 == 0 {
        return Err(Reason::NotForUs);
    }
    if src[0] & 1 != 0 {
        return Err(Reason::Address);
    }
    match ethertype {
        IPV4 => ipv4(frame, ETHERNET, intact),
        IPV6 => ipv6(frame, ETHERNET, intact),
        // RFC 826 for IPv4 over Ethernet: 28 bytes.
        ARP if frame.len() < ETHERNET + 28 => Err(Reason::Truncated),
        ARP => Ok(Kind::Other {
            neighbour: true,
            next: Next::Arp,
        }),
        _ => Err(Reason::Ethertype),
    }
}

/// Looks at an IP packet without link-layer header.
pub fn ip(packet: &[u8], intact: bool) -> Result<Kind, Reason> {
    match packet.first().ok_or(Reason::Truncated)? >> 4 {
        4 => ipv4(packet, 0, intact),
        6 => ipv6(packet, 0, intact),
        _ => Err(Reason::Header),
    }
}

fn ipv4(frame: &[u8], start: usize, intact: bool) -> Result<Kind, Reason> {
    let packet = frame.get(start..).ok_or(Reason::Truncated)?;
    let header = packet.first_chunk::<20>().ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(Reason::Header);
    }
    let header_len = usize::from(header[0] & 15) * 4;
    if header_len < 20 {
        return Err(Reason::Header);
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total < header_len || total > packet.len() {
        return Err(Reason::Length);
    }
    let intact_header = match header_len {
        20 => checksum::is_ipv4(header),
        _ => checksum::sum(&packet[..header_len]) == 0xffff,
    };
    if !intact_header {
        return Err(Reason::Checksum);
    }
    if !options(&packet[20..header_len]) {
        return Err(Reason::Header);
    }
    let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let sound = match start {
        // On lo0 there are the brane's own packets only.
        0 => !(src.is_multicast() || src.is_broadcast() || dst.is_unspecified()),
        _ => from_wire4(src, dst, header[9], &packet[header_len..total]),
    };
    if !sound {
        return Err(Reason::Address);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 != 0);
    let payload_len = total - header_len;
    if offset != 0 || more {
        // All but the last carry whole units, and nothing may reach past the longest packet there is (RFC 791, 3.2).
        let sound = payload_len != 0
            && (!more || payload_len.is_multiple_of(8))
            && header_len + offset + payload_len <= usize::from(u16::MAX);
        return if sound {
            Ok(Kind::Fragment {
                protocol: header[9],
                first: offset == 0,
            })
        } else {
            Err(Reason::Fragment)
        };
    }
    let range = (start + header_len, payload_len);
    transport(frame, range, header[9], src.into(), dst.into(), intact)
}

/// Returns true if another host may send a packet between these addresses (RFC 1122, 3.2.1.3). `payload` is what `protocol` carries.
fn from_wire4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> bool {
    let one = is_host4(dst);
    let many = dst.is_multicast() || dst.is_broadcast();
    // A connection has two ends (RFC 9293, 3.9.2.3).
    if !one && (!many || protocol == TCP) {
        return false;
    }
    // Without an address of its own a host asks for one, and a querier asks for groups (RFC 2131, 4.1; RFC 4541, 2.1.1).
    let nameless = match protocol {
        UDP => payload.first_chunk() == Some(&[0, 68, 0, 67]),
        IGMP => true,
        _ => false,
    };
    is_host4(src) || src.is_unspecified() && nameless
}

/// Whether a list of IPv4 options is well-formed (RFC 791, 3.1) and asks for no source route (RFC 7126, 4.3 and 4.4).
fn options(mut list: &[u8]) -> bool {
    while let [kind, rest @ ..] = list {
        match kind {
            0 => return true,
            1 => list = rest,
            131 | 137 => return false,
            _ => match rest.first().map(|len| usize::from(*len)) {
                Some(len) if len >= 2 && len <= list.len() => list = &list[len..],
                _ => return false,
            },
        }
    }
    true
}

fn ipv6(frame: &[u8], start: usize, intact: bool) -> Result<Kind, Reason> {
    let packet = frame.get(start..).ok_or(Reason::Truncated)?;
    let header = packet.first_chunk::<40>().ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Reason::Header);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len > packet.len() - 40 {
        return Err(Reason::Length);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let (src, dst) = (address(8), address(24));
    let protocol = header[6];
    let sound = match start {
        0 => !(src.is_multicast() || dst.is_unspecified()),
        _ => from_wire6(src, dst, protocol),
    };
    if !sound {
        return Err(Reason::Address);
    }
    if extensions::is_extension(protocol) {
        return extended(&packet[..40 + payload_len]);
    }
    let range = (start + 40, payload_len);
    transport(frame, range, protocol, src.into(), dst.into(), intact)
}

/// Returns true if another host may send a packet between these addresses (RFC 4291, 2.5 and 2.7).
fn from_wire6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8) -> bool {
    let to_one = is_host6(dst);
    let to_many = dst.is_multicast() && !stays_inside6(dst) && protocol != TCP;
    // Without an address of its own a host asks whether one is taken, for routers, and reports groups, all by ICMPv6, which may
    // stand behind extension headers.
    let nameless = src.is_unspecified() && (protocol == ICMPV6 || extensions::is_extension(protocol));
    (to_one || to_many) && (is_host6(src) || nameless)
}

/// Classifies an IPv6 packet by what stands behind its extension headers.
fn extended(packet: &[u8]) -> Result<Kind, Reason> {
    match extensions::walk(packet) {
        Walked::Upper {
            protocol: protocol @ (TCP | UDP | ICMPV6),
            len,
            ..
        } => Ok(Kind::Extended { protocol, len }),
        Walked::Upper {
            protocol: NOTHING, ..
        } => Ok(other(Next::Nothing)),
        Walked::Upper { pointer, .. } => Ok(other(Next::Unknown { pointer })),
        Walked::Refused(problem) => Ok(other(Next::Refused(problem))),
        Walked::Dropped => Err(Reason::Header),
    }
}

fn transport(
    frame: &[u8],
    (start, len): (usize, usize),
    protocol: u8,
    src: IpAddress,
    dst: IpAddress,
    intact: bool,
) -> Result<Kind, Reason> {
    let bytes = &frame[start..start + len];
    let verify = |len: usize| {
        intact
            || checksum::pseudo_header(src, dst, protocol, len)
                .is_some_and(|pseudo| checksum::add(pseudo, checksum::sum(&bytes[..len])) == 0xffff)
    };
    match protocol {
        TCP => {
            let header = bytes.first_chunk::<20>().ok_or(Reason::Truncated)?;
            let header_len = usize::from(header[12] >> 4) * 4;
            if header_len < 20 || header_len > len {
                return Err(Reason::Length);
            }
            if !verify(len) {
                return Err(Reason::Checksum);
            }
            Ok(Kind::Tcp(Transport {
                src,
                dst,
                src_port: u16::from_be_bytes([header[0], header[1]]),
                dst_port: u16::from_be_bytes([header[2], header[3]]),
                header: start,
                payload: start + header_len,
                len: len - header_len,
                flags: header[13],
            }))
        }
        UDP => {
            let header = bytes.first_chunk::<8>().ok_or(Reason::Truncated)?;
            let udp_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if udp_len < 8 || udp_len > len {
                return Err(Reason::Length);
            }
            // No checksum is allowed in IPv4 only (RFC 768; RFC 8200, 8.1).
            let unprotected = header[6..8] == [0, 0];
            if unprotected && is_v6(dst) && !intact || !unprotected && !verify(udp_len) {
                return Err(Reason::Checksum);
            }
            Ok(Kind::Udp(Transport {
                src,
                dst,
                src_port: u16::from_be_bytes([header[0], header[1]]),
                dst_port: u16::from_be_bytes([header[2], header[3]]),
                header: start,
                payload: start + 8,
                len: udp_len - 8,
                flags: 0,
            }))
        }
        ICMP if !is_v6(dst) => {
            if len < 8 {
                return Err(Reason::Truncated);
            }
            if checksum::sum(bytes) != 0xffff {
                return Err(Reason::Checksum);
            }
            Ok(other(Next::Icmp))
        }
        ICMPV6 if is_v6(dst) => {
            if len < 4 {
                return Err(Reason::Truncated);
            }
            let sound = checksum::pseudo_header(src, dst, protocol, len)
                .is_some_and(|pseudo| checksum::add(pseudo, checksum::sum(bytes)) == 0xffff);
            if !sound {
                return Err(Reason::Checksum);
            }
            Ok(Kind::Other {
                neighbour: true,
                next: Next::Icmp6 {
                    discovery: matches!(bytes[0], 130..=137 | 143),
                },
            })
        }
        IGMP if !is_v6(dst) => {
            if len < 8 {
                return Err(Reason::Truncated);
            }
            if checksum::sum(bytes) != 0xffff {
                return Err(Reason::Checksum);
            }
            Ok(other(Next::Igmp))
        }
        NOTHING if is_v6(dst) => Ok(other(Next::Nothing)),
        _ => Ok(other(Next::Unknown {
            pointer: if is_v6(dst) { 6 } else { 9 },
        })),
    }
}

fn other(next: Next) -> Kind {
    Kind::Other {
        neighbour: false,
        next,
    }
}

/// Where the transport header of a frame that we send lies: IP protocol, offset of the transport header, addresses.
/// `None` for anything but a whole TCP or UDP packet.
pub fn outgoing(frame: &[u8]) -> Option<(u8, usize, IpAddress, IpAddress)> {
    match u16_at(frame, 12)? {
        IPV4 => {
            let header = frame.get(ETHERNET..)?.first_chunk::<20>()?;
            if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
                return None;
            }
            let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
            let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
            let start = ETHERNET + usize::from(header[0] & 15) * 4;
            matches!(header[9], TCP | UDP).then_some((header[9], start, src.into(), dst.into()))
        }
        IPV6 => {
            let header = frame.get(ETHERNET..)?.first_chunk::<40>()?;
            let address = |at: usize| header[at..].first_chunk::<16>().map(|a| Ipv6Addr::from(*a));
            matches!(header[6], TCP | UDP).then_some((
                header[6],
                ETHERNET + 40,
                address(8)?.into(),
                address(24)?.into(),
            ))
        }
        _ => None,
    }
}

/// Offset of the checksum in a transport header.
pub const fn checksum_offset(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

fn is_v6(address: IpAddress) -> bool {
    matches!(address, IpAddress::Ipv6(_))
}
