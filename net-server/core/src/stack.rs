//! The brane's stack: its interfaces and protocols, and the way from a frame to the protocol that it is for.
//!
//! Frames come from any host, by way of the trusted driver. Nothing here knows of clients' memory; the sockets' users are in
//! [`crate::link::client`].

use crate::family::{Protosw, control_of, family_of};
use crate::headers::{self, Kind, Next, Reason};
use crate::ip::extensions;
use crate::ip::fragments::{self, Fragment, Fragments};
use crate::ip::icmp_error::Cause;
use crate::net::{COPY, Net};
use crate::netif::NeighborInput;
use crate::query::Queries;
use crate::smoltcp_guard::{self, Verdict};
use crate::transport::icmp::Icmp;
use crate::transport::tcp::Tcp;
use crate::transport::udp::rx_flow_cache::{self, Delivery};
use crate::transport::udp::{Datagram, Udp};
use alloc::vec::Vec;
use brane_abi::control::{Family, Protocol};
use core::ops::Range;
use foldhash::fast::FixedState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use smoltcp::wire::IpAddress;

/// Returns the error about the protocol that a packet's fixed header names.
fn no_protocol(family: Family) -> Cause {
    let pointer = match family {
        Family::Inet => 9,
        Family::Inet6 => 6,
    };
    Cause::Protocol { pointer }
}

/// The port of name servers.
const DNS: u16 = 53;

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or dropped and counted.
    Done,
    /// A datagram for a UDP socket: the caller delivers these bytes of the frame.
    Datagram(Delivery, Range<usize>),
    /// A packet is complete again: [`Stack::take_whole`] has it, to be handed in like a received frame.
    Reassembled,
    /// A packet had IPv6 extension headers: without them it is in [`Stack::stripped`] and to be handed in like a received frame.
    Stripped {
        /// Its transport checksum need not be verified.
        intact: bool,
    },
}

/// All interfaces and protocols of a brane.
pub struct Stack {
    /// Interfaces, counters, random numbers.
    pub net: Net,
    /// The brane's protocol switch.
    pub switch: Protosw,
    /// TCP.
    pub tcp: Tcp,
    /// UDP.
    pub udp: Udp,
    /// ICMP and ICMPv6.
    pub icmp: Icmp,
    /// Queries that are under way.
    pub queries: Queries,
    fragments: Fragments,
    /// A packet without its extension headers.
    pub stripped: Vec<u8>,
}

impl Stack {
    /// Makes a stack with `lo0` alone. `seed` must be unpredictable: sequence numbers and ports come from it.
    pub fn new(seed: [u8; 32], now: u64) -> Stack {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let hash = FixedState::with_seed(rng.next_u64());
        Stack {
            switch: Protosw::default(),
            tcp: Tcp::new(&mut rng, hash.clone()),
            udp: Udp::new(hash),
            icmp: Icmp::default(),
            queries: Queries::default(),
            fragments: Fragments::new(rng.next_u64()),
            stripped: Vec::with_capacity(COPY),
            net: Net::new(rng, now),
        }
    }

