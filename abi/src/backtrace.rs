//! The text of a raw backtrace. A protection domain that failed writes it to its log. A tool on the host, which has the program's
//! symbols, reads it there.
//!
//! Owns the format of the lines. The writer is not trusted: the reader treats the lines as arbitrary text.
//!
//! The first line has the registers. Lines with words of the stack follow: only words that may be return addresses or saved frame
//! pointers, each with its offset from the stack pointer. The last of these lines is marked as the last.

use core::fmt;

/// Longest line in bytes. Serial prints a line of this length in one piece.
pub const LINE: usize = 236;

const FAILED: &str = "failed at ";
const STACK: &str = ", stack ";
const FRAME: &str = ", frame ";
const WORDS: &str = "stack:";
const END: &str = " end";

/// The registers at the start of a backtrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer (RIP).
    pub ip: u64,
    /// Stack pointer (RSP).
    pub sp: u64,
    /// Frame pointer (RBP), which may have any value.
    pub bp: u64,
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registers { ip, sp, bp } = self;
        write!(f, "{FAILED}{ip:#x}{STACK}{sp:#x}{FRAME}{bp:#x}")
    }
}

impl Registers {
    /// Parses the first line of a backtrace. Returns `None` if the line has another format.
    pub fn parse(line: &str) -> Option<Registers> {
        let (ip, rest) = line.strip_prefix(FAILED)?.split_once(STACK)?;
        let (sp, bp) = rest.split_once(FRAME)?;
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(Registers {
            ip: number(ip)?,
            sp: number(sp)?,
            bp: number(bp)?,
        })
    }
}

/// A word of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Bytes between the stack pointer and the word.
    pub offset: u64,
    /// Its value.
    pub value: u64,
}

/// A line of stack words under construction.
pub struct Words {
    text: [u8; LINE],
    len: usize,
}

impl Default for Words {
    fn default() -> Words {
        let mut words = Words {
            text: [0; LINE],
            len: 0,
        };
        let _ = words.append(WORDS.as_bytes(), LINE);
        words
    }
}

impl Words {
    /// Appends a word. Returns false, and appends nothing, if the line has no room for it.
    #[must_use]
    pub fn push(&mut self, word: Word) -> bool {
        let mut text = [0; 2 + 2 * HEX];
        let mut len = 0;
        for (separator, number) in [(b' ', word.offset), (b'=', word.value)] {
            text[len] = separator;
            len += 1 + hex(number, &mut text[len + 1..]);
        }
        self.append(&text[..len], LINE - END.len())
    }

    /// Marks the line as the last one.
    pub fn end(&mut self) {
        let _ = self.append(END.as_bytes(), LINE);
    }

    fn append(&mut self, bytes: &[u8], limit: usize) -> bool {
        let end = self.len + bytes.len();
        if end > limit {
            return false;
        }
        self.text[self.len..end].copy_from_slice(bytes);
        self.len = end;
        true
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text[..self.len]).unwrap_or_default())
    }
}

/// Digits of the longest hexadecimal number.
const HEX: usize = 16;

/// Writes a number in hexadecimal digits. Returns the number of digits. `text` has room for [`HEX`].
fn hex(number: u64, text: &mut [u8]) -> usize {
    let digits = (number.checked_ilog2().unwrap_or(0) / 4 + 1) as usize;
    for (place, digit) in text.iter_mut().take(digits).enumerate() {
        let nibble = number >> (4 * (digits - 1 - place)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    digits
}

/// Parses a line of stack words. Returns the words, and true for the last line. Returns `None` if the line has another format.
pub fn parse_words(line: &str) -> Option<(impl Iterator<Item = Word> + '_, bool)> {
    let rest = line.strip_prefix(WORDS)?;
    let (rest, last) = match rest.strip_suffix(END) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let word = |text: &str| {
        let (offset, value) = text.split_once('=')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Word {
            offset: number(offset)?,
            value: number(value)?,
        })
    };
    let valid = rest.split_ascii_whitespace().all(|text| word(text).is_some());
    valid.then(|| (rest.split_ascii_whitespace().filter_map(word), last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn registers_and_words_come_back(
            ip in any::<u64>(), sp in any::<u64>(), bp in any::<u64>(),
            words in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..40),
        ) {
            let registers = Registers { ip, sp, bp };
            let text = std::format!("{registers}");
            prop_assert!(text.len() <= LINE);
            prop_assert_eq!(Registers::parse(&text), Some(registers));

            let mut lines = std::vec![Words::default()];
            for &(offset, value) in &words {
                let word = Word { offset, value };
                if !lines.last_mut().unwrap().push(word) {
                    lines.push(Words::default());
                    prop_assert!(lines.last_mut().unwrap().push(word));
                }
            }
            lines.last_mut().unwrap().end();
            let mut found = std::vec::Vec::new();
            for (i, line) in lines.iter().enumerate() {
                let text = std::format!("{line}");
                prop_assert!(text.len() <= LINE);
                let (words, last) = parse_words(&text).unwrap();
                found.extend(words.map(|word| (word.offset, word.value)));
                prop_assert_eq!(last, i + 1 == lines.len());
            }
            prop_assert_eq!(found, words);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = Registers::parse(&text);
            let _ = parse_words(&text).map(|(words, _)| words.count());
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "failed at 0x1",
            "failed at 1, stack 0x2, frame 0x3",
            "crashing, as the manager asks",
            "",
        ] {
            assert_eq!(Registers::parse(line), None, "{line}");
        }
        for line in ["stack: 1", "stack: 1=", "stack: 1=g end", "stack 1=2"] {
            assert!(parse_words(line).is_none(), "{line}");
        }
        let (mut none, last) = parse_words("stack: end").unwrap();
        assert!(none.next().is_none() && last);
    }
}
