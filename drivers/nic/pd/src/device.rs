//! What the driver domain needs of a NIC of any family. A family is a module that implements [`NetDevice`]: `virtio` is the
//! first one. The driver is generic over it, so that no call on a frame's way is indirect.

use brane_abi::net::MacAddr;
use core::fmt::{Debug, Display};
use nic_switch::{Device, Link};

/// A NIC: the switch's [`Device`] with its link, its interrupts and its buffers. The device behind it is not trusted: each
/// method does a bounded amount of work, whatever the device answers.
pub trait NetDevice: Device + Sized {
    /// The family's name, for the log.
    const FAMILY: &str;
    /// Frames that a wake can take at most: the receive buffers that the device has.
    const RX_BUFFERS: u32;

    /// Finds and starts the device. Returns `Ok(None)` if the machine has none, and why if it cannot be used.
    fn open() -> Result<Option<Self>, impl Display>;

    /// Returns what the branes need to know of the device.
    fn link(&self) -> Link;

    /// Returns the device's own address; all zero if it has none.
    fn mac(&self) -> MacAddr;

    /// Returns the negotiated features, for the log.
    fn features(&self) -> impl Debug;

    /// Returns the number of received frames that were dropped because they are invalid.
    fn rx_malformed(&self) -> u64;

    /// Returns why the device is not used any more, if it has failed.
    fn failure(&self) -> Option<impl Display>;

    /// Reads why the device interrupted, which ends its request. Returns true if the link may have changed.
    fn interrupt_reason(&mut self) -> bool;

    /// Turns interrupts for received frames on or off. Returns true if they are on and frames have come already.
    fn rx_interrupts(&mut self, on: bool) -> bool;

    /// Turns interrupts for sent frames on or off. Returns true if they are on and some frames have been sent already.
    fn tx_interrupts(&mut self, on: bool) -> bool;

    /// Gives the emptied receive buffers back to the device. Returns their number.
    fn refill(&mut self) -> usize;

    /// Takes back the buffers of sent frames.
    fn reclaim(&mut self);
}
