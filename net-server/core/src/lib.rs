//! A brane: a whole TCP/IP stack over shared rings, and the socket service for its clients. The crate knows nothing of seL4. Time,
//! randomness, frames and memory are arguments, so the same code runs in a protection domain and on the host.
//!
//! | module | owns |
//! | --- | --- |
//! | [`brane`] | one brane as a whole, and one turn of its work |
//! | [`link`] | the ends of the three kinds of shared regions: NIC driver and manager (trusted), clients (trusted with nothing) |
//! | [`headers`] | the parser of received frames (from any host) |
//! | [`eth`] | frames to send, in place in the driver's ring; offloads |
//! | [`neighbor`] | link-layer addresses of neighbours (any host can claim one), datagrams that wait for an address |
//! | [`ip`] | addresses, extension headers, fragments, ICMP errors |
//! | [`protosw`], [`family`] | families, protocols and the brane's protocol switch |
//! | [`transport`] | TCP and UDP |
//! | [`smoltcp_guard`] | messages that smoltcp must not see |
//! | [`stack`] | interfaces and sockets, the way from a frame to its socket |
//! | [`pfil`] | the heads at which hooks see packets, and the brane's filter |
//! | [`netif`] | one interface: addresses, DHCP, SLAAC, announcements |
//! | [`query`] | answers to queries of clients and of the manager: tables, ping, name lookup |
//! | [`memory`] | the account of the heap |
//! | [`counters`] | every refusal and drop by name |
//!
//! smoltcp implements the protocols. It is used one socket at a time. Each connection is a socket set of its own, found by a hash of
//! its addresses and ports, so no work grows with the number of sockets. This crate's `Cargo.toml` sets smoltcp's compile-time limits.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod brane;
pub mod counters;
pub mod eth;
pub mod family;
pub mod headers;
pub mod ip;
pub mod link;
pub mod memory;
pub mod neighbor;
pub mod net;
pub mod netif;
pub mod pfil;
pub mod protosw;
pub mod query;
pub mod smoltcp_guard;
pub mod stack;
pub mod table;
pub mod transport;

pub use brane::{Brane, Failure, Peer, Turn};
