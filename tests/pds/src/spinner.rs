//! The protection domain `spinner.elf`: in a brane's or a client's place, it computes for ever and asks nothing of
//! anybody. For tests: the others must keep their share of the processor.
#![no_std]
#![no_main]

use sel4_microkit::{NullHandler, protection_domain};

#[protection_domain]
fn init() -> NullHandler {
    loop {
        core::hint::spin_loop();
    }
}
