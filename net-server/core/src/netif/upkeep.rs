//! What an interface does without any client: DHCP, router solicitations, announcements of its addresses.
//!
//! DHCP servers and routers are any hosts on the link: an address that cannot be an interface's is not taken from them.

use super::{Lease, NetIf, drain, instant};
use crate::ip::address::{is_host4, is_host6};
use crate::neighbor::messages;
use brane_abi::net::Cidr;
use core::net::Ipv6Addr;
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{IpAddress, IpCidr};

/// Announcements of the addresses after each change, and their distance in nanoseconds (RFC 5227, 1.1: ANNOUNCE_NUM and
/// ANNOUNCE_INTERVAL, with one second between them).
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_INTERVAL: u64 = 1_000_000_000;

impl NetIf {
    /// Takes stock of the addresses; `true` when they are not those of before.
    pub(super) fn changed(&mut self, now: u64) -> bool {
        let Some(iface) = &self.iface else {
            return false;
        };
        let changed = self.addresses[..] != *iface.ip_addrs();
        if changed {
            self.addresses = iface.ip_addrs().to_vec();
            self.neighbours.clear();
        }
        if self.up && !self.is_loopback() {
            self.announcements = ANNOUNCEMENTS;
            self.announce_at = now;
            self.deadline = now;
        }
        changed
    }

    /// Does what is due without any client: DHCP, router solicitations, announcements. `true` when addresses have changed.
    pub fn poll(&mut self, now: u64) -> bool {
        let Some(iface) = self.iface.as_deref_mut() else {
            self.deadline = u64::MAX;
            return false;
        };
        self.rdnss = self.rdnss.filter(|(_, until)| *until > now);
        iface.poll_maintenance(instant(now));
        if let Some(handle) = self.dhcp {
            match self.control.get_mut::<dhcpv4::Socket>(handle).poll() {
                Some(dhcpv4::Event::Configured(lease)) => {
                    let lease = Lease {
                        address: lease.address,
                        router: lease.router,
                        dns: lease
                            .dns_servers
                            .iter()
                            .copied()
                            .filter(|a| is_host4(*a))
                            .collect(),
                    };
                    self.take_lease(Some(lease));
                }
                Some(dhcpv4::Event::Deconfigured) => self.take_lease(None),
                None => {}
            }
        }
        let changed = self
            .iface
            .as_deref()
            .is_some_and(|i| self.addresses[..] != *i.ip_addrs())
            && self.changed(now);
        if self.announcements != 0 && now >= self.announce_at && self.up {
            self.announcements -= 1;
            self.announce_at = now + ANNOUNCE_INTERVAL;
            for cidr in &self.addresses {
                messages::announce(&mut self.tx, self.mac, cidr.address());
            }
        }
        let mut deadline = match self.iface.as_deref_mut() {
            Some(iface) if self.up => drain(iface, &mut self.tx, now, &mut self.control),
            _ => u64::MAX,
        };
        if self.announcements != 0 {
            deadline = deadline.min(self.announce_at);
        }
        if !self.queue.is_empty() {
            deadline = deadline.min(self.retry_at);
        }
        self.deadline = deadline;
        changed
    }

    /// The DHCP lease is this one now.
    pub(super) fn take_lease(&mut self, lease: Option<Lease>) {
        let Some(iface) = self.iface.as_deref_mut() else {
            return;
        };
        let lease = lease.filter(|lease| is_host4(lease.address.address()));
        let old = core::mem::replace(&mut self.lease, lease);
        let fixed = |cidr: &IpCidr| {
            let same = |c: &Cidr| IpAddress::from(c.ip) == cidr.address();
            self.config.addresses.iter().any(same)
        };
        iface.update_ip_addrs(|list| {
            list.retain(|cidr| {
                let old = old.as_ref().map(|old| IpAddress::Ipv4(old.address.address()));
                Some(cidr.address()) != old || fixed(cidr)
            });
            if let Some(lease) = &self.lease
                && !list
                    .iter()
                    .any(|c| c.address() == IpAddress::Ipv4(lease.address.address()))
            {
                let _ = list.push(IpCidr::Ipv4(lease.address));
            }
        });
        self.neighbours.unshown();
        self.route_by_default();
    }

    /// Sets the default routes that the configuration or the lease name; those that routers advertise stay.
    pub(super) fn route_by_default(&mut self) {
        let Some(iface) = self.iface.as_deref_mut() else {
            return;
        };
        let leased = self.lease.as_ref().and_then(|lease| lease.router);
        iface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = leased.or(self.config.gateway4) {
            let _ = iface.routes_mut().add_default_ipv4_route(router);
        }
        if let Some(router) = self.config.gateway6 {
            let _ = iface.routes_mut().add_default_ipv6_route(router);
        }
    }

    /// Name servers that the DHCP server and routers gave.
    pub fn name_servers(&self) -> impl Iterator<Item = IpAddress> {
        let leased = self.lease.iter().flat_map(|lease| lease.dns.iter());
        let advertised = self.rdnss.iter().map(|(server, _)| IpAddress::Ipv6(*server));
        leased.map(|server| IpAddress::Ipv4(*server)).chain(advertised)
    }

    /// An ICMPv6 message has come in: keeps what smoltcp does not.
    pub fn learn_name_server(&mut self, now: u64, frame: &[u8]) {
        if self.config.slaac
            && let Some((server, life)) = advertised_server(frame)
        {
            self.rdnss = (life != 0).then(|| (server, now.saturating_add(u64::from(life) * 1_000_000_000)));
        }
    }

    /// Whether frames from UDP port 67 to 68 are for its DHCP client.
    pub fn has_dhcp(&self) -> bool {
        self.dhcp.is_some()
    }
}

/// The first name server that a router advertisement names, and for how many seconds (RFC 8106, 5.1).
fn advertised_server(frame: &[u8]) -> Option<(Ipv6Addr, u32)> {
    let packet = frame.get(14..)?;
    let message = packet.get(40..)?;
    let local = packet.get(8..10)? == [0xfe, 0x80] && packet[7] == 255;
    if frame.get(12..14)? != [0x86, 0xdd] || message.first()? != &134 || !local {
        return None;
    }
    let mut options = message.get(16..)?;
    while let [kind, units, ..] = *options {
        let len = usize::from(units) * 8;
        let option = options.get(..len).filter(|_| len != 0)?;
        if kind == 25 && len >= 24 {
            let life = u32::from_be_bytes(*option[4..].first_chunk()?);
            return Some((Ipv6Addr::from(*option[8..].first_chunk::<16>()?), life));
        }
        options = &options[len..];
    }
    None
}

/// Whether a fixed address can be an interface's.
pub fn usable(cidr: &Cidr) -> bool {
    match cidr.ip.into() {
        IpAddress::Ipv4(a) => is_host4(a) && cidr.prefix <= 32,
        IpAddress::Ipv6(a) => is_host6(a) && cidr.prefix <= 128,
    }
}
