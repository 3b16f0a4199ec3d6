//! The host's end of the control line: sends requests to a running system over its control line.
//!
//! [`Line`] owns one end of a byte stream, for instance the Unix socket that QEMU connects to the virtio-console device, or to COM2. On the
//! other side is the system's domain `remote`, which forwards requests to the manager. It is not trusted: its
//! frames are checked, and the length of an answer is bounded. [`brane_abi::remote`] defines the frames.
//!
//! ```no_run
//! use branes_branectl::remote::Line;
//! use brane_abi::operator::{Answer, Request};
//!
//! let mut line = Line::unix("branectl.sock".as_ref())?;
//! if let Answer::Branes(branes) = line.call(&Request::List { fresh: true })? {
//!     println!("{} branes", branes.len());
//! }
//! # Ok::<(), branes_branectl::remote::Error>(())
//! ```

mod line;
mod stream;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use brane_abi::operator::Refusal;

pub use line::{Follower, Line, Patience};
pub use stream::Stream;

/// Reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manager has refused the request, so nothing was done.
    #[error("{}", operator_cli::refusals::Words::words(.0))]
    Refused(Refusal),
    /// The line cannot be opened.
    #[error("cannot open {}: {cause}; is the system running, and is this the control line that it was started with?", path.display())]
    Open { path: PathBuf, cause: io::Error },
    /// The line failed.
    #[error("the line to the system broke: {0}")]
    Broken(#[from] io::Error),
    /// The system sent no Hello.
    #[error("the system does not answer on its control line within {} s: it may still be booting, or be hung", .0.as_secs_f32())]
    Silent(Duration),
    /// The system uses another version.
    #[error(
        "the system speaks version {theirs} of the control line, this program {ours}: use the program that belongs to the image"
    )]
    Version {
        /// Version of this program.
        ours: u16,
        /// Version of the system.
        theirs: u16,
    },
    /// The request was sent, and no answer came in time. It may have been executed.
    #[error("no answer within {} s: the request may have been carried out all the same", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The session ended while the request was on its way. It may have been executed.
    #[error(
        "the system was restarted, or another program opened the line: the request may have been carried out"
    )]
    Interrupted,
    /// The request is longer than the manager accepts.
    #[error("the request has {0} bytes, and {max} are taken", max = brane_abi::operator::MAX_REQUEST)]
    TooLong(usize),
    /// The answer cannot be decoded.
    #[error("the answer makes no sense: {0}; use the program that belongs to the image")]
    Senseless(String),
    /// As many requests wait already as the system accepts.
    #[error("the system takes no further request within {} s: too many are under way", .0.as_secs_f32())]
    Busy(Duration),
}
