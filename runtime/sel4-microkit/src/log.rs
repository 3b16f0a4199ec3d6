//! Owns this domain's end of its log ring: lines of text to the serial domain, which prints them behind this domain's name.
//!
//! The writer never waits: a line that finds no room in the ring is dropped as a whole, and the next line that finds room
//! reports how many were lost. Serial is trusted with the screen and with this domain's level. A line above the level is not
//! written. The macros of the crate `log` end here as well, so a core crate can log without this crate.

use crate::{Channel, Region};
use ::log::{LevelFilter, Metadata, Record};
use brane_abi::layout::log::DATA;
use brane_abi::log::{Level, LevelWord};
use brane_abi::stream::StreamProducer;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};

/// The level of [`crate::logln!`].
#[doc(hidden)]
pub const INFO: Level = Level::Info;
/// Longest line in bytes, its end included; a longer one is cut.
pub const LINE: usize = 512;

struct Log {
    ring: Option<(StreamProducer, Channel)>,
    /// The level of this domain, in the ring's region; the default level before [`attach`].
    level: Option<&'static LevelWord>,
    line: [u8; LINE],
    len: usize,
    dropped: u64,
}

struct Static(UnsafeCell<Log>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Static {}

static LOG: Static = Static(UnsafeCell::new(Log {
    ring: None,
    level: None,
    line: [0; LINE],
    len: 0,
    dropped: 0,
}));

/// Returns true if text goes to a log ring.
#[cfg(not(test))]
pub(crate) fn attached() -> bool {
    with(|log| log.ring.is_some())
}

/// Runs `f` on the log. A `Display` that logs while it is being logged would get here twice; see [`write`].
fn with<R>(f: impl FnOnce(&mut Log) -> R) -> R {
    // SAFETY: one thread, and no function passed in here formats anything of the caller's, so none comes back here.
    f(unsafe { &mut *LOG.0.get() })
}

/// Sets the log ring and the channel to the serial domain. Text that is written before goes to the kernel's debug console, if
/// the kernel has one ([`sel4::PRINTING`]), and is lost otherwise. At a start for another tenant
/// ([`crate::scrub`]) the ring's text is cleared; serial leaves out zero bytes, so what it has not read yet is not printed.
pub fn attach(region: Region, serial: Channel) {
    if crate::scrub::wanted() {
        crate::scrub::clear(region, DATA.offset, DATA.len);
    }
    let producer = brane_abi::log::producer(region.shared());
    let level = brane_abi::log::level(region.shared());
    with(|log| {
        log.ring = producer.map(|producer| (producer, serial));
        log.level = level;
    });
    // Fails if it was set before, which is no harm.
    let _ = ::log::set_logger(&Facade);
    ::log::set_max_level(LevelFilter::Debug);
}

/// Returns true if this domain writes lines of this level now. Serial can change that at any time.
pub fn enabled(level: Level) -> bool {
    level <= with(|log| log.level.map_or(Level::default(), LevelWord::get))
}

/// The end of the crate `log` in this domain.
struct Facade;

impl ::log::Log for Facade {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        enabled(level(metadata.level()))
    }

    fn log(&self, record: &Record<'_>) {
        write(level(record.level()), *record.args(), true);
    }

    fn flush(&self) {}
}

/// Returns the level of a line of the crate `log`. [`attach`] disables its lowest level, trace.
fn level(level: ::log::Level) -> Level {
    match level {
        ::log::Level::Error => Level::Error,
        ::log::Level::Warn => Level::Warn,
        ::log::Level::Info => Level::Info,
        ::log::Level::Debug | ::log::Level::Trace => Level::Debug,
    }
}

/// Lines that were dropped so far and not yet reported.
pub fn dropped() -> u64 {
    with(|log| log.dropped)
}

impl Log {
    /// Begins a line of this level, unless a line is under way. Lines of the usual level have no level in front.
    fn begin(&mut self, level: Level) {
        if self.len == 0 && level != Level::default() {
            self.append(&[level.to_byte()]);
        }
    }

    fn append(&mut self, text: &[u8]) {
        if self.ring.is_none() {
            return text.iter().copied().for_each(sel4::debug_put_char);
        }
        // The last byte is kept for the line's end.
        let n = text.len().min(LINE - 1 - self.len);
        self.line[self.len..self.len + n].copy_from_slice(&text[..n]);
        self.len += n;
    }

    fn end(&mut self) {
        self.line[self.len] = b'\n';
        let line = &self.line[..self.len + 1];
        self.len = 0;
        let Some((ring, serial)) = &mut self.ring else {
            return sel4::debug_put_char(b'\n');
        };
        let mut report = Digits {
            bytes: [0; 40],
            len: 0,
        };
        if self.dropped != 0 {
            // Fits: 20 digits and 15 letters.
            let _ = writeln!(report, "({} lines lost)", self.dropped);
        }
        // A ring whose indices make no sense loses the text as a full one does.
        if ring.room().is_ok_and(|room| room >= report.len + line.len()) {
            let _ = ring.write(&report.bytes[..report.len]);
            let _ = ring.write(line);
            self.dropped = 0;
            serial.notify();
        } else {
            self.dropped += 1;
        }
    }
}

/// A little text.
struct Digits {
    bytes: [u8; 40],
    len: usize,
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self
            .bytes
            .get_mut(self.len..self.len + text.len())
            .ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Appends to the line, for the formatting macros: enters the log for each piece only.
struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        with(|log| log.append(text.as_bytes()));
        Ok(())
    }
}

/// Writes text of a level, if the level is enabled; `line` ends the line, which then goes to the serial domain. Use [`crate::logln!`] or the
/// macros of the crate `log`.
pub fn write(level: Level, arguments: fmt::Arguments<'_>, line: bool) {
    if !enabled(level) {
        return;
    }
    with(|log| log.begin(level));
    // A Display that fails has written what it could.
    let _ = Line.write_fmt(arguments);
    if line {
        with(Log::end);
    }
}

/// For the panic path: a line of its own, whatever was being written.
#[cfg(not(test))]
pub(crate) fn last_words(arguments: fmt::Arguments<'_>) {
    with(|log| {
        if log.len != 0 {
            log.end();
        }
    });
    write(Level::Error, arguments, true);
}

/// Writes formatted text to the log; it is printed once its line ends.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::write($crate::log::INFO, ::core::format_args!($($argument)*), false) };
}

/// Writes a formatted line to the log.
#[macro_export]
macro_rules! logln {
    ($($argument:tt)*) => { $crate::log::write($crate::log::INFO, ::core::format_args!($($argument)*), true) };
}

/// The upstream crate's name for [`log!`].
#[macro_export]
macro_rules! debug_print {
    ($($argument:tt)*) => { $crate::log!($($argument)*) };
}

/// The upstream crate's name for [`logln!`].
#[macro_export]
macro_rules! debug_println {
    () => { $crate::logln!("") };
    ($($argument:tt)*) => { $crate::logln!($($argument)*) };
}
