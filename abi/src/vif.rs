//! Protected calls of the manager to a NIC driver: virtual interfaces, their binding to ports, counters.
//!
//! Only the manager has this channel. Each call is a label and one fixed structure in the message bytes; the reply's
//! label is [`OK`] or one of the refusals, its bytes the answer's structure where there is one.

use crate::net::{Cidr, MacAddr, SockAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Reply: done.
pub const OK: u64 = 0;
/// Reply: no such operation, or its bytes are not all there.
pub const BAD_REQUEST: u64 = 1;
/// Reply: no vif of that number.
pub const NO_SUCH_VIF: u64 = 2;
/// Reply: the number, the MAC address or the port is taken.
pub const IN_USE: u64 = 3;
/// Reply: the MAC address is a group address or all zero.
pub const BAD_MAC: u64 = 4;
/// Reply: no such port.
pub const NO_SUCH_PORT: u64 = 5;
/// Reply: the driver's table is full.
pub const FULL: u64 = 6;

/// Reply: a prefix, their number or a rate in [`VifLimits`] cannot be.
pub const BAD_LIMITS: u64 = 7;

/// Label: create vif ([`AddVif`]); unbound at first.
pub const ADD_VIF: u64 = 1;
/// Label: remove a vif ([`VifRef`]), unbinding it.
pub const REMOVE_VIF: u64 = 2;
/// Label: bind a vif to a port ([`BindVif`]). No frame that came in before reaches the port, and none that its brane put into
/// the ring before is sent.
pub const BIND_VIF: u64 = 3;
/// Label: take a vif from its port ([`VifRef`]). From the reply on the driver gives the port nothing of the vif and sends nothing
/// from there.
pub const UNBIND_VIF: u64 = 4;
/// Label: a vif's counters ([`VifRef`] → [`VifCounters`]).
pub const VIF_COUNTERS: u64 = 5;
/// Label: the device's facts and counters (nothing → [`DeviceInfo`]).
pub const DEVICE_INFO: u64 = 6;

/// Label: what a vif may send, and how much of what it may send and get ([`VifLimits`]); replaces what was set before.
/// A vif starts without limits.
pub const SET_LIMITS: u64 = 7;

/// Label: change a vif's `MODE_*` ([`SetMode`]).
pub const SET_MODE: u64 = 8;
/// Label: a part of the vif table ([`VifTableAt`] → [`VifTable`]), for an audit.
pub const VIF_TABLE: u64 = 9;

/// Prefixes in [`VifLimits`] at most.
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
    /// Its address: what it may send from, what it receives for. Unique among the vifs of the same `vlan`.
    pub mac: MacAddr,
    /// Its VLAN (IEEE 802.1Q), 1 to 4094: its frames carry this tag on the wire, and the brane sees them without. 0: none.
    pub vlan: u16,
    /// For one end of a pair, 1 more than the number of the vif at the other end (which may be added later): frames go from
    /// the one to the other and nowhere else. 0: a vif on the wire.
    pub peer: u32,
}

/// See [`SET_MODE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetMode {
    /// Which vif.
    pub vif: u32,
    /// `MODE_*`.
    pub mode: u32,
}

/// See [`VIF_TABLE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifTableAt {
    /// Entries to leave out: those of the parts before.
    pub skip: u32,
}

/// Entries of a [`VifTable`].
pub const TABLE_PART: usize = 32;

/// A part of the vif table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifTable {
    /// How many of `entries` count; fewer than there are places in the last part.
    pub count: u32,
    /// Vifs in all.
    pub total: u32,
    /// The vifs.
    pub entries: [VifEntry; TABLE_PART],
}

/// A vif and where it is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifEntry {
    /// Its number.
    pub vif: u32,
    /// 1 more than the number of the brane whose port it is bound to; 0: to none.
    pub brane: u16,
    /// That port.
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
    /// Which vif.
    pub vif: u32,
    /// The brane's number (of the region `ports-N`).
    pub brane: u32,
    /// Which of the brane's ports, below [`crate::layout::PORTS_PER_BRANE`].
    pub port: u32,
}

/// A range of IP addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix {
    /// Its first bits, network order; IPv4 takes the first four bytes.
    pub ip: [u8; 16],
    /// 4 or 6.
    pub family: u8,
    /// How many of the bits count: up to 32 or 128.
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
    /// Which vif.
    pub vif: u32,
    /// How many of `allow` count. 0: any source may be sent from.
    pub allowed: u32,
    /// Bytes per second that the brane may send, up to [`MAX_RATE`]. 0: no limit.
    pub rate_up: u64,
    /// Bytes per second that the brane gets, likewise.
    pub rate_down: u64,
    /// Where what it sends may come from, besides the vif's link-local address.
    pub allow: [Prefix; MAX_ALLOWED],
}

/// See [`REMOVE_VIF`], [`UNBIND_VIF`], [`VIF_COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifRef {
    /// Which vif.
    pub vif: u32,
}

/// Counters of a vif since it was added. "rx" is towards the brane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifCounters {
    /// Frames given to the brane.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Dropped because the brane's ring was full, or nobody was there.
    pub rx_dropped: u64,
    /// Frames taken from the brane and sent.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Dropped: sent to itself, or by an end of a pair to nobody at the other end.
    pub tx_dropped: u64,
    /// Refused: the source MAC address is not the vif's.
    pub tx_spoofed: u64,
    /// Refused: shorter than an Ethernet header, longer than allowed, or offload fields that do not fit the frame.
    pub tx_malformed: u64,
    /// Times the brane broke the ring protocol and was cut off until it restarts.
    pub peer_errors: u64,
    /// Refused by a vif with allowed addresses: its IP source is none of them, or its IP headers are cut short.
    pub tx_bad_ip: u64,
    /// Likewise: ARP (RFC 826) that claims another address, or is none for IPv4 on Ethernet.
    pub tx_bad_arp: u64,
    /// Likewise: neighbour discovery (RFC 4861) that claims another address or announces a router.
    pub tx_bad_nd: u64,
    /// Refused: a VLAN tag (IEEE 802.1Q), which is the driver's to insert; and by a vif with allowed addresses, whatever is
    /// neither IPv4 nor IPv6 nor ARP.
    pub tx_bad_type: u64,
    /// Dropped: more than [`VifLimits::rate_up`].
    pub tx_limited: u64,
    /// Dropped: more than [`VifLimits::rate_down`].
    pub rx_limited: u64,
    /// Refused: a frame for the bridges and stations of the link itself, such as spanning tree or pause. It has a
    /// destination from 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, 8.6.3), EtherType 0x8808 (IEEE 802.3, 31A), or a length in
    /// place of an EtherType (IEEE 802.3, 3.2.6).
    pub tx_link_control: u64,
    /// Times that its brane's frames had to wait for their turn, because the driver had worked enough for that brane.
    pub tx_waits: u64,
}

/// The device behind the vifs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    /// Its own MAC address.
    pub mac: MacAddr,
    /// 1 when the link is up.
    pub link_up: u8,
    /// Zero.
    pub reserved: u8,
    /// Ports there are: branes times [`crate::layout::PORTS_PER_BRANE`].
    pub ports: u32,
    /// `FEATURE_*` of [`crate::port`].
    pub features: u32,
    /// Frames received from the device.
    pub rx_frames: u64,
    /// Dropped: no vif has that destination.
    pub rx_unclaimed: u64,
    /// Dropped: shorter than an Ethernet header, or the device's own header makes no sense.
    pub rx_malformed: u64,
    /// Frames given to the device.
    pub tx_frames: u64,
    /// Interrupts taken.
    pub interrupts: u64,
}
