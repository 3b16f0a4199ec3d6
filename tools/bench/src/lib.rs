//! Measures a guest from outside, by its wire protocols and by the instructions that it executes.
//!
//! Owns: the load generators, the rows of the table and the cost of each, the recorded figures (`docs/bench/`),
//! the Linux guest for comparison, and the profile of an echo. On the other side: the guest under measurement,
//! which must keep the contract of [`guest::MAIN`], and QEMU with the plugin of `tools/bench/plugin`, which is
//! trusted. A guest that does not answer ends a measurement with an error, because every wait has a limit. All
//! traffic stays in a network namespace of its own.

pub mod counters;
pub mod figures;
pub mod guest;
pub mod linux;
pub mod load;
pub mod netns;
pub mod ping;
pub mod profile;
#[path = "../plugin/src/protocol.rs"]
pub mod protocol;
pub mod quick;
pub mod rows;
pub mod table;
