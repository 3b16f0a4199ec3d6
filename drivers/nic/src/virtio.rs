//! virtio-net (virtio 1.2, 5.1) on one pair of queues.
//!
//! The queues are those of the crate virtio-drivers; the device logic is here, so that a received frame goes from the
//! DMA buffers straight into a brane's ring, and so that one notification covers a batch. The device is trusted less
//! than our own memory: buffer numbers, lengths and headers that it writes are checked; nonsense is dropped and
//! counted, and a queue that returns what it does not have is no longer used.
//!
//! Interrupts and notifications are suppressed by the rings' flags. `RING_EVENT_IDX` is not taken: the queues would
//! then ask for an interrupt at every completed transmission, and leave out notifications after a batch.

use crate::dma::{Buffer, LARGE, Memory, QUEUE, RX_BUFFER, SMALL, SMALL_BYTES};
use crate::pci::{self, Kick};
use bitflags::bitflags;
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, MAX_FRAME};
use core::sync::atomic::{Ordering, fence};
use nic_core::header::{self, HEADER, Header, Receive};
use nic_core::{BACKLOG, Device, ETHERNET_HEADER, MAX_PARTS, VLAN_TAG};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, InterruptStatus, Transport};
use zerocopy::{FromBytes, IntoBytes};

bitflags! {
    /// Feature bits (virtio 1.2, 5.1.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        const CSUM = 1 << 0;
        const GUEST_CSUM = 1 << 1;
        const MAC = 1 << 5;
        const GUEST_TSO4 = 1 << 7;
        const GUEST_TSO6 = 1 << 8;
        const HOST_TSO4 = 1 << 11;
        const HOST_TSO6 = 1 << 12;
        const MRG_RXBUF = 1 << 15;
        const STATUS = 1 << 16;
        const VERSION_1 = 1 << 32;
        const ACCESS_PLATFORM = 1 << 33;
    }
}

const RX: u16 = 0;
const TX: u16 = 1;
/// Offsets in the device's configuration (virtio 1.2, 5.1.4).
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const LINK_UP: u16 = 1;
/// Buffers of the longest frame, and some more for a device that fills them badly.
const PARTS: usize = 2 * (MAX_FRAME + VLAN_TAG).div_ceil(RX_BUFFER);
const _: () = assert!(RX_BUFFER <= MAX_FRAME && PARTS <= MAX_PARTS && QUEUE <= BACKLOG as usize);
/// No buffer.
const NONE: u16 = u16::MAX;

/// What the device counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Frames dropped: the header makes no sense, or the frame is too short, too long or incomplete.
    pub rx_malformed: u64,
    /// Buffers that the device returned without having them.
    pub errors: u64,
}

/// The device, ready for frames.
pub struct VirtioNet {
    transport: PciTransport,
    kicks: [Kick; 2],
    features: Features,
    rx: VirtQueue<Memory, QUEUE>,
    tx: VirtQueue<Memory, QUEUE>,
    /// Buffer of each descriptor that the device has.
    rx_buffers: [u16; QUEUE],
    tx_buffers: [u16; QUEUE],
    /// Buffers that the device gets back at the end of the wake.
    empty: Stack<QUEUE>,
    small: Stack<SMALL>,
    large: Stack<LARGE>,
    reserved: Option<u16>,
    /// Frames queued since the last notification.
    queued: bool,
    tx_interrupts: bool,
    /// The queues return what they do not have: not to be used.
    broken: bool,
    receive: Receive,
    /// A received frame may fill several buffers.
    merges: bool,
    counters: Counters,
}

