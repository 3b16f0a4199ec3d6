//! The protection domain `astray-nic.elf`: a driver in `nic0`'s place that tells the device to write what it receives to an
//! address that is not its own, but memory of another domain. For tests: an IOMMU keeps the device from it, and nobody but
//! this domain has to do without anything; without an IOMMU, the other's memory is overwritten.
//!
//! Towards everybody else it is a driver whose device is silent: it answers the manager, takes the branes' frames from
//! nowhere and sends none. On the other side are the device, and the same peers as the real driver's.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod dma;
mod pci;

use bitflags::bitflags;
use brane_abi::vif::{BAD_REQUEST, DeviceInfo};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use dma::{Buffer, Memory};
use nic_core::{Link, Silent, Switch};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, logln, protection_domain, with_msg_bytes_mut,
};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-astray-nic.rs"));
}

/// What this domain has of the system, under the names that the drivers use.
mod own {
    use crate::wiring::regions;
    use sel4_microkit::Region;

    pub const NAME: &str = "nic0";
    pub const ECAM: Region = regions::NIC0_ECAM;
    pub const BAR: Region = regions::NIC0_BAR;
    pub const DMA: Region = regions::NIC0_DMA;
}

// Where the device is sent: `CANARY`.
include!(concat!(env!("OUT_DIR"), "/canary.rs"));

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const BRANES: usize = wiring::regions::PORTS.len();
const RX: u16 = 0;
/// Buffers that the device gets.
const BUFFERS: usize = 8;

bitflags! {
    /// Feature bits (virtio 1.2, 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
        const ACCESS_PLATFORM = 1 << 33;
    }
}

/// The driver's memory, except that all buffers are said to be at [`CANARY`].
struct Astray;

// SAFETY: the queues lie where `Memory` puts them. What `share` answers is no address of this domain's memory, so nothing that
// the compiler knows of changes behind its back; that the memory of another domain may, is what is tested.
unsafe impl Hal for Astray {
    fn dma_alloc(pages: usize, direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        Memory::dma_alloc(pages, direction)
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the caller's promise is the same.
        unsafe { Memory::dma_dealloc(paddr, vaddr, pages) }
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise is the same.
        unsafe { Memory::mmio_phys_to_virt(paddr, size) }
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        CANARY
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The switch is large: it lies here and not on the stack.
struct Place(UnsafeCell<Switch<BRANES>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Place {}

static SWITCH: Place = Place(UnsafeCell::new(Switch::new()));

struct Nic {
    transport: PciTransport,
    rx: VirtQueue<Astray, BUFFERS>,
    switch: &'static mut Switch<BRANES>,
    interrupts: u64,
    stopped: bool,
}

#[protection_domain]
fn init() -> Nic {
    sel4_microkit::log::attach(wiring::regions::LOG_NIC0, SERIAL);
    // SAFETY: one thread, and this function runs once for each start: the only reference there is.
    let switch = unsafe { &mut *SWITCH.0.get() };
    switch.set_link(Link {
        mtu: 1500,
        up: true,
        ..Link::default()
    });
    for (n, region) in wiring::regions::PORTS.into_iter().enumerate() {
        assert!(
            switch.attach(n, region.shared()),
            "the region ports-{n} is too small"
        );
    }
    let (mut transport, [kick, _]) = pci::open().expect("there is no device to be misled");
    let features = transport.begin_init(Features::all());
    let mut rx = VirtQueue::new(&mut transport, RX, false, false)
        .unwrap_or_else(|e| panic!("the device's receive queue has no {BUFFERS} entries: {e}"));
    transport.finish_init();
    for i in 0..BUFFERS {
        // SAFETY: the buffer is used for nothing else, and neither it nor the queue ends before the domain.
        let added = unsafe { rx.add(&[], &mut [Buffer::rx(i).bytes_mut()]) };
        assert!(added.is_ok(), "as many buffers as entries: cannot be full");
    }
    // The ring's index must be visible before the device looks.
    fence(Ordering::SeqCst);
    kick.kick();
    logln!("astray: the device writes to {CANARY:#x}, features {features:?}");
    Nic {
        transport,
        rx,
        switch,
        interrupts: 0,
        stopped: false,
    }
}

impl Nic {
    fn look(&mut self) {
        let _ = self.transport.ack_interrupt();
        let status = self.transport.get_status();
        if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) && !self.stopped {
            self.stopped = true;
            logln!("astray: the device has stopped, status {status:?}");
        }
        // Ends: each turn takes one of the buffers that the device has, and it gets none again.
        while let Some(token) = self.rx.peek_used() {
            // SAFETY: the buffer of that number was added under this token, the queue being filled in order.
            let taken = unsafe {
                let bytes = Buffer::rx(usize::from(token) % BUFFERS).bytes_mut();
                self.rx.pop_used(token, &[], &mut [bytes])
            };
            match taken {
                Ok(len) => logln!("astray: the device says that it wrote {len} bytes"),
                Err(_) => break,
            }
        }
    }

    fn flush(&mut self) {
        let left = self.switch.flush().notify;
        for (n, channel) in wiring::channels::BRANE.into_iter().enumerate() {
            if left & 1 << n != 0 {
                Channel::new(channel).notify();
            }
        }
    }
}

impl Handler for Nic {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(IRQ) {
            self.interrupts += 1;
            self.look();
            // A level interrupt of our own: always there to be acknowledged.
            let _ = IRQ.irq_ack();
        }
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        if channel != MANAGER {
            return Ok(MessageInfo::new(BAD_REQUEST, 0));
        }
        let device = DeviceInfo {
            interrupts: self.interrupts,
            ..DeviceInfo::default()
        };
        let len = info.length() * 8;
        let (label, bytes) =
            with_msg_bytes_mut(|message| self.switch.call(info.label(), len, message, device, &mut Silent));
        self.flush();
        Ok(MessageInfo::new(label, bytes.div_ceil(8) as _))
    }
}
