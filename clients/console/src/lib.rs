//! The console's decisions, without a kernel in it: editing of the line, commands, tables.
//!
//! On one side is whoever types (not trusted, so every buffer has a bound), on the other the manager, whose answers are
//! well formed; what branes say of themselves has been checked by it.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod command;
pub mod session;
pub mod table;
pub mod text;
