//! The remote line's shell: the bytes of two lines on one side, calls to the manager on the other.
//!
//! It owns its half of the regions `line-remote` and `remote-line`. The other half of the first has the domain `line`, the driver of
//! the virtio-console device, which is not trusted; that of the second serial, which is. It owns its ends of the regions
//! `capture-N`. The branes, which are not trusted, have the others. The manager writes its answers to
//! `remote-reply`, which this domain can only read. No other domain trusts this one. It waits only within a call to the manager
//! or the timer, and both answer at once. If a request takes longer, the manager notifies this domain at the end.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use brane_abi::layout::{line_remote, remote_line};
use brane_abi::operator;
use brane_abi::remote::{STATUS_ERROR, STATUS_OK};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use remote_core::lines::{Line, Sessions};
use remote_core::{Manager, Reply};
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
const LINE: Channel = Channel::new(channels::LINE);
const TIMER: Channel = Channel::new(channels::TIMER);

/// Received bytes of each line that are handled in one wake: some short requests, or half of a garbled flood.
const BUDGET: usize = 2048;
/// Bytes that are sent on each line in one wake. More follow after other domains had their turn.
const SENT: usize = line_remote::OUTPUT.len;

struct Shell {
    clock: Clock,
    alarm: Alarm,
    sessions: Sessions,
    ends: [End; Line::ALL.len()],
    /// Violations of branes that were logged.
    violations: u32,
}

/// The rings of a line.
struct End {
    line: Line,
    /// The driver of the line's device.
    driver: Channel,
    input: StreamConsumer,
    output: StreamProducer,
    /// True if the driver's indices were impossible; then nothing is read or written any more.
    quarantined: bool,
}

const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

#[protection_domain]
fn init() -> Shell {
    log::attach(regions::LOG_REMOTE, SERIAL);
    heap::init(regions::HEAP_REMOTE);
    let ends = Line::ALL.map(|line| {
        let (driver, layout, region) = match line {
            Line::Console => (LINE, line_remote::LINE, regions::LINE_REMOTE),
            Line::Uart => (SERIAL, remote_line::LINE, regions::REMOTE_LINE),
        };
        let (input, output) = layout.session_ends(region.shared()).expect(TOO_SMALL);
        End {
            line,
            driver,
            input,
            output,
            quarantined: false,
        }
    });
    let mut sessions = Sessions::new();
    for region in regions::CAPTURE {
        sessions.captures().connect(region.shared()).expect(TOO_SMALL);
    }
    Shell {
        clock: Clock::new(regions::TSC),
        alarm: Alarm::new(TIMER),
        sessions,
        ends,
        violations: 0,
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

impl End {
    fn quarantine(&mut self) {
        self.quarantined = true;
        logln!(
            "the rings of the line {:?} make no sense: it is off until this domain restarts",
            self.line
        );
    }

    /// Handles received bytes, up to the budget. Returns their number.
    fn receive(&mut self, sessions: &mut Sessions) -> usize {
        let mut taken = 0;
        let mut buffer = [0; BUDGET / 4];
        while taken < BUDGET && !self.quarantined {
            match self.input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    sessions.receive(self.line, &buffer[..count], &mut ByCall);
                    taken += count;
                }
                Err(_) => self.quarantine(),
            }
        }
        taken
    }

    /// Moves bytes to send into the ring, up to the budget. Returns their number. If the ring was full, the driver notifies this
    /// domain when it has taken some bytes.
    fn flush(&mut self, sessions: &mut Sessions) -> usize {
        if self.quarantined {
            return 0;
        }
        let output = &mut self.output;
        let (mut written, mut quarantined) = (0, false);
        sessions.flush(self.line, |bytes| {
            if written >= SENT {
                return 0;
            }
            match output.write(bytes) {
                Ok(count) => {
                    written += count;
                    count
                }
                Err(_) => {
                    quarantined = true;
                    0
                }
            }
        });
        if quarantined {
            self.quarantine();
        }
        written
    }
}

impl Shell {
    /// Continues the links with the branes. Returns true if there are more records than one wake takes.
    fn poll_branes(&mut self) -> bool {
        let captures = self.sessions.captures();
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
        !captures.arm()
    }
}

impl Handler for Shell {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
        }
        self.sessions.captures().wake(self.clock.now_ns());
        if channels.contains(MANAGER) && self.sessions.waits() {
            self.sessions.poll(&mut ByCall);
        }
        // All lines receive first: a hello on one ends the session of the other.
        let taken = self.ends.each_mut().map(|end| end.receive(&mut self.sessions));
        let mut more = false;
        for (end, taken) in self.ends.iter_mut().zip(taken) {
            let sent = end.flush(&mut self.sessions);
            // The driver may wait for room too.
            if sent != 0 || taken != 0 {
                end.driver.notify();
            }
            more |= taken >= BUDGET || sent >= SENT;
        }
        more |= self.poll_branes();
        if more {
            // There may be more bytes: continue after other domains had their turn.
            self.alarm.set(self.clock.now_ns());
        }
        Ok(())
    }
}
