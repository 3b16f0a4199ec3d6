//! The control line over virtio-console (virtio 1.2, 5.3), without a kernel: the device with its buffers ([`device`]), and the
//! transport of bytes between it and the rings of the remote domain ([`pump`]).
//!
//! On one side is the device, on the other the domain `remote`. Neither is trusted, and this domain is trusted by neither: the
//! frames on the line have checksums, and their contents are checked where they are decoded. The device can only reach the DMA
//! region. What it writes there about buffers (numbers, lengths) is checked; the bytes in the buffers pass unread.
//!
//! Nothing here waits. If the program on the host does not read, the device keeps the buffers, the ring to it fills, and `remote`
//! finds no room. If `remote` does not read, received bytes stay in the buffers, and the device has none to write to.
//!
//! The crate virtio-drivers has a driver for the console, but that waits in a loop until the device has sent each byte sequence.
//! So only its transport and its queues are used.
#![cfg_attr(not(test), no_std)]

pub mod control;
pub mod device;
pub mod memory;
pub mod pump;
