//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and errors about packets of the brane. Messages come from any host.
//!
//! smoltcp answers echo requests. Errors that the brane sends are in [`crate::ip::icmp_error`].

mod echo;
mod report;

pub use echo::EchoRequest;
pub use report::{Cause, ErrorReport};

use crate::family::{Account, Charge, Shortage};
use crate::headers::wire::ICMP_HEADER;
use crate::headers::{Packet, Reason};
use crate::ip::checksum;
use crate::neighbor::discovery::Discovery;
use crate::net::Net;
use crate::protosw::{Outcome, Protocol};
use crate::query::{PINGS, Requester};
use crate::transport::mld::Mld;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::query::{Answer, Refusal};
use echo::Ping;

/// Shortest ICMPv6 message in bytes (RFC 4443, 2.1).
const SHORTEST6: usize = 4;

/// Checks length, checksum and addresses of an ICMP or ICMPv6 message.
pub fn check(net: &Net, packet: &Packet<'_>) -> Result<(), Reason> {
    let (shortest, is_v6) = match packet.family {
        Family::Inet => (ICMP_HEADER, false),
        Family::Inet6 => (SHORTEST6, true),
    };
    if packet.len < shortest {
        return Err(Reason::Truncated);
    }
    let intact = match is_v6 {
        true => packet.has_checksum(packet.len),
        false => checksum::sum(packet.bytes()) == 0xffff,
    };
    if !intact {
        return Err(Reason::Checksum);
    }
    if !packet.is_from_link() {
        return Ok(());
    }
    let nameless =
        is_v6 && packet.src.is_unspecified() && !(Discovery::wants(net, packet) || Mld::wants(net, packet));
    if net.is_ours(packet.src) || nameless {
        return Err(Reason::Address);
    }
    // smoltcp takes an IPv6 address for its own if the last two bytes are.
    let owns = |dst| net.netifs.get(packet.netif).is_some_and(|netif| netif.owns(dst));
    if is_v6 && !packet.dst.is_multicast() && !owns(packet.dst) {
        return Err(Reason::NotForUs);
    }
    Ok(())
}

/// ICMP of a brane, for both families.
#[derive(Default)]
pub struct Icmp {
    /// Echo requests under way, by family.
    pings: [Vec<Ping>; 2],
    /// Answers to requests that have ended.
    pub(crate) done: Vec<(Requester, Answer)>,
    charges: [Option<Charge>; 2],
}

impl Icmp {
    /// Returns those that wait for an echo reply.
    pub(crate) fn requesters(&self) -> impl Iterator<Item = Requester> {
        self.pings.iter().flatten().map(|ping| ping.requester)
    }

    /// Returns true if no echo request is under way and all answers were taken.
    pub fn is_idle(&self) -> bool {
        self.pings.iter().all(Vec::is_empty) && self.done.is_empty()
    }

    /// Ends the requests over an interface that is removed.
    pub(crate) fn end_over(&mut self, index: usize) {
        let Icmp { pings, done, .. } = self;
        for pings in pings {
            let gone = pings.extract_if(.., |ping| ping.netif == index);
            done.extend(gone.map(|ping| (ping.requester, Answer::Refused(Refusal::InterfaceIsGone))));
        }
    }

    /// Ends the requests of a client that is gone.
    pub(crate) fn forget(&mut self, net: &mut Net, is_gone: impl Fn(&Requester) -> bool) {
        self.done.retain(|(requester, _)| !is_gone(requester));
        for pings in &mut self.pings {
            for ping in pings.extract_if(.., |ping| is_gone(&ping.requester)) {
                net.netifs[ping.netif].remove_control(ping.handle);
            }
        }
    }
}

impl Protocol for Icmp {
    fn create(&mut self, family: Family, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        self.pings[family as usize] = purchase.vec(PINGS)?;
        self.charges[family as usize] = Some(purchase.commit());
        Ok(())
    }

    fn destroy(&mut self, family: Family, account: &mut Account) {
        self.pings[family as usize] = Vec::new();
        let charge = self.charges[family as usize].take();
        charge.into_iter().for_each(|charge| account.refund(charge));
    }

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        if let Err(reason) = check(net, packet) {
            return Outcome::Malformed(reason);
        }
        let [kind, code, ..] = *packet.bytes() else {
            return Outcome::Done;
        };
        if let Some(cause) = Cause::read(packet.family, kind, code) {
            return match ErrorReport::read(net, packet, cause) {
                Some(report) => {
                    net.counters.icmp_errors += 1;
                    Outcome::Error(report)
                }
                None => {
                    net.counters.icmp_errors_stray += 1;
                    Outcome::Done
                }
            };
        }
        let Some(netif) = net.netifs.get_mut(packet.netif) else {
            return Outcome::Done;
        };
        if packet.is_from_link() {
            netif.resolve_for_stranger(now, packet.frame);
        }
        netif.ingress(now, packet.frame, None);
        // An answer may leave in fragments.
        if packet.family == Family::Inet6 || packet.frame.len() > netif.tx.caps.max_transmission_unit {
            netif.deadline = now;
        }
        if !self.is_idle() {
            self.echo_reply(now, net, packet);
        }
        Outcome::Done
    }

    fn deadline(&self) -> u64 {
        if self.pings.iter().all(Vec::is_empty) {
            return u64::MAX;
        }
        let pings = self.pings.iter().flatten().map(|ping| ping.until);
        pings.min().unwrap_or(u64::MAX)
    }
}
