//! The head of a brane's sockets: hooks see `bind`, `connect` and `accept` before they take effect.
//!
//! Calls come from clients, connections from any host; neither is trusted. A hook sees a header with the addresses and ports of the
//! call ([`Call`]). At `bind` the destination is the local address. At `connect` the source is local, at `accept` the destination. An
//! address or a port that the client leaves open is unspecified or 0. A call that the head does not pass ends with an error. At
//! `accept` the hook sees a SYN that a listener wants, before the brane answers it.

use super::{Hook, Pfil};
use crate::family::family_of;
use crate::net::Net;
use crate::stack::Stack;
use crate::transport::tcp::FlowKey;
use brane_abi::control::{Family, Protocol};
use brane_abi::filter::Direction;
use brane_abi::socket::error;
use branes_pfil::chain::Verdict;
use branes_pfil::socket::Call;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use smoltcp::wire::{IpAddress, IpEndpoint};

impl Pfil {
    /// Runs the head of the sockets. `interface` is empty if the call is for no interface in particular.
    fn call(&self, direction: Direction, interface: &str, call: &Call) -> Verdict {
        let Ok(mut state) = self.0.state.try_borrow_mut() else {
            return Verdict::Drop;
        };
        let super::State { sockets, filter, .. } = &mut *state;
        sockets.run(|hook| match hook {
            Hook::Filter => filter.decide(self.0.now.get(), direction, interface, call.packet()),
            // External filters have no hook at the sockets.
            Hook::External(_) => Verdict::Pass,
        })
    }

    /// Runs the head for a connection that another host opens and a listener wants.
    pub(crate) fn accept(&self, net: &mut Net, key: &FlowKey) -> Verdict {
        let source = SocketAddr::new(key.remote.into(), key.remote_port);
        let destination = SocketAddr::new(key.local.into(), key.local_port);
        let interface = net.netifs.get(key.netif).map_or("", |netif| &netif.name);
        // Both addresses of a connection are of one family.
        let verdict = Call::new(true, source, destination).map_or(Verdict::Drop, |call| {
            self.call(Direction::Accept, interface, &call)
        });
        net.counters.filter_refused_calls += u64::from(!verdict.goes_on());
        verdict
    }
}

impl Stack {
    /// Runs the head for a local address and port that a client wants to use. Without an address, the call is for each family that
    /// the brane has. The error is one of [`error`].
    pub(crate) fn may_bind(
        &mut self,
        protocol: Protocol,
        local: Option<IpAddress>,
        port: u16,
    ) -> Result<(), u32> {
        let Some(pfil) = &self.pfil else {
            return Ok(());
        };
        let families = Family::ALL.into_iter().filter(|family| match local {
            Some(local) => family_of(local) == *family,
            None => self.switch.has(Some(*family), protocol),
        });
        let interface = local.map_or("", |local| {
            let netifs = self.net.netifs.iter();
            let mut owners = netifs.filter(|(_, netif)| netif.owns(local));
            owners.next().map_or("", |(_, netif)| &netif.name)
        });
        let mut passes = true;
        for family in families {
            let any = unspecified(family);
            let local = SocketAddr::new(local.map_or(any, Into::into), port);
            let call = Call::new(protocol == Protocol::Tcp, SocketAddr::new(any, 0), local);
            passes &= call.is_some_and(|call| pfil.call(Direction::Bind, interface, &call).goes_on());
        }
        self.allowed(passes)
    }

    /// Runs the head for a connection that a client wants to open. The error is one of [`error`].
    pub(crate) fn may_connect(
        &mut self,
        (local, port): (Option<IpAddress>, u16),
        remote: IpEndpoint,
    ) -> Result<(), u32> {
        let Some(pfil) = &self.pfil else {
            return Ok(());
        };
        let netif = self.net.route(remote.addr);
        let local = local.or_else(|| self.net.source(netif?, remote.addr));
        let interface = netif.and_then(|netif| self.net.netifs.get(netif));
        let interface = interface.map_or("", |netif| &netif.name);
        let any = unspecified(family_of(remote.addr));
        let source = SocketAddr::new(local.map_or(any, Into::into), port);
        let destination = SocketAddr::new(remote.addr.into(), remote.port);
        // Addresses of two families cannot be connected, and the stack says so.
        let call = Call::new(true, source, destination);
        let passes = call.is_none_or(|call| pfil.call(Direction::Connect, interface, &call).goes_on());
        self.allowed(passes)
    }

    fn allowed(&mut self, passes: bool) -> Result<(), u32> {
        self.net.counters.filter_refused_calls += u64::from(!passes);
        passes.then_some(()).ok_or(error::PERMISSION_DENIED)
    }
}

/// Returns the unspecified address of a family.
fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Inet => Ipv4Addr::UNSPECIFIED.into(),
        Family::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
