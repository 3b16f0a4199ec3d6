//! A subscriber against a manager's end of the region. The tests check its requests and acknowledgements, and its reaction to a
//! manager that restarts or sends records that cannot be decoded.

use brane_abi::control::{CONTROL_BIT, Family};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::ctl;
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;
use brane_abi::subscription::{notice, request};
use brane_subscriber::{Event, Notification, Subscriber, Subscription, Transition};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

fn region(len: usize) -> SharedRegion {
    let layout = Layout::from_size_align(len, 4096).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned, reached only through copies of this value.
    unsafe { SharedRegion::new(base, len) }
}

fn subscription() -> Subscription {
    Subscription {
        brane: Some("red".into()),
        family: Some(Family::Inet),
        transitions: vec![Transition::AfterStart],
        protocols: vec![],
    }
}

fn created(brane: &str) -> Notification {
    Notification {
        transition: Transition::AfterStart,
        brane: brane.into(),
        id: 1,
        generation: 2,
        family: Family::Inet,
        replay: false,
        identity: 2,
        protocol: None,
        former_name: None,
    }
}

struct Manager(Endpoint<RingPair>);

impl Manager {
    fn start(memory: SharedRegion) -> Manager {
        let rings = ctl::manager_rings(memory).unwrap();
        let mut end = Endpoint::start(memory, Side::A, rings).unwrap();
        assert!(end.flush(0));
        Manager(end)
    }

    fn poll(&mut self) {
        if self.0.poll() == LinkEvent::PeerRestarted {
            self.0.accept();
            let _ = self.0.flush(0);
            let _ = self.0.poll();
        }
    }

    fn send(&mut self, kind: u32, token: u32, payload: &[u8]) -> bool {
        self.0.rings.tx.push(&[payload], [kind, token, 0]).unwrap();
        assert!(self.0.rings.tx.publish());
        self.0.flush(CONTROL_BIT)
    }

    fn notify(&mut self, token: u32, brane: &str) -> bool {
        self.send(
            notice::TRANSITION,
            token,
            &minicbor::to_vec(created(brane)).unwrap(),
        )
    }

    /// Takes all records of the subscriber. Returns kind, token and payload of each.
    fn records(&mut self) -> Vec<(u32, u32, Vec<u8>)> {
        let mut records = Vec::new();
        let mut buffer = [0; 4096];
        while let Some(record) = self
            .0
            .rings
            .rx
            .take(|record| {
                (
                    record.meta[0],
                    record.meta[1],
                    record.copy_to(&mut buffer).to_vec(),
                )
            })
            .unwrap()
        {
            records.push(record);
        }
        self.0.rings.rx.release();
        records
    }
}

struct Bench {
    memory: SharedRegion,
    manager: Manager,
    subscriber: Subscriber,
    notified: Rc<Cell<u32>>,
}

fn bench(subscription: impl Into<Option<Subscription>>) -> Bench {
    let memory = region(ctl::SIZE);
    let notified = Rc::new(Cell::new(0));
    let count = notified.clone();
    let subscriber = Subscriber::start(memory, subscription, move || count.set(count.get() + 1)).unwrap();
    Bench {
        memory,
        manager: Manager::start(memory),
        subscriber,
        notified,
    }
}

impl Bench {
    /// Runs the subscriber and returns its events.
    fn run(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.subscriber.run(|event| events.push(event));
        events
    }

    fn link(&mut self) -> Vec<Event> {
        self.manager.poll();
        let mut events = self.run();
        self.manager.poll();
        events.extend(self.run());
        events
    }
}

fn subscribe() -> (u32, u32, Vec<u8>) {
    (request::SUBSCRIBE, 0, minicbor::to_vec(subscription()).unwrap())
}

