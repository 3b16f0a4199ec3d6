//! A checked view of an IP packet.

use crate::names::{ICMP, ICMP6, TCP, UDP};
use brane_abi::control::Family;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TCP flags (RFC 9293, 3.1).
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// IPv4 header without options, in bytes.
const HEADER4: usize = 20;
/// IPv6 header, in bytes.
pub(crate) const HEADER6: usize = 40;
/// Extension headers of a quoted IPv6 packet that are skipped, at most.
const EXTENSIONS: usize = 4;

/// An IP packet: IPv4, or IPv6 without extension headers. It is whole, or the first fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The packet from its IP header on, without what follows its end.
    pub bytes: &'a [u8],
    /// Family.
    pub family: Family,
    /// Protocol (IANA's number).
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Fields of the protocol.
    pub transport: Transport,
}

/// Fields of the protocols that the filter knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP: source port and destination port.
    Udp(u16, u16),
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// Any other protocol.
    Other,
}

/// Fields of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags; FIN is bit 0.
    pub flags: u8,
}

/// Fields of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// What the message is for the table of flows.
    pub purpose: Purpose,
}

/// Purpose of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request with this identifier, such as an echo.
    Request(u16),
    /// A reply with this identifier, and the type of its request.
    Reply(u16, u8),
    /// An error about a packet of this flow. `None` if the quoted packet is too short.
    Error(Option<Flow>),
    /// A message that gets no reply, or whose replies have another source than its destination, such as a redirect.
    Single,
}

/// A flow in the direction of one of its packets.
///
/// Flows of ICMP requests have the identifier as the requester's port, and the type of the request as the other port. Flows of
/// protocols other than TCP, UDP and ICMP have ports 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Protocol (IANA's number).
    pub protocol: u8,
    /// Source address and port.
    pub source: (IpAddr, u16),
    /// Destination address and port.
    pub destination: (IpAddr, u16),
}

impl Flow {
    /// Returns the flow in the other direction.
    pub fn reversed(self) -> Flow {
        Flow {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }
}

/// The part of a packet that IP headers tell, and the bytes behind them.
struct Ip<'a> {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks a packet. Returns `None` if it is truncated, if a length in it is wrong, or if it is a later fragment.
    pub fn parse(packet: &'a [u8]) -> Option<Packet<'a>> {
        let family = match packet.first()? >> 4 {
            4 => Family::Inet,
            6 => Family::Inet6,
            _ => return None,
        };
        let length = match family {
            Family::Inet => half(packet, 2)?.into(),
            Family::Inet6 => HEADER6 + usize::from(half(packet, 4)?),
        };
        let bytes = packet.get(..length)?;
        let ip = match family {
            Family::Inet => ipv4(bytes)?,
            Family::Inet6 => ipv6(bytes)?,
        };
        Some(Packet {
            bytes,
            family,
            protocol: ip.protocol,
            source: ip.source,
            destination: ip.destination,
            transport: transport(&ip)?,
        })
    }

    /// Returns the flow that the packet belongs to. ICMP errors and single messages belong to none.
    pub fn flow(&self) -> Option<Flow> {
        let (source, destination) = match self.transport {
            Transport::Tcp(tcp) => (tcp.source, tcp.destination),
            Transport::Udp(source, destination) => (source, destination),
            Transport::Icmp(Icmp { kind, purpose, .. }) => ports_of_icmp(kind, purpose)?,
            Transport::Other => (0, 0),
        };
        Some(Flow {
            protocol: self.protocol,
            source: (self.source, source),
            destination: (self.destination, destination),
        })
    }
}

fn ports_of_icmp(kind: u8, purpose: Purpose) -> Option<(u16, u16)> {
    match purpose {
        Purpose::Request(ident) => Some((ident, kind.into())),
        Purpose::Reply(ident, request) => Some((request.into(), ident)),
        Purpose::Error(_) | Purpose::Single => None,
    }
}

/// Reads an IPv4 header. The packet's end is not checked, because quoted packets are cut.
fn ipv4(packet: &[u8]) -> Option<Ip<'_>> {
    let header: &[u8; HEADER4] = packet.first_chunk()?;
    let length = usize::from(header[0] & 15) * 4;
    let fragment = half(packet, 6)? & 0x1fff;
    if header[0] >> 4 != 4 || length < HEADER4 || fragment != 0 {
        return None;
    }
    Some(Ip {
        protocol: header[9],
        source: Ipv4Addr::from_bits(word(packet, 12)?).into(),
        destination: Ipv4Addr::from_bits(word(packet, 16)?).into(),
        payload: packet.get(length..)?,
    })
}

