//! `ifconfig`, `route`, `arp`, `ndp` and `netstat`: tables of the present state, in pages that fit into one answer.

use crate::pfil::Pfil;
use crate::stack::Stack;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::{Counter, Family, Protocol};
use brane_abi::net::MacAddr;
use brane_abi::query::{Answer, Neighbour, ProtocolStatus, Refusal, Route, Socket};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use smoltcp::wire::IpAddress;

/// Entries of a page: each takes fewer than 100 bytes, and a page less than [`brane_abi::query::MAX_ANSWER`].
const PAGE: usize = 32;

/// Bytes of rules in a page. The rest of the answer are its own marks.
const FILTER_PAGE: usize = brane_abi::query::MAX_ANSWER - 64;

/// Returns the entries after the first `skip`, as many as a page takes, and true if more follow.
fn page<T>(all: impl Iterator<Item = T>, skip: u32) -> (Vec<T>, bool) {
    let mut entries: Vec<T> = all.skip(skip as usize).take(PAGE + 1).collect();
    let more = entries.len() > PAGE;
    entries.truncate(PAGE);
    (entries, more)
}

/// A section of the list of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Sockets without another end: listeners and sockets for datagrams.
    Unconnected,
    /// Connections.
    Connected,
}

/// The address that stands for any in a list of sockets.
#[derive(Clone, Copy, Debug)]
pub struct Any(IpAddr);

impl Any {
    /// Returns a socket's address and port.
    pub fn or(self, address: Option<IpAddress>, port: u16) -> SocketAddr {
        SocketAddr::new(address.map_or(self.0, Into::into), port)
    }
}

/// A page of the list of sockets, to which each protocol adds its own.
pub struct SocketRows {
    section: Section,
    any: Any,
    skip: u32,
    entries: Vec<Socket>,
    /// More entries follow.
    more: bool,
}

impl SocketRows {
    /// Returns the section that is being listed.
    pub fn section(&self) -> Section {
        self.section
    }

    /// Adds a socket, which `row` describes if it is on the page.
    pub fn add(&mut self, row: impl FnOnce(Any) -> Socket) {
        if self.skip != 0 {
            self.skip -= 1;
        } else if self.entries.len() < PAGE {
            self.entries.push(row(self.any));
        } else {
            self.more = true;
        }
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

    /// Lists the rules of the filter. A rule can take most of an answer, so a page ends by its length.
    pub(super) fn filter_rules(&self, skip: u32) -> Answer {
        let rules = self.pfil.as_ref().map(Pfil::statuses).unwrap_or_default();
        let (mut page, mut bytes) = (Vec::new(), 0);
        for rule in rules.into_iter().skip(skip as usize) {
            bytes += minicbor::to_vec(&rule).map_or(0, |text| text.len());
            if bytes > FILTER_PAGE {
                return Answer::Filter(page, true);
            }
            page.push(rule);
        }
        Answer::Filter(page, false)
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
        let mut rows = SocketRows {
            section: Section::Unconnected,
            any: Any(any),
            skip,
            entries: Vec::new(),
            more: false,
        };
        for section in [Section::Unconnected, Section::Connected] {
            rows.section = section;
            self.each(|protocol, _| protocol.sockets(&mut rows));
        }
        Answer::Sockets(rows.entries, rows.more)
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
