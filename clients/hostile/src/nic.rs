//! The protection domain `hostile-nic.elf`: in a brane's place, it behaves until it has its port, then spends the processor and
//! the driver's time, for ever: phases in which it only computes, replays its ring, notifies, and sends the shortest frames. It
//! answers heartbeats all the while. For tests: the others must keep their share of the processor.
#![no_std]
#![no_main]

use hostile_core::brane::{Flood, HostileBrane, Notify};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, log, logln, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-hostile-nic.rs"));
}

const DRIVER: Channel = Channel::new(wiring::channels::NIC0);
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Time of a phase in nanoseconds.
const PHASE: u64 = 6_000_000_000;
/// Time between two looks at what the manager asks, in nanoseconds.
const LOOK: u64 = 50_000_000;
/// Time that the others have for their start, in nanoseconds.
const START: u64 = 3_000_000_000;

/// The phases, by their names in the log.
const PHASES: [(&str, Option<Flood>); 4] = [
    ("computes", None),
    ("replays", Some(Flood::Replay)),
    ("notifies", Some(Flood::Notifications)),
    ("sends", Some(Flood::Frames)),
];

struct Hostile {
    brane: HostileBrane,
    clock: Clock,
    start: u64,
}

#[protection_domain]
fn init() -> Hostile {
    log::attach(wiring::regions::LOG_BRANE, SERIAL);
    let clock = Clock::new(wiring::regions::TSC);
    let (ports, ctl) = (wiring::regions::PORTS.shared(), wiring::regions::CTL.shared());
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
        let (mut phase, mut looked) = (usize::MAX, 0);
        loop {
            let now = self.clock.now_ns();
            let next = (now.saturating_sub(self.start) / PHASE) as usize;
            let (name, flood) = PHASES[next % PHASES.len()];
            if next != phase {
                phase = next;
                let replays = self.brane.flooding.replays;
                logln!("hostile: phase {name}, {replays} replays before");
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
