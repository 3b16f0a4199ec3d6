//! The brane's ends of its shared regions. Each is an [`brane_abi::endpoint::Endpoint`] and what its use adds.

pub mod client;
pub mod driver;
pub mod manager;
