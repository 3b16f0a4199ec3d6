//! The ring and doorbell protocols under every interleaving and every allowed reordering: run with
//! `RUSTFLAGS="--cfg loom" cargo test -p brane-abi --release --test ring_loom`.
//!
//! The data itself is reached through raw pointers, which the checker does not see. So each record has a checked cell beside it.
//! The cell is written before the record is published, and read when the record is taken. It is written again only when the
//! record's room has been given back. If an index is published or read too weakly, the checker reports the race on the cell.
#![cfg(loom)]

use brane_abi::doorbell::Doorbell;
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

/// Room for two records of up to 16 bytes.
const CAPACITY: usize = 64;

fn shared() -> (&'static RingIndices, SharedRegion) {
    let layout = Layout::from_size_align(CAPACITY, 64).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned; the two threads reach it through the ring's handles only.
    let data = unsafe { SharedRegion::new(base, CAPACITY) };
    // It lives as long as the run that created it.
    (Box::leak(Box::default()), data)
}

/// One checked cell for each place of a record.
type Cells = Arc<[UnsafeCell<u32>; 2]>;

fn cells() -> Cells {
    Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)])
}

fn put(producer: &mut Producer, cells: &Cells, n: u32) -> bool {
    if !producer.has_room(16).expect("the consumer is honest") {
        return false;
    }
    // SAFETY: the room is ours, so the consumer is done with this cell; the checker verifies it.
    cells[n as usize % 2].with_mut(|cell| unsafe { *cell = n });
    producer
        .push(&[&[n as u8; 16]], [n, 0, 0])
        .expect("there was room");
    assert!(producer.publish());
    true
}

fn get(consumer: &mut Consumer, cells: &Cells, expected: u32) -> bool {
    let found = consumer.take(|record| {
        let mut bytes = [0; 16];
        record.copy_to(&mut bytes);
        (record.meta[0], bytes)
    });
    let Some((n, bytes)) = found.expect("the producer is honest") else {
        return false;
    };
    assert_eq!((n, bytes), (expected, [expected as u8; 16]));
    // SAFETY: the record is ours until `release`; the checker verifies it.
    assert_eq!(cells[n as usize % 2].with(|cell| unsafe { *cell }), n);
    assert!(consumer.release());
    true
}

#[test]
fn records_are_handed_over_whole() {
    loom::model(|| {
        let (indices, data) = shared();
        let mut producer = Producer::new(indices, data).unwrap();
        let mut consumer = Consumer::new(indices, data).unwrap();
        let cells = cells();
        let theirs = cells.clone();
        let writer = thread::spawn(move || {
            let mut n = 0;
            for _ in 0..4 {
                if n < 3 && put(&mut producer, &theirs, n) {
                    n += 1;
                }
            }
            n
        });
        let mut taken = 0;
        for _ in 0..3 {
            if get(&mut consumer, &cells, taken) {
                taken += 1;
            }
        }
        let written = writer.join().unwrap();
        while get(&mut consumer, &cells, taken) {
            taken += 1;
        }
        assert_eq!(taken, written);
    });
}

#[test]
fn no_wake_up_is_lost() {
    // Without a bound this takes hours. A doorbell that does not order its two writers' values fails with a bound of 4 or more.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(5);
    model.check(|| {
        let (indices, data) = shared();
        let mut producer = Producer::new(indices, data).unwrap();
        let mut consumer = Consumer::new(indices, data).unwrap();
        let cells = cells();
        let theirs = cells.clone();
        let bell = Arc::new(Doorbell::new());
        let notification = Arc::new(Notify::new());
        let (their_bell, their_notification) = (bell.clone(), notification.clone());
        let writer = thread::spawn(move || {
            for n in 0..2 {
                assert!(put(&mut producer, &theirs, n), "the ring has room for both");
                if their_bell.ring(1) {
                    their_notification.notify();
                }
            }
        });
        // The consumer's loop: poll, arm, poll again, sleep. A lost wake-up would be an endless sleep, which the checker reports.
        let mut taken = 0;
        while taken < 2 {
            bell.take();
            while get(&mut consumer, &cells, taken) {
                taken += 1;
            }
            if taken < 2 && bell.arm() {
                notification.wait();
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_producer_that_waits_for_room_is_woken() {
    loom::model(|| {
        let (indices, data) = shared();
        let mut producer = Producer::new(indices, data).unwrap();
        let mut consumer = Consumer::new(indices, data).unwrap();
        let cells = cells();
        let theirs = cells.clone();
        assert!(
            put(&mut producer, &cells, 0) && put(&mut producer, &cells, 1),
            "full now"
        );
        let bell = Arc::new(Doorbell::new());
        let notification = Arc::new(Notify::new());
        let (their_bell, their_notification) = (bell.clone(), notification.clone());
        let reader = thread::spawn(move || {
            assert!(get(&mut consumer, &theirs, 0));
            if their_bell.ring(1) {
                their_notification.notify();
            }
        });
        while !put(&mut producer, &cells, 2) {
            bell.take();
            if put(&mut producer, &cells, 2) {
                break;
            }
            if bell.arm() {
                notification.wait();
            }
        }
        reader.join().unwrap();
    });
}

#[test]
fn bytes_of_a_stream_are_handed_over() {
    loom::model(|| {
        let (indices, data) = shared();
        let mut producer = StreamProducer::new(indices, data).unwrap();
        let mut consumer = StreamConsumer::new(indices, data).unwrap();
        let cells = cells();
        let theirs = cells.clone();
        // 32 bytes at a time. Two pieces fill the ring; they are written before the threads run.
        let send = |producer: &mut StreamProducer, cells: &Cells, n: u32| {
            if producer.room().unwrap() < 32 {
                return false;
            }
            // SAFETY: the room is ours; the checker verifies it.
            cells[n as usize % 2].with_mut(|cell| unsafe { *cell = n });
            let fill = |room: &mut [u8]| {
                room[..32].fill(n as u8);
                (32, ())
            };
            producer.write_with(fill).is_ok()
        };
        assert!(send(&mut producer, &cells, 0) && send(&mut producer, &cells, 1));
        let writer = thread::spawn(move || {
            // The first try may be too early; the second may find room.
            send(&mut producer, &theirs, 2) || send(&mut producer, &theirs, 2)
        });
        let mut taken = 0;
        let mut look = || {
            if consumer.available().unwrap() < 32 {
                return false;
            }
            // SAFETY: the bytes are ours until they are read; the checker verifies it.
            assert_eq!(cells[taken as usize % 2].with(|cell| unsafe { *cell }), taken);
            let whole = |bytes: &[u8]| (32, bytes[..32] == [taken as u8; 32]);
            assert_eq!(consumer.read_with(whole), Ok(true));
            taken += 1;
            true
        };
        assert!(look() && look());
        look();
        let third = writer.join().unwrap();
        look();
        assert_eq!(taken, if third { 3 } else { 2 });
    });
}
