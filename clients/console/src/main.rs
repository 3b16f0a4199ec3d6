//! The console's shell: the serial line on one side, calls to the manager on the other.
//!
//! It owns the console's half of the region `tty` (serial, trusted, has the other) and reads the manager's answers in
//! `console-reply`, which it cannot write. Nobody trusts the console. It waits for nobody but within a call to the
//! manager or the timer, both of which answer at once: before a command that shows branes it asks the manager to have
//! them report, and looks every few milliseconds whether they have; it shows what is known when they had their time.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::console;
use brane_abi::layout::tty;
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use console_core::command::Command;
use console_core::session::Session;
use console_core::text;
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, get_mr, heap, log, logln, protection_domain, set_mr,
    with_msg_bytes_mut,
};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, regions};

const MANAGER: Channel = Channel::new(channels::MANAGER);
const SERIAL: Channel = Channel::new(channels::SERIAL);
const TIMER: Channel = Channel::new(channels::TIMER);

/// How often the console looks whether all branes have reported, in nanoseconds.
const LOOK_NS: u64 = 20_000_000;
/// How long branes get to report; then what is known is shown, in nanoseconds.
const REPORT_TIME_NS: u64 = 1_000_000_000;
/// Typed bytes taken in one wake.
const KEY_BUDGET: usize = 256;

struct Shell {
    clock: Clock,
    alarm: Alarm,
    session: Session,
    keyboard: StreamConsumer,
    screen: StreamProducer,
    /// The command whose answer is fetched when the branes have reported, and since when they are asked.
    waiting: Option<(Command, u64)>,
    /// Whether the tty's indices made no sense; then nothing is read or written any more.
    broken: bool,
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
        waiting: None,
        broken: false,
    };
    shell.flush();
    shell
}

impl Shell {
    /// Moves what is to be shown into the ring. Serial notifies us when it has taken some of a full one.
    fn flush(&mut self) {
        if self.broken {
            return;
        }
        let screen = &mut self.screen;
        let mut written = false;
        let mut broken = false;
        self.session.flush(|bytes| match screen.write(bytes) {
            Ok(n) => {
                written |= n != 0;
                n
            }
            Err(_) => {
                broken = true;
                0
            }
        });
        if written {
            SERIAL.notify();
        }
        if broken {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.broken = true;
        logln!("the console's line to serial makes no sense: the console is off until the next boot");
    }

    /// Takes typed bytes, up to a command whose answer has to be waited for.
    fn keys(&mut self) {
        for _ in 0..KEY_BUDGET {
            if self.broken || self.session.is_busy() {
                return;
            }
            let mut byte = [0];
            match self.keyboard.read(&mut byte) {
                Ok(0) => return,
                Ok(_) => {
                    if let Some(command) = self.session.key(byte[0]) {
                        self.begin(command);
                    }
                }
                Err(_) => self.give_up(),
            }
        }
        // More than anybody types: go on after others had their turn.
        self.alarm.set(self.clock.now_ns());
    }

    fn begin(&mut self, command: Command) {
        let now = self.clock.now_ns();
        if command.wants_refresh()
            && call(console::REFRESH, "").0 == console::OK
            && self.alarm.set(now + LOOK_NS)
        {
            self.waiting = Some((command, now));
        } else {
            self.complete(&command);
        }
    }

    /// The timer has come: fetches the answer where all have reported, or have had their time.
    fn look(&mut self) {
        let Some((command, since)) = self.waiting.take() else {
            return;
        };
        let now = self.clock.now_ns();
        let waited = now.saturating_sub(since);
        let (label, bytes) = ask(console::LIST, "");
        let late = waited < REPORT_TIME_NS
            && label == console::OK
            && !text::all_reported(&bytes, waited / 1_000_000);
        if late && self.alarm.set(now + LOOK_NS) {
            self.waiting = Some((command, since));
        } else {
            self.complete(&command);
        }
    }

    fn complete(&mut self, command: &Command) {
        let answer = match command.call() {
            Some((label, argument)) => {
                let (label, bytes) = ask(label, argument);
                text::answer(command, label, &bytes)
            }
            None => String::new(),
        };
        self.session.finish(&answer);
    }
}

/// Calls the manager: label, name. Returns the reply's label and the length of the answer's text.
fn call(label: u64, argument: &str) -> (u64, usize) {
    let argument = argument.as_bytes();
    with_msg_bytes_mut(|bytes| bytes[8..8 + argument.len()].copy_from_slice(argument));
    set_mr(0, argument.len() as u64);
    let reply = MANAGER.pp_call(MessageInfo::new(label, 1 + argument.len().div_ceil(8)));
    let len = if reply.length() == 0 { 0 } else { get_mr(0) };
    (reply.label(), usize::try_from(len).unwrap_or(usize::MAX))
}

/// Calls the manager: label, name. Returns the reply's label and the answer's text.
fn ask(label: u64, argument: &str) -> (u64, Vec<u8>) {
    let (label, len) = call(label, argument);
    let region = regions::CONSOLE_REPLY;
    // SAFETY: the length lies inside the region, which is mapped for this domain's life. Its only writer is the manager,
    // which writes only while a call of ours is answered, and the bytes are copied before the next one.
    let bytes = unsafe { core::slice::from_raw_parts(region.as_ptr(), len.min(region.size)) };
    (label, bytes.to_vec())
}

impl Handler for Shell {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
            self.look();
        }
        self.keys();
        self.flush();
        Ok(())
    }
}
