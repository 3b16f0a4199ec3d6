//! Transport protocols. Segments and datagrams come from any host; their headers were checked by [`crate::headers`].

pub mod icmp;
pub mod tcp;
pub mod udp;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smoltcp::wire::IpAddress;

pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// Returns true if sockets with these local addresses would get the same packets. `None` stands for any address.
pub(crate) fn overlap(a: Option<IpAddress>, b: Option<IpAddress>) -> bool {
    a.is_none() || b.is_none() || a == b
}
