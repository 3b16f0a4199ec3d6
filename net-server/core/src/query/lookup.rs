//! `host`: asks a DNS server for the addresses of a name (RFC 1035). smoltcp implements the protocol.
//!
//! DNS servers are hosts on the network and not trusted. An answer is used for its query only.

use super::{LOOKUPS, Queries, Requester, until};
use crate::family::family_of;
use crate::stack::Stack;
use crate::transport::tcp::opener;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::control::Protocol;
use brane_abi::query::{Answer, Refusal};
use core::net::IpAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{GetQueryResultError, QueryHandle, Socket};
use smoltcp::wire::{DnsQueryType, IpAddress};

/// A lookup of one name. It asks for IPv4 and IPv6 addresses.
pub struct Lookup {
    pub requester: Requester,
    pub netif: usize,
    pub handle: SocketHandle,
    name: String,
    pending: Vec<QueryHandle>,
    found: Vec<IpAddr>,
    pub until: u64,
}

impl Stack {
    /// DNS servers that DHCP or router advertisements named.
    fn name_servers(&self) -> impl Iterator<Item = IpAddress> {
        self.net.netifs.iter().flat_map(|(_, netif)| netif.name_servers())
    }

    /// Asks a DNS server.
    pub(super) fn look_up(
        &mut self,
        now: u64,
        requester: Requester,
        name: &str,
        server: Option<IpAddress>,
        timeout_ms: u32,
    ) -> Result<(), Refusal> {
        self.check_room(requester, self.queries.lookups.len(), LOOKUPS)?;
        let server = server.or_else(|| self.name_servers().next());
        let server = server.ok_or(Refusal::NoNameServer)?;
        if !self.switch.takes(family_of(server), Protocol::Udp) {
            return Err(Refusal::NoSuchProtocol(Protocol::Udp));
        }
        let netif = self.net.route(server).filter(|_| server.is_unicast());
        let netif = netif.ok_or(Refusal::NoRoute(server.into()))?;
        let mut socket = Socket::new(&[server], vec![]);
        self.net.netifs[netif].parts().ok_or(Refusal::InterfaceIsDown)?;
        let mut pending = Vec::new();
        for kind in [DnsQueryType::A, DnsQueryType::Aaaa] {
            // Id and source port are all that keeps other hosts from answering (RFC 5452, 9.2).
            let query = opener::with_random(now, self.net.rng(), |iface| {
                socket.start_query(iface.context(), name, kind)
            });
            pending.push(query.map_err(|_| Refusal::NotAHostName(name.to_string()))?);
        }
        self.net.netifs[netif].resolve(now, server);
        let handle = self.net.netifs[netif].add_control(socket, now);
        self.queries.lookups.push(Lookup {
            requester,
            netif,
            handle,
            name: name.to_string(),
            pending,
            found: Vec::new(),
            until: until(now, timeout_ms),
        });
        Ok(())
    }

    pub(super) fn end_lookups(&mut self, now: u64) {
        let Queries { lookups, done, .. } = &mut self.queries;
        for lookup in lookups.iter_mut() {
            let Lookup { pending, found, .. } = lookup;
            let socket: &mut Socket = self.net.netifs[lookup.netif].control_mut(lookup.handle);
            pending.retain(|query| match socket.get_query_result(*query) {
                Ok(addresses) => {
                    found.extend(addresses.iter().map(|a| IpAddr::from(*a)));
                    false
                }
                Err(GetQueryResultError::Pending) => true,
                Err(GetQueryResultError::Failed) => false,
            });
        }
        for lookup in lookups.extract_if(.., |l| l.pending.is_empty() || l.until <= now) {
            self.net.netifs[lookup.netif].remove_control(lookup.handle);
            let answer = if !lookup.found.is_empty() {
                Answer::Host(lookup.found)
            } else if lookup.pending.is_empty() {
                Answer::Refused(Refusal::NoSuchHost(lookup.name))
            } else {
                Answer::Refused(Refusal::NoAnswerAbout(lookup.name))
            };
            done.push((lookup.requester, answer));
        }
    }
}