/// Numbers of free buffers, the last one freed first out.
struct Stack<const N: usize> {
    items: [u16; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    fn new(first: usize) -> Self {
        Self {
            items: core::array::from_fn(|i| (first + i) as u16),
            len: N,
        }
    }
    fn push(&mut self, item: u16) {
        if let Some(place) = self.items.get_mut(self.len) {
            *place = item;
            self.len += 1;
        }
    }
    fn pop(&mut self) -> Option<u16> {
        self.len = self.len.checked_sub(1)?;
        self.items.get(self.len).copied()
    }
}

impl VirtioNet {
    /// Finds and starts the device; `None` where there is none. Panics, with the reason, where it cannot be used.
    pub fn start() -> Option<VirtioNet> {
        let (mut transport, kicks) = pci::open()?;
        let offered = Features::from_bits_truncate(transport.read_device_features());
        let mut wanted = Features::VERSION_1 | Features::MAC | Features::STATUS | Features::MRG_RXBUF;
        // A device behind an IOMMU starts only with this. The addresses that it gets are the same with and without: the
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
        assert!(
            features.contains(Features::VERSION_1)
                && transport.get_status().contains(DeviceStatus::FEATURES_OK),
            "the device does not agree to the features {features:?}"
        );
        let rx = VirtQueue::new(&mut transport, RX, false, false)
            .unwrap_or_else(|e| panic!("the device's receive queue has no {QUEUE} entries: {e}"));
        let mut tx = VirtQueue::new(&mut transport, TX, false, false)
            .unwrap_or_else(|e| panic!("the device's transmit queue has no {QUEUE} entries: {e}"));
        tx.set_dev_notify(false);
        transport.finish_init();
        let mut device = VirtioNet {
            transport,
            kicks,
            features,
            rx,
            tx,
            rx_buffers: [NONE; QUEUE],
            tx_buffers: [NONE; QUEUE],
            empty: Stack::new(0),
            small: Stack::new(0),
            large: Stack::new(SMALL),
            reserved: None,
            queued: false,
            tx_interrupts: false,
            broken: false,
            receive: Receive {
                csum: features.contains(Features::GUEST_CSUM),
                tso4: features.contains(Features::GUEST_TSO4),
                tso6: features.contains(Features::GUEST_TSO6),
            },
            merges: features.contains(Features::MRG_RXBUF),
            counters: Counters::default(),
        };
        device.refill();
        Some(device)
    }

    /// What was negotiated.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Counters of the device.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the branes are told.
    pub fn link(&self) -> nic_core::Link {
        let has = |f| self.features.contains(f);
        let status: u16 = match has(Features::STATUS) {
            true => self.transport.read_config_space(CONFIG_STATUS).unwrap_or(0),
            false => LINK_UP,
        };
        nic_core::Link {
            features: header::features(
                has(Features::CSUM),
                has(Features::HOST_TSO4),
                has(Features::HOST_TSO6),
            ),
            mtu: 1500,
            up: status & LINK_UP != 0,
        }
    }

    /// The device's own address; all zero where it has none.
    pub fn mac(&self) -> MacAddr {
        match self.features.contains(Features::MAC) {
            true => MacAddr(self.transport.read_config_space(CONFIG_MAC).unwrap_or([0; 6])),
            false => MacAddr([0; 6]),
        }
    }

    /// Reads why the device interrupted, which ends its request. `true` when the configuration (the link) changed.
    pub fn interrupt_reason(&mut self) -> bool {
        self.transport
            .ack_interrupt()
            .contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT)
    }

    /// Asks for interrupts for received frames, or for none. Returns whether there are frames already.
    pub fn rx_interrupts(&mut self, on: bool) -> bool {
        self.rx.set_dev_notify(on);
        if !on {
            return false;
        }
        // The request must be visible to the device before the look at the ring: one of the two sees the other's.
        fence(Ordering::SeqCst);
        self.rx.can_pop() && !self.broken
    }

    /// Asks for interrupts for sent frames, or for none. Returns whether some are done already.
    pub fn tx_interrupts(&mut self, on: bool) -> bool {
        if self.tx_interrupts != on {
            self.tx_interrupts = on;
            self.tx.set_dev_notify(on);
            fence(Ordering::SeqCst);
        }
        on && self.tx.can_pop() && !self.broken
    }

    /// Gives the emptied buffers back to the device; how many.
    pub fn refill(&mut self) -> usize {
        let count = self.empty.len;
        if count == 0 || self.broken {
            return 0;
        }
        while let Some(buffer) = self.empty.pop() {
            // SAFETY: the buffer is on the stack of those that the device does not have, and is not looked at until
            // the queue returns it.
            let token = unsafe {
                let bytes = Buffer::rx(usize::from(buffer)).bytes_mut();
                self.rx.add(&[], &mut [bytes])
            };
            match token {
                Ok(token) => self.rx_buffers[usize::from(token) % QUEUE] = buffer,
                // As many buffers as entries: cannot be full.
                Err(_) => break,
            }
        }
        // The ring's index must be visible before the look at the device's wish.
        fence(Ordering::SeqCst);
        if self.rx.should_notify() {
            self.kicks[usize::from(RX)].kick();
        }
        count
    }

    /// Takes the buffers of sent frames back.
    pub fn reclaim(&mut self) {
        // Ends: each turn takes one of the frames that the device has.
        while !self.broken
            && let Some(token) = self.tx.peek_used()
        {
            let buffer = match self.tx_buffers.get_mut(usize::from(token)) {
                Some(place) if *place != NONE => core::mem::replace(place, NONE),
                _ => return self.give_up(),
            };
            // SAFETY: this buffer was added under this token (`tx_buffers`) and has not been returned since.
            let done = unsafe {
                let bytes = Buffer::tx(usize::from(buffer)).bytes();
                self.tx.pop_used(token, &[bytes], &mut [])
            };
            if done.is_err() {
                return self.give_up();
            }
            self.free(buffer);
        }
    }

