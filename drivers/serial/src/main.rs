//! The serial domain. It owns COM1: it prints the console's text and, line by line, the logs of all other domains.
//! Typed bytes go to the console. It also owns COM2, and carries bytes between that line and the remote domain.
//!
//! No peer is trusted. Each wake prints a bounded amount of text, each writer has a budget ([`accounts`]), and writers
//! take turns. Text without room on the screen or in its writer's budget stays in the writer's ring, so a flood delays
//! only its own writer. Bytes that arrive on a line are charged to that line; above its budget they stay in the device.
//! A domain that notifies too often is reported to the manager, which suspends it. If a writer's ring is invalid, the
//! ring is emptied, counted and reported, and the writer loses its text. The domain never waits for a peer.
#![no_std]
#![no_main]

mod accounts;
mod remote;
mod uart;

use accounts::{Accounts, Meter};
use brane_abi::hook::{FILTER_NAMES, MAX_FILTERS};
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

/// Budget of the notifications from one domain.
const WAKES: Terms = Terms::new(50, 3_000_000, 100_000);

/// Lines printed from one writer before the next writer's turn.
const LINES: usize = 4;
/// Bytes read from the console at each wake.
const CONSOLE_BYTES: usize = 512;
const BRANES: usize = regions::LOG_BRANE.len();
const SERVICES: usize = regions::LOG_SERVICES.len();
const SUBSCRIBERS: usize = regions::LOG_SUBSCRIBER.len();
/// Domains of the branes' and subscribers' families.
const NUMBERED: usize = BRANES + SERVICES + SUBSCRIBERS;
const NICS: usize = regions::LOG_NIC.len();
const _: () = assert!(NICS <= MAX_NICS && channels::NIC.len() == NICS);
const FILTERS: usize = regions::LOG_FILTER.len();
const _: () = assert!(FILTERS < MAX_FILTERS + 1 && channels::FILTER.len() == FILTERS);
/// Domains that are described one by one, with a number of their own.
const SERIES: usize = NICS + FILTERS;
const WRITERS: usize = NUMBERED + SERIES + 3;
/// Writers with channels that carry more than their log. Their logs are always polled.
const SHARED: u64 = 1 << CONSOLE.index() | 1 << REMOTE.index();

/// Data too large for the stack.
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

/// Counters of errors.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    /// Typed bytes dropped because the console's ring had no room.
    keys_dropped: u64,
    /// Typed bytes that the device lost.
    keys_overrun: u64,
    /// Times that an invalid ring was emptied.
    rings_emptied: u64,
    /// Bytes from the operator's machine that the device lost.
    remote_overrun: u64,
    /// Times that a ring of the remote line was invalid.
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
    /// The writer with the first turn.
    turn: usize,
    /// Channels of writers that may have text.
    pending: u64,
    /// Channels that have a writer.
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

/// The description and the layout agree on these sizes, because the generated constants carry them; see
/// [`brane_abi::layout`].
const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.expect(TOO_SMALL)
}

/// Returns the channel of the log that a call refers to.
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
    } else if i < NUMBERED + SERIES {
        let k = i - NUMBERED - NICS;
        (FILTER_NAMES[k], None, channels::FILTER[k], regions::LOG_FILTER[k])
    } else {
        match i - NUMBERED - SERIES {
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
        // Notifications from before this domain started may be lost, so all writers are polled once.
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
    /// Prints up to [`LINES`] lines while the writer's budget lasts, and stores them in `history`. `printed` is the
    /// number of the last line. Returns true if there may be more.
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
            // The ring's content is at most two contiguous runs, and a piece of a line is shorter.
            for _ in 0..2 {
                self.ring.read_with(|text| (line.feed(text), ()))?;
            }
            if !line.is_complete() {
                return Ok(false);
            }
            if line.level() > self.level {
                // The writer could have left the line out, so it pays as for a printed line.
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

    /// Empties the ring. A running writer sees invalid indices in turn and loses its lines until it restarts and adopts
    /// the indices.
    fn empty(&mut self) {
        indices(self.region.shared(), log::INDICES).reset();
        self.ring.reset();
    }
}

impl Serial {
    /// Moves text from the rings to the screen, and from there to the device.
    fn work(&mut self) {
        let now = self.clock.now_ns();
        let console = 1 << CONSOLE.index();
        if self.pending & console != 0 && !self.accounts.holds_line(CONSOLE, now) && !self.print_console(now)
        {
            self.pending &= !console;
        }
        // Writers with text that may be printed now.
        let mut ready = self.pending & console;
        if self.accounts.holds_line(CONSOLE, now) {
            ready = 0;
        }
        // The log of the remote domain is polled below, and its line in [`RemoteLine::work`].
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
                    // If there is no room, the report of the counters comes later.
                    let _ = self.screen.report(format_args!(
                        "the log ring of {name} is invalid and was emptied; {name} cannot log until it restarts"
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
            // If the timer rejects the deadline, the next wake sets it again.
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

    /// Copies stored lines of the writer at this channel into the region `kept-lines`: those with numbers above
    /// `after`. Returns their length in bytes and the writer's level.
    fn read_history(&mut self, channel: u64, after: u64) -> Option<(usize, Level)> {
        let i = self
            .writers
            .iter()
            .position(|w| w.channel.index() as u64 == channel)?;
        let mut lines = [0; HISTORY];
        let len = self.histories[i].read(after, &mut lines);
        let reply = regions::KEPT_LINES;
        debug_assert!(len <= reply.size);
        // SAFETY: `len` is at most HISTORY, which is less than the region's size (checked below at compile time). The
        // manager, which reads the region, waits in this call; no reference to the region exists.
        unsafe { core::ptr::copy_nonoverlapping(lines.as_ptr(), reply.as_ptr(), len) };
        Some((len, self.writers[i].level))
    }

    /// Prints the console's text. Returns true if there may be more.
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
            // The console may wait for room.
            CONSOLE.notify();
        }
        full || taken >= CONSOLE_BYTES
    }

    /// Reports errors since the last report.
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

    /// Receives typed bytes. `interrupt` is true after an interrupt of the device. Bytes that were left in the device
    /// for want of budget are received in any case.
    fn receive(&mut self, interrupt: bool) {
        let mut keyboard = Keyboard {
            ring: &mut self.keyboard,
            pending: false,
            dropped: &mut self.counters.keys_dropped,
            meter: Meter::new(CONSOLE, &mut self.accounts, &self.clock),
        };
        self.uart.resume(&mut keyboard);
        if interrupt {
            self.uart.interrupted(&mut keyboard);
        }
        if keyboard.pending {
            CONSOLE.notify();
        }
    }
}

/// The console's ring for typed bytes. Dropped bytes are visible to the person who types.
struct Keyboard<'a> {
    ring: &'a mut StreamProducer,
    pending: bool,
    dropped: &'a mut u64,
    meter: Meter<'a>,
}

impl Take for Keyboard<'_> {
    fn room(&mut self) -> usize {
        if self.meter.allows() { usize::MAX } else { 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let written = self.ring.write(bytes).unwrap_or(0);
        self.pending |= written != 0;
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
            // Acknowledged first, so an edge from now on is another interrupt. The kernel cannot refuse this for the
            // domain's own handler.
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
        // The bytes are charged to their writers.
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
        // Only the manager has a channel for calls.
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
