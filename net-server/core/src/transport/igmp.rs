//! IGMP (RFC 3376): smoltcp answers queries about the groups of an interface. Messages come from any host on the link.

use crate::family::{Account, Shortage};
use crate::headers::wire::ICMP_HEADER;
use crate::headers::{Packet, Reason};
use crate::ip::checksum;
use crate::net::Net;
use crate::protosw::{Outcome, Protocol};
use brane_abi::control::Family;

/// Group membership of IPv4, part of the family `inet`.
pub struct Igmp;

impl Protocol for Igmp {
    fn create(&mut self, _: Family, _: &mut Account) -> Result<(), Shortage> {
        Ok(())
    }

    fn destroy(&mut self, _: Family, _: &mut Account) {}

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        if packet.len < ICMP_HEADER {
            return Outcome::Malformed(Reason::Truncated);
        }
        if checksum::sum(packet.bytes()) != 0xffff {
            return Outcome::Malformed(Reason::Checksum);
        }
        if packet.is_from_link() && net.is_ours(packet.src) {
            return Outcome::Malformed(Reason::Address);
        }
        if let Some(netif) = net.netifs.get_mut(packet.netif) {
            netif.ingress(now, packet.frame, None);
        }
        Outcome::Done
    }
}
