//! The driver domain of one NIC: it owns the device and its memory, and keeps the branes' frames apart.
//!
//! On the other side are the device (not trusted, and on its wire anybody), the branes (not trusted; see
//! [`nic_switch`]), the manager (trusted to decide which brane owns which vif) and the timer (trusted). The domain
//! never waits for any of them. If the machine has no such device, or the device fails, the domain logs that once, and
//! the link of its vifs is down.
//!
//! # One wake
//! The driver turns interrupts off, delivers received frames, and sends the branes' frames. It then notifies the device
//! once for each queue and each sleeping brane once, turns interrupts on, and polls again. The device gets its receive
//! buffers back only at the end, so a flood causes at most the queue's length of work in a wake. The interrupt for
//! received frames stays off if many frames come, or if receiving has used more than half of the processor. The timer
//! then wakes the driver for them ([`nic_switch::rx_moderation`]). The driver's work for one brane is bounded
//! ([`nic_switch::account`]); a brane that waits is served when the domain `turn` notifies. The device does not
//! interrupt for sent frames unless it had no room.

use crate::device::NetDevice;
use crate::{own, wiring};
use brane_abi::layout::ports;
use brane_abi::offender;
use brane_abi::vif::DeviceInfo;
use core::cell::UnsafeCell;
use nic_switch::rx_moderation::{Counts, Rest, RxModeration, Wake};
use nic_switch::{Link, Silent, Switch};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, logln, pd_name, set_mr, with_msg_bytes_mut,
};

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const TURN: Channel = Channel::new(wiring::channels::TURN);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const BRANES: [usize; COUNT] = wiring::channels::BRANE;
const COUNT: usize = own::PORTS.len();
/// Ports of each brane.
const PORTS: usize = ports::count(own::PORTS[0].size);

/// Bit for each brane.
const ALL: u64 = u64::MAX >> (64 - COUNT);
/// True if the branes' channel ids are consecutive, as they are in `system.xml`.
const IN_ORDER: bool = {
    let mut n = 0;
    while n < COUNT && BRANES[n] == BRANES[0] + n {
        n += 1;
    }
    n == COUNT
};

/// Returns the branes that have notified: bit `n` for brane `n`.
fn branes(channels: ChannelSet) -> u64 {
    if IN_ORDER {
        return channels.bits() >> BRANES[0] & ALL;
    }
    let bit = |n: usize| u64::from(channels.contains(Channel::new(BRANES[n]))) << n;
    (0..COUNT).map(bit).sum()
}

/// The switch is too large for the stack.
struct SwitchCell(UnsafeCell<Switch<COUNT, PORTS>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for SwitchCell {}

static SWITCH: SwitchCell = SwitchCell(UnsafeCell::new(Switch::new()));

/// The domain, with a device of the family `D`.
pub struct Nic<D> {
    /// `None` if the machine has none, or it could not be started.
    device: Option<D>,
    driver: Driver,
}

/// The state besides the device.
struct Driver {
    switch: &'static mut Switch<COUNT, PORTS>,
    clock: Clock,
    moderation: RxModeration,
    alarm: Alarm,
    /// Receive buffers given back to the device.
    buffers: u64,
    interrupts: u64,
    /// Protocol violations that have been logged.
    violations: u64,
    /// The device's failure has been logged.
    failed: bool,
}

/// Starts device and switch. Must be called once.
pub fn start<D: NetDevice>() -> Nic<D> {
    sel4_microkit::log::attach(own::LOG, SERIAL);
    // SAFETY: one thread, and this function runs once for each start: the only reference there is.
    let switch = unsafe { &mut *SWITCH.0.get() };
    let device = match D::open() {
        Ok(Some(device)) => Some(device),
        Ok(None) => {
            logln!(
                "{}: there is no device at PCI {}; the link is down",
                pd_name().unwrap_or("nic"),
                virtio::pci::place::<own::Own>()
            );
            None
        }
        Err(why) => {
            logln!("{}: {why}; the link is down", pd_name().unwrap_or("nic"));
            None
        }
    };
    let mut link = Link {
        mtu: 1500,
        ..Link::default()
    };
    if let Some(device) = &device {
        link = device.link();
        logln!(
            "{} {}, link {}, features {:?}",
            D::FAMILY,
            device.mac(),
            up_or_down(link),
            device.features()
        );
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
        moderation: RxModeration::new(),
        alarm: Alarm::new(TIMER),
        buffers: 0,
        interrupts: 0,
        violations: 0,
        failed: false,
    };
    driver.flush();
    Nic { device, driver }
}

fn up_or_down(link: Link) -> &'static str {
    if link.up { "up" } else { "down" }
}

