//! Faults in a description, with the place and the cure.

use std::fmt;

/// Line and column in the file, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Name of the rule that is broken; one of [`crate::RULES`].
    pub rule: &'static str,
    /// Where.
    pub position: Position,
    /// What is wrong, naming the thing.
    pub what: String,
    /// What would be right.
    pub help: String,
}

/// All faults of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    file: String,
    list: Vec<Error>,
}

impl Errors {
    /// None yet.
    pub fn new(file: &str) -> Errors {
        Errors {
            file: file.to_owned(),
            list: Vec::new(),
        }
    }

    /// Adds one.
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.list.iter()
    }
}

/// Names out of the file may hold anything; a message stays on its line.
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
