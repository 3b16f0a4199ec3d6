//! What the manager decides, without a kernel in it: events go in, actions come out, time is an argument.
//!
//! The shell (`brane-manager`) turns faults, notifications and calls into [`Event`]s and carries the [`Action`]s out.
//! Branes and clients are not trusted: their reports are allegations, checked and counted in [`mod@report`]. The console
//! is not trusted either; the NIC driver is.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod answer;
mod backoff;
pub mod boot;
mod brane;
mod manager;
mod plan;
pub mod report;

pub use answer::Driver;
pub use backoff::{Backoff, FIRST_DELAY_NS, HEALTHY_NS, MAX_DELAY_NS, MAX_DELAY_STARTED_NS};
pub use manager::{Action, Child, Event, Manager};
pub use plan::VifPlan;
