//! The timer domain. It owns the HPET and one deadline for each client.
//!
//! Clients call it (see `brane_abi::timer`) and are trusted with nothing but their own deadline. It reads the time from
//! the time stamp counter as everybody does; the HPET (IA-PC HPET specification 1.0a) only interrupts: comparator 0 in
//! legacy-replacement routing, one shot each time.
//!
//! What it works for each caller that the manager is the parent of is bounded ([`work_budget`]): the deadline of an exhausted
//! caller waits until the caller's budget allows it, and the manager is told of the caller.
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

/// What each caller may have: a twentieth of the processor and 3 ms at once. A call takes some microseconds, most of them in the
/// HPET.
const TERMS: Terms = Terms::new(50, 3_000_000, 100_000);

const fn bits(ids: &[usize]) -> u64 {
    let (mut bits, mut i) = (0, 0);
    while i < ids.len() {
        bits |= 1 << ids[i];
        i += 1;
    }
    bits
}

/// Callers that are not trusted: the manager's children.
const BOUNDED: u64 = bits(&channels::BRANE)
    | bits(&channels::SERVICES)
    | bits(&channels::WATCHER)
    | bits(&[channels::CONSOLE, channels::REMOTE]);

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
/// The longest period of a tick that the specification allows, in femtoseconds.
const LONGEST_PERIOD_FS: u64 = 100_000_000;
/// Shortest and longest step of the comparator, in nanoseconds: a longer one is made in parts, so that a counter of 32
/// bits would do.
const STEP_NS: (u64, u64) = (2_000, 1_000_000_000);
/// Times that a step which had passed before it was set is tried again, twice as long each time.
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
        // SAFETY: as in `read`.
        unsafe {
            self.registers
                .as_ptr()
                .add(offset)
                .cast::<u64>()
                .write_volatile(value)
        }
    }

    /// Takes the device over: comparator 0 as a single shot, far away.
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

    /// Has the interrupt come after that time, or a little later.
    fn interrupt_in(&self, ns: u64) {
        let mut ticks = ns.clamp(STEP_NS.0, STEP_NS.1) * 1_000_000 / self.period_fs;
        for _ in 0..TRIES {
            let at = self.read(register::COUNTER).wrapping_add(ticks);
            self.write(register::TIMER0_COMPARATOR, at);
            // Only equality interrupts: a comparator that was set too late would wait for the counter to come around.
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
    /// For when the comparator is set.
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
    /// Notifies everybody whose time has come, and sets the comparator for the next. Each notification is charged to its
    /// receiver.
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

    /// Charges work that ended at `now` to a client, and tells the manager of a client that is exhausted.
    fn charge(&mut self, client: usize, now: u64, cost: u64) {
        if self.budgets.charge(client, now, cost) {
            MANAGER.notify();
        }
    }

    /// The next offender, for the manager.
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
            // Acknowledged first: the interrupt controller ignores an edge at a pin that is masked, and it is masked
            // until now. The kernel cannot refuse it for a handler of our own.
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
        let answer = match (info.label(), info.length()) {
            (timer::SET_DEADLINE, 1..) => {
                // An exhausted client's deadlines are all the same one, so the comparator is set once for them.
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
