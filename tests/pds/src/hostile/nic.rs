//! The protection domain `hostile-nic.elf`: in a brane's place, it behaves until it has its port, then spends
//! the processor and the driver's time, forever.
//!
//! In its phases it replays its ring, notifies, sends the shortest frames, and sends them with only the
//! necessary notifications. It only computes before and after each of these. It answers heartbeats throughout.
//! For tests: the other domains must keep their share of the processor. On the other side are the driver and
//! the manager, which do not trust it.
#![no_std]
#![no_main]

use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, log, logln, protection_domain};
use test_pds_core::brane::{Flood, HostileBrane, Notify};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-hostile-nic.rs"));
}

const DRIVER: Channel = Channel::new(wiring::channels::NIC[0]);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Length of a phase in nanoseconds.
const PHASE: u64 = 4_000_000_000;
/// Time between two polls of the manager's commands, in nanoseconds.
const LOOK: u64 = 50_000_000;
/// Time for the start of the other domains, in nanoseconds.
const START: u64 = 3_000_000_000;

/// The floods, by their names in the log.
const FLOODS: [(&str, Flood); 4] = [
    ("replays", Flood::Replay),
    ("notifies", Flood::Notifications),
    ("sends", Flood::Frames),
    ("streams", Flood::ArmedFrames),
];

/// Returns the phase with this number, from 0. Every second one has a flood.
fn phase(number: usize) -> (&'static str, Option<Flood>) {
    match number % 2 {
        0 => ("computes", None),
        _ => {
            let (name, flood) = FLOODS[number / 2 % FLOODS.len()];
            (name, Some(flood))
        }
    }
}

struct Hostile {
    brane: HostileBrane,
    clock: Clock,
    start: u64,
}

#[protection_domain]
fn init() -> Hostile {
    log::attach(wiring::regions::LOG_BRANE, SERIAL);
    let clock = Clock::new(wiring::regions::TSC);
    let (ports, ctl) = (
        wiring::regions::PORTS_NIC[0].shared(),
        wiring::regions::CTL.shared(),
    );
    let mut hostile = Hostile {
        brane: HostileBrane::new(ports, ctl, 0),
        clock,
        start: clock.now_ns() + START,
    };
    logln!("hostile: started");
    hostile.brane.start();
    notify(Notify {
        driver: true,
        manager: true,
    });
    Alarm::new(TIMER).set(hostile.start);
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
    fn flood(&mut self) -> ! {
        let (mut last, mut looked) = (usize::MAX, 0);
        loop {
            let now = self.clock.now_ns();
            let number = (now.saturating_sub(self.start) / PHASE) as usize;
            let (name, flood) = phase(number);
            if number != last {
                last = number;
                let replays = self.brane.flooding.replays;
                logln!("hostile: phase {number} {name}, {replays} replays before");
            }
            if now - looked > LOOK {
                looked = now;
                notify(self.brane.behave());
            }
            match flood {
                Some(flood) => notify(self.brane.flood(flood)),
                None => core::hint::spin_loop(),
            }
        }
    }
}

impl Handler for Hostile {
    type Error = Never;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Never> {
        notify(self.brane.behave());
        if self.brane.mac().is_some() && self.clock.now_ns() >= self.start {
            self.flood();
        }
        Ok(())
    }
}
