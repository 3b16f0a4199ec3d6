//! The operators' commands and their output: one grammar for the console and for the host's `branectl` and `nicctl`.
//!
//! One table of verbs ([`table`]) is the source of the parser ([`parse`]), help ([`help`]), completion ([`complete`]) and the
//! documents. A [`Session`](session::Session) executes a parsed [`Command`](command::Command): it decides which request to send
//! next, and converts the answers to text or JSON. Neither the person who types nor the text of branes is trusted. So words,
//! answers and loops are bounded, and control characters of terminals are replaced.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod capture;
pub mod change;
pub mod command;
pub mod complete;
pub mod done;
pub mod error;
pub mod filter;
pub mod help;
pub mod json;
pub mod parse;
pub mod ping;
pub mod reach;
pub mod refusals;
pub mod schema;
pub mod session;
pub mod table;
pub mod table_layout;
pub mod text;
pub mod unparse;
pub mod value_parsers;

#[cfg(test)]
mod samples;

#[cfg(test)]
mod render_tests;
