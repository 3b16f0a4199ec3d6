//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo requests of the brane itself. Messages come from any host.

mod echo;

use crate::net::Net;
use crate::query::Requester;
use alloc::vec::Vec;
use brane_abi::query::{Answer, Refusal};
use echo::Ping;

/// ICMP of a brane.
#[derive(Default)]
pub struct Icmp {
    pings: Vec<Ping>,
    /// Answers to requests that have ended.
    pub(crate) done: Vec<(Requester, Answer)>,
}

impl Icmp {
    /// Returns those that wait for an echo reply.
    pub(crate) fn requesters(&self) -> impl Iterator<Item = Requester> {
        self.pings.iter().map(|ping| ping.requester)
    }

    /// Returns true if no echo request is under way and all answers were taken.
    pub fn is_idle(&self) -> bool {
        self.pings.is_empty() && self.done.is_empty()
    }

    /// Returns the earliest deadline of an echo request, in nanoseconds.
    pub fn deadline(&self) -> u64 {
        let pings = self.pings.iter().map(|ping| ping.until);
        pings.min().unwrap_or(u64::MAX)
    }

    /// Ends the requests over an interface that is removed.
    pub(crate) fn end_over(&mut self, index: usize) {
        let Icmp { pings, done } = self;
        let gone = pings.extract_if(.., |ping| ping.netif == index);
        done.extend(gone.map(|ping| (ping.requester, Answer::Refused(Refusal::InterfaceIsGone))));
    }

    /// Ends the requests of a client that is gone.
    pub(crate) fn forget(&mut self, net: &mut Net, is_gone: impl Fn(&Requester) -> bool) {
        self.done.retain(|(requester, _)| !is_gone(requester));
        for ping in self.pings.extract_if(.., |ping| is_gone(&ping.requester)) {
            net.netifs[ping.netif].remove_control(ping.handle);
        }
    }
}
