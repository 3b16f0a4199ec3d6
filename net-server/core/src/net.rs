//! What all protocols of a brane use: its interfaces, counters, unpredictable numbers, and errors to other hosts.
//!
//! Frames come from any host. [`Net`] owns no socket and knows no protocol above IP.

use crate::counters::Counters;
use crate::headers::Reason;
use crate::ip::icmp_error::{self, Cause, Limit};
use crate::netif::NetIf;
use alloc::vec::Vec;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use slab::Slab;
use smoltcp::wire::IpAddress;

/// Ports that the brane picks by itself (RFC 6335, 6).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// Time in nanoseconds after which a deadline that has passed without effect is tried again: 10 ms.
pub(crate) const STALLED: u64 = 10_000_000;

/// Longest frame that is copied to be changed before it goes on, in bytes. Longer ones are dropped, because no sound one is longer
/// than an MTU.
pub const COPY: usize = 4096;

/// Interfaces and shared means of a brane.
pub struct Net {
    /// The interfaces, `lo0` first. The number of an interface does not change. It is used again when nothing names the interface any
    /// more.
    pub netifs: Slab<NetIf>,
    /// Counters of the brane.
    pub counters: Counters,
    /// Limits the ICMP errors that the brane sends.
    errors: Limit,
    /// A copy of a message that smoltcp sees in place of the received one.
    pub(crate) edited: Vec<u8>,
    /// The packet that is handled had the option router alert in its hop-by-hop options (RFC 2711).
    pub(crate) router_alert: bool,
    rng: ChaCha12Rng,
}

impl Net {
    /// Makes `lo0` and nothing else. `rng` must be unpredictable.
    pub fn new(mut rng: ChaCha12Rng, now: u64) -> Net {
        Net {
            netifs: Slab::from_iter([(0, NetIf::loopback(rng.next_u64(), now))]),
            counters: Counters::default(),
            errors: Limit::new(now),
            edited: Vec::with_capacity(COPY),
            router_alert: false,
            rng,
        }
    }

    /// Returns an unpredictable number.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Returns the source of unpredictable numbers.
    pub(crate) fn rng(&mut self) -> &mut ChaCha12Rng {
        &mut self.rng
    }

    /// Returns true if an address is one of the brane's own.
    pub fn owns(&self, address: IpAddress) -> bool {
        self.netifs.iter().any(|(_, netif)| netif.owns(address))
            || matches!(address, IpAddress::Ipv4(a) if a.is_loopback())
                && self.netifs.get(0).is_some_and(|lo0| lo0.contains(address))
    }

    /// Returns true if no other host can send from this address: it is one of the brane's own, or the broadcast address of a
    /// network that the brane is in (RFC 1122, 3.2.1.3).
    pub(crate) fn is_ours(&self, src: IpAddress) -> bool {
        self.netifs
            .iter()
            .any(|(_, netif)| netif.owns(src) || netif.is_broadcast(src))
    }

    /// Returns the interface that leads to an address best: `lo0` for the brane's own.
    pub fn route(&self, address: IpAddress) -> Option<usize> {
        if self.owns(address) {
            return Some(0);
        }
        let netifs = self.netifs.iter().skip(1);
        netifs
            .filter_map(|(index, netif)| Some((netif.leads_to(address)?, core::cmp::Reverse(index))))
            .max()
            .map(|(_, index)| index.0)
    }

    /// Returns the address that packets to `remote` through an interface come from.
    pub fn source(&self, netif: usize, remote: IpAddress) -> Option<IpAddress> {
        if netif == 0 {
            Some(remote)
        } else {
            self.netifs.get(netif)?.source_for(remote)
        }
    }

    /// Returns the interface of that name. Names of interfaces are looked up here only.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.netifs
            .iter()
            .find(|(_, netif)| netif.name == name)
            .map(|(index, _)| index)
    }

    /// Returns the interface on a port of the brane.
    pub fn at_port(&self, port: usize) -> Option<usize> {
        self.netifs
            .iter()
            .find(|(_, netif)| netif.port() == Some(port))
            .map(|(index, _)| index)
    }

    /// Picks a port that is free, at random. Returns `None` if none is.
    pub(crate) fn pick_port(&mut self, free: impl Fn(u16) -> bool) -> Option<u16> {
        let (first, last) = (*EPHEMERAL.start(), *EPHEMERAL.end());
        let count = u32::from(last - first) + 1;
        let start = (self.random() % u64::from(count)) as u32;
        (0..count)
            .map(|n| first + ((start + n) % count) as u16)
            .find(|port| free(*port))
    }

    /// Counts a frame that is dropped.
    pub(crate) fn malformed(&mut self, index: usize, reason: Reason) {
        if let Some(netif) = self.netifs.get_mut(index) {
            netif.received.errors += 1;
        }
        self.counters.dropped(reason);
    }

    /// Reports a packet that the brane does not take to its sender. Returns true if an error was sent: some packets must not be
    /// answered, and the number of errors is limited.
    pub(crate) fn unknown(&mut self, now: u64, index: usize, frame: &[u8], cause: Cause) -> bool {
        let Some(netif) = self.netifs.get_mut(index) else {
            return false;
        };
        if !icmp_error::may_answer(netif, frame) {
            return false;
        }
        if !self.errors.take(now) {
            self.counters.errors_limited += 1;
            return false;
        }
        icmp_error::send(netif, frame, cause)
    }

    /// Brings the counts of frames up to date.
    pub fn count_frames(&mut self) {
        for (_, netif) in self.netifs.iter_mut() {
            if netif.is_loopback() {
                netif.tx.count_looped(&mut self.counters);
            } else {
                netif.tx.count(&mut self.counters);
            }
        }
    }

    /// Returns the time at which [`Self::poll`] must be called.
    pub fn deadline(&self) -> u64 {
        let netifs = self.netifs.iter().map(|(_, netif)| netif.deadline);
        netifs.fold(u64::MAX, u64::min)
    }

    /// Returns true if frames of an interface have found no room since the last look.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.netifs.iter().any(|(_, netif)| netif.tx.blocked)
    }

    /// Does the work of the interfaces that is due. Returns true if addresses have changed.
    pub fn poll(&mut self, now: u64) -> bool {
        let mut changed = false;
        for (_, netif) in self.netifs.iter_mut() {
            if netif.deadline <= now {
                netif.retry_pending(now, &mut self.counters);
                changed |= netif.poll(now);
                if netif.deadline <= now {
                    netif.deadline = now + STALLED;
                }
            }
        }
        changed
    }
}
