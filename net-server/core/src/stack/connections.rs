//! The stack's TCP: connections by their flow, listeners by their port, and which connection is to be looked at.
//!
//! Segments come from any host, checked by [`crate::frame`]; connections and listeners belong to clients. What a host can make
//! us keep is bounded by the listeners' backlogs, [`CONNECTIONS`] and the pool's bytes.

use super::{STALLED, Stack, overlap};
use crate::frame::{Reason, Transport, flags};
use crate::tcp::{CONNECTIONS, Conn, FlowKey, LINGER, Listener, Owner, Sizes};
use alloc::collections::VecDeque;
use brane_abi::socket::error;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};

/// A half-open connection may be given up for a newer one after this time, in nanoseconds.
const HALF_OPEN_GRACE: u64 = 1_000_000_000;

/// How often a connection that goes on looks whether its neighbour still is known, and one that waits, in nanoseconds.
const RESOLVED: u64 = 10_000_000_000;
/// See [`RESOLVED`].
const UNRESOLVED: u64 = 100_000_000;

impl Stack {
    /// A TCP segment has come in on an interface.
    pub(super) fn segment(&mut self, now: u64, index: usize, frame: &[u8], segment: &Transport) {
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
            // An open connection shows that its other end may be one.
            None if index != 0 && (self.is_ours(key.remote) || !self.netifs[index].owns(key.local)) => {
                return self.counters.dropped(Reason::Address);
            }
            None if opens => match self.open_for(now, key) {
                Ok(Some(id)) => id,
                Ok(None) => return,
                Err(()) => return self.refuse(now, index, frame),
            },
            None => return self.refuse(now, index, frame),
        };
        let conn = &mut self.conns[id];
        self.netifs[index].ingress(now, frame, Some(&mut conn.socket.set));
        if matches!(conn.socket.state(), State::Listen) {
            self.remove(id);
        } else {
            self.touch(id);
        }
    }

    /// A segment is for no connection: smoltcp resets it.
    fn refuse(&mut self, now: u64, index: usize, frame: &[u8]) {
        let netif = &mut self.netifs[index];
        netif.resolve_for_stranger(now, frame);
        netif.ingress(now, frame, Some(&mut self.nobody));
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
            // Entries of closed connections can make the table want to grow.
            let room = self.conns.len() < CONNECTIONS && self.flows.try_reserve(1).is_ok();
            match room.then(|| self.pool.take(sizes)).flatten() {
                Some(socket) => break socket,
                None => {
                    let oldest = *self.lingering.front()?;
                    self.counters.tcp_lingering_evicted += 1;
                    self.remove(oldest);
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
            resolved: false,
            resolve_at: 0,
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
        match conn.owner {
            Owner::Listener(listener) => {
                if let Some(listener) = self.listeners.get_mut(listener) {
                    listener.pending.retain(|pending| *pending != id);
                }
            }
            Owner::Nobody => self.lingering.retain(|lingering| *lingering != id),
            Owner::Slot { .. } => {}
        }
        if conn.queued {
            self.dirty.retain(|queued| *queued != id);
            self.blocked.retain(|queued| *queued != id);
        }
        conn.socket.get().abort();
        self.pool.give(conn.socket);
    }

    /// Resets a connection.
    pub fn abort(&mut self, now: u64, id: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.socket.get().abort();
            // Where the interface is gone, there is nobody to tell.
            if let Some(netif) = self.netifs.get_mut(conn.key.netif) {
                netif.egress(now, &mut conn.socket.set);
            }
            self.remove(id);
        }
    }

    /// Nobody holds this connection any more: it sends what it has and a FIN, and what comes in is thrown away.
    pub fn release(&mut self, now: u64, id: usize) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.owner != Owner::Nobody
        {
            conn.owner = Owner::Nobody;
            conn.since = now;
            conn.socket.get().close();
            self.lingering.push_back(id);
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
        if now >= conn.resolve_at {
            let first = conn.resolve_at == 0;
            conn.resolved = netif.resolve(now, conn.key.remote);
            conn.resolve_at = now + if conn.resolved { RESOLVED } else { UNRESOLVED };
            if first && !conn.resolved {
                // The question is on its way. The answer brings the connection back; without one, smoltcp asks on.
                conn.deadline = conn.resolve_at;
                self.earliest = self.earliest.min(conn.deadline);
                return;
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
        for (_, netif) in self.netifs.iter_mut() {
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
        let overlaps = |l: &usize| overlap(self.listeners[*l].local, local);
        if self
            .listening
            .get(&port)
            .is_some_and(|here| here.iter().any(overlaps))
        {
            return Err(error::ADDRESS_IN_USE);
        }
        if self.listening.try_reserve(1).is_err() {
            return Err(error::NO_RESOURCES);
        }
        let here = self.listening.entry(port).or_default();
        if here.try_reserve(1).is_err() {
            if here.is_empty() {
                self.listening.remove(&port);
            }
            return Err(error::NO_RESOURCES);
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
            if here.is_empty() {
                self.listening.remove(&listener.port);
            }
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
                    !stack.flows.contains_key(&key) && !stack.listening.contains_key(&port)
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

    /// Bytes of TCP buffers.
    pub fn tcp_memory(&self) -> usize {
        self.pool.bytes()
    }
}
