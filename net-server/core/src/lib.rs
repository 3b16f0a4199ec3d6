//! A brane: a whole TCP/IP stack over shared rings, and the socket service for its clients. No seL4 in here: time, randomness,
//! frames and memory are arguments, so the same code runs in a protection domain and on the host.
//!
//! | module | owns |
//! | --- | --- |
//! | [`brane`] | one brane as a whole, and one turn of its work |
//! | [`ports`] | the link and rings to the NIC driver (trusted) |
//! | [`manage`] | the link and rings to the manager (trusted) |
//! | [`client`], [`slot`] | the socket service for a client (trusted with nothing) |
//! | [`stack`] | interfaces and sockets, the way from a frame to its socket |
//! | [`family`] | families, protocols and the brane's protocol switch |
//! | [`frame`], [`extensions`], [`address`], [`segment`] | the first look at a received frame (from any host) |
//! | [`fragments`] | packets under way in fragments (from any host) |
//! | [`guard`] | messages that smoltcp must not see |
//! | [`query`] | answers to queries of the client and of the manager: tables, ping, name lookup |
//! | [`netif`], [`announce`] | one interface: addresses, DHCP, SLAAC, announcements |
//! | [`neighbours`], [`parked`] | who is at which station (any host says so), datagrams that wait for an answer |
//! | [`shortcut`] | datagrams to where one went a moment ago |
//! | [`device`], [`checksum`] | frames out, in place in the driver's ring; offloads |
//! | [`syncache`], [`sources`] | connections that come in (from any host): half-open ones, and who holds how many |
//! | [`isn`], [`opener`] | initial sequence numbers, and how smoltcp's sockets get them |
//! | [`disguise`] | identifications that others could predict, replaced on the way out |
//! | [`tcp`] | connections, listeners, and the pool of buffers |
//! | [`memory`] | the account of the heap |
//! | [`counters`] | every refusal and drop by name |
//!
//! smoltcp does the protocols. It is used one socket at a time: each connection is a socket set by itself, found by a hash of
//! its addresses and ports, so that no work grows with the number of sockets. smoltcp's compile-time limits are set in this
//! crate's `Cargo.toml`.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod address;
pub mod announce;
pub mod brane;
pub mod checksum;
pub mod client;
pub mod counters;
pub mod device;
pub mod disguise;
pub mod extensions;
pub mod family;
pub mod fragments;
pub mod frame;
pub mod guard;
pub mod inlet;
pub mod isn;
pub mod manage;
pub mod memory;
pub mod neighbours;
pub mod netif;
pub mod opener;
pub mod parked;
pub mod ports;
pub mod query;
pub mod segment;
pub mod shortcut;
pub mod slot;
pub mod sources;
pub mod stack;
pub mod syncache;
pub mod tcp;

pub use brane::{Brane, Failure, Peer, Turn};
