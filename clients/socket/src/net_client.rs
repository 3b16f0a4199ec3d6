//! The client's end of the region as a whole: link, requests, events, slots, and the loop around them.
//!
//! On the other side is the brane, which is not trusted and may restart at any moment. [`Core`] follows the link; after a restart
//! all earlier state is gone on both sides. `events.rs` handles the brane's events.

use crate::error::Error;
use crate::executor::Executor;
use crate::identity::Identity;
use crate::query::{self, PendingQuery};
use crate::ring_allocator::{RingAllocator, is_ring_size};
use crate::slot::{Handle, Phase, RingSizes, Slot};
use crate::time::Timers;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::doorbell::Doorbell;
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::sock;
use brane_abi::link::Side;
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{CONTROL_BIT, request};
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};
use zerocopy::IntoBytes;

/// Tasks polled before the brane's doorbell is rung and the events are polled again.
const POLL_BUDGET: usize = 16;

/// Functions of the platform that the library needs.
pub trait Platform {
    /// Notifies the brane.
    fn notify(&self);
    /// Returns the time of a clock that never goes back, in nanoseconds.
    fn now(&self) -> u64;
}

/// Named counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that the link with the brane came up.
    pub links_up: u64,
    /// Sockets that ended because the brane restarted.
    pub sockets_lost: u64,
    /// Events for an earlier use of their slot.
    pub stale_events: u64,
    /// Events with an unknown kind, a slot that does not exist, or a wrong length, or that do not fit the slot's phase.
    pub bad_events: u64,
    /// Times that the brane violated the ring protocol and was ignored until its restart.
    pub peer_errors: u64,
    /// Datagrams discarded unread because they were shorter than their header or too long for the reply ring.
    pub bad_datagrams: u64,
}

/// The state that events change.
pub(crate) struct Core {
    region: SharedRegion,
    /// The link. Its rings carry requests to the brane and events from the brane.
    pub endpoint: Endpoint<RingPair>,
    pub more_events: bool,
    pub slots: Vec<Slot>,
    free: u64,
    allocator: RingAllocator,
    pub identity: Rc<Identity>,
    pub identity_known: bool,
    /// Raised at each change of link or identity.
    serial: u64,
    /// Raised each time that all sockets were lost.
    incarnation: u64,
    wakers: Vec<Waker>,
    slot_waiters: Vec<Waker>,
    pub timers: Timers,
    pub queries: Vec<PendingQuery>,
    pub last_token: u32,
    pub counters: Counters,
}

/// State that all handles share.
pub(crate) struct Shared {
    pub core: RefCell<Core>,
    platform: Box<dyn Platform>,
    own_bell: &'static Doorbell,
    peer_bell: &'static Doorbell,
    /// Doorbell bits to ring at the next flush.
    dirty: Cell<u64>,
}

/// The client's end of the region. Clones are handles of one end.
#[derive(Clone)]
pub struct NetClient(pub(crate) Rc<Shared>);

impl NetClient {
    /// Starts this side of the link over `region` (layout [`sock`]) and notifies the brane. Returns `None` if the region is too
    /// small or not aligned. Each region must have only one `NetClient`.
    pub fn start(region: SharedRegion, platform: Box<dyn Platform>) -> Option<NetClient> {
        let mut core = Core {
            region,
            endpoint: Endpoint::start(region, Side::B, sock::client_rings(region)?)?,
            more_events: false,
            slots: (0..sock::SLOTS).map(|_| Slot::new()).collect(),
            free: (1 << sock::SLOTS) - 1,
            allocator: RingAllocator::new(sock::DATA.offset, sock::DATA.len),
            identity: Rc::default(),
            identity_known: false,
            serial: 0,
            incarnation: 0,
            wakers: Vec::new(),
            slot_waiters: Vec::new(),
            timers: Timers::new(),
            queries: query::none(),
            last_token: 0,
            counters: Counters::default(),
        };
        let (own_bell, peer_bell) = (core.endpoint.own_bell(), core.endpoint.peer_bell());
        core.notify(&*platform);
        Some(NetClient(Rc::new(Shared {
            core: RefCell::new(core),
            platform,
            own_bell,
            peer_bell,
            dirty: Cell::new(0),
        })))
    }

