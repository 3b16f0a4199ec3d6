//! Merges the text of many writers into one screen. Independent of devices and rings: bytes are arguments.
//!
//! The writers are not trusted: their text has no authority. Each line of a log is printed after its writer's name and
//! without control characters. So a log can neither move the cursor nor imitate another writer's line. Text of the
//! console passes unchanged, because the console edits its own line.
#![no_std]

mod history;

use brane_abi::log::Level;
use core::fmt::{self, Write};
pub use history::{History, SIZE as HISTORY};

/// Longest piece of a log line in bytes. The rest of a longer line becomes a new line.
pub const LINE: usize = 240;
/// Maximum number of bytes that wait for the device.
pub const QUEUE: usize = 8 * 1024;
/// Room that is enough for any log line: two line ends, the longest name in brackets, the level, the text.
pub const LINE_ROOM: usize = 4 + 67 + 9 + LINE;

/// Bytes on their way to the device.
struct Queue {
    bytes: [u8; QUEUE],
    head: usize,
    len: usize,
}

impl Queue {
    /// Appends a byte. The caller has checked that there is room.
    fn push(&mut self, byte: u8) {
        if self.len < QUEUE {
            self.bytes[(self.head + self.len) % QUEUE] = byte;
            self.len += 1;
        }
    }

    fn pop(&mut self) -> Option<u8> {
        (self.len != 0).then(|| {
            let byte = self.bytes[self.head];
            self.head = (self.head + 1) % QUEUE;
            self.len -= 1;
            byte
        })
    }
}

/// Cost of a byte to the device, estimated from the last ones.
#[derive(Clone, Copy, Debug)]
pub struct ByteCost {
    each: u64,
}

impl Default for ByteCost {
    fn default() -> Self {
        Self::new()
    }
}

impl ByteCost {
    /// Bounds of the cost of one byte, in nanoseconds. A longer time is not the byte's cost, because the whole machine
    /// stood still.
    const BOUNDS: (u64, u64) = (500, 20_000);

    /// Creates an estimate without measurements.
    pub const fn new() -> Self {
        Self { each: 4_000 }
    }

    /// Records that `bytes` bytes took `took` nanoseconds.
    pub fn sent(&mut self, bytes: u64, took: u64) {
        if let Some(each) = took.checked_div(bytes) {
            self.each = (7 * self.each + each.clamp(Self::BOUNDS.0, Self::BOUNDS.1)) / 8;
        }
    }

    /// Returns the expected cost of `bytes` bytes in nanoseconds.
    pub fn of(&self, bytes: usize) -> u64 {
        self.each.saturating_mul(bytes as u64)
    }
}

/// A writer's name: a family with a number (`brane-2`), or a single name.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// The name without number.
    pub base: &'static str,
    /// Number in the family.
    pub number: Option<usize>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base)?;
        self.number.map_or(Ok(()), |number| write!(f, "-{number}"))
    }
}

/// One writer's line so far.
#[derive(Clone, Copy)]
pub struct Line {
    bytes: [u8; LINE],
    len: usize,
    level: Level,
    complete: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// Creates an empty line.
    pub const fn new() -> Self {
        Self {
            bytes: [0; LINE],
            len: 0,
            level: Level::Info,
            complete: false,
        }
    }

