//! The console's decisions, without a kernel in it: editing of the line, history, completion, who is waited for.
//!
//! On one side is whoever types (not trusted, so every buffer has a bound), on the other the manager, whose answers are
//! well formed; what branes say of themselves has been checked by it. The grammar and the answers' text are the crate
//! `operator-cli`'s, which the host's `branectl` uses too.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod editor;
pub mod session;
