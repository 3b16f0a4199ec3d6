//! The protection domain `spinner.elf`: in a brane's or a client's place, it computes forever and uses no other
//! domain.
//!
//! For tests: the other domains must keep their share of the processor.
#![no_std]
#![no_main]

use sel4_microkit::{NullHandler, protection_domain};

#[protection_domain]
fn init() -> NullHandler {
    loop {
        core::hint::spin_loop();
    }
}
