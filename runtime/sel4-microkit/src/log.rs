//! Owns this domain's end of its log ring: lines of text to the serial domain, which prints them after this domain's
//! name.
//!
//! The writer never waits. If a line finds no room in the ring, it is dropped as a whole, and the next line that finds
//! room reports the number of lost lines. Serial is trusted with the screen and with this domain's level. A line above
//! the level is not written. The macros of the crate `log` end here as well, so a core crate can log without this
//! crate.

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
/// Longest line in bytes, with its end; a longer line is truncated.
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

/// Runs `f` on the log. A `Display` that logs while it is being logged would enter this function twice; see [`write`].
fn with<R>(f: impl FnOnce(&mut Log) -> R) -> R {
    // SAFETY: one thread. No function passed in here formats a value of the caller, so none of them enters this
    // function again.
    f(unsafe { &mut *LOG.0.get() })
}

/// Sets the log ring and the channel to the serial domain. Earlier text went to the kernel's debug console, if the
/// kernel has one ([`sel4::PRINTING`]), and is lost otherwise. At a start for another tenant ([`crate::scrub`]) the
/// ring's text is cleared. Serial skips zero bytes, so text that it has not read yet is not printed.
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
    // Fails if a logger was set before, which does no harm.
    let _ = ::log::set_logger(&Facade);
    ::log::set_max_level(LevelFilter::Debug);
}

/// Returns true if this domain writes lines of this level now. Serial can change that at any time.
pub fn enabled(level: Level) -> bool {
    level <= with(|log| log.level.map_or(Level::default(), LevelWord::get))
}

/// The logger of the crate `log` in this domain.
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

/// Returns the number of dropped lines that are not reported yet.
pub fn dropped() -> u64 {
    with(|log| log.dropped)
}

impl Log {
    /// Begins a line of this level, unless a line has been begun. Lines of the usual level have no level byte.
    fn begin(&mut self, level: Level) {
        if self.len == 0 && level != Level::default() {
            self.append(&[level.to_byte()]);
        }
    }

    fn append(&mut self, text: &[u8]) {
        if self.ring.is_none() {
            return text.iter().copied().for_each(sel4::debug_put_char);
        }
        // The last byte is reserved for the line's end.
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
        // If the ring's indices are invalid, the text is lost as with a full ring.
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

/// Buffer for a short text.
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

/// Appends to the line, for the formatting macros. It enters the log for each piece separately.
struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        with(|log| log.append(text.as_bytes()));
        Ok(())
    }
}

/// Writes text of a level, if the level is enabled. If `line` is true, ends the line and sends it to the serial domain.
/// Callers use [`crate::logln!`] or the macros of the crate `log`.
pub fn write(level: Level, arguments: fmt::Arguments<'_>, line: bool) {
    if !enabled(level) {
        return;
    }
    with(|log| log.begin(level));
    // If a Display fails, its text so far has been written.
    let _ = Line.write_fmt(arguments);
    if line {
        with(Log::end);
    }
}

/// Writes the line of a panic. If a line has been begun, ends it first.
#[cfg(not(test))]
pub(crate) fn last_words(arguments: fmt::Arguments<'_>) {
    with(|log| {
        if log.len != 0 {
            log.end();
        }
    });
    write(Level::Error, arguments, true);
}

/// Writes formatted text to the log. The text is printed when its line ends.
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
