//! A client's requests: what it may ask for, and what becomes of its slots by it.
//!
//! The client is trusted with nothing: a request is copied once, every number in it is checked, and one without sense is
//! refused and counted. Requests taken in one look and answers that wait for room are bounded.

use super::{Client, Payload, Violation, endpoints};
use crate::family::family_of;
use crate::link::client::slot::{Closing, Datagrams, Slot, Stream, Use};
use crate::query::Requester;
use crate::stack::Stack;
use crate::transport::tcp::{Listener, Owner, Sizes};
use crate::transport::udp::UdpSocket;
use crate::transport::udp::groups::GroupOptions;
use alloc::collections::VecDeque;
use brane_abi::control::Protocol;
use brane_abi::layout::sock;
use brane_abi::net::SockAddr;
use brane_abi::query::Query;
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{self, Done, Identity, Rings, error, event, request};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use smoltcp::wire::{IpAddress, IpEndpoint};
use zerocopy::FromBytes;

/// Requests taken in one look.
const REQUEST_BUDGET: usize = 128;

/// Events that may wait for room in the ring before no more requests are taken: the answers to those of one look.
pub(super) const DEFERRED: usize = 4 * sock::SLOTS;

/// Requests without sense after which a client is cut off.
const BAD_REQUESTS: u32 = 64;

/// Connections that a listener may have pending at most.
const BACKLOG: u32 = 64;

/// Longest payload of a request.
const LONGEST: usize = brane_abi::query::MAX_QUERY;
const _: () = assert!(LONGEST >= size_of::<socket::Open>());

impl Client {
    /// Takes requests, up to the budget. Returns whether there may be more.
    pub(super) fn take_requests(
        &mut self,
        now: u64,
        stack: &mut Stack,
        identity: &Identity,
    ) -> Result<bool, Violation> {
        self.flush_events()?;
        for _ in 0..REQUEST_BUDGET {
            if self.deferred.len() > DEFERRED {
                // It does not read its events: then it gets no more of them. Its doorbell says when there is room.
                break;
            }
            let mut payload = [0; LONGEST];
            let taken = self
                .endpoint
                .rings
                .rx
                .take(|record| (record.meta, record.len(), record.copy_to(&mut payload).len()))?;
            let Some((words, len, copied)) = taken else {
                self.endpoint.rings.rx.release();
                return Ok(false);
            };
            let sound = len == copied && self.request(now, stack, identity, words, &payload[..copied])?;
            if !sound {
                stack.net.counters.client_bad_requests += 1;
                self.bad += 1;
                if self.bad >= BAD_REQUESTS {
                    return Err(Violation);
                }
            }
        }
        self.endpoint.rings.rx.release();
        Ok(self.deferred.len() <= DEFERRED)
    }

