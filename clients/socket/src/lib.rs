//! The socket library of a client: TCP and UDP over the region `sock-N` that it shares with its brane.
//!
//! It owns the client's end of that region: the slots in use, the place of each socket's rings, and the waiting tasks. On the
//! other side is the client's brane. The client relies on the brane's data about the network, because it has no other source. But
//! a brane can crash and restart at any moment. So every event is checked, an impossible event is counted, and a restart ends
//! every socket with [`Error::BraneRestarted`]. No event of the brane causes a panic or an endless loop here.
//!
//! The library knows nothing of seL4: notification and clock come from the caller ([`Platform`]). The caller's loop is
//! [`NetClient::run`]: handle the doorbell's events, poll the woken tasks (and no others), ring the brane's doorbell once for all of
//! them, arm this side's doorbell, sleep.
//!
//! [`TcpStream`] implements `embedded-io-async`, [`NetClient`] and [`UdpSocket`] the traits of `embedded-nal-async`.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod error;
mod events;
pub mod executor;
mod identity;
mod multicast;
pub mod nal;
mod net_client;
mod query;
mod ring_allocator;
mod slot;
mod tcp;
mod time;
mod udp;

pub use error::Error;
pub use executor::Executor;
pub use identity::Identity;
pub use multicast::Interface;
pub use net_client::{Counters, NetClient, Platform};
pub use slot::RingSizes;
pub use tcp::{ListenOptions, ReadHalf, TcpListener, TcpStream, WriteHalf};
pub use time::Sleep;
pub use udp::{Incoming, Outgoing, UdpSocket};
