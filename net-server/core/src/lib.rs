//! A brane: a whole TCP/IP stack over shared rings, and the socket service for its clients. The crate knows nothing of seL4. Time,
//! randomness, frames and memory are arguments, so the same code runs in a protection domain and on the host.
//!
//! | module | owns |
//! | --- | --- |
//! | [`brane`] | one brane as a whole, and one turn of its work |
//! | [`link`] | the ends of the three kinds of shared regions: NIC driver and manager (trusted), clients (trusted with nothing) |
//! | [`stack`] | the net and the protocols; the way from a frame to its protocol |
//! | [`net`] | what all protocols use: interfaces, counters, random numbers, errors to other hosts |
//! | [`netif`] | one interface: addresses, DHCP, SLAAC, announcements |
//! | [`headers`] | the parser of received frames (from any host) up to the IP header; constants of wire formats |
//! | [`eth`] | frames to send, in place in the driver's ring; offloads |
//! | [`neighbor`] | link-layer addresses of neighbours (any host can claim one), datagrams that wait for an address |
//! | [`ip`] | addresses, extension headers, fragments, ICMP errors to send |
//! | [`protosw`] | the trait of protocols, and the switch that finds the protocol of a packet |
//! | [`family`] | families with their arrays of protocols; the account of their tables |
//! | [`transport`] | TCP, UDP, ICMP, IGMP: one file or folder each, which owns the protocol's state |
//! | [`smoltcp_guard`] | messages that smoltcp must not see |
//! | [`pfil`] | the heads at which hooks see packets, and the brane's filter |
//! | [`query`] | answers to queries of clients and of the manager: tables, name lookup |
//! | [`memory`] | the account of the heap |
//! | [`table`] | a table whose memory is allocated fallibly |
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
