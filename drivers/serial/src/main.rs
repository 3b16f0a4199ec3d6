//! The serial domain. It owns COM1 and prints on it what the console writes and, line by line, what all others log; what
//! is typed goes to the console. It also owns COM2, which it carries bytes for between the line and the remote domain.
//!
//! No peer is trusted. Each wake prints a bounded amount of text, each writer has a budget ([`accounts`]), and writers take turns.
//! What finds no room on the screen or in its writer's budget stays in the writer's ring, so a flood costs its writer alone. What
//! arrives on a line is charged to that line; above its budget it stays in the device. A domain that notifies too often is reported
//! to the manager, which suspends it. A writer whose ring makes no sense loses what is in it: the ring is emptied, counted and
//! reported. Nothing here waits for anybody.
#![no_std]
#![no_main]

mod accounts;
mod remote;
mod uart;

use accounts::{Accounts, Meter};
use brane_abi::layout::{MAX_NICS, NIC_NAMES, log, tty};
use brane_abi::log::{self as logs, Level, LevelWord};
use brane_abi::offender;
use brane_abi::ring::{RingError, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use remote::{REMOTE, RemoteLine};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{
    Channel, ChannelSet, Handler, IoPort, MessageInfo, Never, Region, StaticCell, get_mr, protection_domain,
    set_mr,
};
use serial_core::{HISTORY, History, Line, Name, Screen};
use uart::{Speed, Take, Uart};
use work_budget::{Budgets, ENTRY_NS, MAX_CALLERS, SWITCH_NS, Terms};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, regions};

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const REMOTE_IRQ: Channel = Channel::new(wiring::irqs::IRQ[1]);
const CONSOLE: Channel = Channel::new(channels::CONSOLE);
const MANAGER: Channel = Channel::new(channels::MANAGER);
const TIMER: Channel = Channel::new(channels::TIMER);

/// What the notifications of one domain may take.
const WAKES: Terms = Terms::new(50, 3_000_000, 100_000);

/// Lines taken from one writer before the next has its turn.
const LINES: usize = 4;
/// Bytes taken from the console at each wake.
const CONSOLE_BYTES: usize = 512;
const BRANES: usize = regions::LOG_BRANE.len();
const SERVICES: usize = regions::LOG_SERVICES.len();
const SUBSCRIBERS: usize = regions::LOG_SUBSCRIBER.len();
/// Domains of the branes' and subscribers' families.
const NUMBERED: usize = BRANES + SERVICES + SUBSCRIBERS;
const NICS: usize = regions::LOG_NIC.len();
const _: () = assert!(NICS <= MAX_NICS && channels::NIC.len() == NICS);
const WRITERS: usize = NUMBERED + NICS + 3;
/// Writers that use their channel for more than their log: that is always looked at.
const SHARED: u64 = 1 << CONSOLE.index() | 1 << REMOTE.index();

/// What is too large for the stack.
struct Buffers {
    screen: Screen,
    lines: [Line; WRITERS],
    histories: [History; WRITERS],
}

static BUFFERS: StaticCell<Buffers> = StaticCell::new(Buffers {
    screen: Screen::new(),
    lines: [Line::new(); WRITERS],
    histories: [const { History::new() }; WRITERS],
});

/// A domain that logs.
struct Writer {
    name: Name,
    channel: Channel,
    region: Region,
    ring: StreamConsumer,
    /// Lines below this level are dropped. The writer reads its copy in `word`; a writer that ignores it saves nothing.
    level: Level,
    word: &'static LevelWord,
}

/// Things that went wrong, by how often.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    /// Typed bytes that the console's ring had no room for.
    keys_dropped: u64,
    /// Typed bytes that the device lost.
    keys_overrun: u64,
    /// Times that a ring made no sense and was emptied.
    rings_emptied: u64,
    /// Bytes from the operator's machine that the device lost.
    remote_overrun: u64,
    /// Times that a ring of the remote line made no sense.
    remote_emptied: u64,
}

struct Serial {
    uart: Uart,
    /// `None` on a machine without COM2.
    remote: Option<RemoteLine>,
    screen: &'static mut Screen,
    lines: &'static mut [Line; WRITERS],
    histories: &'static mut [History; WRITERS],
    /// Number of the last line that was printed.
    printed: u64,
    writers: [Writer; WRITERS],
    /// Whose turn is first.
    turn: usize,
    /// Channels whose writers may have something.
    pending: u64,
    /// Channels that writers are behind.
    known: u64,
    keyboard: StreamProducer,
    console: StreamConsumer,
    counters: Counters,
    reported: Counters,
    clock: Clock,
    alarm: Alarm,
    accounts: Accounts,
    /// Accounts of the notifications that domains send.
    wakes: Budgets<MAX_CALLERS>,
}

