//! What operators type and what they get to see: one grammar for the console and for the host's `branectl` and `nicctl`.
//!
//! Everything follows from one table of verbs ([`table`]): the parser ([`parse`]), help ([`help`]), completion ([`complete`]),
//! the documents. A parsed [`Command`](command::Command) is carried out by a [`Session`](session::Session), which says which request to
//! send next and turns the answers into text or JSON. Whoever types is not trusted, and neither is what a brane says of
//! itself: words, answers and loops are bounded, and no character that commands a terminal gets through.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod change;
pub mod command;
pub mod complete;
pub mod error;
pub mod help;
pub mod json;
pub mod parse;
pub mod ping;
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
