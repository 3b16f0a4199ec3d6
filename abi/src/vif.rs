//! Protected calls of the manager to a NIC driver: virtual interfaces, their binding to ports, counters.
//!
//! Only the manager has this channel. Each call is a label and one fixed structure in the message bytes. The reply's label is
//! [`OK`] or a refusal; if the call has an answer, the reply's bytes are the answer's structure.
//!
//! On the other side is the driver, which checks every request before it changes anything.

use crate::net::{Cidr, MacAddr, SockAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Reply: done.
pub const OK: u64 = 0;
/// Reply: no such operation, or its structure is incomplete.
pub const BAD_REQUEST: u64 = 1;
/// Reply: no vif with this number.
pub const NO_SUCH_VIF: u64 = 2;
/// Reply: the number, the MAC address or the port is taken.
pub const IN_USE: u64 = 3;
/// Reply: the MAC address is a group address or all zero.
pub const BAD_MAC: u64 = 4;
/// Reply: no such port.
pub const NO_SUCH_PORT: u64 = 5;
/// Reply: the driver's table is full.
pub const FULL: u64 = 6;

/// Reply: in [`VifLimits`] a prefix, the number of prefixes or a rate is impossible.
pub const BAD_LIMITS: u64 = 7;

/// Label: create a vif ([`AddVif`]). It is not bound yet.
pub const ADD_VIF: u64 = 1;
/// Label: unbind and remove a vif ([`VifRef`]).
pub const REMOVE_VIF: u64 = 2;
/// Label: bind a vif to a port ([`BindVif`]). Frames from before the call do not pass: the port receives no earlier frame, and
/// frames that the brane enqueued before are not sent.
pub const BIND_VIF: u64 = 3;
/// Label: unbind a vif from its port ([`VifRef`]). From the reply on, the driver passes no frame of the vif to the port and sends
/// none from there.
pub const UNBIND_VIF: u64 = 4;
/// Label: a vif's counters ([`VifRef`] → [`VifCounters`]).
pub const VIF_COUNTERS: u64 = 5;
/// Label: the device's facts and counters (nothing → [`DeviceInfo`]).
pub const DEVICE_INFO: u64 = 6;

/// Label: set the sources that a vif may send from, and its rates in both directions ([`VifLimits`]). Replaces the earlier
/// limits. A new vif has no limits.
pub const SET_LIMITS: u64 = 7;

/// Label: change a vif's `MODE_*` ([`SetMode`]).
pub const SET_MODE: u64 = 8;
/// Label: read a part of the vif table ([`VifTableAt`] → [`VifTable`]), for an audit.
pub const VIF_TABLE: u64 = 9;

/// Most prefixes in [`VifLimits`].
pub const MAX_ALLOWED: usize = 16;
/// Highest rate in [`VifLimits`], in bytes per second.
pub const MAX_RATE: u64 = 100_000_000_000;

/// Branes on the same NIC reach each other through the switch.
pub const MODE_BRIDGE: u32 = 0;
/// The vif reaches only the outside.
pub const MODE_PRIVATE: u32 = 1;

/// See [`ADD_VIF`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddVif {
    /// Number chosen by the manager, unique at this driver.
    pub vif: u32,
    /// `MODE_*`.
    pub mode: u32,
    /// The MAC address of the vif: source of its sent frames, destination of its received frames. Unique in the `vlan`.
    pub mac: MacAddr,
    /// Its VLAN (IEEE 802.1Q), 1 to 4094. Its frames carry this tag on the wire only; the brane sees them without it. 0: none.
    pub vlan: u16,
    /// For an end of a pair, 1 more than the number of the vif at the other end, which may be added later. Frames pass only
    /// between the two ends. 0: a vif on the wire.
    pub peer: u32,
}

/// See [`SET_MODE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetMode {
    /// Number of the vif.
    pub vif: u32,
    /// `MODE_*`.
    pub mode: u32,
}

/// See [`VIF_TABLE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifTableAt {
    /// Entries to skip: those of the earlier parts.
    pub skip: u32,
}

/// Entries of a [`VifTable`].
pub const TABLE_PART: usize = 32;

/// A part of the vif table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifTable {
    /// Number of used `entries`; only the last part has fewer than [`TABLE_PART`].
    pub count: u32,
    /// Number of all vifs.
    pub total: u32,
    /// The vifs.
    pub entries: [VifEntry; TABLE_PART],
}

/// A vif and its binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifEntry {
    /// Its number.
    pub vif: u32,
    /// 1 more than the number of the brane that it is bound to; 0: not bound.
    pub brane: u16,
    /// The brane's port that it is bound to.
    pub port: u16,
    /// Its address.
    pub mac: MacAddr,
    /// Its VLAN.
    pub vlan: u16,
}

