//! Connections by their flow, listeners by their port, and the connections that wait to be polled.
//!
//! Segments come from any host, checked by [`Segment::read`]. Connections and listeners belong to clients. What a host can make
//! the brane keep is bounded by the listeners' backlogs, [`CONNECTIONS`] and the pool's bytes. How a connection comes in is in
//! `passive.rs`.

use super::connection::{Connection, State};
use super::passive::Unmatched;
use super::segment::{Numbers, Segment, at_or_after};
use super::{CONNECTIONS, Conn, FlowKey, LINGER, Listener, Owner, Sizes, Tcp};
use crate::headers::Reason;
use crate::headers::wire::flags;
use crate::net::{Net, STALLED};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::socket::error;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// How often a connection that goes on looks whether its neighbour still is known, and one that waits, in nanoseconds.
const RESOLVED: u64 = 10_000_000_000;
/// See [`RESOLVED`].
const UNRESOLVED: u64 = 100_000_000;

impl Tcp {
    /// A TCP segment has come in on an interface.
    pub(crate) fn segment(&mut self, now: u64, net: &mut Net, index: usize, frame: &[u8], segment: &Segment) {
        let key = FlowKey {
            netif: index,
            local: segment.dst,
            remote: segment.src,
            local_port: segment.dst_port,
            remote_port: segment.src_port,
        };
        let opens = segment.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN;
        let mut found = self.flows.find(&self.conns, &key);
        if let Some(id) = found
            && opens
            && self.conns[id].socket.state() == State::TimeWait
            && at_or_after(Numbers::of(frame, segment).seq, self.conns[id].peer_end)
        {
            // A new connection between the same ports, which goes on behind the old one's last sequence number (RFC 1122,
            // 4.2.2.13). smoltcp answers any other SYN with an acknowledgement.
            self.remove(id);
            found = None;
        }
        let id = match found {
            Some(id) => id,
            // An open connection shows that its other end may be one.
            None if index != 0 && (net.is_ours(key.remote) || !net.netifs[index].owns(key.local)) => {
                return net.counters.dropped(Reason::Address);
            }
            None => match self.unmatched(now, net, &key, frame, segment) {
                Unmatched::Conn(id) => id,
                Unmatched::Done => return,
                Unmatched::Refused => return self.refuse(now, net, index, frame),
            },
        };
        let conn = &mut self.conns[id];
        conn.heard = now;
        let before = (segment.flags & flags::FIN != 0).then(|| conn.socket.state());
        conn.socket.segment(now, &mut net.netifs[index], frame);
        let state = conn.socket.state();
        if before.is_some_and(|before| !before.peer_is_done() && state.peer_is_done()) {
            let seq = Numbers::of(frame, segment).seq;
            conn.peer_end = seq.wrapping_add(segment.len as u32).wrapping_add(1);
        }
        if state == State::Closed
            && let Some(source) = conn.source.take()
        {
            // Its source has ended it, and holds it no longer, even if the client has not heard of it yet.
            self.sources.release(source);
        }
        if matches!(conn.owner, Owner::Listener(_)) && matches!(state, State::Listen | State::SynReceived) {
            // smoltcp has not taken the segment that completed the handshake.
            self.remove(id);
        } else {
            self.touch(id);
        }
    }

    /// Resets a segment that belongs to no connection.
    pub(crate) fn refuse(&mut self, now: u64, net: &mut Net, index: usize, frame: &[u8]) {
        self.strangers.segment(now, &mut net.netifs[index], frame);
    }

