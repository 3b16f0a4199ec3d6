//! The protection domain `hostile-brane.elf`: in a brane's place, it behaves until it has its port, then forges
//! frames, then writes rubbish towards driver and manager, at a bounded rate, forever.
//!
//! For tests: no forged frame leaves, driver and manager quarantine it and continue, and no other brane is
//! affected.
#![no_std]
#![no_main]

mod interval;

use core::sync::atomic::{AtomicU64, Ordering};
use interval::Interval;
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, log, logln, protection_domain};
use test_pds_core::brane::{HostileBrane, Notify};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-hostile-brane.rs"));
}

const DRIVER: Channel = Channel::new(wiring::channels::NIC[0]);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

struct Hostile {
    brane: HostileBrane,
    incarnation: u64,
    interval: Interval,
    /// True if the links were reset, for the next piece of rubbish.
    fresh: bool,
}

#[protection_domain]
fn init() -> Hostile {
    log::attach(wiring::regions::LOG_BRANE, SERIAL);
    // The memory that belongs to a brane alone is not cleared at a restart. Here it counts the incarnations.
    // SAFETY: an atomic, and the region is mapped for this domain alone.
    let incarnations =
        unsafe { wiring::regions::HEAP.shared().object::<AtomicU64>(0) }.expect("the heap holds eight bytes");
    let incarnation = incarnations.fetch_add(1, Ordering::Relaxed);
    let (ports, ctl) = (
        wiring::regions::PORTS_NIC[0].shared(),
        wiring::regions::CTL.shared(),
    );
    let mut hostile = Hostile {
        brane: HostileBrane::new(ports, ctl, incarnation),
        incarnation,
        interval: Interval::start(Clock::new(wiring::regions::TSC), TIMER),
        fresh: true,
    };
    logln!("hostile: started, incarnation {incarnation}");
    hostile.brane.start();
    notify(Notify {
        driver: true,
        manager: true,
    });
    hostile
}

fn notify(whom: Notify) {
    if whom.driver {
        DRIVER.notify();
    }
    if whom.manager {
        MANAGER.notify();
    }
}

impl Hostile {
    fn step(&mut self) {
        notify(self.brane.behave());
        // Rubbish leads to quarantine, and a reset ends it for the next piece.
        if self.brane.forges() || self.fresh {
            let before = self.brane.rounds();
            notify(self.brane.round());
            let rounds = self.brane.rounds();
            if rounds != before && Interval::is_told(rounds) {
                logln!("hostile: round {rounds} of incarnation {}", self.incarnation);
            }
            self.fresh = false;
        } else {
            self.brane.start_over();
            notify(Notify {
                driver: true,
                manager: false,
            });
            self.fresh = true;
        }
        self.interval.wake_later();
    }
}

impl Handler for Hostile {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.step();
        } else {
            notify(self.brane.behave());
        }
        Ok(())
    }
}
