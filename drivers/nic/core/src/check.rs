//! Whether a frame that a brane wants to send fits what it says of itself.
//!
//! Looks at the driver's own copy and at the meta as copied once, both the work of an untrusted brane. What passes can
//! make the device read nothing outside the frame, and make it send nothing longer than the wire takes.

use crate::{ETHERNET_HEADER, Link};
use brane_abi::port::{
    FEATURE_TSO4, FEATURE_TSO6, FEATURE_TX_CSUM, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, GSO_TCPV6,
    KIND_FRAME, MAX_FRAME,
};

/// Smallest segment that the device is asked to cut, in payload bytes: the smallest a TCP that keeps to RFC 9293 would
/// ask for in practice, and enough that headers stay below the payload.
pub const MIN_SEGMENT: u16 = 64;
const TCP: u8 = 6;

/// The meta to send `frame` with, or `None` for a frame that must not leave.
#[inline]
pub fn outgoing(frame: &[u8], meta: FrameMeta, link: &Link) -> Option<FrameMeta> {
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
    let stored = usize::from(meta.csum_start) + usize::from(meta.csum_offset);
    if usize::from(meta.csum_start) < ETHERNET_HEADER || stored + 2 > frame.len() {
        return None;
    }
    if meta.gso_type == GSO_NONE {
        return (frame.len() <= longest).then_some(FrameMeta {
            gso_size: 0,
            header_len: 0,
            ..meta
        });
    }
    let network = match meta.gso_type {
        GSO_TCPV4 if link.features & FEATURE_TSO4 != 0 => ipv4(frame)?,
        GSO_TCPV6 if link.features & FEATURE_TSO6 != 0 => ipv6(frame)?,
        _ => return None,
    };
    // RFC 9293, 3.1: data offset in the high half of byte 12, checksum at byte 16.
    let tcp = usize::from(*frame.get(network + 12)? >> 4) * 4;
    let headers = network + tcp;
    let segment = headers - ETHERNET_HEADER + usize::from(meta.gso_size);
    let fits = tcp >= 20
        && headers <= frame.len()
        && usize::from(meta.header_len) == headers
        && usize::from(meta.csum_start) == network
        && meta.csum_offset == 16
        && meta.gso_size >= MIN_SEGMENT
        && segment <= usize::from(link.mtu);
    fits.then_some(meta)
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

/// Offset of the TCP header in a whole IPv4 packet (RFC 791) that is no fragment.
fn ipv4(frame: &[u8]) -> Option<usize> {
    let version = *frame.get(ETHERNET_HEADER)?;
    let header = usize::from(version & 15) * 4;
    let total = usize::from(word(frame, ETHERNET_HEADER + 2)?);
    let fragment = word(frame, ETHERNET_HEADER + 6)? & 0x3fff;
    let fits = word(frame, 12)? == 0x0800
        && version >> 4 == 4
        && header >= 20
        && total == frame.len() - ETHERNET_HEADER
        && fragment == 0
        && *frame.get(ETHERNET_HEADER + 9)? == TCP;
    fits.then_some(ETHERNET_HEADER + header)
}

/// Offset of the TCP header in a whole IPv6 packet (RFC 8200) without extension headers.
fn ipv6(frame: &[u8]) -> Option<usize> {
    let payload = usize::from(word(frame, ETHERNET_HEADER + 4)?);
    let fits = word(frame, 12)? == 0x86dd
        && *frame.get(ETHERNET_HEADER)? >> 4 == 6
        && payload + 40 == frame.len() - ETHERNET_HEADER
        && *frame.get(ETHERNET_HEADER + 6)? == TCP;
    fits.then_some(ETHERNET_HEADER + 40)
}