    pub(super) fn insert(
        &mut self,
        now: u64,
        net: &mut Net,
        key: FlowKey,
        owner: Owner,
        sizes: Sizes,
    ) -> Option<usize> {
        let mut socket = loop {
            // Entries of closed connections can make the table want to grow.
            let room = self.conns.len() < CONNECTIONS && self.flows.reserve(&self.conns, &key);
            match room.then(|| self.pool.take(sizes)).flatten() {
                Some(socket) => break socket,
                None => {
                    let oldest = *self.lingering.front()?;
                    net.counters.tcp_lingering_evicted += 1;
                    self.remove(oldest);
                }
            }
        };
        socket.begin();
        let inserted = self.conns.insert(Conn {
            socket,
            key,
            owner,
            deadline: u64::MAX,
            queued: false,
            established: false,
            resolved: false,
            resolve_at: 0,
            since: now,
            peer_end: 0,
            heard: now,
            source: None,
            listener: None,
            iss: None,
            failure: None,
        });
        match inserted {
            Ok(id) => {
                self.flows.insert(&self.conns, &key, id);
                Some(id)
            }
            Err(conn) => {
                self.pool.give(conn.socket);
                None
            }
        }
    }

    /// Forgets a connection at once, without a word to the other end.
    pub fn remove(&mut self, id: usize) {
        let Some(mut conn) = self.conns.remove(id) else {
            return;
        };
        self.flows.remove(&conn.key, id);
        if let Some(source) = conn.source {
            self.sources.release(source);
        }
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
        conn.socket.abort();
        self.pool.give(conn.socket);
    }

