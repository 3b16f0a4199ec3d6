//! `host`: addresses of a name, asked of a name server (RFC 1035). smoltcp speaks the protocol.
//!
//! Name servers are hosts on the network: what they answer is believed for nothing but the question.

use super::{Asker, Inside, LOOKUPS, until};
use crate::family::family_of;
use crate::opener;
use crate::stack::Stack;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use brane_abi::control::Protocol;
use brane_abi::inside::Answer;
use core::net::IpAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::dns::{GetQueryResultError, QueryHandle, Socket};
use smoltcp::wire::{DnsQueryType, IpAddress};

/// One name under way: both kinds of its addresses are asked for.
pub struct Lookup {
    pub asker: Asker,
    pub netif: usize,
    pub handle: SocketHandle,
    name: String,
    pending: Vec<QueryHandle>,
    found: Vec<IpAddr>,
    pub until: u64,
}

impl Stack {
    /// Name servers that DHCP or router advertisements gave.
    fn name_servers(&self) -> impl Iterator<Item = IpAddress> {
        self.netifs.iter().flat_map(|(_, netif)| netif.name_servers())
    }

    /// Asks a name server. Error: why not.
    pub(super) fn look_up(
        &mut self,
        now: u64,
        asker: Asker,
        name: &str,
        server: Option<IpAddress>,
        timeout_ms: u32,
    ) -> Result<(), String> {
        self.check_room(asker, self.inside.lookups.len(), LOOKUPS)?;
        let server = server.or_else(|| self.name_servers().next());
        let server = server.ok_or("no name server is known: name one")?;
        if !self.switch.takes(family_of(server), Protocol::Udp) {
            return Err("udp does not run here".into());
        }
        let netif = self.route(server).filter(|_| server.is_unicast());
        let netif = netif.ok_or_else(|| format!("no route to {server}"))?;
        let mut socket = Socket::new(&[server], vec![]);
        self.netifs[netif].parts().ok_or("the interface is down")?;
        let mut pending = Vec::new();
        for kind in [DnsQueryType::A, DnsQueryType::Aaaa] {
            // Id and source port are all that keeps other hosts from answering (RFC 5452, 9.2).
            let query = opener::with_random(now, self.rng(), |iface| {
                socket.start_query(iface.context(), name, kind)
            });
            pending.push(query.map_err(|_| format!("{name:?} cannot be a host's name"))?);
        }
        self.netifs[netif].resolve(now, server);
        let handle = self.netifs[netif].add_control(socket, now);
        self.inside.lookups.push(Lookup {
            asker,
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
        let Inside { lookups, done, .. } = &mut self.inside;
        for lookup in lookups.iter_mut() {
            let Lookup { pending, found, .. } = lookup;
            let socket: &mut Socket = self.netifs[lookup.netif].control_mut(lookup.handle);
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
            self.netifs[lookup.netif].remove_control(lookup.handle);
            let answer = if !lookup.found.is_empty() {
                Answer::Host(lookup.found)
            } else if lookup.pending.is_empty() {
                Answer::Refused(format!("no such host: {}", lookup.name))
            } else {
                Answer::Refused(format!("no answer about {} in time", lookup.name))
            };
            done.push((lookup.asker, answer));
        }
    }
}
