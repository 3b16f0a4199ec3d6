//! The device: negotiation, the two queues with their buffers, and what the switch needs of it.

use crate::header::{self, HEADER, Header, Receive};
use crate::memory::{self, DmaRegion, LARGE, QUEUE, RX_BUFFER, SMALL, SMALL_BYTES};
use bitflags::bitflags;
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, MAX_FRAME};
use core::fmt;
use core::mem::ManuallyDrop;
use nic_switch::{BACKLOG, Device, ETHERNET_HEADER, Link, MAX_PARTS, VLAN_TAG};
use virtio::queue::{Failure, Queue, QueueNotify, Stack};
use virtio_drivers::transport::{DeviceStatus, InterruptStatus, Transport};
use zerocopy::{FromBytes, IntoBytes};

bitflags! {
    /// Feature bits (virtio 1.2, 5.1.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Completes checksums on transmit.
        const CSUM = 1 << 0;
        /// Received frames may come without a complete checksum.
        const GUEST_CSUM = 1 << 1;
        /// Has a MAC address.
        const MAC = 1 << 5;
        /// Received TCP over IPv4 may come in one piece.
        const GUEST_TSO4 = 1 << 7;
        /// Received TCP over IPv6 may come in one piece.
        const GUEST_TSO6 = 1 << 8;
        /// Segments TCP over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// Segments TCP over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// A received frame may fill several buffers.
        const MRG_RXBUF = 1 << 15;
        /// Reports whether the link is up.
        const STATUS = 1 << 16;
        /// Complies with virtio 1.
        const VERSION_1 = 1 << 32;
        /// May be behind an IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
    }
}

const RX: u16 = 0;
const TX: u16 = 1;
/// Offsets in the device's configuration (virtio 1.2, 5.1.4).
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const LINK_UP: u16 = 1;
/// Largest IP packet in bytes.
const MTU: u16 = 1500;
/// Buffers of the longest frame, and some more for a device that fills them badly.
const PARTS: usize = 2 * (MAX_FRAME + VLAN_TAG).div_ceil(RX_BUFFER);
const _: () = assert!(RX_BUFFER <= MAX_FRAME && PARTS <= MAX_PARTS && QUEUE <= BACKLOG as usize);
/// Counters of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames dropped: the header is invalid, or the frame is too short, too long or incomplete.
    pub rx_malformed: u64,
}

/// Why the device cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It does not agree to the features.
    Features(Features),
    /// A queue has fewer than [`QUEUE`] entries, or is in use.
    Queue(u16, virtio_drivers::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Features(features) => {
                write!(f, "the device does not agree to the features {features:?}")
            }
            StartError::Queue(queue, why) => {
                write!(
                    f,
                    "queue {queue} of the device cannot have {QUEUE} entries: {why}"
                )
            }
        }
    }
}

/// The device, ready for frames. `R` is its memory, `T` its registers, `N` notifies it.
pub struct VirtioNet<R: DmaRegion, T: Transport, N: QueueNotify> {
    /// Never dropped: dropping a PCI transport waits without bound for the device to reset itself.
    transport: ManuallyDrop<T>,
    notify: N,
    features: Features,
    rx: Queue<R, QUEUE>,
    tx: Queue<R, QUEUE>,
    /// Buffers that the device gets back at the end of the wake.
    empty: Stack<QUEUE>,
    small: Stack<SMALL>,
    large: Stack<LARGE>,
    reserved: Option<u16>,
    /// Frames were queued since the last notification.
    queued: bool,
    tx_interrupts: bool,
    failure: Option<Failure>,
    receive: Receive,
    /// A received frame may fill several buffers.
    merges: bool,
    counters: Counters,
}

