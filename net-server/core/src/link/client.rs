//! The socket service for one client: the protocol of `brane_abi::socket` over the region that the two share.
//!
//! The client is trusted with nothing. What it writes is copied once and checked; a request without sense is refused and
//! counted, and one that breaks the rings' rules, or too many without sense, cuts the client off: all its sockets are reset
//! and it is ignored until it restarts. Nothing here ever waits for it: what finds no room is deferred (a bounded list)
//! or dropped (datagrams). What it may ask for is in `requests.rs`.

mod requests;
pub mod slot;

use crate::link::client::slot::{Closing, News, Slot, Stream, Use};
use crate::stack::Stack;
use crate::transport::udp::rx_flow_cache::Delivery;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::sock;
use brane_abi::link::Side;
use brane_abi::net::SockAddr;
use brane_abi::query::Answer;
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{CONTROL_BIT, Done, Endpoints, Failed, Identity, QUESTIONS, error, event};
use requests::DEFERRED;
use zerocopy::IntoBytes;

const ANSWER: u32 = event::ANSWER;

/// An event that is not in the ring yet.
struct Event {
    words: [u32; 3],
    payload: Payload,
}

enum Payload {
    None,
    Endpoints(Endpoints),
    Failed(Failed),
    Done(Done),
    /// The latest identity.
    Identity,
    Answer(Vec<u8>),
}

impl Payload {
    fn bytes<'a>(&'a self, identity: &'a Identity) -> &'a [u8] {
        match self {
            Payload::None => &[],
            Payload::Endpoints(e) => e.as_bytes(),
            Payload::Failed(f) => f.as_bytes(),
            Payload::Done(done) => done.as_bytes(),
            Payload::Identity => identity.as_bytes(),
            Payload::Answer(text) => text,
        }
    }
}

/// Events that can wait for room in the ring: the answers to requests (see `requests.rs`), and what its slots have to say
/// meanwhile. One that waits for a connection ends with two events, a connection with four.
pub const EVENTS: usize = DEFERRED + 8 * sock::SLOTS + QUESTIONS + 2;
/// Memory in bytes for them.
pub const EVENT_BYTES: usize = EVENTS * size_of::<Event>();

/// The brane's end of a client's region.
pub struct Client {
    index: usize,
    region: SharedRegion,
    /// The link. Its rings carry events to the client and requests from it.
    endpoint: Endpoint<RingPair>,
    slots: Vec<Slot>,
    deferred: VecDeque<Event>,
    /// Who we are, as the client is told next.
    identity: Identity,
    /// More events than [`EVENTS`] waited.
    overrun: bool,
    bad: u32,
    /// Questions that were not answered yet.
    questions: usize,
    /// Doorbell bits taken but not dealt with.
    pending: u64,
    /// Doorbell bits to ring.
    bell: u64,
    /// Slots whose receive ring has records that are not visible yet.
    unpublished: u64,
}

/// The client has violated the protocol: it is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Violation;

impl From<RingError> for Violation {
    fn from(_: RingError) -> Violation {
        Violation
    }
}

impl Client {
    /// Starts our side of the link over the client's region; `index` is the brane's number for it. `None` when the region is
    /// too small or not aligned.
    pub fn start(index: usize, region: SharedRegion) -> Option<Client> {
        let free = || Slot {
            what: Use::Free,
            generation: 0,
        };
        Some(Client {
            index,
            region,
            endpoint: Endpoint::start(region, Side::A, sock::brane_rings(region)?)?,
            slots: (0..sock::SLOTS).map(|_| free()).collect(),
            deferred: VecDeque::with_capacity(EVENTS),
            identity: Identity::default(),
            overrun: false,
            bad: 0,
            questions: 0,
            pending: 0,
            bell: 0,
            unpublished: 0,
        })
    }

    /// Announces sleep. Returns false if the client has rung meanwhile.
    pub fn arm(&self) -> bool {
        self.endpoint.arm()
    }

    /// Polls the link and takes the client's requests and datagrams. Sends `identity` if the link comes up. Returns true if
    /// there is more.
    pub fn poll(&mut self, now: u64, stack: &mut Stack, identity: &Identity) -> bool {
        self.pending |= self.endpoint.wake();
        self.poll_link(now, stack, identity);
        if !self.endpoint.is_up() {
            self.pending = 0;
            return false;
        }
        if self.pending == 0 && self.deferred.is_empty() {
            return false;
        }
        match self.work(now, stack, identity) {
            Ok(()) => self.pending != 0,
            Err(Violation) => {
                self.quarantine(now, stack);
                false
            }
        }
    }