    /// Deals with one request; `false` when it makes no sense.
    fn request(
        &mut self,
        now: u64,
        stack: &mut Stack,
        identity: &Identity,
        [kind, slot, generation]: [u32; 3],
        payload: &[u8],
    ) -> Result<bool, Violation> {
        if kind == request::IDENTIFY {
            self.identify(identity);
            return Ok(true);
        }
        if kind == request::QUERY {
            let Ok(query) = minicbor::decode::<Query>(payload) else {
                return Ok(false);
            };
            if self.questions >= socket::QUESTIONS {
                return Ok(false);
            }
            self.questions += 1;
            let requester = Requester::Client {
                client: self.index,
                token: slot,
            };
            if let Some(answer) = stack.query(now, requester, query) {
                self.answer(slot, &answer);
            }
            return Ok(true);
        }
        let index = slot as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(false);
        };
        match kind {
            request::TCP_LISTEN | request::TCP_ACCEPT | request::TCP_CONNECT | request::UDP_BIND => {
                if !matches!(slot.what, Use::Free) {
                    return Ok(false);
                }
                slot.generation = generation;
                let opened = if identity.ready == 0 {
                    Err(error::NOT_READY)
                } else {
                    match kind {
                        request::TCP_LISTEN => self.listen(stack, index, payload),
                        request::TCP_ACCEPT => self.accept(stack, index, payload),
                        request::TCP_CONNECT => self.connect(now, stack, index, payload),
                        _ => self.bind(stack, index, payload),
                    }
                };
                if let Err(code) = opened {
                    self.fail(index, code);
                }
                Ok(opened != Err(error::INVALID))
            }
            request::JOIN_GROUP | request::LEAVE_GROUP | request::GROUP_OPTIONS => {
                if matches!(slot.what, Use::Free | Use::Over) || slot.generation != generation {
                    stack.net.counters.client_stale += 1;
                    return Ok(true);
                }
                self.group_request(now, stack, index, kind, payload)
            }
            request::SHUTDOWN | request::CLOSE | request::ABORT => {
                if matches!(slot.what, Use::Free) || slot.generation != generation {
                    stack.net.counters.client_stale += 1;
                    return Ok(true);
                }
                match (kind, &mut slot.what) {
                    (request::SHUTDOWN, Use::Stream(stream)) => {
                        if stream.closing == Closing::Open {
                            stream.closing = Closing::Shutdown;
                        }
                        stream.conn.iter().for_each(|conn| stack.tcp.touch(*conn));
                    }
                    (request::SHUTDOWN, _) => return Ok(false),
                    (request::CLOSE, Use::Stream(stream)) if stream.told_connected => {
                        stream.closing = Closing::Close;
                        stream.conn.iter().for_each(|conn| stack.tcp.touch(*conn));
                        self.service(now, stack, index)?;
                    }
                    (request::CLOSE, Use::Udp(udp)) => {
                        // What is in the ring still goes out, as far as one look carries.
                        udp.send(now, stack)?;
                        self.free(now, stack, index, error::INVALID);
                        self.tell(index, event::CLOSED, Payload::None);
                    }
                    _ => {
                        self.free(now, stack, index, error::INVALID);
                        self.tell(index, event::CLOSED, Payload::None);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Handles a request about groups of a UDP socket. Returns false if it makes no sense. What is in the ring leaves before its options
    /// change, up to one budget.
    fn group_request(
        &mut self,
        now: u64,
        stack: &mut Stack,
        index: usize,
        kind: u32,
        payload: &[u8],
    ) -> Result<bool, Violation> {
        let Some(Slot {
            what: Use::Udp(udp), ..
        }) = self.slots.get_mut(index)
        else {
            return Ok(false);
        };
        let (token, outcome) = match kind {
            request::GROUP_OPTIONS => {
                let Ok(options) = socket::GroupOptions::read_from_bytes(payload) else {
                    return Ok(false);
                };
                udp.send(now, stack)?;
                let netif = interface(stack, &options.interface, None);
                let outcome = netif.map(|netif| {
                    udp.options = GroupOptions {
                        netif,
                        ttl: options.ttl,
                        loops: options.loops != 0,
                    };
                });
                (options.token, outcome)
            }
            _ => {
                let Ok(membership) = socket::Membership::read_from_bytes(payload) else {
                    return Ok(false);
                };
                let group = address(&membership.group).and_then(|group| group.ok_or(error::INVALID));
                let socket = udp.udp;
                let outcome = group.and_then(|group| {
                    let netif = interface(stack, &membership.interface, Some(group))?;
                    let netif = netif.ok_or(error::UNREACHABLE)?;
                    match kind {
                        request::JOIN_GROUP => stack.join(now, &socket, netif, group),
                        _ => stack.leave(now, &socket, netif, group),
                    }
                });
                (membership.token, outcome)
            }
        };
        let error = outcome.err().unwrap_or_default();
        self.tell(index, event::DONE, Payload::Done(Done { token, error }));
        Ok(true)
    }

    fn listen(&mut self, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let listen = socket::Listen::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&listen.local)?;
        supported(stack, local, Protocol::Tcp)?;
        if listen.local.port == 0 {
            return Err(error::INVALID);
        }
        stack.may_bind(Protocol::Tcp, local, listen.local.port)?;
        let backlog = listen.backlog.clamp(1, BACKLOG) as usize;
        // Any host can make the list of pending connections longer: it has its full size from the start.
        let mut pending = VecDeque::new();
        pending
            .try_reserve_exact(backlog)
            .map_err(|_| error::NO_RESOURCES)?;
        let listener = stack.tcp.listen(
            &stack.net,
            Listener {
                client: self.index,
                slot,
                local,
                port: listen.local.port,
                backlog,
                sizes: Sizes::granted(listen.rx_buffer, listen.tx_buffer),
                owed: 0,
                pending,
                waiting: VecDeque::new(),
            },
        )?;
        self.slots[slot].what = Use::Listener(listener);
        let local = SockAddr::new(local.map(Into::into), listen.local.port);
        self.tell(slot, event::BOUND, endpoints(local, SockAddr::default()));
        Ok(())
    }

    fn accept(&mut self, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let accept = socket::Accept::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let Some(Slot {
            what: Use::Listener(listener),
            ..
        }) = self.slots.get(accept.listener as usize)
        else {
            return Err(error::INVALID);
        };
        let listener = *listener;
        let stream = self.stream(slot, &accept.rings).ok_or(error::INVALID)?;
        if let Some(record) = stack.tcp.listeners.get_mut(listener) {
            record.waiting.try_reserve(1).map_err(|_| error::NO_RESOURCES)?;
            record.waiting.push_back(slot);
        }
        self.slots[slot].what = Use::Waiting { listener, stream };
        self.transfer(stack, listener);
        Ok(())
    }

    /// Gives connections that wait at a listener to slots that wait for one.
    pub fn transfer(&mut self, stack: &mut Stack, listener: usize) {
        while let Some(slot) = stack
            .tcp
            .listeners
            .get(listener)
            .and_then(|l| l.waiting.front().copied())
        {
            let Some(conn) = stack.tcp.accept(listener) else {
                return;
            };
            if let Some(record) = stack.tcp.listeners.get_mut(listener) {
                record.waiting.pop_front();
            }
            let Use::Waiting { mut stream, .. } = core::mem::replace(&mut self.slots[slot].what, Use::Free)
            else {
                continue;
            };
            stack.net.counters.tcp_accepted += 1;
            stream.conn = Some(conn);
            stream.told_connected = true;
            self.slots[slot].what = Use::Stream(stream);
            let record = &mut stack.tcp.conns[conn];
            record.owner = Owner::Slot {
                client: self.index,
                slot,
            };
            let key = record.key;
            let local = SockAddr::new(Some(key.local.into()), key.local_port);
            let remote = SockAddr::new(Some(key.remote.into()), key.remote_port);
            self.tell(slot, event::ACCEPTED, endpoints(local, remote));
            stack.tcp.touch(conn);
        }
    }

    fn connect(&mut self, now: u64, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let open = socket::Open::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&open.local)?;
        let remote = address(&open.remote)?.ok_or(error::INVALID)?;
        supported(stack, Some(remote), Protocol::Tcp)?;
        let mut stream = self.stream(slot, &open.rings).ok_or(error::INVALID)?;
        let owner = Owner::Slot {
            client: self.index,
            slot,
        };
        let remote = IpEndpoint {
            addr: remote,
            port: open.remote.port,
        };
        stack.may_connect((local, open.local.port), remote)?;
        let sizes = Sizes::granted(open.rings.rx_len, open.rings.tx_len);
        stream.conn = Some(stack.tcp.connect(
            now,
            &mut stack.net,
            owner,
            (local, open.local.port),
            remote,
            sizes,
        )?);
        self.slots[slot].what = Use::Stream(stream);
        Ok(())
    }

    fn bind(&mut self, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let open = socket::Open::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&open.local)?;
        supported(stack, local, Protocol::Udp)?;
        stack.may_bind(Protocol::Udp, local, open.local.port)?;
        let [rx, tx] = self.rings(slot, &open.rings).ok_or(error::INVALID)?;
        let rx = Producer::new(rx.0, rx.1).ok_or(error::INVALID)?;
        let tx = Consumer::new(tx.0, tx.1).ok_or(error::INVALID)?;
        let udp = stack.udp.bind(
            &mut stack.net,
            UdpSocket {
                client: self.index,
                slot,
                local,
                port: open.local.port,
            },
        )?;
        self.slots[slot].what = Use::Udp(Datagrams::new(udp, rx, tx, open.rings.tx_len as usize));
        let local = SockAddr::new(local.map(Into::into), udp.port);
        self.tell(slot, event::BOUND, endpoints(local, SockAddr::default()));
        Ok(())
    }

    /// A slot's two rings where the client says they are, if they may be there.
    fn rings(&self, slot: usize, rings: &Rings) -> Option<[(&'static RingIndices, SharedRegion); 2]> {
        let ring = |indices: usize, offset: u32, len: u32| {
            let (offset, len) = (offset as usize, len as usize);
            let sound = (sock::RING_MIN..=sock::RING_MAX).contains(&len)
                && len.is_power_of_two()
                && offset.is_multiple_of(64)
                && offset >= sock::DATA.offset
                && offset.checked_add(len)? <= sock::DATA.offset + sock::DATA.len;
            // SAFETY: RingIndices is made of atomics only.
            let indices = unsafe { self.region.object::<RingIndices>(indices) }?;
            sound.then_some((indices, self.region.part(offset, len)?))
        };
        Some([
            ring(sock::rx_indices(slot), rings.rx_offset, rings.rx_len)?,
            ring(sock::tx_indices(slot), rings.tx_offset, rings.tx_len)?,
        ])
    }

    fn stream(&self, slot: usize, rings: &Rings) -> Option<Stream> {
        let [rx, tx] = self.rings(slot, rings)?;
        Some(Stream::new(
            StreamProducer::new(rx.0, rx.1)?,
            StreamConsumer::new(tx.0, tx.1)?,
            rings.tx_len as usize,
        ))
    }
}

/// The client's address as the stack words it. The unspecified address of a family stands for any, too.
fn address(address: &SockAddr) -> Result<Option<IpAddress>, u32> {
    let address = address.address().map_err(|_| error::INVALID)?;
    Ok(address.map(IpAddress::from).filter(|a| !a.is_unspecified()))
}

/// Finds the interface that a client names: by its name, by an address of it, or the one that leads to `group`. Error: one of [`error`].
fn interface(
    stack: &Stack,
    named: &socket::Interface,
    group: Option<IpAddress>,
) -> Result<Option<usize>, u32> {
    let len = named
        .name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(named.name.len());
    if len != 0 {
        let name = core::str::from_utf8(&named.name[..len]).map_err(|_| error::INVALID)?;
        return stack.net.find(name).map(Some).ok_or(error::ADDRESS_NOT_AVAILABLE);
    }
    match address(&named.address)? {
        Some(address) => {
            let mut netifs = stack.net.netifs.iter();
            let found = netifs.find(|(_, netif)| netif.owns(address));
            found
                .map(|(index, _)| Some(index))
                .ok_or(error::ADDRESS_NOT_AVAILABLE)
        }
        None => Ok(group.and_then(|group| stack.net.route(group))),
    }
}

/// Whether the brane has a protocol in the family of an address, or in any family where there is none.
fn supported(stack: &Stack, address: Option<IpAddress>, protocol: Protocol) -> Result<(), u32> {
    if stack.switch.has(address.map(family_of), protocol) {
        Ok(())
    } else {
        Err(error::PROTOCOL_NOT_SUPPORTED)
    }
}
