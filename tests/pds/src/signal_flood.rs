//! The protection domain `signal-flood.elf`: in a client's place, it lets the timer interrupt about every half
//! millisecond, and calls the checker without a pause, so that interrupts arrive while the kernel runs.
//!
//! For tests: the kernel continues, no floating-point register changes, and no other domain is affected. It
//! owns one deadline at the timer. On the other side are the timer and `irq-checker.elf`, which are trusted. It
//! does not use its brane.
#![no_std]
#![no_main]

use brane_abi::timer;
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, log, logln, protection_domain, set_mr,
};
use test_pds_core::registers::{Registers, Sequence};
use test_pds_core::signal_flood::{SignalFlood, Work};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-signal-flood.rs"));
}

const TIMER: Channel = Channel::new(wiring::channels::TIMER);
/// The checker, which answers at once, regardless of the number of calls.
const EXAMINER: Channel = Channel::new(wiring::channels::IRQ_CHECKER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Number of deadlines between two lines in the log.
const LOG_EVERY: u64 = 5_000;

/// Label that the checker refuses at once. Calls with it cost only the way there and back.
const NOTHING: u64 = 0;

/// Numbers of words of the calls, in turn. The kernel forwards a call without words on its fast path. It copies
/// the maximum number of words for some microseconds with interrupts off.
const WORDS: [usize; 2] = [0, 120];

/// Turns of the loop that holds the registers, between two reads of the clock.
const TURNS: u32 = 20_000;

struct Client {
    flood: SignalFlood,
    clock: Clock,
}

#[protection_domain]
fn init() -> Client {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    let clock = Clock::new(wiring::regions::TSC);
    let client = Client {
        flood: SignalFlood::default(),
        clock,
    };
    logln!("signal-flood: started");
    client.wake_later();
    client
}

impl Client {
    /// Sets the next deadline and returns it.
    fn wake_later(&self) -> u64 {
        let at = self.flood.next(self.clock.now_ns());
        set_mr(0, at);
        // Cannot fail, because the timer knows this operation.
        let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
        at
    }

    /// Calls until the time has come, and computes a sequence between the calls.
    fn call(&self, until: u64) {
        let seed = self.flood.deadlines();
        let (mut sequence, mut calls) = (Sequence::new(seed), 0);
        while self.clock.now_ns() < until {
            let words = WORDS[calls as usize % WORDS.len()];
            let answer = EXAMINER.pp_call(MessageInfo::new(NOTHING, words));
            assert_eq!(answer.label(), timer::BAD_REQUEST, "the answer to call {calls}");
            sequence.step();
            calls += 1;
        }
        assert_eq!(
            sequence,
            Sequence::after(seed, calls),
            "numbers computed between {calls} calls"
        );
    }

    /// Holds values in all floating-point registers until the time has come.
    fn hold(&self, until: u64) {
        while self.clock.now_ns() < until {
            let registers = Registers::pattern(self.clock.now_ns());
            assert_eq!(registers.hold(TURNS), registers, "floating-point registers");
        }
    }
}

impl Handler for Client {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        // Notifications of the brane are ignored.
        if channels.contains(TIMER) {
            let work = self.flood.deadline();
            if self.flood.deadlines().is_multiple_of(LOG_EVERY) {
                logln!("signal-flood: {} deadlines", self.flood.deadlines());
            }
            let at = self.wake_later();
            match work {
                Work::Calls => self.call(at),
                Work::Hold => self.hold(at),
            }
        }
        Ok(())
    }
}
