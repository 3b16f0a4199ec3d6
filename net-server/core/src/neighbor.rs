//! Neighbours: which link-layer address an IP address has (RFC 826, RFC 4861). Any host can claim an address.

pub mod discovery;
pub mod messages;
pub mod queue;
pub mod table;