impl<R: DmaRegion, T: Transport, N: QueueNotify> VirtioNet<R, T, N> {
    /// Starts the device, with all receive buffers.
    pub fn start(transport: T, notify: N) -> Result<Self, StartError> {
        let mut transport = ManuallyDrop::new(transport);
        let offered = Features::from_bits_truncate(transport.read_device_features());
        let mut wanted = Features::VERSION_1 | Features::MAC | Features::STATUS | Features::MRG_RXBUF;
        // A device behind an IOMMU starts only with this feature. The IOMMU does not change its addresses, because the
        // system description maps the DMA region to itself.
        wanted |= Features::ACCESS_PLATFORM;
        if offered.contains(Features::CSUM) {
            wanted |= Features::CSUM | Features::HOST_TSO4 | Features::HOST_TSO6;
        }
        if offered.contains(Features::GUEST_CSUM) {
            wanted |= Features::GUEST_CSUM;
            // A frame of 64 KiB needs several buffers.
            if offered.contains(Features::MRG_RXBUF) {
                wanted |= Features::GUEST_TSO4 | Features::GUEST_TSO6;
            }
        }
        let features: Features = transport.begin_init(wanted);
        if !features.contains(Features::VERSION_1)
            || !transport.get_status().contains(DeviceStatus::FEATURES_OK)
        {
            transport.set_status(DeviceStatus::FAILED);
            return Err(StartError::Features(features));
        }
        let rx = Queue::to_driver(&mut *transport, RX).map_err(|why| (RX, why));
        let queues = rx.and_then(|rx| {
            let tx = Queue::to_device(&mut *transport, TX).map_err(|why| (TX, why))?;
            Ok((rx, tx))
        });
        let (rx, mut tx) = queues.map_err(|(number, why)| {
            transport.set_status(DeviceStatus::FAILED);
            StartError::Queue(number, why)
        })?;
        tx.interrupts(false);
        transport.finish_init();
        let mut device = VirtioNet {
            transport,
            notify,
            features,
            rx,
            tx,
            empty: Stack::new(0),
            small: Stack::new(0),
            large: Stack::new(SMALL),
            reserved: None,
            queued: false,
            tx_interrupts: false,
            failure: None,
            receive: Receive {
                csum: features.contains(Features::GUEST_CSUM),
                tso4: features.contains(Features::GUEST_TSO4),
                tso6: features.contains(Features::GUEST_TSO6),
            },
            merges: features.contains(Features::MRG_RXBUF),
            counters: Counters::default(),
        };
        device.refill();
        Ok(device)
    }

    /// Returns the negotiated features.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Returns the device's counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns why the device is not used any more, if it has failed.
    #[inline]
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Returns what the branes need to know of the device. The link of a failed device is down.
    pub fn link(&self) -> Link {
        let has = |f| self.features.contains(f);
        let status: u16 = match has(Features::STATUS) {
            true => self.transport.read_config_space(CONFIG_STATUS).unwrap_or(0),
            false => LINK_UP,
        };
        Link {
            features: header::features(
                has(Features::CSUM),
                has(Features::HOST_TSO4),
                has(Features::HOST_TSO6),
            ),
            mtu: MTU,
            up: status & LINK_UP != 0 && self.failure.is_none(),
        }
    }

    /// Returns the device's own address; all zero if it has none.
    pub fn mac(&self) -> MacAddr {
        match self.features.contains(Features::MAC) {
            true => MacAddr(self.transport.read_config_space(CONFIG_MAC).unwrap_or([0; 6])),
            false => MacAddr([0; 6]),
        }
    }

    /// Reads why the device interrupted, which ends its request. Returns true if its configuration has changed:
    /// [`Self::link`] may differ, or the device has failed.
    pub fn interrupt_reason(&mut self) -> bool {
        let reason = self.transport.ack_interrupt();
        let changed = reason.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
        if changed
            && self
                .transport
                .get_status()
                .contains(DeviceStatus::DEVICE_NEEDS_RESET)
        {
            self.fail(Failure::NeedsReset);
        }
        changed
    }

    /// Turns interrupts for received frames on or off. Returns true if they are on and frames have come already.
    pub fn rx_interrupts(&mut self, on: bool) -> bool {
        self.rx.interrupts(on) && self.failure.is_none()
    }

    /// Turns interrupts for sent frames on or off. Returns true if they are on and some frames have been sent already.
    pub fn tx_interrupts(&mut self, on: bool) -> bool {
        if self.tx_interrupts != on {
            self.tx_interrupts = on;
            self.tx.interrupts(on);
        }
        on && self.tx.has_returned() && self.failure.is_none()
    }

    /// Gives the emptied receive buffers back to the device. Returns their number.
    pub fn refill(&mut self) -> usize {
        let count = self.empty.len();
        if count == 0 || self.failure.is_some() {
            return 0;
        }
        while let Some(buffer) = self.empty.pop() {
            // SAFETY: the stack contains buffers that the device does not have. No slice of this buffer lives until the
            // queue returns it.
            let given = unsafe { self.rx.give(buffer, memory::rx(buffer)) };
            // There are as many buffers as entries, so the queue cannot be full.
            if !given {
                break;
            }
        }
        self.rx.kick(&self.notify);
        count
    }

    /// Takes back the buffers of sent frames. Does at most as many as the device has.
    pub fn reclaim(&mut self) {
        // Ends: each pass removes one of the device's frames, and an unknown buffer number is a failure.
        while self.failure.is_none() {
            match self.tx.take(memory::tx) {
                Ok(Some((buffer, _))) => self.free(buffer),
                Ok(None) => return,
                Err(why) => return self.fail(why),
            }
        }
    }

    fn free(&mut self, buffer: u16) {
        if usize::from(buffer) < SMALL {
            self.small.push(buffer);
        } else {
            self.large.push(buffer);
        }
    }

