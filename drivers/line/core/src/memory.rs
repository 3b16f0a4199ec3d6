//! The memory that the device may reach, divided at compile time: the queues, then the receive buffers, the transmit buffers, and
//! those of control messages.
//! Nothing else lies in this memory.

use virtio::memory::{Buffer, DmaRegion};

/// Entries of each queue, and receive buffers. QEMU's device has 128.
pub const QUEUE: usize = 32;
/// Bytes of a receive buffer. The host sends requests, which are short.
pub const RX_BUFFER: usize = 4096;
/// Transmit buffers. Together they hold as much as the ring from the remote domain.
pub const TX_BUFFERS: usize = 16;
/// Bytes of a transmit buffer. QEMU writes each with one system call.
pub const TX_BUFFER: usize = 16 * 1024;

/// Entries of the control queues, and buffers of each.
pub const CONTROL: usize = 8;
/// Bytes of a control buffer. The messages that the driver reads or sends have 8 bytes.
pub const CONTROL_BUFFER: usize = 64;

/// Bytes at the start of the memory that queues may use.
pub const QUEUES: usize = 64 * 1024;
const RX: usize = QUEUES;
const TX: usize = RX + QUEUE * RX_BUFFER;
const CONTROL_RX: usize = TX + TX_BUFFERS * TX_BUFFER;
const CONTROL_TX: usize = CONTROL_RX + CONTROL * CONTROL_BUFFER;
/// Bytes of memory that the driver uses.
pub const SIZE: usize = CONTROL_TX + CONTROL * CONTROL_BUFFER;
const _: () = assert!(TX_BUFFERS <= QUEUE);

/// Returns receive buffer `i`.
pub(crate) fn rx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < QUEUE);
    Buffer::new(RX + i * RX_BUFFER, RX_BUFFER)
}

/// Returns transmit buffer `i`.
pub(crate) fn tx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < TX_BUFFERS);
    Buffer::new(TX + i * TX_BUFFER, TX_BUFFER)
}

/// Returns receive buffer `i` for control messages.
pub(crate) fn control_rx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < CONTROL);
    Buffer::new(CONTROL_RX + i * CONTROL_BUFFER, CONTROL_BUFFER)
}

/// Returns transmit buffer `i` for control messages.
pub(crate) fn control_tx<R: DmaRegion>(i: u16) -> Buffer<R> {
    let i = usize::from(i);
    assert!(i < CONTROL);
    Buffer::new(CONTROL_TX + i * CONTROL_BUFFER, CONTROL_BUFFER)
}
