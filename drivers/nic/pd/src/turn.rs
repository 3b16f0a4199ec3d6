//! The protection domain `turn.elf`: it tells the NIC drivers when the branes have had their turns.
//!
//! It has the priority of the branes. A driver that has worked enough for a brane notifies it; it goes to the end of the kernel's
//! round of turns, and notifies the driver when the round has come to it. If nobody else wants to run, that is at once. The
//! drivers are on the other side; they are trusted, and nobody else can reach it.
#![no_std]
#![no_main]

use sel4_microkit::{ChannelSet, Handler, Never, protection_domain, yield_turn};

struct Turn;

#[protection_domain]
fn init() -> Turn {
    Turn
}

impl Handler for Turn {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        // A domain that is woken from above is put first in the round.
        yield_turn();
        for driver in channels.iter() {
            driver.notify();
        }
        Ok(())
    }
}
