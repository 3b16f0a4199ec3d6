//! The console's shell: the serial line on one side, calls to the manager on the other.
//!
//! It owns the console's half of the region `tty`. Serial, which is trusted, has the other half. The manager writes its answers
//! to `console-reply`, which the console can only read. No other domain trusts the console.
//!
//! The console waits only within a call to the manager or the timer, and both answer at once. If a request takes longer, it is a
//! job of the manager, and the manager notifies the console at its end. The console handles keys meanwhile, so Ctrl-C works.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use brane_abi::layout::tty;
use brane_abi::operator::{self, Answer, MAX_REQUEST, Refusal, Request};
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use console_core::session::{Session, Todo};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain};

#[path = "../../remote/src/calls.rs"]
mod calls;
#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, regions};

const MANAGER: Channel = Channel::new(channels::MANAGER);
const BY_CALL: calls::Manager = calls::Manager {
    channel: MANAGER,
    reply: regions::CONSOLE_REPLY,
};
const SERIAL: Channel = Channel::new(channels::SERIAL);
const TIMER: Channel = Channel::new(channels::TIMER);

/// Typed bytes handled in one wake.
const KEY_BUDGET: usize = 256;
/// Requests sent in one wake. A command with more requests continues after other domains had their turn.
const REQUEST_BUDGET: usize = 32;

/// Event that the session waits for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Waiting {
    /// Nothing.
    None,
    /// The manager's job of this number.
    Job(u64),
    /// This moment, in nanoseconds.
    Until(u64),
    /// The next wake: there are more requests than one wake may send.
    Turn(Request),
}

/// A reply of the manager.
#[expect(clippy::large_enum_variant, reason = "one at a time, for as long as a call")]
enum Reply {
    /// The answer.
    Now(Result<Answer, Refusal>),
    /// The number of the job that will have the answer.
    Later(u64),
}

struct Shell {
    clock: Clock,
    alarm: Alarm,
    session: Session,
    keyboard: StreamConsumer,
    screen: StreamProducer,
    waiting: Waiting,
    /// True if the tty's indices were impossible; then nothing is read or written any more.
    quarantined: bool,
}

const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.expect(TOO_SMALL)
}

#[protection_domain]
fn init() -> Shell {
    log::attach(regions::LOG_CONSOLE, SERIAL);
    heap::init(regions::HEAP_CONSOLE);
    let shared = regions::TTY.shared();
    let part = |part: brane_abi::layout::Part| shared.part(part.offset, part.len).expect(TOO_SMALL);
    let mut shell = Shell {
        clock: Clock::new(regions::TSC),
        alarm: Alarm::new(TIMER),
        session: Session::new(),
        keyboard: StreamConsumer::new(indices(shared, tty::INPUT_INDICES), part(tty::INPUT))
            .expect(TOO_SMALL),
        screen: StreamProducer::new(indices(shared, tty::OUTPUT_INDICES), part(tty::OUTPUT))
            .expect(TOO_SMALL),
        waiting: Waiting::None,
        quarantined: false,
    };
    shell.flush();
    shell
}

impl Shell {
    /// Moves output for the screen into the ring. If the ring was full, serial notifies the console when it has taken some bytes.
    fn flush(&mut self) {
        if self.quarantined {
            return;
        }
        let screen = &mut self.screen;
        let mut written = false;
        let mut quarantined = false;
        self.session.flush(|bytes| match screen.write(bytes) {
            Ok(n) => {
                written |= n != 0;
                n
            }
            Err(_) => {
                quarantined = true;
                0
            }
        });
        if written {
            SERIAL.notify();
        }
        if quarantined {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.quarantined = true;
        logln!(
            "the indices of the console's line to serial are invalid: the console is off until the next boot"
        );
    }

    /// Handles typed bytes.
    fn keys(&mut self) {
        for _ in 0..KEY_BUDGET {
            if self.quarantined {
                return;
            }
            let mut byte = [0];
            match self.keyboard.read(&mut byte) {
                Ok(0) => return,
                Ok(_) => {
                    let todo = self.session.key(byte[0]);
                    if todo.is_some() || !self.session.is_busy() {
                        self.go_on(todo);
                    }
                }
                Err(_) => self.give_up(),
            }
        }
        // More bytes than a person types: continue after other domains had their turn.
        self.alarm.set(self.clock.now_ns());
    }

    /// Executes the session's next steps, up to a step that has to wait.
    fn go_on(&mut self, mut todo: Option<Todo>) {
        if let Waiting::Job(job) = core::mem::replace(&mut self.waiting, Waiting::None) {
            // A key ended the wait for the job.
            BY_CALL.cancel(job);
        }
        for _ in 0..REQUEST_BUDGET {
            let request = match todo {
                None => return,
                Some(Todo::Pause(ms)) => {
                    let at = self.clock.now_ns() + u64::from(ms) * 1_000_000;
                    self.alarm.set(at);
                    self.waiting = Waiting::Until(at);
                    return;
                }
                Some(Todo::Send(request)) => request,
            };
            match ask(&request) {
                Reply::Now(answer) => todo = self.session.answer(answer),
                Reply::Later(job) => {
                    self.waiting = Waiting::Job(job);
                    return;
                }
            }
        }
        match todo {
            Some(Todo::Send(request)) => self.waiting = Waiting::Turn(request),
            Some(Todo::Pause(_)) => self.waiting = Waiting::Until(0),
            None => return,
        }
        self.alarm.set(self.clock.now_ns());
    }

    /// Fetches the result of the job, after a notification of the manager.
    fn fetch(&mut self) {
        if let Waiting::Job(job) = self.waiting
            && let Reply::Now(answer) = BY_CALL.poll(job, read)
        {
            self.waiting = Waiting::None;
            let todo = self.session.answer(answer);
            self.go_on(todo);
        }
    }

    /// Continues the session when the timer has notified.
    fn rang(&mut self) {
        match core::mem::replace(&mut self.waiting, Waiting::None) {
            Waiting::Until(at) if at <= self.clock.now_ns() => {
                let todo = self.session.passed();
                self.go_on(todo);
            }
            Waiting::Until(at) => {
                self.alarm.set(at);
                self.waiting = Waiting::Until(at);
            }
            Waiting::Turn(request) => self.go_on(Some(Todo::Send(request))),
            other => self.waiting = other,
        }
    }
}

/// Sends a request to the manager.
fn ask(request: &Request) -> Reply {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and every request can be encoded.
    let _ = minicbor::encode(request, &mut bytes);
    if bytes.len() > MAX_REQUEST {
        return Reply::Now(Err(Refusal::RequestTooLong(bytes.len() as u32)));
    }
    BY_CALL.call(&bytes, read)
}

/// Decodes the manager's reply.
fn read(reply: calls::Reply<'_>) -> Reply {
    let unreadable = || Reply::Now(Err(Refusal::UnreadableReply));
    match reply {
        calls::Reply::Later(job) => Reply::Later(job),
        calls::Reply::Ended { label, text } => match label {
            operator::OK => match minicbor::decode(text) {
                Ok(answer) => Reply::Now(Ok(answer)),
                Err(_) => unreadable(),
            },
            operator::ERROR => match minicbor::decode(text) {
                Ok(refusal) => Reply::Now(Err(refusal)),
                Err(_) => unreadable(),
            },
            _ => unreadable(),
        },
    }
}

impl Handler for Shell {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
            self.rang();
        }
        if channels.contains(MANAGER) {
            self.fetch();
        }
        self.keys();
        self.flush();
        Ok(())
    }
}
