//! The socket service for one client: the protocol of `brane_abi::socket` over the region that the two share.
//!
//! The client is trusted with nothing. What it writes is copied once and checked; a request without sense is refused and
//! counted, and one that breaks the rings' rules, or too many without sense, cuts the client off: all its sockets are reset
//! and it is ignored until it restarts. Nothing here ever waits for it: what finds no room is deferred (a bounded list)
//! or dropped (datagrams).

use crate::frame::Transport;
use crate::slot::{Closing, Datagrams, News, Slot, Stream, Use};
use crate::stack::{Stack, Udp};
use crate::tcp::{Listener, Owner, Sizes};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::doorbell::Doorbell;
use brane_abi::layout::sock;
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::SockAddr;
use brane_abi::ring::{Consumer, Producer, RingError, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{self, CONTROL_BIT, Endpoints, Failed, Identity, Rings, error, event, request};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use smoltcp::wire::{IpAddress, IpEndpoint};
use zerocopy::{FromBytes, IntoBytes};

/// Requests taken in one look.
const REQUEST_BUDGET: usize = 128;

/// Events that may wait for room in the ring before no more requests are taken: the answers to those of one look.
const DEFERRED: usize = 4 * sock::SLOTS;

/// Requests without sense after which a client is cut off.
const BAD_REQUESTS: u32 = 64;

/// Connections that a listener may have pending at most.
const BACKLOG: u32 = 64;

/// Longest payload of a request.
const LONGEST: usize = size_of::<socket::Open>();

/// An event that is not in the ring yet.
struct Event {
    words: [u32; 3],
    payload: Payload,
}

enum Payload {
    None,
    Endpoints(Endpoints),
    Failed(Failed),
    Identity(Identity),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::None => &[],
            Payload::Endpoints(e) => e.as_bytes(),
            Payload::Failed(f) => f.as_bytes(),
            Payload::Identity(i) => i.as_bytes(),
        }
    }
}

/// The brane's end of a client's region.
pub struct Client {
    index: usize,
    region: SharedRegion,
    link: Link,
    up: bool,
    broken: bool,
    control: [&'static RingIndices; 2],
    requests: Consumer,
    events: Producer,
    slots: Vec<Slot>,
    deferred: VecDeque<Event>,
    bad: u32,
    /// Doorbell bits taken but not dealt with.
    pending: u64,
    /// Doorbell bits to ring.
    bell: u64,
    /// Slots whose receive ring has records that are not visible yet.
    unpublished: u64,
    /// The peer must be notified whatever its doorbell says.
    pub notify: bool,
}

/// Why a client is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

impl From<RingError> for Broken {
    fn from(_: RingError) -> Broken {
        Broken
    }
}

impl Client {
    /// Starts our side of the link over the client's region; `index` is the brane's number for it. `None` when the region is
    /// too small or not aligned.
    pub fn start(index: usize, region: SharedRegion) -> Option<Client> {
        if region.len() < sock::SIZE {
            return None;
        }
        // SAFETY: RingIndices is made of atomics only.
        let indices = |offset| unsafe { region.object::<RingIndices>(offset) };
        let (requests, events) = (indices(sock::REQUEST_INDICES)?, indices(sock::EVENT_INDICES)?);
        let free = || Slot {
            what: Use::Free,
            generation: 0,
        };
        Some(Client {
            index,
            region,
            up: false,
            broken: false,
            control: [requests, events],
            requests: Consumer::new(requests, region.part(sock::REQUESTS.offset, sock::REQUESTS.len)?)?,
            events: Producer::new(events, region.part(sock::EVENTS.offset, sock::EVENTS.len)?)?,
            slots: (0..sock::SLOTS).map(|_| free()).collect(),
            deferred: VecDeque::new(),
            bad: 0,
            pending: 0,
            bell: 0,
            unpublished: 0,
            notify: true,
            link: Link::start(region, Side::A)?,
        })
    }

    /// The doorbell that wakes us.
    pub fn own_bell(&self) -> &'static Doorbell {
        self.link.own_bell()
    }

    /// Takes what the client has to say. `identity` is told to it when the link comes up. Returns whether there is more.
    pub fn process(&mut self, now: u64, stack: &mut Stack, identity: &Identity) -> bool {
        self.link.own_bell().disarm();
        self.pending |= self.link.own_bell().take();
        self.look_at_link(now, stack, identity);
        if !self.up {
            self.pending = 0;
            return false;
        }
        if self.pending == 0 && self.deferred.is_empty() {
            return false;
        }
        match self.work(now, stack, identity) {
            Ok(()) => self.pending != 0,
            Err(Broken) => {
                self.cut(now, stack);
                false
            }
        }
    }

