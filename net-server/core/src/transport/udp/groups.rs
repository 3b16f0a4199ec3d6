//! Groups that UDP sockets have joined, datagrams to groups, and copies of a group's datagrams for its members.
//!
//! Owns who has joined what. What routers are told is in [`crate::transport::membership`]. Clients are not trusted: each has a bounded
//! share of the table.

use super::{Datagram, Header, Udp, UdpSocket};
use crate::family::{Purchase, Shortage, family_of};
use crate::headers::Packet;
use crate::headers::wire::{UDP_HEADER, number};
use crate::ip::checksum;
use crate::ip::output::{Head, send_to_group};
use crate::net::Net;
use crate::protosw::Outcome;
use crate::transport::udp::rx_flow_cache::Delivery;
use alloc::vec::Vec;
use brane_abi::socket::error;
use smoltcp::wire::{IpAddress, IpCidr};

/// Memberships of all sockets of a brane.
const MEMBERSHIPS: usize = 64;
/// Memberships of all sockets of one client.
pub const PER_CLIENT: usize = 32;

/// How a socket sends to groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// The interface; `None` for the one that the route names.
    pub netif: Option<usize>,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Members in the brane itself get a copy.
    pub loops: bool,
}

impl Default for GroupOptions {
    /// One hop (RFC 1112, 6.1), and members in the brane get copies.
    fn default() -> GroupOptions {
        GroupOptions {
            netif: None,
            ttl: 1,
            loops: true,
        }
    }
}

/// A socket that has joined a group at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Membership {
    socket: UdpSocket,
    netif: usize,
    group: IpAddress,
}

/// All memberships of sockets.
#[derive(Default)]
pub(super) struct Memberships {
    all: Vec<Membership>,
    /// Client and slot of the receivers of the datagram that is being delivered.
    receivers: Vec<(usize, usize)>,
}

impl Memberships {
    /// Buys the tables.
    pub fn create(purchase: &mut Purchase<'_>) -> Result<Memberships, Shortage> {
        Ok(Memberships {
            all: purchase.vec(MEMBERSHIPS)?,
            receivers: purchase.vec(MEMBERSHIPS)?,
        })
    }

    fn has(&self, netif: usize, group: IpAddress) -> bool {
        self.all.iter().any(|m| m.netif == netif && m.group == group)
    }
}

impl Udp {
    /// Checks that a socket can join a group at an interface. Error: one of [`error`].
    pub(crate) fn check_join(&self, socket: &UdpSocket, netif: usize, group: IpAddress) -> Result<(), u32> {
        let wanted = Membership {
            socket: *socket,
            netif,
            group,
        };
        if self.groups.all.contains(&wanted) {
            return Err(error::ADDRESS_IN_USE);
        }
        let of_client = self
            .groups
            .all
            .iter()
            .filter(|m| m.socket.client == socket.client)
            .count();
        if of_client >= PER_CLIENT || self.groups.all.len() == self.groups.all.capacity() {
            return Err(error::NO_RESOURCES);
        }
        Ok(())
    }

    /// Notes that a socket has joined. [`Self::check_join`] has found room.
    pub(crate) fn add_member(&mut self, socket: &UdpSocket, netif: usize, group: IpAddress) {
        self.groups.all.push(Membership {
            socket: *socket,
            netif,
            group,
        });
    }

    /// Removes a membership. Returns false if there is none.
    pub(crate) fn remove_member(&mut self, socket: &UdpSocket, netif: usize, group: IpAddress) -> bool {
        let gone = Membership {
            socket: *socket,
            netif,
            group,
        };
        let at = self.groups.all.iter().position(|m| *m == gone);
        at.map(|at| self.groups.all.swap_remove(at)).is_some()
    }

    /// Removes one membership of a socket, if it has any. Returns interface and group.
    pub(crate) fn pop_membership(&mut self, socket: &UdpSocket) -> Option<(usize, IpAddress)> {
        let at = self.groups.all.iter().position(|m| m.socket == *socket)?;
        let gone = self.groups.all.swap_remove(at);
        Some((gone.netif, gone.group))
    }

    /// Removes the memberships at an interface that is removed.
    pub(crate) fn remove_netif(&mut self, netif: usize) {
        self.groups.all.retain(|m| m.netif != netif);
    }

