//! One network interface of a brane (IfNet): smoltcp's interface, its way out, its addresses, and what keeps them alive.
//!
//! Frames come from any host; they reach this module checked by [`crate::frame`]. The device behind it belongs to the trusted
//! driver.

use crate::announce;
use crate::device::{Device, Tx};
use crate::parked::Parked;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::control::{AddressStatus, InterfaceConfig, InterfaceStatus, Origin};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::port::PortInfo;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, raw, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpProtocol, IpVersion, Ipv4Cidr,
};

/// Frames that one socket may send before the next one's turn.
const EGRESS_BUDGET: usize = 64;

/// Longest UDP payload that is sent, in bytes: what smoltcp's buffer for fragments takes (see `Cargo.toml`).
pub const UDP_LONGEST: usize = 16384 - 28;

/// Announcements of the addresses after each change, and their distance in nanoseconds (RFC 5227, 1.1: ANNOUNCE_NUM and
/// ANNOUNCE_INTERVAL, with one second between them).
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_INTERVAL: u64 = 1_000_000_000;

/// Distance in nanoseconds of the datagrams that [`NetIf::refresh`] shows to smoltcp, which forgets a silent neighbour after 60 s.
const REFRESH: u64 = 100_000_000;

/// Where time stands for smoltcp: it counts microseconds.
pub fn instant(now: u64) -> Instant {
    Instant::from_micros((now / 1000) as i64)
}

fn nanos(at: Instant) -> u64 {
    (at.total_micros().max(0) as u64).saturating_mul(1000)
}

/// An interface.
pub struct NetIf {
    /// Name inside the brane.
    pub name: String,
    /// Name of the device.
    pub device: String,
    config: InterfaceConfig,
    /// Its address on the link; all zero for `lo0`.
    pub mac: [u8; 6],
    /// Frames can flow.
    pub up: bool,
    info: PortInfo,
    /// Where frames leave.
    pub tx: Tx,
    /// None until the driver has said what is behind the port.
    iface: Option<Box<Interface>>,
    /// What is not a client's socket: DHCP.
    control: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    dhcp_address: Option<Ipv4Addr>,
    /// Catches what was put together from fragments.
    fragments: SocketSet<'static>,
    catchers: [SocketHandle; 2],
    /// Sends datagrams of all sockets, one at a time.
    udp: SocketSet<'static>,
    udp_handle: SocketHandle,
    /// Datagrams that wait for a neighbour's address.
    pub parked: VecDeque<Parked>,
    /// Addresses as last seen.
    addresses: Vec<IpCidr>,
    announcements: u32,
    announce_at: u64,
    /// When [`Self::poll`] has work.
    pub deadline: u64,
    refresh_at: u64,
}

/// The link-local address that goes with a MAC address (RFC 4291, appendix A).
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let word = |x, y| u16::from_be_bytes([x, y]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ 2, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    )
}

fn catcher(protocol: IpProtocol, len: usize) -> raw::Socket<'static> {
    let buffer = |n: usize, len| raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; n], vec![0; len]);
    raw::Socket::new(
        Some(IpVersion::Ipv4),
        Some(protocol),
        buffer(1, len),
        buffer(1, 0),
    )
}

