//! The protection domain `irq-checker.elf`: it tests features that the system itself does not use:
//! message-signalled interrupts, an active-low pin, and another domain's thread from a `cspace` element.
//!
//! For tests. It panics at the first failure. It owns two `edu` devices, COM2 and one deadline at the timer. On
//! the other side are the devices, the timer and the program `subject.elf`, all trusted.
//! `test_pds_core::irq_checker` decides on the steps and the expected results.
#![no_std]
#![no_main]

mod edu;

use brane_abi::timer;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use edu::Edu;
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, IoPort, MessageInfo, Thread, protection_domain, set_mr};
use test_pds_core::irq_checker::{Failure, IrqChecker, Subject};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-irq-checker.rs"));
}

use wiring::irqs::{IRQ, VECTOR};
use wiring::regions;

const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SUBJECT: Channel = Channel::new(wiring::channels::SUBJECT);
const SUBJECTS_THREAD: Thread = Thread::in_slot(wiring::threads::SUBJECT);

/// The last interrupt of the description is the pin's. All others are messages.
const PIN: usize = IRQ.len() - 1;

/// Time between two steps in nanoseconds.
const STEP: u64 = 2_000_000;

/// COM2, a 16550 without any setup, because QEMU's accepts bytes at any speed.
struct Line(IoPort);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.0.out8(0, byte));
        Ok(())
    }
}

struct Device {
    checker: IrqChecker,
    clock: Clock,
    count: &'static AtomicU64,
    messages: Edu,
    pin: Edu,
    line: Line,
}

#[protection_domain]
fn init() -> Device {
    let clock = Clock::new(regions::TSC);
    // SAFETY: an atomic in a region with no other content. The subject writes it as an atomic.
    let count = unsafe { regions::SUBJECT_COUNT.shared().object::<AtomicU64>(0) }
        .expect("the region holds eight bytes");
    let device = Device {
        checker: IrqChecker::new(IRQ.len(), count.load(Ordering::Relaxed)),
        clock,
        count,
        messages: Edu::open(regions::EDU_MESSAGE_ECAM, regions::EDU_MESSAGE_BAR),
        pin: Edu::open(regions::EDU_PIN_ECAM, regions::EDU_PIN_BAR),
        line: Line(IoPort::new(wiring::ioports::IOPORT[0])),
    };
    device.wake_later();
    device
}

impl Device {
    fn wake_later(&self) {
        set_mr(0, self.clock.now_ns() + STEP);
        // Cannot fail, because the timer knows this operation.
        let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
    }

    /// Handles the interrupt of a source.
    fn interrupt(&mut self, source: usize) -> Result<(), Failure> {
        if source == PIN {
            self.pin.lower();
        }
        // The kernel cannot refuse the acknowledgement of this domain's own interrupt.
        let _ = Channel::new(IRQ[source]).irq_ack();
        self.checker.came(source)?;
        if let Some(sweeps) = self.checker.sweeps() {
            // If a line is not printed, the test misses it.
            let _ = writeln!(
                self.line,
                "irq-checker: {sweeps} sweeps over {PIN} messages and a pin"
            );
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Failure> {
        let step = self.checker.step(self.count.load(Ordering::Relaxed))?;
        // First, so that a stopped subject has received a notification that it has not seen, because this
        // domain keeps it from running. It must see the notification after it is resumed.
        SUBJECT.notify();
        match step.subject {
            Subject::Keep => {}
            Subject::Stop => SUBJECTS_THREAD.stop().expect("stopping the subject"),
            Subject::Resume => SUBJECTS_THREAD.resume().expect("resuming the subject"),
        }
        match step.raise {
            PIN => self.pin.raise(),
            source => self.messages.send(Channel::message(VECTOR[source])),
        }
        self.wake_later();
        Ok(())
    }
}

impl Handler for Device {
    type Error = Failure;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Failure> {
        let done = self.take(channels);
        if let Err(failure) = &done {
            // The domain has no log. The test reads this line.
            let _ = writeln!(self.line, "irq-checker: {failure}");
        }
        done
    }

    /// Refuses each call. The flood of calls only needs the way there and back.
    fn protected(&mut self, _: Channel, _: MessageInfo) -> Result<MessageInfo, Failure> {
        Ok(MessageInfo::new(timer::BAD_REQUEST, 0))
    }
}

impl Device {
    fn take(&mut self, channels: ChannelSet) -> Result<(), Failure> {
        for (source, &id) in IRQ.iter().enumerate() {
            if channels.contains(Channel::new(id)) {
                self.interrupt(source)?;
            }
        }
        if channels.contains(TIMER) {
            self.step()?;
        }
        Ok(())
    }
}
