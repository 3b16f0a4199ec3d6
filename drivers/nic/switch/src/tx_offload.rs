//! Checks the offload request of a frame that a brane sends: checksum and segmentation.
//!
//! The input is the driver's own copy of the frame and of its meta, both written by an untrusted brane. If a frame
//! passes, the device reads nothing outside the frame and sends no packet that is too long for the wire. The device
//! writes into a frame after all checks of its addresses (`crate::source_guard`). So the device may write only the
//! checksum of the frame's own TCP or UDP header, and never a byte that those checks read.

use crate::{ETHERNET_HEADER, Link, mac};
use brane_abi::port::{
    FEATURE_TSO4, FEATURE_TSO6, FEATURE_TX_CSUM, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, GSO_TCPV6,
    KIND_FRAME, MAX_FRAME,
};

/// Smallest segment size that the device may be asked for, in payload bytes. A TCP that complies with RFC 9293
/// practically never asks for less, and with it the headers stay shorter than the payload.
pub const MIN_SEGMENT: u16 = 64;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of the shortest TCP header (RFC 9293, 3.1), and the offset of its checksum.
const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: u16 = 16;
/// Bytes of a UDP header (RFC 768), and the offset of its checksum.
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: u16 = 6;

/// Returns the meta to send `frame` with, or `None` if the frame must not leave. `ethertype` is in the form of
/// `EthernetHeader::ethertype`.
#[inline]
pub fn check(frame: &[u8], ethertype: u16, meta: FrameMeta, link: &Link) -> Option<FrameMeta> {
    if frame.len() < ETHERNET_HEADER || frame.len() > MAX_FRAME || meta.kind != KIND_FRAME {
        return None;
    }
    let longest = ETHERNET_HEADER + usize::from(link.mtu);
    if meta.flags == 0 && meta.gso_type == GSO_NONE {
        return (frame.len() <= longest).then_some(FrameMeta::default());
    }
    if meta.flags != FLAG_NEEDS_CSUM || link.features & FEATURE_TX_CSUM == 0 {
        return None;
    }
    let transport = Transport::of(frame, ethertype)?;
    let (shortest, field) = match transport.protocol {
        TCP => (TCP_HEADER, TCP_CHECKSUM),
        UDP => (UDP_HEADER, UDP_CHECKSUM),
        _ => return None,
    };
    let network = transport.start;
    if usize::from(meta.csum_start) != network
        || meta.csum_offset != field
        || network + shortest > frame.len()
    {
        return None;
    }
    if meta.gso_type == GSO_NONE {
        return (frame.len() <= longest).then_some(FrameMeta {
            gso_size: 0,
            header_len: 0,
            ..meta
        });
    }
    let feature = match (meta.gso_type, transport.v6) {
        (GSO_TCPV4, false) => FEATURE_TSO4,
        (GSO_TCPV6, true) => FEATURE_TSO6,
        _ => return None,
    };
    // RFC 9293, 3.1: data offset in the high half of byte 12.
    let tcp = usize::from(*frame.get(network + 12)? >> 4) * 4;
    let headers = network + tcp;
    let segment = headers - ETHERNET_HEADER + usize::from(meta.gso_size);
    let fits = link.features & feature != 0
        && transport.protocol == TCP
        && tcp >= TCP_HEADER
        && headers <= frame.len()
        && usize::from(meta.header_len) == headers
        && meta.gso_size >= MIN_SEGMENT
        && segment <= usize::from(link.mtu);
    fits.then_some(meta)
}

/// The transport header of an IP packet.
struct Transport {
    v6: bool,
    /// The IP protocol (RFC 791) or next header (RFC 8200).
    protocol: u8,
    /// Bytes from the frame's start.
    start: usize,
}

impl Transport {
    /// Finds the transport header if the frame contains exactly one whole IP packet. Returns `None` for fragments,
    /// because a later one has no transport header. Packets with extension headers fail later, because our stacks do
    /// not offload such packets.
    #[inline]
    fn of(frame: &[u8], ethertype: u16) -> Option<Transport> {
        match ethertype {
            mac::IPV4 => Transport::of_ipv4(frame.get(ETHERNET_HEADER..)?),
            mac::IPV6 => Transport::of_ipv6(frame.get(ETHERNET_HEADER..)?),
            _ => None,
        }
    }

    /// Reads an IPv4 packet (RFC 791, 3.1).
    #[inline]
    fn of_ipv4(packet: &[u8]) -> Option<Transport> {
        let header: &[u8; 20] = packet.first_chunk()?;
        // Version, header length in words, type of service, total length, identification, flags and offset.
        let start = u64::from_be_bytes(*header.first_chunk()?);
        let length = (start >> 56 & 15) as usize * 4;
        let total = (start >> 32 & 0xffff) as usize;
        // The flag "more fragments", or an offset.
        let fragment = start & 0x3fff != 0;
        let whole = start >> 60 == 4 && length >= header.len() && total == packet.len() && !fragment;
        whole.then_some(Transport {
            v6: false,
            protocol: header[9],
            start: ETHERNET_HEADER + length,
        })
    }

    /// Parses an IPv6 packet (RFC 8200, 3). Extension headers are not followed: [`check`] knows none of their protocol
    /// numbers, so it rejects such a packet.
    #[inline]
    fn of_ipv6(packet: &[u8]) -> Option<Transport> {
        let header: &[u8; 40] = packet.first_chunk()?;
        let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let whole = header[0] >> 4 == 6 && header.len() + payload == packet.len();
        whole.then_some(Transport {
            v6: true,
            protocol: header[6],
            start: ETHERNET_HEADER + header.len(),
        })
    }
}
