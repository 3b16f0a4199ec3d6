//! The protection domain `flood-client.elf`: in a client's place, it calls the timer, notifies serial and fills
//! its log ring as fast as it can, each in a phase of its own ([`test_pds_core::phases`]).
//!
//! For tests: timer and serial bound their work for the client, and the manager suspends it. On the other side
//! are timer and serial, which are trusted.
#![no_std]
#![no_main]

mod sleeper;

use brane_abi::timer;
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, log, logln, protection_domain, set_mr,
};
use sleeper::Sleeper;
use test_pds_core::phases::Phase;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-flood-client.rs"));
}

const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// A line of the log, with the maximum length that serial prints.
const LINE: &str = "flood: 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";

struct Flood(Sleeper);

#[protection_domain]
fn init() -> Flood {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    Flood(Sleeper::start(Clock::new(wiring::regions::TSC), TIMER))
}

/// Sets a deadline. The timer accepts each one, regardless of their number.
fn deadline(at: u64) {
    set_mr(0, at);
    let answer = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
    assert_eq!(answer.label(), timer::OK, "the timer's answer");
}

impl Handler for Flood {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if !channels.contains(TIMER) {
            return Ok(());
        }
        while self.flood() {}
        self.0.until_next();
        Ok(())
    }
}

impl Flood {
    /// Floods for the rest of the phase, if the phase belongs to this program.
    fn flood(&mut self) -> bool {
        let turn = self.0.turn();
        let flood: Option<fn()> = match turn.phase {
            Phase::Spin => Some(core::hint::spin_loop),
            Phase::Far => Some(|| deadline(u64::MAX)),
            Phase::Due => Some(|| deadline(0)),
            Phase::Serial => Some(|| SERIAL.notify()),
            Phase::Log => Some(|| logln!("{LINE}")),
            _ => None,
        };
        let Some(flood) = flood else { return false };
        let mut count = 0u64;
        while self.0.is_in(turn.phase) {
            flood();
            count += 1;
        }
        logln!("flood: {count} times {}", turn.phase.name());
        true
    }
}