    /// Works until no work is left and the doorbell is armed. Returns the next deadline. The caller then waits for a notification
    /// or for the deadline, and calls again. Call it after every wake, for any reason.
    pub fn run(&self, executor: &Executor) -> Option<u64> {
        loop {
            self.process();
            let mut polled = 0;
            while polled < POLL_BUDGET && executor.try_tick() {
                polled += 1;
            }
            self.flush();
            if polled < POLL_BUDGET && !self.0.core.borrow().more_events && self.0.own_bell.arm() {
                return self.next_deadline();
            }
        }
    }

    /// Handles the brane's events and queues the tasks that waited for them.
    pub fn process(&self) {
        // Takes the bits first. If the link is not up yet, these bits are not lost, because all rings are polled when it comes
        // up.
        self.0.own_bell.disarm();
        let bits = self.0.own_bell.take();
        let core = &mut *self.0.core.borrow_mut();
        let look = core.poll_link(&self.0);
        if core.endpoint.is_up() {
            if look || core.more_events || bits & CONTROL_BIT != 0 {
                core.take_events(&self.0);
            }
            let mut bits = bits & !CONTROL_BIT;
            while bits != 0 {
                if let Some(slot) = core.slots.get_mut(bits.trailing_zeros() as usize) {
                    slot.wake();
                }
                bits &= bits - 1;
            }
        }
        if core.timers.next() != u64::MAX {
            core.expire(&self.0);
        }
    }

    /// Rings the brane's doorbell for all marked bits since the last call.
    pub fn flush(&self) {
        let dirty = self.0.dirty.replace(0);
        if dirty != 0 && self.0.peer_bell.ring(dirty) {
            self.0.platform.notify();
        }
    }

    /// Returns the time at which [`Self::run`] must be called even without a notification, on the clock of [`Platform::now`].
    pub fn next_deadline(&self) -> Option<u64> {
        let next = self.0.core.borrow().timers.next();
        (next != u64::MAX).then_some(next)
    }

    /// Returns the brane's identity as it is known now.
    pub fn identity(&self) -> Rc<Identity> {
        self.0.core.borrow().identity.clone()
    }

    /// Returns a number that changes whenever the identity or the link changes.
    pub fn serial(&self) -> u64 {
        self.0.core.borrow().serial
    }

    /// Returns a number that changes whenever the brane has lost all sockets.
    pub fn incarnation(&self) -> u64 {
        self.0.core.borrow().incarnation
    }

    /// Returns true if sockets can be opened now.
    pub fn is_ready(&self) -> bool {
        self.0.core.borrow().is_ready()
    }

    /// Waits until sockets can be opened: the link is up and the brane is configured. Returns the brane's identity.
    pub async fn ready(&self) -> Rc<Identity> {
        core::future::poll_fn(|cx| {
            let mut core = self.0.core.borrow_mut();
            if core.is_ready() {
                return Poll::Ready(core.identity.clone());
            }
            core.watch(cx);
            Poll::Pending
        })
        .await
    }

    /// Waits until [`Self::serial`] differs from `seen`. Returns the new number.
    pub async fn changed(&self, seen: u64) -> u64 {
        core::future::poll_fn(|cx| {
            let mut core = self.0.core.borrow_mut();
            if core.serial != seen {
                return Poll::Ready(core.serial);
            }
            core.watch(cx);
            Poll::Pending
        })
        .await
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        self.0.core.borrow().counters
    }
}

impl Shared {
    /// Marks doorbell bits for the next flush.
    pub fn mark(&self, bits: u64) {
        self.dirty.set(self.dirty.get() | bits);
    }

