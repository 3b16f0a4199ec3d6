//! The subscribers' view of a brane: the part of an instance that a notification carries.

use crate::ids::BraneId;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::FamilyConfig;

#[derive(Clone, Debug)]
pub(crate) struct BraneSnapshot {
    pub id: BraneId,
    pub name: String,
    /// The brane's number among all branes since the manager's start, so it is unique.
    pub identity: u64,
    pub generation: u32,
    pub families: Vec<FamilyConfig>,
    /// True if subscribers were notified of the brane's start, and not yet of its shutdown.
    pub started: bool,
}