    /// Handles a datagram that is not for one of the brane's own addresses: copies go to the members of its group.
    pub(super) fn group_input(&mut self, net: &Net, packet: &Packet<'_>, udp: &Header) -> Outcome {
        // A copy of what the brane has sent comes by lo0. It is for members at the interface of its source.
        let netif = match packet.is_from_link() {
            true => Some(packet.netif),
            false => net
                .netifs
                .iter()
                .find(|(_, netif)| netif.contains_own(udp.src))
                .map(|(index, _)| index),
        };
        let Some(netif) = netif.filter(|_| udp.dst.is_multicast()) else {
            return Outcome::Done;
        };
        let Memberships { all, receivers } = &mut self.groups;
        receivers.clear();
        let here = |m: &&Membership| (m.netif, m.group, m.socket.port) == (netif, udp.dst, udp.dst_port);
        // As long as the table, so there is room.
        receivers.extend(all.iter().filter(here).map(|m| (m.socket.client, m.socket.slot)));
        if receivers.is_empty() {
            return Outcome::Done;
        }
        Outcome::Group(Delivery::new(0, 0, udp), udp.payload..udp.payload + udp.len)
    }

    /// Returns client and slot of each receiver of the datagram for a group that was received last. [`Self::give_back_receivers`] takes
    /// the memory back.
    pub fn take_receivers(&mut self) -> Vec<(usize, usize)> {
        core::mem::take(&mut self.groups.receivers)
    }

    /// Takes the memory back that [`Self::take_receivers`] has lent.
    pub fn give_back_receivers(&mut self, receivers: Vec<(usize, usize)>) {
        self.groups.receivers = receivers;
    }

    /// Sends a datagram to a group. It does not leave in fragments. Never inlined, so that it costs other datagrams nothing.
    #[cold]
    #[inline(never)]
    pub(super) fn send_to_group(&mut self, net: &mut Net, datagram: &Datagram<'_>, fill: impl Fn(&mut [u8])) {
        let Datagram {
            src_port,
            local,
            remote,
            len,
            options,
        } = *datagram;
        let group = remote.addr;
        if !self.ports.has_family(family_of(group)) {
            net.counters.udp_no_route += 1;
            return;
        }
        let local = local.filter(|address| address.version() == group.version() && net.owns(*address));
        let owner = |address: IpAddress| net.netifs.iter().find(|(_, netif)| netif.owns(address));
        let named = local.and_then(owner).map(|(index, _)| index).or(options.netif);
        let index = named
            .or_else(|| net.route(group))
            .filter(|index| net.netifs.get(*index).is_some_and(|n| n.up));
        let Some(index) = index else {
            net.counters.udp_no_route += 1;
            return;
        };
        let source = local.or_else(|| match index {
            0 => {
                let mut own = net.netifs[0].addresses().iter().map(IpCidr::address);
                own.find(|address| address.version() == group.version())
            }
            _ => net.source(index, group),
        });
        let Some(source) = source else {
            net.counters.udp_no_route += 1;
            return;
        };
        let udp_len = UDP_HEADER + len;
        let head = Head {
            src: source,
            dst: group,
            number: number::UDP,
            ttl: options.ttl,
            alert: false,
        };
        let write = |room: &mut [u8]| {
            room[..2].copy_from_slice(&src_port.to_be_bytes());
            room[2..4].copy_from_slice(&remote.port.to_be_bytes());
            room[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
            room[6..8].copy_from_slice(&[0; 2]);
            fill(&mut room[UDP_HEADER..]);
            let pseudo = checksum::pseudo_header(source, group, number::UDP, udp_len).unwrap_or(0);
            let sum = !checksum::add(pseudo, checksum::sum(room));
            // Zero would mean that there is none (RFC 768).
            let sum = if sum == 0 { 0xffff } else { sum };
            room[6..8].copy_from_slice(&sum.to_be_bytes());
        };
        // With a limit of 0, and for groups inside the host, nothing leaves (RFC 1112, 6.1; RFC 4291, 2.7).
        let inside = matches!(group, IpAddress::Ipv6(group) if crate::ip::address::stays_inside6(group));
        let leaves = options.ttl != 0 && !inside;
        let loops = index == 0 || options.loops && self.groups.has(index, group);
        let sent = match (leaves, index) {
            (true, 1..) => send_to_group(&mut net.netifs[index], &head, udp_len, write),
            _ => true,
        };
        if !sent {
            net.counters.udp_bad_request += 1;
            return;
        }
        if loops && net.netifs[0].tx.has_room() {
            send_to_group(&mut net.netifs[0], &head, udp_len, write);
        }
        net.counters.udp_sent += 1;
    }
}
