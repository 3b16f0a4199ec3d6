//! Connections that come in: from the SYN to a socket that a client can accept, and who gives way when there is no room.
//!
//! SYNs and acknowledgements come from any host. Until the handshake is complete a connection is an entry of
//! [`super::syncache`] or less; then it gets a socket and its buffers, and the listener has it for the taking, in order of
//! completion.
//!
//! A host that completes handshakes and holds what it gets can use up connections, memory, a listener's backlog and a client's
//! slots. So where one of these has run out, a source that holds few takes it from the source that holds most: of that source's
//! connections the one that has been silent longest is reset. If both sources would hold equally many after the change of places,
//! only a connection older than [`GRACE`] is reset. So a short request is served before another source can take its place.

use super::connection::Connection;
use super::opener::Handshake;
use super::segment::{Numbers, Options, Segment};
use super::syncache::Acknowledged;
use super::{CONNECTIONS, Conn, FlowKey, Owner, Sizes, Tcp};
use crate::eth::device::Tx;
use crate::headers::wire::{ETHERNET, IPV4_HEADER, IPV6_HEADER, TCP_HEADER, flags};
use crate::net::Net;
use crate::netif::NetIf;
use crate::transport::Ports;
use branes_pfil::chain::Verdict;
use core::cmp::Reverse;
use slab::Slab;
use smoltcp::phy::{Medium, PacketMeta};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};

/// Connections that one source may hold.
pub(super) const CONNECTIONS_FOR_SOURCE: u32 = (CONNECTIONS / 4 * 3) as u32;

/// Connections that may be reset for a new one; each frees a piece of memory, of whatever size.
const EVICTIONS: usize = 8;

/// How long a connection stands before one of a source that holds one less can take its place, in nanoseconds.
const GRACE: u64 = 250_000_000;

/// What becomes of a segment that belongs to no connection.
pub(super) enum Unmatched {
    /// It belongs to this one now.
    Conn(usize),
    /// Nothing is left to do.
    Done,
    /// Nobody wants it: smoltcp answers with a reset where that is allowed.
    Refused,
}

