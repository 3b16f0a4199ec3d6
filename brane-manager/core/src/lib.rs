//! What the manager decides, without a kernel in it: events go in, actions come out, time is an argument.
//!
//! The shell (`brane-manager`) turns faults, notifications and calls into [`manager::Event`]s and carries the
//! [`manager::Action`]s out. Branes and clients are not trusted: their reports are allegations, checked and counted
//! here. The console is not trusted either; the NIC driver is.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
