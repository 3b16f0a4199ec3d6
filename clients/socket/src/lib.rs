//! The socket library of a client: TCP and UDP over the region `sock-N` that it shares with its brane.
//!
//! It owns the client's end of that region: which slots are in use, where each socket's rings lie, who waits for what.
//! On the other side is the client's brane. The client believes what the brane says about the network, for it has no
//! other, but a brane can crash and restart at any moment: every event is checked, an impossible one is counted, and a
//! restart ends every socket with [`Error::BraneRestarted`]. Nothing here panics or spins on the brane's behalf.
//!
//! It knows nothing of seL4: notification and clock come from the caller ([`Platform`]). The caller's loop is
//! [`Stack::run`]: take the doorbell's news, poll the tasks that were woken (and no others), ring the brane's doorbell
//! once for all that they did, arm the own one, sleep.
//!
//! [`TcpStream`] implements `embedded-io-async`, [`Stack`] and [`UdpSocket`] the traits of `embedded-nal-async`.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod error;
mod events;
pub mod executor;
mod identity;
pub mod nal;
mod query;
mod slot;
mod space;
mod stack;
mod tcp;
mod time;
mod udp;

pub use error::Error;
pub use executor::Executor;
pub use identity::Identity;
pub use slot::RingSizes;
pub use stack::{Counters, Platform, Stack};
pub use tcp::{ListenOptions, ReadHalf, TcpListener, TcpStream, WriteHalf};
pub use time::Sleep;
pub use udp::{Incoming, Outgoing, UdpSocket};
