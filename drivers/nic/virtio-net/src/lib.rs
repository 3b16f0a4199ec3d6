//! virtio-net (virtio 1.2, 5.1) on one pair of queues, over any transport.
//!
//! This crate owns the device's queues and the memory that the device may reach. On one side is the switch
//! ([`nic_switch::Device`]), which is trusted. On the other side is the device, which is trusted less than the driver's
//! own memory. It may write any number, length or header at any time, return a buffer twice, jump with its indices, or
//! never answer. Invalid frames are dropped and counted. A device that returns a buffer that it does not have has
//! failed ([`Failure`]): its queues are not used any more. No loop here is longer than the number of buffers that the
//! device had.
//!
//! The queues are those of the crate virtio-drivers, with the checks of the crate `virtio`. The rest is here, so that a received frame goes from the DMA buffers
//! straight into a brane's ring, and so that one notification covers a batch.
//!
//! The rings' flags suppress interrupts and notifications. `RING_EVENT_IDX` is not negotiated: with it, the queues would ask for
//! an interrupt at each completed transmission, and leave out notifications after a batch.
//!
//! The crate knows neither the kernel nor the PCI bus, so its tests run on the host against a fake device.
#![cfg_attr(not(test), no_std)]

mod device;
pub mod header;
pub mod memory;

pub use device::{Counters, Features, StartError, VirtioNet};
pub use virtio::queue::{Failure, QueueNotify};
