//! One line that is typed: cursor, deletion, history. It owns the line and the history; the person at the keyboard is not
//! trusted, so both are bounded. It writes characters and the escape sequences of ECMA-48 that every terminal knows. It never
//! repeats the prompt, so the output stays readable as a log.
//!
//! It uses no crate, because none of the checked crates without `std` (`embedded-cli`, `noline`, `ushell`) can complete arguments
//! from names that change at run time.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

/// Longest line in bytes.
pub const MAX_LINE: usize = 256;
/// Most lines in the history.
pub const HISTORY: usize = 32;

/// Effect of a key outside of the editor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The line is complete.
    Line(String),
    /// The text before the cursor must be completed.
    Complete,
    /// Ctrl-C: the line is dropped.
    Cancel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After ESC [, with the number so far.
    Sequence(u8),
    /// After ESC O.
    Single,
}

/// A line being typed.
#[derive(Debug, Default)]
pub struct Editor {
    /// ASCII only, so each byte is one column.
    line: String,
    cursor: usize,
    history: VecDeque<String>,
    /// Number of the shown history line, counted back from the last one, and the text that was typed before.
    recalled: Option<(usize, String)>,
    escape: Escape,
    after_return: bool,
}

impl Editor {
    /// Returns the line and the position of the cursor.
    pub fn line(&self) -> (&str, usize) {
        (&self.line, self.cursor)
    }

    /// Handles a typed byte. Appends the output for the screen to `out`.
    pub fn key(&mut self, byte: u8, out: &mut String) -> Option<Event> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match core::mem::take(&mut self.escape) {
            Escape::None => {}
            Escape::Begun => {
                match byte {
                    b'[' => self.escape = Escape::Sequence(0),
                    b'O' => self.escape = Escape::Single,
                    _ => {}
                }
                return None;
            }
            Escape::Sequence(n) => {
                match byte {
                    b'0'..=b'9' => {
                        let n = n.saturating_mul(10).saturating_add(byte - b'0');
                        self.escape = Escape::Sequence(n);
                    }
                    b'~' => match n {
                        1 | 7 => self.go(0, out),
                        4 | 8 => self.go(self.line.len(), out),
                        3 => self.delete(self.cursor, self.cursor + 1, out),
                        _ => {}
                    },
                    // Modifiers, as in ESC [ 1 ; 5 C, are ignored.
                    b';' => self.escape = Escape::Sequence(0),
                    _ => self.arrow(byte, out),
                }
                return None;
            }
            Escape::Single => {
                self.arrow(byte, out);
                return None;
            }
        }
        match byte {
            b'\r' => return self.enter(out),
            // Some terminals send both bytes.
            b'\n' if after_return => {}
            b'\n' => return self.enter(out),
            b'\t' => return Some(Event::Complete),
            0x1b => self.escape = Escape::Begun,
            0x03 => {
                *out += "^C\r\n";
                self.clear();
                return Some(Event::Cancel);
            }
            0x01 => self.go(0, out),
            0x05 => self.go(self.line.len(), out),
            0x02 => self.go(self.cursor.saturating_sub(1), out),
            0x06 => self.go(self.cursor + 1, out),
            0x04 => self.delete(self.cursor, self.cursor + 1, out),
            0x08 | 0x7f => self.delete(self.cursor.saturating_sub(1), self.cursor, out),
            0x0b => self.delete(self.cursor, self.line.len(), out),
            0x15 => self.delete(0, self.cursor, out),
            0x17 => {
                let before = self.line[..self.cursor].trim_end_matches(' ');
                let word = before.rfind(' ').map_or(0, |at| at + 1);
                self.delete(word, self.cursor, out);
            }
            0x10 => self.recall(true, out),
            0x0e => self.recall(false, out),
            b' '..=b'~' => {
                let text = [byte];
                self.insert(core::str::from_utf8(&text).unwrap_or(""), out);
            }
            _ => {}
        }
        None
    }

    /// Inserts text at the cursor.
    pub fn insert(&mut self, text: &str, out: &mut String) {
        if self.line.len() + text.len() > MAX_LINE || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            // The bell.
            out.push('\x07');
            return;
        }
        self.line.insert_str(self.cursor, text);
        *out += &self.line[self.cursor..];
        self.cursor += text.len();
        left(self.line.len() - self.cursor, out);
    }

    /// Shows the line anew, after other output.
    pub fn redraw(&self, out: &mut String) {
        *out += &self.line;
        left(self.line.len() - self.cursor, out);
    }

    fn enter(&mut self, out: &mut String) -> Option<Event> {
        *out += "\r\n";
        let line = core::mem::take(&mut self.line);
        self.clear();
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            self.history.push_back(line.clone());
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        Some(Event::Line(line))
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.recalled = None;
    }

    fn go(&mut self, to: usize, out: &mut String) {
        let to = to.min(self.line.len());
        if to < self.cursor {
            left(self.cursor - to, out);
        } else {
            *out += &self.line[self.cursor..to];
        }
        self.cursor = to;
    }

    fn delete(&mut self, from: usize, to: usize, out: &mut String) {
        let to = to.min(self.line.len());
        if from >= to {
            return;
        }
        self.go(from, out);
        self.line.replace_range(from..to, "");
        *out += &self.line[from..];
        // Erases to the end of the row.
        *out += "\x1b[K";
        left(self.line.len() - from, out);
    }

    fn arrow(&mut self, byte: u8, out: &mut String) {
        match byte {
            b'A' => self.recall(true, out),
            b'B' => self.recall(false, out),
            b'C' => self.go(self.cursor + 1, out),
            b'D' => self.go(self.cursor.saturating_sub(1), out),
            b'H' => self.go(0, out),
            b'F' => self.go(self.line.len(), out),
            _ => {}
        }
    }

    /// Shows the next older line of the history if `back`, else the next newer one.
    fn recall(&mut self, back: bool, out: &mut String) {
        let (now, typed) = match self.recalled.take() {
            Some((n, typed)) => (Some(n), typed),
            None => (None, self.line.clone()),
        };
        let next = match (now, back) {
            (None, true) => Some(0),
            (None, false) | (Some(0), false) => None,
            (Some(n), true) => Some(n + 1),
            (Some(n), false) => Some(n - 1),
        };
        let last = self.history.len().checked_sub(1);
        let next = next.and_then(|n| last.map(|last| n.min(last)));
        let line = match next {
            Some(n) => self.history.iter().rev().nth(n).cloned().unwrap_or_default(),
            None => typed.clone(),
        };
        self.recalled = next.map(|n| (n, typed));
        self.go(0, out);
        *out += &line;
        *out += "\x1b[K";
        self.cursor = line.len();
        self.line = line;
    }
}

