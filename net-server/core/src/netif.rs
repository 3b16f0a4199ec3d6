//! One network interface of a brane (IfNet): smoltcp's interface, its way out, its addresses, and what keeps them alive.
//!
//! Frames come from any host; they reach this module checked by [`crate::headers`]. The device behind it belongs to the trusted
//! driver. Datagrams are in `datagrams.rs`, what it does by itself in `upkeep.rs`, its report in `status.rs`.

mod datagrams;
pub mod dhcp;
mod resolution;
mod status;
mod upkeep;

pub use datagrams::UDP_LONGEST;
pub use resolution::NeighborInput;
pub use upkeep::usable;

use crate::eth::device::{Device, Tx};
use crate::neighbor::queue::{self, QueuedDatagram};
use crate::neighbor::table::Neighbours;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::control::{Family, InterfaceConfig};
use brane_abi::net::Cidr;
use brane_abi::port::PortInfo;
use brane_abi::ring::Producer;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpVersion, Ipv4Cidr};

/// Frames that one socket may send before the next one's turn.
const EGRESS_BUDGET: usize = 64;

/// Where time stands for smoltcp: it counts microseconds.
pub fn instant(now: u64) -> Instant {
    Instant::from_micros((now / 1000) as i64)
}

fn nanos(at: Instant) -> u64 {
    (at.total_micros().max(0) as u64).saturating_mul(1000)
}

/// What a DHCP server gave.
#[derive(Clone, Debug)]
struct Lease {
    address: Ipv4Cidr,
    router: Option<Ipv4Addr>,
    /// Name servers (RFC 2132, 3.8).
    dns: Vec<Ipv4Addr>,
}

/// Frames that have come in at an interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that made no sense.
    pub errors: u64,
}