    /// Returns the time of the platform's clock.
    pub fn now(&self) -> u64 {
        self.platform.now()
    }

    /// Counts a protocol violation by the brane and quarantines it until it restarts.
    pub fn violation(&self) {
        self.core.borrow_mut().violation();
    }

    /// Takes a free slot, with rings of these sizes. If none is free, waits until closing sockets give one back.
    pub async fn take_slot(self: &Rc<Self>, sizes: Option<RingSizes>) -> Result<Handle, Error> {
        if let Some(s) = sizes
            && !(is_ring_size(s.rx) && is_ring_size(s.tx))
        {
            return Err(Error::InvalidInput);
        }
        let slot = core::future::poll_fn(|cx| self.core.borrow_mut().poll_slot(cx, sizes)).await?;
        Ok(Handle {
            shared: self.clone(),
            slot,
            abort: false,
        })
    }

    /// Sends a request about a slot.
    pub fn request(&self, slot: usize, kind: u32, payload: &[u8]) -> Result<(), Error> {
        let core = &mut *self.core.borrow_mut();
        if let Some(error) = core.slots[slot].error {
            return Err(error);
        }
        core.request(self, slot, kind, payload)
    }

    /// Closes or resets the socket of a dropped handle.
    pub fn release(&self, slot: usize, abort: bool) {
        let core = &mut *self.core.borrow_mut();
        core.slots[slot].held = false;
        match core.slots[slot].phase {
            Phase::Free => {}
            Phase::Gone => core.free_slot(slot),
            Phase::Closing => core.linger(self, slot),
            Phase::Opening | Phase::Open => {
                // A request without an answer is withdrawn, not finished.
                let abort = abort || core.slots[slot].phase == Phase::Opening;
                core.slots[slot].phase = Phase::Closing;
                let kind = if abort { request::ABORT } else { request::CLOSE };
                // If the request fails, the link has ended and the slot is free already.
                if core.request(self, slot, kind, &[]).is_ok() {
                    core.linger(self, slot);
                }
            }
        }
    }
}

impl Core {
    fn is_ready(&self) -> bool {
        self.endpoint.is_up() && self.identity.ready
    }

    fn watch(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|w| w.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }

    pub fn changed(&mut self) {
        self.serial += 1;
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Polls the link. Returns true if it has just come up.
    fn poll_link(&mut self, shared: &Shared) -> bool {
        let was_up = self.endpoint.is_up();
        let mut event = self.endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            self.lose_all(was_up, Error::BraneRestarted);
            self.endpoint.accept();
            self.notify(&*shared.platform);
            event = self.endpoint.poll();
        }
        match event {
            LinkEvent::CameUp => {
                self.counters.links_up += 1;
                self.changed();
                return true;
            }
            LinkEvent::Lost | LinkEvent::Incompatible if was_up => {
                self.lose_all(was_up, Error::BraneRestarted);
            }
            LinkEvent::Unchanged | LinkEvent::PeerRestarted | LinkEvent::Lost | LinkEvent::Incompatible => {}
        }
        false
    }

    /// Notifies the brane if a step of the handshake is due.
    fn notify(&mut self, platform: &dyn Platform) {
        if self.endpoint.flush(0) {
            platform.notify();
        }
    }

    /// Ends the link because a ring has an impossible index or length. The brane has restarted, or is quarantined until it does.
    pub fn violation(&mut self) {
        let was_up = self.endpoint.is_up();
        if self.endpoint.violation() {
            self.counters.peer_errors += 1;
            self.lose_all(was_up, Error::Protocol);
        } else {
            self.lose_all(was_up, Error::BraneRestarted);
        }
    }

    /// Ends all sockets and queries with the link.
    fn lose_all(&mut self, was_up: bool, error: Error) {
        self.identity_known = false;
        self.more_events = false;
        Rc::make_mut(&mut self.identity).ready = false;
        self.lose_sockets(error);
        self.lose_queries(error);
        if was_up {
            self.changed();
        }
    }

