//! Route and source address, as the stack of a brane chooses them (`net-server/core/src/stack.rs`, and smoltcp's interface).

use super::Tables;
use super::devices::within;
use alloc::vec::Vec;
use brane_abi::control::InterfaceStatus;
use brane_abi::net::Cidr;
use brane_abi::query::Route;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the routes of a brane, and true if they are those that the brane answered. If the brane did not answer, they follow from
/// its last report.
pub(super) fn of(tables: Option<&Tables>, interfaces: &[InterfaceStatus]) -> (Vec<Route>, bool) {
    if let Some(routes) = tables.and_then(|tables| tables.routes.clone()) {
        return (routes, true);
    }
    let mut out = Vec::new();
    for interface in interfaces.iter().filter(|interface| interface.up) {
        let route = |to, via| Route {
            to,
            via,
            interface: interface.name.clone(),
        };
        out.extend(interface.addresses.iter().map(|own| route(own.cidr, None)));
        let default = |ip| Cidr { ip, prefix: 0 };
        let four = interface.gateway4.map(IpAddr::from);
        let six = interface.gateway6.map(IpAddr::from);
        out.extend(four.map(|via| route(default(Ipv4Addr::UNSPECIFIED.into()), Some(via))));
        out.extend(six.map(|via| route(default(Ipv6Addr::UNSPECIFIED.into()), Some(via))));
    }
    out.sort_by_key(|route| core::cmp::Reverse(route.to.prefix));
    (out, false)
}

/// Returns the first route that leads to an address, by this interface if one is given. `lo0` leads only to the brane's own
/// addresses, which have no route.
pub(super) fn to<'a>(routes: &'a [Route], address: IpAddr, interface: Option<&str>) -> Option<&'a Route> {
    let leads = |route: &&Route| {
        route.interface != "lo0"
            && interface.is_none_or(|wanted| route.interface == wanted)
            && within(&route.to, address)
    };
    routes.iter().find(leads)
}

/// Returns the source address of packets to `remote` that leave by an interface.
pub(super) fn source(interface: &InterfaceStatus, remote: IpAddr) -> Option<IpAddr> {
    let own = interface.addresses.iter().map(|address| address.cidr);
    match remote {
        IpAddr::V4(_) => {
            let mut own = own.filter(|cidr| cidr.ip.is_ipv4());
            let first = own.clone().next();
            own.find(|cidr| within(cidr, remote))
                .or(first)
                .map(|cidr| cidr.ip)
        }
        IpAddr::V6(remote) => {
            let own = own.filter_map(|cidr| match cidr.ip {
                IpAddr::V6(ip) => Some((ip, cidr.prefix)),
                IpAddr::V4(_) => None,
            });
            source6(own.collect(), remote).map(IpAddr::V6)
        }
    }
}

/// Chooses among addresses with their prefix lengths by rules 1, 2 and 8 of RFC 6724, 5.
fn source6(own: Vec<(Ipv6Addr, u8)>, remote: Ipv6Addr) -> Option<Ipv6Addr> {
    let mut best = *own.first()?;
    let common = |(own, prefix): (Ipv6Addr, u8)| {
        let bits = (own.to_bits() ^ remote.to_bits()).leading_zeros();
        bits.min(prefix.into())
    };
    let wanted = scope(remote);
    for next in own {
        if remote.is_unicast_link_local() && !next.0.is_unicast_link_local() {
            continue;
        }
        if best.0 != remote && next.0 == remote {
            best = next;
        }
        let (old, new) = (scope(best.0), scope(next.0));
        if old < new {
            if old < wanted {
                best = next;
            }
        } else if new > wanted {
            best = next;
        }
        if common(best) < common(next) {
            best = next;
        }
    }
    Some(best.0)
}

/// Returns the scope of a unicast address as a number that grows with the scope. Site-local addresses count as unknown.
fn scope(address: Ipv6Addr) -> u8 {
    let first = address.octets()[0];
    if address.is_unicast_link_local() {
        0x2
    } else if first & 0xfe == 0xfc || first >> 5 == 1 {
        0xe
    } else {
        0xff
    }
}
