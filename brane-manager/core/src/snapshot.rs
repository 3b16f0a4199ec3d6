//! A brane as subscribers see it: the part of an instance that a notification carries.

use crate::ids::BraneId;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::FamilyConfig;

#[derive(Clone, Debug)]
pub(crate) struct BraneSnapshot {
    pub id: BraneId,
    pub name: String,
    /// Counts the branes since the manager's start, so that no other brane has it.
    pub identity: u64,
    pub generation: u32,
    pub families: Vec<FamilyConfig>,
    /// Subscribers were notified of its start, and not of its shutdown.
    pub started: bool,
}
