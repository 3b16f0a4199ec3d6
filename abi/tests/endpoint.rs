//! The handshake over a shared region: between two honest sides, and with a peer that writes anything at any time.
#![cfg(not(loom))]

mod common;
#[path = "common/hostile_peer.rs"]
mod hostile_peer;

use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::{ctl, ports, sock};
use brane_abi::link::Side;
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;
use common::{region, word, write};
use hostile_peer::{KINDS, STEP};
use proptest::prelude::*;

fn manager(memory: SharedRegion) -> Endpoint<RingPair> {
    Endpoint::start(memory, Side::A, ctl::manager_rings(memory).unwrap()).unwrap()
}

fn brane(memory: SharedRegion) -> Endpoint<RingPair> {
    Endpoint::start(memory, Side::B, ctl::brane_rings(memory).unwrap()).unwrap()
}

/// Returns a pair whose link is up.
fn pair(memory: SharedRegion) -> (Endpoint<RingPair>, Endpoint<RingPair>) {
    let (mut a, mut b) = (manager(memory), brane(memory));
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    a.accept();
    assert_eq!(a.poll(), LinkEvent::Unchanged);
    assert_eq!(b.poll(), LinkEvent::PeerRestarted);
    b.accept();
    assert_eq!((a.poll(), b.poll()), (LinkEvent::CameUp, LinkEvent::CameUp));
    (a, b)
}

fn send(end: &mut Endpoint<RingPair>, meta: u32) {
    end.rings.tx.push(&[b"x"], [meta, 0, 0]).unwrap();
    assert!(end.rings.tx.publish());
}

fn receive(end: &mut Endpoint<RingPair>) -> Result<Option<u32>, RingError> {
    let record = end.rings.rx.take(|record| record.meta[0]);
    end.rings.rx.release();
    record
}

#[test]
fn a_link_comes_up_once_and_stays_up() {
    let memory = region(ctl::SIZE);
    let (mut a, mut b) = pair(memory);
    assert!(a.is_up() && b.is_up() && !a.is_quarantined());
    assert_eq!((a.poll(), b.poll()), (LinkEvent::Unchanged, LinkEvent::Unchanged));
    send(&mut a, 1);
    send(&mut b, 2);
    assert_eq!((receive(&mut b), receive(&mut a)), (Ok(Some(1)), Ok(Some(2))));
    assert_eq!((a.epoch(), b.epoch()), (1, 1));
}

#[test]
fn each_step_of_the_handshake_notifies_once() {
    let memory = region(ctl::SIZE);
    let (mut a, mut b) = (manager(memory), brane(memory));
    assert!(a.must_notify());
    assert!(a.flush(0) && b.flush(0), "the start");
    assert!(!a.flush(0) && !a.must_notify());
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    assert!(!a.flush(0), "nothing is accepted yet");
    a.accept();
    assert!(a.flush(0));
    assert!(!a.flush(1), "the peer is awake");
    assert_eq!(b.wake(), 1);
    assert!(b.arm());
    assert!(a.flush(2), "the peer sleeps");
    assert!(!b.arm());
    assert_eq!((b.wake(), b.wake()), (2, 0));
}

#[test]
fn a_restart_is_reported_until_it_is_accepted_and_empties_the_rings() {
    let memory = region(ctl::SIZE);
    let (mut a, mut b) = pair(memory);
    send(&mut a, 1);
    send(&mut b, 2);
    assert_eq!(receive(&mut b), Ok(Some(1)));
    let mut b = brane(memory);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    assert!(!a.is_up());
    a.accept();
    for at in [ctl::COMMAND_INDICES, ctl::REPORT_INDICES] {
        assert_eq!((word(memory, at), word(memory, at + 64)), (0, 0));
    }
    assert_eq!(b.poll(), LinkEvent::PeerRestarted);
    b.accept();
    assert_eq!((a.poll(), b.poll()), (LinkEvent::CameUp, LinkEvent::CameUp));
    assert_eq!((receive(&mut a), receive(&mut b)), (Ok(None), Ok(None)));
    send(&mut b, 3);
    assert_eq!(receive(&mut a), Ok(Some(3)));
    assert_eq!((a.peer_epoch(), b.peer_epoch()), (2, 1));
}

