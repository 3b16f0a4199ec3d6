//! The one error type of the library; each variant says what the caller can do.

use brane_abi::ring::RingError;
use brane_abi::socket::error as code;
use core::fmt;
use embedded_io_async::ErrorKind;

/// Why a socket operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The remote reset the connection, or it timed out inside the brane. Drop the socket.
    ConnectionReset,
    /// The brane has restarted since the socket was opened; all its sockets are gone. Drop it, wait for
    /// [`Stack::ready`](crate::Stack::ready), open a new one.
    BraneRestarted,
    /// The remote refused the connection.
    ConnectionRefused,
    /// Nothing happened within the time limit that the caller set, or the connection attempt got no answer.
    TimedOut,
    /// Another socket of the brane has that local address and port.
    AddressInUse,
    /// The brane has no such local address.
    AddressNotAvailable,
    /// No route to the remote address.
    Unreachable,
    /// The brane's memory or quota, or the shared region's room for rings, is used up. Close something, try again.
    NoResources,
    /// The brane runs without this protocol.
    NotSupported,
    /// The brane is not configured yet: wait for [`Stack::ready`](crate::Stack::ready).
    NotReady,
    /// The caller's argument can never work: a ring size that is no power of two, a datagram longer than the ring
    /// takes, port 0 for a listener, an unspecified remote address.
    InvalidInput,
    /// This direction was shut down by the caller.
    Closed,
    /// The brane broke the ring protocol. It is ignored until it restarts, and this socket is dead.
    Protocol,
}

impl Error {
    /// From the brane's `FAILED` event; an unknown number counts as a breach of protocol.
    pub(crate) fn from_code(error: u32) -> Error {
        match error {
            code::INVALID => Error::InvalidInput,
            code::ADDRESS_IN_USE => Error::AddressInUse,
            code::ADDRESS_NOT_AVAILABLE => Error::AddressNotAvailable,
            code::NO_RESOURCES => Error::NoResources,
            code::UNREACHABLE => Error::Unreachable,
            code::REFUSED => Error::ConnectionRefused,
            code::PROTOCOL_NOT_SUPPORTED => Error::NotSupported,
            code::NOT_READY => Error::NotReady,
            code::TIMED_OUT => Error::TimedOut,
            _ => Error::Protocol,
        }
    }

    /// From a ring operation where a full ring is not an error by itself.
    pub(crate) fn from_ring(error: RingError) -> Error {
        match error {
            RingError::TooLong => Error::InvalidInput,
            RingError::Full => Error::NoResources,
            RingError::Peer => Error::Protocol,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::ConnectionReset => "connection reset",
            Error::BraneRestarted => "the brane has restarted; open the socket again when it is ready",
            Error::ConnectionRefused => "connection refused by the remote",
            Error::TimedOut => "timed out",
            Error::AddressInUse => "local address and port are in use in this brane",
            Error::AddressNotAvailable => "the brane has no such local address",
            Error::Unreachable => "no route to the remote address",
            Error::NoResources => {
                "no memory or quota left in the brane or its shared region; close a socket first"
            }
            Error::NotSupported => "the brane runs without this protocol",
            Error::NotReady => "the brane is not configured yet",
            Error::InvalidInput => "invalid argument",
            Error::Closed => "this direction of the connection was shut down",
            Error::Protocol => "the brane broke the ring protocol; it is ignored until it restarts",
        })
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::ConnectionReset | Error::BraneRestarted => ErrorKind::ConnectionReset,
            Error::ConnectionRefused => ErrorKind::ConnectionRefused,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::AddressInUse => ErrorKind::AddrInUse,
            Error::AddressNotAvailable => ErrorKind::AddrNotAvailable,
            Error::Unreachable | Error::NotReady => ErrorKind::NotConnected,
            Error::NoResources => ErrorKind::OutOfMemory,
            Error::NotSupported => ErrorKind::Unsupported,
            Error::InvalidInput => ErrorKind::InvalidInput,
            Error::Closed => ErrorKind::BrokenPipe,
            Error::Protocol => ErrorKind::InvalidData,
        }
    }
}
