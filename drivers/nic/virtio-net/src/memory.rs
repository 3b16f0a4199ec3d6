//! The memory that the device may reach, divided at compile time.
//!
//! The queues come first. The receive buffers follow, then the transmit buffers: many for ordinary frames, some for
//! frames of up to 64 KiB. Nothing else lies in this memory. On the other side is the device, which is not trusted and
//! can write anywhere in it at any time. The driver copies or bounds the bytes that the device wrote before it uses
//! them.

use brane_abi::port::MAX_FRAME;
use nic_switch::VLAN_TAG;
use virtio::memory::Buffer;
pub use virtio::memory::DmaRegion;

use crate::header::HEADER;

/// Receive buffers, and entries of each queue.
pub const QUEUE: usize = 256;
/// Bytes of a receive buffer.
pub const RX_BUFFER: usize = 8192;
/// Transmit buffers for ordinary frames.
pub const SMALL: usize = 128;
/// Bytes of each of them.
pub const SMALL_BYTES: usize = 2048;
/// Transmit buffers for frames of any length.
pub const LARGE: usize = 24;
/// Bytes of each of them.
pub const LARGE_BYTES: usize = 68 * 1024;

/// Bytes at the start of the memory that queues may use.
pub const QUEUES: usize = 64 * 1024;
const RX: usize = QUEUES;
const TX_SMALL: usize = RX + QUEUE * RX_BUFFER;
const TX_LARGE: usize = TX_SMALL + SMALL * SMALL_BYTES;
/// Bytes of memory that the driver uses.
pub const SIZE: usize = TX_LARGE + LARGE * LARGE_BYTES;
const _: () = assert!(SMALL + LARGE <= QUEUE && LARGE_BYTES >= HEADER + VLAN_TAG + MAX_FRAME);

/// Returns receive buffer `i`.
#[inline]
pub(crate) fn rx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < QUEUE);
    Buffer::new(RX + i * RX_BUFFER, RX_BUFFER)
}

/// Returns transmit buffer `i`. The small ones come first.
#[inline]
pub(crate) fn tx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < SMALL + LARGE);
    if i < SMALL {
        Buffer::new(TX_SMALL + i * SMALL_BYTES, SMALL_BYTES)
    } else {
        Buffer::new(TX_LARGE + (i - SMALL) * LARGE_BYTES, LARGE_BYTES)
    }
}