    fn look_at_link(&mut self, now: u64, stack: &mut Stack, identity: &Identity) {
        let mut state = self.link.poll();
        if state == LinkState::PeerRestarted {
            self.lose_all(now, stack);
            self.control.iter().for_each(|indices| indices.reset());
            self.requests.reset();
            self.events.reset();
            self.broken = false;
            self.bad = 0;
            self.link.acknowledge();
            self.notify = true;
            state = self.link.poll();
        }
        match state {
            LinkState::Up if !self.up && !self.broken => {
                self.up = true;
                stack.counters.client_links += 1;
                // What was rung before we looked is lost with the bits, so look at everything.
                self.pending = CONTROL_BIT;
                self.identify(identity);
            }
            LinkState::Down | LinkState::Incompatible if self.up => {
                // It withdrew without restarting: its rings cannot be trusted any more.
                self.cut(now, stack);
            }
            _ => {}
        }
    }

    /// Ends everything this client has, and ignores it until it restarts.
    fn cut(&mut self, now: u64, stack: &mut Stack) {
        stack.counters.client_errors += 1;
        self.broken = true;
        self.lose_all(now, stack);
    }

    fn lose_all(&mut self, now: u64, stack: &mut Stack) {
        self.up = false;
        for slot in 0..self.slots.len() {
            self.free(now, stack, slot, true);
        }
        self.deferred.clear();
        self.pending = 0;
        self.bell = 0;
        self.unpublished = 0;
    }

    /// Whether the client can be talked to.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Tells the client who we are.
    pub fn identify(&mut self, identity: &Identity) {
        if self.up {
            let payload = Payload::Identity(*identity);
            self.event([event::IDENTITY, 0, 0], payload);
        }
    }

    fn event(&mut self, words: [u32; 3], payload: Payload) {
        // An identity that still waits is replaced, so the list is bounded by what the slots can have to say.
        if words[0] == event::IDENTITY {
            self.deferred.retain(|e| e.words[0] != event::IDENTITY);
        }
        self.deferred.push_back(Event { words, payload });
    }

    fn tell(&mut self, slot: usize, kind: u32, payload: Payload) {
        let generation = self.slots[slot].generation;
        self.event([kind, slot as u32, generation], payload);
    }

    fn flush_events(&mut self) -> Result<(), RingError> {
        while let Some(event) = self.deferred.front() {
            match self.events.push(&[event.payload.bytes()], event.words) {
                Ok(()) => {
                    self.deferred.pop_front();
                }
                Err(RingError::Full) => break,
                Err(error) => return Err(error),
            }
        }
        if self.events.publish() {
            self.bell |= CONTROL_BIT;
        }
        Ok(())
    }

    fn work(&mut self, now: u64, stack: &mut Stack, identity: &Identity) -> Result<(), Broken> {
        let mut bits = core::mem::take(&mut self.pending);
        if bits & CONTROL_BIT != 0 {
            bits &= !CONTROL_BIT;
            if self.take_requests(now, stack, identity)? {
                self.pending |= CONTROL_BIT;
            }
        }
        while bits != 0 {
            let index = bits.trailing_zeros() as usize;
            let bit = 1u64 << index;
            bits &= !bit;
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            match &mut slot.what {
                Use::Stream(Stream { conn: Some(conn), .. }) => stack.touch(*conn),
                Use::Udp(udp) => {
                    let (ring, more) = udp.send(now, stack)?;
                    self.bell |= if ring { bit } else { 0 };
                    self.pending |= if more { bit } else { 0 };
                }
                _ => {}
            }
        }
        Ok(self.flush_events()?)
    }

