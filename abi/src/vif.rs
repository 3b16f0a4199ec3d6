//! Protected calls of the manager to a NIC driver: virtual interfaces, their binding to ports, counters.
//!
//! Only the manager has this channel. Each call is a label and one fixed structure in the message bytes; the reply's
//! label is [`OK`] or one of the refusals, its bytes the answer's structure where there is one.

use crate::net::MacAddr;
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

/// Label: create vif ([`AddVif`]); unbound at first.
pub const ADD_VIF: u64 = 1;
/// Label: remove a vif ([`VifRef`]), unbinding it.
pub const REMOVE_VIF: u64 = 2;
/// Label: bind a vif to a port ([`BindVif`]).
pub const BIND_VIF: u64 = 3;
/// Label: take a vif from its port ([`VifRef`]).
pub const UNBIND_VIF: u64 = 4;
/// Label: a vif's counters ([`VifRef`] → [`VifCounters`]).
pub const VIF_COUNTERS: u64 = 5;
/// Label: the device's facts and counters (nothing → [`DeviceInfo`]).
pub const DEVICE_INFO: u64 = 6;

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
    /// Its address: what it may send from, what it receives for.
    pub mac: MacAddr,
    /// Zero.
    pub reserved: [u8; 2],
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
    /// Dropped because the device's queue was full.
    pub tx_dropped: u64,
    /// Refused: the source MAC address is not the vif's.
    pub tx_spoofed: u64,
    /// Refused: shorter than an Ethernet header, longer than allowed, or offload fields that do not fit the frame.
    pub tx_malformed: u64,
    /// Times the brane broke the ring protocol and was cut off until it restarts.
    pub peer_errors: u64,
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
