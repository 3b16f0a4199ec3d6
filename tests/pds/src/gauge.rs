//! The protection domain `gauge.elf`: in a client's place, it computes forever and logs how much of the time it
//! had the processor.
//!
//! For tests: other domains must leave it its share. It calls the timer only. Timer and serial are trusted.
#![no_std]
#![no_main]

use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, NullHandler, log, logln, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-gauge.rs"));
}

const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Time between two lines in the log, in nanoseconds.
const TOLD: u64 = 500_000_000;
/// Maximum time between two reads of the clock for which the domain counts as running, in nanoseconds. After a
/// longer time, another domain ran.
const AWAY: u64 = 20_000;

#[protection_domain]
fn init() -> NullHandler {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    let clock = Clock::new(wiring::regions::TSC);
    let (mut begun, mut ran) = (clock.now_ns(), 0);
    let mut last = begun;
    loop {
        let now = clock.now_ns();
        let passed = now.saturating_sub(last);
        last = now;
        if passed < AWAY {
            ran += passed;
        }
        if now - begun >= TOLD {
            logln!("gauge: ran {} of {} us", ran / 1000, (now - begun) / 1000);
            (begun, ran) = (now, 0);
        }
    }
}