    fn free(&mut self, buffer: u16) {
        if usize::from(buffer) < SMALL {
            self.small.push(buffer);
        } else {
            self.large.push(buffer);
        }
    }

    fn give_up(&mut self) {
        self.counters.errors += 1;
        self.broken = true;
        sel4_microkit::logln!("the device returns buffers that it does not have; it is not used any more");
    }

    /// The next received buffer: its number and how many bytes the device says it wrote, bounded.
    fn pop(&mut self) -> Option<(u16, usize)> {
        if self.broken {
            return None;
        }
        let token = self.rx.peek_used()?;
        let buffer = match self.rx_buffers.get_mut(usize::from(token)) {
            Some(place) if *place != NONE => core::mem::replace(place, NONE),
            _ => {
                self.give_up();
                return None;
            }
        };
        // SAFETY: this buffer was added under this token (`rx_buffers`) and has not been returned since.
        let len = unsafe {
            let bytes = Buffer::rx(usize::from(buffer)).bytes_mut();
            self.rx.pop_used(token, &[], &mut [bytes])
        };
        match len {
            Ok(len) => {
                self.empty.push(buffer);
                Some((buffer, (len as usize).min(RX_BUFFER)))
            }
            Err(_) => {
                self.give_up();
                None
            }
        }
    }

    /// The header and the parts of a frame of several buffers, all of which are taken.
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
            // The device makes all buffers of a frame visible at once; none left: it lied.
            let next = received(self.pop()?);
            len += next.len();
            if let Some(place) = parts.get_mut(n) {
                *place = next;
            }
            n += 1;
        }
        if n > PARTS || parts[0].len() < ETHERNET_HEADER || len > MAX_FRAME {
            // The longest frame may have a tag on top, which no brane sees.
            let tagged = len <= MAX_FRAME + VLAN_TAG && parts[0].get(12..14) == Some(&[0x81, 0]);
            if n > PARTS || !tagged {
                return None;
            }
        }
        let meta = header::parse(header, len, self.receive)?;
        Some((meta, &parts[..n]))
    }
}

/// The bytes of a buffer that [`VirtioNet::pop`] gave.
#[inline]
fn received((buffer, len): (u16, usize)) -> &'static [u8] {
    // SAFETY: the queue has returned the buffer and gets it back only in `refill`, at the end of the wake, when
    // no slice is alive. A device that writes to it all the same changes bytes of a frame that it could
    // have sent so in the first place: its header is read once, and lengths are not in it.
    unsafe { Buffer::rx(usize::from(buffer)).first(len).bytes() }
}

impl Device for VirtioNet {
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool {
        let Some(first) = self.pop() else {
            return false;
        };
        let Ok((header, rest)) = Header::read_from_prefix(received(first)) else {
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
        // One buffer is shorter than the longest frame; that it is long enough, `parse` makes sure of.
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
        if self.broken {
            return None;
        }
        let buffer = match len + HEADER <= SMALL_BYTES {
            true => self.small.pop().or_else(|| self.large.pop()),
            false => self.large.pop(),
        }?;
        self.reserved = Some(buffer);
        // SAFETY: the buffer was on a stack of free ones, so neither the device nor another slice has it; the
        // returned one ends before the next call.
        unsafe {
            Buffer::tx(usize::from(buffer))
                .bytes_mut()
                .get_mut(HEADER..HEADER + len)
        }
    }

    fn send(&mut self, len: usize, meta: FrameMeta) {
        let Some(buffer) = self.reserved.take() else {
            return;
        };
        // SAFETY: reserved for us, see `reserve`; from `add` on it is the device's until `reclaim`.
        let token = unsafe {
            let bytes = Buffer::tx(usize::from(buffer)).first(HEADER + len).bytes_mut();
            if let Some(place) = bytes.first_chunk_mut::<HEADER>() {
                place.copy_from_slice(header::build(&meta).as_bytes());
            }
            self.tx.add(&[bytes], &mut [])
        };
        match token {
            Ok(token) => {
                self.tx_buffers[usize::from(token) % QUEUE] = buffer;
                self.queued = true;
            }
            // Fewer buffers than entries: cannot be full.
            Err(_) => self.free(buffer),
        }
    }

    fn kick(&mut self) {
        if core::mem::take(&mut self.queued) {
            fence(Ordering::SeqCst);
            if self.tx.should_notify() {
                self.kicks[usize::from(TX)].kick();
            }
        }
    }
}
