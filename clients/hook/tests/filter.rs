//! The library against a manager and two branes that the test plays over the real rings.

use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::hook::{NAME, Verdict, notice, packet_words, request};
use brane_abi::layout::{ctl, hook};
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;
use brane_hook::{Decision, Event, Filter, Head, Registration};
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

fn memory(len: usize) -> SharedRegion {
    let layout = Layout::from_size_align(len, 4096).unwrap();
    // SAFETY: the layout has a size above zero; nobody else knows the memory, and it is never freed.
    unsafe { SharedRegion::new(NonNull::new(alloc_zeroed(layout)).unwrap(), len) }
}

/// The other end of a region (side A).
struct End(Endpoint<RingPair>);

impl End {
    fn manager(region: SharedRegion) -> End {
        End(Endpoint::start(region, Side::A, ctl::manager_rings(region).unwrap()).unwrap())
    }

    fn brane(region: SharedRegion) -> End {
        End(Endpoint::start(region, Side::A, hook::brane_rings(region).unwrap()).unwrap())
    }

    fn poll(&mut self) {
        let _ = self.0.wake();
        if self.0.poll() == LinkEvent::PeerRestarted {
            self.0.accept();
        }
        let _ = self.0.poll();
    }

    fn send(&mut self, meta: [u32; 3], payload: &[u8]) {
        self.0.rings.tx.push(&[payload], meta).unwrap();
        self.0.rings.tx.publish();
        let _ = self.0.flush(1);
    }

    fn take(&mut self) -> Option<([u32; 3], Vec<u8>)> {
        let taken = self.0.rings.rx.take(|record| {
            let mut bytes = vec![0; record.len()];
            record.copy_to(&mut bytes);
            (record.meta, bytes)
        });
        self.0.rings.rx.release();
        taken.expect("the library keeps the rules")
    }

    fn packet(&mut self, head: Head, token: u32, bytes: &[u8]) {
        let mut record = [0; NAME].to_vec();
        record[..4].copy_from_slice(b"net0");
        record.extend(bytes);
        self.send(packet_words(head, 0, 1, token, bytes.len() as u32), &record);
    }
}

fn registration() -> Registration {
    Registration {
        name: "test".into(),
        rank: 100,
        branes: None,
        heads: vec![Head::InetIn],
        headers: None,
        deadline_ms: 100,
        fail_open: true,
    }
}

struct World {
    filter: Filter,
    manager: End,
    branes: Vec<End>,
    regions: Vec<SharedRegion>,
    events: Vec<Event>,
}

impl World {
    fn new() -> World {
        let regions = vec![memory(ctl::SIZE), memory(hook::SIZE), memory(hook::SIZE)];
        let mut world = World {
            filter: Filter::start(regions[0], &regions[1..], registration(), |_| {}).unwrap(),
            manager: End::manager(regions[0]),
            branes: regions[1..].iter().map(|region| End::brane(*region)).collect(),
            regions,
            events: Vec::new(),
        };
        for _ in 0..3 {
            world.run(|bytes| (bytes == [0]).then_some(Decision::Drop));
        }
        world
    }

    /// Runs all ends. `decide` gets the bytes of a packet.
    fn run(&mut self, mut decide: impl FnMut(&[u8]) -> Option<Decision>) {
        self.manager.poll();
        self.branes.iter_mut().for_each(End::poll);
        let events = &mut self.events;
        self.filter.run(
            |packet| {
                assert_eq!((packet.interface, packet.head), ("net0", Head::InetIn));
                decide(packet.bytes).unwrap_or(Decision::Pass)
            },
            |event| events.push(event),
        );
    }
}