const _: () = assert!(HISTORY <= regions::KEPT_LINES.size);

/// The description gives these sizes, and the generated constants carry them; see [`brane_abi::layout`].
const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.expect(TOO_SMALL)
}

/// Returns the channel of the log that a call names.
fn log_of(caller: Channel, number: u64) -> u64 {
    if number == u64::from(logs::OWN) {
        caller.index() as u64
    } else {
        number
    }
}

fn writer(i: usize) -> Writer {
    let (base, number, channel, region) = if i < BRANES {
        ("brane", Some(i), channels::BRANE[i], regions::LOG_BRANE[i])
    } else if i < BRANES + SERVICES {
        let n = i - BRANES;
        (
            "services",
            Some(n),
            channels::SERVICES[n],
            regions::LOG_SERVICES[n],
        )
    } else if i < NUMBERED {
        let n = i - BRANES - SERVICES;
        (
            "subscriber",
            Some(n),
            channels::SUBSCRIBER[n],
            regions::LOG_SUBSCRIBER[n],
        )
    } else if i < NUMBERED + NICS {
        let k = i - NUMBERED;
        (NIC_NAMES[k], None, channels::NIC[k], regions::LOG_NIC[k])
    } else {
        match i - NUMBERED - NICS {
            0 => ("manager", None, channels::MANAGER, regions::LOG_MANAGER),
            1 => ("remote", None, channels::REMOTE, regions::LOG_REMOTE),
            _ => ("console", None, channels::CONSOLE, regions::LOG_CONSOLE),
        }
    };
    Writer {
        name: Name { base, number },
        channel: Channel::new(channel),
        region,
        ring: logs::consumer(region.shared()).expect(TOO_SMALL),
        level: Level::default(),
        word: logs::level(region.shared()).expect(TOO_SMALL),
    }
}

#[protection_domain]
fn init() -> Serial {
    let Buffers {
        screen,
        lines,
        histories,
    } = BUFFERS.take();
    let shared = regions::TTY.shared();
    let part = |part: brane_abi::layout::Part| shared.part(part.offset, part.len).expect(TOO_SMALL);
    let writers: [Writer; WRITERS] = core::array::from_fn(writer);
    let known = writers
        .iter()
        .fold(0, |known, writer| known | 1 << writer.channel.index());
    // The drivers and the manager are trusted.
    let trusted = channels::NIC.iter().chain([&channels::MANAGER]);
    let bounded = known & !trusted.fold(0, |bits, id| bits | 1 << id);
    let mut serial = Serial {
        known,
        uart: Uart::start(IoPort::new(wiring::ioports::IOPORT[0]), Speed::Typed),
        remote: RemoteLine::start(),
        screen,
        lines,
        histories,
        printed: 0,
        writers,
        turn: 0,
        // What was written before now was signalled before anybody listened.
        pending: u64::MAX,
        keyboard: StreamProducer::new(indices(shared, tty::INPUT_INDICES), part(tty::INPUT))
            .expect(TOO_SMALL),
        console: StreamConsumer::new(indices(shared, tty::OUTPUT_INDICES), part(tty::OUTPUT))
            .expect(TOO_SMALL),
        counters: Counters::default(),
        reported: Counters::default(),
        clock: Clock::new(regions::TSC),
        alarm: Alarm::new(TIMER),
        accounts: Accounts::new(bounded),
        wakes: Budgets::new(WAKES, bounded),
    };
    serial.work();
    serial
}

impl Writer {
    /// Prints up to [`LINES`] lines, as far as the writer's budget goes, and keeps them in `history`. `printed` is the number of the last
    /// line. Returns true if there may be more.
    fn print(
        &mut self,
        (line, history): (&mut Line, &mut History),
        printed: &mut u64,
        screen: &mut Screen,
        accounts: &mut Accounts,
        now: u64,
    ) -> Result<bool, RingError> {
        for _ in 0..LINES {
            if accounts.holds_log(self.channel, now) {
                break;
            }
            // Two runs at most hold all of the ring, and a piece of a line is shorter.
            for _ in 0..2 {
                self.ring.read_with(|text| (line.feed(text), ()))?;
            }
            if !line.is_complete() {
                return Ok(false);
            }
            if line.level() > self.level {
                // The writer did not have to write it, so it pays as for a line that is printed.
                accounts.logged(self.channel, now, serial_core::LINE);
                *line = Line::new();
                continue;
            }
            let room = screen.room();
            let kept = *line;
            if !screen.log(self.name, line) {
                break;
            }
            *printed += 1;
            kept.keep(history, *printed, now);
            accounts.logged(self.channel, now, room - screen.room());
        }
        Ok(true)
    }

    /// Starts with an empty ring. A writer that runs on takes that for nonsense in turn and loses its lines, until it is
    /// restarted and takes the indices as they stand.
    fn empty(&mut self) {
        indices(self.region.shared(), log::INDICES).reset();
        self.ring.reset();
    }
}

