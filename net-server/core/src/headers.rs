//! The parser of received frames: link layer and IP layer. What is above IP is checked by its protocol.
//!
//! Frames come from any host on the network, by way of the trusted driver. What passes here has consistent lengths and a right IP
//! header checksum. Addresses are those of one host, or of a group that it may be sent to. What depends on the brane's own
//! addresses is checked in [`crate::net`]. Nothing is copied and nothing panics, whatever the bytes.

pub mod wire;

use crate::ip::address::{is_host4, is_host6, stays_inside6};
use crate::ip::checksum;
use crate::ip::extensions::{self, Problem, Walked};
use brane_abi::control::Family;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::wire::IpAddress;
use wire::{ARP_MESSAGE, ETHERNET, IPV4_HEADER, IPV6_HEADER, ethertype, number};

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

/// A whole IP packet in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// Index of the interface that the frame came in by. The parser does not know it and writes 0.
    pub netif: usize,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Protocol of the payload, by its number ([`wire::number`]).
    pub number: u8,
    /// Sender.
    pub src: IpAddress,
    /// Receiver.
    pub dst: IpAddress,
    /// First byte of the IP header, from the frame's start.
    pub start: usize,
    /// First byte of the payload, from the frame's start.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
    /// True if the checksum of TCP or UDP need not be verified.
    pub intact: bool,
}

impl<'a> Packet<'a> {
    /// Returns the payload: the header of the upper layer and what follows.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.frame
            .get(self.payload..self.payload + self.len)
            .unwrap_or_default()
    }

    /// Returns true if another host sent it: it did not come from `lo0`.
    pub fn is_from_link(&self) -> bool {
        self.start != 0
    }

    /// Returns true if the checksum over the pseudo header and the first `len` bytes of payload is right.
    pub fn has_checksum(&self, len: usize) -> bool {
        let Some(bytes) = self.bytes().get(..len) else {
            return false;
        };
        checksum::pseudo_header(self.src, self.dst, self.number, len)
            .is_some_and(|pseudo| checksum::add(pseudo, checksum::sum(bytes)) == 0xffff)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An ARP message of the right length.
    Arp,
    /// A whole IP packet without extension headers.
    Packet(Packet<'a>),
    /// A fragment of an IPv4 packet.
    Fragment {
        /// The fragment as if it were a packet.
        packet: Packet<'a>,
        /// True for the packet's first fragment.
        first: bool,
    },
    /// An IPv6 packet with extension headers that ask for nothing. It is to be parsed again without them.
    Extended {
        /// The packet. Its number is that of the header behind the extension headers.
        packet: Packet<'a>,
        /// Length of the extension headers in bytes.
        len: usize,
        /// Byte of the packet that names the number.
        pointer: usize,
    },
    /// An IPv6 packet with an extension header that asks for something that the brane does not do.
    Refused {
        /// The packet.
        packet: Packet<'a>,
        /// What the error about it says.
        problem: Problem,
    },
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Returns true if a frame is of IPv6. Any other counts as one of IPv4. Without `link`, the frame begins with the IP header.
pub fn is_ipv6(frame: &[u8], link: bool) -> bool {
    if link {
        u16_at(frame, 12) == Some(ethertype::IPV6)
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

/// Parses an Ethernet frame for the station `mac`. `intact`: the transport checksum need not be verified.
pub fn ethernet(frame: &[u8], mac: [u8; 6], intact: bool) -> Result<Kind<'_>, Reason> {
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
        ethertype::IPV4 => ipv4(frame, ETHERNET, intact),
        ethertype::IPV6 => ipv6(frame, ETHERNET, intact),
        ethertype::ARP if frame.len() < ETHERNET + ARP_MESSAGE => Err(Reason::Truncated),
        ethertype::ARP => Ok(Kind::Arp),
        _ => Err(Reason::Ethertype),
    }
}

/// Parses an IP packet without link-layer header.
pub fn ip(packet: &[u8], intact: bool) -> Result<Kind<'_>, Reason> {
    match packet.first().ok_or(Reason::Truncated)? >> 4 {
        4 => ipv4(packet, 0, intact),
        6 => ipv6(packet, 0, intact),
        _ => Err(Reason::Header),
    }
}

fn ipv4(frame: &[u8], start: usize, intact: bool) -> Result<Kind<'_>, Reason> {
    let packet = frame.get(start..).ok_or(Reason::Truncated)?;
    let header = packet.first_chunk::<IPV4_HEADER>().ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(Reason::Header);
    }
    let header_len = usize::from(header[0] & 15) * 4;
    if header_len < IPV4_HEADER {
        return Err(Reason::Header);
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total < header_len || total > packet.len() {
        return Err(Reason::Length);
    }
    let intact_header = match header_len {
        IPV4_HEADER => checksum::is_ipv4(header),
        _ => checksum::sum(&packet[..header_len]) == 0xffff,
    };
    if !intact_header {
        return Err(Reason::Checksum);
    }
    if !options(&packet[IPV4_HEADER..header_len]) {
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
    let parsed = Packet {
        frame,
        netif: 0,
        family: Family::Inet,
        number: header[9],
        src: src.into(),
        dst: dst.into(),
        start,
        payload: start + header_len,
        len: total - header_len,
        intact,
    };
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 != 0);
    if offset == 0 && !more {
        return Ok(Kind::Packet(parsed));
    }
    // All but the last carry whole units, and nothing may reach past the longest packet there is (RFC 791, 3.2).
    let sound = parsed.len != 0
        && (!more || parsed.len.is_multiple_of(8))
        && header_len + offset + parsed.len <= usize::from(u16::MAX);
    if !sound {
        return Err(Reason::Fragment);
    }
    Ok(Kind::Fragment {
        packet: parsed,
        first: offset == 0,
    })
}