    /// Reads text up to the end of the line. Returns the number of bytes read; 0 if the line is already complete. A
    /// byte before the text is its level. Zero bytes are skipped, because a domain that starts for another tenant
    /// clears its ring with zeros.
    pub fn feed(&mut self, text: &[u8]) -> usize {
        let mut taken = 0;
        for &byte in text {
            if self.complete {
                break;
            }
            if byte == b'\n' {
                self.complete = true;
            } else if byte == 0 {
            } else if let (0, Some(level)) = (self.len, line_level(byte)) {
                self.level = level;
            } else if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            } else {
                // Too long: the rest becomes a new line.
                self.complete = true;
                break;
            }
            taken += 1;
        }
        taken
    }

    /// Returns true if the line waits to be printed.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the level that the writer gave the line.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the text in printable form: control characters and invalid UTF-8 become `?`.
    pub fn printable(&self) -> impl Iterator<Item = char> {
        self.bytes[..self.len].utf8_chunks().flat_map(|chunk| {
            let valid = chunk.valid().chars();
            let visible = valid.map(|c| if c == '\t' || !c.is_control() { c } else { '?' });
            visible.chain((!chunk.invalid().is_empty()).then_some('?'))
        })
    }

    /// Stores the line in its writer's history.
    pub fn keep(&self, history: &mut History, number: u64, at_ns: u64) {
        // Each `?` stands for at least one byte, so the printable text is no longer than the line.
        let (mut text, mut len) = ([0; LINE], 0);
        for character in self.printable() {
            let Some(place) = text.get_mut(len..len + character.len_utf8()) else {
                break;
            };
            len += character.encode_utf8(place).len();
        }
        let text = core::str::from_utf8(&text[..len]).unwrap_or("?");
        history.push(number, at_ns, self.level, text);
    }
}

/// Returns the level of a byte before a line. No line has the level `off`.
fn line_level(byte: u8) -> Option<Level> {
    Level::from_byte(byte).filter(|&level| level != Level::Off)
}

/// Returns the prefix of a line's text for its level. Lines of the usual level have none.
const fn prefix(level: Level) -> &'static str {
    match level {
        Level::Off | Level::Info => "",
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Debug => "debug: ",
    }
}

/// The bytes for the other end of the serial line, in order.
pub struct Screen {
    queue: Queue,
    last: u8,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Creates an empty screen. The cursor is assumed to be at the start of a line.
    pub const fn new() -> Self {
        Self {
            queue: Queue {
                bytes: [0; QUEUE],
                head: 0,
                len: 0,
            },
            last: 0,
        }
    }

    /// Returns and removes the next byte for the device.
    pub fn pop(&mut self) -> Option<u8> {
        self.queue.pop()
    }

    /// Returns true if no byte waits for the device.
    pub fn is_empty(&self) -> bool {
        self.queue.len == 0
    }

    /// Returns the number of bytes that still find room.
    pub fn room(&self) -> usize {
        QUEUE - self.queue.len
    }

    fn push(&mut self, byte: u8) {
        if byte == b'\n' && self.last != b'\r' {
            self.queue.push(b'\r');
        }
        self.queue.push(byte);
        self.last = byte;
    }

    fn fresh_line(&mut self) {
        if !matches!(self.last, 0 | b'\n') {
            self.push(b'\n');
        }
    }

    /// Prints a complete line of a log on its own line and empties `line`. Returns false, and changes nothing, if there
    /// is no room now.
    #[must_use = "a line that found no room has to be offered again"]
    pub fn log(&mut self, name: Name, line: &mut Line) -> bool {
        if self.room() < LINE_ROOM {
            return false;
        }
        self.fresh_line();
        // Writing to the queue cannot fail.
        let _ = write!(self, "[{name}] {}", prefix(line.level));
        for character in line.printable() {
            let _ = self.write_char(character);
        }
        self.push(b'\n');
        *line = Line::new();
        true
    }

    /// Prints a line of the serial domain itself. Returns false if there is no room now.
    #[must_use = "a line that found no room has to be offered again"]
    pub fn report(&mut self, text: fmt::Arguments<'_>) -> bool {
        if self.room() < LINE_ROOM {
            return false;
        }
        self.fresh_line();
        let _ = writeln!(self, "[serial] {text}");
        true
    }

    /// Prints text of the console as long as there is room. Returns the number of bytes printed.
    pub fn console(&mut self, text: &[u8]) -> usize {
        for (i, &byte) in text.iter().enumerate() {
            if self.room() < 2 {
                return i;
            }
            self.push(byte);
        }
        text.len()
    }
}

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}