#[test]
fn it_subscribes_when_the_link_is_up_and_acknowledges_in_order() {
    let mut b = bench(subscription());
    assert_eq!(b.notified.get(), 1, "the manager learns of the start");
    assert_eq!(b.link(), []);
    assert_eq!(b.notified.get(), 2, "and of the acknowledged epoch");
    assert_eq!(b.manager.records(), [subscribe()]);
    assert!(b.manager.send(notice::SUBSCRIBED, 0, &[]), "it sleeps");
    b.manager.notify(7, "red");
    assert_eq!(b.run(), [Event::Subscribed, Event::Transition(created("red"))]);
    assert_eq!(b.manager.records(), [(request::ACK, 7, vec![])]);
    assert_eq!(b.run(), [], "each event comes once");
    assert!(b.manager.notify(8, "blue"), "it sleeps again");
}

#[test]
fn the_manager_is_woken_for_an_answer() {
    let mut b = bench(subscription());
    b.link();
    b.manager.0.wake();
    assert!(b.manager.0.arm());
    b.manager.notify(1, "red");
    let before = b.notified.get();
    b.run();
    assert_eq!(b.notified.get(), before + 1);
    assert_eq!(b.manager.0.wake(), CONTROL_BIT);
}

#[test]
fn a_domain_that_needs_longer_acknowledges_itself() {
    let mut b = bench(subscription());
    b.link();
    b.manager.records();
    b.manager.notify(7, "red");
    let (token, event) = b.subscriber.next_event().unwrap();
    assert_eq!(event, Event::Transition(created("red")));
    assert_eq!(b.subscriber.next_event(), None);
    assert_eq!(b.manager.records(), []);
    b.subscriber.acknowledge(token.unwrap());
    assert_eq!(b.manager.records(), [(request::ACK, 7, vec![])]);
}

#[test]
fn it_subscribes_anew_to_a_manager_that_restarts() {
    let mut b = bench(subscription());
    b.link();
    b.manager.notify(7, "red");
    b.manager = Manager::start(b.memory);
    assert_eq!(b.link(), [], "what the old one has sent is gone");
    assert_eq!(b.manager.records(), [subscribe()]);
}

#[test]
fn it_leaves_and_can_come_back() {
    let mut b = bench(None);
    b.link();
    assert_eq!(b.manager.records(), [], "it has asked for nothing");
    b.subscriber.subscribe(subscription());
    b.run();
    assert_eq!(b.manager.records(), [subscribe()]);
    b.subscriber.leave();
    b.subscriber.leave();
    assert_eq!(b.manager.records(), [(request::LEAVE, 0, vec![])]);
    b.manager.send(notice::LEFT, 0, &[]);
    assert_eq!(b.run(), [Event::Left]);
    b.subscriber.subscribe(subscription());
    b.run();
    assert_eq!(b.manager.records(), [subscribe()]);
}

#[test]
fn what_cannot_be_decoded_is_an_event_and_no_transition() {
    let mut b = bench(subscription());
    b.link();
    b.manager.records();
    b.manager.send(notice::TRANSITION, 3, &[0xff]);
    b.manager.send(99, 4, &[]);
    b.manager.send(notice::REFUSED, 0, b"no \xff");
    let want = [
        Event::Unknown(notice::TRANSITION),
        Event::Unknown(99),
        Event::Refused("no \u{fffd}".into()),
    ];
    assert_eq!(b.run(), want);
    assert_eq!(b.manager.records(), [], "nothing is acknowledged");
}

#[test]
fn a_ring_that_makes_no_sense_ends_the_link_until_the_manager_restarts() {
    let mut b = bench(subscription());
    b.link();
    b.manager.notify(1, "red");
    b.run();
    b.manager.0.rings.tx.reset();
    assert_eq!(b.run(), [Event::Lost]);
    assert_eq!(b.run(), []);
    b.manager.records();
    b.subscriber.leave();
    b.subscriber.subscribe(subscription());
    assert_eq!(b.manager.records(), [], "nothing is sent over such a link");
    b.manager = Manager::start(b.memory);
    assert_eq!(b.link(), []);
    assert_eq!(b.manager.records(), [subscribe()]);
}

#[test]
fn a_region_that_is_too_small_is_refused() {
    let short = region(ctl::SIZE).part(0, ctl::SIZE - 1).unwrap();
    assert!(Subscriber::start(short, subscription(), || {}).is_none());
}
