//! The IP layer: what both families share below their protocols. Packets come from any host.

pub mod address;
pub mod checksum;
pub mod extensions;
pub mod fragments;
pub mod icmp_error;
pub mod identification;
pub mod output;
