//! Packet filter of a brane.
//!
//! A filter has rules ([`brane_abi::filter::Rule`]). The first rule that matches a packet decides; a packet that matches no rule
//! passes. Each rule is compiled to classic BPF ([`compile()`]). A bounded table of flows ([`state`]) lets rules match by the
//! state of a flow. Operators write rules as text ([`parse()`], [`print()`]). The brane calls its filters, and those of clients,
//! through a chain of hooks ([`chain`]).
//!
//! Rules and packets are not trusted: no rule and no packet causes a panic, an unbounded loop or unbounded memory. The crate
//! knows nothing of seL4: time, seeds and packets are arguments.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod capture;
pub mod chain;
mod check;
mod compile;
pub mod filter;
mod names;
pub mod packet;
mod parse;
mod print;
mod problem;
pub mod socket;
pub mod state;
#[cfg(test)]
mod tests;
mod words;

pub use capture::for_capture;
pub use check::{check, family_of};
pub use compile::compile;
pub use parse::parse;
pub use print::print;
pub use problem::{Fault, Problem};
