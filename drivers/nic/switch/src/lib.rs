//! The switch between one NIC and the branes' virtual interfaces (vifs): who may send what, and who gets which frame.
//!
//! It owns the vif table, the driver's side of every brane's port rings, and all counters. On one side is a [`Device`],
//! believed in what it received but not in its header; on the other are the branes, believed in nothing: their
//! frames are copied once and checked on that copy, and one that breaks the ring protocol is cut off until it restarts.
//! It knows nothing of the kernel or of the device's registers, so it runs on the host for tests and fuzzing.
//!
//! # Work is bounded
//! A wake takes at most what the device had received when it came (the device gets its buffers back only
//! afterwards), and from the branes, in turns, at most [`QUANTUM`] bytes more of each than it has left from its last turn
//! before the next one's. A brane whose ring is full loses its frames after one look at an index: the cheapest drop there is,
//! so that a flood for one brane costs the others as little as can be. What the driver works for one brane is bounded by time
//! too ([`account`]): beyond that the brane's frames wait in its rings until the others have had their turns. Wakes for received frames together take about half of
//! the processor at most (`rx_throttle`); beyond that the device drops.
//!
//! # Who reaches whom
//! A vif on the wire is known by its VLAN and its address; branes on one NIC reach each other inside a VLAN. An end of a pair
//! reaches the other end alone: the wire and the switch do not know it. Its frames are checked in the device's buffers like
//! all others, so while the device has no room, pairs wait too. A vif that moves takes nothing of its old owner along: what was
//! received before is handed out or dropped before the new one is told, and what the old one has not yet sent is dropped.
#![cfg_attr(not(test), no_std)]

pub mod account;
mod bucket;
mod mac;
mod port;
pub mod rx_moderation;
pub mod rx_throttle;
mod source_guard;
mod switch;
mod transmit;
pub mod tx_offload;
mod vifs;
mod vlan;

pub use switch::{Flushed, Switch, SwitchCounters};

use brane_abi::port::{FrameMeta, MAX_FRAME};

/// Bytes that each brane gets in a round: as many as the longest frame has, so that each turn sends something.
pub const QUANTUM: usize = MAX_FRAME;
/// What a frame costs at least, in bytes: the shortest one on Ethernet (IEEE 802.3), its FCS included. It bounds the
/// records of a turn.
pub const MIN_COST: usize = 64;
/// Turns of everybody in one wake. On one processor no brane runs meanwhile, so it is the rings' size that ends the
/// work; this ends it where branes run on other processors.
pub const ROUNDS: u32 = 256;
/// Vifs of one driver.
pub const MAX_VIFS: usize = 64;
/// Branes of one driver, the ids of a protection domain's channels being its limit.
pub const MAX_BRANES: usize = 62;
/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const VLAN_TAG: usize = vlan::TAG;
/// Parts of a received frame at most.
pub const MAX_PARTS: usize = 32;
/// Frames that a device may have received and not yet given, at most.
pub const BACKLOG: u32 = 256;

/// What the switch needs of the NIC.
pub trait Device {
    /// Gives the next received frame to `deliver`: its meta, checked by the device's driver, and its bytes in one to
    /// [`MAX_PARTS`] parts, the first of which holds at least the Ethernet header. `false` when there is none. No more than
    /// [`BACKLOG`] in a row.
    ///
    /// Frames that make no sense are the device's own to drop and count.
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool;

    /// A buffer for a frame of `len` bytes ([`brane_abi::port::MAX_FRAME`] and a [`VLAN_TAG`] at most) which the branes
    /// cannot reach, or `None` while there is none.
    /// A second call without [`Self::send`] takes the first one back.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Sends the frame of `len` bytes in the buffer that [`Self::reserve`] gave last.
    fn send(&mut self, len: usize, meta: FrameMeta);

    /// Tells the device of the frames that were sent since the last call, if there are any.
    fn kick(&mut self);
}

/// A device that receives nothing and takes nothing: in the place of one that is not there.
pub struct Silent;

impl Device for Silent {
    fn receive(&mut self, _: impl FnOnce(FrameMeta, &[&[u8]])) -> bool {
        false
    }
    fn reserve(&mut self, _: usize) -> Option<&mut [u8]> {
        None
    }
    fn send(&mut self, _: usize, _: FrameMeta) {}
    fn kick(&mut self) {}
}

/// What the vifs' owners are told of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `FEATURE_*` of [`brane_abi::port`].
    pub features: u32,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether the wire is connected.
    pub up: bool,
}