impl Driver {
    /// Receives if `received`, and sends. Then received frames interrupt again, or the timer wakes the driver for them.
    fn work(&mut self, device: &mut impl NetDevice, received: bool) {
        let start = match received || self.switch.timed() {
            true => self.clock.now_ns(),
            false => 0,
        };
        self.switch.set_time(start);
        let announced = self.pass(device, received, false);
        if received {
            let rest = self.moderation.after(start, self.clock.now_ns(), self.counts());
            if let Some(until) = rest {
                device.rx_interrupts(false);
                self.wait_until(device, until);
            } else if self.moderation.rest() == Rest::None && !announced {
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

    /// Receives and sends until nothing more can be done now. Returns true if received frames interrupt again. After
    /// receiving they do, unless they are gathered and `hurry` is false.
    fn pass<D: NetDevice>(&mut self, device: &mut D, received: bool, hurry: bool) -> bool {
        let announced = loop {
            if received {
                let _ = self.switch.receive(device, D::RX_BUFFERS);
            }
            device.reclaim();
            let all = self.switch.transmit(device, &|| self.clock.now_ns());
            // Ends: no brane runs meanwhile, and the device gets no receive buffers before the loop ends.
            let sent = device.tx_interrupts(!all);
            let announced = received && (hurry || !self.moderation.gathers(&self.counts()));
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

    /// Arms the timer for received frames. If the timer rejects the deadline, the device interrupts for them.
    fn wait_until(&mut self, device: &mut impl NetDevice, until: u64) {
        if !self.alarm.set(until) {
            self.moderation.no_timer();
            self.pass(device, true, true);
        }
    }

    #[inline]
    fn flush(&mut self) {
        if self.switch.has_pending() {
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

    /// Answers the manager's request for the next brane to suspend.
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

    /// Logs branes that have violated the ring protocol since the last call.
    fn report(&mut self) {
        let violations = self.switch.counters().peer_errors;
        if violations != self.violations {
            logln!(
                "a brane violated the ring protocol and is quarantined until it restarts ({violations} times in all)"
            );
            self.violations = violations;
        }
    }

    /// Logs the device's failure, once. From then on the branes see a link that is down.
    fn report_failure(&mut self, device: &impl NetDevice) {
        if let Some(why) = device.failure()
            && !self.failed
        {
            self.failed = true;
            logln!("the device has failed: {why}. It is not used any more; the link is down");
            self.switch.set_link(device.link());
            self.flush();
        }
    }

    /// Handles an interrupt. Turns off interrupts for received frames; the caller's wake turns them on again.
    fn interrupted(&mut self, device: &mut impl NetDevice) {
        self.interrupts += 1;
        if device.interrupt_reason() {
            let link = device.link();
            // A device that announces changes without a change must not fill the log and the branes' rings.
            if link != self.switch.link() {
                logln!("link {}", up_or_down(link));
                self.switch.set_link(link);
            }
        }
        device.rx_interrupts(false);
    }
}

impl<D: NetDevice> Handler for Nic<D> {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        let driver = &mut self.driver;
        if channels.contains(TURN) {
            driver.switch.turn_came(driver.clock.now_ns());
        }
        let clock = driver.clock;
        driver.switch.wake(branes(channels), &|| clock.now_ns());
        let Some(device) = &mut self.device else {
            // Frames for the wire stay in the branes' rings; frames for other branes of this NIC are delivered.
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
        let wake = driver
            .moderation
            .wake(interrupted, rang, || driver.clock.now_ns());
        driver.work(device, wake == Wake::Receive);
        if let Wake::LeaveUntil(until) = wake {
            driver.wait_until(device, until);
        }
        driver.report();
        driver.report_failure(device);
        if interrupted {
            // The line is level-triggered and this domain's own, so acknowledging cannot fail.
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
                own.rx_malformed = device.rx_malformed();
                let answer =
                    with_msg_bytes_mut(|message| driver.switch.call(label, len, message, own, device));
                // The call may have taken received frames.
                device.refill();
                answer
            }
            None => with_msg_bytes_mut(|message| driver.switch.call(label, len, message, own, &mut Silent)),
        };
        driver.flush();
        Ok(MessageInfo::new(label, bytes.div_ceil(8) as _))
    }
}
