//! Compiler of the boot configuration: a TOML file for people to the CBOR text that the manager reads at its start.
//!
//! Everything that can be wrong is found here, on the build machine, and said with file, line, column, key and what
//! would be right; the manager then only has to notice damage. The keys are in [`mod@file`], explained at the top of
//! `brane-manager/branes.toml`. The file is written by the system's owner and is trusted to be meant, not to be right.

mod devices;
mod file;
mod limits;
mod rules;
mod write;

pub use write::to_toml;

use brane_manager_core::boot::{BootConfig, MAX_SIZE};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, naming key and value, and what would be right.
    pub what: String,
}

/// Why there is no boot configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {1}: name an existing boot configuration under `boot` in configs.toml", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// All that is wrong in it, in order of place.
    #[error("{}", Lines(.0, .1))]
    Wrong(PathBuf, Vec<Problem>),
}

struct Lines<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.1.iter().enumerate() {
            let end = if i + 1 < self.1.len() { "\n" } else { "" };
            write!(f, "{}:{}:{}: {}{end}", self.0.display(), p.line, p.column, p.what)?;
        }
        Ok(())
    }
}

/// The file at `path`, checked for a system of `instances` branes.
pub fn load(path: &Path, instances: usize) -> Result<BootConfig, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::Read(path.into(), e))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(path, text, instances),
        Err(error) => {
            // As text up to the damage, whose place is then the end.
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let what = format!(
                "byte {:#04x} is no UTF-8 text: the file is damaged or of another encoding; save it as UTF-8",
                bytes[error.valid_up_to()]
            );
            let damaged = problem(&good, good.len()..good.len(), what);
            Err(Error::Wrong(path.into(), vec![damaged]))
        }
    }
}

/// The file at `path` for a system of `instances` branes, as the bytes for the region `boot-config`.
pub fn compile(path: &Path, instances: usize) -> Result<Vec<u8>, Error> {
    Ok(load(path, instances)?.to_bytes())
}

/// The text of a file, checked for a system of `instances` branes. `path` is for the messages.
pub fn parse(path: &Path, text: &str, instances: usize) -> Result<BootConfig, Error> {
    let wrong = |problems| Error::Wrong(path.into(), problems);
    let file: file::File = toml::from_str(text).map_err(|e| {
        wrong(vec![problem(
            text,
            e.span().unwrap_or(0..0),
            e.message().replace('\n', ", "),
        )])
    })?;
    let mut rules = rules::Rules::new(text, instances);
    let config = rules.file(file);
    let mut problems = rules.problems;
    if problems.is_empty() && config.to_bytes().len() > MAX_SIZE {
        let what = format!(
            "compiled it has {} bytes, the region boot-config holds {MAX_SIZE}: shorten names or drop addresses",
            config.to_bytes().len()
        );
        problems.push(problem(text, 0..0, what));
    }
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by_key(|p| (p.line, p.column));
    Err(wrong(problems))
}

fn problem(text: &str, span: Range<usize>, what: String) -> Problem {
    let before = text.get(..span.start).unwrap_or(text);
    Problem {
        line: before.matches('\n').count() + 1,
        column: before.rsplit('\n').next().unwrap_or("").chars().count() + 1,
        what,
    }
}

#[cfg(test)]
mod tests;
