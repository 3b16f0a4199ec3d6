//! The formats between the counting plugin in QEMU and the benchmark: the layout of the counter file, the
//! plugin's arguments, and the list of addresses at which the kernel is entered.
//!
//! Owns: these three formats. On the two sides: the plugin (`tools/bench/plugin`), which writes the counter
//! file, and `tools/bench`, which reads it. Both are built from this workspace and trust each other.
//!
//! The counter file is an array of 64-bit words in the byte order of the host. Word 0 counts all instructions.
//! The record of domain `i` begins at word [`record`]`(i)`. Its words are numbered by [`Word`]. Record 0
//! belongs to the kernel's idle thread.

use core::fmt;

/// Word of the counter file that counts all instructions of the guest.
pub const TOTAL: usize = 0;
/// Maximum number of records, including that of the idle thread. Further domains are added up in the last
/// record.
pub const MAX_DOMAINS: usize = 256;
/// Number of words of a record.
pub const RECORD_WORDS: usize = 8;
/// Size of the counter file in bytes.
pub const FILE_BYTES: usize = (MAX_DOMAINS + 1) * RECORD_WORDS * 8;

/// Returns the first word of the record of domain `index`.
pub const fn record(index: usize) -> usize {
    (index + 1) * RECORD_WORDS
}

/// The words of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// Page-table root of the domain: the value of CR3. Zero if the record is unused or belongs to the idle
    /// thread.
    Root = 0,
    /// Instructions in user mode.
    User = 1,
    /// Instructions of the kernel, from an entry out of this domain until the next domain runs.
    Kernel = 2,
    /// Kernel entries by a system call.
    Calls = 3,
    /// Kernel entries by an interrupt.
    Interrupts = 4,
    /// Kernel entries by a fault or another exception.
    Faults = 5,
    /// Returns of the kernel to this domain after another domain, or the idle thread, had run.
    Switches = 6,
}

/// Event at an address of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryPoint {
    /// A system call enters the kernel.
    Call = 1,
    /// An interrupt enters the kernel.
    Interrupt = 2,
    /// A fault or another exception enters the kernel.
    Fault = 3,
    /// The idle thread begins to wait.
    Idle = 4,
}

impl EntryPoint {
    /// Returns the place with this number.
    pub fn from_number(number: u8) -> Option<EntryPoint> {
        [
            EntryPoint::Call,
            EntryPoint::Interrupt,
            EntryPoint::Fault,
            EntryPoint::Idle,
        ]
        .into_iter()
        .find(|place| *place as u8 == number)
    }
}

/// One line of the list of addresses, for printing.
pub struct Line(pub EntryPoint, pub u64);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {:#x}", self.0 as u8, self.1)
    }
}

/// Parses the list of addresses. Returns `None` if a line does not have the form of [`Line`].
pub fn parse_lines(text: &str) -> Option<Vec<(EntryPoint, u64)>> {
    let line = |line: &str| {
        let (place, address) = line.split_once(' ')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        Some((EntryPoint::from_number(place.parse().ok()?)?, address))
    };
    text.lines().map(line).collect()
}

/// Arguments of the plugin: `name=value`, each one an argument of its own.
pub mod argument {
    /// The counter file. It must exist and have [`FILE_BYTES`](super::FILE_BYTES) bytes.
    pub const COUNTERS: &str = "counters";
    /// The file that backs the guest's RAM. Enables counting by domain.
    pub const MEMORY: &str = "memory";
    /// Offset in the RAM file of the variable in which the kernel keeps the value of CR3, in decimal digits.
    pub const ROOT: &str = "root";
    /// The file with the list of addresses.
    pub const PLACES: &str = "places";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_addresses_reads_back() {
        let list = [
            (EntryPoint::Call, 0xffff_ffff_8071_3c21),
            (EntryPoint::Idle, 0x10),
        ];
        let text: String = list
            .iter()
            .map(|(place, at)| Line(*place, *at).to_string())
            .collect();
        assert_eq!(parse_lines(&text).unwrap(), list);
        for wrong in ["1", "9 0x1", "1 17", "1 0xg", "x 0x1"] {
            assert!(parse_lines(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn records_do_not_overlap_and_fit_the_file() {
        assert!(record(0) > TOTAL && (Word::Switches as usize) < RECORD_WORDS);
        assert!((record(MAX_DOMAINS - 1) + RECORD_WORDS) * 8 <= FILE_BYTES);
    }
}
