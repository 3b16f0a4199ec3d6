//! The brane's stack: its interfaces and all sockets, and the way from a frame to the socket it is for.
//!
//! Frames come from any host, by way of the trusted driver. Nothing here knows of clients' memory; the sockets' users are in
//! [`crate::link::client`]. TCP is in `connections.rs`, UDP in `datagrams.rs`; here is what they share, and the choice between them.

mod connections;
mod datagrams;
mod passive;

pub use datagrams::{Datagram, Udp};

use crate::counters::Counters;
use crate::family::{Protosw, control_of};
use crate::headers::{self, Kind, Next, Reason};
use crate::ip::extensions;
use crate::ip::fragments::{self, Fragment, Fragments};
use crate::ip::icmp_error::{self, Cause, Limit};
use crate::netif::{NeighborInput, NetIf};
use crate::query::Queries;
use crate::smoltcp_guard::{self, Verdict};
use crate::transport::tcp::sources::Sources;
use crate::transport::tcp::syncache::SynCache;
use crate::transport::tcp::{CONNECTIONS, Conn, FlowKey, Listener, Pool};
use crate::transport::udp::rx_flow_cache::{self, Delivery, RxFlowCache};
use crate::transport::udp::tx_route_cache::TxRouteCache;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::control::{Family, Protocol};
use brane_abi::layout::sock::SLOTS;
use core::ops::Range;
use datagrams::find_udp;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use slab::Slab;
use smoltcp::iface::SocketSet;
use smoltcp::wire::IpAddress;

/// Ports that the brane picks by itself (RFC 6335, 6).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// A deadline that has passed without effect is looked at again after this time, in nanoseconds: 10 ms.
const STALLED: u64 = 10_000_000;

/// Longest frame that is copied to be changed before it goes on, in bytes. Longer ones are dropped: none that is meant well is
/// longer than an MTU.
pub const COPY: usize = 4096;

/// Returns the error about the protocol that a packet's fixed header names.
fn no_protocol(family: Family) -> Cause {
    let pointer = match family {
        Family::Inet => 9,
        Family::Inet6 => 6,
    };
    Cause::Protocol { pointer }
}

/// Connections that one frame, or one look at a connection, can have reset for the sake of others.
const EVICTED: usize = 16;

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

type Map<K, V> = HashMap<K, V, FixedState>;

/// All interfaces and sockets of a brane.
pub struct Stack {
    /// The interfaces, `lo0` first.
    /// A number stays an interface's own for its life and is used again afterwards, when nothing names it any more.
    pub netifs: Slab<NetIf>,
    /// What happened.
    pub counters: Counters,
    /// The brane's protocol switch.
    pub switch: Protosw,
    errors: Limit,
    /// Questions from inside that are under way.
    pub queries: Queries,
    fragments: Fragments,
    /// A packet without its extension headers.
    pub stripped: Vec<u8>,
    /// A copy of a message that smoltcp sees in place of the received one.
    edited: Vec<u8>,
    /// TCP connections.
    pub conns: Slab<Conn>,
    /// TCP listeners.
    pub listeners: Slab<Listener>,
    flows: Map<FlowKey, usize>,
    listening: Map<u16, Vec<usize>>,
    udps: Map<u16, Vec<Udp>>,
    pool: Pool,
    /// Connections whose handshake is not complete.
    pub syncache: SynCache,
    /// Who holds how many of the connections that came in.
    sources: Sources,
    /// Slots of clients whose connections were reset for the sake of others; their clients do not know it yet.
    pub evicted: Vec<(usize, usize)>,
    /// Connections to look at. A connection that is marked as queued is here or in `blocked`, once; no other is.
    pub dirty: VecDeque<usize>,
    /// Connections that found no room to send in.
    blocked: Vec<usize>,
    /// Connections that nobody holds, oldest first.
    lingering: VecDeque<usize>,
    tx_route_cache: TxRouteCache,
    rx_flow_cache: RxFlowCache,
    nobody: SocketSet<'static>,
    rng: ChaCha12Rng,
    /// No later than the earliest deadline of any connection.
    earliest: u64,
}

