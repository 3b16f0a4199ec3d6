//! IGMP (RFC 3376), host side, with the behaviour of IGMPv2 (RFC 2236) and IGMPv1 (RFC 1112) if an older querier is present.
//!
//! Owns the IPv4 groups of the brane. Messages come from any host on the link. The state is in [`super::membership`].

use super::membership::{Groups, Kind, Mode, Query, Wire};
use crate::family::{Account, Shortage};
use crate::headers::wire::{ICMP_HEADER, number};
use crate::headers::{Packet, Reason};
use crate::ip::checksum;
use crate::ip::output::{Head, send_to_group};
use crate::net::Net;
use crate::netif::NetIf;
use crate::protosw::{Outcome, Protocol};
use brane_abi::control::Family;
use core::net::Ipv4Addr;
use smoltcp::wire::{IpAddress, IpCidr};

/// All systems of a link. Membership in it is never reported (RFC 3376, 6).
const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All routers (RFC 2236, 9).
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Routers that speak IGMPv3 (RFC 3376, 4.2.14).
const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// Length of a query of version 3 without sources, in bytes (RFC 3376, 4.1).
const QUERY_V3: usize = 12;
/// A tenth of a second in nanoseconds.
const TENTH: u64 = 100_000_000;

/// Messages of IGMP.
pub struct Igmp4;

