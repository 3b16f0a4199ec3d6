//! Why a line cannot be carried out: what is wrong, naming the thing, and what to do.

use alloc::string::String;
use brane_abi::operator::Refusal;
use core::fmt;

/// What is wrong and what to do, shown as `WHAT: FIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, naming the thing.
    pub what: String,
    /// What to do, or which limit there is.
    pub fix: String,
}

impl Error {
    /// From both halves.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Error {
        Error {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::new(refusal.what, refusal.help)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fix.is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "{}: {}", self.what, self.fix)
    }
}

impl core::error::Error for Error {}