/// Reads an IPv6 header. The packet's end is not checked.
fn ipv6(packet: &[u8]) -> Option<Ip<'_>> {
    let (header, payload) = packet.split_first_chunk::<HEADER6>()?;
    let address = |at: usize| {
        header
            .get(at..)?
            .first_chunk()
            .map(|octets| Ipv6Addr::from_octets(*octets))
    };
    if header[0] >> 4 != 6 {
        return None;
    }
    Some(Ip {
        protocol: header[6],
        source: address(8)?.into(),
        destination: address(24)?.into(),
        payload,
    })
}

/// Reads the header of the protocol, which must be whole.
fn transport(ip: &Ip) -> Option<Transport> {
    let payload = ip.payload;
    Some(match ip.protocol {
        TCP => {
            let header: &[u8; 20] = payload.first_chunk()?;
            Transport::Tcp(Tcp {
                source: half(payload, 0)?,
                destination: half(payload, 2)?,
                sequence: word(payload, 4)?,
                acknowledgement: word(payload, 8)?,
                flags: header[13],
            })
        }
        UDP => {
            let _: &[u8; 8] = payload.first_chunk()?;
            Transport::Udp(half(payload, 0)?, half(payload, 2)?)
        }
        ICMP | ICMP6 => {
            let (header, quote) = payload.split_first_chunk::<8>()?;
            let purpose = match purpose_of(ip.protocol, header) {
                Purpose::Error(_) => Purpose::Error(quoted(ip, quote)),
                other => other,
            };
            Transport::Icmp(Icmp {
                kind: header[0],
                code: header[1],
                purpose,
            })
        }
        _ => Transport::Other,
    })
}

/// Returns the purpose of an ICMP message by its type (RFC 792, RFC 4443), for errors without the quoted flow.
fn purpose_of(protocol: u8, header: &[u8; 8]) -> Purpose {
    let ident = u16::from_be_bytes([header[4], header[5]]);
    match (protocol, header[0]) {
        (ICMP, 8 | 13) | (ICMP6, 128) => Purpose::Request(ident),
        (ICMP, 0) => Purpose::Reply(ident, 8),
        (ICMP, 14) => Purpose::Reply(ident, 13),
        (ICMP6, 129) => Purpose::Reply(ident, 128),
        (ICMP, 3 | 11 | 12) | (ICMP6, 1..=4) => Purpose::Error(None),
        _ => Purpose::Single,
    }
}

/// Returns the flow of the packet that an ICMP error quotes. The error goes to the source of that packet.
fn quoted(error: &Ip, quote: &[u8]) -> Option<Flow> {
    let mut ip = match error.protocol {
        ICMP => ipv4(quote)?,
        _ => ipv6(quote)?,
    };
    if error.protocol == ICMP6 {
        skip_extensions(&mut ip)?;
    }
    if ip.source != error.destination {
        return None;
    }
    let (source, destination) = match ip.protocol {
        TCP | UDP => (half(ip.payload, 0)?, half(ip.payload, 2)?),
        ICMP | ICMP6 => {
            let header = ip.payload.first_chunk()?;
            ports_of_icmp(header[0], purpose_of(ip.protocol, header))?
        }
        _ => (0, 0),
    };
    Some(Flow {
        protocol: ip.protocol,
        source: (ip.source, source),
        destination: (ip.destination, destination),
    })
}

/// Skips hop-by-hop options, routing, destination options, and the header of a first fragment (RFC 8200, 4).
fn skip_extensions(ip: &mut Ip) -> Option<()> {
    for _ in 0..EXTENSIONS {
        let length = match ip.protocol {
            0 | 43 | 60 => 8 + usize::from(*ip.payload.get(1)?) * 8,
            44 if half(ip.payload, 2)? >> 3 == 0 => 8,
            44 => return None,
            _ => return Some(()),
        };
        ip.protocol = *ip.payload.first()?;
        ip.payload = ip.payload.get(length..)?;
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}
