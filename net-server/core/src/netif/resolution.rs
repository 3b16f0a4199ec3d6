//! How an interface finds its neighbours: what is asked, what is answered, and what smoltcp is shown.
//!
//! ARP and neighbour discovery come from any host. They end here: [`crate::neighbor::table`] says what they change, and smoltcp gets
//! messages of our making, about neighbours that the brane sends to.

use super::{NetIf, instant};
use crate::eth::device::Device;
use crate::neighbor::messages;
use crate::neighbor::table::{self, Claim, Message, Neighbours, Update, Way};
use smoltcp::wire::{IpAddress, IpCidr};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborInput {
    /// It is about no neighbour, and for smoltcp.
    Other,
    /// It is dealt with.
    Handled,
    /// It says where this neighbour is, which the brane has waited for.
    Resolved(IpAddress),
}

impl NetIf {
    /// A frame of ARP or ICMPv6 has come in.
    pub fn neighbor_input(&mut self, now: u64, frame: &[u8]) -> NeighborInput {
        if let Some(ip) = self.tx.asked.take() {
            self.neighbours.asked(now, ip);
        }
        let (ip, mac, claim) = match table::read(frame) {
            None => return NeighborInput::Other,
            Some(Message::Senseless) => {
                self.received.errors += 1;
                return NeighborInput::Handled;
            }
            Some(Message::Arp {
                request,
                sender,
                mac,
                target,
            }) => {
                let ours = request && self.owns(target.into());
                let near = self.is_near(sender.into());
                if mac[0] & 1 != 0 || mac == [0; 6] || !(near || sender.is_unspecified()) {
                    return NeighborInput::Handled;
                }
                if ours {
                    messages::answer(&mut self.tx, self.mac, target, mac, sender);
                }
                if !near {
                    return NeighborInput::Handled;
                }
                let claim = if ours {
                    Claim::Request
                } else {
                    Claim::Reply { overrides: true }
                };
                (sender.into(), mac, claim)
            }
            Some(Message::Solicitation { sender, mac, target }) => {
                if !self.owns(target.into()) || self.owns(sender.into()) {
                    return NeighborInput::Handled;
                }
                let station = mac.or_else(|| frame.get(6..12)?.first_chunk().copied());
                let (Some(station), false) = (station, sender.is_unspecified()) else {
                    messages::advertise(&mut self.tx, self.mac, target, None);
                    return NeighborInput::Handled;
                };
                if station[0] & 1 != 0 {
                    return NeighborInput::Handled;
                }
                messages::advertise(&mut self.tx, self.mac, target, Some((sender, station)));
                let Some(mac) = mac else {
                    return NeighborInput::Handled;
                };
                (sender.into(), mac, Claim::Request)
            }
            Some(Message::Advertisement {
                target,
                mac,
                overrides,
            }) => match mac {
                Some(mac) if !self.owns(target.into()) => (target.into(), mac, Claim::Reply { overrides }),
                _ => return NeighborInput::Handled,
            },
        };
        match self.neighbours.update(now, ip, mac, claim) {
            Update::None => NeighborInput::Handled,
            Update::Changed => {
                self.show(now, ip, mac);
                NeighborInput::Handled
            }
            Update::Resolved => {
                self.show(now, ip, mac);
                NeighborInput::Resolved(ip)
            }
        }
    }

    /// Makes sure that smoltcp knows the neighbour by which a packet to `remote` goes. Returns false if that has to be asked for
    /// first; then the question is on its way.
    pub fn resolve(&mut self, now: u64, remote: IpAddress) -> bool {
        self.resolve_by(now, remote, Neighbours::want)
    }

    /// The same for an answer to a stranger's frame.
    pub fn resolve_for_stranger(&mut self, now: u64, frame: &[u8]) {
        let address = match frame.get(12..14) {
            Some([8, 0]) => frame
                .get(26..)
                .and_then(|bytes| bytes.first_chunk::<4>())
                .map(|a| IpAddress::Ipv4((*a).into())),
            Some([0x86, 0xdd]) => frame
                .get(22..)
                .and_then(|bytes| bytes.first_chunk::<16>())
                .map(|a| IpAddress::Ipv6((*a).into())),
            _ => None,
        };
        if let Some(address) = address {
            self.resolve_by(now, address, Neighbours::want_for_stranger);
        }
    }

    fn resolve_by(
        &mut self,
        now: u64,
        remote: IpAddress,
        want: fn(&mut Neighbours, u64, IpAddress) -> Way,
    ) -> bool {
        if self.is_loopback() || !remote.is_unicast() || self.is_broadcast(remote) || self.iface.is_none() {
            return true;
        }
        let Some(hop) = self.next_hop(remote) else {
            return true;
        };
        match want(&mut self.neighbours, now, hop) {
            Way::Ready => {}
            Way::Show(mac) => self.show(now, hop, mac),
            Way::Refresh => self.ask(hop),
            Way::Ask => {
                self.ask(hop);
                return false;
            }
            Way::Wait => return false,
        }
        true
    }

    /// smoltcp has not sent a datagram although it was shown the neighbour: shows it again, and lets it try again.
    pub(super) fn show_again(&mut self, now: u64, remote: IpAddress) {
        if let Some(hop) = self.next_hop(remote) {
            self.neighbours.lost(hop);
            if self.resolve(now, remote)
                && let Some(iface) = self.iface.as_deref_mut()
            {
                iface.poll_egress(instant(now), &mut Device::idle(&mut self.tx), &mut self.udp);
            }
        }
    }

    /// Whose station a packet to `remote` goes to.
    pub fn next_hop(&self, remote: IpAddress) -> Option<IpAddress> {
        if self.addresses.iter().any(|cidr| cidr.contains_addr(&remote)) {
            return Some(remote);
        }
        // Link-local addresses are on every link.
        match remote {
            IpAddress::Ipv6(a) if a.is_unicast_link_local() => Some(remote),
            _ => self.router_for(remote),
        }
    }

    /// Whether an IPv4 address can be a neighbour's.
    fn is_near(&self, address: IpAddress) -> bool {
        let here = |cidr: &IpCidr| matches!(cidr, IpCidr::Ipv4(_)) && cidr.contains_addr(&address);
        address.is_unicast()
            && !self.is_broadcast(address)
            && !self.owns(address)
            && self.addresses.iter().any(here)
    }

    fn ask(&mut self, hop: IpAddress) {
        if let Some(source) = self.source_for(hop) {
            messages::solicit(&mut self.tx, self.mac, source, hop);
        }
    }

    /// Shows smoltcp where a neighbour is.
    fn show(&mut self, now: u64, ip: IpAddress, mac: [u8; 6]) {
        let same = |cidr: &&IpCidr| match ip {
            // smoltcp believes hosts of the network only, and who answers to one of our addresses there.
            IpAddress::Ipv4(_) => cidr.contains_addr(&ip),
            IpAddress::Ipv6(_) => matches!(cidr, IpCidr::Ipv6(_)),
        };
        let us = self.addresses.iter().find(same).map(IpCidr::address);
        let message = us.and_then(|us| table::shown(us, self.mac, ip, mac));
        if let Some((frame, len)) = message {
            self.ingress(now, &frame[..len], None);
        }
    }
}