impl Stack {
    /// A stack with `lo0` alone. `seed` must be unpredictable: sequence numbers and ports come from it.
    pub fn new(seed: [u8; 32], now: u64) -> Stack {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let hash = FixedState::with_seed(rng.next_u64());
        Stack {
            netifs: Slab::from_iter([(0, NetIf::loopback(rng.next_u64(), now))]),
            counters: Counters::default(),
            switch: Protosw::default(),
            errors: Limit::new(now),
            queries: Queries::default(),
            fragments: Fragments::new(rng.next_u64()),
            stripped: Vec::with_capacity(COPY),
            edited: Vec::with_capacity(COPY),
            // What any host can make longer has its full size from the start.
            conns: Slab::with_capacity(CONNECTIONS),
            listeners: Slab::with_capacity(SLOTS),
            flows: Map::with_capacity_and_hasher(2 * CONNECTIONS, hash.clone()),
            listening: Map::with_hasher(hash.clone()),
            udps: Map::with_hasher(hash.clone()),
            pool: Pool::default(),
            syncache: SynCache::new(&mut rng),
            sources: Sources::new(CONNECTIONS, hash),
            evicted: Vec::with_capacity(EVICTED),
            dirty: VecDeque::with_capacity(CONNECTIONS),
            blocked: Vec::with_capacity(CONNECTIONS),
            lingering: VecDeque::with_capacity(CONNECTIONS),
            tx_route_cache: TxRouteCache::default(),
            rx_flow_cache: RxFlowCache::default(),
            nobody: SocketSet::new(Vec::new()),
            rng,
            earliest: u64::MAX,
        }
    }