    fn poll_link(&mut self, now: u64, stack: &mut Stack, identity: &Identity) {
        let was_up = self.endpoint.is_up();
        let mut event = self.endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            self.lose_all(now, stack);
            self.bad = 0;
            self.endpoint.accept();
            event = self.endpoint.poll();
        }
        match event {
            LinkEvent::CameUp => {
                stack.net.counters.client_links += 1;
                // Bits that were rung before are lost, so the requests are looked at.
                self.pending = CONTROL_BIT;
                self.identify(identity);
            }
            // It withdrew without restarting: its rings cannot be trusted any more.
            LinkEvent::Lost | LinkEvent::Incompatible if was_up => {
                stack.net.counters.client_errors += 1;
                self.lose_all(now, stack);
            }
            LinkEvent::Unchanged | LinkEvent::PeerRestarted | LinkEvent::Lost | LinkEvent::Incompatible => {}
        }
    }

    /// Ends all that the client has, and ignores it until it restarts.
    fn quarantine(&mut self, now: u64, stack: &mut Stack) {
        stack.net.counters.client_errors += u64::from(self.endpoint.violation());
        self.lose_all(now, stack);
    }

    fn lose_all(&mut self, now: u64, stack: &mut Stack) {
        for slot in 0..self.slots.len() {
            self.free(now, stack, slot, error::INVALID);
        }
        self.deferred.clear();
        self.overrun = false;
        self.questions = 0;
        stack.forget_requester(self.index);
        self.pending = 0;
        self.bell = 0;
        self.unpublished = 0;
    }

    /// Whether the client can be talked to.
    pub fn is_up(&self) -> bool {
        self.endpoint.is_up()
    }

    /// Answers a question of the client.
    pub fn answer(&mut self, token: u32, answer: &Answer) {
        // Writing to a vector cannot fail.
        if self.endpoint.is_up()
            && let Ok(text) = minicbor::to_vec(answer)
        {
            self.event([event::ANSWER, token, 0], Payload::Answer(text));
        }
    }

    /// Tells the client who we are.
    pub fn identify(&mut self, identity: &Identity) {
        if self.endpoint.is_up() {
            self.identity = *identity;
            self.event([event::IDENTITY, 0, 0], Payload::Identity);
        }
    }

    fn event(&mut self, words: [u32; 3], payload: Payload) {
        // An identity that still waits is replaced, so the list is bounded by what the slots can have to say.
        if words[0] == event::IDENTITY {
            self.deferred.retain(|e| e.words[0] != event::IDENTITY);
        }
        if self.deferred.len() < EVENTS {
            self.deferred.push_back(Event { words, payload });
        } else {
            self.overrun = true;
        }
    }

    fn tell(&mut self, slot: usize, kind: u32, payload: Payload) {
        let generation = self.slots[slot].generation;
        self.event([kind, slot as u32, generation], payload);
    }

    fn flush_events(&mut self) -> Result<(), RingError> {
        if core::mem::take(&mut self.overrun) {
            return Err(RingError::Peer);
        }
        while let Some(event) = self.deferred.front() {
            match self
                .endpoint
                .rings
                .tx
                .push(&[event.payload.bytes(&self.identity)], event.words)
            {
                Ok(()) => {
                    self.questions -= usize::from(event.words[0] == ANSWER);
                    self.deferred.pop_front();
                }
                Err(RingError::Full) => break,
                Err(error) => return Err(error),
            }
        }
        if self.endpoint.rings.tx.publish() {
            self.bell |= CONTROL_BIT;
        }
        Ok(())
    }

    fn work(&mut self, now: u64, stack: &mut Stack, identity: &Identity) -> Result<(), Violation> {
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
                Use::Stream(Stream { conn: Some(conn), .. }) => stack.tcp.touch(*conn),
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

    fn fail(&mut self, slot: usize, code: u32) {
        self.slots[slot].what = Use::Free;
        self.tell(slot, event::FAILED, Payload::Failed(Failed { error: code }));
        self.tell(slot, event::CLOSED, Payload::None);
    }

    /// Takes everything from a slot; a connection is reset. `code` is why slots fail that waited for this one.
    fn free(&mut self, now: u64, stack: &mut Stack, slot: usize, code: u32) {
        self.unpublished &= !(1 << slot);
        match core::mem::replace(&mut self.slots[slot].what, Use::Free) {
            Use::Free | Use::Over => {}
            Use::Listener(listener) => {
                for waiting in stack.tcp.unlisten(now, &mut stack.net, listener) {
                    if matches!(&self.slots[waiting].what, Use::Waiting { listener: l, .. } if *l == listener)
                    {
                        self.fail(waiting, code);
                    }
                }
            }
            Use::Waiting { listener, .. } => {
                if let Some(listener) = stack.tcp.listeners.get_mut(listener) {
                    listener.waiting.retain(|waiting| *waiting != slot);
                }
            }
            Use::Stream(stream) => {
                if let Some(conn) = stream.conn {
                    stack.tcp.abort(now, &mut stack.net, conn);
                }
            }
            Use::Udp(udp) => stack.close_udp(now, &udp.udp),
        }
    }

    /// Addresses are gone: resets listeners and UDP sockets that have one of them.
    pub fn reset_stranded(&mut self, now: u64, stack: &mut Stack) {
        for index in 0..self.slots.len() {
            let local = match &self.slots[index].what {
                Use::Listener(listener) => stack.tcp.listeners.get(*listener).and_then(|l| l.local),
                Use::Udp(udp) => udp.udp.local,
                _ => None,
            };
            // A group is no address of the brane, and is not lost with one.
            if local.is_some_and(|address| !address.is_multicast() && !stack.net.owns(address)) {
                self.free(now, stack, index, error::ADDRESS_NOT_AVAILABLE);
                self.slots[index].what = Use::Over;
                self.tell(index, event::RESET, Payload::None);
            }
        }
    }

    /// An interface is removed: no socket sends to groups by it any more.
    pub fn forget_netif(&mut self, netif: usize) {
        for slot in &mut self.slots {
            if let Use::Udp(udp) = &mut slot.what
                && udp.options.netif == Some(netif)
            {
                udp.options.netif = None;
            }
        }
    }

    /// The brane is being shut down: listeners and UDP sockets end, connections send what they have and a FIN.
    pub fn drain(&mut self, now: u64, stack: &mut Stack) {
        for index in 0..self.slots.len() {
            match &mut self.slots[index].what {
                Use::Stream(stream) if stream.told_connected => {
                    if stream.closing == Closing::Open {
                        stream.closing = Closing::Shutdown;
                    }
                    stream.conn.iter().for_each(|conn| stack.tcp.touch(*conn));
                }
                Use::Stream(_) => {
                    self.free(now, stack, index, error::NOT_READY);
                    self.fail(index, error::NOT_READY);
                }
                Use::Listener(_) | Use::Udp(_) => {
                    if let Use::Udp(udp) = &mut self.slots[index].what
                        && udp.send(now, stack).is_err()
                    {
                        return self.quarantine(now, stack);
                    }
                    self.free(now, stack, index, error::NOT_READY);
                    self.slots[index].what = Use::Over;
                    self.tell(index, event::RESET, Payload::None);
                }
                Use::Waiting { .. } | Use::Free | Use::Over => {}
            }
        }
    }

    /// The connection in a slot has news, or its rings have. The caller lets it send afterwards.
    pub fn serve(&mut self, now: u64, stack: &mut Stack, slot: usize) {
        if self.service(now, stack, slot).is_err() {
            self.quarantine(now, stack);
        }
    }

    fn service(&mut self, now: u64, stack: &mut Stack, index: usize) -> Result<(), Violation> {
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
                    let key = conn.and_then(|id| stack.tcp.conns.get(id)).map(|c| c.key);
                    if let Some(key) = key {
                        stack.net.counters.tcp_connected += 1;
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

    /// The connection in a slot was reset for the sake of others, and is gone.
    fn lose(&mut self, now: u64, stack: &mut Stack, index: usize) {
        let Some(Slot {
            what: Use::Stream(stream),
            ..
        }) = self.slots.get_mut(index)
        else {
            return;
        };
        if stream.lose() {
            stack.net.counters.tcp_resets += 1;
            self.tell(index, event::RESET, Payload::None);
        } else {
            self.serve(now, stack, index);
        }
    }

    /// A datagram has come for a slot; whether it is in the client's ring. Error: what [`Self::undelivered`] wants.
    #[inline]
    pub fn deliver(&mut self, delivery: &Delivery, payload: &[u8]) -> Result<bool, RingError> {
        let slot = delivery.slot;
        let Some(Slot {
            what: Use::Udp(udp), ..
        }) = self.slots.get_mut(slot)
        else {
            return Ok(false);
        };
        udp.deliver(&delivery.header, payload)?;
        self.unpublished |= 1 << slot;
        Ok(true)
    }

    /// A datagram could not be delivered.
    #[cold]
    pub fn undelivered(&mut self, now: u64, stack: &mut Stack, error: RingError) {
        match error {
            RingError::Full | RingError::TooLong => stack.net.counters.udp_rx_full += 1,
            RingError::Peer => self.quarantine(now, stack),
        }
    }

    /// Makes everything visible to the client. `true` when it must be notified.
    pub fn flush(&mut self, now: u64, stack: &mut Stack) -> bool {
        if self.endpoint.is_up() {
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
                self.quarantine(now, stack);
            }
        }
        let bits = core::mem::take(&mut self.bell);
        self.endpoint.flush(bits)
    }
}

/// Tells clients of connections that the stack has reset for the sake of others. It must follow at once: the stack may use the
/// connections' numbers for new ones.
#[inline]
pub fn lose_evicted(now: u64, stack: &mut Stack, clients: &mut [Client]) {
    while let Some((client, slot)) = stack.tcp.evicted.pop() {
        clients[client].lose(now, stack, slot);
    }
}

fn endpoints(local: SockAddr, remote: SockAddr) -> Payload {
    Payload::Endpoints(Endpoints { local, remote })
}
