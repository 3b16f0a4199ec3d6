//! The protection domain `dma-escape.elf`: a driver in `nic0`'s place. It makes its device write received
//! frames to an address in another domain's memory.
//!
//! Only the tests run it. An IOMMU refuses the writes. Without one, the canary's memory is overwritten.
//!
//! Owns the device ([`device`]) and a real switch. To the manager and the branes it is a driver with a silent
//! device: it answers the manager's calls, sends no frame and receives none. The manager is trusted, branes are
//! not.
#![no_std]
#![no_main]

mod device;

use bitflags::bitflags;
use brane_abi::vif::{BAD_REQUEST, DeviceInfo};
use core::cell::UnsafeCell;
use core::sync::atomic::{Ordering, fence};
use device::{BUFFERS, Misdirected, TARGET};
use nic_switch::{Link, Silent, Switch};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, logln, protection_domain, with_msg_bytes_mut,
};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-dma-escape.rs"));
}

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const BRANES: usize = wiring::regions::PORTS_NIC.len();
/// Ports of each brane.
const PORTS: usize = brane_abi::layout::ports::count(wiring::regions::PORTS_NIC[0].size);
const RX: u16 = 0;

bitflags! {
    /// Feature bits (virtio 1.2, 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
        const ACCESS_PLATFORM = 1 << 33;
    }
}

/// The switch is large: it lies here and not on the stack.
struct SwitchCell(UnsafeCell<Switch<BRANES, PORTS>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for SwitchCell {}

static SWITCH: SwitchCell = SwitchCell(UnsafeCell::new(Switch::new()));

struct Nic {
    transport: PciTransport,
    rx: VirtQueue<Misdirected, BUFFERS>,
    switch: &'static mut Switch<BRANES, PORTS>,
    interrupts: u64,
    stopped: bool,
}

#[protection_domain]
fn init() -> Nic {
    sel4_microkit::log::attach(wiring::regions::LOG_NIC, SERIAL);
    // SAFETY: one thread, and this function runs once for each start, so this is the only reference.
    let switch = unsafe { &mut *SWITCH.0.get() };
    switch.set_link(Link {
        mtu: 1500,
        up: true,
        ..Link::default()
    });
    for (n, region) in wiring::regions::PORTS_NIC.into_iter().enumerate() {
        assert!(
            switch.attach(n, region.shared()),
            "the region ports-{n} is too small"
        );
    }
    let mut transport = device::open();
    let features = transport.begin_init(Features::all());
    let mut rx = VirtQueue::new(&mut transport, RX, false, false)
        .unwrap_or_else(|e| panic!("the device's receive queue has no {BUFFERS} entries: {e}"));
    transport.finish_init();
    for i in 0..BUFFERS {
        // SAFETY: the buffer has no other use, and neither it nor the queue ends before the domain.
        let added = unsafe { rx.add(&[], &mut [device::buffer(i)]) };
        assert!(added.is_ok(), "as many buffers as entries: cannot be full");
    }
    // The ring's index must be visible before the device reads it.
    fence(Ordering::SeqCst);
    transport.notify(RX);
    logln!("dma-escape: the device writes to {TARGET:#x}, features {features:?}");
    Nic {
        transport,
        rx,
        switch,
        interrupts: 0,
        stopped: false,
    }
}

impl Nic {
    fn poll(&mut self) {
        let _ = self.transport.ack_interrupt();
        let status = self.transport.get_status();
        if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) && !self.stopped {
            self.stopped = true;
            logln!("dma-escape: the device has stopped, status {status:?}");
        }
        // The loop ends, because each turn takes one of the device's buffers, and the device gets none again.
        while let Some(token) = self.rx.peek_used() {
            // SAFETY: the buffer of that number was added under this token, because the queue is filled in
            // order.
            let taken = unsafe {
                let bytes = device::buffer(usize::from(token) % BUFFERS);
                self.rx.pop_used(token, &[], &mut [bytes])
            };
            match taken {
                Ok(len) => logln!("dma-escape: the device says that it wrote {len} bytes"),
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
            self.poll();
            // A level interrupt of this domain, which can always be acknowledged.
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
        let len = info.count() * 8;
        let (label, bytes) =
            with_msg_bytes_mut(|message| self.switch.call(info.label(), len, message, device, &mut Silent));
        self.flush();
        Ok(MessageInfo::new(label, bytes.div_ceil(8) as _))
    }
}