#[test]
fn it_registers_answers_heartbeats_and_leaves() {
    let mut world = World::new();
    let ([kind, token, _], text) = world.manager.take().expect("a registration");
    assert_eq!(kind, request::REGISTER);
    assert_eq!(minicbor::decode::<Registration>(&text).unwrap(), registration());
    world.manager.send([notice::REGISTERED, token, 0], &[]);
    world.manager.send([notice::HEARTBEAT, 77, 0], &[]);
    world.run(|_| None);
    assert!(world.events.contains(&Event::Registered));
    assert_eq!(
        world.manager.take().map(|(meta, _)| meta),
        Some([request::ALIVE, 77, 0])
    );
    world.filter.leave();
    assert_eq!(
        world.manager.take().map(|(meta, _)| meta[0]),
        Some(request::LEAVE)
    );
    world.manager.send([notice::LEFT, 0, 0], &[]);
    world.run(|_| None);
    assert!(world.events.contains(&Event::Left));
    // A manager that restarts gets no registration any more.
    world.manager = End::manager(world.regions[0]);
    (0..3).for_each(|_| world.run(|_| None));
    assert!(world.manager.take().is_none());
    world.filter.register(registration());
    world.run(|_| None);
    assert_eq!(
        world.manager.take().map(|(meta, _)| meta[0]),
        Some(request::REGISTER)
    );
}

#[test]
fn it_registers_anew_when_the_manager_has_restarted() {
    let mut world = World::new();
    assert!(world.manager.take().is_some());
    world.manager = End::manager(world.regions[0]);
    (0..3).for_each(|_| world.run(|_| None));
    assert_eq!(
        world.manager.take().map(|(meta, _)| meta[0]),
        Some(request::REGISTER)
    );
}

#[test]
fn decisions_become_verdicts_of_the_right_brane() {
    let mut world = World::new();
    for (brane, token) in [(0, 5), (1, 9)] {
        world.branes[brane].packet(Head::InetIn, token, &[brane as u8]);
        world.branes[brane].packet(Head::InetIn, token + 1, &[8]);
    }
    world.run(|bytes| match bytes {
        [0] => Some(Decision::Reject),
        [1] => Some(Decision::Modify(vec![1, 2, 3])),
        _ => Some(Decision::Absorb),
    });
    let absorb = Verdict::Absorb.number();
    let first = [Verdict::Reject.number(), 5, 0];
    assert_eq!(world.branes[0].take(), Some((first, Vec::new())));
    assert_eq!(world.branes[0].take(), Some(([absorb, 6, 0], Vec::new())));
    let second = [Verdict::Modify.number(), 9, 0];
    assert_eq!(world.branes[1].take(), Some((second, vec![1, 2, 3])));
    assert_eq!(world.branes[1].take(), Some(([absorb, 10, 0], Vec::new())));
}

#[test]
fn a_later_decision_and_rubbish_of_a_brane() {
    let mut world = World::new();
    // No name, and no known head.
    world.branes[0].send([0, 1, 0], &[1, 2, 3]);
    world.branes[0].send([200, 2, 0], &[0; 40]);
    world.branes[0].packet(Head::InetIn, 3, &[7]);
    let mut tokens = Vec::new();
    let World { filter, .. } = &mut world;
    filter.run(
        |packet| {
            tokens.push(packet.token);
            Decision::Later
        },
        |_| {},
    );
    assert_eq!(tokens.len(), 1);
    assert!(world.branes[0].take().is_none());
    assert!(world.filter.decide(tokens[0], &Decision::Drop));
    let drop = [Verdict::Drop.number(), 3, 0];
    assert_eq!(world.branes[0].take().map(|(meta, _)| meta), Some(drop));
}

#[test]
fn a_brane_that_breaks_its_ring_or_restarts_harms_no_other() {
    let mut world = World::new();
    world.branes[0].packet(Head::InetIn, 3, &[7]);
    world.run(|_| None);
    // The index is now behind the position that the filter has read.
    world.branes[0].0.rings.tx.reset();
    world.branes[1].packet(Head::InetIn, 4, &[7]);
    world.run(|_| None);
    assert!(world.events.contains(&Event::BraneLost(0)));
    assert!(world.branes[1].take().is_some());
    world.branes[0] = End::brane(world.regions[1]);
    (0..3).for_each(|_| world.run(|_| None));
    world.branes[0].packet(Head::InetIn, 0, &[7]);
    world.run(|_| None);
    assert!(world.branes[0].take().is_some());
}
