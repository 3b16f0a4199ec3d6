//! Compiler of the boot configuration: turns a TOML file into the CBOR text that the manager reads at its
//! start.
//!
//! It finds every error on the build machine, and reports it with file, line, column, key and remedy. So the
//! manager only has to detect damage. `file` defines the keys, and `brane-manager/branes.toml` explains
//! them. On the other side: the system's owner, who writes the file. The owner's intention is trusted, the
//! text is checked.

mod devices;
mod file;
mod filter;
mod limits;
mod rules;
mod write;

pub use write::to_toml;

use brane_manager_core::boot::{BootConfig, MAX_SIZE};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Size of the system that a boot configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Maximum number of branes.
    pub instances: usize,
    /// Number of NICs.
    pub nics: usize,
    /// Ports of each brane at one NIC. `None` if unknown: ports are not checked.
    pub ports_per_nic: Option<usize>,
}

/// One error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The wrong key and value, and the remedy.
    pub what: String,
}

/// Reason why there is no boot configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {1}: name an existing boot configuration under `boot` in configs.toml", path = .0.display())]
    Read(PathBuf, std::io::Error),
    /// All errors in the file, ordered by position.
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

/// Reads the file at `path` and checks it for a system of this size.
pub fn load(path: &Path, size: Size) -> Result<BootConfig, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::Read(path.into(), e))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(path, text, size),
        Err(error) => {
            // The text up to the damage, so that its end is the damage's position.
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

/// Compiles the file at `path`, for a system of this size, to the bytes of the region `boot-config`.
pub fn compile(path: &Path, size: Size) -> Result<Vec<u8>, Error> {
    Ok(load(path, size)?.to_bytes())
}

/// Reads the text of a file and checks it for a system of this size. `path` is for the messages.
pub fn parse(path: &Path, text: &str, size: Size) -> Result<BootConfig, Error> {
    let wrong = |problems| Error::Wrong(path.into(), problems);
    let file: file::File = toml::from_str(text).map_err(|e| {
        wrong(vec![problem(
            text,
            e.span().unwrap_or(0..0),
            e.message().replace('\n', ", "),
        )])
    })?;
    let mut rules = rules::Rules::new(text, size);
    let config = rules.file(file);
    let mut problems = rules.problems;
    if problems.is_empty() && config.to_bytes().len() > MAX_SIZE {
        let what = format!(
            "the compiled configuration has {} bytes, the region boot-config holds {MAX_SIZE}: shorten names, or drop addresses or rules",
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