    /// Returns whether there may be more.
    fn take_requests(&mut self, now: u64, stack: &mut Stack, identity: &Identity) -> Result<bool, Broken> {
        self.flush_events()?;
        for _ in 0..REQUEST_BUDGET {
            if self.deferred.len() > DEFERRED {
                // It does not read its events: then it gets no more of them. Its doorbell says when there is room.
                break;
            }
            let mut payload = [0; LONGEST];
            let taken = self
                .requests
                .take(|record| (record.meta, record.len(), record.copy_to(&mut payload).len()))?;
            let Some((words, len, copied)) = taken else {
                self.requests.release();
                return Ok(false);
            };
            let sound = len == copied && self.request(now, stack, identity, words, &payload[..copied])?;
            if !sound {
                stack.counters.client_bad_requests += 1;
                self.bad += 1;
                if self.bad >= BAD_REQUESTS {
                    return Err(Broken);
                }
            }
        }
        self.requests.release();
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
    ) -> Result<bool, Broken> {
        if kind == request::IDENTIFY {
            self.identify(identity);
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
            request::SHUTDOWN | request::CLOSE | request::ABORT => {
                if matches!(slot.what, Use::Free) || slot.generation != generation {
                    stack.counters.client_stale += 1;
                    return Ok(true);
                }
                match (kind, &mut slot.what) {
                    (request::SHUTDOWN, Use::Stream(stream)) => {
                        if stream.closing == Closing::Open {
                            stream.closing = Closing::Shutdown;
                        }
                        stream.conn.iter().for_each(|conn| stack.touch(*conn));
                    }
                    (request::SHUTDOWN, _) => return Ok(false),
                    (request::CLOSE, Use::Stream(stream)) if stream.told_connected => {
                        stream.closing = Closing::Close;
                        stream.conn.iter().for_each(|conn| stack.touch(*conn));
                        self.service(now, stack, index)?;
                    }
                    (request::CLOSE, Use::Udp(udp)) => {
                        // What is in the ring still goes out, as far as one look carries.
                        udp.send(now, stack)?;
                        self.free(now, stack, index, false);
                        self.tell(index, event::CLOSED, Payload::None);
                    }
                    _ => {
                        self.free(now, stack, index, true);
                        self.tell(index, event::CLOSED, Payload::None);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn fail(&mut self, slot: usize, code: u32) {
        self.slots[slot].what = Use::Free;
        self.tell(slot, event::FAILED, Payload::Failed(Failed { error: code }));
        self.tell(slot, event::CLOSED, Payload::None);
    }

    /// Takes everything from a slot.
    fn free(&mut self, now: u64, stack: &mut Stack, slot: usize, abort: bool) {
        self.unpublished &= !(1 << slot);
        match core::mem::replace(&mut self.slots[slot].what, Use::Free) {
            Use::Free => {}
            Use::Listener(listener) => {
                for waiting in stack.unlisten(now, listener) {
                    if matches!(&self.slots[waiting].what, Use::Waiting { listener: l, .. } if *l == listener)
                    {
                        self.fail(waiting, error::INVALID);
                    }
                }
            }
            Use::Waiting { listener, .. } => {
                if let Some(listener) = stack.listeners.get_mut(listener) {
                    listener.waiting.retain(|waiting| *waiting != slot);
                }
            }
            Use::Stream(stream) => {
                if let Some(conn) = stream.conn {
                    if abort {
                        stack.abort(now, conn);
                    } else {
                        stack.release(now, conn);
                    }
                }
            }
            Use::Udp(udp) => stack.unbind(&udp.udp),
        }
    }

    fn listen(&mut self, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let listen = socket::Listen::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&listen.local)?;
        if listen.local.port == 0 {
            return Err(error::INVALID);
        }
        let listener = stack.listen(Listener {
            client: self.index,
            slot,
            local,
            port: listen.local.port,
            backlog: listen.backlog.clamp(1, BACKLOG) as usize,
            sizes: Sizes::granted(listen.rx_buffer, listen.tx_buffer),
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
        })?;
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
        self.slots[slot].what = Use::Waiting { listener, stream };
        if let Some(record) = stack.listeners.get_mut(listener) {
            record.waiting.push_back(slot);
        }
        self.hand_over(stack, listener);
        Ok(())
    }

    /// Gives connections that wait at a listener to slots that wait for one.
    pub fn hand_over(&mut self, stack: &mut Stack, listener: usize) {
        while let Some(slot) = stack
            .listeners
            .get(listener)
            .and_then(|l| l.waiting.front().copied())
        {
            let Some(conn) = stack.accept(listener) else {
                return;
            };
            if let Some(record) = stack.listeners.get_mut(listener) {
                record.waiting.pop_front();
            }
            let Use::Waiting { mut stream, .. } = core::mem::replace(&mut self.slots[slot].what, Use::Free)
            else {
                continue;
            };
            stack.counters.tcp_accepted += 1;
            stream.conn = Some(conn);
            stream.told_connected = true;
            self.slots[slot].what = Use::Stream(stream);
            let record = &mut stack.conns[conn];
            record.owner = Owner::Slot {
                client: self.index,
                slot,
            };
            let key = record.key;
            let local = SockAddr::new(Some(key.local.into()), key.local_port);
            let remote = SockAddr::new(Some(key.remote.into()), key.remote_port);
            self.tell(slot, event::ACCEPTED, endpoints(local, remote));
            stack.touch(conn);
        }
    }

    fn connect(&mut self, now: u64, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let open = socket::Open::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&open.local)?;
        let remote = address(&open.remote)?.ok_or(error::INVALID)?;
        let mut stream = self.stream(slot, &open.rings).ok_or(error::INVALID)?;
        let owner = Owner::Slot {
            client: self.index,
            slot,
        };
        let remote = IpEndpoint {
            addr: remote,
            port: open.remote.port,
        };
        let sizes = Sizes::granted(open.rings.rx_len, open.rings.tx_len);
        stream.conn = Some(stack.connect(now, owner, (local, open.local.port), remote, sizes)?);
        self.slots[slot].what = Use::Stream(stream);
        Ok(())
    }

    fn bind(&mut self, stack: &mut Stack, slot: usize, payload: &[u8]) -> Result<(), u32> {
        let open = socket::Open::read_from_bytes(payload).map_err(|_| error::INVALID)?;
        let local = address(&open.local)?;
        let [rx, tx] = self.rings(slot, &open.rings).ok_or(error::INVALID)?;
        let rx = Producer::new(rx.0, rx.1).ok_or(error::INVALID)?;
        let tx = Consumer::new(tx.0, tx.1).ok_or(error::INVALID)?;
        let udp = stack.bind(Udp {
            client: self.index,
            slot,
            local,
            port: open.local.port,
        })?;
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

    /// The connection in a slot has news, or its rings have. The caller lets it send afterwards.
    pub fn serve(&mut self, now: u64, stack: &mut Stack, slot: usize) {
        if self.service(now, stack, slot).is_err() {
            self.cut(now, stack);
        }
    }

    fn service(&mut self, now: u64, stack: &mut Stack, index: usize) -> Result<(), Broken> {
        let Some(Slot {
            what: Use::Stream(stream),
            ..
        }) = self.slots.get_mut(index)
        else {
            return Ok(());
        };
        let conn = stream.conn;
        // The last news can be followed by no more than two others.
        for _ in 0..3 {
            let Use::Stream(stream) = &mut self.slots[index].what else {
                break;
            };
            let (ring, news) = stream.pump(now, stack)?;
            if ring {
                self.bell |= 1 << index;
            }
            match news {
                None => break,
                Some(News::Connected) => {
                    let key = conn.and_then(|id| stack.conns.get(id)).map(|c| c.key);
                    if let Some(key) = key {
                        stack.counters.tcp_connected += 1;
                        let local = SockAddr::new(Some(key.local.into()), key.local_port);
                        let remote = SockAddr::new(Some(key.remote.into()), key.remote_port);
                        self.tell(index, event::CONNECTED, endpoints(local, remote));
                    }
                }
                Some(News::Failed(code)) => self.fail(index, code),
                Some(News::PeerClosed) => self.tell(index, event::PEER_CLOSED, Payload::None),
                Some(News::Reset) => self.tell(index, event::RESET, Payload::None),
                Some(News::Released) => {
                    self.slots[index].what = Use::Free;
                    self.tell(index, event::CLOSED, Payload::None);
                }
            }
        }
        Ok(())
    }

    /// A datagram has come for a slot.
    pub fn deliver(
        &mut self,
        now: u64,
        stack: &mut Stack,
        slot: usize,
        datagram: &Transport,
        payload: &[u8],
    ) {
        let Some(Slot {
            what: Use::Udp(udp), ..
        }) = self.slots.get_mut(slot)
        else {
            return;
        };
        match udp.deliver(datagram, payload) {
            Ok(()) => {
                stack.counters.udp_received += 1;
                self.unpublished |= 1 << slot;
            }
            Err(RingError::Full | RingError::TooLong) => stack.counters.udp_rx_full += 1,
            Err(RingError::Peer) => self.cut(now, stack),
        }
    }

    /// Makes everything visible to the client. `true` when it must be notified.
    pub fn flush(&mut self, now: u64, stack: &mut Stack) -> bool {
        if self.up {
            let mut bits = core::mem::take(&mut self.unpublished);
            while bits != 0 {
                let slot = bits.trailing_zeros() as usize;
                if let Use::Udp(udp) = &mut self.slots[slot].what
                    && udp.publish()
                {
                    self.bell |= 1 << slot;
                }
                bits &= bits - 1;
            }
            if !self.deferred.is_empty() && self.flush_events().is_err() {
                self.cut(now, stack);
            }
        }
        let bits = core::mem::take(&mut self.bell);
        let woken = bits != 0 && self.link.peer_bell().ring(bits);
        core::mem::take(&mut self.notify) | woken
    }
}

fn endpoints(local: SockAddr, remote: SockAddr) -> Payload {
    Payload::Endpoints(Endpoints { local, remote })
}

/// The client's address as the stack words it. The unspecified address of a family stands for any, too.
fn address(address: &SockAddr) -> Result<Option<IpAddress>, u32> {
    let address = address.address().map_err(|_| error::INVALID)?;
    Ok(address.map(IpAddress::from).filter(|a| !a.is_unspecified()))
}
