//! Protocols above IP. Packets come from any host; each protocol checks
//! their headers behind the IP header, which [`crate::headers`] has checked.

pub mod icmp;
pub mod igmp;
pub mod membership;
pub mod mld;
mod ports;
pub mod tcp;
pub mod udp;

pub use ports::Ports;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smoltcp::wire::IpAddress;

pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// Returns true if sockets with these local addresses would get the same packets. `None` stands for any address.
pub(crate) fn overlap(a: Option<IpAddress>, b: Option<IpAddress>) -> bool {
    a.is_none() || b.is_none() || a == b
}