    /// An unpredictable number.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// The same as [`Self::frame`], for a frame that holds a datagram like one that was delivered a moment ago: to whom, and its
    /// payload. `None`, and nothing has happened, for any other frame. The transport checksum needs no verifying.
    #[inline]
    pub fn known<'a>(&mut self, now: u64, index: usize, frame: &'a [u8]) -> Option<(&Delivery, &'a [u8])> {
        let (family, flow, payload) = rx_flow_cache::plain(index, frame)?;
        let delivery = self.rx_flow_cache.find(&flow)?;
        let netif = self.netifs.get_mut(index)?;
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

    /// The source of unpredictable numbers.
    pub(crate) fn rng(&mut self) -> &mut ChaCha12Rng {
        &mut self.rng
    }

    /// A frame has come in on an interface. `intact`: its transport checksum need not be verified.
    pub fn frame(&mut self, now: u64, index: usize, frame: &[u8], intact: bool) -> Outcome {
        let Some(netif) = self.netifs.get_mut(index) else {
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
            self.counters.no_family += 1;
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
                if link && self.is_ours(udp.src) {
                    return self.malformed(index, Reason::Address);
                }
                let netif = &mut self.netifs[index];
                if to_dhcp {
                    // smoltcp knows its transaction by another number than the server.
                    let disguise = netif.tx.disguise.as_deref();
                    let Some((at, xid)) = disguise.and_then(|d| d.incoming(frame, udp.payload)) else {
                        return Outcome::Done;
                    };
                    match smoltcp_guard::dhcp(frame, udp.payload, udp.len, &mut self.edited) {
                        Verdict::Edited => {}
                        Verdict::Pass if frame.len() <= self.edited.capacity() => {
                            self.edited.clear();
                            self.edited.extend_from_slice(frame);
                        }
                        Verdict::Pass | Verdict::Drop => return self.malformed(index, Reason::Header),
                    }
                    if let Some(field) = self.edited.get_mut(at..at + xid.len()) {
                        field.copy_from_slice(&xid);
                    }
                    netif.ingress_mute(now, &self.edited, None);
                    netif.deadline = now;
                } else if !self.switch.receive(family, Protocol::Udp) {
                    self.unknown(now, index, family, frame, no_protocol(family));
                } else if udp.src_port != 0 && netif.accepts(udp.dst) {
                    if let Some(socket) = find_udp(&self.udps, udp.dst, udp.dst_port) {
                        netif.refresh(now, frame, udp.dst_port);
                        let delivery = Delivery::new(socket.client, socket.slot, &udp);
                        if link && let Some((_, flow, _)) = rx_flow_cache::plain(index, frame) {
                            self.rx_flow_cache.learn(flow, delivery);
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
                    self.segment(now, index, frame, &segment);
                } else if !(link && self.is_ours(segment.src)) {
                    self.unknown(now, index, family, frame, no_protocol(family));
                }
            }
            Kind::Other { neighbour, next } => {
                if let Some(reason) = self.refuses(index, frame, next) {
                    return self.malformed(index, reason);
                }
                let netif = &mut self.netifs[index];
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
                    self.counters.no_protocol += 1;
                    return Outcome::Done;
                }
                let mut shown = frame;
                if next == (Next::Icmp6 { discovery: true }) {
                    let Some((mac, taken)) = netif.guarded() else {
                        return Outcome::Done;
                    };
                    match smoltcp_guard::discovery(frame, mac, taken, &mut self.edited) {
                        Verdict::Pass => {}
                        Verdict::Edited => shown = &self.edited,
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
                if !self.queries.is_empty() && matches!(next, Next::Icmp | Next::Icmp6 { discovery: false }) {
                    self.echo_reply(now, frame, if link { headers::ETHERNET } else { 0 });
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
                if link && headers::ends(frame, headers::ETHERNET).is_none_or(|(src, _)| self.is_ours(src)) {
                    return self.malformed(index, Reason::Address);
                }
                let netif = &mut self.netifs[index];
                let takes = |protocol| self.switch.takes(family, protocol);
                if !headers::protocol(protocol).is_some_and(takes) {
                    // About the first one alone (RFC 1122, 3.2.2).
                    if first {
                        self.unknown(now, index, family, frame, no_protocol(Family::Inet));
                    }
                    return Outcome::Done;
                }
                self.counters.fragments += 1;
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
                self.counters.reassembly_failed = self.fragments.dropped;
                if outcome == fragments::Outcome::Complete {
                    self.counters.reassembled += 1;
                    return Outcome::Reassembled;
                }
            }
        }
        Outcome::Done
    }

    /// A neighbour has answered: what waits for it goes on.
    fn answered(&mut self, now: u64, index: usize, hop: IpAddress) {
        let netif = &mut self.netifs[index];
        netif.deadline = now;
        netif.flush_pending(now, hop, &mut self.counters);
        for (id, conn) in self.conns.iter_mut() {
            let here =
                conn.key.netif == index && !conn.resolved && netif.next_hop(conn.key.remote) == Some(hop);
            if here && !conn.queued {
                conn.queued = true;
                self.dirty.push_back(id);
            }
        }
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
        if let Some(netif) = self.netifs.get_mut(index) {
            netif.received.errors += 1;
        }
        self.counters.dropped(reason);
        Outcome::Done
    }

    /// Returns true if no other host can send from this address: it is one of the brane's own, or the broadcast address of a
    /// network that the brane is in (RFC 1122, 3.2.1.3).
    pub(crate) fn is_ours(&self, src: IpAddress) -> bool {
        self.netifs
            .iter()
            .any(|(_, netif)| netif.owns(src) || netif.is_broadcast(src))
    }

    /// Returns why a frame must not reach smoltcp, if it must not: its source is impossible, or it is for another host. smoltcp
    /// believes that an IPv6 address is its own if the last two bytes are.
    fn refuses(&self, index: usize, frame: &[u8], next: Next) -> Option<Reason> {
        let netif = &self.netifs[index];
        if netif.is_loopback() {
            return None;
        }
        if next == Next::Arp {
            let sender = smoltcp_guard::arp_sender(frame)?;
            return self.is_ours(sender.into()).then_some(Reason::Address);
        }
        let (src, dst) = headers::ends(frame, headers::ETHERNET)?;
        match next {
            _ if self.is_ours(src) => Some(Reason::Address),
            Next::Icmp6 { discovery: false } if src.is_unspecified() => Some(Reason::Address),
            Next::Icmp6 { .. } if !dst.is_multicast() && !netif.owns(dst) => Some(Reason::NotForUs),
            _ => None,
        }
    }

    /// Reports a packet that nobody here takes to its sender, if that is allowed.
    fn unknown(&mut self, now: u64, index: usize, family: Family, frame: &[u8], cause: Cause) {
        match cause {
            Cause::Protocol { .. } => self.counters.no_protocol += 1,
            Cause::Header(_) => self.counters.dropped(Reason::Header),
            Cause::Port => {}
        }
        let netif = &mut self.netifs[index];
        if !self.switch.takes(family, control_of(family)) || !icmp_error::may_answer(netif, frame) {
            return;
        }
        if !self.errors.take(now) {
            self.counters.errors_limited += 1;
            return;
        }
        if icmp_error::send(netif, frame, cause) {
            self.switch.erred(family);
        }
    }

    fn pick_port(&mut self, free: impl Fn(&Stack, u16) -> bool) -> Option<u16> {
        let (first, last) = (*EPHEMERAL.start(), *EPHEMERAL.end());
        let count = u32::from(last - first) + 1;
        let start = (self.random() % u64::from(count)) as u32;
        (0..count)
            .map(|n| first + ((start + n) % count) as u16)
            .find(|port| free(self, *port))
    }

    /// Whether an address is one of the brane's own.
    pub fn owns(&self, address: IpAddress) -> bool {
        self.netifs.iter().any(|(_, netif)| netif.owns(address))
            || matches!(address, IpAddress::Ipv4(a) if a.is_loopback())
                && self.switch.has_family(Family::Inet)
    }

    /// The interface that leads to an address best; `lo0` for the brane's own.
    pub fn route(&self, address: IpAddress) -> Option<usize> {
        if self.owns(address) {
            return Some(0);
        }
        let ways = self.netifs.iter().skip(1);
        ways.filter_map(|(index, netif)| Some((netif.leads_to(address)?, core::cmp::Reverse(index))))
            .max()
            .map(|(_, index)| index.0)
    }

    /// Brings the counts of frames up to date.
    pub fn count_frames(&mut self) {
        for (_, netif) in self.netifs.iter_mut() {
            if netif.is_loopback() {
                netif.tx.count_looped();
            } else {
                netif.tx.count(&mut self.counters);
            }
        }
    }

    /// The interface of that name: the one place where an interface's name is looked up.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.netifs
            .iter()
            .find(|(_, netif)| netif.name == name)
            .map(|(index, _)| index)
    }

    /// The interface on a port of the brane.
    pub fn at_port(&self, port: usize) -> Option<usize> {
        self.netifs
            .iter()
            .find(|(_, netif)| netif.port() == Some(port))
            .map(|(index, _)| index)
    }

    /// Connections whose interface or one of whose own addresses is gone.
    pub fn stranded(&self) -> Vec<usize> {
        let gone = |key: &FlowKey| {
            !self.netifs.contains(key.netif)
                || !self.owns(key.local)
                || (key.netif == 0 && !self.owns(key.remote))
        };
        let conns = self.conns.iter().filter(|(_, conn)| gone(&conn.key));
        conns.map(|(id, _)| id).collect()
    }

    fn source(&self, netif: usize, remote: IpAddress) -> Option<IpAddress> {
        if netif == 0 {
            Some(remote)
        } else {
            self.netifs[netif].source_for(remote)
        }
    }

    /// Addresses, routes or links have changed: nothing learnt of the ways out and in holds any more, and what an interface
    /// has of a packet is no other interface's.
    pub fn invalidate_caches(&mut self) {
        self.fragments.clear();
        self.tx_route_cache.clear();
        self.rx_flow_cache.clear();
    }

    /// Does all that has come due by itself. `true` when addresses have changed.
    pub fn expire(&mut self, now: u64) -> bool {
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
        self.answer_again(now);
        if self.earliest <= now {
            self.earliest = u64::MAX;
            for (id, conn) in self.conns.iter_mut() {
                if conn.deadline <= now {
                    conn.deadline = u64::MAX;
                    if !conn.queued {
                        conn.queued = true;
                        self.dirty.push_back(id);
                    }
                } else {
                    self.earliest = self.earliest.min(conn.deadline);
                }
            }
        }
        changed
    }

    /// When [`Self::expire`] has to be called, at the latest.
    pub fn deadline(&self) -> u64 {
        let netifs = self.netifs.iter().map(|(_, netif)| netif.deadline);
        let own = self
            .earliest
            .min(self.queries.deadline())
            .min(self.syncache.deadline());
        netifs.fold(own, u64::min)
    }
}

fn overlap(a: Option<IpAddress>, b: Option<IpAddress>) -> bool {
    a.is_none() || b.is_none() || a == b
}
