//! The protection domain `hostile.elf`: in a client's place, it writes rubbish into everything that it shares
//! with its brane, at a bounded rate, forever.
//!
//! For tests: the brane must quarantine it and continue, and no other domain may be affected.
#![no_std]
#![no_main]

mod interval;

use interval::Interval;
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain};
use test_pds_core::client::HostileClient;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-hostile.rs"));
}

const BRANE: Channel = Channel::new(wiring::channels::BRANE);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Seed of the pseudo-random numbers.
const SEED: u64 = 0x6272_616e_6573;

struct Hostile {
    client: HostileClient,
    interval: Interval,
    /// True if the link was reset, for the next piece of rubbish. A round takes two steps.
    fresh: bool,
}

#[protection_domain]
fn init() -> Hostile {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    heap::init(wiring::regions::HEAP_SERVICES);
    let hostile = Hostile {
        client: HostileClient::new(wiring::regions::SOCK.shared(), SEED),
        interval: Interval::start(Clock::new(wiring::regions::TSC), TIMER),
        fresh: false,
    };
    logln!("hostile: started");
    hostile
}

impl Hostile {
    fn step(&mut self) {
        if self.fresh {
            self.client.connect();
            for _ in 0..self.client.round() {
                BRANE.notify();
            }
            if Interval::is_told(self.client.rounds()) {
                logln!("hostile: round {}", self.client.rounds());
            }
        } else {
            self.client.start_over();
            self.client.connect();
            BRANE.notify();
        }
        self.fresh = !self.fresh;
        self.interval.wake_later();
    }
}

impl Handler for Hostile {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.step();
        } else if self.client.connect() {
            // The link has come up. The notification shows the brane that the client has seen it.
            BRANE.notify();
        }
        Ok(())
    }
}
