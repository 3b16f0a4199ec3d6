//! The driver domain of one NIC: it owns the device and its memory, and keeps the branes' frames apart.
//!
//! On the other side are the device (a wire full of strangers behind it), the branes (untrusted; see
//! [`nic_core`]), the manager (trusted for who owns which vif) and the timer (trusted). It never waits for any of them.
//! Where the machine has no such device, it says so once; its vifs then have a link that is down.
//!
//! # One wake
//! Interrupt off, hand out what was received, send what the branes have, one notification for each queue and each sleeping
//! brane, interrupt on, look again. The device gets its receive buffers back only at the end, so that a flood is at most
//! the queue's length of work for a wake. Where many frames come, or where receiving has taken more than its half of the processor,
//! the interrupt for received frames stays off, and the timer wakes the driver for them ([`nic_core::reception`]).
//! What the driver works for one brane is bounded ([`nic_core::account`]); a brane that waits is served when the domain `turn` notifies.
//! Completed transmissions are not announced by the device unless it had no room.

use crate::virtio::VirtioNet;
use crate::{dma, own, pci, wiring};
use brane_abi::offender;
use brane_abi::vif::DeviceInfo;
use core::cell::UnsafeCell;
use nic_core::reception::{Counts, Reception, Rest, Wake};
use nic_core::{Link, Silent, Switch};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, MessageInfo, Never, logln, set_mr, with_msg_bytes_mut};

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const TURN: Channel = Channel::new(wiring::channels::TURN);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const BRANES: [usize; COUNT] = wiring::channels::BRANE;
const COUNT: usize = own::PORTS.len();

/// Bit for each brane.
const ALL: u64 = u64::MAX >> (64 - COUNT);
/// Whether the branes' channel ids follow each other, as `system.xml` gives them out.
const IN_ORDER: bool = {
    let mut n = 0;
    while n < COUNT && BRANES[n] == BRANES[0] + n {
        n += 1;
    }
    n == COUNT
};

/// The branes that have notified, bit `n` for brane `n`.
fn branes(channels: ChannelSet) -> u64 {
    if IN_ORDER {
        return channels.bits() >> BRANES[0] & ALL;
    }
    let bit = |n: usize| u64::from(channels.contains(Channel::new(BRANES[n]))) << n;
    (0..COUNT).map(bit).sum()
}