/// See [`BIND_VIF`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVif {
    /// Number of the vif.
    pub vif: u32,
    /// Number of the brane (of its region `ports-nicK-N`).
    pub brane: u32,
    /// Number of the brane's port, below [`crate::layout::ports::count`].
    pub port: u32,
}

/// A range of IP addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix {
    /// Its first bits, in network order; IPv4 uses the first four bytes.
    pub ip: [u8; 16],
    /// 4 or 6.
    pub family: u8,
    /// Number of bits that count: up to 32 or 128.
    pub length: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

impl Prefix {
    /// No prefix.
    pub const EMPTY: Prefix = Prefix {
        ip: [0; 16],
        family: 0,
        length: 0,
        reserved: [0; 2],
    };
}

impl From<Cidr> for Prefix {
    fn from(cidr: Cidr) -> Prefix {
        let at = SockAddr::new(Some(cidr.ip), 0);
        Prefix {
            ip: at.ip,
            family: at.family,
            length: cidr.prefix,
            reserved: [0; 2],
        }
    }
}

/// See [`SET_LIMITS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifLimits {
    /// Number of the vif.
    pub vif: u32,
    /// Number of used entries of `allow`. 0: any source is allowed.
    pub allowed: u32,
    /// Bytes per second that the brane may send, up to [`MAX_RATE`]. 0: no limit.
    pub rate_up: u64,
    /// Bytes per second that the brane may receive, up to [`MAX_RATE`]. 0: no limit.
    pub rate_down: u64,
    /// Source addresses that the brane may send from, besides the vif's link-local address.
    pub allow: [Prefix; MAX_ALLOWED],
}

/// See [`REMOVE_VIF`], [`UNBIND_VIF`], [`VIF_COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifRef {
    /// Number of the vif.
    pub vif: u32,
}

/// Counters of a vif since it was added. "rx" counts frames to the brane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifCounters {
    /// Frames delivered to the brane.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Dropped because the brane's ring was full, the vif was not bound, or the brane's link was down.
    pub rx_dropped: u64,
    /// Frames received from the brane and sent.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Dropped because the destination is the vif itself, or because no vif at the pair's other end has the destination.
    pub tx_dropped: u64,
    /// Refused: the source MAC address is not the vif's.
    pub tx_spoofed: u64,
    /// Refused: shorter than an Ethernet header, longer than allowed, or offload fields that do not fit the frame.
    pub tx_malformed: u64,
    /// Times that the brane violated the ring protocol and was quarantined until its restart.
    pub peer_errors: u64,
    /// Refused by a vif with allowed addresses: its IP source is not allowed, or its IP headers are truncated.
    pub tx_bad_ip: u64,
    /// Refused by a vif with allowed addresses: ARP (RFC 826) that claims another address, or is not for IPv4 on Ethernet.
    pub tx_bad_arp: u64,
    /// Refused by a vif with allowed addresses: neighbour discovery (RFC 4861) that claims another address or announces a router.
    pub tx_bad_nd: u64,
    /// Refused: a VLAN tag (IEEE 802.1Q), which only the driver inserts. By a vif with allowed addresses also: any EtherType
    /// other than IPv4, IPv6 and ARP.
    pub tx_bad_type: u64,
    /// Dropped: above [`VifLimits::rate_up`].
    pub tx_limited: u64,
    /// Dropped: above [`VifLimits::rate_down`].
    pub rx_limited: u64,
    /// Refused: a frame for the bridges and stations of the link itself, such as spanning tree or pause. It has a
    /// destination from 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, 8.6.3), EtherType 0x8808 (IEEE 802.3, 31A), or a length in
    /// place of an EtherType (IEEE 802.3, 3.2.6).
    pub tx_link_control: u64,
    /// Times that the brane's frames waited for their turn, because the driver's work for the brane had used up its share.
    pub tx_waits: u64,
}

/// The device behind the vifs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    /// Its own MAC address.
    pub mac: MacAddr,
    /// 1 if the link is up.
    pub link_up: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of ports: branes times [`crate::layout::ports::count`].
    pub ports: u32,
    /// `FEATURE_*` of [`crate::port`].
    pub features: u32,
    /// Frames received from the device.
    pub rx_frames: u64,
    /// Dropped: no vif has the destination.
    pub rx_unclaimed: u64,
    /// Dropped: shorter than an Ethernet header, or the device's own header is malformed.
    pub rx_malformed: u64,
    /// Frames passed to the device.
    pub tx_frames: u64,
    /// Interrupts handled.
    pub interrupts: u64,
}
