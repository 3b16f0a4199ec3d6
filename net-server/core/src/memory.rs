//! The account of a brane's heap: what each thing takes at most, and the sum.
//!
//! Hosts on the wire and clients decide how much of it is in use, within these bounds. What they can make longer has its full
//! size from the start, or is asked for where a refusal is a drop with a counter. The protection domain compares [`needed`] with
//! the size of its heap when it is built.

use crate::eth::device::{LOOP_BYTES, LOOP_MTU, TSO_FRAME};
use crate::family;
use crate::ip::identification::Disguise;
use crate::link::client::EVENT_BYTES;
use crate::neighbor::queue::{self, QueuedDatagram};
use crate::net::COPY;
use crate::netif::{NetIf, UDP_LONGEST};
use crate::pfil;
use crate::transport::tcp::{CONNECTIONS, buffers};
use brane_abi::control::{MAX_COMMAND, MAX_MESSAGE};
use brane_abi::socket::QUESTIONS;
use smoltcp::iface::{Interface, SocketStorage};

/// Buffers of TCP connections, in a region of their own.
const TCP_BUFFERS: usize = buffers::MEMORY;

/// Tables of families and protocols, which their account limits ([`crate::family::Account`]).
const TABLES: usize = family::DEFAULT_LIMIT;

/// Sockets of connections, which are allocated one by one.
const TCP_SOCKETS: usize = CONNECTIONS * size_of::<SocketStorage>();

/// An interface with its way out and its sockets: of these, the one that sends datagrams has a buffer.
const INTERFACE: usize =
    size_of::<NetIf>() + size_of::<Interface>() + size_of::<Disguise>() + UDP_LONGEST + TSO_FRAME + (4 << 10);

/// Datagrams that wait at an interface for a neighbour.
const QUEUED: usize = queue::LIMIT_BYTES + queue::LIMIT * size_of::<QueuedDatagram>();

/// Packets that wait in `lo0`.
const LOOP: usize = LOOP_BYTES + LOOP_MTU;

/// Questions from inside: each answer is encoded and waits, one is being made from tables of the same size; a ping has its data
/// twice, a lookup its name.
const QUERIES: usize = (2 * QUESTIONS + 16) * MAX_MESSAGE;

/// The brane's filter.
const FILTER: usize = branes_pfil::filter::BYTES;

/// The brane's captures.
const CAPTURES: usize = pfil::capture::BYTES;

/// What the manager (trusted) gives: the configuration and one message.
const CONFIGURATION: usize = 7 * MAX_MESSAGE + MAX_COMMAND;

/// Returns all of it in bytes, for a brane with `ports` ports. One eighth of what is not of one piece from the start to
/// the end is for the gaps in between.
pub const fn needed(ports: usize) -> usize {
    let fixed = TCP_BUFFERS + TABLES;
    let rest = TCP_SOCKETS
        + ports * (INTERFACE + QUEUED)
        + INTERFACE
        + LOOP
        + COPY
        + EVENT_BYTES
        + QUERIES
        + FILTER
        + CAPTURES
        + CONFIGURATION;
    fixed + rest + rest / 8
}

/// Returns what [`needed`] returns, for a brane that also has the ends of `filters` external filters.
pub const fn needed_with(ports: usize, filters: usize) -> usize {
    let more = filters * crate::pfil::external::MEMORY;
    needed(ports) + more + more / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;

    /// Another way to the sum: a thing that is left out, taken off or counted with another one is missed.
    #[test]
    fn the_account_is_the_sum_of_all_things_and_an_eighth_of_those_that_come_and_go() {
        const PORTS: usize = 6;
        let for_good = [TCP_BUFFERS, TABLES];
        let come_and_go = [
            vec![INTERFACE + QUEUED; PORTS],
            vec![INTERFACE, LOOP, COPY],
            vec![TCP_SOCKETS, EVENT_BYTES, QUERIES, FILTER, CAPTURES, CONFIGURATION],
        ]
        .concat();
        let sum: usize = come_and_go.iter().sum();
        assert_eq!(needed(PORTS), for_good.iter().sum::<usize>() + sum + sum / 8);
    }

    #[test]
    fn datagrams_that_wait_take_their_bytes_and_their_list() {
        let list = VecDeque::<QueuedDatagram>::with_capacity(queue::LIMIT);
        let records = list.capacity() * size_of::<QueuedDatagram>();
        assert_eq!(QUEUED, queue::LIMIT_BYTES + records);
    }
}