impl Serial {
    /// Moves text from the rings to the screen and from there to the device.
    fn work(&mut self) {
        let now = self.clock.now_ns();
        let console = 1 << CONSOLE.index();
        if self.pending & console != 0 && !self.accounts.holds_line(CONSOLE, now) && !self.print_console(now)
        {
            self.pending &= !console;
        }
        // Writers whose text could go on now.
        let mut ready = self.pending & console;
        if self.accounts.holds_line(CONSOLE, now) {
            ready = 0;
        }
        // Its log is looked at below, and its line in [`RemoteLine::work`].
        self.pending &= !(1 << REMOTE.index());
        for i in 0..WRITERS {
            let i = (self.turn + i) % WRITERS;
            let writer = &mut self.writers[i];
            let bit = 1 << writer.channel.index();
            if self.pending & bit == 0 && bit & SHARED == 0 {
                continue;
            }
            let memory = (&mut self.lines[i], &mut self.histories[i]);
            match writer.print(memory, &mut self.printed, self.screen, &mut self.accounts, now) {
                Ok(true) => {
                    if bit & SHARED == 0 {
                        self.pending |= bit;
                    }
                    if !self.accounts.holds_log(writer.channel, now) {
                        ready |= bit;
                    }
                }
                Ok(false) if bit & SHARED != 0 => {}
                Ok(false) => self.pending &= !bit,
                Err(_) => {
                    writer.empty();
                    self.counters.rings_emptied += 1;
                    self.pending &= !bit;
                    let name = writer.name;
                    // Where there is no room, the counters' report comes later.
                    let _ = self.screen.report(format_args!(
                        "the log ring of {name} makes no sense: emptied; {name} is silent until it restarts"
                    ));
                }
            }
        }
        self.turn = (self.turn + 1) % WRITERS;
        self.report();
        let screen = &mut *self.screen;
        let (begin, mut bytes) = (self.clock.now_ns(), 0);
        let sent = self.uart.send(|| {
            let byte = screen.pop();
            bytes += u64::from(byte.is_some());
            byte
        });
        let took = self.clock.now_ns().saturating_sub(begin);
        self.accounts.sent(bytes, took);
        let wanted = !self.screen.is_empty() || ready & self.known != 0;
        self.uart.want_to_send(wanted, sent);
        if let Some(at) = self.accounts.next.take() {
            // A deadline that the timer does not take is tried again at the next wake.
            self.alarm.set(at);
        }
    }

    /// Sets the level of the writer at this channel. Returns true if there is such a writer and such a level.
    fn set_level(&mut self, channel: u64, byte: u64) -> bool {
        let level = u8::try_from(byte).ok().and_then(Level::from_byte);
        let writer = self
            .writers
            .iter_mut()
            .find(|w| w.channel.index() as u64 == channel);
        let Some((writer, level)) = writer.zip(level) else {
            return false;
        };
        writer.level = level;
        writer.word.set(level);
        true
    }

    /// Copies kept lines of the writer at this channel into the region `kept-lines`, those with numbers above `after`. Returns their length
    /// in bytes and the writer's level.
    fn read_history(&mut self, channel: u64, after: u64) -> Option<(usize, Level)> {
        let i = self
            .writers
            .iter()
            .position(|w| w.channel.index() as u64 == channel)?;
        let mut lines = [0; HISTORY];
        let len = self.histories[i].read(after, &mut lines);
        let reply = regions::KEPT_LINES;
        debug_assert!(len <= reply.size);
        // SAFETY: `len` is at most HISTORY, which is less than the region's size (checked below at compile time). The manager, which
        // reads the region, waits in this call; no reference to the region exists.
        unsafe { core::ptr::copy_nonoverlapping(lines.as_ptr(), reply.as_ptr(), len) };
        Some((len, self.writers[i].level))
    }

    /// Prints what the console wrote; whether there may be more.
    fn print_console(&mut self, now: u64) -> bool {
        let (mut taken, mut full) = (0, false);
        while taken < CONSOLE_BYTES {
            let screen = &mut *self.screen;
            match self.console.read_with(|text| {
                let text = &text[..text.len().min(CONSOLE_BYTES)];
                let n = screen.console(text);
                (n, (n, text.len()))
            }) {
                Ok((0, 0)) => break,
                Ok((0, _)) => {
                    full = true;
                    break;
                }
                Ok((n, _)) => {
                    taken += n;
                    self.accounts.sends(CONSOLE, now, n);
                }
                Err(_) => {
                    let shared = regions::TTY.shared();
                    indices(shared, tty::OUTPUT_INDICES).reset();
                    self.console.reset();
                    self.counters.rings_emptied += 1;
                    return false;
                }
            }
        }
        if taken != 0 {
            // It may wait for room.
            CONSOLE.notify();
        }
        full || taken >= CONSOLE_BYTES
    }

