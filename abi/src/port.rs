//! Records in the port rings between a NIC driver and a brane (layout: [`crate::layout::ports`]).
//!
//! A record is either one Ethernet frame without FCS, or (driver to brane only) a [`PortInfo`] that describes the port's binding
//! from here on. The brane trusts the driver to keep frames apart and may read received frames in place. The driver does not
//! trust the brane and checks its own copy.
//!
//! The three meta words carry the fields of virtio-net's header (virtio 1.2, 5.1.6 `struct virtio_net_hdr`), so that the device
//! can do checksums and segmentation.

use crate::net::MacAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Returns the doorbell bit of port `p`: the ring towards the woken side has records, or the ring from it has room.
pub const fn port_bit(p: usize) -> u64 {
    1 << p
}

/// Longest frame in a port ring in bytes: an Ethernet header and an IP packet of up to 65535 bytes.
pub const MAX_FRAME: usize = 14 + 65535;

/// Kind of a record: an Ethernet frame.
pub const KIND_FRAME: u8 = 0;
/// Kind of a record: a [`PortInfo`].
pub const KIND_INFO: u8 = 1;

/// The transport checksum holds only the pseudo header's sum. Complete it from `csum_start` on, at `csum_start + csum_offset`. On
/// receive: the frame never left a machine, so its data counts as intact.
pub const FLAG_NEEDS_CSUM: u8 = 1;
/// Receive only: the device has verified the transport checksum.
pub const FLAG_DATA_VALID: u8 = 2;

/// No segmentation. `GSO_*` are the segmentation to do (transmit) or undone (receive), as values of virtio's `gso_type`.
pub const GSO_NONE: u8 = 0;
/// Segmentation of TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// Segmentation of TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;

/// Meta of a record, packed in its three words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// `KIND_*`.
    pub kind: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// `GSO_*`.
    pub gso_type: u8,
    /// Start of the checksummed bytes, in bytes from the frame's start.
    pub csum_start: u16,
    /// Place of the checksum, in bytes from `csum_start`.
    pub csum_offset: u16,
    /// Payload bytes of each segment, for segmentation.
    pub gso_size: u16,
    /// Bytes of all headers of the frame, for segmentation.
    pub header_len: u16,
}

impl FrameMeta {
    /// Packs the meta into a record's words.
    pub const fn to_words(self) -> [u32; 3] {
        [
            self.kind as u32 | (self.flags as u32) << 8 | (self.gso_type as u32) << 16,
            self.csum_start as u32 | (self.csum_offset as u32) << 16,
            self.gso_size as u32 | (self.header_len as u32) << 16,
        ]
    }

    /// Unpacks the meta. Any words give some value, so check it.
    pub const fn from_words(w: [u32; 3]) -> FrameMeta {
        FrameMeta {
            kind: w[0] as u8,
            flags: (w[0] >> 8) as u8,
            gso_type: (w[0] >> 16) as u8,
            csum_start: w[1] as u16,
            csum_offset: (w[1] >> 16) as u16,
            gso_size: w[2] as u16,
            header_len: (w[2] >> 16) as u16,
        }
    }
}

/// The device completes checksums on transmit ([`FLAG_NEEDS_CSUM`]).
pub const FEATURE_TX_CSUM: u32 = 1;
/// The device segments TCP over IPv4.
pub const FEATURE_TSO4: u32 = 2;
/// The device segments TCP over IPv6.
pub const FEATURE_TSO6: u32 = 4;

/// State of a port from here on: sent by the driver at link-up and at each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortInfo {
    /// 1 if a vif is bound to the port, else 0; the other fields are then zero.
    pub bound: u32,
    /// `FEATURE_*` bits that the vif offers.
    pub features: u32,
    /// Raised at each bind, so that a brane can distinguish a new vif from the old one.
    pub generation: u32,
    /// Largest IP packet in bytes (1500 on Ethernet).
    pub mtu: u16,
    /// 1 if the physical link is up; for an end of a pair, 1 if the other end is bound to a port.
    pub link_up: u8,
    /// Zero.
    pub reserved: u8,
    /// The vif's MAC address, the only allowed source address.
    pub mac: MacAddr,
    /// Zero.
    pub reserved2: [u8; 2],
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::FrameMeta;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn meta_survives_packing(w in any::<[u32; 3]>()) {
            let meta = FrameMeta::from_words(w);
            prop_assert_eq!(FrameMeta::from_words(meta.to_words()), meta);
        }
    }
}