    #[cold]
    fn fail(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }

    /// Takes the next received buffer. Returns its number and the bytes that the device claims to have written, bounded
    /// by the buffer.
    fn pop(&mut self) -> Option<(u16, usize)> {
        if self.failure.is_some() {
            return None;
        }
        match self.rx.take(memory::rx) {
            Ok(Some((buffer, len))) => {
                self.empty.push(buffer);
                Some((buffer, len.min(RX_BUFFER)))
            }
            Ok(None) => None,
            Err(why) => {
                self.fail(why);
                None
            }
        }
    }

    /// Takes all buffers of a frame that fills several. Returns its meta and parts, or `None` if the frame is invalid.
    #[cold]
    fn long_frame<'a>(
        &mut self,
        header: &Header,
        first: &'static [u8],
        parts: &'a mut [&'static [u8]; PARTS],
    ) -> Option<(FrameMeta, &'a [&'static [u8]])> {
        parts[0] = first;
        let mut len = first.len();
        let mut n = 1;
        for _ in 1..header.num_buffers {
            // The device makes all buffers of a frame visible at once. If one is missing, the header lied.
            let next = received::<R>(self.pop()?);
            len += next.len();
            if let Some(place) = parts.get_mut(n) {
                *place = next;
            }
            n += 1;
        }
        if n > PARTS || parts[0].len() < ETHERNET_HEADER || len > MAX_FRAME {
            // A frame of the greatest length may also have a VLAN tag, which the switch removes.
            let tagged = len <= MAX_FRAME + VLAN_TAG && parts[0].get(12..14) == Some(&[0x81, 0]);
            if n > PARTS || !tagged {
                return None;
            }
        }
        let meta = header::parse(header, len, self.receive)?;
        Some((meta, &parts[..n]))
    }
}

/// Returns the bytes of a buffer that [`VirtioNet::pop`] took.
#[inline]
fn received<R: DmaRegion>((buffer, len): (u16, usize)) -> &'static [u8] {
    // SAFETY: the queue has returned the buffer. It gets it back only in `refill`, at the end of the wake, when no
    // slice lives. If a device still writes there, it changes bytes of a frame that it could have delivered with these
    // bytes in the first place. The header is read once, and the length is not in the buffer.
    unsafe { memory::rx::<R>(buffer).first(len).bytes() }
}

impl<R: DmaRegion, T: Transport, N: QueueNotify> Device for VirtioNet<R, T, N> {
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool {
        let Some(first) = self.pop() else {
            return false;
        };
        let Ok((header, rest)) = Header::read_from_prefix(received::<R>(first)) else {
            self.counters.rx_malformed += 1;
            return true;
        };
        if header.num_buffers > 1 && self.merges {
            let mut parts: [&'static [u8]; PARTS] = [&[]; PARTS];
            match self.long_frame(&header, rest, &mut parts) {
                Some((meta, parts)) => deliver(meta, parts),
                None => self.counters.rx_malformed += 1,
            }
            return true;
        }
        // One buffer is shorter than the longest frame. `parse` rejects frames that are too short.
        match header::parse(&header, rest.len(), self.receive) {
            Some(meta) => deliver(meta, &[rest]),
            None => self.counters.rx_malformed += 1,
        }
        true
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if let Some(buffer) = self.reserved.take() {
            self.free(buffer);
        }
        if self.failure.is_some() {
            return None;
        }
        let buffer = match len + HEADER <= SMALL_BYTES {
            true => self.small.pop().or_else(|| self.large.pop()),
            false => self.large.pop(),
        }?;
        self.reserved = Some(buffer);
        // SAFETY: the buffer was on a stack of free ones, so neither the device nor another slice has it. The returned slice
        // ends before the next call.
        unsafe { memory::tx::<R>(buffer).bytes_mut().get_mut(HEADER..HEADER + len) }
    }

    fn send(&mut self, len: usize, meta: FrameMeta) {
        let Some(buffer) = self.reserved.take() else {
            return;
        };
        // SAFETY: `reserve` took the buffer from the free ones. From `give` until `reclaim` it is the device's.
        let given = unsafe {
            let header_place = memory::tx::<R>(buffer).first(HEADER).bytes_mut();
            header_place.copy_from_slice(header::build(&meta).as_bytes());
            self.tx.give(buffer, memory::tx(buffer).first(HEADER + len))
        };
        // There are fewer buffers than entries, so the queue cannot be full.
        match given {
            true => self.queued = true,
            false => self.free(buffer),
        }
    }

    fn kick(&mut self) {
        if core::mem::take(&mut self.queued) {
            self.tx.kick(&self.notify);
        }
    }
}
