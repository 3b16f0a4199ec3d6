//! The rings against a model, and against peers that write anything.
#![cfg(not(loom))]

mod common;

use brane_abi::doorbell::Doorbell;
use brane_abi::ring::{Consumer, Producer, RingError};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use common::{CAPACITY, DATA, data, indices, memory, ring, write};
use proptest::prelude::*;
use std::collections::VecDeque;

/// A record's payload and meta words.
type Taken = (Vec<u8>, [u32; 3]);

fn taken(consumer: &mut Consumer) -> Result<Option<Taken>, RingError> {
    consumer.take(|record| {
        let mut bytes = vec![0; record.len()];
        record.copy_to(&mut bytes);
        (bytes, record.meta)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// Reserve the first number of bytes and commit the second.
    Reserve(usize, usize),
    Publish,
    Retract,
    Take(usize),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..=600).prop_map(Step::Push),
        2 => (0usize..=600, 0usize..=700).prop_map(|(a, b)| Step::Reserve(a, b)),
        3 => Just(Step::Publish),
        1 => Just(Step::Retract),
        4 => (1usize..5).prop_map(Step::Take),
        3 => Just(Step::Release),
    ]
}

proptest! {
    #[test]
    fn records_come_out_as_they_went_in(steps in proptest::collection::vec(step(), 1..300)) {
        let (mut producer, mut consumer) = ring(memory());
        let (mut written, mut visible) = (VecDeque::new(), VecDeque::new());
        let (mut mark, mut unreleased) = (0u32, false);
        for step in steps {
            match step {
                Step::Push(len) | Step::Reserve(len, _) => {
                    mark += 1;
                    let bytes: Vec<u8> = (0..len).map(|i| (i as u32 * 7 + mark) as u8).collect();
                    let meta = [mark, len as u32, !mark];
                    let (result, kept) = match step {
                        Step::Reserve(_, commit) => (producer.reserve(len).map(|room| room.copy_from_slice(&bytes)), commit.min(len)),
                        _ => (producer.push(&[&bytes[..len / 3], &bytes[len / 3..]], meta), len),
                    };
                    match result {
                        Ok(()) => {
                            if let Step::Reserve(..) = step {
                                producer.commit(kept, meta);
                            }
                            written.push_back((bytes[..kept].to_vec(), meta));
                        }
                        Err(RingError::TooLong) => prop_assert!(len > producer.max_payload()),
                        Err(RingError::Full) => {
                            prop_assert!(len <= producer.max_payload());
                            let empty = written.is_empty() && visible.is_empty() && !unreleased;
                            prop_assert!(!empty, "an empty ring takes whatever is not too long");
                        }
                        Err(RingError::Peer) => prop_assert!(false, "nobody lied"),
                    }
                }
                Step::Publish => {
                    prop_assert_eq!(producer.publish(), !written.is_empty());
                    visible.append(&mut written);
                }
                Step::Retract => {
                    producer.retract();
                    written.clear();
                    prop_assert!(!producer.publish());
                }
                Step::Take(n) => {
                    for _ in 0..n {
                        let expected = visible.pop_front();
                        unreleased |= expected.is_some();
                        prop_assert_eq!(taken(&mut consumer), Ok(expected));
                    }
                }
                Step::Release => {
                    prop_assert_eq!(consumer.release(), unreleased);
                    unreleased = false;
                    prop_assert!(consumer.backlog() <= consumer.capacity());
                }
            }
        }
    }

    /// Checks that a producer that waits for room leaves at least half of the ring in use. When the consumer gives all of it
    /// back, there is room.
    #[test]
    fn a_ring_that_is_waited_for_is_half_full(steps in proptest::collection::vec((0usize..=496, any::<bool>()), 1..300)) {
        let (mut producer, mut consumer) = ring(memory());
        for (len, take) in steps {
            let bytes = vec![7; len];
            if producer.push(&[&bytes], [len as u32, 0, 0]) == Err(RingError::Full) {
                for _ in 0..2 {
                    producer.skip_to_start();
                }
                producer.publish();
                while taken(&mut consumer).unwrap().is_some() {}
                prop_assert!(consumer.unreleased() as usize >= CAPACITY / 2, "{}", consumer.unreleased());
                consumer.release();
                prop_assert_eq!(producer.push(&[&bytes], [len as u32, 0, 0]), Ok(()));
            }
            producer.publish();
            if take {
                while let Some((bytes, meta)) = taken(&mut consumer).unwrap() {
                    prop_assert_eq!(bytes.len(), meta[0] as usize);
                }
                consumer.release();
            }
        }
    }

    /// Checks that a producer that writes anything causes no read outside of the ring and no endless loop, but at worst an error.
    #[test]
    fn a_consumer_survives_any_producer(
        contents in proptest::collection::vec(any::<u8>(), CAPACITY),
        lengths in proptest::collection::vec((0usize..CAPACITY / 16, prop_oneof![0u32..600, any::<u32>(), Just(u32::MAX)]), 0..40),
        tails in proptest::collection::vec(prop_oneof![(0u32..200).prop_map(|n| n * 16), any::<u32>()], 1..20),
    ) {
        let memory = memory();
        let (_, mut consumer) = ring(memory);
        write(memory, DATA, &contents);
        for (record, len) in lengths {
            write(memory, DATA + 16 * record, &len.to_le_bytes());
        }
        for tail in tails {
            write(memory, 0, &tail.to_le_bytes());
            for _ in 0..CAPACITY {
                match taken(&mut consumer) {
                    Ok(Some((bytes, _))) => prop_assert!(bytes.len() <= CAPACITY / 2),
                    Ok(None) | Err(RingError::Peer) => break,
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
            consumer.release();
        }
    }

    /// Checks that a consumer that writes anything into its index causes at worst an error.
    #[test]
    fn a_producer_survives_any_consumer(
        heads in proptest::collection::vec((prop_oneof![(0u32..200).prop_map(|n| n * 16), any::<u32>()], 0usize..600), 1..100),
    ) {
        let memory = memory();
        let (mut producer, _) = ring(memory);
        let mut committed = 0u64;
        for (head, len) in heads {
            write(memory, 64, &head.to_le_bytes());
            match producer.push(&[&vec![0xee; len]], [0; 3]) {
                Ok(()) => committed += 1,
                Err(RingError::TooLong) => prop_assert!(len > producer.max_payload()),
                Err(RingError::Full | RingError::Peer) => {}
            }
            producer.publish();
        }
        prop_assert!(committed <= 100);
    }

    #[test]
    fn a_stream_is_a_queue_of_bytes(
        steps in proptest::collection::vec((any::<bool>(), 0usize..1500), 1..200),
    ) {
        let memory = memory();
        let mut producer = StreamProducer::new(indices(memory), data(memory)).unwrap();
        let mut consumer = StreamConsumer::new(indices(memory), data(memory)).unwrap();
        let (mut model, mut next) = (VecDeque::new(), 0u8);
        for (write, len) in steps {
            if write {
                let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                let done = producer.write(&bytes).unwrap();
                prop_assert_eq!(done, len.min(CAPACITY - model.len()));
                model.extend(&bytes[..done]);
            } else {
                let mut out = vec![0; len];
                let done = consumer.read(&mut out).unwrap();
                prop_assert_eq!(done, len.min(model.len()));
                prop_assert_eq!(&out[..done], &model.drain(..done).collect::<Vec<u8>>()[..]);
            }
            prop_assert_eq!(consumer.available().unwrap(), model.len());
            prop_assert_eq!(producer.room().unwrap(), CAPACITY - model.len());
        }
    }

    #[test]
    fn a_stream_survives_any_peer(
        values in proptest::collection::vec((any::<bool>(), prop_oneof![0u32..3000, any::<u32>()], 0usize..1500), 1..100),
    ) {
        let memory = memory();
        let mut producer = StreamProducer::new(indices(memory), data(memory)).unwrap();
        let mut consumer = StreamConsumer::new(indices(memory), data(memory)).unwrap();
        for (tail, value, len) in values {
            write(memory, if tail { 0 } else { 64 }, &value.to_le_bytes());
            let mut bytes = vec![0; len];
            prop_assert!(consumer.read(&mut bytes).is_ok_and(|n| n <= CAPACITY) || consumer.available().is_err());
            prop_assert!(producer.write(&bytes).is_ok_and(|n| n <= CAPACITY) || producer.room().is_err());
        }
    }
}

#[test]
fn indices_go_on_past_the_largest_number() {
    let (mut producer, mut consumer) = ring(memory());
    // Each turn moves the indices by 512, and there are more than 2^32 / 512 turns.
    let record = vec![1; 496];
    for turn in 0..(1u32 << 23) + 5 {
        producer.push(&[&record], [turn, 0, 0]).unwrap();
        producer.publish();
        let meta = consumer.take(|r| (r.len(), r.meta[0])).unwrap();
        assert_eq!(meta, Some((496, turn)));
        consumer.release();
    }
}

#[test]
fn a_spent_record_is_never_valid_again() {
    for (len, laps) in [0, 16, 100, 496].into_iter().zip(1u32..) {
        let memory = memory();
        let (mut producer, mut consumer) = ring(memory);
        for lap in 0..10 * laps {
            let mut records = 0;
            while producer.push(&[&vec![7; len]], [lap, 0, 0]).is_ok() {
                records += 1;
            }
            assert!(records > 0);
            producer.publish();
            for _ in 0..records {
                let record = consumer.peek().unwrap().unwrap();
                assert_eq!(
                    (record.len(), record.meta[0]),
                    (len, lap),
                    "a new record is valid"
                );
                let size = Consumer::size_of(&record);
                consumer.spend(size);
            }
            assert!(consumer.peek().unwrap().is_none());
            consumer.release();
        }
        // The producer moves its index on by a whole ring without a new record.
        let word = memory.part(0, 4).unwrap();
        // SAFETY: inside the region; one thread.
        let tail = unsafe { word.base().cast::<u32>().read_volatile() };
        write(memory, 0, &tail.wrapping_add(CAPACITY as u32).to_le_bytes());
        assert_eq!(
            consumer.peek().err(),
            Some(RingError::Peer),
            "records of {len} bytes"
        );
    }
}

#[test]
fn data_of_a_wrong_size_is_refused() {
    let memory = memory();
    for (offset, len) in [(DATA, 1000), (DATA, 32), (DATA, 0), (DATA + 8, 512)] {
        let part = memory.part(offset, len).unwrap();
        assert!(Producer::new(indices(memory), part).is_none(), "{offset} {len}");
        assert!(Consumer::new(indices(memory), part).is_none());
    }
    assert!(StreamProducer::new(indices(memory), memory.part(DATA, 1000).unwrap()).is_none());
    assert!(memory.part(DATA, CAPACITY + 1).is_none());
    assert!(memory.part(usize::MAX, 2).is_none());
}

#[test]
fn a_doorbell_wakes_who_sleeps_and_nobody_else() {
    let bell = Doorbell::new();
    assert!(!bell.ring(1), "nobody sleeps yet");
    assert!(!bell.arm(), "the bell was rung");
    assert_eq!(bell.take(), 1);
    assert!(bell.arm());
    assert!(bell.ring(2));
    assert!(!bell.ring(4), "woken already");
    assert_eq!(bell.take(), 6);
    assert!(bell.arm());
    bell.disarm();
    assert!(!bell.ring(1));
}
