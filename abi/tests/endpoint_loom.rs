//! The handshake of a shared region under many interleavings: run with
//! `RUSTFLAGS="--cfg loom" cargo test -p brane-abi --release --test endpoint_loom`.
//!
//! Both sides are honest. Each may end at any step and start again as a new incarnation. The test checks three properties:
//!
//! - A record reaches only the incarnation that it was sent to, and comes from the accepted incarnation.
//! - In the end both sides have accepted each other's present incarnation.
//! - No wake-up is lost: a side that sleeps for ever is reported as a deadlock.
#![cfg(loom)]

use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair, Rings};
use brane_abi::link::{LinkHeader, Side};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use loom::sync::{Arc, Notify};
use loom::thread;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

const CAPACITY: usize = 64;

/// The step at which an incarnation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It has raised its epoch.
    Started,
    /// It has seen the peer's epoch.
    Polled,
    /// It has emptied the rings.
    Emptied,
    /// It has acknowledged, without notifying.
    Accepted,
    /// The link is up for it.
    CameUp,
    /// It has published a record, without ringing.
    Published,
    /// It has taken the peer's record.
    Received,
}

const DEATHS: [Death; 7] = [
    Death::Started,
    Death::Polled,
    Death::Emptied,
    Death::Accepted,
    Death::CameUp,
    Death::Published,
    Death::Received,
];

/// The regions that both sides map, and the notification of each side.
#[derive(Clone)]
struct World {
    header: &'static LinkHeader,
    indices: [&'static RingIndices; 2],
    data: [SharedRegion; 2],
    notifications: [Arc<Notify>; 2],
}

fn data() -> SharedRegion {
    let layout = Layout::from_size_align(CAPACITY, 64).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned; reached only through the rings' handles.
    unsafe { SharedRegion::new(base, CAPACITY) }
}

impl World {
    fn new() -> World {
        World {
            // The objects live as long as the run that created them.
            header: Box::leak(Box::default()),
            indices: [Box::leak(Box::default()), Box::leak(Box::default())],
            data: [data(), data()],
            notifications: [Arc::new(Notify::new()), Arc::new(Notify::new())],
        }
    }

    fn start(&self, side: Side) -> Endpoint<RingPair> {
        let (tx, rx) = (side as usize, 1 - side as usize);
        let rings = RingPair {
            tx: Producer::new(self.indices[tx], self.data[tx]).unwrap(),
            rx: Consumer::new(self.indices[rx], self.data[rx]).unwrap(),
        };
        Endpoint::start_at(self.header, side, rings)
    }

    /// Runs one incarnation. It ends at `death`, or when it has exchanged records with the peer's incarnation `last`.
    fn live(&self, side: Side, last: u32, death: Option<Death>) {
        let me = side as usize;
        let mut end = self.start(side);
        if death == Some(Death::Started) {
            return;
        }
        let flush = |end: &mut Endpoint<RingPair>, bits| {
            if end.flush(bits) {
                self.notifications[1 - me].notify();
            }
        };
        flush(&mut end, 0);
        let mut received = false;
        loop {
            let _ = end.wake();
            match end.poll() {
                LinkEvent::PeerRestarted => {
                    if death == Some(Death::Polled) {
                        return;
                    }
                    if death == Some(Death::Emptied) {
                        return end.rings.reset();
                    }
                    end.accept();
                    received = false;
                    if death == Some(Death::Accepted) {
                        return;
                    }
                    flush(&mut end, 0);
                    continue;
                }
                LinkEvent::CameUp => {
                    if death == Some(Death::CameUp) {
                        return;
                    }
                    let meta = [end.epoch(), end.peer_epoch(), 0];
                    end.rings.tx.push(&[], meta).expect("the ring is empty");
                    assert!(end.rings.tx.publish());
                    if death == Some(Death::Published) {
                        return;
                    }
                    flush(&mut end, 1);
                }
                LinkEvent::Unchanged => {}
                // The peer is starting: it has withdrawn its acknowledgement, and its epoch follows.
                LinkEvent::Lost => {}
                LinkEvent::Incompatible => panic!("both have this version"),
            }
            if end.is_up() {
                match end.rings.rx.take(|record| record.meta) {
                    Ok(Some([from, to, _])) => {
                        let accepted = (end.peer_epoch(), end.epoch());
                        assert_eq!((from, to), accepted, "a record of another incarnation");
                        end.rings.rx.release();
                        received = true;
                        if death == Some(Death::Received) {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(_) => {
                        assert!(!end.violation(), "the peer is honest");
                        continue;
                    }
                }
            }
            if received && end.peer_epoch() == last {
                return;
            }
            if end.arm() {
                self.notifications[me].wait();
            }
        }
    }

    /// Runs all incarnations of a side.
    fn side(&self, side: Side, death: Option<Death>, peer: Option<Death>) {
        let incarnations = |death: Option<Death>| 1 + u32::from(death.is_some());
        if death.is_some() {
            self.live(side, u32::MAX, death);
        }
        self.live(side, incarnations(peer), None);
    }
}

/// Most interleavings that are tried for one pair of restarts. Trying all takes hours.
const PERMUTATIONS: usize = 1_000;

fn check(a: Option<Death>, b: Option<Death>, permutations: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_permutations = Some(permutations);
    model.check(move || {
        let world = World::new();
        let theirs = world.clone();
        let thread = thread::spawn(move || theirs.side(Side::B, b, a));
        world.side(Side::A, a, b);
        thread.join().unwrap();
    });
}

#[test]
fn two_sides_come_up() {
    check(None, None, 10 * PERMUTATIONS);
}

#[test]
fn one_side_restarts_at_any_step() {
    for death in DEATHS {
        check(Some(death), None, PERMUTATIONS);
        check(None, Some(death), PERMUTATIONS);
    }
}

#[test]
fn both_sides_restart_at_any_step() {
    for a in DEATHS {
        for b in DEATHS {
            check(Some(a), Some(b), PERMUTATIONS / 5);
        }
    }
}
