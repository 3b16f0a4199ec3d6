//! The logic of the tests' hostile programs: a client that violates every rule towards its brane ([`client`]),
//! and a brane that does so towards driver and manager ([`brane`]).
//!
//! It owns only its sequence of pseudo-random numbers, which starts from a fixed seed, so that a run can be
//! repeated. The other sides are the system's own programs, which must survive all of it. It reaches only the
//! regions that it is given.
#![cfg_attr(not(test), no_std)]

pub mod brane;
pub mod client;
pub mod irq_checker;
pub mod offload;
pub mod phases;
mod random;
mod region;
pub mod registers;
pub mod signal_flood;
pub mod stray;

pub use random::Random;
