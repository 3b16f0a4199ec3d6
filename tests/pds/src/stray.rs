//! The protection domain `stray.elf`: in a client's place, it writes to an unmapped address, as soon as it
//! runs.
//!
//! For tests: the fault report to its parent has the whole address. It uses only its log.
#![no_std]
#![no_main]

use sel4_microkit::{Channel, NullHandler, log, logln, protection_domain};
use test_pds_core::stray::ADDRESS;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-stray.rs"));
}

const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

#[protection_domain]
fn init() -> NullHandler {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    logln!("stray: writing to {ADDRESS:#x}");
    // SAFETY: no memory of the program is at that address, so none changes. The processor refuses the write.
    unsafe { core::arch::asm!("mov byte ptr [{}], 1", in(reg) ADDRESS, options(nostack)) };
    logln!("stray: could write there");
    NullHandler::new()
}
