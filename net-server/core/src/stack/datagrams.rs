//! The stack's UDP: ports taken by clients' sockets, and datagrams out.
//!
//! A datagram never rests here but in an interface's bounded list of those that wait for a neighbour's address. What a client
//! asks for is checked: an address that is not the brane's, a length or a destination that cannot be is refused or counted.

use super::{Map, Stack, overlap};
use crate::family::family_of;
use crate::neighbor::queue::{self, QueuedDatagram};
use crate::transport::udp::tx_route_cache::{self, Answer};
use alloc::vec::Vec;
use brane_abi::control::Protocol;
use brane_abi::socket::error;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// A UDP socket: only its place; the datagrams never rest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
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

impl Stack {
    /// Takes a UDP port (0: any). Error: one of [`error`].
    pub fn bind(&mut self, mut udp: Udp) -> Result<Udp, u32> {
        if udp.local.is_some_and(|a| !self.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let taken = |stack: &Stack, port| {
            let here = stack.udps.get(&port);
            here.is_some_and(|here| here.iter().any(|other| overlap(other.local, udp.local)))
        };
        if udp.port == 0 {
            udp.port = self
                .pick_port(|s, port| !taken(s, port))
                .ok_or(error::NO_RESOURCES)?;
        } else if taken(self, udp.port) {
            return Err(error::ADDRESS_IN_USE);
        }
        if self.udps.try_reserve(1).is_err() {
            return Err(error::NO_RESOURCES);
        }
        let here = self.udps.entry(udp.port).or_default();
        if here.try_reserve(1).is_err() {
            if here.is_empty() {
                self.udps.remove(&udp.port);
            }
            return Err(error::NO_RESOURCES);
        }
        here.push(udp);
        self.rx_flow_cache.clear();
        Ok(udp)
    }

    /// All UDP sockets, in no order.
    pub fn udp_sockets(&self) -> impl Iterator<Item = &Udp> {
        self.udps.values().flatten()
    }

    /// Gives a UDP port back.
    pub fn unbind(&mut self, udp: &Udp) {
        self.rx_flow_cache.clear();
        if let Some(here) = self.udps.get_mut(&udp.port) {
            here.retain(|other| other != udp);
            if here.is_empty() {
                self.udps.remove(&udp.port);
            }
        }
    }

    /// Sends a datagram whose bytes `fill` writes; they are asked for at most twice.
    pub fn send_udp(&mut self, now: u64, datagram: Datagram, fill: impl Fn(&mut [u8])) {
        let Datagram {
            src_port,
            local,
            remote,
            len,
        } = datagram;
        if len > crate::netif::UDP_LONGEST || remote.port == 0 || remote.addr.is_unspecified() {
            self.counters.udp_bad_request += 1;
            return;
        }
        let named = local;
        if let Some(answer) = self.tx_route_cache.find(now, remote.addr, named) {
            let netif = &mut self.netifs[answer.netif];
            // 48: the headers of IPv6 and UDP, the longer ones.
            if netif.up && len + 48 <= netif.tx.caps.ip_mtu() {
                tx_route_cache::send(&mut netif.tx, answer, src_port, remote, len, fill);
                self.counters.udp_sent += 1;
                return;
            }
        }
        if !self.switch.takes(family_of(remote.addr), Protocol::Udp) {
            self.counters.udp_no_route += 1;
            return;
        }
        let Some(index) = self.route(remote.addr) else {
            self.counters.udp_no_route += 1;
            return;
        };
        // A broadcast or foreign address is no source: then the brane picks one.
        let local = local.filter(|a| a.version() == remote.addr.version() && self.owns(*a));
        let local = local.or_else(|| (index == 0).then(|| self.source(0, remote.addr)).flatten());
        let netif = &mut self.netifs[index];
        if matches!(remote.addr, IpAddress::Ipv6(_)) && len + 48 > netif.tx.caps.ip_mtu() {
            // smoltcp does not fragment IPv6.
            self.counters.udp_bad_request += 1;
            return;
        }
        if netif.send_udp(now, (src_port, local), remote, len, &fill) {
            self.counters.udp_sent += 1;
            let source = local.or_else(|| netif.source_for(remote.addr));
            if let Some(source) = source
                && index != 0
                && netif.tx.last_to[0] & 1 == 0
                && len + 48 <= netif.tx.caps.ip_mtu()
                && !netif.tx.blocked
            {
                let answer = Answer::new(remote.addr, named, source, index, netif.mac, netif.tx.last_to);
                self.tx_route_cache.learn(now, answer);
            }
            return;
        }
        let waiting: usize = netif.queue.iter().map(|p| p.payload.len()).sum();
        if netif.queue.len() >= queue::LIMIT || waiting + len > queue::LIMIT_BYTES {
            self.counters.udp_unreachable += 1;
            return;
        }
        let mut payload = Vec::new();
        if payload.try_reserve_exact(len).is_err() {
            self.counters.no_memory += 1;
            return;
        }
        payload.resize(len, 0);
        fill(&mut payload);
        netif.enqueue(
            now,
            QueuedDatagram {
                src_port,
                local,
                remote,
                payload,
                hop: netif.next_hop(remote.addr).unwrap_or(remote.addr),
                since: now,
            },
        );
    }
}

/// The socket for a datagram to this address and port.
pub(super) fn find_udp(udps: &Map<u16, Vec<Udp>>, dst: IpAddress, port: u16) -> Option<Udp> {
    let here = udps.get(&port)?;
    // A broadcast is for every socket of the port that has no address of its own; one is enough.
    here.iter()
        .find(|udp| udp.local.is_none_or(|a| a == dst))
        .copied()
}
