//! External filters for the tests. They do what the payload of a received datagram says, and misbehave if it says so.
//!
//! Each owns side B of its region `registration-filterK` (with the manager) and of `hook-filterK-N` (with brane N). The manager is
//! trusted. No domain trusts a filter.
//!
//! | domain | branes | fails | obeys |
//! | --- | --- | --- | --- |
//! | `filter0` | all | closed | `drop`, `reject`, `modify`, `absorb` |
//! | `filter1` | `red` | open | `test-hangs`, `test-is-mute`, `test-faults`, `test-lies` |
//! | `filter2` | `blue` | closed | as `filter1` |
//!
//! Every other packet passes. The words are the beginning of the payload of an IPv4 datagram without IP options.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;
use brane_hook::{Decision, Event, Filter, Head, Packet, Peer, Registration};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, pd_name, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-test-filter.rs"));
}
use wiring::{channels, regions};

const SERIAL: Channel = Channel::new(channels::SERIAL);

/// Headers of IPv4 and UDP in bytes.
const HEADERS: usize = 28;

/// UDP (RFC 768).
const UDP: u8 = 17;

struct TestFilter {
    filter: Filter,
    /// True for the first filter.
    first: bool,
    /// True if it decides about nothing any more.
    mute: bool,
    /// True for each brane of which a packet has come.
    known: [bool; channels::BRANE.len()],
}

#[protection_domain]
fn init() -> TestFilter {
    log::attach(regions::LOG_FILTER, SERIAL);
    heap::init(regions::HEAP_FILTER);
    let name = pd_name().unwrap_or_default();
    let only = |brane: &str| Some(Vec::from([brane.into()]));
    let (branes, fail_open) = match name {
        "filter1" => (only("red"), true),
        "filter2" => (only("blue"), false),
        _ => (None, false),
    };
    let registration = Registration {
        name: format!("test-{name}"),
        rank: 100,
        branes,
        heads: Vec::from([Head::InetIn]),
        headers: None,
        deadline_ms: 200,
        fail_open,
    };
    let regions = regions::HOOK_FILTER.map(|region| region.shared());
    let filter = Filter::start(
        regions::REGISTRATION_FILTER.shared(),
        &regions,
        registration,
        notify,
    )
    .expect("the system description's regions are smaller than the layouts");
    let mut own = TestFilter {
        filter,
        first: name == "filter0",
        mute: false,
        known: [false; channels::BRANE.len()],
    };
    own.work();
    own
}

fn notify(peer: Peer) {
    match peer {
        Peer::Manager => Channel::new(channels::MANAGER).notify(),
        Peer::Brane(number) => {
            if let Some(channel) = channels::BRANE.get(number) {
                Channel::new(*channel).notify();
            }
        }
    }
}

/// Returns the payload of an IPv4 datagram.
fn payload<'a>(packet: &Packet<'a>) -> &'a [u8] {
    match packet.bytes.get(9) {
        Some(&UDP) => packet.bytes.get(HEADERS..).unwrap_or_default(),
        _ => &[],
    }
}

impl TestFilter {
    fn work(&mut self) {
        let mut lies = None;
        let Self {
            filter,
            first,
            mute,
            known,
        } = self;
        let decide = |packet: &Packet<'_>| {
            if let Some(known) = known.get_mut(packet.brane)
                && !core::mem::replace(known, true)
            {
                logln!("first packet of brane {}", packet.brane);
            }
            let text = payload(packet);
            let is = |word: &[u8]| text.starts_with(word);
            if *first {
                return match text {
                    _ if is(b"drop") => Decision::Drop,
                    _ if is(b"reject") => Decision::Reject,
                    _ if is(b"absorb") => Decision::Absorb,
                    _ if is(b"modify") => {
                        let mut bytes = Vec::from(packet.bytes);
                        bytes[HEADERS..HEADERS + 6].copy_from_slice(b"MODIFY");
                        Decision::Modify(bytes)
                    }
                    _ => Decision::Pass,
                };
            }
            match text {
                _ if is(b"test-hangs") => {
                    logln!("hangs");
                    loop {
                        core::hint::spin_loop();
                    }
                }
                _ if is(b"test-faults") => {
                    logln!("faults");
                    fault();
                }
                _ if is(b"test-is-mute") => {
                    logln!("is mute");
                    *mute = true;
                }
                _ if is(b"test-lies") => {
                    logln!("lies");
                    lies = Some(packet.brane);
                }
                _ => {}
            }
            match *mute {
                true => Decision::Later,
                false => Decision::Pass,
            }
        };
        filter.run(decide, |event| match event {
            Event::Registered => logln!("registered"),
            Event::Refused(why) => logln!("refused: {why}"),
            Event::BraneUp(brane) => logln!("brane {brane} is up"),
            other => logln!("{other:?}"),
        });
        if let Some(brane) = lies
            && let Some(end) = filter.end_of(brane)
        {
            // A verdict on a packet that never was.
            if end.rings.tx.push(&[], [1, u32::MAX >> 1, 0]).is_err() || !end.rings.tx.publish() {
                logln!("the ring to the brane is full");
            }
            if end.flush(1) {
                notify(Peer::Brane(brane));
            }
        }
    }
}

/// Reads from an unmapped address.
fn fault() {
    // SAFETY: the fault is intended: the first page is never mapped in a protection domain. The kernel stops
    // this thread at the instruction and reports the fault to the manager.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0usize => _, options(nostack, readonly)) };
}

impl Handler for TestFilter {
    type Error = Never;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Never> {
        self.work();
        Ok(())
    }
}
