//! The socket protocol between a brane and its client (layout: [`crate::layout::sock`]).
//!
//! The client owns the region's data area and places its sockets' rings in it; the brane checks every place and keeps
//! its own copy. Requests go in the request ring, events come back in the event ring; a stream's bytes and a socket's
//! datagrams flow in the slot's own rings without any message. Doorbell bit `s` stands for slot `s`, bit
//! [`CONTROL_BIT`] for requests and events.
//!
//! Each request and event names a slot (meta word 1) and the generation of its use (meta word 2, chosen by the client,
//! different at each use of the slot); one that names another generation than the present one is stale and ignored.
//!
//! A slot is taken by `TCP_LISTEN`, `TCP_ACCEPT`, `TCP_CONNECT` or `UDP_BIND` and is free again after the event
//! `CLOSED`, which answers `CLOSE`, `ABORT`, and follows `FAILED`. The brane never waits for a client: it drops
//! datagrams that find a full ring (counted), lets TCP's window close for streams, and defers events that find no room
//! (bounded by the slots there are).
//!
//! A client that waits for room in a slot's transmit ring is told by the slot's doorbell bit: for a stream, when bytes of a
//! ring that was full have been taken; for datagrams, whenever a quarter of the ring has been given back since the last
//! time. So before it waits to send a datagram it fills what the datagram cannot use
//! ([`crate::ring::Producer::skip_to_start`]), after which at least half of the ring is in use.

use crate::net::SockAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Doorbell bit for the request ring (towards the brane) or the event ring (towards the client).
pub const CONTROL_BIT: u64 = 1 << 63;

/// Kind of a request: meta word 0.
pub mod request {
    /// Payload [`super::Listen`]: slot becomes a TCP listener. Answer `BOUND` or `FAILED`.
    pub const TCP_LISTEN: u32 = 1;
    /// Payload [`super::Accept`]: slot waits for the listener's next connection. Answer `ACCEPTED` or `FAILED`.
    pub const TCP_ACCEPT: u32 = 2;
    /// Payload [`super::Open`]: slot connects to `remote`. Answer `CONNECTED` or `FAILED`.
    pub const TCP_CONNECT: u32 = 3;
    /// Payload [`super::Open`] (`remote` unused): slot becomes a UDP socket. Answer `BOUND` or `FAILED`.
    pub const UDP_BIND: u32 = 4;
    /// No payload: send FIN after all bytes in the transmit ring; receiving goes on.
    pub const SHUTDOWN: u32 = 5;
    /// No payload: as `SHUTDOWN`, throw received bytes away, free the slot as soon as the transmit ring is empty
    /// (the brane finishes the connection by itself). Answer `CLOSED`.
    pub const CLOSE: u32 = 6;
    /// No payload: reset the connection, free the slot. Answer `CLOSED`.
    pub const ABORT: u32 = 7;
    /// No payload, slot unused: which brane is this? Answer `IDENTITY`.
    pub const IDENTIFY: u32 = 8;
    /// CBOR [`crate::query::Query`], a token of the client in place of the slot. Answer `ANSWER`, when there is one. A client
    /// may have [`super::QUESTIONS`] under way.
    pub const QUERY: u32 = 9;
}

/// Kind of an event: meta word 0.
pub mod event {
    /// Payload [`super::Endpoints`]: the listener or UDP socket is in place.
    pub const BOUND: u32 = 1;
    /// Payload [`super::Endpoints`]: a connection came in on this slot.
    pub const ACCEPTED: u32 = 2;
    /// Payload [`super::Endpoints`]: the connection is established.
    pub const CONNECTED: u32 = 3;
    /// Payload [`super::Failed`]: the request was refused or the connection attempt failed; `CLOSED` follows.
    pub const FAILED: u32 = 4;
    /// No payload: the peer has closed its direction; all its bytes are in the receive ring.
    pub const PEER_CLOSED: u32 = 5;
    /// No payload: the connection was reset or timed out; or a listener or UDP socket has ended, because the brane was shut
    /// down or its address was taken from the brane. The slot stays taken until `CLOSE`.
    pub const RESET: u32 = 6;
    /// No payload: the slot is free.
    pub const CLOSED: u32 = 7;
    /// Payload [`super::Identity`].
    pub const IDENTITY: u32 = 8;
    /// CBOR [`crate::query::Answer`], the question's token in place of the slot.
    pub const ANSWER: u32 = 9;
}

/// Questions that a client may have under way; another one is a request without sense.
pub const QUESTIONS: usize = 8;

/// Why a request failed: [`Failed::error`].
pub mod error {
    /// The request breaks the protocol (unknown kind, bad ring place, slot in use, wrong length).
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
    /// The brane is not started yet: ask again after the next `IDENTITY` event.
    pub const NOT_READY: u32 = 8;
    /// No answer within the connection timeout.
    pub const TIMED_OUT: u32 = 9;
}

/// Where a slot's two rings lie, in bytes from the region's start: inside the data area, lengths powers of two from
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
    /// Address (or any) and port to listen on; port 0 is refused.
    pub local: SockAddr,
    /// Connections that may wait for a `TCP_ACCEPT`; the brane caps it. Half-open ones do not count.
    pub backlog: u32,
    /// Receive buffer in bytes that the brane should keep for each connection (0 for its default; capped).
    pub rx_buffer: u32,
    /// The same for transmit.
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
    /// Address (or any) and port (0: the brane picks one) of our end.
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
    /// Our end.
    pub local: SockAddr,
    /// The other end; any and 0 where there is none.
    pub remote: SockAddr,
}

/// Payload of `FAILED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Failed {
    /// One of [`error`].
    pub error: u32,
}

/// Addresses that an [`Identity`] can carry.
pub const IDENTITY_ADDRESSES: usize = 8;

/// Payload of `IDENTITY`: sent in answer to `IDENTIFY`, and by itself when the link comes up, when the brane is
/// configured, and when its addresses change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identity {
    /// The brane's number.
    pub id: u32,
    /// How often the brane was restarted: another value means that all sockets of before are gone.
    pub generation: u32,
    /// 1 once the brane is configured and takes sockets.
    pub ready: u8,
    /// 1 for the primary brane.
    pub primary: u8,
    /// MAC address of the first interface.
    pub mac: [u8; 6],
    /// Name, UTF-8, padded with zeros.
    pub name: [u8; 32],
    /// How many of `addresses` are used.
    pub address_count: u32,
    /// Addresses of all interfaces but loopback, `port` holding the prefix length.
    pub addresses: [SockAddr; IDENTITY_ADDRESSES],
}

/// First bytes of each record in a UDP slot's rings; the datagram follows. Meta words are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramHeader {
    /// Received: who sent it. To send: to whom.
    pub remote: SockAddr,
    /// Received: the address it was sent to. To send: the source address, or any.
    pub local: SockAddr,
}
