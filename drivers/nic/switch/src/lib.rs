//! The switch between one NIC and the branes' virtual interfaces (vifs). It decides which frames a vif may send, and
//! which vif receives a frame.
//!
//! It owns the vif table, the driver's side of every brane's port rings, and all counters. On one side is a [`Device`].
//! The number and the bytes of its received frames are trusted; the headers in them are not. On the other side are the
//! branes, which are not trusted: their frames are copied once and checked on that copy. A brane that violates the ring
//! protocol is quarantined until it restarts. The switch depends neither on the kernel nor on the device's registers,
//! so tests and fuzzing run on the host.
//!
//! # Work is bounded
//! A wake receives at most the frames that the device had when the wake began, because the device gets its buffers back
//! only afterwards. It sends the branes' frames in turns. In one turn, a brane sends at most [`QUANTUM`] bytes and the
//! bytes that its previous turn left over. If a brane's ring is full, its frames are dropped after one read of an
//! index. That is the cheapest drop possible, so a flood for one brane costs the others little. The time spent on one
//! brane is bounded too ([`account`]): above that bound its frames wait in its rings until the others have had their
//! turns. All wakes for received frames together use about half of the processor at most (`rx_throttle`); above that
//! the device drops.
//!
//! # Reachability
//! A vif on the wire is identified by its VLAN and its address; branes on one NIC reach each other inside a VLAN. An
//! end of a pair reaches only the other end: the wire and the other vifs cannot reach it. Frames of a pair are checked
//! in the device's buffers like all others, so pairs wait too while the device has no room. A vif that moves transfers
//! no frames to its new owner. Frames received before the move are delivered or dropped before the new owner is
//! informed, and frames that the old owner has not yet sent are dropped.
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

/// Bytes that each brane gets in a round: the length of the longest frame, so that each turn can send a frame.
pub const QUANTUM: usize = MAX_FRAME;
/// Minimum cost of a frame in bytes: the shortest Ethernet frame with its FCS (IEEE 802.3). It bounds the records of a
/// turn.
pub const MIN_COST: usize = 64;
/// Maximum number of rounds in one wake. On one processor no brane runs during the wake, so the rings' size ends the
/// work first. This bound is for branes on other processors.
pub const ROUNDS: u32 = 256;
/// Maximum number of vifs of one driver.
pub const MAX_VIFS: usize = 64;
/// Maximum number of branes of one driver, limited by the channel ids of a protection domain.
pub const MAX_BRANES: usize = 62;
/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const VLAN_TAG: usize = vlan::TAG;
/// Maximum number of parts of a received frame.
pub const MAX_PARTS: usize = 32;
/// Maximum number of frames that a device has received and not yet delivered.
pub const BACKLOG: u32 = 256;

/// The switch's view of the NIC.
pub trait Device {
    /// Passes the next received frame to `deliver`: its meta, checked by the device's driver, and its bytes in one to
    /// [`MAX_PARTS`] parts. The first part has at least the Ethernet header. Returns false if there is no frame. Passes
    /// at most [`BACKLOG`] frames in a row.
    ///
    /// The device drops and counts malformed frames itself.
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool;

    /// Returns a buffer for a frame of `len` bytes, which the branes cannot reach. `len` is at most
    /// [`brane_abi::port::MAX_FRAME`] and a [`VLAN_TAG`]. Returns `None` while no buffer is free. A second call without
    /// [`Self::send`] cancels the first.
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Sends the frame of `len` bytes in the buffer that [`Self::reserve`] returned last.
    fn send(&mut self, len: usize, meta: FrameMeta);

    /// Notifies the device of the frames sent since the last call, if there are any.
    fn kick(&mut self);
}

/// A device that receives and sends no frames. It stands in for a missing device.
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

/// State of the device as the owners of the vifs see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `FEATURE_*` of [`brane_abi::port`].
    pub features: u32,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// True if the wire is connected.
    pub up: bool,
}
