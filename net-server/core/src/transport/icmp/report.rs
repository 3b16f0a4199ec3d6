//! ICMP errors that other hosts send about packets of the brane: what they say, and which packet they are about.
//!
//! Errors come from any host, and the packet that they quote need not be one that the brane has sent. So an error counts only if the
//! quoted source is an address of the brane, and its protocol compares the rest with what it has sent (RFC 5927, 4).

use crate::family::family_of;
use crate::headers::Packet;
use crate::headers::wire::{ICMP_HEADER, IPV4_HEADER, IPV6_HEADER};
use crate::net::Net;
use brane_abi::control::Family;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::wire::IpAddress;

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The destination has no socket at the port.
    Port,
    /// The destination does not have the protocol.
    Protocol,
    /// The destination, or a filter before it, does not accept the packet.
    Prohibited,
    /// The packet is longer than the path takes, and may not be fragmented.
    TooBig,
    /// The destination cannot be reached at present: routes, links or neighbours may recover (RFC 1122, 3.2.2.1).
    Unreachable,
    /// The packet, or the rest of its fragments, was too long on its way.
    TimeExceeded,
    /// A field of the packet's header makes no sense to a host.
    Parameter,
}

impl Cause {
    /// Reads type and code of an ICMP message. Returns `None` if the message is no error.
    pub fn read(family: Family, kind: u8, code: u8) -> Option<Cause> {
        Some(match (family, kind, code) {
            (Family::Inet, 3, 2) => Cause::Protocol,
            (Family::Inet, 3, 3) => Cause::Port,
            (Family::Inet, 3, 4) => Cause::TooBig,
            (Family::Inet, 3, 9 | 10 | 13) => Cause::Prohibited,
            (Family::Inet, 3, _) => Cause::Unreachable,
            (Family::Inet, 11, _) => Cause::TimeExceeded,
            (Family::Inet, 12, _) => Cause::Parameter,
            (Family::Inet, ..) => return None,
            (Family::Inet6, 1, 1 | 5 | 6) => Cause::Prohibited,
            (Family::Inet6, 1, 4) => Cause::Port,
            (Family::Inet6, 1, _) => Cause::Unreachable,
            (Family::Inet6, 2, _) => Cause::TooBig,
            (Family::Inet6, 3, _) => Cause::TimeExceeded,
            (Family::Inet6, 4, 1) => Cause::Protocol,
            (Family::Inet6, 4, _) => Cause::Parameter,
            // Types below 128 are errors (RFC 4443, 2.1). One that is not known is passed on too (2.4 a).
            (Family::Inet6, 0..128, _) => Cause::Parameter,
            (Family::Inet6, ..) => return None,
        })
    }

    /// Returns true if sending the packet again is pointless (RFC 1122, 4.2.3.9; RFC 5461, 2).
    pub fn is_hard(self) -> bool {
        matches!(self, Cause::Port | Cause::Protocol | Cause::Prohibited)
    }
}

/// An error about a packet of the brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// Interface that the error came in by.
    pub netif: usize,
    /// What it says.
    pub cause: Cause,
    /// Source of the quoted packet, an address of the brane.
    pub local: IpAddress,
    /// Destination of the quoted packet.
    pub remote: IpAddress,
    /// Protocol of the quoted packet.
    pub number: u8,
    /// First bytes behind the quoted packet's IP header.
    pub quoted: [u8; ICMP_HEADER],
}

impl ErrorReport {
    /// Reads an error, whose lengths and checksum are right. Returns `None` if it does not quote the beginning of a packet that the
    /// brane may have sent.
    pub fn read(net: &Net, packet: &Packet<'_>, cause: Cause) -> Option<ErrorReport> {
        let quoted = packet.bytes().get(ICMP_HEADER..)?;
        let (local, remote, number, len): (IpAddress, IpAddress, u8, usize) = match packet.family {
            Family::Inet => {
                let header = quoted.first_chunk::<IPV4_HEADER>()?;
                let len = usize::from(header[0] & 15) * 4;
                // Only the first fragment has the header of the upper layer.
                let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
                if header[0] >> 4 != 4 || len < IPV4_HEADER || offset != 0 {
                    return None;
                }
                let address = |at: usize| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?));
                (address(12)?.into(), address(16)?.into(), header[9], len)
            }
            Family::Inet6 => {
                let header = quoted.first_chunk::<IPV6_HEADER>()?;
                if header[0] >> 4 != 6 {
                    return None;
                }
                let address = |at: usize| Some(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?));
                (address(8)?.into(), address(24)?.into(), header[6], IPV6_HEADER)
            }
        };
        net.owns(local).then_some(ErrorReport {
            netif: packet.netif,
            cause,
            local,
            remote,
            number,
            quoted: *quoted.get(len..)?.first_chunk()?,
        })
    }

    /// Returns the family.
    pub fn family(&self) -> Family {
        family_of(self.local)
    }

    /// Returns the ports of the quoted TCP or UDP header: the brane's and the other's.
    pub fn ports(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.quoted;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// Returns the sequence number of the quoted TCP header.
    pub fn sequence(&self) -> u32 {
        let [.., a, b, c, d] = self.quoted;
        u32::from_be_bytes([a, b, c, d])
    }
}
