//! The device: negotiation, and the receive and transmit queues of its port 1, with their buffers.
//!
//! Port 0 is a console, and QEMU drops what its program on the host does not read in time. The other ports have flow control: the
//! device keeps the buffers. They exist with the feature `MULTIPORT` alone, whose control messages are in [`crate::control`].
//!
//! The device is not trusted. If it returns a buffer that it does not have, it is not used any more ([`Failure`]). A length that
//! exceeds the buffer is cut off. No loop here is longer than the number of buffers that the device had.

use crate::control::Control;
use crate::memory::{self, QUEUE, RX_BUFFER, TX_BUFFERS};
use bitflags::bitflags;
use core::fmt;
use core::mem::ManuallyDrop;
use virtio::memory::DmaRegion;
pub use virtio::queue::{Failure, QueueNotify};
use virtio::queue::{Queue, Stack};
use virtio_drivers::transport::{DeviceStatus, InterruptStatus, Transport};

bitflags! {
    /// Feature bits (virtio 1.2, 5.3.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Has several ports and control queues.
        const MULTIPORT = 1 << 1;
        /// Complies with virtio 1.
        const VERSION_1 = 1 << 32;
        /// May be behind an IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
    }
}

/// Number of the port that carries the line.
pub const PORT: u32 = 1;
/// Number of the receive queue of the port (virtio 1.2, 5.3.2).
pub const RX: u16 = 4;
/// Number of its transmit queue.
pub const TX: u16 = 5;
/// Number of the queues up to the last one that is used.
pub const QUEUES: usize = TX as usize + 1;

/// Why the device cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It does not agree to the features.
    Features(Features),
    /// A queue has fewer entries than the driver uses, or is in use.
    Queue(u16, virtio_drivers::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Features(features) => {
                write!(f, "the device does not agree to the features {features:?}")
            }
            StartError::Queue(queue, why) => {
                write!(f, "queue {queue} of the device cannot be used: {why}")
            }
        }
    }
}

/// A received buffer, and the range of its bytes that were not passed on yet.
struct Received {
    buffer: u16,
    from: usize,
    to: usize,
}

/// The device. `R` is its memory, `T` its registers, `N` notifies it.
pub struct VirtioConsole<R: DmaRegion, T: Transport, N: QueueNotify> {
    /// Never dropped: dropping a PCI transport waits without bound for the device to reset itself.
    transport: ManuallyDrop<T>,
    notify: N,
    rx: Queue<R, QUEUE>,
    tx: Queue<R, QUEUE>,
    control: Control<R>,
    received: Option<Received>,
    /// Transmit buffers that the device does not have.
    free: Stack<TX_BUFFERS>,
    /// Receive buffers were given back since the last notification.
    refilled: bool,
    /// Bytes were queued since the last notification.
    queued: bool,
    failure: Option<Failure>,
}

