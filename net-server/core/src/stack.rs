//! The brane's stack: its interfaces and all sockets, and the way from a frame to the socket it is for.
//!
//! Frames come from any host, by way of the trusted driver. Nothing here knows of clients' memory; the sockets' users are in
//! [`crate::client`].

use crate::counters::Counters;
use crate::frame::{self, Kind, Transport, flags};
use crate::netif::NetIf;
use crate::parked::{self, Parked};
use crate::shortcut::{self, Answer, Shortcuts};
use crate::tcp::{CONNECTIONS, Conn, FlowKey, LINGER, Listener, Owner, Pool, Sizes};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::socket::error;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use slab::Slab;
use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};

/// Ports that the brane picks by itself (RFC 6335, 6).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// A half-open connection may be given up for a newer one after this time, in nanoseconds.
const HALF_OPEN_GRACE: u64 = 1_000_000_000;

/// A deadline that has passed without effect is looked at again after this time, in nanoseconds: 10 ms.
const STALLED: u64 = 10_000_000;

/// A UDP socket: only its place; the datagrams never rest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Which client's.
    pub client: usize,
    /// In which slot.
    pub slot: usize,
    /// Its address; `None` for any.
    pub local: Option<IpAddress>,
    /// Its port.
    pub port: u16,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or dropped and counted.
    Done,
    /// A datagram for this UDP socket: the caller delivers it.
    Datagram(Udp, Transport),
    /// A packet is complete again: it is in [`Stack::whole`] and to be handed in like a received frame.
    Reassembled,
}

/// What a datagram to send says of itself.
pub struct Datagram {
    /// Our port.
    pub src_port: u16,
    /// Our address, where the client named one.
    pub local: Option<IpAddress>,
    /// Where it goes.
    pub remote: IpEndpoint,
    /// Its length in bytes.
    pub len: usize,
}

type Map<K, V> = HashMap<K, V, FixedState>;

