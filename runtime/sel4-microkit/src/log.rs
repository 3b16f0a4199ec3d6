//! Lines of text towards the serial domain, which prints them behind this domain's name.
//!
//! The writer never waits: what finds no room is lost. The reader is trusted with nothing but the screen.

use crate::{Channel, Region};
use brane_abi::stream::StreamProducer;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};

struct Log(UnsafeCell<Option<(StreamProducer, Channel)>>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl Sync for Log {}

static LOG: Log = Log(UnsafeCell::new(None));

/// Sets the log ring and the channel to the serial domain. Text written before that is lost.
pub fn attach(region: Region, serial: Channel) {
    let producer = brane_abi::log::producer(region.shared());
    // SAFETY: one thread; no reference to the log is alive outside the functions of this module.
    unsafe { *LOG.0.get() = producer.map(|producer| (producer, serial)) };
}

struct Writer<'a>(&'a mut StreamProducer);

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // A ring whose indices make no sense loses the text as a full one does.
        let _ = self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Writes text; a whole line wakes the serial domain. Use [`crate::logln!`].
pub fn write(arguments: fmt::Arguments<'_>, line: bool) {
    // SAFETY: as in `attach`.
    let Some((producer, serial)) = (unsafe { (*LOG.0.get()).as_mut() }) else {
        return;
    };
    let _ = Writer(producer).write_fmt(arguments);
    if line {
        let _ = Writer(producer).write_str("\n");
        serial.notify();
    }
}

/// Writes formatted text to the log.
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
