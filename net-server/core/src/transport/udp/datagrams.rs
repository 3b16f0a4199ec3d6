//! Ports taken by clients' sockets, and datagrams out.
//!
//! Keeps no datagram. If the address of a neighbour is not known yet, the datagram waits in the bounded queue of its interface. Clients
//! are not trusted: a foreign source address, an impossible length and an impossible destination are refused or counted.

use super::tx_route_cache::{self, Answer};
use super::{Datagram, Udp, UdpSocket};
use crate::family::family_of;
use crate::neighbor::queue::{self, QueuedDatagram};
use crate::net::Net;
use alloc::vec::Vec;
use brane_abi::socket::error;
use smoltcp::wire::IpAddress;

impl Udp {
    /// Takes a UDP port (0: any). Error: one of [`error`].
    pub fn bind(&mut self, net: &mut Net, mut udp: UdpSocket) -> Result<UdpSocket, u32> {
        if udp.local.is_some_and(|a| a.is_multicast()) {
            // It receives what is sent to the group and nothing else, so it shares the port with others.
            return if udp.port == 0 {
                Err(error::INVALID)
            } else {
                Ok(udp)
            };
        }
        if udp.local.is_some_and(|a| !net.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        if udp.port == 0 {
            udp.port = net
                .pick_port(|port| !self.ports.is_taken(udp.local, port))
                .ok_or(error::NO_RESOURCES)?;
        } else if self.ports.is_taken(udp.local, udp.port) {
            return Err(error::ADDRESS_IN_USE);
        }
        if !self.ports.insert(udp.local, udp.port, udp) {
            return Err(error::NO_RESOURCES);
        }
        self.rx_flow_cache.clear();
        Ok(udp)
    }

    /// Gives a UDP port back.
    pub fn unbind(&mut self, udp: &UdpSocket) {
        self.rx_flow_cache.clear();
        self.ports.remove(udp.local, udp.port, *udp);
    }

    /// Sends a datagram whose bytes `fill` writes; they are asked for at most twice.
    pub fn send(&mut self, now: u64, net: &mut Net, datagram: Datagram<'_>, fill: impl Fn(&mut [u8])) {
        let Datagram {
            src_port,
            local,
            remote,
            len,
            ..
        } = datagram;
        if len > crate::netif::UDP_LONGEST || remote.port == 0 || remote.addr.is_unspecified() {
            net.counters.udp_bad_request += 1;
            return;
        }
        let named = local;
        if let Some(answer) = self.tx_route_cache.find(now, remote.addr, named) {
            let netif = &mut net.netifs[answer.netif];
            // 48: the headers of IPv6 and UDP, the longer ones.
            if netif.up && len + 48 <= netif.tx.caps.ip_mtu() {
                tx_route_cache::send(&mut netif.tx, answer, src_port, remote, len, fill);
                net.counters.udp_sent += 1;
                return;
            }
        }
        if remote.addr.is_multicast() {
            return self.send_to_group(net, &datagram, fill);
        }
        if !self.ports.has_family(family_of(remote.addr)) {
            net.counters.udp_no_route += 1;
            return;
        }
        let Some(index) = net.route(remote.addr) else {
            net.counters.udp_no_route += 1;
            return;
        };
        // A broadcast or foreign address is no source: then the brane picks one.
        let local = local.filter(|a| a.version() == remote.addr.version() && net.owns(*a));
        let local = local.or_else(|| (index == 0).then(|| net.source(0, remote.addr)).flatten());
        let netif = &mut net.netifs[index];
        if matches!(remote.addr, IpAddress::Ipv6(_)) && len + 48 > netif.tx.caps.ip_mtu() {
            // smoltcp does not fragment IPv6.
            net.counters.udp_bad_request += 1;
            return;
        }
        if netif.send_udp(now, (src_port, local), remote, len, &fill) {
            net.counters.udp_sent += 1;
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
            net.counters.udp_unreachable += 1;
            return;
        }
        let mut payload = Vec::new();
        if payload.try_reserve_exact(len).is_err() {
            net.counters.no_memory += 1;
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
