//! Agreements between two protection domains, and nothing else: ids, rings, region layouts, message layouts.
//!
//! Both sides of every shared region include this crate, so each number is written once. The crate knows nothing of seL4: memory,
//! time and notifications belong to the caller.
//!
//! **Trust.** All data in a shared region is a claim of the side that can write there. The types here keep the authoritative
//! state (indices, capacities, epochs) in private memory. They read the peer's part once, check it, and return a lie as an error
//! ([`ring::RingError::Peer`]). No value of the peer makes them panic or index out of bounds.
#![cfg_attr(not(any(test, loom)), no_std)]
#![warn(missing_docs)]

extern crate alloc;

pub mod backtrace;
pub mod capture;
pub mod control;
pub mod doorbell;
pub mod endpoint;
pub mod filter;
pub mod hook;
pub mod layout;
pub mod link;
pub mod log;
pub mod net;
pub mod offender;
pub mod operator;
pub mod port;
pub mod query;
pub mod remote;
pub mod ring;
pub mod shared;
pub mod socket;
pub mod stream;
pub mod subscription;
pub mod timer;
pub mod vif;

/// The atomics under the rings: the processor's, or loom's if the protocol is model-checked.
pub(crate) mod sync {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}
