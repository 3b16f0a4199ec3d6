//! Harness around QEMU: the machine that the image is made for, a running QEMU with its console, and the
//! tools that the host needs.
//!
//! Owns: QEMU's command line and the processes started from it. On the other side: QEMU, which is trusted,
//! and the output of the guest's serial line, which is only treated as text.

pub mod board;
mod error;
pub mod host;
mod machine;
mod process;
mod socket;
mod tap;

pub use error::Error;
pub use machine::{Clock, Forward, Machine, Net, Protocol, Serial, nic_mac};
pub use process::{Filter, Qemu};
