//! The protection domain `hostile.elf`: in a client's place, it writes rubbish into all that it shares with its brane,
//! at a bounded rate, for ever. For tests: the brane must cut it off and go on, and nobody else must notice.
#![no_std]
#![no_main]

use brane_abi::timer;
use hostile_core::client::HostileClient;
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, heap, log, logln, protection_domain, set_mr,
};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-hostile.rs"));
}

const BRANE: Channel = Channel::new(wiring::channels::BRANE);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Where the pseudo-random numbers start.
const SEED: u64 = 0x6272_616e_6573;

/// Time between two steps in nanoseconds. A round takes two: a new life, then the rubbish.
const STEP: u64 = 10_000_000;

/// Rounds between two lines in the log.
const LOG_EVERY: u64 = 50;

struct Hostile {
    client: HostileClient,
    clock: Clock,
    fresh: bool,
}

#[protection_domain]
fn init() -> Hostile {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    heap::init(wiring::regions::HEAP_SERVICES);
    let clock = Clock::new(wiring::regions::TSC)
        .expect("the boot information has no frequency of the time stamp counter");
    let hostile = Hostile {
        client: HostileClient::new(wiring::regions::SOCK.shared(), SEED),
        clock,
        fresh: false,
    };
    logln!("hostile: started");
    hostile.wake_later();
    hostile
}

impl Hostile {
    fn wake_later(&self) {
        set_mr(0, self.clock.now_ns() + STEP);
        // The timer knows this operation.
        let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
    }

    fn step(&mut self) {
        if self.fresh {
            self.client.connect();
            for _ in 0..self.client.round() {
                BRANE.notify();
            }
            if self.client.rounds() % LOG_EVERY == 1 {
                logln!("hostile: round {}", self.client.rounds());
            }
        } else {
            self.client.start_over();
            self.client.connect();
            BRANE.notify();
        }
        self.fresh = !self.fresh;
        self.wake_later();
    }
}

impl Handler for Hostile {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.step();
        } else if self.client.connect() {
            // The link has come up; the brane is told that we have seen it.
            BRANE.notify();
        }
        Ok(())
    }
}