impl Tcp {
    /// A segment has come in that belongs to no connection.
    pub(super) fn unmatched(
        &mut self,
        now: u64,
        net: &mut Net,
        key: &FlowKey,
        frame: &[u8],
        segment: &Segment,
    ) -> Unmatched {
        let kind = segment.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN);
        if kind == flags::SYN {
            self.syn(now, net, key, frame, segment)
        } else if kind & flags::RST != 0 {
            if self.syncache.reset(key, Numbers::of(frame, segment).seq) {
                return Unmatched::Done;
            }
            Unmatched::Refused
        } else if kind & (flags::SYN | flags::ACK) == flags::ACK {
            self.acknowledgement(now, net, key, frame, segment)
        } else {
            Unmatched::Refused
        }
    }

    /// A SYN has come: answers it if a listener wants it.
    fn syn(&mut self, now: u64, net: &mut Net, key: &FlowKey, frame: &[u8], segment: &Segment) -> Unmatched {
        let Some(listener) = wanting(&net.netifs, &self.listening, key) else {
            return Unmatched::Refused;
        };
        let netif = &net.netifs[key.netif];
        let link = !netif.is_loopback();
        // A SYN to or from more than one host gets no answer (RFC 1122, 4.2.3.10).
        let group = link && frame.first().is_none_or(|byte| byte & 1 != 0) || netif.is_broadcast(key.remote);
        if group || !key.remote.is_unicast() {
            return Unmatched::Done;
        }
        // Nothing is kept of a connection that a hook refuses.
        match self.pfil.as_ref().map(|pfil| pfil.accept(net, key)) {
            None | Some(Verdict::Pass | Verdict::Modified) => {}
            Some(Verdict::Reject) => return Unmatched::Refused,
            Some(Verdict::Drop | Verdict::Absorb) => return Unmatched::Done,
        }
        let mac = match frame.get(6..).and_then(|rest| rest.first_chunk::<6>()) {
            Some(mac) if link => *mac,
            _ => [0; 6],
        };
        let (seq, options) = (Numbers::of(frame, segment).seq, Options::of(frame, segment));
        let (handshake, is_cookie) = self.syncache.syn(now, key, seq, options, mac);
        net.counters.tcp_syn_cookies += u64::from(is_cookie);
        let sizes = self.listeners[listener].sizes;
        let netif = &mut net.netifs[key.netif];
        answer(&mut netif.tx, netif.mac, mac, key, &handshake, sizes);
        Unmatched::Done
    }

    /// An acknowledgement has come that belongs to no connection: makes one of it if it completes a handshake.
    fn acknowledgement(
        &mut self,
        now: u64,
        net: &mut Net,
        key: &FlowKey,
        frame: &[u8],
        segment: &Segment,
    ) -> Unmatched {
        let handshake = match self.syncache.acknowledged(now, key, Numbers::of(frame, segment)) {
            Acknowledged::Stands(handshake) => handshake,
            Acknowledged::OutOfWindow => return Unmatched::Done,
            Acknowledged::Unknown => return Unmatched::Refused,
        };
        let Some(listener) = wanting(&net.netifs, &self.listening, key) else {
            self.syncache.remove(key);
            return Unmatched::Refused;
        };
        // The handshake stays open if there is no room now; what the peer repeats tries again.
        if self.sources.held(key.remote) >= CONNECTIONS_FOR_SOURCE {
            net.counters.tcp_source_full += 1;
            return Unmatched::Done;
        }
        let here = &self.listeners[listener];
        if here.pending.len() >= here.backlog {
            let waits = |conn: &Conn| conn.owner == Owner::Listener(listener);
            let Some(id) = self.least_deserving(now, self.sources.held(key.remote), waits) else {
                net.counters.tcp_backlog_full += 1;
                return Unmatched::Done;
            };
            self.evict(now, net, id);
        }
        let sizes = self.listeners[listener].sizes;
        let Some(id) = self.insert_incoming(now, net, *key, listener, sizes) else {
            net.counters.tcp_no_memory += 1;
            return Unmatched::Done;
        };
        if !self.conns[id].socket.accept(now, key, &handshake, net.rng()) {
            self.remove(id);
            return Unmatched::Refused;
        }
        self.syncache.remove(key);
        self.listeners[listener].pending.push_back(id);
        Unmatched::Conn(id)
    }

    fn insert_incoming(
        &mut self,
        now: u64,
        net: &mut Net,
        key: FlowKey,
        listener: usize,
        sizes: Sizes,
    ) -> Option<usize> {
        let mut evictions = 0;
        let id = loop {
            if let Some(id) = self.insert(now, net, key, Owner::Listener(listener), sizes) {
                break id;
            }
            if evictions == EVICTIONS {
                return None;
            }
            evictions += 1;
            // One with as much memory, where there is one: its end is enough, and none that is small ends in vain.
            let enough = |conn: &Conn| conn.socket.largest() >= sizes.rx.max(sizes.tx);
            let held = self.sources.held(key.remote);
            let victim = self.least_deserving(now, held, enough);
            let id = victim.or_else(|| self.least_deserving(now, held, |_| true))?;
            self.evict(now, net, id);
        };
        let Some(source) = self.sources.take(key.remote) else {
            self.remove(id);
            return None;
        };
        let conn = &mut self.conns[id];
        (conn.source, conn.listener) = (Some(source), Some(listener));
        Some(id)
    }

    /// Of the connections that came in and that `only` names, the one to give way for a connection of a source that holds
    /// `newcomer` without it: that of the source that holds most, if the newcomer would still hold fewer than that source then, or
    /// as many after [`GRACE`].
    fn least_deserving(&self, now: u64, newcomer: u32, only: impl Fn(&Conn) -> bool) -> Option<usize> {
        let rank = |(id, conn): (usize, &Conn)| {
            let held = self.sources.held_by(conn.source?);
            let grace = u32::from(now.saturating_sub(conn.since) < GRACE);
            (held > newcomer + grace && only(conn)).then_some((held, Reverse(conn.heard), id))
        };
        self.conns.iter().filter_map(rank).max().map(|(_, _, id)| id)
    }

    /// Resets a connection for the sake of others. If a client holds it, the client is told by [`Self::evicted`].
    fn evict(&mut self, now: u64, net: &mut Net, id: usize) {
        net.counters.tcp_evicted += 1;
        if let Some(Owner::Slot { client, slot }) = self.conns.get(id).map(|conn| conn.owner) {
            self.evicted.push((client, slot));
        }
        self.abort(now, net, id);
    }

    /// A connection waits at a listener, and no slot of the client waits for one: a slot is freed for it if its source holds
    /// fewer than another.
    pub fn crowded(&mut self, now: u64, net: &mut Net, id: usize) {
        let Some(conn) = self.conns.get(id) else { return };
        let (Owner::Listener(listener), Some(source)) = (conn.owner, conn.source) else {
            return;
        };
        let remote = conn.key.remote;
        let Some(here) = self.listeners.get(listener) else {
            return;
        };
        // One slot for each connection that waits.
        if !here.waiting.is_empty() || here.owed >= here.pending.len() {
            return;
        }
        let taken = |conn: &Conn| {
            conn.listener == Some(listener)
                && conn.source != Some(source)
                && matches!(conn.owner, Owner::Slot { .. })
        };
        let newcomer = self.sources.held(remote).saturating_sub(1);
        if let Some(victim) = self.least_deserving(now, newcomer, taken) {
            self.listeners[listener].owed += 1;
            self.evict(now, net, victim);
        }
    }

    /// Sends the answers to SYNs that are due again.
    pub(super) fn answer_again(&mut self, now: u64, net: &mut Net) {
        if self.syncache.deadline() > now {
            return;
        }
        let Tcp {
            syncache,
            listening,
            listeners,
            ..
        } = self;
        let netifs = &mut net.netifs;
        syncache.expire(now, |key, entry| {
            let Some(listener) = wanting(netifs, listening, key) else {
                return false;
            };
            let (sizes, netif) = (listeners[listener].sizes, &mut netifs[key.netif]);
            answer(&mut netif.tx, netif.mac, entry.mac, key, &entry.handshake, sizes);
            true
        });
    }
}

