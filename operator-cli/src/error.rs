//! Errors of a line: a code, the fault with the name of the faulty object, and the fix.

use alloc::string::String;
use core::fmt;

/// Code of a line that the grammar does not accept.
pub const INVALID_COMMAND: &str = "invalid-command";
/// Code of a name that the system does not have, as the operator's end has found.
pub const NO_SUCH_NAME: &str = "no-such-name";
/// Code of a command that this program cannot execute, because it belongs to another program.
pub const WRONG_PROGRAM: &str = "wrong-program";
/// Code of a system that does not answer, or not in time.
pub const NO_SYSTEM: &str = "no-system";
/// Code of a file that cannot be read, written or applied.
pub const BAD_FILE: &str = "bad-file";

/// The codes of the operator's end, each with its meaning. The codes of refusals are in [`crate::refusals`].
pub const OWN_CODES: &[(&str, &str)] = &[
    (INVALID_COMMAND, "the line is not a valid command"),
    (NO_SUCH_NAME, "the system has nothing of that name"),
    (WRONG_PROGRAM, "the command belongs to another program"),
    (NO_SYSTEM, "no system answers on the control line"),
    (BAD_FILE, "the file cannot be read, written or applied"),
];

/// A fault and its fix, shown as `WHAT: FIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A stable word for programs, in kebab case.
    pub code: &'static str,
    /// The fault, with the name of the faulty object.
    pub what: String,
    /// The fix, or the limit that was exceeded. May be empty.
    pub fix: String,
}

impl Error {
    /// Builds the error of a line that the grammar does not accept.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Error {
        Error::coded(INVALID_COMMAND, what, fix)
    }

    /// Builds an error with a code.
    pub fn coded(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Error {
        Error {
            code,
            what: what.into(),
            fix: fix.into(),
        }
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