    /// The same as [`Self::frame`], for a frame that holds a datagram like one that was delivered a moment ago: to whom, and its
    /// payload. `None`, and nothing has happened, for any other frame. The transport checksum needs no verifying.
    #[inline]
    pub fn known<'a>(&mut self, now: u64, index: usize, frame: &'a [u8]) -> Option<(&Delivery, &'a [u8])> {
        let (family, flow, payload) = rx_flow_cache::plain(index, frame)?;
        let delivery = self.udp.rx_flow_cache.find(&flow)?;
        let netif = self.net.netifs.get_mut(index)?;
        if netif.refresh_is_due(now)
            || !self.switch.takes_family(family)
            || !self.switch.receive(family, Protocol::Udp)
        {
            return None;
        }
        netif.received.frames += 1;
        netif.received.bytes += frame.len() as u64;
        Some((delivery, payload))
    }

    /// A frame has come in on an interface. `intact`: its transport checksum need not be verified.
    pub fn frame(&mut self, now: u64, index: usize, frame: &[u8], intact: bool) -> Outcome {
        let Some(netif) = self.net.netifs.get_mut(index) else {
            return Outcome::Done;
        };
        let link = !netif.is_loopback();
        netif.received.frames += 1;
        netif.received.bytes += frame.len() as u64;
        let family = if headers::is_ipv6(frame, link) {
            Family::Inet6
        } else {
            Family::Inet
        };
        if !self.switch.takes_family(family) {
            self.net.counters.no_family += 1;
            return Outcome::Done;
        }
        let kind = if link {
            headers::ethernet(frame, netif.mac, intact)
        } else {
            headers::ip(frame, true)
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err(reason) => return self.malformed(index, reason),
        };
        match kind {
            Kind::Udp(udp) => {
                let to_dhcp = udp.dst_port == 68 && udp.src_port == 67 && netif.has_dhcp();
                if link && self.net.is_ours(udp.src) {
                    return self.malformed(index, Reason::Address);
                }
                let netif = &mut self.net.netifs[index];
                if to_dhcp {
                    // smoltcp knows its transaction by another number than the server.
                    let disguise = netif.tx.disguise.as_deref();
                    let Some((at, xid)) = disguise.and_then(|d| d.incoming(frame, udp.payload)) else {
                        return Outcome::Done;
                    };
                    match smoltcp_guard::dhcp(frame, udp.payload, udp.len, &mut self.net.edited) {
                        Verdict::Edited => {}
                        Verdict::Pass if frame.len() <= self.net.edited.capacity() => {
                            self.net.edited.clear();
                            self.net.edited.extend_from_slice(frame);
                        }
                        Verdict::Pass | Verdict::Drop => return self.malformed(index, Reason::Header),
                    }
                    if let Some(field) = self.net.edited.get_mut(at..at + xid.len()) {
                        field.copy_from_slice(&xid);
                    }
                    netif.ingress_mute(now, &self.net.edited, None);
                    netif.deadline = now;
                } else if !self.switch.receive(family, Protocol::Udp) {
                    self.unknown(now, index, family, frame, no_protocol(family));
                } else if udp.src_port != 0 && netif.accepts(udp.dst) {
                    if let Some(socket) = self.udp.find(udp.dst, udp.dst_port) {
                        netif.refresh(now, frame, udp.dst_port);
                        let delivery = Delivery::new(socket.client, socket.slot, &udp);
                        if link && let Some((_, flow, _)) = rx_flow_cache::plain(index, frame) {
                            self.udp.rx_flow_cache.learn(flow, delivery);
                        }
                        return Outcome::Datagram(delivery, udp.payload..udp.payload + udp.len);
                    }
                    if udp.src_port == DNS && self.queries.looks_up() {
                        netif.ingress_mute(now, frame, None);
                        netif.deadline = now;
                        return Outcome::Done;
                    }
                    self.unknown(now, index, family, frame, Cause::Port);
                }
            }
            Kind::Tcp(segment) => {
                if self.switch.receive(family, Protocol::Tcp) {
                    self.tcp.segment(now, &mut self.net, index, frame, &segment);
                } else if !(link && self.net.is_ours(segment.src)) {
                    self.unknown(now, index, family, frame, no_protocol(family));
                }
            }
            Kind::Other { neighbour, next } => {
                if let Some(reason) = self.refuses(index, frame, next) {
                    return self.malformed(index, reason);
                }
                let netif = &mut self.net.netifs[index];
                let taken = match next {
                    Next::Arp | Next::Igmp | Next::Icmp6 { discovery: true } => true,
                    Next::Icmp => self.switch.receive(family, Protocol::Icmp),
                    Next::Icmp6 { discovery: false } => self.switch.receive(family, Protocol::Icmp6),
                    Next::Nothing => false,
                    Next::Unknown { pointer } => {
                        self.unknown(now, index, family, frame, Cause::Protocol { pointer });
                        return Outcome::Done;
                    }
                    Next::Refused(problem) => {
                        self.unknown(now, index, family, frame, Cause::Header(problem));
                        return Outcome::Done;
                    }
                };
                if !taken {
                    self.net.counters.no_protocol += 1;
                    return Outcome::Done;
                }
                let mut shown = frame;
                if next == (Next::Icmp6 { discovery: true }) {
                    let Some((mac, taken)) = netif.guarded() else {
                        return Outcome::Done;
                    };
                    match smoltcp_guard::discovery(frame, mac, taken, &mut self.net.edited) {
                        Verdict::Pass => {}
                        Verdict::Edited => shown = &self.net.edited,
                        Verdict::Drop => return self.malformed(index, Reason::Header),
                    }
                }
                let input = match next {
                    Next::Arp | Next::Icmp6 { discovery: true } if link => netif.neighbor_input(now, shown),
                    _ => NeighborInput::Other,
                };
                match input {
                    NeighborInput::Other => {}
                    NeighborInput::Handled => return Outcome::Done,
                    NeighborInput::Resolved(hop) => {
                        self.answered(now, index, hop);
                        return Outcome::Done;
                    }
                }
                if link && matches!(next, Next::Icmp | Next::Icmp6 { discovery: false }) {
                    netif.resolve_for_stranger(now, frame);
                }
                netif.ingress(now, shown, None);
                if neighbour {
                    netif.learn_name_server(now, shown);
                    netif.deadline = now;
                } else if frame.len() > netif.tx.caps.max_transmission_unit {
                    netif.deadline = now;
                }
                if !self.icmp.is_idle() && matches!(next, Next::Icmp | Next::Icmp6 { discovery: false }) {
                    self.icmp.echo_reply(
                        now,
                        &mut self.net,
                        frame,
                        if link { headers::ETHERNET } else { 0 },
                    );
                }
            }
            Kind::Extended { protocol, len } => {
                let start = if link { headers::ETHERNET } else { 0 };
                // It comes again without them, and is counted then.
                netif.received.frames -= 1;
                netif.received.bytes -= frame.len() as u64;
                if extensions::strip(frame, start, len, protocol, &mut self.stripped) {
                    return Outcome::Stripped { intact };
                }
                return self.malformed(index, Reason::Length);
            }
            Kind::Fragment { protocol, first } => {
                if link
                    && headers::ends(frame, headers::ETHERNET).is_none_or(|(src, _)| self.net.is_ours(src))
                {
                    return self.malformed(index, Reason::Address);
                }
                let netif = &mut self.net.netifs[index];
                let takes = |protocol| self.switch.takes(family, protocol);
                if !headers::protocol(protocol).is_some_and(takes) {
                    // About the first one alone (RFC 1122, 3.2.2).
                    if first {
                        self.unknown(now, index, family, frame, no_protocol(Family::Inet));
                    }
                    return Outcome::Done;
                }
                self.net.counters.fragments += 1;
                let packet = frame
                    .get(if link { headers::ETHERNET } else { 0 }..)
                    .unwrap_or_default();
                let Some(fragment) = Fragment::read(index, packet) else {
                    return Outcome::Done;
                };
                if !netif.accepts(fragment.key.dst.into()) {
                    return Outcome::Done;
                }
                let outcome = self.fragments.add(now, &fragment);
                self.net.counters.reassembly_failed = self.fragments.dropped;
                if outcome == fragments::Outcome::Complete {
                    self.net.counters.reassembled += 1;
                    return Outcome::Reassembled;
                }
            }
        }
        Outcome::Done
    }

    /// A neighbour has answered: what waits for it goes on.
    fn answered(&mut self, now: u64, index: usize, hop: IpAddress) {
        let netif = &mut self.net.netifs[index];
        netif.deadline = now;
        netif.flush_pending(now, hop, &mut self.net.counters);
        self.tcp.resolved(&self.net, index, hop);
    }

    /// The packet that `frame`, which came in by the interface `index`, has completed, as a frame with the same link-layer header.
    /// [`Self::give_back`] takes the memory back.
    pub fn take_whole(&mut self, index: usize, frame: &[u8]) -> Vec<u8> {
        let link = match index {
            0 => None,
            _ => frame.get(..headers::ETHERNET),
        };
        self.fragments.take(link.unwrap_or_default())
    }

    /// Takes the memory back that [`Self::take_whole`] has lent.
    pub fn give_back(&mut self, whole: Vec<u8>) {
        self.fragments.give_back(whole);
    }

    /// Counts a frame that is dropped.
    fn malformed(&mut self, index: usize, reason: Reason) -> Outcome {
        self.net.malformed(index, reason);
        Outcome::Done
    }

    /// Returns why a frame must not reach smoltcp, if it must not: its source is impossible, or it is for another host. smoltcp
    /// believes that an IPv6 address is its own if the last two bytes are.
    fn refuses(&self, index: usize, frame: &[u8], next: Next) -> Option<Reason> {
        let netif = &self.net.netifs[index];
        if netif.is_loopback() {
            return None;
        }
        if next == Next::Arp {
            let sender = smoltcp_guard::arp_sender(frame)?;
            return self.net.is_ours(sender.into()).then_some(Reason::Address);
        }
        let (src, dst) = headers::ends(frame, headers::ETHERNET)?;
        match next {
            _ if self.net.is_ours(src) => Some(Reason::Address),
            Next::Icmp6 { discovery: false } if src.is_unspecified() => Some(Reason::Address),
            Next::Icmp6 { .. } if !dst.is_multicast() && !netif.owns(dst) => Some(Reason::NotForUs),
            _ => None,
        }
    }

    /// Reports a packet that nobody here takes to its sender, if that is allowed.
    fn unknown(&mut self, now: u64, index: usize, family: Family, frame: &[u8], cause: Cause) {
        match cause {
            Cause::Protocol { .. } => self.net.counters.no_protocol += 1,
            Cause::Header(_) => self.net.counters.dropped(Reason::Header),
            Cause::Port => {}
        }
        if self.switch.takes(family, control_of(family)) && self.net.unknown(now, index, frame, cause) {
            self.switch.erred(family);
        }
    }

    /// Sends a datagram whose bytes `fill` writes. `fill` is called twice at most.
    pub fn send_udp(&mut self, now: u64, datagram: Datagram, fill: impl Fn(&mut [u8])) {
        let takes = self.switch.takes(family_of(datagram.remote.addr), Protocol::Udp);
        self.udp.send(now, &mut self.net, takes, datagram, fill);
    }

    /// Drops all that was learnt of ways in and out, and the fragments of unfinished packets: addresses, routes or links have
    /// changed.
    pub fn invalidate_caches(&mut self) {
        self.fragments.clear();
        self.udp.invalidate_caches();
    }

    /// Does all the work that is due. Returns true if addresses have changed.
    pub fn poll(&mut self, now: u64) -> bool {
        let changed = self.net.poll(now);
        self.tcp.poll(now, &mut self.net);
        changed
    }

    /// Returns the time at which [`Self::poll`] must be called.
    pub fn deadline(&self) -> u64 {
        self.net
            .deadline()
            .min(self.tcp.deadline())
            .min(self.icmp.deadline())
            .min(self.queries.deadline())
    }
}
