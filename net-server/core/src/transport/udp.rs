//! UDP (RFC 768): sockets by their port, and caches of the flows that skip the long way through the stack in both directions.
//!
//! Datagrams come from any host; sockets belong to clients.

mod datagrams;
pub mod groups;
mod header;
pub mod rx_flow_cache;
pub mod tx_route_cache;

pub use header::Header;

use crate::family::{Account, Charge, Shortage};
use crate::headers::{Packet, Reason};
use crate::ip::icmp_error::Cause;
use crate::net::Net;
use crate::protosw::{Outcome, Protocol};
use crate::query::{Section, SocketRows};
use crate::transport::Ports;
use crate::transport::icmp::ErrorReport;
use alloc::vec::Vec;
use brane_abi::control::{self, Family};
use brane_abi::layout::sock;
use brane_abi::query::Socket;
use foldhash::fast::FixedState;
use groups::{GroupOptions, Memberships};
use rx_flow_cache::{Delivery, RxFlowCache};
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
pub struct Datagram<'a> {
    /// Our port.
    pub src_port: u16,
    /// Our address, where the client named one.
    pub local: Option<IpAddress>,
    /// Where it goes.
    pub remote: IpEndpoint,
    /// Its length in bytes.
    pub len: usize,
    /// How it is sent if its destination is a group.
    pub options: &'a GroupOptions,
}

/// UDP of a brane, for both families: its sockets.
pub struct Udp {
    ports: Ports<UdpSocket>,
    /// Flows whose last datagram was delivered a moment ago.
    pub(crate) rx_flow_cache: RxFlowCache,
    tx_route_cache: TxRouteCache,
    groups: Memberships,
    charges: [Option<Charge>; 2],
}

impl Udp {
    /// Makes UDP without tables.
    pub fn new(hash: FixedState) -> Udp {
        Udp {
            ports: Ports::new(hash),
            rx_flow_cache: RxFlowCache::default(),
            tx_route_cache: TxRouteCache::default(),
            groups: Memberships::default(),
            charges: [None, None],
        }
    }
}

impl Protocol for Udp {
    fn create(&mut self, family: Family, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        let groups = match self.charges {
            [None, None] => Some(Memberships::create(&mut purchase)?),
            _ => None,
        };
        self.ports.create(family, sock::SLOTS, &mut purchase)?;
        if let Some(groups) = groups {
            self.groups = groups;
        }
        self.charges[family as usize] = Some(purchase.commit());
        Ok(())
    }

    fn destroy(&mut self, family: Family, account: &mut Account) {
        self.ports.destroy(family);
        self.invalidate_caches();
        let charge = self.charges[family as usize].take();
        charge.into_iter().for_each(|charge| account.refund(charge));
        if self.charges.iter().all(Option::is_none) {
            self.groups = Memberships::default();
        }
    }

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        let udp = match Header::read(packet) {
            Ok(udp) => udp,
            Err(reason) => return Outcome::Malformed(reason),
        };
        let link = packet.is_from_link();
        if link && net.is_ours(udp.src) {
            return Outcome::Malformed(Reason::Address);
        }
        let Some(netif) = net.netifs.get_mut(packet.netif) else {
            return Outcome::Done;
        };
        if udp.src_port == 0 {
            return Outcome::Done;
        }
        if !link && udp.dst.is_multicast() || !netif.accepts(udp.dst) {
            return self.group_input(net, packet, &udp);
        }
        let Some(socket) = self.ports.find(udp.dst, udp.dst_port) else {
            return Outcome::Rejected(Cause::Port);
        };
        netif.refresh(now, packet.frame, udp.dst_port);
        let delivery = Delivery::new(socket.client, socket.slot, &udp);
        if link && let Some((_, flow, _)) = rx_flow_cache::plain(packet.netif, packet.frame) {
            self.rx_flow_cache.learn(flow, delivery);
        }
        Outcome::Datagram(delivery, udp.payload..udp.payload + udp.len)
    }

    /// Counts an error. The protocol of the sockets has no event for it.
    fn error_input(&mut self, net: &mut Net, report: &ErrorReport) {
        let (port, _) = report.ports();
        if self.ports.find(report.local, port).is_some() {
            net.counters.udp_icmp_errors += 1;
        } else {
            net.counters.icmp_errors_stray += 1;
        }
    }

    fn invalidate_caches(&mut self) {
        self.tx_route_cache.clear();
        self.rx_flow_cache.clear();
    }

    fn sockets(&mut self, rows: &mut SocketRows) {
        if rows.section() != Section::Unconnected {
            return;
        }
        let mut sockets: Vec<UdpSocket> = self.ports.iter().collect();
        sockets.sort_by_key(|udp| (udp.port, udp.client, udp.slot));
        for udp in sockets {
            rows.add(|any| Socket {
                protocol: control::Protocol::Udp,
                local: any.or(udp.local, udp.port),
                remote: None,
                state: Default::default(),
                receive_queue: 0,
                send_queue: 0,
            });
        }
    }
}
