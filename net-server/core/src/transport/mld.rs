//! MLD (RFC 3810), host side, with the behaviour of MLDv1 (RFC 2710) if an older querier is present.
//!
//! Owns the IPv6 groups of the brane, those of its own addresses among them. Messages come from any host on the link. The state is in
//! [`super::membership`].

use super::igmp::code8;
use super::membership::{Groups, Kind, Mode, Query, Wire};
use crate::family::{Account, Shortage};
use crate::headers::wire::number;
use crate::headers::{Packet, Reason};
use crate::ip::address::{is_link_local6, stays_inside6};
use crate::ip::checksum;
use crate::ip::output::{Head, send_to_group};
use crate::net::Net;
use crate::netif::{NetIf, link_local};
use crate::protosw::{Outcome, Protocol};
use crate::transport::icmp;
use brane_abi::control::Family;
use core::net::Ipv6Addr;
use smoltcp::wire::{IpAddress, IpCidr};

/// All nodes of a link. Membership in it is never reported (RFC 3810, 6).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of a link (RFC 2710, 3.7).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Routers that speak MLDv2 (RFC 3810, 5.2.14).
const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;

/// Length of a query of version 1, and of one of version 2 without sources, in bytes (RFC 3810, 8.1).
const QUERY_V1: usize = 24;
const QUERY_V2: usize = 28;
/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

/// Messages of MLD.
pub struct Mld6;

fn send(netif: &mut NetIf, source: IpAddress, dst: Ipv6Addr, len: usize, fill: impl FnOnce(&mut [u8])) {
    let dst = IpAddress::Ipv6(dst);
    let head = Head {
        src: source,
        dst,
        number: number::ICMPV6,
        ttl: 1,
        alert: true,
    };
    send_to_group(netif, &head, len, |room| {
        room.fill(0);
        fill(room);
        let pseudo = checksum::pseudo_header(source, dst, number::ICMPV6, len).unwrap_or(0);
        let sum = !checksum::add(pseudo, checksum::sum(room));
        room[2..4].copy_from_slice(&sum.to_be_bytes());
    });
}

fn old(netif: &mut NetIf, source: IpAddress, dst: Ipv6Addr, kind: u8, group: Ipv6Addr) {
    send(netif, source, dst, QUERY_V1, |room| {
        room[0] = kind;
        room[8..].copy_from_slice(&group.octets());
    });
}

/// Returns the group of an address's solicitations (RFC 4291, 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0xff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

impl Wire for Mld6 {
    /// The link-local address (RFC 3810, 5.2.13).
    fn source(netif: &NetIf) -> Option<IpAddress> {
        Some(link_local(netif.mac).into()).filter(|address| netif.owns(*address))
    }

    fn is_reported(group: IpAddress) -> bool {
        matches!(group, IpAddress::Ipv6(group) if group != ALL_NODES && !stays_inside6(group))
    }

    fn own(netif: &NetIf, mut add: impl FnMut(IpAddress)) {
        for cidr in netif.addresses() {
            if let IpCidr::Ipv6(own) = cidr {
                add(solicited_node(own.address()).into());
            }
        }
    }

    fn report(netif: &mut NetIf, source: IpAddress, records: &[(Kind, IpAddress)]) {
        // As many records as an MTU of 1280 bytes takes.
        for records in records.chunks(60) {
            send(netif, source, MLDV2_ROUTERS, 8 + 20 * records.len(), |room| {
                room[0] = REPORT_V2;
                room[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
                for (out, (kind, group)) in room[8..].chunks_exact_mut(20).zip(records) {
                    out[0] = *kind as u8;
                    if let IpAddress::Ipv6(group) = group {
                        out[4..].copy_from_slice(&group.octets());
                    }
                }
            });
        }
    }

    fn old_report(netif: &mut NetIf, source: IpAddress, _: Mode, group: IpAddress) {
        if let IpAddress::Ipv6(group) = group {
            old(netif, source, group, REPORT_V1, group);
        }
    }

    fn old_leave(netif: &mut NetIf, source: IpAddress, group: IpAddress) {
        if let IpAddress::Ipv6(group) = group {
            old(netif, source, ALL_ROUTERS, DONE, group);
        }
    }
}

fn group(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?))
}

