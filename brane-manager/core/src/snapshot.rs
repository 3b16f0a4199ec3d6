//! A brane as subscribers see it: the part of an instance that a notification carries.

use crate::ids::BraneId;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;

#[derive(Clone, Debug)]
pub(crate) struct BraneSnapshot {
    pub id: BraneId,
    pub name: String,
    pub generation: u32,
    pub families: Vec<Family>,
    pub started: bool,
}
