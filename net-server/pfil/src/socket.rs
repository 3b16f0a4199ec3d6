//! Calls of clients as packets: the header that rules for `bind`, `connect` and `accept` see.
//!
//! Addresses and ports come from clients and, for `accept`, from any host. The header has them and nothing else of a real packet:
//! a TCP header has the flag SYN, a UDP header has no payload, and checksums are zero.

use crate::names::TCP;
use crate::packet::{HEADER6, SYN};
use core::net::{IpAddr, SocketAddr};

/// Bytes of the longest header.
const LONGEST: usize = HEADER6 + 20;
/// IPv4 header without options, in bytes.
const HEADER4: usize = 20;

/// An IP header and a TCP or UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Call {
    /// Builds the header of a call. `tcp` is false for UDP. Returns `None` if the addresses are of different families.
    pub fn new(tcp: bool, source: SocketAddr, destination: SocketAddr) -> Option<Call> {
        let transport: usize = if tcp { 20 } else { 8 };
        let protocol = if tcp { TCP } else { crate::names::UDP };
        let mut bytes = [0; LONGEST];
        let header = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[0] = 0x45;
                bytes[3] = (HEADER4 + transport) as u8;
                bytes[8] = 64;
                bytes[9] = protocol;
                bytes[12..16].copy_from_slice(&source.octets());
                bytes[16..20].copy_from_slice(&destination.octets());
                HEADER4
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes[0] = 0x60;
                bytes[5] = transport as u8;
                bytes[6] = protocol;
                bytes[7] = 64;
                bytes[8..24].copy_from_slice(&source.octets());
                bytes[24..40].copy_from_slice(&destination.octets());
                HEADER6
            }
            _ => return None,
        };
        let behind = &mut bytes[header..];
        behind[..2].copy_from_slice(&source.port().to_be_bytes());
        behind[2..4].copy_from_slice(&destination.port().to_be_bytes());
        if tcp {
            behind[12] = 5 << 4;
            behind[13] = SYN;
        } else {
            behind[5] = 8;
        }
        Some(Call {
            bytes,
            len: header + transport,
        })
    }

    /// Returns the header's bytes.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
