//! The console's logic, without a kernel: editing of the line, history, completion, and the running command.
//!
//! On one side is the person at the keyboard, who is not trusted, so every buffer has a bound. On the other side is the manager.
//! Its answers are well-formed, and it has checked the data that branes report about themselves. The crate `operator-cli` owns
//! the grammar and the text of the answers; the host's `branectl` uses it too.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod editor;
pub mod session;
