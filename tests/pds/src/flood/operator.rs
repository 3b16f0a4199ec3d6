//! The protection domain `flood-operator.elf`: in the place of the remote line, it calls the manager, fills its
//! line's output ring and empties the line's input ring as fast as it can, each in a phase of its own
//! ([`test_pds_core::phases`]).
//!
//! For tests: the manager bounds its work for an operator, and suspends the operator in its call, which is
//! answered nevertheless. Serial bounds its work for a line. On the other side are the manager, serial and the
//! timer, which are trusted.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../../../../clients/remote/src/calls.rs"]
#[expect(dead_code, reason = "this program only sends requests")]
mod calls;
mod sleeper;

use alloc::vec::Vec;
use brane_abi::layout::{Part, remote_line};
use brane_abi::operator::{OK, Request};
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use calls::{Manager, Reply};
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain};
use sleeper::Sleeper;
use test_pds_core::phases::Phase;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-flood-operator.rs"));
}

const MANAGER: Channel = Channel::new(wiring::channels::MANAGER);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// Bytes that are written to the line, or read from it, between two notifications. The number is large, so that
/// the notifications cost little in comparison.
const PIECE: usize = 4096;

struct Flood {
    sleeper: Sleeper,
    manager: Manager,
    request: Vec<u8>,
    input: StreamConsumer,
    output: StreamProducer,
}

const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

/// Returns the indices and the data of a ring of the line.
fn ring(offset: usize, data: Part) -> (&'static RingIndices, SharedRegion) {
    let region = wiring::regions::REMOTE_LINE.shared();
    // SAFETY: `RingIndices` consists of atomics only.
    let indices = unsafe { region.object(offset) }.expect(TOO_SMALL);
    (indices, region.part(data.offset, data.len).expect(TOO_SMALL))
}

#[protection_domain]
fn init() -> Flood {
    log::attach(wiring::regions::LOG_REMOTE, SERIAL);
    heap::init(wiring::regions::HEAP_REMOTE);
    let (indices, data) = ring(remote_line::INPUT_INDICES, remote_line::INPUT);
    let input = StreamConsumer::new(indices, data).expect(TOO_SMALL);
    let (indices, data) = ring(remote_line::OUTPUT_INDICES, remote_line::OUTPUT);
    Flood {
        sleeper: Sleeper::start(Clock::new(wiring::regions::TSC), TIMER),
        manager: Manager {
            channel: MANAGER,
            reply: wiring::regions::REMOTE_REPLY,
        },
        request: minicbor::to_vec(Request::Devices).expect("a request is a few bytes"),
        input,
        output: StreamProducer::new(indices, data).expect(TOO_SMALL),
    }
}

impl Flood {
    /// Calls the manager. Returns 1.
    fn call(&mut self) -> u64 {
        let answered = self.manager.call(&self.request, |reply| match reply {
            Reply::Ended { label, text } => label == OK && !text.is_empty(),
            Reply::Later(_) => false,
        });
        assert!(answered, "a call was not answered");
        1
    }

    /// Sends a piece if there is room for it. Returns the number of sent bytes.
    fn send(&mut self) -> u64 {
        if self.output.room().expect("serial is trusted") < PIECE {
            return 0;
        }
        let written = self.output.write(&[b'~'; PIECE]).expect("serial is trusted");
        SERIAL.notify();
        written as u64
    }

    /// Receives a piece if enough bytes have arrived. Returns the number of received bytes.
    fn receive(&mut self) -> u64 {
        if self.input.available().expect("serial is trusted") < PIECE {
            return 0;
        }
        let mut taken = 0;
        while let Ok(count @ 1..) = self.input.read(&mut [0; PIECE]) {
            taken += count as u64;
        }
        // Serial may wait for room.
        SERIAL.notify();
        taken
    }
}

impl Handler for Flood {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if !channels.contains(TIMER) {
            return Ok(());
        }
        let phase = self.sleeper.turn().phase;
        let flood: Option<fn(&mut Flood) -> u64> = match phase {
            Phase::Calls => Some(Flood::call),
            Phase::Output => Some(Flood::send),
            Phase::Input => Some(Flood::receive),
            _ => None,
        };
        if let Some(flood) = flood {
            let mut count = 0;
            while self.sleeper.is_in(phase) {
                count += flood(self);
            }
            logln!("flood: {count} times {}", phase.name());
        }
        self.sleeper.until_next();
        Ok(())
    }
}