/// Moves the cursor to the left by this many columns.
fn left(columns: usize, out: &mut String) {
    match columns {
        0 => {}
        n => *out += &format!("\x1b[{n}D"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the content of a terminal with one row after some output.
    fn seen(out: &str) -> String {
        let (mut row, mut at): (Vec<char>, usize) = (Vec::new(), 0);
        let mut chars = out.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => at = 0,
                '\n' => row.clear(),
                '\x07' => {}
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let sequence: String = chars.by_ref().take_while_inclusive();
                    match sequence.split_at(sequence.len() - 1) {
                        (n, "D") => at -= n.parse::<usize>().unwrap(),
                        ("", "K") => row.truncate(at),
                        other => panic!("{other:?}"),
                    }
                }
                c => {
                    if at == row.len() {
                        row.push(c);
                    } else {
                        row[at] = c;
                    }
                    at += 1;
                }
            }
        }
        row.into_iter().collect()
    }

    trait TakeSequence {
        fn take_while_inclusive(self) -> String;
    }

    impl<I: Iterator<Item = char>> TakeSequence for I {
        fn take_while_inclusive(self) -> String {
            let mut out = String::new();
            for c in self {
                out.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
            out
        }
    }

    fn typed(keys: &str) -> (Editor, String) {
        let (mut e, mut out) = (Editor::default(), String::new());
        for b in keys.bytes() {
            e.key(b, &mut out);
        }
        (e, out)
    }

    #[test]
    fn what_is_typed_at_the_end_is_echoed_as_it_is() {
        assert_eq!(typed("show red\r").1, "show red\r\n");
    }

    #[test]
    fn each_editing_key_does_its_own() {
        for (keys, line, cursor) in [
            ("ab\x1b[Dx", "axb", 2),
            ("ab\x1b[D\x1b[D\x1b[D\x1b[Cx", "axb", 2),
            ("abc\x01x", "xabc", 1),
            ("abc\x1b[Hx\x05y", "xabcy", 5),
            ("abc\x1b[1~x\x1b[4~y", "xabcy", 5),
            ("abc\x1bOHx\x1bOFy", "xabcy", 5),
            ("abc\x02\x02\x0b", "a", 1),
            ("abc\x02\x15", "c", 0),
            ("show red blue\x17x", "show red x", 10),
            ("show red  \x17", "show ", 5),
            ("abc\x7f\x08", "a", 1),
            ("abc\x01\x1b[3~\x04", "c", 0),
            ("abc\x02\x02\x06x", "abxc", 3),
            ("abc\x1b[1;5Dx", "abxc", 3),
        ] {
            let (e, out) = typed(keys);
            assert_eq!(e.line(), (line, cursor), "{keys:?}");
            assert_eq!(seen(&out).trim_end(), line.trim_end(), "{keys:?}");
        }
    }

    #[test]
    fn lines_are_recalled_and_what_was_typed_comes_back() {
        let (mut e, mut out) = typed("one\rtwo\rtwo\rthr");
        let mut press = |e: &mut Editor, key: &str| {
            for b in key.bytes() {
                e.key(b, &mut out);
            }
            e.line().0.to_owned()
        };
        assert_eq!(press(&mut e, "\x1b[A"), "two");
        assert_eq!(press(&mut e, "\x10"), "one");
        assert_eq!(press(&mut e, "\x1b[A"), "one", "no further back");
        assert_eq!(press(&mut e, "\x1b[B"), "two");
        assert_eq!(press(&mut e, "\x0e"), "thr");
        assert_eq!(press(&mut e, "\x1b[B"), "thr");
    }

    #[test]
    fn ctrl_c_drops_the_line() {
        let (mut e, mut out) = typed("abc");
        assert_eq!(e.key(3, &mut out), Some(Event::Cancel));
        assert_eq!(e.line(), ("", 0));
        assert!(out.ends_with("^C\r\n"));
    }

    #[test]
    fn return_and_line_feed_are_one_line() {
        let (mut e, mut out) = (Editor::default(), String::new());
        let events: Vec<Event> = "a\r\nb\nc\r".bytes().filter_map(|b| e.key(b, &mut out)).collect();
        assert_eq!(events, ["a", "b", "c"].map(|l| Event::Line(l.into())));
    }

    #[test]
    fn a_line_and_the_history_are_bounded() {
        let (mut e, mut out) = typed(&"x".repeat(2 * MAX_LINE));
        assert_eq!(e.line().0.len(), MAX_LINE);
        assert!(out.ends_with('\x07'));
        for i in 0..3 * HISTORY {
            for b in format!("\x15{i}\r").bytes() {
                e.key(b, &mut out);
            }
        }
        assert_eq!(e.history.len(), HISTORY);
    }

    proptest! {
        #[test]
        fn the_screen_shows_the_line(keys in proptest::collection::vec(prop_oneof![
            Just("\x1b[A"), Just("\x1b[B"), Just("\x1b[C"), Just("\x1b[D"), Just("\x1b[3~"), Just("\x01"), Just("\x05"), Just("\x0b"),
            Just("\x15"), Just("\x17"), Just("\x7f"), Just("a"), Just("bc "), Just("\x1b["), Just("\x1b"), Just("é"), Just("9"),
        ], 0..60)) {
            let (mut e, _) = typed("first line\rsecond\r");
            let mut out = String::new();
            for b in keys.concat().bytes() {
                e.key(b, &mut out);
            }
            let (line, cursor) = e.line();
            prop_assert!(cursor <= line.len());
            let screen = seen(&out);
            prop_assert_eq!(screen.trim_end(), line.trim_end());
        }
    }
}
