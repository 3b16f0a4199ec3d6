//! The protection domain `meter.elf`: in a client's place, it computes forever and logs its count of each phase
//! ([`test_pds_core::phases`]).
//!
//! The count beside a flood shows the flood's cost to the other domains. While it computes, all registers hold
//! a mark. If it is restarted for another tenant, it logs the number of marks that it finds. No peer is
//! involved.
#![no_std]
#![no_main]

mod marks;

use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, NullHandler, log, logln, protection_domain, scrub};
use test_pds_core::phases::Turn;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-meter.rs"));
}

const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Number of steps between two reads of the clock.
const STEPS: u32 = 5_000;

/// Beginning of all log lines at the end of a phase.
const PHASE: &str = "meter: phase";

#[protection_domain]
fn init() -> NullHandler {
    let registers = marks::in_registers();
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    if scrub::wanted() {
        let lines = marks::in_region(wiring::regions::LOG_SERVICES, PHASE.as_bytes());
        logln!("meter: a new tenant finds {registers} marks in registers and {lines} lines");
    }
    let clock = Clock::new(wiring::regions::TSC);
    let mut turn = Turn::at(clock.now_ns());
    let mut count = 0u64;
    loop {
        marks::hold(STEPS);
        count += 1;
        let now = Turn::at(clock.now_ns());
        if now.number != turn.number {
            logln!("{PHASE} {} {}: {count}", turn.number, turn.phase.name());
            (turn, count) = (now, 0);
        }
    }
}
