//! The protection domain `canary.elf`: in a client's place, it fills its own memory and checks it repeatedly,
//! at a bounded rate, forever.
//!
//! For tests: a changed byte shows that another domain or a device reached foreign memory. No peer is involved,
//! except the timer, which wakes it and is trusted.
#![no_std]
#![no_main]

use brane_abi::timer;
use core::sync::atomic::{AtomicU64, Ordering};
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, log, logln, protection_domain, set_mr,
};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-canary.rs"));
}

const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Time between two checks in nanoseconds.
const STEP: u64 = 50_000_000;

/// Number of checks between two lines in the log.
const LOG_EVERY: u64 = 20;

const WORDS: usize = wiring::regions::HEAP_SERVICES.size / size_of::<AtomicU64>();

struct Canary {
    memory: &'static [AtomicU64; WORDS],
    clock: Clock,
    looks: u64,
    dead: bool,
}

/// Returns the content of a word. No two words are equal, and none is zero.
fn song(word: usize) -> u64 {
    0xca9a_5e00_0000_0000 | word as u64
}

#[protection_domain]
fn init() -> Canary {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    let clock = Clock::new(wiring::regions::TSC);
    // SAFETY: an array of atomics. The region is mapped for this domain alone.
    let memory = unsafe { wiring::regions::HEAP_SERVICES.shared().object(0) }.expect("as many as fit");
    let canary = Canary {
        memory,
        clock,
        looks: 0,
        dead: false,
    };
    for (word, place) in canary.memory.iter().enumerate() {
        place.store(song(word), Ordering::Relaxed);
    }
    logln!(
        "canary: in {} KiB at physical address {:#x}",
        wiring::regions::HEAP_SERVICES.size / 1024,
        wiring::regions::HEAP_SERVICES.paddr.unwrap_or(0)
    );
    canary.wake_later();
    canary
}

impl Canary {
    fn wake_later(&self) {
        set_mr(0, self.clock.now_ns() + STEP);
        // Cannot fail, because the timer knows this operation.
        let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
    }

    fn check(&mut self) {
        self.looks += 1;
        let words = self.memory.iter().map(|place| place.load(Ordering::Relaxed));
        let changed = words.enumerate().find(|&(word, value)| value != song(word));
        match changed {
            Some((word, value)) if !self.dead => {
                self.dead = true;
                logln!(
                    "canary: overwritten at byte {}: {value:#018x}",
                    word * size_of::<AtomicU64>()
                );
            }
            None if self.looks.is_multiple_of(LOG_EVERY) => {
                logln!("canary: whole after {} looks", self.looks);
            }
            _ => {}
        }
        self.wake_later();
    }
}

impl Handler for Canary {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.check();
        }
        Ok(())
    }
}
