//! One network interface of a brane (IfNet): smoltcp's interface, its way out, its addresses, and what keeps them alive.
//!
//! Frames come from any host; they reach this module checked by [`crate::frame`]. The device behind it belongs to the trusted
//! driver. Datagrams are in `datagrams.rs`, what it does by itself in `upkeep.rs`, its report in `status.rs`.

mod datagrams;
mod status;
mod upkeep;

pub use datagrams::UDP_LONGEST;
pub use upkeep::usable;

use crate::device::{Device, Tx};
use crate::parked::Parked;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::control::InterfaceConfig;
use brane_abi::port::PortInfo;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, raw, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpProtocol, IpVersion};

/// Frames that one socket may send before the next one's turn.
const EGRESS_BUDGET: usize = 64;

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

    /// Lets `set` send what it has to. Returns when it wants to be asked again, at the latest.
    pub fn egress(&mut self, now: u64, set: &mut SocketSet<'static>) -> u64 {
        match self.iface.as_deref_mut() {
            Some(iface) => drain(iface, &mut self.tx, now, set),
            None => u64::MAX,
        }
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