/// An interface.
pub struct NetIf {
    /// Name inside the brane.
    pub name: String,
    /// Name of the device.
    pub device: String,
    config: InterfaceConfig,
    /// It has a link-local address.
    inet6: bool,
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
    lease: Option<Lease>,
    /// Sends datagrams of all sockets, one at a time.
    udp: SocketSet<'static>,
    udp_handle: SocketHandle,
    /// Its neighbours.
    pub neighbours: Neighbours,
    /// Name servers that routers advertise, and until when.
    rdnss: Option<(Ipv6Addr, u64)>,
    /// What has come in.
    pub received: Received,
    /// Datagrams that wait for a neighbour's address.
    pub queue: VecDeque<QueuedDatagram>,
    /// When to ask again for these neighbours.
    retry_at: u64,
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

/// A fixed address as smoltcp words it.
fn fixed(cidr: &Cidr) -> IpCidr {
    IpCidr::new(cidr.ip.into(), cidr.prefix)
}

impl NetIf {
    fn new(config: InterfaceConfig, tx: Tx) -> NetIf {
        let mut udp = SocketSet::new(Vec::new());
        let out = udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 1], vec![0; UDP_LONGEST]);
        let none = udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 1], Vec::new());
        let udp_handle = udp.add(udp::Socket::new(none, out));
        NetIf {
            name: config.name.clone(),
            device: config.device.clone(),
            config,
            inet6: true,
            mac: [0; 6],
            up: false,
            info: PortInfo::default(),
            tx,
            iface: None,
            control: SocketSet::new(Vec::new()),
            dhcp: None,
            lease: None,
            udp,
            udp_handle,
            neighbours: Neighbours::default(),
            rdnss: None,
            received: Received::default(),
            queue: VecDeque::with_capacity(queue::LIMIT),
            retry_at: 0,
            addresses: Vec::new(),
            announcements: 0,
            announce_at: u64::MAX,
            deadline: u64::MAX,
            refresh_at: 0,
        }
    }

    /// `lo0`, without addresses.
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
        // Packets to any of the brane's own addresses are delivered here.
        iface.set_any_ip(true);
        netif.iface = Some(Box::new(iface));
        netif.up = true;
        netif
    }

    /// Gives `lo0` its addresses in these families.
    pub fn set_loopback(&mut self, has: impl Fn(Family) -> bool) {
        if let Some(iface) = self.iface.as_deref_mut() {
            iface.update_ip_addrs(|list| {
                list.clear();
                if has(Family::Inet) {
                    let _ = list.push(IpCidr::new(Ipv4Addr::LOCALHOST.into(), 8));
                }
                if has(Family::Inet6) {
                    let _ = list.push(IpCidr::new(Ipv6Addr::LOCALHOST.into(), 128));
                }
            });
            self.addresses = iface.ip_addrs().to_vec();
        }
    }

    /// An interface whose port is not known yet, with or without IPv6.
    pub fn unbound(config: InterfaceConfig, inet6: bool) -> NetIf {
        let mut netif = NetIf::new(config, Tx::nowhere());
        netif.inet6 = inet6;
        netif
    }

    /// Which port carries it; `None` for `lo0`.
    pub fn port(&self) -> Option<usize> {
        (!self.is_loopback()).then_some(usize::from(self.config.port))
    }

    /// Whether it is `lo0`.
    pub fn is_loopback(&self) -> bool {
        self.tx.caps.medium == smoltcp::phy::Medium::Ip
    }

    /// Whether what the driver says of the port is about this interface: a vif is bound, and it is ours.
    pub fn fits(&self, info: &PortInfo) -> bool {
        info.bound == 1 && info.mac.is_station() && info.mac == self.config.mac && info.mtu >= 1280
    }

    /// The driver has said what the port is from here on, and it fits; `tx` leads there.
    pub fn bind(&mut self, info: PortInfo, tx: Tx, seed: u64, now: u64) {
        let totals = self.tx.totals;
        self.tx = tx;
        self.tx.totals = totals;
        self.up = info.link_up == 1;
        let same = self.iface.is_some()
            && (info.mac, info.mtu, info.features) == (self.info.mac, self.info.mtu, self.info.features);
        self.info = info;
        if !same {
            self.mac = info.mac.0;
            self.build(seed, now);
            self.addresses.clear();
            self.lease = None;
            if let Some(handle) = self.dhcp.take() {
                self.control.remove(handle);
            }
            if self.config.dhcp4 {
                self.dhcp = Some(self.control.add(dhcpv4::Socket::new()));
            }
        }
        self.changed(now);
    }

    /// Makes smoltcp's interface from the configuration, with nothing learnt.
    fn build(&mut self, seed: u64, now: u64) {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(self.mac)));
        config.random_seed = seed;
        config.slaac = self.config.slaac;
        let mut device = Device::idle(&mut self.tx);
        let mut iface = Box::new(Interface::new(config, &mut device, instant(now)));
        iface.update_ip_addrs(|list| {
            if self.inet6 {
                let _ = list.push(IpCidr::new(link_local(self.mac).into(), 64));
            }
            for cidr in &self.config.addresses {
                let _ = list.push(fixed(cidr));
            }
        });
        self.iface = Some(iface);
        self.neighbours.unshown();
        self.route_by_default();
    }

    /// Addresses, routers, DHCP and SLAAC are those of `config` from now on; what stays the same goes on undisturbed.
    pub fn adjust(&mut self, config: InterfaceConfig, seed: u64, now: u64) {
        let old = core::mem::replace(&mut self.config, config);
        if self.iface.is_none() {
            return;
        }
        if old.slaac != self.config.slaac {
            // smoltcp takes this when an interface is made; what it had learnt from routers goes with it.
            let lease = self.lease.take();
            self.build(seed, now);
            self.take_lease(lease);
        }
        if let Some(iface) = self.iface.as_deref_mut() {
            iface.update_ip_addrs(|list| {
                let new: Vec<IpCidr> = self.config.addresses.iter().map(fixed).collect();
                list.retain(|cidr| new.contains(cidr) || !old.addresses.iter().any(|o| fixed(o) == *cidr));
                for cidr in new {
                    if !list.contains(&cidr) {
                        let _ = list.push(cidr);
                    }
                }
            });
            if old.gateway6.is_some() && self.config.gateway6 != old.gateway6 {
                iface.routes_mut().remove_default_ipv6_route();
            }
        }
        self.neighbours.unshown();
        match (self.config.dhcp4, self.dhcp) {
            (true, None) => self.dhcp = Some(self.control.add(dhcpv4::Socket::new())),
            (false, Some(handle)) => {
                self.dhcp = None;
                self.control.remove(handle);
                self.take_lease(None);
            }
            _ => {}
        }
        self.route_by_default();
        self.changed(now);
    }

    /// The port is not this interface's any more, for now or for ever. Returns the ring to it, without what the driver has
    /// not been shown yet: it would leave when the ring is used again.
    pub fn unbind(&mut self) -> Option<Producer> {
        self.up = false;
        self.queue.clear();
        let mut ring = self.tx.detach();
        if let Some(ring) = &mut ring {
            ring.retract();
        }
        ring
    }

    /// Which binding of its port it has had last, as the driver numbers them; `None` when there was none.
    pub fn binding(&self) -> Option<u32> {
        (self.info.bound == 1).then_some(self.info.generation)
    }

    /// As it was last told to be.
    pub fn config(&self) -> &InterfaceConfig {
        &self.config
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: &str) {
        self.name = name.to_string();
        self.config.name = name.to_string();
    }

    /// Whether `address` is the broadcast address of one of its networks, or of all.
    pub fn is_broadcast(&self, address: IpAddress) -> bool {
        let IpAddress::Ipv4(address) = address else {
            return false;
        };
        let here = |cidr: &IpCidr| matches!(cidr, IpCidr::Ipv4(own) if own.broadcast() == Some(address));
        address.is_broadcast() || self.addresses.iter().any(here)
    }

    /// Returns its link-layer address, and a predicate for the addresses that the manager has given it. An advertised prefix must
    /// not lead to one of these, because the address would end with the prefix. `None` for `lo0`, which has no neighbours.
    pub fn guarded(&self) -> Option<([u8; 6], impl Fn(Ipv6Addr) -> bool)> {
        let fixed = |address: core::net::IpAddr| self.config.addresses.iter().any(|cidr| cidr.ip == address);
        (!self.is_loopback()).then_some((self.mac, move |address: Ipv6Addr| fixed(address.into())))
    }

    /// Whether `address` is one of this interface's own.
    pub fn owns(&self, address: IpAddress) -> bool {
        self.addresses.iter().any(|cidr| cidr.address() == address)
    }

    /// Returns true if the brane can send from `address` by this interface: it is its own, or on `lo0` in one of its networks.
    pub fn contains_own(&self, address: IpAddress) -> bool {
        self.owns(address) || self.is_loopback() && self.contains(address)
    }

    /// Returns true if `address` is in one of its networks.
    pub fn contains(&self, address: IpAddress) -> bool {
        self.addresses.iter().any(|cidr| cidr.contains_addr(&address))
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

    /// The addresses in force.
    pub fn addresses(&self) -> &[IpCidr] {
        &self.addresses
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

    /// Hands a frame to the stack, as [`Self::ingress`] does, but drops what smoltcp answers.
    pub fn ingress_mute(&mut self, now: u64, frame: &[u8], set: Option<&mut SocketSet<'static>>) {
        if let Some(iface) = self.iface.as_deref_mut() {
            let set = set.unwrap_or(&mut self.control);
            iface.poll_ingress_single(instant(now), &mut Device::mute(frame, &mut self.tx), set);
        }
    }

    /// Lets `set` send what it has to. Returns when it wants to be asked again, at the latest.
    pub fn egress(&mut self, now: u64, set: &mut SocketSet<'static>) -> u64 {
        match self.iface.as_deref_mut() {
            Some(iface) => drain(iface, &mut self.tx, now, set),
            None => u64::MAX,
        }
    }

    /// Adds a socket that is no client's, and lets it send.
    pub fn add_control<T: smoltcp::socket::AnySocket<'static>>(
        &mut self,
        socket: T,
        now: u64,
    ) -> SocketHandle {
        self.deadline = now;
        self.control.add(socket)
    }

    /// Takes it away.
    pub fn remove_control(&mut self, handle: SocketHandle) {
        self.control.remove(handle);
    }

    /// The socket that [`Self::add_control`] was given.
    pub fn control_mut<T: smoltcp::socket::AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.control.get_mut(handle)
    }

    fn router_for(&self, remote: IpAddress) -> Option<IpAddress> {
        let routes = self.iface.as_deref()?.routes();
        match remote {
            IpAddress::Ipv4(_) => routes.get_default_ipv4_route(),
            IpAddress::Ipv6(_) => routes.get_default_ipv6_route(),
        }
        .map(|route| route.via_router)
    }
}

/// Lets the sockets of `set` send, within the budget. Returns when they want to be asked again, at the latest.
fn drain(iface: &mut Interface, tx: &mut Tx, now: u64, set: &mut SocketSet<'static>) -> u64 {
    let at = instant(now);
    for _ in 0..EGRESS_BUDGET {
        if tx.blocked || iface.poll_egress(at, &mut Device::idle(tx), set) == PollResult::None {
            break;
        }
    }
    iface.poll_at(at, set).map_or(u64::MAX, nanos)
}

fn version(address: IpAddress) -> IpVersion {
    match address {
        IpAddress::Ipv4(_) => IpVersion::Ipv4,
        IpAddress::Ipv6(_) => IpVersion::Ipv6,
    }
}
