//! Control messages of the device (virtio 1.2, 5.3.6.2): the driver is ready, the device has added a port, the port is open.
//!
//! The device is not trusted. The driver opens its one port once, however often the device adds it, and ignores all other messages.
//! In one call it handles at most as many messages as there are buffers.

use crate::device::PORT;
use crate::memory::{self, CONTROL};
use virtio::memory::DmaRegion;
use virtio::queue::{Failure, Queue, QueueNotify};
use virtio_drivers::Error;
use virtio_drivers::transport::Transport;

/// Number of the queue of messages from the device.
pub const CONTROL_RX: u16 = 2;
/// Number of the queue of messages to the device.
pub const CONTROL_TX: u16 = 3;

/// The driver is ready for control messages.
const DEVICE_READY: u16 = 0;
/// The device has added the port.
const PORT_ADD: u16 = 1;
/// The driver can use the port.
const PORT_READY: u16 = 3;
/// The port is open at the sender's end.
const PORT_OPEN: u16 = 6;

/// A message: port, event and value, little endian.
fn message(port: u32, event: u16) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&port.to_le_bytes());
    bytes[4..6].copy_from_slice(&event.to_le_bytes());
    bytes[6..].copy_from_slice(&1u16.to_le_bytes());
    bytes
}

/// The control queues.
pub(crate) struct Control<R: DmaRegion> {
    rx: Queue<R, CONTROL>,
    tx: Queue<R, CONTROL>,
    /// Transmit buffers used. Each is used once: the driver sends three messages in all.
    sent: u16,
    opened: bool,
}

impl<R: DmaRegion> Control<R> {
    /// Creates the queues. If one is refused, returns its number and the reason.
    pub(crate) fn new(transport: &mut impl Transport) -> Result<Self, (u16, Error)> {
        let rx = Queue::to_driver(transport, CONTROL_RX).map_err(|why| (CONTROL_RX, why))?;
        let mut tx = Queue::to_device(transport, CONTROL_TX).map_err(|why| (CONTROL_TX, why))?;
        tx.interrupts(false);
        Ok(Control {
            rx,
            tx,
            sent: 0,
            opened: false,
        })
    }

    /// Gives the device all receive buffers, and tells it that the driver is ready.
    pub(crate) fn start(&mut self, notify: &impl QueueNotify) {
        for buffer in 0..CONTROL as u16 {
            self.give_back(buffer);
        }
        self.rx.kick(notify);
        self.send(message(u32::MAX, DEVICE_READY));
        self.tx.kick(notify);
    }

    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the device does not have the buffer: it is new, or `work` has taken it from the queue and has copied its bytes.
        // There are as many buffers as entries, so the queue cannot be full.
        let _ = unsafe { self.rx.give(buffer, memory::control_rx(buffer)) };
    }

    fn send(&mut self, message: [u8; 8]) {
        if usize::from(self.sent) >= CONTROL {
            return;
        }
        let place = || memory::control_tx::<R>(self.sent).first(message.len());
        // SAFETY: the buffer was never used before, so the device does not have it. The slice ends before `give`.
        unsafe {
            place().bytes_mut().copy_from_slice(&message);
            self.tx.give(self.sent, place());
        }
        self.sent += 1;
    }

    /// Handles the messages that have arrived.
    pub(crate) fn work(&mut self, notify: &impl QueueNotify) -> Result<(), Failure> {
        let mut taken = false;
        for _ in 0..CONTROL {
            let Some((buffer, len)) = self.rx.take(memory::control_rx)? else {
                break;
            };
            taken = true;
            // SAFETY: the queue has returned the buffer, and gets it back below. The bytes are copied once, before they are checked.
            let copy: [u8; 8] = unsafe {
                let bytes = memory::control_rx::<R>(buffer).bytes();
                *bytes.first_chunk().unwrap_or(&[0; 8])
            };
            self.give_back(buffer);
            if len >= 8 && copy[..6] == message(PORT, PORT_ADD)[..6] && !self.opened {
                self.opened = true;
                self.send(message(PORT, PORT_READY));
                self.send(message(PORT, PORT_OPEN));
                self.tx.kick(notify);
            }
        }
        if taken {
            self.rx.kick(notify);
        }
        Ok(())
    }
}