    /// Says once what has gone wrong since the last time.
    fn report(&mut self) {
        self.counters.keys_overrun = self.uart.overruns;
        (self.counters.remote_overrun, self.counters.remote_emptied) =
            self.remote.as_ref().map_or((0, 0), RemoteLine::troubles);
        let Counters {
            keys_dropped,
            keys_overrun,
            rings_emptied,
            remote_overrun,
            remote_emptied,
        } = self.counters;
        if self.counters != self.reported
            && self.screen.report(format_args!(
                "so far: {keys_dropped} typed characters not taken by the console, {keys_overrun} lost by the device, \
                 {rings_emptied} rings emptied; on the remote line {remote_overrun} characters lost, {remote_emptied} rings \
                 emptied"
            ))
        {
            self.reported = self.counters;
        }
    }

    /// Receives typed bytes. `interrupt` is true after an interrupt of the device; bytes that were left in it for want of budget are received
    /// in any case.
    fn receive(&mut self, interrupt: bool) {
        let mut keyboard = Keyboard {
            ring: &mut self.keyboard,
            news: false,
            dropped: &mut self.counters.keys_dropped,
            meter: Meter::new(CONSOLE, &mut self.accounts, &self.clock),
        };
        self.uart.resume(&mut keyboard);
        if interrupt {
            self.uart.interrupted(&mut keyboard);
        }
        if keyboard.news {
            CONSOLE.notify();
        }
    }
}

/// The console's ring for typed bytes. A person sees that bytes are dropped.
struct Keyboard<'a> {
    ring: &'a mut StreamProducer,
    news: bool,
    dropped: &'a mut u64,
    meter: Meter<'a>,
}

impl Take for Keyboard<'_> {
    fn room(&mut self) -> usize {
        if self.meter.allows() { usize::MAX } else { 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let written = self.ring.write(bytes).unwrap_or(0);
        self.news |= written != 0;
        *self.dropped += (bytes.len() - written) as u64;
        self.meter.charge();
    }
}

impl Handler for Serial {
    type Error = Never;

    fn notified(&mut self, signalled: ChannelSet) -> Result<(), Never> {
        let (begin, charged) = (self.clock.now_ns(), self.accounts.spent);
        if signalled.contains(TIMER) {
            self.alarm.rang();
        }
        if signalled.contains(IRQ) {
            // Acknowledged first: an edge that comes from now on is another interrupt. The kernel cannot refuse it
            // for a handler of our own.
            let _ = IRQ.irq_ack();
        }
        self.receive(signalled.contains(IRQ));
        if signalled.contains(REMOTE_IRQ) {
            let _ = REMOTE_IRQ.irq_ack();
        }
        if let Some(remote) = &mut self.remote {
            remote.work(signalled.contains(REMOTE_IRQ), &mut self.accounts, &self.clock);
        }
        self.pending |= signalled.bits();
        self.work();
        // The bytes are charged to those that wrote them.
        let end = self.clock.now_ns();
        let took = end
            .saturating_sub(begin)
            .saturating_sub(self.accounts.spent - charged);
        for channel in signalled.iter() {
            if self.wakes.charge(channel.index(), end, took + SWITCH_NS) {
                MANAGER.notify();
            }
        }
        for (interrupt, line) in [(IRQ, CONSOLE), (REMOTE_IRQ, REMOTE)] {
            if signalled.contains(interrupt) {
                self.accounts.interrupted(line, end, took + ENTRY_NS);
            }
        }
        Ok(())
    }

    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Never> {
        // Only the manager has a channel to call on.
        if channel == MANAGER && info.label() == logs::SET_LEVEL {
            let known = self.set_level(log_of(channel, get_mr(0)), get_mr(1));
            return Ok(MessageInfo::new(if known { logs::OK } else { logs::UNKNOWN }, 0));
        }
        if channel == MANAGER && info.label() == logs::READ {
            let Some((len, level)) = self.read_history(log_of(channel, get_mr(0)), get_mr(1)) else {
                return Ok(MessageInfo::new(logs::UNKNOWN, 0));
            };
            set_mr(0, len as u64);
            set_mr(1, level.to_byte().into());
            return Ok(MessageInfo::new(logs::OK, 2));
        }
        if channel == MANAGER
            && info.label() == offender::TAKE
            && let Some((caller, until)) = self.wakes.take_offender(self.clock.now_ns())
        {
            set_mr(0, caller as u64);
            set_mr(1, until);
            return Ok(MessageInfo::new(offender::OFFENDER, 2));
        }
        Ok(MessageInfo::new(offender::NONE, 0))
    }
}
