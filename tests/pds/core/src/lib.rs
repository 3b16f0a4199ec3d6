//! What the hostile programs of the tests do: a client that breaks every rule towards its brane ([`client`]), and a
//! brane that does so towards driver and manager ([`brane`]).
//!
//! It owns nothing but its sequence of pseudo-random numbers, which starts from a fixed seed, so that a run can be repeated. The other
//! sides are the system's own programs, which must survive all of it. It reaches no further than the regions it is given.
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
