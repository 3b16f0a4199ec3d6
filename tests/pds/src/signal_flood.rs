//! The protection domain `signal-flood.elf`: in a client's place, it has the timer interrupt about every half millisecond while
//! it calls the checker without a pause, so that interrupts come while the kernel runs. For tests: the kernel goes on, no
//! floating-point register changes, and nobody else notices.
//!
//! It owns one deadline at the timer. On the other side are the timer and `irq-checker.elf`, which are trusted; of its brane it knows
//! nothing.
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
/// Answers at once, however often it is called.
const EXAMINER: Channel = Channel::new(wiring::channels::IRQ_CHECKER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Deadlines between two lines in the log.
const LOG_EVERY: u64 = 5_000;

/// A label that the checker refuses at once: calls with it cost only the way there and back.
const NOTHING: u64 = 0;

/// Words of calls, in turn: none, which the kernel passes on by its short way, and as many as there can be, which it
/// copies for some microseconds with interrupts off.
const WORDS: [usize; 2] = [0, 120];

/// Turns of the loop that holds the registers, between two looks at the clock.
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
        // The timer knows this operation.
        let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
        at
    }

    /// Calls until the time has come, and computes something between the calls.
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

    /// Holds all floating-point registers until the time has come.
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
        // The brane's notifications are not for us.
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
