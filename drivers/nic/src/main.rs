//! The driver domain of one NIC: it owns the device and its memory, and keeps the branes' frames apart.
//!
//! On the other side are the device (a wire full of strangers behind it), the branes (untrusted; see
//! [`nic_core`]) and the manager (trusted for who owns which vif). It never waits for any of them.
//!
//! # One wake
//! Interrupt off, hand out what was received, send what the branes have, one notification for each queue and each sleeping
//! brane, interrupt on, look again. The device gets its receive buffers back only at the end, so that a flood is at most
//! the queue's length of work for a wake. Where such wakes together take more than half of the processor, the interrupt for
//! received frames stays off, and the timer wakes the driver when the others have had their share ([`nic_core::pace`]).
//! Completed transmissions are not announced by the device unless it had no room.
#![no_std]
#![no_main]

mod dma;
mod pci;
mod virtio;

use brane_abi::vif::DeviceInfo;
use core::cell::UnsafeCell;
use nic_core::Switch;
use nic_core::pace::Pace;
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, logln, protection_domain, with_msg_bytes_mut,
};
use virtio::VirtioNet;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-nic.rs"));
}

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const BRANES: [usize; COUNT] = wiring::channels::BRANE;
const COUNT: usize = wiring::regions::PORTS.len();

/// Brane numbers by channel id: bit `n` for brane `n`.
const BRANE_OF: [u64; 64] = {
    let mut table = [0; 64];
    let mut n = 0;
    while n < COUNT {
        table[BRANES[n]] = 1 << n;
        n += 1;
    }
    table
};

/// The switch is large: it lies here and not on the stack.
struct Place(UnsafeCell<Switch<COUNT>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Place {}

static SWITCH: Place = Place(UnsafeCell::new(Switch::new()));

struct Nic {
    device: VirtioNet,
    switch: &'static mut Switch<COUNT>,
    clock: Clock,
    pace: Pace,
    alarm: Alarm,
    /// Nothing is received before the timer wakes us.
    resting: bool,
    interrupts: u64,
    cut_off: u64,
}

#[protection_domain]
fn init() -> Nic {
    sel4_microkit::log::attach(wiring::regions::LOG_NIC0, SERIAL);
    // SAFETY: one thread, and this function runs once for each start: the only reference there is.
    let switch = unsafe { &mut *SWITCH.0.get() };
    let device = VirtioNet::start();
    let link = device.link();
    logln!(
        "virtio-net {}, link {}, features {:?}",
        device.mac(),
        if link.up { "up" } else { "down" },
        device.features()
    );
    switch.set_link(link);
    for (n, region) in wiring::regions::PORTS.into_iter().enumerate() {
        assert!(
            switch.attach(n, region.shared()),
            "the region ports-{n} is too small"
        );
    }
    let mut nic = Nic {
        device,
        switch,
        clock: Clock::new(wiring::regions::TSC),
        pace: Pace::new(),
        alarm: Alarm::new(TIMER),
        resting: false,
        interrupts: 0,
        cut_off: 0,
    };
    nic.flush();
    nic
}

impl Nic {
    /// Receives and sends until there is nothing more to do or nothing more that can be done now; then, after receiving,
    /// perhaps a rest from it.
    fn work(&mut self, received: bool) {
        let start = match received || self.switch.timed() {
            true => self.clock.now_ns(),
            false => 0,
        };
        self.switch.set_time(start);
        loop {
            if received {
                let _ = self.switch.receive(&mut self.device, dma::QUEUE as u32);
            }
            self.device.reclaim();
            let all = self.switch.transmit(&mut self.device);
            self.device.flush();
            // Ends: no brane runs meanwhile, and the device has no more buffers to receive into than it had.
            let sent = self.device.tx_interrupts(!all);
            let more = received && self.device.rx_interrupts(true);
            if !sent && !more {
                break;
            }
            if more {
                self.device.rx_interrupts(false);
            }
        }
        self.device.refill();
        self.flush();
        if received {
            let rest = self.pace.after(start, self.clock.now_ns());
            // Without a timer rather no rest than no end of it.
            if let Some(end) = rest
                && self.alarm.set(end)
            {
                self.device.rx_interrupts(false);
                self.resting = true;
            }
        }
    }

    fn flush(&mut self) {
        let mut left = self.switch.flush().notify;
        while left != 0 {
            let n = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(channel) = BRANES.get(n) {
                Channel::new(*channel).notify();
            }
        }
    }

    fn report(&mut self) {
        let cut_off = self.switch.counters().peer_errors;
        if cut_off != self.cut_off {
            logln!(
                "a brane broke the ring protocol and is cut off until it restarts (now {cut_off} times in all)"
            );
            self.cut_off = cut_off;
        }
    }
}

impl Handler for Nic {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        let interrupted = channels.contains(IRQ);
        if interrupted {
            self.interrupts += 1;
            if self.device.interrupt_reason() {
                let link = self.device.link();
                logln!("link {}", if link.up { "up" } else { "down" });
                self.switch.set_link(link);
            }
            self.device.rx_interrupts(false);
        }
        if channels.contains(TIMER) {
            self.alarm.rang();
            self.resting = false;
        }
        let receive = (interrupted || channels.contains(TIMER)) && !self.resting;
        let mut branes = 0;
        for channel in channels.iter() {
            branes |= BRANE_OF[channel.index()];
        }
        self.switch.wake(branes);
        self.work(receive);
        self.report();
        if interrupted {
            // A level interrupt of our own: always there to be acknowledged.
            let _ = IRQ.irq_ack();
        }
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        if channel != MANAGER {
            return Ok(MessageInfo::new(brane_abi::vif::BAD_REQUEST, 0));
        }
        let device = DeviceInfo {
            mac: self.device.mac(),
            rx_malformed: self.device.counters().rx_malformed,
            interrupts: self.interrupts,
            ..DeviceInfo::default()
        };
        let len = info.length() * 8;
        let (label, bytes) = with_msg_bytes_mut(|message| {
            self.switch
                .call(info.label(), len, message, device, &mut self.device)
        });
        self.flush();
        Ok(MessageInfo::new(label, bytes.div_ceil(8) as _))
    }
}
