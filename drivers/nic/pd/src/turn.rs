//! The protection domain `turn.elf`: it notifies the NIC drivers when the branes have had their turns.
//!
//! It has the priority of the branes. If a driver has worked enough for a brane, it notifies this domain. The domain
//! goes to the end of the kernel's round of turns, and notifies the driver when the round reaches it. If no other
//! domain is ready to run, that is at once. The drivers are on the other side; they are trusted, and no other domain
//! can notify this one.
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
