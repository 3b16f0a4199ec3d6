//! Lines of text towards the serial domain, which prints them behind this domain's name.
//!
//! The writer never waits: a line that finds no room in the ring is dropped as a whole, and the next that does find room
//! says how many were. The reader is trusted with nothing but the screen.

use crate::{Channel, Region};
use brane_abi::layout::log::DATA;
use brane_abi::stream::StreamProducer;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};

/// Longest line in bytes, its end included; a longer one is cut.
pub const LINE: usize = 512;

struct Log {
    ring: Option<(StreamProducer, Channel)>,
    line: [u8; LINE],
    len: usize,
    dropped: u64,
}

struct Static(UnsafeCell<Log>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Static {}

static LOG: Static = Static(UnsafeCell::new(Log {
    ring: None,
    line: [0; LINE],
    len: 0,
    dropped: 0,
}));

/// Runs `f` on the log. A `Display` that logs while it is being logged would get here twice; see [`write`].
fn with<R>(f: impl FnOnce(&mut Log) -> R) -> R {
    // SAFETY: one thread, and no function passed in here formats anything of the caller's, so none comes back here.
    f(unsafe { &mut *LOG.0.get() })
}

/// Sets the log ring and the channel to the serial domain. What is written before that is lost. At a start for another tenant
/// ([`crate::scrub`]) the ring's text is cleared; serial leaves out zero bytes, so what it has not read yet is not printed.
pub fn attach(region: Region, serial: Channel) {
    if crate::scrub::wanted() {
        crate::scrub::clear(region, DATA.offset, DATA.len);
    }
    let producer = brane_abi::log::producer(region.shared());
    with(|log| log.ring = producer.map(|producer| (producer, serial)));
}

/// Lines that were dropped so far and not yet reported.
pub fn dropped() -> u64 {
    with(|log| log.dropped)
}

impl Log {
    fn append(&mut self, text: &[u8]) {
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
            return;
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

/// Writes text; `line` ends the line, which then goes to the serial domain. Use [`crate::logln!`].
pub fn write(arguments: fmt::Arguments<'_>, line: bool) {
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
    write(arguments, true);
}

/// Writes formatted text to the log; it is printed once its line ends.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::write(::core::format_args!($($argument)*), false) };
}

/// Writes a formatted line to the log.
#[macro_export]
macro_rules! logln {
    ($($argument:tt)*) => { $crate::log::write(::core::format_args!($($argument)*), true) };
}

/// The upstream crate's name for [`log!`].
#[macro_export]
macro_rules! debug_print {
    ($($argument:tt)*) => { $crate::log!($($argument)*) };
}

/// The upstream crate's name for [`logln!`].
#[macro_export]
macro_rules! debug_println {
    ($($argument:tt)*) => { $crate::logln!($($argument)*) };
}
