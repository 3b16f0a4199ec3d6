//! The header that virtio-net puts before every frame (virtio 1.2, 5.1.6: `struct virtio_net_hdr`, 12 bytes).
//!
//! The device writes the header of a received frame and is not trusted: each field is checked against the negotiated
//! features and the frame's length. For a frame to send, the switch has checked the fields.

use brane_abi::port::{
    FEATURE_TSO4, FEATURE_TSO6, FEATURE_TX_CSUM, FLAG_DATA_VALID, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE,
    GSO_TCPV4, GSO_TCPV6, KIND_FRAME,
};
use nic_switch::ETHERNET_HEADER;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header as the device reads and writes it, little endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// `FLAG_*` of [`brane_abi::port`]. Other bits belong to features that this driver does not negotiate.
    pub flags: u8,
    /// `GSO_*` of [`brane_abi::port`].
    pub gso_type: u8,
    /// Bytes of all headers of the frame.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Offset at which the checksum starts.
    pub csum_start: u16,
    /// Offset of the checksum's place, from `csum_start`.
    pub csum_offset: u16,
    /// Receive: buffers that the frame fills. Transmit: 0.
    pub num_buffers: u16,
}

/// Bytes of [`Header`].
pub const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 12);

/// Negotiated features for receiving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receive {
    /// Frames may come without a complete checksum, or with a verified one (`GUEST_CSUM`).
    pub csum: bool,
    /// TCP over IPv4 may come in one piece (`GUEST_TSO4`).
    pub tso4: bool,
    /// TCP over IPv6 may come in one piece (`GUEST_TSO6`).
    pub tso6: bool,
}

/// Returns the meta of a received frame of `len` bytes. Returns `None` if the header is invalid for such a frame.
#[inline]
pub fn parse(header: &Header, len: usize, receive: Receive) -> Option<FrameMeta> {
    if len < ETHERNET_HEADER {
        return None;
    }
    if header.flags == 0 && header.gso_type == GSO_NONE {
        return Some(FrameMeta::default());
    }
    if header.flags & !(FLAG_NEEDS_CSUM | FLAG_DATA_VALID) != 0 || !receive.csum {
        return None;
    }
    let mut meta = FrameMeta {
        kind: KIND_FRAME,
        flags: header.flags,
        gso_type: header.gso_type,
        ..FrameMeta::default()
    };
    if header.flags & FLAG_NEEDS_CSUM != 0 {
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        if usize::from(header.csum_start) < ETHERNET_HEADER || end > len {
            return None;
        }
        meta.csum_start = header.csum_start;
        meta.csum_offset = header.csum_offset;
    }
    let allowed = match header.gso_type {
        GSO_NONE => true,
        GSO_TCPV4 => receive.tso4,
        GSO_TCPV6 => receive.tso6,
        _ => false,
    };
    if !allowed {
        return None;
    }
    if header.gso_type != GSO_NONE {
        if header.gso_size == 0 {
            return None;
        }
        meta.gso_size = header.gso_size;
        // Only a hint, and some devices set it wrong. So it is bounded.
        meta.header_len = usize::from(header.hdr_len).min(len) as u16;
    }
    Some(meta)
}

/// Returns the header for a frame that has passed `nic_switch::tx_offload::check`.
pub fn build(meta: &FrameMeta) -> Header {
    Header {
        flags: meta.flags & FLAG_NEEDS_CSUM,
        gso_type: meta.gso_type,
        hdr_len: meta.header_len,
        gso_size: meta.gso_size,
        csum_start: meta.csum_start,
        csum_offset: meta.csum_offset,
        num_buffers: 0,
    }
}

/// Returns the `FEATURE_*` bits that the branes get. The arguments are the device's abilities on transmit.
pub fn features(csum: bool, tso4: bool, tso6: bool) -> u32 {
    match (csum, tso4, tso6) {
        (false, _, _) => 0,
        (true, tso4, tso6) => {
            FEATURE_TX_CSUM | if tso4 { FEATURE_TSO4 } else { 0 } | if tso6 { FEATURE_TSO6 } else { 0 }
        }
    }
}
