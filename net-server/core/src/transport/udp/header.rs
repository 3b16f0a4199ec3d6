//! The header of a UDP datagram (RFC 768), from any host.

use crate::headers::wire::UDP_HEADER;
use crate::headers::{Packet, Reason};
use brane_abi::control::Family;
use smoltcp::wire::IpAddress;

/// A whole UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sender.
    pub src: IpAddress,
    /// Receiver.
    pub dst: IpAddress,
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// First byte of the payload, from the frame's start.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
}

impl Header {
    /// Reads the header in a packet. Checks its lengths, and its checksum if that is needed.
    pub fn read(packet: &Packet<'_>) -> Result<Header, Reason> {
        let header = packet.bytes().first_chunk::<UDP_HEADER>();
        let header = header.ok_or(Reason::Truncated)?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if len < UDP_HEADER || len > packet.len {
            return Err(Reason::Length);
        }
        // Only IPv4 allows a datagram without checksum (RFC 768; RFC 8200, 8.1).
        let intact = match header[6..8] == [0, 0] {
            true => packet.intact || packet.family == Family::Inet,
            false => packet.intact || packet.has_checksum(len),
        };
        if !intact {
            return Err(Reason::Checksum);
        }
        Ok(Header {
            src: packet.src,
            dst: packet.dst,
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            payload: packet.payload + UDP_HEADER,
            len: len - UDP_HEADER,
        })
    }
}
