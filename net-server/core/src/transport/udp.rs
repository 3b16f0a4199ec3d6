//! UDP (RFC 768): sockets by their port, and caches of the flows that skip the long way through the stack in both directions.
//!
//! Datagrams come from any host; sockets belong to clients.

mod datagrams;
pub mod rx_flow_cache;
pub mod tx_route_cache;

use crate::transport::Map;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use rx_flow_cache::RxFlowCache;
use smoltcp::wire::{IpAddress, IpEndpoint};
use tx_route_cache::TxRouteCache;

/// A UDP socket: only its place; the datagrams never rest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    /// Which client's.
    pub client: usize,
    /// In which slot.
    pub slot: usize,
    /// Its address; `None` for any.
    pub local: Option<IpAddress>,
    /// Its port.
    pub port: u16,
}

/// What a datagram to send says of itself.
pub struct Datagram {
    /// Our port.
    pub src_port: u16,
    /// Our address, where the client named one.
    pub local: Option<IpAddress>,
    /// Where it goes.
    pub remote: IpEndpoint,
    /// Its length in bytes.
    pub len: usize,
}

/// UDP of a brane: its sockets.
pub struct Udp {
    ports: Map<u16, Vec<UdpSocket>>,
    /// Flows whose last datagram was delivered a moment ago.
    pub(crate) rx_flow_cache: RxFlowCache,
    tx_route_cache: TxRouteCache,
}

impl Udp {
    /// Makes a UDP without sockets.
    pub fn new(hash: FixedState) -> Udp {
        Udp {
            ports: Map::with_hasher(hash),
            rx_flow_cache: RxFlowCache::default(),
            tx_route_cache: TxRouteCache::default(),
        }
    }

    /// Drops what was learnt of flows: addresses, routes or links have changed.
    pub fn invalidate_caches(&mut self) {
        self.tx_route_cache.clear();
        self.rx_flow_cache.clear();
    }
}
