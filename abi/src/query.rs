//! Queries about a brane, which the brane answers: to its clients through the socket library, and to an operator through the
//! manager.
//!
//! Queries and answers are CBOR (RFC 8949). The manager does not trust the brane: it checks an answer before it forwards it. The
//! brane answers for its own interfaces and sockets only. It refuses the name of another brane like a name that does not exist.

use crate::control::{Family, InterfaceStatus, Protocol};
use crate::net::{Cidr, MacAddr};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use minicbor::{Decode, Encode};

/// Longest CBOR text of a query in bytes.
pub const MAX_QUERY: usize = 512;
/// Longest CBOR text of an answer in bytes; longer tables come in pages.
pub const MAX_ANSWER: usize = crate::control::MAX_MESSAGE;

/// A query.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Query {
    /// `ifconfig`: one interface by name, or all → [`Answer::Interfaces`].
    #[n(0)]
    Interfaces(#[n(0)] Option<String>),
    /// `route` → [`Answer::Routes`].
    #[n(1)]
    Routes,
    /// `arp` and `ndp`: neighbours of one family, without the first `skip` → [`Answer::Neighbours`].
    #[n(2)]
    Neighbours {
        /// The family.
        #[n(0)]
        family: Family,
        /// Number of entries that were shown already.
        #[n(1)]
        skip: u32,
    },
    /// `netstat`: sockets and connections, without the first `skip` → [`Answer::Sockets`].
    #[n(3)]
    Sockets {
        /// Number of entries that were shown already.
        #[n(0)]
        skip: u32,
    },
    /// `netstat -s`: counters of each protocol → [`Answer::Protocols`].
    #[n(4)]
    Protocols,
    /// `ping`: one echo request → [`Answer::Echo`] if the reply comes in time, [`Answer::Refused`] if it does not.
    #[n(5)]
    Ping {
        /// The destination.
        #[n(0)]
        to: IpAddr,
        /// Sequence number (RFC 792, RFC 4443).
        #[n(1)]
        sequence: u16,
        /// Bytes of data, up to 1400.
        #[n(2)]
        size: u16,
        /// Milliseconds to wait, up to 10000.
        #[n(3)]
        timeout_ms: u32,
    },
    /// `host`: resolves a name at a DNS server (RFC 1035) → [`Answer::Host`].
    #[n(6)]
    Host {
        /// The name.
        #[n(0)]
        name: String,
        /// The server; `None` for the server from DHCP or the configuration.
        #[n(1)]
        server: Option<IpAddr>,
        /// Milliseconds to wait, up to 10000.
        #[n(2)]
        timeout_ms: u32,
    },
    /// `filter list`: rules in force, without the first `skip` → [`Answer::Filter`].
    #[n(7)]
    Filter {
        /// Number of rules that were shown already.
        #[n(0)]
        skip: u32,
    },
    /// `capture` on the console: takes the next frames of the capture with this tag → [`Answer::Captured`]. For operators only.
    #[n(8)]
    Captured(#[n(0)] u32),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// There is no answer.
    #[n(0)]
    Refused(#[n(0)] Refusal),
    /// The brane's own interfaces.
    #[n(1)]
    Interfaces(#[n(0)] Vec<InterfaceStatus>),
    /// The routing table, the most special routes first.
    #[n(2)]
    Routes(#[n(0)] Vec<Route>),
    /// Neighbours, and true if more follow.
    #[n(3)]
    Neighbours(#[n(0)] Vec<Neighbour>, #[n(1)] bool),
    /// Sockets, and true if more follow.
    #[n(4)]
    Sockets(#[n(0)] Vec<Socket>, #[n(1)] bool),
    /// Counters in groups named `inet tcp` and the like.
    #[n(5)]
    Protocols(#[n(0)] Vec<ProtocolStatus>),
    /// An echo reply.
    #[n(6)]
    Echo {
        /// Source address of the reply.
        #[n(0)]
        from: IpAddr,
        /// Bytes of data in the reply.
        #[n(1)]
        size: u16,
        /// Its time to live or hop limit.
        #[n(2)]
        ttl: u8,
        /// Round-trip time in microseconds.
        #[n(3)]
        rtt_us: u32,
    },
    /// Addresses of a name.
    #[n(7)]
    Host(#[n(0)] Vec<IpAddr>),
    /// Rules in order, and true if more follow.
    #[n(8)]
    Filter(#[n(0)] Vec<crate::filter::RuleStatus>, #[n(1)] bool),
    /// Frames of a capture.
    #[n(9)]
    Captured {
        /// The frames, oldest first, up to [`crate::capture::QUERY_FRAMES`].
        #[n(0)]
        frames: Vec<crate::capture::Captured>,
        /// Frames that were lost so far, because the reader was slow.
        #[n(1)]
        dropped: u64,
        /// Why the capture has ended in this brane; `None` while it goes on.
        #[n(2)]
        end: Option<crate::capture::End>,
        /// Nanoseconds since the boot.
        #[n(3)]
        now_ns: u64,
    },
}

/// Why a brane does not answer a query: a code with data. The operator's end makes the words.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// The brane has no interface of this name.
    #[n(0)]
    NoSuchInterface(#[n(0)] String),
    /// The interface was removed after the query had begun.
    #[n(1)]
    InterfaceIsGone,
    /// The interface has no port at a driver.
    #[n(2)]
    InterfaceIsDown,
    /// This many queries of the kind are under way.
    #[n(3)]
    TooManyQueries(#[n(0)] u32),
    /// The brane does not run this protocol.
    #[n(4)]
    NoSuchProtocol(#[n(0)] Protocol),
    /// No route leads to this address.
    #[n(5)]
    NoRoute(#[n(0)] IpAddr),
    /// More bytes of data than an echo request can have.
    #[n(6)]
    TooMuchData {
        /// Number of bytes that were requested.
        #[n(0)]
        size: u16,
        /// Number of bytes that are allowed.
        #[n(1)]
        most: u16,
    },
    /// The request to this address cannot be sent.
    #[n(7)]
    CannotSend(#[n(0)] IpAddr),
    /// This address has not answered in time.
    #[n(8)]
    NoReply(#[n(0)] IpAddr),
    /// The query names no DNS server, and the brane knows none.
    #[n(9)]
    NoNameServer,
    /// The text cannot be the name of a host.
    #[n(10)]
    NotAHostName(#[n(0)] String),
    /// The DNS server has no address for this name.
    #[n(11)]
    NoSuchHost(#[n(0)] String),
    /// The DNS server has not answered in time about this name.
    #[n(12)]
    NoAnswerAbout(#[n(0)] String),
    /// The brane has answered with a record of another kind.
    #[n(13)]
    NoAnswer,
    /// Only operators may ask this.
    #[n(14)]
    OperatorsOnly,
    /// The brane has no capture with this tag for queries.
    #[n(15)]
    NoSuchCapture(#[n(0)] u32),
}

impl Refusal {
    /// Returns the name in the refusal, if it has one. The brane is not trusted, so the caller makes the name printable.
    pub fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Refusal::NoSuchInterface(text)
            | Refusal::NotAHostName(text)
            | Refusal::NoSuchHost(text)
            | Refusal::NoAnswerAbout(text) => Some(text),
            Refusal::InterfaceIsGone
            | Refusal::InterfaceIsDown
            | Refusal::TooManyQueries(_)
            | Refusal::NoSuchProtocol(_)
            | Refusal::NoRoute(_)
            | Refusal::TooMuchData { .. }
            | Refusal::CannotSend(_)
            | Refusal::NoReply(_)
            | Refusal::NoNameServer
            | Refusal::NoAnswer
            | Refusal::NoSuchCapture(_)
            | Refusal::OperatorsOnly => None,
        }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Route {
    /// The destinations.
    #[n(0)]
    pub to: Cidr,
    /// The router; `None` for an attached network.
    #[n(1)]
    pub via: Option<IpAddr>,
    /// The interface.
    #[n(2)]
    pub interface: String,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Neighbour {
    /// Its IP address.
    #[n(0)]
    pub ip: IpAddr,
    /// Its MAC address.
    #[n(1)]
    pub mac: MacAddr,
    /// The interface that it is reached through.
    #[n(2)]
    pub interface: String,
    /// Milliseconds until the entry expires and is resolved anew.
    #[n(3)]
    pub expires_ms: u32,
}

/// A socket or connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Socket {
    /// `tcp` or `udp`.
    #[n(0)]
    pub protocol: Protocol,
    /// Own address and port; an all-zero address for any.
    #[n(1)]
    pub local: SocketAddr,
    /// The other end, if any.
    #[n(2)]
    pub remote: Option<SocketAddr>,
    /// State of a TCP connection as RFC 9293 names it, or empty.
    #[n(3)]
    pub state: String,
    /// Bytes received that the client has not read.
    #[n(4)]
    pub receive_queue: u32,
    /// Bytes that wait to be sent or acknowledged.
    #[n(5)]
    pub send_queue: u32,
}

/// A protocol of the brane's switch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ProtocolStatus {
    /// Its family.
    #[n(0)]
    pub family: Family,
    /// The protocol.
    #[n(1)]
    pub protocol: Protocol,
    /// `created`, `started`, `draining`.
    #[n(2)]
    pub state: String,
    /// Its counters.
    #[n(3)]
    pub counters: Vec<crate::control::Counter>,
}
