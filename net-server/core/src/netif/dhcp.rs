//! Input of the DHCP client (RFC 2131). smoltcp implements the client; this is the way of the server's messages to it.
//!
//! Messages come from any host on the link. [`crate::smoltcp_guard`] judges them.

use crate::family::{Account, Shortage};
use crate::headers::{Packet, Reason};
use crate::net::Net;
use crate::protosw::{Outcome, Protocol};
use crate::smoltcp_guard::{self, Verdict};
use crate::transport::udp::Header;
use brane_abi::control::Family;

/// UDP port 67 (server) and UDP port 68 (client), as they stand in a message to the client.
const PORTS: [u8; 4] = [0, 67, 0, 68];

/// The DHCP clients of all interfaces. They work without the protocol `udp`.
pub struct Dhcp;

impl Dhcp {
    /// Returns true for messages to the DHCP client of an interface that has one.
    pub fn wants(net: &Net, packet: &Packet<'_>) -> bool {
        packet.bytes().starts_with(&PORTS)
            && net.netifs.get(packet.netif).is_some_and(|netif| netif.has_dhcp())
    }
}

impl Protocol for Dhcp {
    fn create(&mut self, _: Family, _: &mut Account) -> Result<(), Shortage> {
        Ok(())
    }

    fn destroy(&mut self, _: Family, _: &mut Account) {}

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        let udp = match Header::read(packet) {
            Ok(udp) => udp,
            Err(reason) => return Outcome::Malformed(reason),
        };
        if packet.is_from_link() && net.is_ours(packet.src) {
            return Outcome::Malformed(Reason::Address);
        }
        let Net { netifs, edited, .. } = net;
        let Some(netif) = netifs.get_mut(packet.netif) else {
            return Outcome::Done;
        };
        // smoltcp knows its transaction by another number than the server.
        let disguise = netif.tx.disguise.as_deref();
        let Some((at, xid)) = disguise.and_then(|d| d.incoming(packet.frame, udp.payload)) else {
            return Outcome::Done;
        };
        match smoltcp_guard::dhcp(packet.frame, udp.payload, udp.len, edited) {
            Verdict::Edited => {}
            Verdict::Pass if packet.frame.len() <= edited.capacity() => {
                edited.clear();
                edited.extend_from_slice(packet.frame);
            }
            Verdict::Pass | Verdict::Drop => return Outcome::Malformed(Reason::Header),
        }
        if let Some(field) = edited.get_mut(at..at + xid.len()) {
            field.copy_from_slice(&xid);
        }
        netif.ingress_mute(now, edited, None);
        netif.deadline = now;
        Outcome::Done
    }
}
