//! The socket protocol between a brane and its client (layout: [`crate::layout::sock`]).
//!
//! The brane does not trust the client. The client places its sockets' rings in the region's data area; the brane checks every
//! place and keeps its own copy. Requests go in the request ring, and events in the event ring. The bytes of a stream and the
//! datagrams of a socket go in the slot's own rings, without any message. Doorbell bit `s` belongs to slot `s`, bit
//! [`CONTROL_BIT`] to requests and events.
//!
//! Each request and event names a slot (meta word 1) and the generation of its use (meta word 2). The client chooses a new
//! generation at each use of the slot. If the generation is not the present one, the record is stale and ignored.
//!
//! `TCP_LISTEN`, `TCP_ACCEPT`, `TCP_CONNECT` or `UDP_BIND` takes a slot. The slot is free again after the event `CLOSED`. This
//! event answers `CLOSE` and `ABORT`, and follows `FAILED`. The brane never waits for a client. If a datagram finds a full ring,
//! the brane drops and counts it. For streams it lets TCP's window close. If an event finds no room, the brane defers it (bounded
//! by the number of slots).
//!
//! If a client waits for room in a slot's transmit ring, the slot's doorbell bit notifies it. For a stream this happens when the
//! brane has consumed bytes of a full ring. For datagrams it happens whenever a quarter of the ring has been given back since the
//! last notification. So before a client waits to send a datagram, it fills the room that the datagram cannot use
//! ([`crate::ring::Producer::skip_to_start`]). At least half of the ring is then in use.

use crate::net::SockAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Doorbell bit for the request ring (towards the brane) or the event ring (towards the client).
pub const CONTROL_BIT: u64 = 1 << 63;

/// Kind of a request: meta word 0.
pub mod request {
    /// Payload [`super::Listen`]: the slot becomes a TCP listener. Answer `BOUND` or `FAILED`.
    pub const TCP_LISTEN: u32 = 1;
    /// Payload [`super::Accept`]: the slot waits for the listener's next connection. Answer `ACCEPTED` or `FAILED`.
    pub const TCP_ACCEPT: u32 = 2;
    /// Payload [`super::Open`]: the slot connects to `remote`. Answer `CONNECTED` or `FAILED`.
    pub const TCP_CONNECT: u32 = 3;
    /// Payload [`super::Open`] (`remote` unused): the slot becomes a UDP socket. Answer `BOUND` or `FAILED`.
    pub const UDP_BIND: u32 = 4;
    /// No payload: send FIN after all bytes in the transmit ring; receiving goes on.
    pub const SHUTDOWN: u32 = 5;
    /// No payload: send FIN as for `SHUTDOWN`, discard received bytes, and free the slot when the transmit ring is empty. The
    /// brane finishes the connection by itself. Answer `CLOSED`.
    pub const CLOSE: u32 = 6;
    /// No payload: reset the connection and free the slot. Answer `CLOSED`.
    pub const ABORT: u32 = 7;
    /// No payload, slot unused: a request for the brane's identity. Answer `IDENTITY`.
    pub const IDENTIFY: u32 = 8;
    /// CBOR [`crate::query::Query`], with a token of the client in place of the slot. Answer `ANSWER` when the result is known. A
    /// client may have [`super::QUESTIONS`] queries under way.
    pub const QUERY: u32 = 9;
    /// Payload [`super::Membership`]: the UDP socket joins a group at an interface. Answer `DONE`.
    pub const JOIN_GROUP: u32 = 10;
    /// Payload [`super::Membership`]: the UDP socket leaves a group at an interface. Answer `DONE`.
    pub const LEAVE_GROUP: u32 = 11;
    /// Payload [`super::GroupOptions`]: how the UDP socket sends to groups from now on. Answer `DONE`.
    pub const GROUP_OPTIONS: u32 = 12;
}

/// Kind of an event: meta word 0.
pub mod event {
    /// Payload [`super::Endpoints`]: the listener or UDP socket is in place.
    pub const BOUND: u32 = 1;
    /// Payload [`super::Endpoints`]: the slot has accepted a connection.
    pub const ACCEPTED: u32 = 2;
    /// Payload [`super::Endpoints`]: the connection is established.
    pub const CONNECTED: u32 = 3;
    /// Payload [`super::Failed`]: the request was refused or the connection attempt failed; `CLOSED` follows.
    pub const FAILED: u32 = 4;
    /// No payload: the peer has closed its direction, and all its bytes are in the receive ring.
    pub const PEER_CLOSED: u32 = 5;
    /// No payload: the connection was reset or timed out. For a listener or UDP socket: it has ended, because the brane was shut
    /// down or lost the socket's address. The slot stays taken until `CLOSE`.
    pub const RESET: u32 = 6;
    /// No payload: the slot is free.
    pub const CLOSED: u32 = 7;
    /// Payload [`super::Identity`].
    pub const IDENTITY: u32 = 8;
    /// CBOR [`crate::query::Answer`], with the query's token in place of the slot.
    pub const ANSWER: u32 = 9;
    /// Payload [`super::Done`]: the answer to a request about groups. The socket stays as it is if the request has failed.
    pub const DONE: u32 = 10;
}

/// Most queries that a client may have under way. A further query counts as malformed and has no answer.
pub const QUESTIONS: usize = 8;