/// The listener for connections to this address and port.
fn wanting(netifs: &Slab<NetIf>, listening: &Ports<usize>, key: &FlowKey) -> Option<usize> {
    let listener = listening.find(key.local, key.local_port)?;
    let netif = netifs.get(key.netif)?;
    let ours = netif.is_loopback() || netif.owns(key.local);
    (ours && key.remote_port != 0).then_some(listener)
}

/// Sends a SYN-ACK to the station that the SYN came from: no neighbour is asked for, so a flood of SYNs from addresses that
/// do not exist costs none.
fn answer(tx: &mut Tx, from: [u8; 6], to: [u8; 6], key: &FlowKey, handshake: &Handshake, sizes: Sizes) {
    let Handshake { irs, iss, options } = *handshake;
    let mut tcp = TcpRepr {
        src_port: key.local_port,
        dst_port: key.remote_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(iss as i32),
        ack_number: Some(TcpSeqNumber(irs as i32) + 1),
        // Never scaled in a SYN (RFC 7323, 2.2).
        window_len: u16::try_from(sizes.receive()).unwrap_or(u16::MAX),
        window_scale: options.scale.map(|_| sizes.scale()),
        max_seg_size: None,
        sack_permitted: options.sack,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let headers = match key.local {
        IpAddress::Ipv4(_) => IPV4_HEADER + TCP_HEADER,
        IpAddress::Ipv6(_) => IPV6_HEADER + TCP_HEADER,
    };
    tcp.max_seg_size = u16::try_from(tx.caps.ip_mtu().saturating_sub(headers)).ok();
    let ip = IpRepr::new(key.local, key.remote, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let link = if tx.caps.medium == Medium::Ip { 0 } else { ETHERNET };
    let caps = tx.caps.checksum.clone();
    if !tx.has_room() {
        return;
    }
    tx.send(link + ip.buffer_len(), PacketMeta::default(), |room| {
        room.fill(0);
        if link != 0 {
            let mut ethernet = EthernetFrame::new_unchecked(&mut *room);
            ethernet.set_src_addr(EthernetAddress(from));
            ethernet.set_dst_addr(EthernetAddress(to));
            ethernet.set_ethertype(match key.local {
                IpAddress::Ipv4(_) => EthernetProtocol::Ipv4,
                IpAddress::Ipv6(_) => EthernetProtocol::Ipv6,
            });
        }
        let packet = &mut room[link..];
        ip.emit(&mut *packet, &caps);
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
        tcp.emit(&mut segment, &key.local, &key.remote, &caps);
    });
}
