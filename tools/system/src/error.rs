//! Faults in a description, each with its position and remedy.

use std::fmt;

/// Line and column in the file. Both begin at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// A fault in a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Id of the broken rule, one of [`crate::RULES`].
    pub rule: &'static str,
    pub position: Position,
    /// The fault and the faulty name.
    pub what: String,
    /// The remedy.
    pub help: String,
}

/// All faults of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    file: String,
    list: Vec<Error>,
}

impl Errors {
    /// Returns an empty list.
    pub fn new(file: &str) -> Errors {
        Errors {
            file: file.to_owned(),
            list: Vec::new(),
        }
    }

    pub fn add(
        &mut self,
        rule: &'static str,
        position: Position,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.list.push(Error {
            rule,
            position,
            what: printable(what.into()),
            help: printable(help.into()),
        });
    }

    /// Returns true if there are no faults.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the faults in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.list.iter()
    }
}

/// Escapes a text so that a message stays on its line. Names from the file may contain any character.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    escaped.collect()
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let Position { line, column } = error.position;
            write!(
                f,
                "{}:{line}:{column}: error: {}; help: {}",
                self.file, error.what, error.help
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
