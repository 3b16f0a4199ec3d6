//! The protection domain `flood-brane.elf`: in a brane's place, it behaves, but in its phases
//! ([`test_pds_core::phases`]) it notifies the manager and sends it reports as fast as it can.
//!
//! For tests: the manager bounds its work for the brane, and suspends it. On the other side are the manager and
//! the timer, which are trusted.
#![no_std]
#![no_main]

mod sleeper;

use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, log, logln, protection_domain};
use sleeper::Sleeper;
use test_pds_core::brane::HostileBrane;
use test_pds_core::phases::Phase;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-flood-brane.rs"));
}

const DRIVER: Channel = Channel::new(wiring::channels::NIC[0]);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Number of notifications between two polls of the manager's commands.
const BETWEEN: u64 = 256;

struct Flood {
    brane: HostileBrane,
    sleeper: Sleeper,
}

#[protection_domain]
fn init() -> Flood {
    log::attach(wiring::regions::LOG_BRANE, SERIAL);
    let mut flood = Flood {
        brane: HostileBrane::new(
            wiring::regions::PORTS_NIC[0].shared(),
            wiring::regions::CTL.shared(),
            0,
        ),
        sleeper: Sleeper::start(Clock::new(wiring::regions::TSC), TIMER),
    };
    flood.brane.start();
    DRIVER.notify();
    MANAGER.notify();
    flood
}

impl Flood {
    fn behave(&mut self) {
        let notify = self.brane.behave();
        if notify.driver {
            DRIVER.notify();
        }
        if notify.manager {
            MANAGER.notify();
        }
    }
}

impl Handler for Flood {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        self.behave();
        let phase = self.sleeper.turn().phase;
        if matches!(phase, Phase::Bell | Phase::Reports) && self.brane.configured() {
            let mut count = 0u64;
            while self.sleeper.is_in(phase) {
                if count.is_multiple_of(BETWEEN) {
                    self.behave();
                }
                if phase == Phase::Reports {
                    self.brane.report_unasked();
                }
                MANAGER.notify();
                count += 1;
            }
            logln!("flood: {count} times {}", phase.name());
            self.sleeper.until_next();
        } else if channels.contains(TIMER) {
            self.sleeper.until_next();
        }
        Ok(())
    }
}
