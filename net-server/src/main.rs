//! The protection domain `brane-N`: one brane, a whole TCP/IP stack of its own.
//!
//! It owns its heap and its ends of `ports-N` (with each NIC driver), `ctl-N` (with the manager) and `sock-N` (with its
//! client) and `capture-N` (with remote). Driver, manager, timer and serial are trusted; the client, remote and the network are not. All decisions are in
//! `net-server-core`; here is only the wiring, the clock and the seed.
#![no_std]
#![no_main]

extern crate alloc;

use net_server_core::{Brane, Failure, Peer};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, Never, Region, entropy, heap, log, logln, protection_domain, scrub,
};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}

/// NICs of this system.
const NICS: usize = wiring::channels::NIC.len();
/// The ports at each NIC.
const PORTS: [Region; NICS] = wiring::regions::PORTS_NIC;
/// Ports at each NIC.
const PORTS_PER_NIC: usize = brane_abi::layout::ports::count(PORTS[0].size);
/// External filters of this system.
const FILTERS: usize = wiring::channels::FILTER.len();
/// The regions shared with them.
const HOOKS: [Region; FILTERS] = wiring::regions::HOOK_FILTER;
const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const CLIENT: Channel = Channel::new(wiring::channels::SERVICES);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

const _: () = assert!(
    net_server_core::memory::needed_with(NICS * PORTS_PER_NIC, FILTERS) <= wiring::regions::HEAP.size,
    "the heap of a brane does not hold what hosts and clients can make it take"
);

/// Turns taken before this domain looks at its notifications again. Its peers run above it or wait for it, so this bounds only
/// how late a deadline is armed.
const TURNS: usize = 256;

struct Shell {
    brane: Brane,
    clock: Clock,
    alarm: Alarm,
}

/// What is left of a brane that could not start: it ignores everybody, so that the manager starts it anew only when its
/// control link is overdue, not at once and for ever.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one value, for the life of the domain"
)]
enum Domain {
    Running(Shell),
    Refused,
}

/// Clears what the last brane left in the memory that this domain keeps. Its client stands still; driver and manager use the
/// rings only after the links are up again, and the links' heads are left as they are.
fn forget_the_last_brane() {
    use brane_abi::layout::{capture, ctl, hook, ports, sock};
    use wiring::regions::{CTL, HEAP, SOCK};
    scrub::clear_stack(wiring::STACK_SIZE);
    scrub::clear(HEAP, 0, HEAP.size);
    scrub::clear(SOCK, sock::REQUESTS.offset, sock::SIZE);
    scrub::clear(CTL, ctl::COMMANDS.offset, ctl::SIZE);
    if let Some(region) = wiring::regions::CAPTURE {
        scrub::clear(region, capture::RECORDS.offset, capture::SIZE);
    }
    for region in PORTS {
        scrub::clear(region, ports::RX[0].offset, region.size);
    }
    for region in HOOKS {
        scrub::clear(region, hook::VERDICTS.offset, region.size);
    }
}

/// 256 unpredictable bits.
fn seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    for word in seed.as_chunks_mut::<8>().0 {
        *word = entropy::rdrand()?.to_ne_bytes();
    }
    Some(seed)
}

#[protection_domain]
fn init() -> Domain {
    log::attach(wiring::regions::LOG_BRANE, SERIAL);
    if scrub::wanted() {
        forget_the_last_brane();
    }
    heap::init(wiring::regions::HEAP);
    let clock = Clock::new(wiring::regions::TSC);
    let Some(seed) = seed() else {
        ::log::error!(
            "not started: the processor gives no random numbers (RDRAND); give the machine a processor that does"
        );
        return Domain::Refused;
    };
    let ports = PORTS.map(|region| region.shared());
    let mut brane = Brane::start(
        seed,
        clock.now_ns(),
        &ports,
        wiring::regions::CTL.shared(),
        &[wiring::regions::SOCK.shared()],
    )
    .and_then(|brane| brane.with_filters(&HOOKS.map(|region| region.shared())))
    .expect("one of the regions `ports`, `ctl`, `sock` and `hook` of this brane is too small for its layout");
    if let Some(region) = wiring::regions::CAPTURE {
        brane
            .connect_captures(region.shared())
            .expect("the region `capture` of this brane is too small for its layout");
    }
    let mut shell = Shell {
        brane,
        clock,
        alarm: Alarm::new(TIMER),
    };
    ::log::debug!("started with {NICS} NICs");
    shell.work();
    Domain::Running(shell)
}

impl Shell {
    /// Works until there is nothing to do, and has the timer wake us where something is due later.
    fn work(&mut self) {
        let mut deadline = 0;
        for _ in 0..TURNS {
            let turn = self.brane.turn(self.clock.now_ns(), |peer| match peer {
                Peer::Driver(nic) => {
                    if let Some(channel) = wiring::channels::NIC.get(nic) {
                        Channel::new(*channel).notify();
                    }
                }
                Peer::Manager => MANAGER.notify(),
                Peer::Client(_) => CLIENT.notify(),
                Peer::Remote => {
                    if let Some(channel) = wiring::channels::REMOTE {
                        Channel::new(channel).notify();
                    }
                }
                Peer::Filter(number) => {
                    if let Some(channel) = wiring::channels::FILTER.get(number) {
                        Channel::new(*channel).notify();
                    }
                }
            });
            match turn.fail {
                None => {}
                Some(Failure::Fault) => {
                    logln!("crashing, as the manager asks");
                    fault();
                }
                Some(Failure::Hang) => {
                    logln!("hanging, as the manager asks");
                    hang();
                }
            }
            deadline = turn.deadline;
            if !turn.more && self.brane.arm() {
                break;
            }
            // Out of turns with work left: the timer brings us back at once.
            deadline = 0;
            // A flood is work without an end, and other branes have theirs.
            sel4_microkit::yield_turn();
        }
        if deadline != u64::MAX {
            // A deadline that the timer does not take only comes late.
            self.alarm.set(deadline);
        }
    }
}

/// Reads where nothing is mapped: the fault that the tests of the recovery want.
fn fault() {
    // SAFETY: it is meant to fault: the first page is never mapped in a protection domain. The kernel stops this thread
    // at the instruction and tells the manager.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0usize => _, options(nostack, readonly)) };
}

/// Computes for ever: the hang that the tests of the recovery want.
fn hang() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

impl Handler for Domain {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if let Domain::Running(shell) = self {
            if channels.contains(TIMER) {
                shell.alarm.rang();
            }
            shell.work();
        }
        Ok(())
    }
}
