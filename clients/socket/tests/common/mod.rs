//! A brane's side of the region, which the test simulates over the real rings. It sends the answers that the test chooses, keeps
//! the client's requests, and can restart or write rubbish.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use brane_abi::layout::sock;
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::SockAddr;
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::socket::*;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use brane_socket::{Executor, NetClient, Platform};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Zeroed, page-aligned memory that stands in for the shared region.
pub struct Backing(NonNull<u8>);

const LAYOUT: Layout = match Layout::from_size_align(sock::SIZE, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a power of two"),
};

impl Backing {
    pub fn new() -> Backing {
        // SAFETY: the layout has a size above zero.
        Backing(NonNull::new(unsafe { alloc_zeroed(LAYOUT) }).unwrap())
    }
    pub fn region(&self) -> SharedRegion {
        // SAFETY: valid until drop; the tests keep the backing longer than its users.
        unsafe { SharedRegion::new(self.0, sock::SIZE) }
    }
    /// Overwrites bytes, as a faulty brane would.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= sock::SIZE);
        // SAFETY: inside the allocation as just asserted.
        unsafe { self.0.as_ptr().add(offset).copy_from(bytes.as_ptr(), bytes.len()) }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) }
    }
}

/// Platform with a counter of notifications and a clock that the test sets.
#[derive(Clone, Default)]
pub struct World {
    pub notified: Rc<Cell<u64>>,
    pub now: Rc<Cell<u64>>,
}

impl Platform for World {
    fn notify(&self) {
        self.notified.set(self.notified.get() + 1);
    }
    fn now(&self) -> u64 {
        self.now.get()
    }
}

/// A request as the brane reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: u32,
    pub slot: usize,
    pub generation: u32,
    pub payload: Vec<u8>,
}

impl Request {
    pub fn parse<T: FromBytes>(&self) -> T {
        T::read_from_bytes(&self.payload).expect("payload of the right length")
    }
}

/// The brane's end of the region.
pub struct Peer {
    pub region: SharedRegion,
    pub link: Link,
    requests: Consumer,
    pub events: Producer,
}

fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.unwrap()
}

impl Peer {
    /// Starts, or restarts, the brane.
    pub fn start(region: SharedRegion) -> Peer {
        let link = Link::start(region, Side::A).unwrap();
        let part = |p: brane_abi::layout::Part| region.part(p.offset, p.len).unwrap();
        let requests = Consumer::new(indices(region, sock::REQUEST_INDICES), part(sock::REQUESTS)).unwrap();
        let events = Producer::new(indices(region, sock::EVENT_INDICES), part(sock::EVENTS)).unwrap();
        Peer {
            region,
            link,
            requests,
            events,
        }
    }

    /// Polls the link and accepts a restart. Returns true if the link is up.
    pub fn poll_link(&mut self) -> bool {
        if self.link.poll() == LinkState::PeerRestarted {
            indices(self.region, sock::REQUEST_INDICES).reset();
            indices(self.region, sock::EVENT_INDICES).reset();
            self.requests.reset();
            self.events.reset();
            self.link.acknowledge();
        }
        self.link.poll() == LinkState::Up
    }

    /// Takes the next request.
    pub fn request(&mut self) -> Option<Request> {
        let request = self
            .requests
            .take(|r| {
                let mut payload = vec![0; r.len()];
                r.copy_to(&mut payload);
                let [kind, slot, generation] = r.meta;
                Request {
                    kind,
                    slot: slot as usize,
                    generation,
                    payload,
                }
            })
            .unwrap();
        self.requests.release();
        request
    }

    /// Takes the next request, if the ring is valid.
    pub fn try_request(&mut self) -> Option<Request> {
        let request = self.requests.take(|r| {
            let [kind, slot, generation] = r.meta;
            Request {
                kind,
                slot: slot as usize,
                generation,
                payload: Vec::new(),
            }
        });
        self.requests.release();
        request.ok().flatten()
    }

    /// Takes the next request, which must be of this kind.
    pub fn expect(&mut self, kind: u32) -> Request {
        let request = self.request().expect("a request");
        assert_eq!(request.kind, kind, "{request:?}");
        request
    }