    /// Resets a connection.
    pub fn abort(&mut self, now: u64, net: &mut Net, id: usize) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.socket.abort();
            // Where the interface is gone, there is nobody to tell.
            if let Some(netif) = net.netifs.get_mut(conn.key.netif) {
                conn.socket.egress(now, netif);
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
            conn.socket.close();
            self.lingering.push_back(id);
            self.touch(id);
        }
    }

    /// Ends a connection because a hook has rejected one of its segments. Its owner learns it at the next poll.
    pub(crate) fn abort_flow(&mut self, key: &FlowKey) {
        let id = self.flows.find(&self.conns, key);
        if let Some((id, conn)) = id.and_then(|id| Some((id, self.conns.get_mut(id)?))) {
            conn.socket.abort();
            self.touch(id);
        }
    }

    /// Adds a connection to the list of connections to poll.
    pub fn touch(&mut self, id: usize) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.queued
        {
            conn.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Lets a connection send, and notes when it wants to be looked at again. A connection that nobody holds is finished here.
    pub fn egress(&mut self, now: u64, net: &mut Net, id: usize) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let netif = &mut net.netifs[conn.key.netif];
        if conn.owner == Owner::Nobody {
            let socket = &mut conn.socket;
            while socket
                .receive(|bytes| (bytes.len(), bytes.len()))
                .is_some_and(|n| n != 0)
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
        let mut deadline = conn.socket.egress(now, netif);
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
    pub fn unblock(&mut self, net: &mut Net) {
        let mut freed = false;
        for (_, netif) in net.netifs.iter_mut() {
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
    pub fn listen(&mut self, net: &Net, listener: Listener) -> Result<usize, u32> {
        if listener.local.is_some_and(|a| !net.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let (port, local) = (listener.port, listener.local);
        if self.listening.is_taken(local, port) {
            return Err(error::ADDRESS_IN_USE);
        }
        let id = self.listeners.insert(listener).map_err(|_| error::NO_RESOURCES)?;
        if !self.listening.insert(local, port, id) {
            self.listeners.remove(id);
            return Err(error::NO_RESOURCES);
        }
        Ok(id)
    }

    /// Stops listening; pending connections are reset. Returns the slots that waited for one.
    pub fn unlisten(&mut self, now: u64, net: &mut Net, id: usize) -> VecDeque<usize> {
        let Some(listener) = self.listeners.remove(id) else {
            return VecDeque::new();
        };
        self.listening.remove(listener.local, listener.port, id);
        for conn in listener.pending {
            self.abort(now, net, conn);
        }
        listener.waiting
    }

    /// Takes an established connection from a listener: the oldest of the source that holds fewest. A source that holds many does
    /// not stand before others in the line.
    pub fn accept(&mut self, listener: usize) -> Option<usize> {
        let Tcp {
            listeners,
            conns,
            sources,
            ..
        } = self;
        let listener = listeners.get_mut(listener)?;
        let held = |(at, id): (usize, &usize)| {
            let conn = conns.get(*id).filter(|conn| conn.established)?;
            Some((conn.source.map_or(0, |source| sources.held_by(source)), at))
        };
        let (_, at) = listener.pending.iter().enumerate().filter_map(held).min()?;
        listener.owed = listener.owed.saturating_sub(1);
        listener.pending.remove(at)
    }

    /// Connects. Error: one of [`error`].
    pub fn connect(
        &mut self,
        now: u64,
        net: &mut Net,
        owner: Owner,
        (local, local_port): (Option<IpAddress>, u16),
        remote: IpEndpoint,
        sizes: Sizes,
    ) -> Result<usize, u32> {
        if local.is_some_and(|a| !net.owns(a)) {
            return Err(error::ADDRESS_NOT_AVAILABLE);
        }
        let usable = remote.port != 0 && remote.addr.is_unicast() && !remote.addr.is_broadcast();
        let netif = usable
            .then(|| net.route(remote.addr))
            .flatten()
            .ok_or(error::UNREACHABLE)?;
        let local = match local {
            Some(local) if local.version() == remote.addr.version() => local,
            Some(_) => return Err(error::ADDRESS_NOT_AVAILABLE),
            None => net.source(netif, remote.addr).ok_or(error::UNREACHABLE)?,
        };
        let mut key = FlowKey {
            netif,
            local,
            remote: remote.addr,
            local_port,
            remote_port: remote.port,
        };
        if local_port == 0 {
            key.local_port = net
                .pick_port(|port| {
                    let key = FlowKey {
                        local_port: port,
                        ..key
                    };
                    self.flows.find(&self.conns, &key).is_none() && !self.listening.is_taken(None, port)
                })
                .ok_or(error::NO_RESOURCES)?;
        } else if self.flows.find(&self.conns, &key).is_some() {
            return Err(error::ADDRESS_IN_USE);
        }
        let id = self
            .insert(now, net, key, owner, sizes)
            .ok_or(error::NO_RESOURCES)?;
        let isn = self.syncache.isn(now, &key);
        let conn = &mut self.conns[id];
        conn.iss = Some(isn);
        if !conn.socket.open(now, &key, isn, net.rng()) {
            self.remove(id);
            return Err(error::UNREACHABLE);
        }
        self.touch(id);
        Ok(id)
    }

    /// Bytes of TCP buffers.
    pub fn memory(&self) -> usize {
        self.pool.bytes()
    }

    /// Returns the connections whose interface or one of whose own addresses is gone.
    pub fn stranded(&self, net: &Net) -> Vec<usize> {
        let gone = |key: &FlowKey| {
            !net.netifs.contains(key.netif)
                || !net.owns(key.local)
                || (key.netif == 0 && !net.owns(key.remote))
        };
        let conns = self.conns.iter().filter(|(_, conn)| gone(&conn.key));
        conns.map(|(id, _)| id).collect()
    }

    /// Polls the connections that wait for the address of a neighbour, which has answered.
    pub(super) fn poll_waiting(&mut self, net: &Net, index: usize, hop: IpAddress) {
        let Some(netif) = net.netifs.get(index) else {
            return;
        };
        for (id, conn) in self.conns.iter_mut() {
            let here =
                conn.key.netif == index && !conn.resolved && netif.next_hop(conn.key.remote) == Some(hop);
            if here && !conn.queued {
                conn.queued = true;
                self.dirty.push_back(id);
            }
        }
    }

    /// Polls the connections whose deadline has come.
    pub(super) fn poll_due(&mut self, now: u64) {
        if self.earliest > now {
            return;
        }
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
}