#[test]
fn impossible_indices_are_a_violation_unless_the_peer_has_restarted() {
    let memory = region(ctl::SIZE);
    let (mut a, mut b) = pair(memory);
    send(&mut b, 1);
    assert_eq!(receive(&mut a), Ok(Some(1)));
    // The new incarnation empties the rings before the other side has seen its epoch.
    let mut b = brane(memory);
    assert_eq!(b.poll(), LinkEvent::PeerRestarted);
    b.accept();
    assert_eq!(receive(&mut a), Err(RingError::Peer));
    assert!(!a.violation(), "it has just restarted");
    assert!(!a.is_up() && !a.is_quarantined());
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    a.accept();
    assert_eq!((a.poll(), b.poll()), (LinkEvent::CameUp, LinkEvent::CameUp));
    // Now without a new epoch.
    send(&mut b, 1);
    assert_eq!(receive(&mut a), Ok(Some(1)));
    b.rings.tx.reset();
    assert_eq!(receive(&mut a), Err(RingError::Peer));
    assert!(a.violation());
    assert!(!a.is_up() && a.is_quarantined());
    assert_eq!(a.poll(), LinkEvent::Unchanged, "without a new epoch it stays so");
    let mut b = brane(memory);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    a.accept();
    assert_eq!(b.poll(), LinkEvent::PeerRestarted);
    b.accept();
    assert_eq!((a.poll(), b.poll()), (LinkEvent::CameUp, LinkEvent::CameUp));
}

#[test]
fn a_peer_that_takes_its_new_epoch_back_does_not_come_up() {
    let memory = region(ctl::SIZE);
    let (mut a, mut b) = pair(memory);
    send(&mut b, 1);
    assert_eq!(receive(&mut a), Ok(Some(1)));
    // The epoch of side B.
    write(memory, 72, &2u32.to_le_bytes());
    b.rings.tx.reset();
    assert_eq!(receive(&mut a), Err(RingError::Peer));
    assert!(!a.violation());
    write(memory, 72, &1u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::Unchanged);
    assert!(!a.is_up());
    write(memory, 72, &2u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
    write(memory, 72, &1u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::Unchanged);
    assert!(!a.is_up());
    let _b = brane(memory);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
}

#[test]
fn a_peer_that_withdraws_does_not_come_back_without_a_new_epoch() {
    let memory = region(ctl::SIZE);
    let (mut a, _b) = pair(memory);
    // The acknowledgement of side B.
    write(memory, 76, &0u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::Lost);
    assert!(a.is_quarantined());
    write(memory, 76, &1u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::Unchanged);
    assert!(!a.is_up());
    let _b = brane(memory);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
}

#[test]
fn a_peer_of_another_version_is_reported_once() {
    let memory = region(ctl::SIZE);
    let (mut a, _b) = pair(memory);
    let _b = brane(memory);
    write(memory, 68, &9u32.to_le_bytes());
    assert_eq!(a.poll(), LinkEvent::Incompatible);
    assert_eq!(a.poll(), LinkEvent::Unchanged);
    assert!(a.is_quarantined() && !a.is_up());
    let _b = brane(memory);
    assert_eq!(a.poll(), LinkEvent::PeerRestarted);
}

#[test]
fn the_two_ends_of_a_region_agree_which_ring_is_which() {
    let check = |mut ends: [RingPair; 2]| {
        for (from, to) in [(0, 1), (1, 0)] {
            ends[from].tx.push(&[b"frame"], [5, 6, 7]).unwrap();
            ends[from].tx.publish();
            let taken = ends[to].rx.take(|record| (record.meta, record.len()));
            assert_eq!(taken, Ok(Some(([5, 6, 7], 5))));
            assert_eq!(ends[to].rx.take(|_| ()), Ok(None));
        }
    };
    let memory = region(ctl::SIZE);
    check([
        ctl::manager_rings(memory).unwrap(),
        ctl::brane_rings(memory).unwrap(),
    ]);
    let memory = region(sock::SIZE);
    check([
        sock::brane_rings(memory).unwrap(),
        sock::client_rings(memory).unwrap(),
    ]);
    let memory = region(ports::SIZE);
    for p in 0..ports::RX.len() {
        check([
            ports::driver_rings(memory, p).unwrap(),
            ports::brane_rings(memory, p).unwrap(),
        ]);
    }
    assert!(ports::driver_rings(memory, ports::RX.len()).is_none());
    let short = |len| region(len).part(0, len - 1).unwrap();
    assert!(ctl::manager_rings(short(ctl::SIZE)).is_none() && ctl::brane_rings(short(ctl::SIZE)).is_none());
    assert!(
        sock::brane_rings(short(sock::SIZE)).is_none() && sock::client_rings(short(sock::SIZE)).is_none()
    );
    assert!(ports::driver_rings(short(ports::SIZE), 0).is_none());
    assert!(ports::brane_rings(short(ports::SIZE), 0).is_none());
}

fn step() -> impl Strategy<Value = [u8; STEP]> {
    let value = prop_oneof![3 => 0u32..8, 1 => 0u32..0x1_0000, 1 => any::<u32>()];
    (0..KINDS, any::<u8>(), value).prop_map(|(kind, selector, value)| {
        let [a, b, c, d] = value.to_le_bytes();
        [kind, selector, a, b, c, d]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    #[test]
    fn a_hostile_peer_ends_in_quarantine_at_worst(program in prop::collection::vec(step(), 0..80)) {
        hostile_peer::run(region(ctl::SIZE), &program.concat());
    }
}