impl NetIf {
    fn new(config: InterfaceConfig, tx: Tx) -> NetIf {
        let mut udp = SocketSet::new(Vec::new());
        let out = udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 1], vec![0; UDP_LONGEST]);
        let none = udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 1], Vec::new());
        let udp_handle = udp.add(udp::Socket::new(none, out));
        let mut fragments = SocketSet::new(Vec::new());
        // Datagrams of any length; TCP segments are hardly ever fragmented, and then barely above an MTU.
        let catchers = [
            fragments.add(catcher(IpProtocol::Udp, 65535)),
            fragments.add(catcher(IpProtocol::Tcp, 16384)),
        ];
        NetIf {
            name: config.name.clone(),
            device: config.device.clone(),
            config,
            mac: [0; 6],
            up: false,
            info: PortInfo::default(),
            tx,
            iface: None,
            control: SocketSet::new(Vec::new()),
            dhcp: None,
            dhcp_address: None,
            fragments,
            catchers,
            udp,
            udp_handle,
            parked: VecDeque::new(),
            addresses: Vec::new(),
            announcements: 0,
            announce_at: u64::MAX,
            deadline: u64::MAX,
            refresh_at: 0,
        }
    }

    /// `lo0`.
    pub fn loopback(seed: u64, now: u64) -> NetIf {
        let config = InterfaceConfig {
            name: "lo0".to_string(),
            device: "lo0".to_string(),
            ..InterfaceConfig::default()
        };
        let mut netif = NetIf::new(config, Tx::loopback());
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut Device::idle(&mut netif.tx), instant(now));
        iface.update_ip_addrs(|list| {
            let _ = list.push(IpCidr::new(Ipv4Addr::LOCALHOST.into(), 8));
            let _ = list.push(IpCidr::new(Ipv6Addr::LOCALHOST.into(), 128));
        });
        // Packets to any of the brane's own addresses are delivered here.
        iface.set_any_ip(true);
        netif.addresses = iface.ip_addrs().to_vec();
        netif.iface = Some(Box::new(iface));
        netif.up = true;
        netif
    }

    /// An interface whose port is not known yet.
    pub fn unbound(config: InterfaceConfig) -> NetIf {
        NetIf::new(config, Tx::nowhere())
    }

    /// Which port carries it; `None` for `lo0`.
    pub fn port(&self) -> Option<usize> {
        (!self.is_loopback()).then_some(usize::from(self.config.port))
    }

    /// Whether it is `lo0`.
    pub fn is_loopback(&self) -> bool {
        self.tx.caps.medium == smoltcp::phy::Medium::Ip
    }

    /// The driver has said what the port is from here on; `tx` leads there. A bound port whose MAC address is no station's
    /// counts as not bound.
    pub fn bind(&mut self, info: PortInfo, tx: Tx, seed: u64, now: u64) {
        self.tx = tx;
        let bound = info.bound == 1 && info.mac.is_station() && info.mtu >= 1280;
        self.up = bound && info.link_up == 1;
        if !bound {
            self.info = info;
            return;
        }
        let same = self.iface.is_some()
            && (info.mac, info.mtu, info.features) == (self.info.mac, self.info.mtu, self.info.features);
        if !same {
            self.mac = info.mac.0;
            let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(self.mac)));
            config.random_seed = seed;
            config.slaac = self.config.slaac;
            let mut iface = Box::new(Interface::new(
                config,
                &mut Device::idle(&mut self.tx),
                instant(now),
            ));
            iface.update_ip_addrs(|list| {
                let _ = list.push(IpCidr::new(link_local(self.mac).into(), 64));
                for cidr in &self.config.addresses {
                    let _ = list.push(IpCidr::new(cidr.ip.into(), cidr.prefix));
                }
            });
            if let Some(router) = self.config.gateway4 {
                let _ = iface.routes_mut().add_default_ipv4_route(router);
            }
            if let Some(router) = self.config.gateway6 {
                let _ = iface.routes_mut().add_default_ipv6_route(router);
            }
            self.iface = Some(iface);
            self.addresses.clear();
            self.dhcp_address = None;
            if let Some(handle) = self.dhcp.take() {
                self.control.remove(handle);
            }
            if self.config.dhcp4 {
                self.dhcp = Some(self.control.add(dhcpv4::Socket::new()));
            }
        }
        self.info = info;
        self.changed(now);
    }

    /// The driver went away, and the rings with it.
    pub fn unbind(&mut self) {
        self.up = false;
        self.tx.detach();
    }

    /// Takes stock of the addresses; `true` when they are not those of before.
    fn changed(&mut self, now: u64) -> bool {
        let Some(iface) = &self.iface else {
            return false;
        };
        let changed = self.addresses[..] != *iface.ip_addrs();
        if changed {
            self.addresses = iface.ip_addrs().to_vec();
        }
        if self.up && !self.is_loopback() {
            self.announcements = ANNOUNCEMENTS;
            self.announce_at = now;
            self.deadline = now;
        }
        changed
    }

    /// Whether `address` is one of this interface's own.
    pub fn owns(&self, address: IpAddress) -> bool {
        self.addresses.iter().any(|cidr| cidr.address() == address)
    }

    /// Whether a datagram to `address` is for this brane: one of its own, or a broadcast that reaches it.
    pub fn accepts(&self, address: IpAddress) -> bool {
        self.is_loopback()
            || self.addresses.iter().any(|cidr| {
                cidr.address() == address
                    || matches!((cidr, address), (IpCidr::Ipv4(own), IpAddress::Ipv4(a)) if own.broadcast() == Some(a))
            })
            || address == IpAddress::Ipv4(Ipv4Addr::BROADCAST)
    }

    /// How well it leads to `address`: `None` not at all, 0 by a router, more the longer the prefix.
    pub fn leads_to(&self, address: IpAddress) -> Option<u32> {
        if !self.up {
            return None;
        }
        let iface = self.iface.as_deref()?;
        if !self
            .addresses
            .iter()
            .any(|c| c.address().version() == version(address))
        {
            return None;
        }
        let on_link = self.addresses.iter().filter(|cidr| cidr.contains_addr(&address));
        if let Some(len) = on_link.map(|cidr| u32::from(cidr.prefix_len())).max() {
            return Some(len + 1);
        }
        let routed = match address {
            IpAddress::Ipv4(_) => iface.routes().get_default_ipv4_route().is_some(),
            IpAddress::Ipv6(_) => iface.routes().get_default_ipv6_route().is_some(),
        };
        let everywhere = match address {
            IpAddress::Ipv4(a) => a.is_broadcast() || a.is_multicast(),
            IpAddress::Ipv6(a) => a.is_multicast(),
        };
        (routed || everywhere).then_some(0)
    }

    /// The address that packets to `remote` come from.
    pub fn source_for(&self, remote: IpAddress) -> Option<IpAddress> {
        self.iface.as_deref()?.get_source_address(&remote)
    }

    /// smoltcp's interface together with the way out; `None` while the port is not bound.
    pub fn parts(&mut self) -> Option<(&mut Interface, &mut Tx)> {
        Some((self.iface.as_deref_mut()?, &mut self.tx))
    }

    /// Hands a frame to the stack, for the sockets in `set`; without one, for those that are nobody's (DHCP).
    pub fn ingress(&mut self, now: u64, frame: &[u8], set: Option<&mut SocketSet<'static>>) {
        if let Some(iface) = self.iface.as_deref_mut() {
            let set = set.unwrap_or(&mut self.control);
            iface.poll_ingress_single(instant(now), &mut Device::with(frame, &mut self.tx), set);
        }
    }

    /// Hands a fragment to the stack. What it completes is handed to `whole` as a frame like any other.
    pub fn fragment(&mut self, now: u64, frame: &[u8], whole: &mut Vec<u8>) -> bool {
        let Some(iface) = self.iface.as_deref_mut() else {
            return false;
        };
        let mut device = Device::with(frame, &mut self.tx);
        iface.poll_ingress_single(instant(now), &mut device, &mut self.fragments);
        for handle in self.catchers {
            if let Ok(packet) = self.fragments.get_mut::<raw::Socket>(handle).recv() {
                whole.clear();
                if let Some(header) = frame.get(..crate::frame::ETHERNET).filter(|_| self.mac != [0; 6]) {
                    whole.extend_from_slice(header);
                }
                whole.extend_from_slice(packet);
                return true;
            }
        }
        // The answer to a long ping leaves in fragments too.
        self.deadline = self.deadline.min(self.drain_fragments(now));
        false
    }

    /// Lets `set` send what it has to. Returns when it wants to be asked again, at the latest.
    pub fn egress(&mut self, now: u64, set: &mut SocketSet<'static>) -> u64 {
        let Some(iface) = self.iface.as_deref_mut() else {
            return u64::MAX;
        };
        let at = instant(now);
        for _ in 0..EGRESS_BUDGET {
            if self.tx.blocked
                || iface.poll_egress(at, &mut Device::idle(&mut self.tx), set) == PollResult::None
            {
                break;
            }
        }
        iface.poll_at(at, set).map_or(u64::MAX, nanos)
    }

    /// Shows smoltcp a datagram that is delivered without it, now and then, so that it knows that the sender's link-layer
    /// address still holds. It goes to a socket that has no room for it.
    pub fn refresh(&mut self, now: u64, frame: &[u8], port: u16) {
        if now < self.refresh_at {
            return;
        }
        self.refresh_at = now + REFRESH;
        let socket = self.udp.get_mut::<udp::Socket>(self.udp_handle);
        if socket.endpoint().port != port {
            socket.close();
            let _ = socket.bind(port);
        }
        if let Some(iface) = self.iface.as_deref_mut() {
            iface.poll_ingress_single(
                instant(now),
                &mut Device::with(frame, &mut self.tx),
                &mut self.udp,
            );
        }
    }

    /// Sends the rest of a packet that leaves in fragments.
    fn drain_fragments(&mut self, now: u64) -> u64 {
        let Some(iface) = self.iface.as_deref_mut() else {
            return u64::MAX;
        };
        let at = instant(now);
        for _ in 0..EGRESS_BUDGET {
            match iface.poll_at(at, &self.control) {
                Some(when) if when <= at && !self.tx.blocked => {
                    iface.poll_egress(at, &mut Device::idle(&mut self.tx), &mut self.control);
                }
                when => return when.map_or(u64::MAX, nanos),
            }
        }
        now
    }

    /// Sends a datagram of `len` bytes that `fill` writes. `false` when the neighbour's address is not known yet; nothing
    /// of it is left behind then.
    pub fn send_udp(
        &mut self,
        now: u64,
        (src_port, local): (u16, Option<IpAddress>),
        remote: IpEndpoint,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Some(iface) = self.iface.as_deref_mut() else {
            return true;
        };
        let socket = self.udp.get_mut::<udp::Socket>(self.udp_handle);
        if socket.endpoint().port != src_port {
            socket.close();
            let _ = socket.bind(src_port);
        }
        let mut meta = udp::UdpMetadata::from(remote);
        meta.local_address = local;
        let filled = socket.send_with(len, meta, |room| {
            fill(room);
            len
        });
        if filled.is_err() {
            socket.close();
            return true;
        }
        let at = instant(now);
        iface.poll_egress(at, &mut Device::idle(&mut self.tx), &mut self.udp);
        // It has room for one, so it is full while that one is there.
        if !self.udp.get::<udp::Socket>(self.udp_handle).can_send() {
            // smoltcp keeps it and waits; we keep it elsewhere, so that others need not wait behind it.
            let smoltcp::socket::Socket::Udp(mut socket) = self.udp.remove(self.udp_handle) else {
                return true;
            };
            socket.close();
            self.udp_handle = self.udp.add(socket);
            return false;
        }
        if len + 28 > usize::from(self.info.mtu) {
            self.deadline = self.deadline.min(self.drain_fragments(now));
        }
        true
    }

    /// Asks the network for the link-layer address behind `remote`, once.
    pub fn solicit(&mut self, remote: IpAddress, now: u64) {
        let Some(source) = self.source_for(remote) else {
            return;
        };
        let next_hop = if self.addresses.iter().any(|cidr| cidr.contains_addr(&remote)) {
            Some(remote)
        } else {
            self.router_for(remote)
        };
        if let Some(next_hop) = next_hop {
            announce::solicit(&mut self.tx, self.mac, source, next_hop);
        }
        self.deadline = self.deadline.min(now + crate::parked::RETRY);
    }

    fn router_for(&self, remote: IpAddress) -> Option<IpAddress> {
        let routes = self.iface.as_deref()?.routes();
        match remote {
            IpAddress::Ipv4(_) => routes.get_default_ipv4_route(),
            IpAddress::Ipv6(_) => routes.get_default_ipv6_route(),
        }
        .map(|route| route.via_router)
    }

    /// Does what is due without any client: DHCP, router solicitations, announcements. `true` when addresses have changed.
    pub fn poll(&mut self, now: u64) -> bool {
        let Some(iface) = self.iface.as_deref_mut() else {
            self.deadline = u64::MAX;
            return false;
        };
        iface.poll_maintenance(instant(now));
        if let Some(handle) = self.dhcp {
            match self.control.get_mut::<dhcpv4::Socket>(handle).poll() {
                Some(dhcpv4::Event::Configured(lease)) => {
                    let (address, router) = (lease.address, lease.router);
                    self.lease(Some((address, router)));
                }
                Some(dhcpv4::Event::Deconfigured) => self.lease(None),
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
                announce::announce(&mut self.tx, self.mac, cidr.address());
            }
        }
        let mut deadline = if self.up {
            self.egress_control(now)
        } else {
            u64::MAX
        };
        if self.announcements != 0 {
            deadline = deadline.min(self.announce_at);
        }
        if !self.parked.is_empty() {
            deadline = deadline.min(now + crate::parked::RETRY);
        }
        self.deadline = deadline;
        changed
    }

    fn egress_control(&mut self, now: u64) -> u64 {
        let Some(iface) = self.iface.as_deref_mut() else {
            return u64::MAX;
        };
        let at = instant(now);
        for _ in 0..EGRESS_BUDGET {
            if self.tx.blocked
                || iface.poll_egress(at, &mut Device::idle(&mut self.tx), &mut self.control)
                    == PollResult::None
            {
                break;
            }
        }
        iface.poll_at(at, &self.control).map_or(u64::MAX, nanos)
    }

    fn lease(&mut self, lease: Option<(Ipv4Cidr, Option<Ipv4Addr>)>) {
        let Some(iface) = self.iface.as_deref_mut() else {
            return;
        };
        let old = self.dhcp_address.take();
        iface.update_ip_addrs(|list| {
            list.retain(|cidr| old.is_none_or(|old| cidr.address() != IpAddress::Ipv4(old)));
            if let Some((address, _)) = lease
                && address.address().is_private_or_global()
            {
                let _ = list.push(IpCidr::Ipv4(address));
            }
        });
        iface.routes_mut().remove_default_ipv4_route();
        if let Some((address, router)) = lease {
            self.dhcp_address = Some(address.address());
            if let Some(router) = router {
                let _ = iface.routes_mut().add_default_ipv4_route(router);
            }
        }
    }

    /// Whether frames from UDP port 67 to 68 are for its DHCP client.
    pub fn has_dhcp(&self) -> bool {
        self.dhcp.is_some()
    }

    /// The addresses in force.
    pub fn addresses(&self) -> &[IpCidr] {
        &self.addresses
    }

    /// As the status report shows it.
    pub fn status(&self) -> InterfaceStatus {
        let origin = |cidr: &IpCidr| match cidr.address() {
            IpAddress::Ipv4(a) if self.dhcp_address == Some(a) => Origin::Dhcp,
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
}

fn version(address: IpAddress) -> IpVersion {
    match address {
        IpAddress::Ipv4(_) => IpVersion::Ipv4,
        IpAddress::Ipv6(_) => IpVersion::Ipv6,
    }
}

/// Whether smoltcp takes an address for an interface: it panics for one that is not unicast.
trait Usable {
    fn is_private_or_global(&self) -> bool;
}

impl Usable for Ipv4Addr {
    fn is_private_or_global(&self) -> bool {
        !(self.is_unspecified() || self.is_multicast() || self.is_broadcast() || self.is_loopback())
    }
}

/// Whether a fixed address can be an interface's.
pub fn usable(cidr: &Cidr) -> bool {
    match cidr.ip.into() {
        IpAddress::Ipv4(a) => a.is_private_or_global() && cidr.prefix <= 32,
        IpAddress::Ipv6(a) => {
            !(a.is_unspecified() || a.is_multicast() || a.is_loopback()) && cidr.prefix <= 128
        }
    }
}
