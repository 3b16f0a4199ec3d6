//! The timer domain. It owns the HPET and one deadline for each client.
//!
//! Clients call it (see `brane_abi::timer`) and are trusted with nothing but their own deadline. It reads the time from
//! the time stamp counter as everybody does; the HPET (IA-PC HPET specification 1.0a) only interrupts: comparator 0 in
//! legacy-replacement routing, one shot each time.
#![no_std]
#![no_main]

use brane_abi::timer;
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, MessageInfo, Never, Region, get_mr, protection_domain};
use timer_core::Deadlines;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);

/// Registers of the HPET, by offset (specification, 2.3).
mod register {
    pub const CAPABILITIES: usize = 0x00;
    pub const CONFIGURATION: usize = 0x10;
    pub const COUNTER: usize = 0xf0;
    pub const TIMER0_CONFIGURATION: usize = 0x100;
    pub const TIMER0_COMPARATOR: usize = 0x108;
}
const ENABLE: u64 = 1;
const LEGACY_REPLACEMENT: u64 = 2;
const TIMER_INTERRUPT: u64 = 4;
/// Shortest and longest step of the comparator, in nanoseconds: a shorter one could pass before it is written, and a
/// longer one is split, so that a 32-bit comparator would do.
const STEP_NS: (u64, u64) = (5_000, 1_000_000_000);

struct Hpet {
    registers: Region,
    /// Femtoseconds for each tick.
    period_fs: u64,
}

impl Hpet {
    fn read(&self, offset: usize) -> u64 {
        // SAFETY: aligned and inside the HPET's page, which only this domain maps, uncached.
        unsafe { self.registers.as_ptr().add(offset).cast::<u64>().read_volatile() }
    }

    fn write(&self, offset: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe {
            self.registers
                .as_ptr()
                .add(offset)
                .cast::<u64>()
                .write_volatile(value)
        }
    }

    fn start(registers: Region) -> Hpet {
        let hpet = Hpet {
            registers,
            period_fs: 0,
        };
        let period_fs = (hpet.read(register::CAPABILITIES) >> 32).max(1);
        hpet.write(register::TIMER0_CONFIGURATION, TIMER_INTERRUPT);
        hpet.write(register::TIMER0_COMPARATOR, u64::MAX);
        hpet.write(register::CONFIGURATION, ENABLE | LEGACY_REPLACEMENT);
        Hpet { period_fs, ..hpet }
    }

    fn interrupt_in(&self, ns: u64) {
        let ticks = ns.clamp(STEP_NS.0, STEP_NS.1) * 1_000_000 / self.period_fs;
        self.write(
            register::TIMER0_COMPARATOR,
            self.read(register::COUNTER).wrapping_add(ticks),
        );
    }
}

struct Timer {
    hpet: Hpet,
    clock: Clock,
    deadlines: Deadlines,
    /// For when the comparator is set.
    armed: Option<u64>,
}

#[protection_domain]
fn init() -> Timer {
    let clock = Clock::new(wiring::regions::TSC)
        .expect("the boot information has no frequency of the time stamp counter");
    Timer {
        hpet: Hpet::start(wiring::regions::HPET),
        clock,
        deadlines: Deadlines::default(),
        armed: None,
    }
}

impl Timer {
    fn serve(&mut self) {
        for client in self.deadlines.take_due(self.clock.now_ns()) {
            Channel::new(client).notify();
        }
        let next = self.deadlines.next();
        if let Some(at) = next.filter(|at| self.armed.is_none_or(|armed| *at < armed)) {
            self.hpet.interrupt_in(at.saturating_sub(self.clock.now_ns()));
            self.armed = Some(at);
        }
    }
}

impl Handler for Timer {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(IRQ) {
            self.armed = None;
            self.serve();
            // An edge interrupt of our own handler is always there to be acknowledged.
            let _ = IRQ.irq_ack();
        }
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        let answer = match (info.label(), info.length()) {
            (timer::SET_DEADLINE, 1..) => {
                self.deadlines.set(channel.index(), get_mr(0));
                self.serve();
                timer::OK
            }
            (timer::CANCEL, _) => {
                self.deadlines.cancel(channel.index());
                timer::OK
            }
            _ => timer::BAD_REQUEST,
        };
        Ok(MessageInfo::new(answer, 0))
    }
}