/// Reasons of a failed request: [`Failed::error`].
pub mod error {
    /// The request violates the protocol (unknown kind, bad ring place, slot in use, wrong length).
    pub const INVALID: u32 = 1;
    /// Another socket of this brane has that local address and port.
    pub const ADDRESS_IN_USE: u32 = 2;
    /// The brane has no such local address.
    pub const ADDRESS_NOT_AVAILABLE: u32 = 3;
    /// The brane's memory or socket quota is used up.
    pub const NO_RESOURCES: u32 = 4;
    /// No route to the remote address.
    pub const UNREACHABLE: u32 = 5;
    /// The remote refused the connection.
    pub const REFUSED: u32 = 6;
    /// The brane runs without this protocol.
    pub const PROTOCOL_NOT_SUPPORTED: u32 = 7;
    /// The brane is not started yet: repeat the request after the next `IDENTITY` event.
    pub const NOT_READY: u32 = 8;
    /// No answer within the connection timeout.
    pub const TIMED_OUT: u32 = 9;
    /// A rule of the brane's filter forbids the call.
    pub const PERMISSION_DENIED: u32 = 10;
}

/// Places of a slot's two rings, in bytes from the region's start. They lie inside the data area. Lengths are powers of two from
/// [`crate::layout::sock::RING_MIN`] to [`crate::layout::sock::RING_MAX`], starts multiples of 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rings {
    /// Receive ring (brane to client).
    pub rx_offset: u32,
    /// Its length.
    pub rx_len: u32,
    /// Transmit ring (client to brane).
    pub tx_offset: u32,
    /// Its length.
    pub tx_len: u32,
}

/// Payload of `TCP_LISTEN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Listen {
    /// Address (or any) and port to listen on. Port 0 is refused.
    pub local: SockAddr,
    /// Most connections that wait for a `TCP_ACCEPT`, without half-open ones. The brane caps it.
    pub backlog: u32,
    /// Receive buffer in bytes for each connection; 0 for the brane's default. The brane caps it.
    pub rx_buffer: u32,
    /// Transmit buffer in bytes for each connection; 0 for the brane's default. The brane caps it.
    pub tx_buffer: u32,
}

/// Payload of `TCP_ACCEPT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Accept {
    /// The listener's slot.
    pub listener: u32,
    /// Rings for the connection.
    pub rings: Rings,
}

/// Payload of `TCP_CONNECT` and `UDP_BIND`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Open {
    /// Address (or any) and port of this end; for port 0 the brane chooses one.
    pub local: SockAddr,
    /// The other end; unused for `UDP_BIND`.
    pub remote: SockAddr,
    /// The slot's rings: byte streams for TCP, records for UDP.
    pub rings: Rings,
}

/// Payload of `BOUND`, `ACCEPTED`, `CONNECTED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoints {
    /// This end.
    pub local: SockAddr,
    /// The other end; address any and port 0 if there is none.
    pub remote: SockAddr,
}

/// Payload of `FAILED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Failed {
    /// One of [`error`].
    pub error: u32,
}

/// Payload of `DONE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Done {
    /// The request's token.
    pub token: u32,
    /// 0, or one of [`error`].
    pub error: u32,
}

/// Length of an interface's name in bytes.
pub const INTERFACE_NAME: usize = 32;

/// An interface of the brane, by its name or by an address of it. With neither, the brane selects it by its routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Interface {
    /// Name, UTF-8, padded with zeros. All zero for none.
    pub name: [u8; INTERFACE_NAME],
    /// An address of the interface, or any. The port is unused.
    pub address: SockAddr,
}

/// Payload of `JOIN_GROUP` and `LEAVE_GROUP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Membership {
    /// A number that the answer repeats.
    pub token: u32,
    /// The group. The port is unused: the socket's own counts.
    pub group: SockAddr,
    /// The interface.
    pub interface: Interface,
}

/// Payload of `GROUP_OPTIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GroupOptions {
    /// A number that the answer repeats.
    pub token: u32,
    /// Time to live or hop limit of datagrams to groups.
    pub ttl: u8,
    /// 1 if members in the brane itself get a copy of what the socket sends.
    pub loops: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The interface that datagrams to groups leave by.
    pub interface: Interface,
}

/// Addresses that an [`Identity`] can carry.
pub const IDENTITY_ADDRESSES: usize = 8;

/// Payload of `IDENTITY`. The brane sends it in answer to `IDENTIFY`. It also sends it when the link comes up, when the brane is
/// configured, and when its addresses change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identity {
    /// The brane's number.
    pub id: u32,
    /// Count of the brane's restarts. If it changes, all earlier sockets are gone.
    pub generation: u32,
    /// 1 if the brane is configured and accepts sockets.
    pub ready: u8,
    /// 1 for the primary brane.
    pub primary: u8,
    /// MAC address of the first interface.
    pub mac: [u8; 6],
    /// Name, UTF-8, padded with zeros.
    pub name: [u8; 32],
    /// Number of used `addresses`.
    pub address_count: u32,
    /// Addresses of all interfaces except loopback; `port` holds the prefix length.
    pub addresses: [SockAddr; IDENTITY_ADDRESSES],
}

/// First bytes of each record in a UDP slot's rings; the datagram follows. The meta words are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramHeader {
    /// The other end: the sender of a received datagram, or the destination of a datagram to send.
    pub remote: SockAddr,
    /// This end: the destination of a received datagram, or the source (or any) of a datagram to send.
    pub local: SockAddr,
}
