//! Words of a text with their places.
//!
//! A rule is a row of words, each decided by its first characters alone. A cursor over words suffices, and places come for free.
//! So no parser library is used.

/// A part of the text.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a> {
    /// Offset in the text, in bytes.
    pub at: usize,
    pub text: &'a str,
}

impl<'a> Word<'a> {
    /// Splits at each `separator`. The parts may be empty.
    pub fn split(self, separator: impl Fn(char) -> bool) -> impl Iterator<Item = Word<'a>> {
        let base = self.text.as_ptr() as usize;
        self.text.split(separator).map(move |text| Word {
            at: self.at + (text.as_ptr() as usize - base),
            text,
        })
    }

    /// Splits at the first `separator`.
    pub fn split_once(self, separator: char) -> Option<(Word<'a>, Word<'a>)> {
        let (left, right) = self.text.split_once(separator)?;
        let at = self.at + left.len() + separator.len_utf8();
        Some((
            Word {
                at: self.at,
                text: left,
            },
            Word { at, text: right },
        ))
    }

    /// Drops blanks at both ends.
    pub fn trim(self) -> Word<'a> {
        let start = self.text.trim_ascii_start();
        Word {
            at: self.at + (self.text.len() - start.len()),
            text: start.trim_ascii_end(),
        }
    }
}

/// A cursor over the words of a text, which are separated by blanks.
pub(crate) struct Words<'a> {
    rest: Word<'a>,
}

impl<'a> Words<'a> {
    /// Creates a cursor over the words of a part of the text.
    pub fn of(part: Word<'a>) -> Words<'a> {
        Words { rest: part.trim() }
    }

    /// Returns the next word, and does not move.
    pub fn peek(&self) -> Option<Word<'a>> {
        let end = self.rest.text.find(|c: char| c.is_ascii_whitespace());
        let text = self.rest.text.get(..end.unwrap_or(self.rest.text.len()))?;
        (!text.is_empty()).then_some(Word {
            at: self.rest.at,
            text,
        })
    }

    /// Returns the next word, and moves behind it.
    pub fn next(&mut self) -> Option<Word<'a>> {
        let word = self.peek()?;
        let text = self.rest.text.get(word.text.len()..).unwrap_or("");
        let at = self.rest.at + word.text.len();
        self.rest = Word { at, text }.trim();
        Some(word)
    }

    /// Moves behind the next word if it is this one. Returns true if it did.
    pub fn accept(&mut self, text: &str) -> bool {
        let accepted = self.peek().is_some_and(|word| word.text == text);
        if accepted {
            self.next();
        }
        accepted
    }

    /// Returns all that is left, and moves to the end.
    pub fn rest(&mut self) -> Word<'a> {
        let rest = self.rest;
        self.rest = Word {
            at: rest.at + rest.text.len(),
            text: "",
        };
        rest
    }
}
