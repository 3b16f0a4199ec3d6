//! The protection domain `flood-operator.elf`: in the place of the remote line, it calls the manager as fast as it can in its phase
//! ([`hostile_core::phases`]). For tests: the manager bounds what it works for an operator, and suspends it in its call, which is
//! answered all the same. On the other side are the manager and the timer, which are trusted.
#![no_std]
#![no_main]

extern crate alloc;

mod sleeper;

use alloc::vec::Vec;
use brane_abi::operator::{OK, Request};
use hostile_core::phases::Phase;
use operator_calls::{Manager, Reply};
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain};
use sleeper::Sleeper;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-flood-operator.rs"));
}

const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

struct Flood {
    sleeper: Sleeper,
    manager: Manager,
    request: Vec<u8>,
}

#[protection_domain]
fn init() -> Flood {
    log::attach(wiring::regions::LOG_REMOTE, SERIAL);
    heap::init(wiring::regions::HEAP_REMOTE);
    Flood {
        sleeper: Sleeper::start(Clock::new(wiring::regions::TSC), TIMER),
        manager: Manager {
            channel: MANAGER,
            reply: wiring::regions::REMOTE_REPLY,
        },
        request: minicbor::to_vec(Request::Devices).expect("a request is a few bytes"),
    }
}

impl Handler for Flood {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if !channels.contains(TIMER) {
            return Ok(());
        }
        if self.sleeper.is_in(Phase::Calls) {
            let mut count = 0u64;
            while self.sleeper.is_in(Phase::Calls) {
                let answered = self.manager.call(&self.request, |reply| match reply {
                    Reply::Ended { label, text } => label == OK && !text.is_empty(),
                    Reply::Later(_) => false,
                });
                assert!(answered, "call {count} was not answered");
                count += 1;
            }
            logln!("flood: {count} times calls");
        }
        self.sleeper.until_next();
        Ok(())
    }
}
