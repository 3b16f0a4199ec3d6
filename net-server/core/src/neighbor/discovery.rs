//! Input of ARP (RFC 826), and of neighbour and router discovery (RFC 4861).
//!
//! Messages come from any host on the link. Those about neighbours end in the interface's table; smoltcp is shown the others,
//! after [`crate::smoltcp_guard`] has judged them.

use crate::family::{Account, Shortage};
use crate::headers::{Packet, Reason};
use crate::net::Net;
use crate::netif::NeighborInput;
use crate::protosw::{Outcome, Protocol};
use crate::smoltcp_guard::{self, Verdict};
use crate::transport::icmp;
use brane_abi::control::Family;

/// Handles an ARP message. On `lo0` there is none.
pub fn arp_input(now: u64, net: &mut Net, index: usize, frame: &[u8]) -> Outcome {
    let forged = smoltcp_guard::arp_sender(frame).is_some_and(|sender| net.is_ours(sender.into()));
    if forged {
        return Outcome::Malformed(Reason::Address);
    }
    let Some(netif) = net.netifs.get_mut(index) else {
        return Outcome::Done;
    };
    match netif.neighbor_input(now, frame) {
        NeighborInput::Handled => return Outcome::Done,
        NeighborInput::Resolved(hop) => return Outcome::Resolved(hop),
        NeighborInput::Other => {}
    }
    netif.ingress(now, frame, None);
    netif.deadline = now;
    Outcome::Done
}

/// ICMPv6 messages that belong to the family `inet6` and work without the protocol `icmp6`.
pub struct Discovery;

impl Discovery {
    /// Returns true for messages of discovery.
    pub fn wants(_: &Net, packet: &Packet<'_>) -> bool {
        matches!(packet.bytes().first(), Some(133..=137))
    }
}

impl Protocol for Discovery {
    fn create(&mut self, _: Family, _: &mut Account) -> Result<(), Shortage> {
        Ok(())
    }

    fn destroy(&mut self, _: Family, _: &mut Account) {}

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        if let Err(reason) = icmp::check(net, packet) {
            return Outcome::Malformed(reason);
        }
        let Net { netifs, edited, .. } = net;
        let Some(netif) = netifs.get_mut(packet.netif) else {
            return Outcome::Done;
        };
        // lo0 has no neighbours.
        let Some((mac, taken)) = netif.guarded() else {
            return Outcome::Done;
        };
        let frame = match smoltcp_guard::discovery(packet.frame, mac, taken, edited) {
            Verdict::Pass => packet.frame,
            Verdict::Edited => edited,
            Verdict::Drop => return Outcome::Malformed(Reason::Header),
        };
        match netif.neighbor_input(now, frame) {
            NeighborInput::Handled => return Outcome::Done,
            NeighborInput::Resolved(hop) => return Outcome::Resolved(hop),
            NeighborInput::Other => {}
        }
        netif.ingress(now, frame, None);
        netif.learn_name_server(now, frame);
        netif.deadline = now;
        Outcome::Done
    }
}