/// All interfaces and sockets of a brane.
pub struct Stack {
    /// The interfaces, `lo0` first.
    pub netifs: Vec<NetIf>,
    /// What happened.
    pub counters: Counters,
    /// A packet put together from fragments.
    pub whole: Vec<u8>,
    /// TCP connections.
    pub conns: Slab<Conn>,
    /// TCP listeners.
    pub listeners: Slab<Listener>,
    flows: Map<FlowKey, usize>,
    listening: Map<u16, Vec<usize>>,
    udps: Map<u16, Vec<Udp>>,
    pool: Pool,
    /// Connections to look at.
    pub dirty: VecDeque<usize>,
    /// Connections that found no room to send in; they stay marked as queued.
    blocked: Vec<usize>,
    /// Held by nobody, oldest first; may name connections that are gone.
    lingering: VecDeque<usize>,
    shortcuts: Shortcuts,
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
            netifs: alloc::vec![NetIf::loopback(rng.next_u64(), now)],
            counters: Counters::default(),
            whole: Vec::new(),
            conns: Slab::new(),
            listeners: Slab::new(),
            flows: Map::with_hasher(hash.clone()),
            listening: Map::with_hasher(hash.clone()),
            udps: Map::with_hasher(hash),
            pool: Pool::default(),
            dirty: VecDeque::new(),
            blocked: Vec::new(),
            lingering: VecDeque::new(),
            shortcuts: Shortcuts::default(),
            nobody: SocketSet::new(Vec::new()),
            rng,
            earliest: u64::MAX,
        }
    }

    /// An unpredictable number.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A frame has come in on an interface. `intact`: its transport checksum need not be verified.
    pub fn frame(&mut self, now: u64, index: usize, frame: &[u8], intact: bool) -> Outcome {
        let Some(netif) = self.netifs.get_mut(index) else {
            return Outcome::Done;
        };
        let kind = if netif.is_loopback() {
            frame::ip(frame, true)
        } else {
            frame::ethernet(frame, netif.mac, intact)
        };
        match kind {
            Ok(Kind::Udp(udp)) => {
                if udp.dst_port == 68 && udp.src_port == 67 && netif.has_dhcp() {
                    netif.ingress(now, frame, None);
                    netif.deadline = now;
                } else if udp.src_port != 0 && netif.accepts(udp.dst) {
                    if let Some(socket) = find_udp(&self.udps, udp.dst, udp.dst_port) {
                        netif.refresh(now, frame, udp.dst_port);
                        return Outcome::Datagram(socket, udp);
                    }
                    netif.ingress(now, frame, Some(&mut self.nobody));
                }
            }
            Ok(Kind::Tcp(segment)) => self.segment(now, index, frame, &segment),
            Ok(Kind::Other { neighbour }) => {
                netif.ingress(now, frame, None);
                if neighbour {
                    netif.deadline = now;
                    self.retry_parked(now, index);
                } else if frame.len() > netif.tx.caps.max_transmission_unit {
                    netif.deadline = now;
                }
            }
            Ok(Kind::Fragment) => {
                self.counters.fragments += 1;
                if netif.fragment(now, frame, &mut self.whole) {
                    self.counters.reassembled += 1;
                    return Outcome::Reassembled;
                }
            }
            Err(reason) => self.counters.dropped(reason),
        }
        Outcome::Done
    }

    fn segment(&mut self, now: u64, index: usize, frame: &[u8], segment: &Transport) {
        let key = FlowKey {
            netif: index,
            local: segment.dst,
            remote: segment.src,
            local_port: segment.dst_port,
            remote_port: segment.src_port,
        };
        let opens = segment.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN;
        let mut found = self.flows.get(&key).copied();
        if let Some(id) = found
            && opens
            && self.conns[id].socket.state() == State::TimeWait
        {
            // A new connection between the same ports (RFC 1122, 4.2.2.13).
            self.remove(id);
            found = None;
        }
        let id = match found {
            Some(id) => id,
            None if opens => match self.open_for(now, key) {
                Ok(Some(id)) => id,
                Ok(None) => return,
                Err(()) => return self.netifs[index].ingress(now, frame, Some(&mut self.nobody)),
            },
            None => return self.netifs[index].ingress(now, frame, Some(&mut self.nobody)),
        };
        let conn = &mut self.conns[id];
        self.netifs[index].ingress(now, frame, Some(&mut conn.socket.set));
        if matches!(conn.socket.state(), State::Listen) {
            self.remove(id);
        } else {
            self.touch(id);
        }
    }

    /// A SYN has come: makes a socket for it where a listener wants it. `Ok(None)`: to be dropped without a word.
    fn open_for(&mut self, now: u64, key: FlowKey) -> Result<Option<usize>, ()> {
        let wanted = |l: &&usize| self.listeners[**l].local.is_none_or(|a| a == key.local);
        let listener = *self
            .listening
            .get(&key.local_port)
            .and_then(|l| l.iter().find(wanted))
            .ok_or(())?;
        let netif = &self.netifs[key.netif];
        if !(netif.is_loopback() || netif.owns(key.local)) || key.remote_port == 0 {
            return Err(());
        }
        if self.listeners[listener].pending.len() >= self.listeners[listener].backlog
            && !self.evict_half_open(now, listener)
        {
            self.counters.tcp_backlog_full += 1;
            return Ok(None);
        }
        let sizes = self.listeners[listener].sizes;
        let Some(id) = self.insert(now, key, Owner::Listener(listener), sizes) else {
            self.counters.tcp_no_memory += 1;
            return Ok(None);
        };
        let endpoint = IpListenEndpoint {
            addr: Some(key.local),
            port: key.local_port,
        };
        if self.conns[id].socket.get().listen(endpoint).is_err() {
            self.remove(id);
            return Err(());
        }
        self.listeners[listener].pending.push_back(id);
        Ok(Some(id))
    }

    fn evict_half_open(&mut self, now: u64, listener: usize) -> bool {
        let old = self.listeners[listener].pending.iter().copied().find(|id| {
            let conn = &self.conns[*id];
            !conn.established && now.saturating_sub(conn.since) > HALF_OPEN_GRACE
        });
        let Some(id) = old else { return false };
        self.counters.tcp_half_open_evicted += 1;
        self.remove(id);
        true
    }

    fn insert(&mut self, now: u64, key: FlowKey, owner: Owner, sizes: Sizes) -> Option<usize> {
        let mut socket = loop {
            let room = self.conns.len() < CONNECTIONS;
            match room.then(|| self.pool.take(sizes)).flatten() {
                Some(socket) => break socket,
                None => {
                    let oldest = self.lingering.pop_front()?;
                    if self.conns.get(oldest).is_some_and(|c| c.owner == Owner::Nobody) {
                        self.counters.tcp_lingering_evicted += 1;
                        self.remove(oldest);
                    }
                }
            }
        };
        socket.begin();
        let id = self.conns.insert(Conn {
            socket,
            key,
            owner,
            deadline: u64::MAX,
            queued: false,
            established: false,
            since: now,
        });
        self.flows.insert(key, id);
        Some(id)
    }

    /// Forgets a connection at once, without a word to the other end.
    pub fn remove(&mut self, id: usize) {
        let Some(mut conn) = self.conns.try_remove(id) else {
            return;
        };
        self.flows.remove(&conn.key);
        if let Owner::Listener(listener) = conn.owner
            && let Some(listener) = self.listeners.get_mut(listener)
        {
            listener.pending.retain(|pending| *pending != id);
        }
        conn.socket.get().abort();
        self.pool.give(conn.socket);
    }

    /// Resets a connection.
    pub fn abort(&mut self, now: u64, id: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.socket.get().abort();
            self.netifs[conn.key.netif].egress(now, &mut conn.socket.set);
            self.remove(id);
        }
    }

    /// Nobody holds this connection any more: it sends what it has and a FIN, and what comes in is thrown away.
    pub fn release(&mut self, now: u64, id: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.owner = Owner::Nobody;
            conn.since = now;
            conn.socket.get().close();
            self.lingering.push_back(id);
            // Entries of connections that are gone do not pile up.
            if self.lingering.len() > 2 * CONNECTIONS {
                self.lingering
                    .retain(|id| self.conns.get(*id).is_some_and(|c| c.owner == Owner::Nobody));
            }
            self.touch(id);
        }
    }

    /// Puts a connection on the list of those to look at.
    pub fn touch(&mut self, id: usize) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.queued
        {
            conn.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Lets a connection send, and notes when it wants to be looked at again. A connection that nobody holds is finished here.
    pub fn egress(&mut self, now: u64, id: usize) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let netif = &mut self.netifs[conn.key.netif];
        if conn.owner == Owner::Nobody {
            let socket = conn.socket.get();
            while socket
                .recv(|bytes| (bytes.len(), bytes.len()))
                .is_ok_and(|n| n != 0)
            {}
            if now.saturating_sub(conn.since) > LINGER {
                socket.abort();
            }
        }
        let mut deadline = netif.egress(now, &mut conn.socket.set);
        if conn.socket.state() == State::Closed && conn.owner == Owner::Nobody && !netif.tx.blocked {
            return self.remove(id);
        }
        if conn.socket.state() == State::Closed && !conn.queued {
            // It has timed out just now: its owner has not heard of it.
            conn.queued = true;
            self.dirty.push_back(id);
        }
        if conn.owner == Owner::Nobody {
            deadline = deadline.min(conn.since + LINGER + 1);
        }
        if deadline <= now {
            if netif.tx.blocked && !conn.queued {
                conn.queued = true;
                self.blocked.push(id);
            }
            deadline = now + STALLED;
        }
        conn.deadline = deadline;
        self.earliest = self.earliest.min(deadline);
    }

    /// Looks whether interfaces that were blocked have room again, and lets what waited for it go on.
    pub fn unblock(&mut self) {
        let mut freed = false;
        for netif in &mut self.netifs {
            if netif.tx.blocked {
                netif.tx.blocked = false;
                freed |= netif.tx.has_room();
            }
        }
        if freed {
            self.dirty.extend(self.blocked.drain(..));
        }
    }

    /// Listens. Error: one of [`error`].
    pub fn listen(&mut self, listener: Listener) -> Result<usize, u32> {
        if listener.local.is_some_and(|a| !self.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let (port, local) = (listener.port, listener.local);
        let here = self.listening.entry(port).or_default();
        let overlaps = |l: &usize| overlap(self.listeners[*l].local, local);
        if here.iter().any(overlaps) {
            return Err(error::ADDRESS_IN_USE);
        }
        let id = self.listeners.insert(listener);
        here.push(id);
        Ok(id)
    }

    /// Stops listening; pending connections are reset. Returns the slots that waited for one.
    pub fn unlisten(&mut self, now: u64, id: usize) -> VecDeque<usize> {
        let Some(listener) = self.listeners.try_remove(id) else {
            return VecDeque::new();
        };
        if let Some(here) = self.listening.get_mut(&listener.port) {
            here.retain(|l| *l != id);
        }
        for conn in listener.pending {
            self.abort(now, conn);
        }
        listener.waiting
    }

    /// The oldest established connection that a listener has for the taking.
    pub fn accept(&mut self, listener: usize) -> Option<usize> {
        let pending = &mut self.listeners.get_mut(listener)?.pending;
        let at = pending.iter().position(|id| self.conns[*id].established)?;
        pending.remove(at)
    }

    /// Connects. Error: one of [`error`].
    pub fn connect(
        &mut self,
        now: u64,
        owner: Owner,
        (local, local_port): (Option<IpAddress>, u16),
        remote: IpEndpoint,
        sizes: Sizes,
    ) -> Result<usize, u32> {
        if local.is_some_and(|a| !self.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let usable = remote.port != 0 && remote.addr.is_unicast() && !remote.addr.is_broadcast();
        let netif = usable
            .then(|| self.route(remote.addr))
            .flatten()
            .ok_or(error::UNREACHABLE)?;
        let local = match local {
            Some(local) if local.version() == remote.addr.version() => local,
            Some(_) => return Err(error::ADDRESS_NOT_AVAILABLE),
            None => self.source(netif, remote.addr).ok_or(error::UNREACHABLE)?,
        };
        let mut key = FlowKey {
            netif,
            local,
            remote: remote.addr,
            local_port,
            remote_port: remote.port,
        };
        if local_port == 0 {
            key.local_port = self
                .pick_port(|stack, port| {
                    let key = FlowKey {
                        local_port: port,
                        ..key
                    };
                    !stack.flows.contains_key(&key) && stack.listening.get(&port).is_none_or(Vec::is_empty)
                })
                .ok_or(error::NO_RESOURCES)?;
        } else if self.flows.contains_key(&key) {
            return Err(error::ADDRESS_IN_USE);
        }
        let id = self.insert(now, key, owner, sizes).ok_or(error::NO_RESOURCES)?;
        let conn = &mut self.conns[id];
        let connected = match self.netifs[netif].parts() {
            Some((iface, _)) => conn
                .socket
                .get()
                .connect(iface.context(), remote, (local, key.local_port))
                .is_ok(),
            None => false,
        };
        if !connected {
            self.remove(id);
            return Err(error::UNREACHABLE);
        }
        self.touch(id);
        Ok(id)
    }

    fn pick_port(&mut self, free: impl Fn(&Stack, u16) -> bool) -> Option<u16> {
        let (first, last) = (*EPHEMERAL.start(), *EPHEMERAL.end());
        let count = u32::from(last - first) + 1;
        let start = (self.random() % u64::from(count)) as u32;
        (0..count)
            .map(|n| first + ((start + n) % count) as u16)
            .find(|port| free(self, *port))
    }

    /// Takes a UDP port (0: any). Error: one of [`error`].
    pub fn bind(&mut self, mut udp: Udp) -> Result<Udp, u32> {
        if udp.local.is_some_and(|a| !self.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let taken = |stack: &Stack, port| {
            let here = stack.udps.get(&port);
            here.is_some_and(|here| here.iter().any(|other| overlap(other.local, udp.local)))
        };
        if udp.port == 0 {
            udp.port = self
                .pick_port(|s, port| !taken(s, port))
                .ok_or(error::NO_RESOURCES)?;
        } else if taken(self, udp.port) {
            return Err(error::ADDRESS_IN_USE);
        }
        self.udps.entry(udp.port).or_default().push(udp);
        Ok(udp)
    }

    /// Gives a UDP port back.
    pub fn unbind(&mut self, udp: &Udp) {
        if let Some(here) = self.udps.get_mut(&udp.port) {
            here.retain(|other| other != udp);
        }
    }

    /// Sends a datagram whose bytes `fill` writes; they are asked for at most twice.
    pub fn send_udp(&mut self, now: u64, datagram: Datagram, fill: impl Fn(&mut [u8])) {
        let Datagram {
            src_port,
            local,
            remote,
            len,
        } = datagram;
        if len > crate::netif::UDP_LONGEST || remote.port == 0 || remote.addr.is_unspecified() {
            self.counters.udp_bad_request += 1;
            return;
        }
        let named = local;
        if let Some(answer) = self.shortcuts.find(now, remote.addr, named) {
            let netif = &mut self.netifs[answer.netif];
            // 48: the headers of IPv6 and UDP, the longer ones.
            if netif.up && len + 48 <= netif.tx.caps.ip_mtu() {
                shortcut::send(&mut netif.tx, answer, src_port, remote, len, fill);
                self.counters.udp_sent += 1;
                return;
            }
        }
        let Some(index) = self.route(remote.addr) else {
            self.counters.udp_no_route += 1;
            return;
        };
        // A broadcast or foreign address is no source: then the brane picks one.
        let local = local.filter(|a| a.version() == remote.addr.version() && self.owns(*a));
        let local = local.or_else(|| (index == 0).then(|| self.source(0, remote.addr)).flatten());
        let netif = &mut self.netifs[index];
        if matches!(remote.addr, IpAddress::Ipv6(_)) && len + 48 > netif.tx.caps.ip_mtu() {
            // smoltcp does not fragment IPv6.
            self.counters.udp_bad_request += 1;
            return;
        }
        if netif.send_udp(now, (src_port, local), remote, len, &fill) {
            self.counters.udp_sent += 1;
            let source = local.or_else(|| netif.source_for(remote.addr));
            if let Some(source) = source
                && index != 0
                && netif.tx.last_to[0] & 1 == 0
                && len + 48 <= netif.tx.caps.ip_mtu()
                && !netif.tx.blocked
            {
                let answer = Answer::new(remote.addr, named, source, index, netif.mac, netif.tx.last_to);
                self.shortcuts.learn(now, answer);
            }
            return;
        }
        let waiting: usize = netif.parked.iter().map(|p| p.payload.len()).sum();
        if netif.parked.len() >= parked::LIMIT || waiting + len > parked::LIMIT_BYTES {
            self.counters.udp_unreachable += 1;
            return;
        }
        let mut payload = alloc::vec![0; len];
        fill(&mut payload);
        if !netif.parked.iter().any(|p| p.remote.addr == remote.addr) {
            netif.solicit(remote.addr, now);
        }
        netif.parked.push_back(Parked {
            src_port,
            local,
            remote,
            payload,
            since: now,
            asked: now,
        });
    }

    /// Tries again to send what waits for a neighbour's address, each once.
    pub fn retry_parked(&mut self, now: u64, index: usize) {
        let netif = &mut self.netifs[index];
        for _ in 0..netif.parked.len() {
            let Some(mut waiting) = netif.parked.pop_front() else {
                return;
            };
            let from = (waiting.src_port, waiting.local);
            let fill = |room: &mut [u8]| room.copy_from_slice(&waiting.payload);
            if netif.send_udp(now, from, waiting.remote, waiting.payload.len(), fill) {
                self.counters.udp_sent += 1;
            } else if now.saturating_sub(waiting.since) >= parked::PATIENCE {
                self.counters.udp_unreachable += 1;
            } else {
                if now.saturating_sub(waiting.asked) >= parked::RETRY {
                    waiting.asked = now;
                    netif.solicit(waiting.remote.addr, now);
                }
                netif.parked.push_back(waiting);
            }
        }
    }

    /// Whether an address is one of the brane's own.
    pub fn owns(&self, address: IpAddress) -> bool {
        self.netifs.iter().any(|netif| netif.owns(address))
            || matches!(address, IpAddress::Ipv4(a) if a.is_loopback())
    }

    /// The interface that leads to an address best; `lo0` for the brane's own.
    pub fn route(&self, address: IpAddress) -> Option<usize> {
        if self.owns(address) {
            return Some(0);
        }
        let ways = self.netifs.iter().enumerate().skip(1);
        ways.filter_map(|(index, netif)| Some((netif.leads_to(address)?, core::cmp::Reverse(index))))
            .max()
            .map(|(_, index)| index.0)
    }

    fn source(&self, netif: usize, remote: IpAddress) -> Option<IpAddress> {
        if netif == 0 {
            Some(remote)
        } else {
            self.netifs[netif].source_for(remote)
        }
    }

    /// Addresses, routes or links have changed: nothing learnt of the ways out holds any more.
    pub fn forget_ways(&mut self) {
        self.shortcuts.clear();
    }

    /// Does all that has come due by itself. `true` when addresses have changed.
    pub fn expire(&mut self, now: u64) -> bool {
        let mut changed = false;
        for index in 0..self.netifs.len() {
            if self.netifs[index].deadline <= now {
                if !self.netifs[index].parked.is_empty() {
                    self.retry_parked(now, index);
                }
                let netif = &mut self.netifs[index];
                changed |= netif.poll(now);
                if netif.deadline <= now {
                    netif.deadline = now + STALLED;
                }
            }
        }
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
        let netifs = self.netifs.iter().map(|netif| netif.deadline);
        netifs.fold(self.earliest, u64::min)
    }

    /// Bytes of TCP buffers.
    pub fn tcp_memory(&self) -> usize {
        self.pool.bytes()
    }
}

fn overlap(a: Option<IpAddress>, b: Option<IpAddress>) -> bool {
    a.is_none() || b.is_none() || a == b
}

fn find_udp(udps: &Map<u16, Vec<Udp>>, dst: IpAddress, port: u16) -> Option<Udp> {
    let here = udps.get(&port)?;
    // A broadcast is for every socket of the port that has no address of its own; one is enough.
    here.iter()
        .find(|udp| udp.local.is_none_or(|a| a == dst))
        .copied()
}