fn message(kind: u8, group: IpAddress) -> [u8; 8] {
    let mut message = [0; 8];
    message[0] = kind;
    if let IpAddress::Ipv4(group) = group {
        message[4..].copy_from_slice(&group.octets());
    }
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn send(netif: &mut NetIf, source: IpAddress, dst: IpAddress, len: usize, fill: impl FnOnce(&mut [u8])) {
    let head = Head {
        src: source,
        dst,
        number: number::IGMP,
        ttl: 1,
        alert: true,
    };
    send_to_group(netif, &head, len, fill);
}

impl Wire for Igmp4 {
    fn source(netif: &NetIf) -> Option<IpAddress> {
        let mut addresses = netif.addresses().iter().map(IpCidr::address);
        addresses.find(|address| matches!(address, IpAddress::Ipv4(_)))
    }

    fn is_reported(group: IpAddress) -> bool {
        group != IpAddress::Ipv4(ALL_SYSTEMS)
    }

    /// IPv4 addresses have no groups.
    fn own(_: &NetIf, _: impl FnMut(IpAddress)) {}

    fn report(netif: &mut NetIf, source: IpAddress, records: &[(Kind, IpAddress)]) {
        send(
            netif,
            source,
            IGMPV3_ROUTERS.into(),
            8 + 8 * records.len(),
            |room| {
                room.fill(0);
                room[0] = REPORT_V3;
                room[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
                for (out, (kind, group)) in room[8..].chunks_exact_mut(8).zip(records) {
                    out[0] = *kind as u8;
                    if let IpAddress::Ipv4(group) = group {
                        out[4..].copy_from_slice(&group.octets());
                    }
                }
                let sum = !checksum::sum(room);
                room[2..4].copy_from_slice(&sum.to_be_bytes());
            },
        );
    }

    fn old_report(netif: &mut NetIf, source: IpAddress, mode: Mode, group: IpAddress) {
        let kind = if mode == Mode::Oldest {
            REPORT_V1
        } else {
            REPORT_V2
        };
        send(netif, source, group, 8, |room| {
            room.copy_from_slice(&message(kind, group))
        });
    }

    fn old_leave(netif: &mut NetIf, source: IpAddress, group: IpAddress) {
        send(netif, source, ALL_ROUTERS.into(), 8, |room| {
            room.copy_from_slice(&message(LEAVE, group));
        });
    }
}

/// Decodes a time that is a number below 128, or a floating-point number (RFC 3376, 4.1.1 and 4.1.7).
pub(super) fn code8(code: u8) -> u64 {
    match code {
        0..128 => code.into(),
        _ => u64::from(code & 15 | 16) << ((code >> 4 & 7) + 3),
    }
}

/// Reads a query; `None` if its length is that of no version (RFC 3376, 7.1), or if its group is none.
fn query(bytes: &[u8]) -> Option<Query> {
    let [_, code, _, _, a, b, c, d, ref rest @ ..] = *bytes else {
        return None;
    };
    let group = Ipv4Addr::new(a, b, c, d);
    let about = (!group.is_unspecified()).then_some(IpAddress::Ipv4(group));
    if about.is_some() && !group.is_multicast() {
        return None;
    }
    let (mode, delay, robustness, interval) = match (rest, code) {
        // A query without a time is one of version 1, and answered within ten seconds (RFC 3376, 7.2.1).
        ([], 0) => (Mode::Oldest, 100 * TENTH, 0, 0),
        ([], _) => (Mode::Older, u64::from(code) * TENTH, 0, 0),
        ([qrv, qqic, ..], _) if bytes.len() >= QUERY_V3 => (
            Mode::Current,
            code8(code) * TENTH,
            qrv & 7,
            code8(*qqic) * 10 * TENTH,
        ),
        _ => return None,
    };
    Some(Query {
        mode,
        group: about,
        delay,
        robustness,
        interval,
    })
}

/// IGMP of a brane, part of the family `inet`.
#[derive(Default)]
pub struct Igmp {
    /// The groups.
    pub groups: Groups<Igmp4>,
}

impl Protocol for Igmp {
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
        if packet.len < ICMP_HEADER {
            return Outcome::Malformed(Reason::Truncated);
        }
        if checksum::sum(packet.bytes()) != 0xffff {
            return Outcome::Malformed(Reason::Checksum);
        }
        if !packet.is_from_link() {
            return Outcome::Done;
        }
        if net.is_ours(packet.src) {
            return Outcome::Malformed(Reason::Address);
        }
        // It has passed no router (RFC 3376, 4).
        if packet.frame.get(packet.start + 8) != Some(&1) {
            return Outcome::Malformed(Reason::Header);
        }
        let Some(netif) = net.netifs.get(packet.netif) else {
            return Outcome::Done;
        };
        match packet.bytes() {
            [QUERY, ..] => {
                let dst = packet.dst;
                // RFC 3376, 4.1.12: any address of the interface, or a group that it has joined.
                let ours = dst == IpAddress::Ipv4(ALL_SYSTEMS)
                    || netif.accepts(dst)
                    || self.groups.has(packet.netif, dst);
                match query(packet.bytes()) {
                    Some(query) if ours => self.groups.query(now, net, packet.netif, query),
                    Some(_) => {}
                    None => return Outcome::Malformed(Reason::Header),
                }
            }
            // A report suppresses ours, so its sender must be on the link (RFC 2236, 10).
            [REPORT_V1 | REPORT_V2, _, _, _, a, b, c, d, ..] => {
                let group = IpAddress::v4(*a, *b, *c, *d);
                if packet.dst == group && netif.contains(packet.src) {
                    self.groups.heard(now, packet.netif, group);
                }
            }
            _ => {}
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
    fn times_and_versions_are_read_as_the_rfc_says() {
        assert_eq!([0, 100, 127, 128, 0xff].map(code8), [0, 100, 127, 128, 31744]);
        let mode = |bytes: &[u8]| query(bytes).map(|query| (query.mode, query.delay / TENTH));
        assert_eq!(mode(&[QUERY, 0, 0, 0, 0, 0, 0, 0]), Some((Mode::Oldest, 100)));
        assert_eq!(mode(&[QUERY, 200, 0, 0, 239, 1, 2, 3]), Some((Mode::Older, 200)));
        assert_eq!(
            mode(&[QUERY, 200, 0, 0, 239, 1, 2, 3, 2, 125, 0, 0]),
            Some((Mode::Current, 3072))
        );
        // Between the lengths of two versions, and about no group.
        assert_eq!(mode(&[QUERY, 1, 0, 0, 0, 0, 0, 0, 2, 125]), None);
        assert_eq!(mode(&[QUERY, 1, 0, 0, 10, 1, 2, 3]), None);
    }
}