    pub fn lose_sockets(&mut self, error: Error) {
        self.incarnation += 1;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.phase == Phase::Free {
                continue;
            }
            self.counters.sockets_lost += 1;
            slot.phase = Phase::Gone;
            slot.error.get_or_insert(error);
            slot.wake();
            if !slot.held {
                self.free_slot(index);
            }
        }
    }

    pub fn free_slot(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.phase = Phase::Free;
        slot.linger = u64::MAX;
        // A waker keeps its task's memory alive.
        (slot.rx, slot.tx) = Default::default();
        if let Some((rx, tx)) = slot.rings.take() {
            self.allocator.release(rx);
            self.allocator.release(tx);
        }
        self.free |= 1 << index;
        self.slot_waiters.drain(..).for_each(Waker::wake);
    }

    fn poll_slot(&mut self, cx: &Context<'_>, sizes: Option<RingSizes>) -> Poll<Result<usize, Error>> {
        if !self.is_ready() {
            return Poll::Ready(Err(Error::NotReady));
        }
        if self.free != 0 {
            let rings =
                match sizes {
                    None => Some(None),
                    Some(sizes) => self.allocator.allocate(sizes.rx).and_then(|rx| {
                        match self.allocator.allocate(sizes.tx) {
                            Some(tx) => Some(Some((rx, tx))),
                            None => {
                                self.allocator.release(rx);
                                None
                            }
                        }
                    }),
                };
            if let Some(rings) = rings {
                let index = self.free.trailing_zeros() as usize;
                self.free &= self.free - 1;
                self.slots[index].begin(rings);
                return Poll::Ready(Ok(index));
            }
        }
        if !self.slots.iter().any(|s| s.phase == Phase::Closing && !s.held) {
            return Poll::Ready(Err(Error::NoResources));
        }
        if !self.slot_waiters.iter().any(|w| w.will_wake(cx.waker())) {
            self.slot_waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns the slot's rings in shared memory, zeroed: indices and data of the receive ring, then of the transmit ring. Only
    /// between taking the slot and the request that opens it.
    pub fn fresh_rings(&self, slot: usize) -> Option<[(&'static RingIndices, SharedRegion); 2]> {
        let (rx, tx) = self.slots[slot].rings.as_ref()?;
        let ring = |indices, range: &crate::ring_allocator::Range| {
            // SAFETY: RingIndices is made of atomics only.
            let indices = unsafe { self.region.object::<RingIndices>(indices) }?;
            indices.reset();
            Some((
                indices,
                self.region.part(range.offset as usize, range.len as usize)?,
            ))
        };
        Some([
            ring(sock::rx_indices(slot), rx)?,
            ring(sock::tx_indices(slot), tx)?,
        ])
    }

    pub fn request(&mut self, shared: &Shared, slot: usize, kind: u32, payload: &[u8]) -> Result<(), Error> {
        let words = [kind, slot as u32, self.slots[slot].generation];
        self.send(words, payload)?;
        shared.mark(CONTROL_BIT);
        Ok(())
    }

    /// Returns true if the link is up.
    pub fn is_up(&self) -> bool {
        self.endpoint.is_up()
    }

    /// Enqueues a request; the caller rings the doorbell.
    pub fn send(&mut self, words: [u32; 3], payload: &[u8]) -> Result<(), Error> {
        let requests = &mut self.endpoint.rings.tx;
        match requests.push(&[payload], words) {
            Ok(()) => {
                requests.publish();
                Ok(())
            }
            // Each slot has at most four requests under way, queries are few, and the ring has room for all of them. So a full
            // ring means that the brane gives no room back.
            Err(_) => {
                self.violation();
                Err(Error::Protocol)
            }
        }
    }
}

/// Returns the bytes of a request's payload.
pub(crate) fn bytes<T: IntoBytes + zerocopy::Immutable>(payload: &T) -> &[u8] {
    payload.as_bytes()
}