/// The switch is large: it lies here and not on the stack.
struct Place(UnsafeCell<Switch<COUNT>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Place {}

static SWITCH: Place = Place(UnsafeCell::new(Switch::new()));

/// The domain.
pub struct Nic {
    /// `None` on a machine without it.
    device: Option<VirtioNet>,
    driver: Driver,
}

/// What there is besides the device.
struct Driver {
    switch: &'static mut Switch<COUNT>,
    clock: Clock,
    reception: Reception,
    alarm: Alarm,
    /// Buffers for receiving given back to the device.
    buffers: u64,
    interrupts: u64,
    cut_off: u64,
}

/// Starts device and switch. To be called once.
pub fn start() -> Nic {
    sel4_microkit::log::attach(own::LOG, SERIAL);
    // SAFETY: one thread, and this function runs once for each start: the only reference there is.
    let switch = unsafe { &mut *SWITCH.0.get() };
    let device = VirtioNet::start();
    let mut link = Link {
        mtu: 1500,
        ..Link::default()
    };
    match &device {
        Some(device) => {
            link = device.link();
            logln!(
                "virtio-net {}, link {}, features {:?}",
                device.mac(),
                if link.up { "up" } else { "down" },
                device.features()
            );
        }
        None => logln!(
            "{}: there is no device at PCI {}; the link is down",
            own::NAME,
            pci::ours()
        ),
    }
    switch.set_link(link);
    for (n, region) in own::PORTS.into_iter().enumerate() {
        assert!(
            switch.attach(n, region.shared()),
            "the region for the ports of brane {n} is too small"
        );
    }
    let mut driver = Driver {
        switch,
        clock: Clock::new(wiring::regions::TSC),
        reception: Reception::new(),
        alarm: Alarm::new(TIMER),
        buffers: 0,
        interrupts: 0,
        cut_off: 0,
    };
    driver.flush();
    Nic { device, driver }
}

impl Driver {
    /// Receives, where that is its turn, and sends. Then received frames interrupt again, or the timer wakes us for them.
    fn work(&mut self, device: &mut VirtioNet, received: bool) {
        let start = match received || self.switch.timed() {
            true => self.clock.now_ns(),
            false => 0,
        };
        self.switch.set_time(start);
        let announced = self.pass(device, received, false);
        if received {
            let rest = self.reception.after(start, self.clock.now_ns(), self.counts());
            if let Some(until) = rest {
                device.rx_interrupts(false);
                self.wait_until(device, until);
            } else if self.reception.rest() == Rest::None && !announced {
                self.pass(device, true, true);
            }
        }
    }

    fn counts(&self) -> Counts {
        let counters = self.switch.counters();
        Counts {
            received: counters.rx_frames,
            sent: counters.tx_frames,
            buffers: self.buffers,
        }
    }

    /// Receives and sends until there is nothing more to do or nothing more that can be done now; whether received frames interrupt
    /// again: after receiving they do, unless they are gathered and there is no `hurry`.
    fn pass(&mut self, device: &mut VirtioNet, received: bool, hurry: bool) -> bool {
        let announced = loop {
            if received {
                let _ = self.switch.receive(device, dma::QUEUE as u32);
            }
            device.reclaim();
            let all = self.switch.transmit(device, &|| self.clock.now_ns());
            // Ends: no brane runs meanwhile, and the device has no more buffers to receive into than it had.
            let sent = device.tx_interrupts(!all);
            let announced = received && (hurry || !self.reception.gathers(&self.counts()));
            let more = announced && device.rx_interrupts(true);
            if !sent && !more {
                break announced;
            }
            if more {
                device.rx_interrupts(false);
            }
        };
        self.buffers += device.refill() as u64;
        self.flush();
        announced
    }

    /// Has the timer wake us for received frames, or without one the device.
    fn wait_until(&mut self, device: &mut VirtioNet, until: u64) {
        if !self.alarm.set(until) {
            self.reception.no_timer();
            self.pass(device, true, true);
        }
    }

    #[inline]
    fn flush(&mut self) {
        if self.switch.has_news() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let flushed = self.switch.flush();
        if flushed.turn {
            TURN.notify();
        }
        if flushed.offender {
            MANAGER.notify();
        }
        let mut left = flushed.notify;
        while left != 0 {
            let n = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(channel) = BRANES.get(n) {
                Channel::new(*channel).notify();
            }
        }
    }

    /// The answer to the manager's question for the next brane that it is to suspend.
    fn offender(&mut self) -> MessageInfo {
        match self.switch.take_offender(self.clock.now_ns()) {
            Some((brane, until)) => {
                set_mr(0, BRANES[brane] as u64);
                set_mr(1, until);
                MessageInfo::new(offender::OFFENDER, 2)
            }
            None => MessageInfo::new(offender::NONE, 0),
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

    /// Takes an interrupt, and none for received frames until further notice.
    fn interrupted(&mut self, device: &mut VirtioNet) {
        self.interrupts += 1;
        if device.interrupt_reason() {
            let link = device.link();
            logln!("link {}", if link.up { "up" } else { "down" });
            self.switch.set_link(link);
        }
        device.rx_interrupts(false);
    }
}

impl Handler for Nic {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        let driver = &mut self.driver;
        if channels.contains(TURN) {
            driver.switch.turn_came(driver.clock.now_ns());
        }
        let clock = driver.clock;
        driver.switch.wake(branes(channels), &|| clock.now_ns());
        let Some(device) = &mut self.device else {
            // What they send has nowhere to go, and stays where it is.
            let _ = driver.switch.transmit(&mut Silent, &|| clock.now_ns());
            driver.flush();
            driver.report();
            return Ok(());
        };
        let interrupted = channels.contains(IRQ);
        if interrupted {
            driver.interrupted(device);
        }
        let rang = channels.contains(TIMER);
        if rang {
            driver.alarm.rang();
        }
        let wake = driver.reception.wake(interrupted, rang, || driver.clock.now_ns());
        driver.work(device, wake == Wake::Receive);
        if let Wake::LeaveUntil(until) = wake {
            driver.wait_until(device, until);
        }
        driver.report();
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
        let driver = &mut self.driver;
        if info.label() == offender::TAKE {
            return Ok(driver.offender());
        }
        let mut own = DeviceInfo {
            interrupts: driver.interrupts,
            ..DeviceInfo::default()
        };
        let (label, len) = (info.label(), info.count() * 8);
        let (label, bytes) = match &mut self.device {
            Some(device) => {
                own.mac = device.mac();
                own.rx_malformed = device.counters().rx_malformed;
                let answer =
                    with_msg_bytes_mut(|message| driver.switch.call(label, len, message, own, device));
                // A call may have taken what was received.
                device.refill();
                answer
            }
            None => with_msg_bytes_mut(|message| driver.switch.call(label, len, message, own, &mut Silent)),
        };
        driver.flush();
        Ok(MessageInfo::new(label, bytes.div_ceil(8) as _))
    }
}
