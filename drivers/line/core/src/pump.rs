//! Moves bytes between the device and the rings of the remote domain.
//!
//! Owns this domain's ends of the rings. The remote domain, on the other side, is not trusted: if its indices are impossible, the
//! rings are not used any more until this domain restarts.

use crate::device::VirtioConsole;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use virtio::memory::DmaRegion;
use virtio::queue::QueueNotify;
use virtio_drivers::transport::Transport;

/// The rings of the region `line-remote`.
pub struct Pump {
    /// To the remote domain.
    input: StreamProducer,
    /// From the remote domain.
    output: StreamConsumer,
    quarantined: bool,
}

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Bytes were written to, or read from, the rings: the remote domain must be notified.
    pub notify: bool,
    /// More bytes can be moved at once, without an interrupt or a notification.
    pub more: bool,
}

impl Pump {
    /// Creates the pump over these ends.
    pub fn new((input, output): (StreamProducer, StreamConsumer)) -> Pump {
        Pump {
            input,
            output,
            quarantined: false,
        }
    }

    /// Returns true if the remote domain has violated the protocol of the rings.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined
    }

    /// Moves bytes in both directions: at most as many as the device has buffers. Then it notifies the device.
    pub fn pass<R: DmaRegion, T: Transport, N: QueueNotify>(
        &mut self,
        device: &mut VirtioConsole<R, T, N>,
    ) -> Pass {
        if self.quarantined {
            return Pass::default();
        }
        let Pump {
            input,
            output,
            quarantined,
        } = self;
        device.control();
        let received = device.receive(|bytes| {
            input.write(bytes).unwrap_or_else(|_| {
                *quarantined = true;
                0
            })
        });
        let sent = device.send(|place| {
            output.read(place).unwrap_or_else(|_| {
                *quarantined = true;
                0
            })
        });
        device.kick();
        Pass {
            notify: received != 0 || sent != 0,
            more: self.has_more(device),
        }
    }

    /// Returns true if a pass can move bytes now. If not, an interrupt or a notification announces the next ones: the device
    /// interrupts for received bytes always, and for sent bytes if it has all buffers and the ring has bytes. The remote domain
    /// notifies when it has read or written.
    fn has_more<R: DmaRegion, T: Transport, N: QueueNotify>(
        &mut self,
        device: &mut VirtioConsole<R, T, N>,
    ) -> bool {
        let room = self.input.room().unwrap_or(0);
        let waiting = self.output.available().unwrap_or(0);
        let send = match waiting {
            0 => {
                device.wants_nothing_sent();
                false
            }
            _ => device.can_send(),
        };
        let receive = room != 0 && device.has_received();
        !self.quarantined && (send || receive)
    }
}