/// Decodes a maximum response code (RFC 3810, 5.1.3).
fn code16(code: u16) -> u64 {
    match code {
        0..0x8000 => code.into(),
        _ => u64::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

/// Reads a query; `None` if its length is that of no version (RFC 3810, 8.1), or if its group is none.
fn query(bytes: &[u8]) -> Option<Query> {
    let about = group(bytes)?;
    if !about.is_unspecified() && !about.is_multicast() {
        return None;
    }
    let code = u16::from_be_bytes([bytes[4], bytes[5]]);
    let (mode, delay, robustness, interval) = match bytes.len() {
        QUERY_V1 => (Mode::Older, code.into(), 0, 0),
        QUERY_V2.. => (
            Mode::Current,
            code16(code),
            bytes[24] & 7,
            code8(bytes[25]) * 1000,
        ),
        _ => return None,
    };
    Some(Query {
        mode,
        group: (!about.is_unspecified()).then_some(about.into()),
        delay: delay * MS,
        robustness,
        interval: interval * MS,
    })
}

/// MLD of a brane, part of the family `inet6`.
#[derive(Default)]
pub struct Mld {
    /// The groups.
    pub groups: Groups<Mld6>,
}

impl Mld {
    /// Returns true for messages of group membership.
    pub fn wants(_: &Net, packet: &Packet<'_>) -> bool {
        matches!(
            packet.bytes().first(),
            Some(&(QUERY | REPORT_V1 | DONE | REPORT_V2))
        )
    }
}

impl Protocol for Mld {
    fn create(&mut self, _: Family, account: &mut Account) -> Result<(), Shortage> {
        self.groups.create(account)
    }

    fn start(&mut self, _: Family) {
        self.groups.invalidate();
    }

    fn destroy(&mut self, _: Family, account: &mut Account) {
        self.groups.destroy(account);
    }

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        if !packet.is_from_link() {
            return Outcome::Done;
        }
        let dst = packet.dst;
        // A query is for any address of the interface, or for a group that it has joined (RFC 3810, 5.1.15). Reports are for routers.
        if dst.is_multicast() && dst != IpAddress::Ipv6(ALL_NODES) && !self.groups.has(packet.netif, dst) {
            return Outcome::Done;
        }
        if let Err(reason) = icmp::check(net, packet) {
            return Outcome::Malformed(reason);
        }
        let bytes = packet.bytes();
        let [kind @ (QUERY | REPORT_V1), code, ..] = *bytes else {
            return Outcome::Done;
        };
        // RFC 3810, 6.2 and 5.1.14: hop limit 1, a link-local source and the router alert.
        let local = matches!(packet.src, IpAddress::Ipv6(src) if is_link_local6(src));
        let hop_limit = packet.frame.get(packet.start + 7);
        if code != 0 || hop_limit != Some(&1) || !local || !net.router_alert {
            return Outcome::Malformed(Reason::Header);
        }
        match (kind, query(bytes), group(bytes)) {
            (QUERY, Some(query), _) => self.groups.query(now, net, packet.netif, query),
            (REPORT_V1, _, Some(group)) => {
                if IpAddress::Ipv6(group) == dst {
                    self.groups.heard(now, packet.netif, dst);
                }
            }
            _ => return Outcome::Malformed(Reason::Header),
        }
        Outcome::Done
    }

    fn invalidate_caches(&mut self) {
        self.groups.invalidate();
    }

    fn deadline(&self) -> u64 {
        self.groups.deadline()
    }

    fn poll(&mut self, now: u64, net: &mut Net) {
        self.groups.poll(now, net);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_groups_are_those_of_the_rfc() {
        assert_eq!(
            [0, 10_000, 0x7fff, 0x8000, 0xffff].map(code16),
            [0, 10_000, 32767, 32768, 8_387_584]
        );
        let own: Ipv6Addr = "fe80::77:ff:fe12:3456".parse().unwrap();
        assert_eq!(solicited_node(own).to_string(), "ff02::1:ff12:3456");
    }
}