    pub fn event(&mut self, kind: u32, slot: usize, generation: u32, payload: &[u8]) {
        self.events
            .push(&[payload], [kind, slot as u32, generation])
            .unwrap();
        self.events.publish();
        let _ = self.link.peer_bell().ring(CONTROL_BIT);
    }

    pub fn answer<T: IntoBytes + Immutable>(&mut self, to: &Request, kind: u32, payload: &T) {
        self.event(kind, to.slot, to.generation, payload.as_bytes());
    }

    pub fn closed(&mut self, to: &Request) {
        self.event(event::CLOSED, to.slot, to.generation, &[]);
    }

    pub fn ring(&self, slot: usize) {
        let _ = self.link.peer_bell().ring(1 << slot);
    }

    pub fn identify(&mut self, generation: u32, ready: bool) {
        let mut identity = Identity {
            id: 1,
            generation,
            ready: ready.into(),
            ..Identity::default()
        };
        identity.name[..3].copy_from_slice(b"red");
        identity.mac = [2, 0x77, 0, 0, 0, 1];
        identity.address_count = 1;
        identity.addresses[0] = SockAddr::new(Some("10.0.2.16".parse().unwrap()), 24);
        self.event(event::IDENTITY, 0, 0, identity.as_bytes());
    }

    /// Returns the brane's ends of a stream's rings: the ring to the client, and the ring from the client.
    pub fn stream(&self, slot: usize, rings: Rings) -> (StreamProducer, StreamConsumer) {
        let [rx, tx] = self.ring_parts(rings);
        (
            StreamProducer::new(indices(self.region, sock::rx_indices(slot)), rx).unwrap(),
            StreamConsumer::new(indices(self.region, sock::tx_indices(slot)), tx).unwrap(),
        )
    }

    /// Returns the brane's ends of a datagram socket's rings: the ring to the client, and the ring from the client.
    pub fn datagrams(&self, slot: usize, rings: Rings) -> (Producer, Consumer) {
        let [rx, tx] = self.ring_parts(rings);
        (
            Producer::new(indices(self.region, sock::rx_indices(slot)), rx).unwrap(),
            Consumer::new(indices(self.region, sock::tx_indices(slot)), tx).unwrap(),
        )
    }

    fn ring_parts(&self, r: Rings) -> [SharedRegion; 2] {
        let part = |offset: u32, len: u32| {
            assert!(offset as usize >= sock::DATA.offset, "{r:?}");
            self.region
                .part(offset as usize, len as usize)
                .expect("inside the region")
        };
        [part(r.rx_offset, r.rx_len), part(r.tx_offset, r.tx_len)]
    }
}

/// A client and its brane. The link is up, and the brane is identified and ready.
pub struct Bench {
    pub net: NetClient,
    pub peer: Peer,
    pub world: World,
    pub executor: Executor,
    pub memory: Rc<Backing>,
}

impl Bench {
    pub fn new() -> Bench {
        let memory = Rc::new(Backing::new());
        let world = World::default();
        let net = NetClient::start(memory.region(), Box::new(world.clone())).unwrap();
        let peer = Peer::start(memory.region());
        let mut bench = Bench {
            net,
            peer,
            world,
            executor: Executor::new(),
            memory,
        };
        bench.link_up(0);
        bench
    }

    /// Runs the handshake after a start of the peer, then sends its identity.
    pub fn link_up(&mut self, generation: u32) {
        self.run();
        assert!(!self.net.is_ready());
        assert!(self.peer.poll_link());
        self.run();
        self.peer.identify(generation, true);
        self.run();
        assert!(self.net.is_ready());
    }

    /// Runs the client for one wake. Returns its next deadline.
    pub fn run(&self) -> Option<u64> {
        self.net.run(&self.executor)
    }

    /// Starts a task. The test takes its result later.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Rc<Cell<Option<T>>> {
        let result = Rc::new(Cell::new(None));
        let out = result.clone();
        self.executor
            .spawn(async move { out.set(Some(future.await)) })
            .detach();
        self.run();
        result
    }
}

pub fn v4(address: [u8; 4], port: u16) -> SockAddr {
    SockAddr::new(Some(address.into()), port)
}
