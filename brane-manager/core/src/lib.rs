//! What the manager decides, without a kernel in it: events go in, actions come out, time is an argument.
//!
//! The shell (`brane-manager`) turns faults, notifications and calls into [`Event`]s and carries the [`Action`]s out; the NIC
//! drivers, which are trusted and answer at once, are called through [`Driver`]. Branes, clients and subscribers are not
//! trusted: their reports are allegations, checked and counted in [`mod@report`]. Operators are not trusted either.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

mod backoff;
pub mod boot;
mod brane;
mod driver;
mod events;
mod hooks;
mod manager;
mod names;
mod registry;
pub mod report;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use backoff::{Backoff, FIRST_DELAY_NS, HEALTHY_NS, MAX_DELAY_NS, MAX_DELAY_STARTED_NS};
pub use driver::{Driver, Refused};
pub use manager::{Action, Child, Event, Manager, OPERATORS, Reply, Size};

/// The CBOR text of what goes to branes, watchers and operators.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> alloc::vec::Vec<u8> {
    let mut out = alloc::vec::Vec::new();
    // Writing to a vector cannot fail, and none of the encoded types refuses.
    let _ = minicbor::encode(value, &mut out);
    out
}
