//! Joins and leaves: the sockets' side ([`crate::transport::udp`]) and the routers' side (IGMP, MLD) change together.
//!
//! Clients are not trusted: groups, interfaces and numbers are checked here and in the tables, whose sizes are fixed.

use super::Stack;
use crate::family::family_of;
use crate::transport::udp::UdpSocket;
use brane_abi::control::Family;
use brane_abi::socket::error;
use smoltcp::wire::IpAddress;

impl Stack {
    /// Joins a group at an interface for a socket. Error: one of [`error`].
    pub(crate) fn join(
        &mut self,
        now: u64,
        socket: &UdpSocket,
        netif: usize,
        group: IpAddress,
    ) -> Result<(), u32> {
        let family = family_of(group);
        if !group.is_multicast() || socket.local.is_some_and(|local| family_of(local) != family) {
            return Err(error::INVALID);
        }
        if !self.switch.has_family(family) {
            return Err(error::PROTOCOL_NOT_SUPPORTED);
        }
        let joined = self
            .udp
            .check_join(socket, netif, group)
            .and_then(|()| match family {
                Family::Inet => self.igmp.groups.join(now, netif, group),
                Family::Inet6 => self.mld.groups.join(now, netif, group),
            });
        self.note_own_deadline();
        match joined {
            Ok(()) => self.udp.add_member(socket, netif, group),
            Err(error::NO_RESOURCES) => self.net.counters.groups_refused += 1,
            Err(_) => {}
        }
        joined
    }

    /// Leaves a group at an interface for a socket. Error: one of [`error`].
    pub(crate) fn leave(
        &mut self,
        now: u64,
        socket: &UdpSocket,
        netif: usize,
        group: IpAddress,
    ) -> Result<(), u32> {
        if !self.udp.remove_member(socket, netif, group) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        self.left(now, netif, group);
        Ok(())
    }

    fn left(&mut self, now: u64, netif: usize, group: IpAddress) {
        match family_of(group) {
            Family::Inet => self.igmp.groups.leave(now, netif, group),
            Family::Inet6 => self.mld.groups.leave(now, netif, group),
        }
        self.note_own_deadline();
    }

    /// Ends a UDP socket: gives its port back and leaves its groups.
    pub(crate) fn close_udp(&mut self, now: u64, socket: &UdpSocket) {
        self.udp.unbind(socket);
        while let Some((netif, group)) = self.udp.pop_membership(socket) {
            self.left(now, netif, group);
        }
    }

    /// An interface is removed: no group is joined at it any more.
    pub(crate) fn leave_all_at(&mut self, netif: usize) {
        self.udp.remove_netif(netif);
        self.igmp.groups.remove_netif(netif);
        self.mld.groups.remove_netif(netif);
        self.note_own_deadline();
    }
}
