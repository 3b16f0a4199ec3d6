//! The timer domain. It owns the HPET and one deadline for each client.
//!
//! On the other side: clients, which call it (see `brane_abi::timer`) and can affect their own deadline only.
//! Like all domains it reads the time from the time stamp counter. The HPET (IA-PC HPET specification 1.0a)
//! only interrupts: comparator 0 in legacy-replacement routing, one shot each time.
//!
//! Its work for each child of the manager is bounded ([`work_budget`]). The deadline of an exhausted caller
//! waits until the caller's budget allows it, and the manager receives a report about the caller.
#![no_std]
#![no_main]

use brane_abi::{offender, timer};
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, Region, get_mr, protection_domain, set_mr,
};
use timer_core::Deadlines;
use work_budget::{Budgets, MAX_CALLERS, SWITCH_NS, Terms};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}

use wiring::channels;

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const MANAGER: Channel = Channel::new(channels::MANAGER);

/// Budget of each caller: a twentieth of the processor, with bursts of 3 ms. A call takes some microseconds,
/// most of them in the HPET.
const TERMS: Terms = Terms::new(50, 3_000_000, 100_000);

const fn bits(ids: &[usize]) -> u64 {
    let (mut bits, mut i) = (0, 0);
    while i < ids.len() {
        bits |= 1 << ids[i];
        i += 1;
    }
    bits
}

/// Untrusted callers: the manager's children.
const BOUNDED: u64 = bits(&channels::BRANE)
    | bits(&channels::SERVICES)
    | bits(&channels::SUBSCRIBER)
    | bits(&channels::FILTER)
    | bits(&[channels::CONSOLE, channels::REMOTE]);

/// Registers of the HPET by offset (specification, 2.3).
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
/// Maximum period of a tick in femtoseconds (specification).
const LONGEST_PERIOD_FS: u64 = 100_000_000;
/// Minimum and maximum step of the comparator in nanoseconds. Longer steps are divided, so that a counter of
/// 32 bits is sufficient.
const STEP_NS: (u64, u64) = (2_000, 1_000_000_000);
/// Attempts to set a step that passed before it was set. Each is twice as long as the previous one.
const TRIES: u32 = 12;

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
        // SAFETY: aligned and inside the HPET's page, which only this domain maps, uncached.
        unsafe {
            self.registers
                .as_ptr()
                .add(offset)
                .cast::<u64>()
                .write_volatile(value)
        }
    }

    /// Initialises the device: comparator 0 as a single shot in the far future.
    fn start(registers: Region) -> Hpet {
        let hpet = Hpet {
            registers,
            period_fs: 0,
        };
        let period_fs = hpet.read(register::CAPABILITIES) >> 32;
        assert!(
            (1..=LONGEST_PERIOD_FS).contains(&period_fs),
            "no HPET at its address: its period reads as {period_fs} fs; start the machine with one"
        );
        hpet.write(register::CONFIGURATION, 0);
        hpet.write(register::COUNTER, 0);
        hpet.write(register::TIMER0_CONFIGURATION, TIMER_INTERRUPT);
        hpet.write(register::TIMER0_COMPARATOR, u64::MAX);
        hpet.write(register::CONFIGURATION, ENABLE | LEGACY_REPLACEMENT);
        Hpet { period_fs, ..hpet }
    }

    /// Sets the interrupt to that time from now, or a little later.
    fn interrupt_in(&self, ns: u64) {
        let mut ticks = ns.clamp(STEP_NS.0, STEP_NS.1) * 1_000_000 / self.period_fs;
        for _ in 0..TRIES {
            let at = self.read(register::COUNTER).wrapping_add(ticks);
            self.write(register::TIMER0_COMPARATOR, at);
            // Only equality interrupts. A comparator that is set too late would wait until the counter wraps
            // around.
            if (at.wrapping_sub(self.read(register::COUNTER)) as i64) > 0 {
                return;
            }
            ticks *= 2;
        }
    }
}

struct Timer {
    hpet: Hpet,
    clock: Clock,
    deadlines: Deadlines,
    /// Time for which the comparator is set.
    armed: Option<u64>,
    budgets: Budgets<MAX_CALLERS>,
}

#[protection_domain]
fn init() -> Timer {
    Timer {
        hpet: Hpet::start(wiring::regions::HPET),
        clock: Clock::new(wiring::regions::TSC),
        deadlines: Deadlines::default(),
        armed: None,
        budgets: Budgets::new(TERMS, BOUNDED),
    }
}

impl Timer {
    /// Notifies all clients whose deadline has passed, and sets the comparator for the next deadline. Charges
    /// each notification to its receiver.
    fn serve(&mut self) {
        let now = self.clock.now_ns();
        for client in self.deadlines.take_due(now) {
            Channel::new(client).notify();
            self.charge(client, now, SWITCH_NS);
        }
        let next = self.deadlines.next();
        if let Some(at) = next.filter(|at| self.armed.is_none_or(|armed| *at < armed)) {
            self.hpet.interrupt_in(at.saturating_sub(now));
            self.armed = Some(at);
        }
    }

    /// Charges work that ended at `now` to a client. Notifies the manager if the client's budget is
    /// exhausted.
    fn charge(&mut self, client: usize, now: u64, cost: u64) {
        if self.budgets.charge(client, now, cost) {
            MANAGER.notify();
        }
    }

    /// Returns the next offender, for the manager.
    fn offender(&mut self) -> MessageInfo {
        match self.budgets.take_offender(self.clock.now_ns()) {
            Some((caller, until)) => {
                set_mr(0, caller as u64);
                set_mr(1, until);
                MessageInfo::new(offender::OFFENDER, 2)
            }
            None => MessageInfo::new(offender::NONE, 0),
        }
    }
}

impl Handler for Timer {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(IRQ) {
            // Acknowledged first, because the pin is masked until then and the interrupt controller ignores
            // an edge at a masked pin. The kernel cannot refuse this for the domain's own handler.
            let _ = IRQ.irq_ack();
            self.armed = None;
            self.serve();
        }
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        if channel == MANAGER && info.label() == offender::TAKE {
            return Ok(self.offender());
        }
        let begin = self.clock.now_ns();
        let client = channel.index();
        let answer = match (info.label(), info.count()) {
            (timer::SET_DEADLINE, 1..) => {
                // All deadlines of an exhausted client are equal, so the comparator is set once for them.
                let earliest = self.budgets.exhausted(client, begin).unwrap_or(0);
                self.deadlines.set(client, get_mr(0).max(earliest));
                self.serve();
                timer::OK
            }
            (timer::CANCEL, _) => {
                self.deadlines.cancel(client);
                timer::OK
            }
            _ => timer::BAD_REQUEST,
        };
        let end = self.clock.now_ns();
        self.charge(client, end, end.saturating_sub(begin) + SWITCH_NS);
        Ok(MessageInfo::new(answer, 0))
    }
}
