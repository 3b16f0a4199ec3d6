//! Logs of protection domains (PDs): the ring of lines that a PD writes to serial, and log levels. Also the calls by which the
//! manager sets a level and reads the lines that serial keeps.
//!
//! The writer of a log ring (layout: [`crate::layout::log`]) is not trusted. It never waits: if a line does not fit, the writer
//! drops and counts it. Serial knows the writer's name from the system description, and the bytes are text without authority. A
//! line may begin with its level ([`Level::to_byte`]); without one its level is `info`. Serial writes the writer's level into the
//! region, so that the writer can skip lines that serial would drop.

use crate::layout::log::{DATA, INDICES, LEVEL};
use crate::shared::SharedRegion;
use crate::stream::{StreamConsumer, StreamProducer};
use crate::sync::{AtomicU32, Ordering};
use minicbor::{Decode, Encode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Importance of a line. A PD that has a level writes the lines of that level and of all levels above it in this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// As the level of a PD: writes nothing.
    #[n(0)]
    Off,
    /// The PD cannot do its task.
    #[n(1)]
    Error,
    /// The PD continues, and something needs attention.
    #[n(2)]
    Warn,
    /// Events that an operator expects to see.
    #[default]
    #[n(3)]
    Info,
    /// Details that help to find a defect.
    #[n(4)]
    Debug,
}

impl Level {
    /// All levels, by the number of lines that they let through, lowest first.
    pub const ALL: [Level; 5] = [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug];

    /// Returns the word that stands for the level in commands, files and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// Returns the level that a word stands for.
    pub fn from_name(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == word)
    }

    /// Returns the byte that stands for the level in front of a line and in messages: 1 to 5.
    pub const fn to_byte(self) -> u8 {
        self as u8 + 1
    }

    /// Returns the level that a byte stands for.
    pub const fn from_byte(byte: u8) -> Option<Level> {
        match byte {
            1 => Some(Level::Off),
            2 => Some(Level::Error),
            3 => Some(Level::Warn),
            4 => Some(Level::Info),
            5 => Some(Level::Debug),
            _ => None,
        }
    }
}

/// Word of a log ring's region that holds the writer's level. Zero, the value at boot, stands for [`Level::Info`].
#[repr(transparent)]
pub struct LevelWord(AtomicU32);

impl LevelWord {
    /// Stores the level. Only serial calls this.
    pub fn set(&self, level: Level) {
        self.0.store(u32::from(level.to_byte()), Ordering::Relaxed);
    }

    /// Returns the level; [`Level::Info`] for any other value.
    pub fn get(&self) -> Level {
        let byte = u8::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0);
        Level::from_byte(byte).unwrap_or_default()
    }
}

/// Returns the writer's end of the ring; `None` if the region is too small.
pub fn producer(region: SharedRegion) -> Option<StreamProducer> {
    // SAFETY: RingIndices is made of atomics only.
    let indices = unsafe { region.object(INDICES)? };
    StreamProducer::resume(indices, region.part(DATA.offset, DATA.len)?)
}

/// Returns serial's end of the ring; `None` if the region is too small.
pub fn consumer(region: SharedRegion) -> Option<StreamConsumer> {
    // SAFETY: RingIndices is made of atomics only.
    let indices = unsafe { region.object(INDICES)? };
    StreamConsumer::new(indices, region.part(DATA.offset, DATA.len)?)
}

/// Returns the word with the writer's level; `None` if the region is too small.
pub fn level(region: SharedRegion) -> Option<&'static LevelWord> {
    // SAFETY: LevelWord is one atomic.
    unsafe { region.object(LEVEL) }
}

/// Label of a call to serial: sets the level of a PD. Word 0 is the PD's number (its channel id at serial, or [`OWN`]), word 1
/// the level's byte. The reply is [`OK`] or [`UNKNOWN`].
pub const SET_LEVEL: u64 = 0x110;
/// Label of a call to serial: reads the kept lines of a PD. Word 0 is the PD's number, word 1 a line number. Serial writes lines
/// with higher numbers into the region `kept-lines`, the oldest first, as many as fit. Each is a [`LineHeader`] and the text. The
/// reply is [`OK`], with the length in bytes in word 0 and the PD's level in word 1, or [`UNKNOWN`].
pub const READ: u64 = 0x111;
/// Reply: done.
pub const OK: u64 = 0x112;
/// Reply: no PD with a log has this number, or no level has this byte.
pub const UNKNOWN: u64 = 0x113;

/// Number of the caller's own log, in a call to serial.
pub const OWN: u32 = u32::MAX;
/// Longest text of a kept line in bytes.
pub const MAX_TEXT: usize = 240;

/// Header before the text of each line in `kept-lines`. All integers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LineHeader {
    /// Number of the line: 1 for the first line since boot, over all PDs.
    pub number: u64,
    /// Time at which serial printed it, in nanoseconds of the shared clock.
    pub at_ns: u64,
    /// Byte of its level.
    pub level: u32,
    /// Bytes of the text that follows, printable UTF-8, at most [`MAX_TEXT`].
    pub len: u32,
}

/// A line as [`lines`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// See [`LineHeader`].
    pub number: u64,
    /// See [`LineHeader`].
    pub at_ns: u64,
    /// Its level.
    pub level: Level,
    /// Its text.
    pub text: &'a str,
}

/// Reads the lines of a copy of `kept-lines`. Stops at the first malformed line.
pub fn lines(mut bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    core::iter::from_fn(move || {
        let (header, rest) = LineHeader::read_from_prefix(bytes).ok()?;
        let len = usize::try_from(header.len).ok().filter(|&len| len <= MAX_TEXT)?;
        let (text, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        Some(Line {
            number: header.number,
            at_ns: header.at_ns,
            level: Level::from_byte(u8::try_from(header.level).ok()?)?,
            text: core::str::from_utf8(text).ok()?,
        })
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::testing::Backing;
    use std::vec::Vec;

    #[test]
    fn a_level_survives_its_word_its_byte_and_the_region() {
        let backing = Backing::new(crate::layout::log::SIZE);
        let word = level(backing.region()).unwrap();
        assert_eq!(word.get(), Level::Info);
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_byte(level.to_byte()), Some(level));
            word.set(level);
            assert_eq!(word.get(), level);
        }
        assert_eq!((Level::from_byte(0), Level::from_byte(6)), (None, None));
        backing.fill(LEVEL, 4, 0xff);
        assert_eq!(word.get(), Level::Info);
    }

    #[test]
    fn lines_end_at_what_breaks_the_rules() {
        let header = |number, level, len| LineHeader {
            number,
            at_ns: 7,
            level,
            len,
        };
        let mut bytes = Vec::new();
        for (number, text) in [(1, "up"), (2, "")] {
            bytes.extend_from_slice(header(number, 4, text.len() as u32).as_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let good = bytes.clone();
        let numbers = |bytes: &[u8]| lines(bytes).map(|line| line.number).collect::<Vec<_>>();
        assert_eq!(numbers(&good), [1, 2]);
        for bad in [
            header(3, 9, 0),
            header(3, 4, 1),
            header(3, 4, 241),
            header(3, 4, u32::MAX),
        ] {
            let mut bytes = good.clone();
            bytes.extend_from_slice(bad.as_bytes());
            assert_eq!(numbers(&bytes), [1, 2]);
        }
        let mut bytes = good;
        bytes.extend_from_slice(header(3, 4, 1).as_bytes());
        bytes.push(0xff);
        assert_eq!(numbers(&bytes), [1, 2]);
    }
}