impl<R: DmaRegion, T: Transport, N: QueueNotify> VirtioConsole<R, T, N> {
    /// Starts the device, with all receive buffers.
    pub fn start(transport: T, notify: N) -> Result<Self, StartError> {
        let mut transport = ManuallyDrop::new(transport);
        // A device behind an IOMMU starts only with ACCESS_PLATFORM. The IOMMU does not change its addresses, because the system
        // description maps the DMA region to itself.
        let features: Features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1 | Features::MULTIPORT)
            || !transport.get_status().contains(DeviceStatus::FEATURES_OK)
        {
            transport.set_status(DeviceStatus::FAILED);
            return Err(StartError::Features(features));
        }
        let mut queues = || {
            let control = Control::new(&mut *transport)?;
            let rx = Queue::to_driver(&mut *transport, RX).map_err(|why| (RX, why))?;
            let tx = Queue::to_device(&mut *transport, TX).map_err(|why| (TX, why))?;
            Ok((control, rx, tx))
        };
        let (control, rx, mut tx) = queues().map_err(|(number, why)| {
            transport.set_status(DeviceStatus::FAILED);
            StartError::Queue(number, why)
        })?;
        tx.interrupts(false);
        transport.finish_init();
        let mut device = VirtioConsole {
            transport,
            notify,
            rx,
            tx,
            control,
            received: None,
            free: Stack::new(0),
            refilled: false,
            queued: false,
            failure: None,
        };
        for buffer in 0..QUEUE as u16 {
            device.give_back(buffer);
        }
        device.control.start(&device.notify);
        device.kick();
        Ok(device)
    }

    /// Returns why the device is not used any more, if it has failed.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Reads why the device interrupted, which ends its request.
    pub fn acknowledge(&mut self) {
        let reason = self.transport.ack_interrupt();
        if reason.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT)
            && self
                .transport
                .get_status()
                .contains(DeviceStatus::DEVICE_NEEDS_RESET)
        {
            self.fail(Failure::NeedsReset);
        }
    }

    fn fail(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }

    /// Handles the control messages that have arrived: opens the port when the device has added it.
    pub fn control(&mut self) {
        if self.failure.is_none()
            && let Err(why) = self.control.work(&self.notify)
        {
            self.fail(why);
        }
    }

    /// Gives a receive buffer to the device.
    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the device does not have the buffer: it is new, or `receive` has taken it from the queue and has ended its slice.
        self.refilled |= unsafe { self.rx.give(buffer, memory::rx(buffer)) };
    }

    /// Passes received bytes to `sink`, which returns how many it took. Ends when it takes fewer than offered, when no bytes are
    /// left, or after as many buffers as the device has. Returns the number of bytes taken.
    pub fn receive(&mut self, mut sink: impl FnMut(&[u8]) -> usize) -> usize {
        let mut all = 0;
        // A device that fills buffers while this loop runs cannot prolong it.
        for _ in 0..QUEUE {
            let Some(Received { buffer, from, to }) = self.received.take().or_else(|| self.next()) else {
                break;
            };
            // SAFETY: the queue has returned the buffer, and it gets it back below, after this slice. If a device still writes
            // there, it changes bytes that it could have delivered in the first place: they pass unread.
            let bytes = unsafe { memory::rx::<R>(buffer).first(to).bytes() };
            let bytes = bytes.get(from..).unwrap_or_default();
            let taken = sink(bytes).min(bytes.len());
            all += taken;
            if taken < bytes.len() {
                let from = from + taken;
                self.received = Some(Received { buffer, from, to });
                break;
            }
            self.give_back(buffer);
        }
        all
    }

    /// Takes the next received buffer.
    fn next(&mut self) -> Option<Received> {
        if self.failure.is_some() {
            return None;
        }
        match self.rx.take(memory::rx) {
            Ok(Some((buffer, len))) => Some(Received {
                buffer,
                from: 0,
                to: len.min(RX_BUFFER),
            }),
            Ok(None) => None,
            Err(why) => {
                self.fail(why);
                None
            }
        }
    }

    /// Returns true if received bytes have not been passed on.
    pub fn has_received(&self) -> bool {
        self.failure.is_none() && (self.received.is_some() || self.rx.has_returned())
    }

    /// Takes back the buffers that the device has sent. Does at most as many as the device has.
    fn reclaim(&mut self) {
        // Ends: each pass removes one of the device's buffers, and an unknown buffer number is a failure.
        while self.failure.is_none() {
            match self.tx.take(memory::tx) {
                Ok(Some((buffer, _))) => self.free.push(buffer),
                Ok(None) => return,
                Err(why) => return self.fail(why),
            }
        }
    }

    /// Lets `source` fill transmit buffers and queues them. `source` returns the number of bytes that it wrote. Ends when it writes
    /// none, or no buffer is free. Returns the number of bytes queued. [`Self::kick`] notifies the device.
    pub fn send(&mut self, mut source: impl FnMut(&mut [u8]) -> usize) -> usize {
        self.reclaim();
        let mut all = 0;
        while self.failure.is_none()
            && let Some(buffer) = self.free.pop()
        {
            // SAFETY: the buffer was on the stack of free ones, so neither the device nor another slice has it. The slice ends
            // before the queue gets the buffer.
            let place = unsafe { memory::tx::<R>(buffer).bytes_mut() };
            let count = source(place).min(place.len());
            // SAFETY: the slice has ended, and the device does not have the buffer.
            if count == 0 || !unsafe { self.tx.give(buffer, memory::tx(buffer).first(count)) } {
                self.free.push(buffer);
                break;
            }
            self.queued = true;
            all += count;
        }
        all
    }

    /// Returns true if bytes can be queued: a buffer is free, or the device has returned one. If not, the device interrupts when it
    /// returns one. The interrupt is off otherwise, because sent bytes alone are no reason to wake.
    pub fn can_send(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let wait = self.free.is_empty();
        let returned = self.tx.interrupts(wait);
        !wait || returned
    }

    /// Turns the interrupt for sent bytes off.
    pub fn wants_nothing_sent(&mut self) {
        self.tx.interrupts(false);
    }

    /// Notifies the device of the buffers that were queued and given back.
    pub fn kick(&mut self) {
        if core::mem::take(&mut self.queued) {
            self.tx.kick(&self.notify);
        }
        if core::mem::take(&mut self.refilled) {
            self.rx.kick(&self.notify);
        }
    }
}
