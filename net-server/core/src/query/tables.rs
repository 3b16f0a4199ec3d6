//! `ifconfig`, `route`, `arp`, `ndp` and `netstat`: tables of the present state, in pages that fit into one answer.

use crate::stack::Stack;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::{Counter, Family, Protocol};
use brane_abi::net::MacAddr;
use brane_abi::query::{Answer, Neighbour, ProtocolStatus, Refusal, Route, Socket};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpAddress;

/// Entries of a page: each takes fewer than 100 bytes, and a page less than [`brane_abi::query::MAX_ANSWER`].
const PAGE: usize = 32;

/// Returns the entries after the first `skip`, as many as a page takes, and true if more follow.
fn page<T>(all: impl Iterator<Item = T>, skip: u32) -> (Vec<T>, bool) {
    let mut entries: Vec<T> = all.skip(skip as usize).take(PAGE + 1).collect();
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    (entries, more)
}

/// Names a state as RFC 9293 does.
fn state(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}

impl Stack {
    pub(super) fn interfaces(&mut self, name: Option<&str>) -> Answer {
        self.net.count_frames();
        match name.map(|name| (name, self.net.find(name))) {
            None => Answer::Interfaces(self.net.netifs.iter().map(|(_, netif)| netif.status()).collect()),
            Some((_, Some(index))) => Answer::Interfaces([self.net.netifs[index].status()].into()),
            Some((name, None)) => Answer::Refused(Refusal::NoSuchInterface(name.to_string())),
        }
    }

    pub(super) fn routes(&mut self) -> Answer {
        let mut routes = Vec::new();
        for (_, netif) in self.net.netifs.iter_mut() {
            let up = netif.up;
            routes.extend(netif.routes().into_iter().filter(|_| up).map(|(to, via)| Route {
                to,
                via,
                interface: netif.name.clone(),
            }));
        }
        routes.sort_by_key(|route| core::cmp::Reverse(route.to.prefix));
        Answer::Routes(routes)
    }

    pub(super) fn neighbours(&self, now: u64, family: Family, skip: u32) -> Answer {
        let netifs = self.net.netifs.iter().map(|(_, netif)| netif);
        let all = netifs.flat_map(|netif| netif.neighbours.iter(now).map(move |heard| (netif, heard)));
        let all = all.filter(|(_, heard)| heard.ip.is_ipv4() == (family == Family::Inet));
        let all = all.map(|(netif, heard)| Neighbour {
            ip: heard.ip,
            mac: MacAddr(heard.mac),
            interface: netif.name.clone(),
            expires_ms: ((heard.until - now) / 1_000_000) as u32,
        });
        let (entries, more) = page(all, skip);
        Answer::Neighbours(entries, more)
    }

    pub(super) fn sockets(&mut self, skip: u32) -> Answer {
        // A brane without inet6 has no socket that takes IPv6 packets.
        let any: IpAddr = match self.switch.has_family(Family::Inet6) {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let at = |address: Option<IpAddress>, port| SocketAddr::new(address.map_or(any, Into::into), port);
        let listeners = self.tcp.listeners.iter().map(|(_, listener)| Socket {
            protocol: Protocol::Tcp,
            local: at(listener.local, listener.port),
            remote: None,
            state: "LISTEN".into(),
            receive_queue: listener.pending.len() as u32,
            send_queue: 0,
        });
        let mut udps: Vec<_> = self.udp.sockets().copied().collect();
        udps.sort_by_key(|udp| (udp.port, udp.client, udp.slot));
        let udps = udps.into_iter().map(|udp| Socket {
            protocol: Protocol::Udp,
            local: at(udp.local, udp.port),
            remote: None,
            state: Default::default(),
            receive_queue: 0,
            send_queue: 0,
        });
        let conns = self.tcp.conns.iter_mut().map(|(_, conn)| {
            let socket = conn.socket.get();
            Socket {
                protocol: Protocol::Tcp,
                local: at(Some(conn.key.local), conn.key.local_port),
                remote: Some(at(Some(conn.key.remote), conn.key.remote_port)),
                state: state(socket.state()).into(),
                receive_queue: socket.recv_queue() as u32,
                send_queue: socket.send_queue() as u32,
            }
        });
        let (entries, more) = page(listeners.chain(udps).chain(conns), skip);
        Answer::Sockets(entries, more)
    }

    pub(super) fn protocols(&self) -> Answer {
        let counter = |name: &str, value| Counter {
            name: name.to_string(),
            value,
        };
        let all = self.switch.iter().map(|(family, protocol, stage, counts)| {
            let mut counters = [counter("received", counts.received)].to_vec();
            if matches!(protocol, Protocol::Icmp | Protocol::Icmp6) {
                counters.push(counter("errors sent", counts.errors));
            }
            ProtocolStatus {
                family,
                protocol,
                state: stage.name().into(),
                counters,
            }
        });
        Answer::Protocols(all.collect())
    }
}
