//! Datagrams that wait until a neighbour's link-layer address is known. Private memory of the brane, bounded.

use alloc::vec::Vec;
use smoltcp::wire::IpAddress;
use smoltcp::wire::IpEndpoint;

/// Datagrams that one interface lets wait at most; more are dropped.
pub const LIMIT: usize = 256;
/// Their bytes at most.
pub const LIMIT_BYTES: usize = 48 << 10;
/// Time between two questions for the address, in nanoseconds (RFC 4861, 10: RETRANS_TIMER).
pub const RETRY: u64 = 1_000_000_000;
/// How long a datagram waits before it is dropped: three questions without an answer.
pub const PATIENCE: u64 = 3 * RETRY;

/// One of them.
pub struct QueuedDatagram {
    /// Our port.
    pub src_port: u16,
    /// Our address, where the client named one.
    pub local: Option<IpAddress>,
    /// Where it goes.
    pub remote: IpEndpoint,
    /// What it carries.
    pub payload: Vec<u8>,
    /// The neighbour whose address it waits for.
    pub hop: IpAddress,
    /// When it came.
    pub since: u64,
}
