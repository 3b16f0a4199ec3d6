//! The harness around QEMU: the one machine that the image is made for, a running QEMU with its console, and the tools that
//! the host must have.
//!
//! Owns: QEMU's command line and the processes started from it. On the other side: QEMU, which is trusted, and what the
//! guest writes on its serial line, which is only ever treated as text.

pub mod board;
mod error;
pub mod host;
mod machine;
mod process;
mod socket;
mod tap;

pub use error::Error;
pub use machine::{Clock, Forward, Machine, Net, Protocol, SECOND_MAC, Serial};
pub use process::Qemu;
