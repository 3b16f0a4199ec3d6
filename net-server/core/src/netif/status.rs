//! The report of an interface to the manager (trusted), and its routes.

use super::{NetIf, link_local};
use alloc::vec::Vec;
use brane_abi::control::{AddressStatus, InterfaceStatus, Origin};
use brane_abi::net::{Cidr, MacAddr};
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::wire::{IpAddress, IpCidr};

impl NetIf {
    /// As the status report shows it.
    pub fn status(&self) -> InterfaceStatus {
        let origin = |cidr: &IpCidr| match cidr.address() {
            IpAddress::Ipv4(a) if self.lease.as_ref().is_some_and(|l| l.address.address() == a) => {
                Origin::Dhcp
            }
            a if self.config.addresses.iter().any(|c| IpAddress::from(c.ip) == a) => Origin::Static,
            IpAddress::Ipv6(a) if self.is_loopback() || a == link_local(self.mac) => Origin::Link,
            IpAddress::Ipv4(_) => Origin::Link,
            IpAddress::Ipv6(_) => Origin::Slaac,
        };
        let router = |address: IpAddress| self.router_for(address);
        InterfaceStatus {
            name: self.name.clone(),
            device: self.device.clone(),
            mac: MacAddr(self.mac),
            rx_packets: self.received.frames,
            rx_bytes: self.received.bytes,
            rx_errors: self.received.errors,
            tx_packets: self.tx.totals.frames,
            tx_bytes: self.tx.totals.bytes,
            tx_errors: self.tx.totals.full,
            mtu: self.tx.caps.ip_mtu() as u32,
            up: self.up,
            addresses: self
                .addresses
                .iter()
                .map(|cidr| AddressStatus {
                    cidr: Cidr {
                        ip: cidr.address().into(),
                        prefix: cidr.prefix_len(),
                    },
                    origin: origin(cidr),
                })
                .collect(),
            gateway4: match router(Ipv4Addr::UNSPECIFIED.into()) {
                Some(IpAddress::Ipv4(a)) => Some(a),
                _ => None,
            },
            gateway6: match router(Ipv6Addr::UNSPECIFIED.into()) {
                Some(IpAddress::Ipv6(a)) => Some(a),
                _ => None,
            },
        }
    }

    /// Returns the routes in force: where to, and by which router.
    pub fn routes(&mut self) -> Vec<(Cidr, Option<core::net::IpAddr>)> {
        let cidr = |cidr: IpCidr| Cidr {
            ip: cidr.address().into(),
            prefix: cidr.prefix_len(),
        };
        let network = |cidr: &IpCidr| match cidr {
            IpCidr::Ipv4(cidr) => IpCidr::Ipv4(cidr.network()),
            IpCidr::Ipv6(cidr) => {
                let bits = u128::MAX
                    .checked_shl(128 - u32::from(cidr.prefix_len()))
                    .unwrap_or(0);
                IpCidr::new(
                    Ipv6Addr::from_bits(cidr.address().to_bits() & bits).into(),
                    cidr.prefix_len(),
                )
            }
        };
        let attached = self.addresses.iter().map(|own| (cidr(network(own)), None));
        let mut routes: Vec<_> = attached.collect();
        if let Some(iface) = self.iface.as_deref_mut() {
            iface.routes_mut().update(|table| {
                routes.extend(
                    table
                        .iter()
                        .map(|route| (cidr(route.cidr), Some(route.via_router.into()))),
                );
            });
        }
        routes
    }
}
