//! The only error type of the library. Each variant states how the caller can continue.

use brane_abi::ring::RingError;
use brane_abi::socket::error as code;
use core::fmt;
use embedded_io_async::ErrorKind;

/// Error of a socket operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The remote reset the connection, or the connection timed out inside the brane. Drop the socket.
    ConnectionReset,
    /// The brane has restarted since the socket was opened; all its sockets are gone. Drop the socket, wait for
    /// [`NetClient::ready`](crate::NetClient::ready), and open a new one.
    BraneRestarted,
    /// The remote refused the connection.
    ConnectionRefused,
    /// Nothing was received or sent within the caller's time limit, or the connection attempt had no answer.
    TimedOut,
    /// Another socket of the brane has that local address and port.
    AddressInUse,
    /// The brane has no such local address.
    AddressNotAvailable,
    /// No route to the remote address.
    Unreachable,
    /// The brane's memory or quota is used up, or the shared region has no room for the rings. Close a socket and try again.
    NoResources,
    /// The brane runs without this protocol.
    NotSupported,
    /// The brane is not configured yet: wait for [`NetClient::ready`](crate::NetClient::ready).
    NotReady,
    /// A rule of the brane's filter forbids the call.
    PermissionDenied,
    /// The argument can never be valid: a ring size that is no power of two, a datagram too long for the ring, port 0 for a
    /// listener, an unspecified remote address.
    InvalidInput,
    /// The caller has shut this direction down.
    Closed,
    /// The brane violated the ring protocol. It is ignored until it restarts, and this socket is lost.
    Protocol,
}

impl Error {
    /// Converts the code of the brane's `FAILED` event. An unknown code is a protocol error.
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
            code::PERMISSION_DENIED => Error::PermissionDenied,
            _ => Error::Protocol,
        }
    }

    /// Converts the error of a ring operation. Callers for which a full ring is no error handle `Full` before.
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
            Error::PermissionDenied => "a rule of the brane's filter forbids it",
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
            Error::PermissionDenied => ErrorKind::PermissionDenied,
            Error::InvalidInput => ErrorKind::InvalidInput,
            Error::Closed => ErrorKind::BrokenPipe,
            Error::Protocol => ErrorKind::InvalidData,
        }
    }
}
