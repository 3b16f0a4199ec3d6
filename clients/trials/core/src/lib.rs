//! What the programs of `clients/trials` do and check. They put the kernel to the test from inside a system: they keep
//! every rule towards the other protection domains, and stop with a panic when the kernel did not keep its own.
//!
//! Nothing here is shared with anybody. The other side is the kernel, which is trusted everywhere else.
#![cfg_attr(not(test), no_std)]

pub mod examiner;
pub mod registers;
pub mod storm;
pub mod stray;
