//! The remote line's shell: serial's bytes on one side, calls to the manager on the other.
//!
//! It owns its half of the region `remote-line`. Serial, which is trusted, has the other half. It owns its ends of the regions
//! `capture-N`. The branes, which are not trusted, have the others. The manager writes its answers to
//! `remote-reply`, which this domain can only read. No other domain trusts this one. It waits only within a call to the manager
//! or the timer, and both answer at once. If a request takes longer, the manager notifies this domain at the end.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use brane_abi::layout::remote_line;
use brane_abi::operator;
use brane_abi::remote::{STATUS_ERROR, STATUS_OK};
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use remote_core::{Manager, Reply, Session};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain};

mod calls;
#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, regions};

const MANAGER: Channel = Channel::new(channels::MANAGER);
const SERIAL: Channel = Channel::new(channels::SERIAL);
const TIMER: Channel = Channel::new(channels::TIMER);

/// Received bytes handled in one wake: some short requests, or half of a garbled flood.
const BUDGET: usize = 2048;

struct Shell {
    clock: Clock,
    alarm: Alarm,
    session: Session,
    input: StreamConsumer,
    output: StreamProducer,
    /// True if serial's indices were impossible; then nothing is read or written any more.
    quarantined: bool,
    /// Violations of branes that were logged.
    violations: u32,
}

const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.expect(TOO_SMALL)
}

#[protection_domain]
fn init() -> Shell {
    log::attach(regions::LOG_REMOTE, SERIAL);
    heap::init(regions::HEAP_REMOTE);
    let shared = regions::REMOTE_LINE.shared();
    let mut session = Session::new();
    for region in regions::CAPTURE {
        session.captures.connect(region.shared()).expect(TOO_SMALL);
    }
    let part = |part: brane_abi::layout::Part| shared.part(part.offset, part.len).expect(TOO_SMALL);
    Shell {
        clock: Clock::new(regions::TSC),
        alarm: Alarm::new(TIMER),
        session,
        violations: 0,
        input: StreamConsumer::new(
            indices(shared, remote_line::INPUT_INDICES),
            part(remote_line::INPUT),
        )
        .expect(TOO_SMALL),
        output: StreamProducer::new(
            indices(shared, remote_line::OUTPUT_INDICES),
            part(remote_line::OUTPUT),
        )
        .expect(TOO_SMALL),
        quarantined: false,
    }
}

/// The manager, reached by its channel.
struct ByCall;

const BY_CALL: calls::Manager = calls::Manager {
    channel: MANAGER,
    reply: regions::REMOTE_REPLY,
};

fn copied(reply: calls::Reply<'_>) -> Reply {
    match reply {
        calls::Reply::Later(job) => Reply::Later(job),
        calls::Reply::Ended { label, text } => {
            let status = match label {
                operator::OK => STATUS_OK,
                _ => STATUS_ERROR,
            };
            Reply::Done(status, Vec::from(text))
        }
    }
}

impl Manager for ByCall {
    fn call(&mut self, request: &[u8]) -> Reply {
        BY_CALL.call(request, copied)
    }

    fn poll(&mut self, job: u64) -> Reply {
        BY_CALL.poll(job, copied)
    }

    fn cancel(&mut self, job: u64) {
        BY_CALL.cancel(job);
    }
}

impl Shell {
    fn give_up(&mut self) {
        self.quarantined = true;
        logln!("the remote line to serial makes no sense: it is off until the next boot");
    }

    /// Handles received bytes. Returns true if there were any; serial must then be notified, because it may wait for room.
    fn receive(&mut self) -> bool {
        let mut taken = 0;
        let mut buffer = [0; BUDGET / 4];
        while taken < BUDGET && !self.quarantined {
            match self.input.read(&mut buffer) {
                Ok(0) => return taken != 0,
                Ok(count) => {
                    self.session.receive(&buffer[..count], &mut ByCall);
                    taken += count;
                }
                Err(_) => self.give_up(),
            }
        }
        // There may be more bytes: continue after other domains had their turn.
        self.alarm.set(self.clock.now_ns());
        taken != 0
    }

    /// Continues the links with the branes, and continues later if there are more records than one wake takes.
    fn poll_branes(&mut self) {
        let captures = &mut self.session.captures;
        captures.flush(|number| {
            if let Some(channel) = channels::BRANE.get(number) {
                Channel::new(*channel).notify();
            }
        });
        let violations = captures.violations();
        if violations != self.violations {
            self.violations = violations;
            logln!("a brane broke the rules of its captured frames; {violations} times so far");
        }
        if !self.quarantined && !captures.arm() {
            self.alarm.set(self.clock.now_ns());
        }
    }

    /// Moves the bytes to send into the ring. Returns true if there were any. If the ring was full, serial notifies this domain
    /// when it has taken some bytes.
    fn flush(&mut self) -> bool {
        if self.quarantined {
            return false;
        }
        let output = &mut self.output;
        let (mut written, mut quarantined) = (false, false);
        self.session.flush(|bytes| match output.write(bytes) {
            Ok(count) => {
                written |= count != 0;
                count
            }
            Err(_) => {
                quarantined = true;
                0
            }
        });
        if quarantined {
            self.give_up();
        }
        written
    }
}

impl Handler for Shell {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
        }
        self.session.captures.wake(self.clock.now_ns());
        if channels.contains(MANAGER) && self.session.waits() {
            self.session.poll(&mut ByCall);
        }
        let taken = self.receive();
        if self.flush() || taken {
            SERIAL.notify();
        }
        self.poll_branes();
        Ok(())
    }
}