/// Returns true if another host may send a packet between these addresses (RFC 1122, 3.2.1.3). `payload` is what `protocol` carries.
fn from_wire4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> bool {
    let one = is_host4(dst);
    let many = dst.is_multicast() || dst.is_broadcast();
    // A connection has two ends (RFC 9293, 3.9.2.3).
    if !one && (!many || protocol == number::TCP) {
        return false;
    }
    // Without an address of its own a host asks for one, and a querier asks for groups (RFC 2131, 4.1; RFC 4541, 2.1.1).
    let nameless = match protocol {
        number::UDP => payload.first_chunk() == Some(&[0, 68, 0, 67]),
        number::IGMP => true,
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

fn ipv6(frame: &[u8], start: usize, intact: bool) -> Result<Kind<'_>, Reason> {
    let packet = frame.get(start..).ok_or(Reason::Truncated)?;
    let header = packet.first_chunk::<IPV6_HEADER>().ok_or(Reason::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Reason::Header);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if payload_len > packet.len() - IPV6_HEADER {
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
    let parsed = Packet {
        frame,
        netif: 0,
        family: Family::Inet6,
        number: protocol,
        src: src.into(),
        dst: dst.into(),
        start,
        payload: start + IPV6_HEADER,
        len: payload_len,
        intact,
    };
    if extensions::is_extension(protocol) {
        return extended(parsed, &packet[..IPV6_HEADER + payload_len]);
    }
    Ok(Kind::Packet(parsed))
}

/// Returns true if another host may send a packet between these addresses (RFC 4291, 2.5 and 2.7).
fn from_wire6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8) -> bool {
    let to_one = is_host6(dst);
    let to_many = dst.is_multicast() && !stays_inside6(dst) && protocol != number::TCP;
    // Without an address of its own a host asks whether one is taken, for routers, and reports groups, all by ICMPv6, which may
    // stand behind extension headers.
    let nameless = src.is_unspecified() && (protocol == number::ICMPV6 || extensions::is_extension(protocol));
    (to_one || to_many) && (is_host6(src) || nameless)
}

/// Classifies an IPv6 packet by what stands behind its extension headers. `bytes` begin with its fixed header.
fn extended<'a>(packet: Packet<'a>, bytes: &[u8]) -> Result<Kind<'a>, Reason> {
    match extensions::walk(bytes) {
        Walked::Upper {
            protocol,
            len,
            pointer,
        } => Ok(Kind::Extended {
            packet: Packet {
                number: protocol,
                ..packet
            },
            len,
            pointer,
        }),
        Walked::Refused(problem) => Ok(Kind::Refused { packet, problem }),
        Walked::Dropped => Err(Reason::Header),
    }
}

/// Returns where the transport header of a frame to send stands: protocol number, offset of the header, addresses. Returns `None` for
/// anything but a whole TCP or UDP packet.
pub fn outgoing(frame: &[u8]) -> Option<(u8, usize, IpAddress, IpAddress)> {
    let packet = frame.get(ETHERNET..)?;
    let (number, len) = match u16_at(frame, 12)? {
        ethertype::IPV4 => {
            let header = packet.first_chunk::<IPV4_HEADER>()?;
            if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
                return None;
            }
            (header[9], usize::from(header[0] & 15) * 4)
        }
        ethertype::IPV6 => (packet.first_chunk::<IPV6_HEADER>()?[6], IPV6_HEADER),
        _ => return None,
    };
    let (src, dst) = ends(frame, ETHERNET)?;
    matches!(number, number::TCP | number::UDP).then_some((number, ETHERNET + len, src, dst))
}

/// Returns the offset of the checksum in a transport header.
pub const fn checksum_offset(number: u8) -> usize {
    if number == number::TCP { 16 } else { 6 }
}
