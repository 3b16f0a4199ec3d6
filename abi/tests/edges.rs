//! Rings and streams at their edges: exactly full, exactly at the end of the data, and each possible lie of a peer.
#![cfg(not(loom))]

mod common;

use brane_abi::ring::{Consumer, Producer, RingError};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use common::{CAPACITY, DATA, data, indices, memory, ring, word, write};

/// Places of the two indices in the region.
const TAIL: usize = 0;
const HEAD: usize = 64;
const SKIP: u32 = u32::MAX;

fn push(producer: &mut Producer, len: usize) -> Result<(), RingError> {
    producer.push(&[&vec![0xab; len]], [len as u32, 0, 0])
}

/// Takes one record. Returns its length.
fn take(consumer: &mut Consumer) -> Result<Option<usize>, RingError> {
    consumer.take(|record| {
        assert_eq!(record.meta, [record.len() as u32, 0, 0]);
        record.len()
    })
}

/// Writes the length word of a record, as a hostile producer would.
fn claim(memory: brane_abi::shared::SharedRegion, offset: usize, len: u32) {
    write(memory, DATA + offset, &len.to_le_bytes());
}

fn publish(memory: brane_abi::shared::SharedRegion, tail: u32) {
    write(memory, TAIL, &tail.to_le_bytes());
}

#[test]
fn half_of_the_ring_less_a_header_is_the_longest_payload() {
    let (mut producer, mut consumer) = ring(memory());
    assert_eq!(producer.max_payload(), 496);
    assert_eq!(push(&mut producer, 497), Err(RingError::TooLong));
    assert_eq!(producer.has_room(497), Err(RingError::TooLong));
    // Two such records fill the ring to the last byte, without a skip mark between them.
    for _ in 0..2 {
        assert_eq!(producer.has_room(496), Ok(true));
        assert_eq!(push(&mut producer, 496), Ok(()));
    }
    assert_eq!(producer.has_room(0), Ok(false));
    assert_eq!(push(&mut producer, 0), Err(RingError::Full));
    assert!(producer.publish());
    assert_eq!(take(&mut consumer), Ok(Some(496)));
    assert_eq!(take(&mut consumer), Ok(Some(496)));
    assert_eq!(take(&mut consumer), Ok(None));
}

#[test]
fn a_ring_takes_records_until_every_byte_is_used() {
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    for _ in 0..CAPACITY / 16 {
        push(&mut producer, 0).unwrap();
    }
    assert_eq!(push(&mut producer, 0), Err(RingError::Full));
    producer.publish();
    assert_eq!(word(memory, TAIL), CAPACITY as u32);
    assert_eq!((consumer.backlog(), consumer.unreleased()), (0, 0));
    assert_eq!(take(&mut consumer), Ok(Some(0)));
    assert_eq!((consumer.backlog(), consumer.unreleased()), (1024, 16));
    assert_eq!(consumer.capacity(), 1024);
    // Taken records that are not given back leave no room yet.
    assert_eq!(push(&mut producer, 0), Err(RingError::Full));
    assert!(consumer.release());
    assert!(!consumer.release());
    assert_eq!(word(memory, HEAD), 16);
    assert_eq!((consumer.backlog(), consumer.unreleased()), (1008, 0));
    assert_eq!(push(&mut producer, 0), Ok(()));
    assert_eq!(push(&mut producer, 0), Err(RingError::Full));
    // All published records are taken and given back: a consumer's index at exactly this place is valid.
    producer.publish();
    while take(&mut consumer).unwrap().is_some() {}
    consumer.release();
    assert_eq!(word(memory, HEAD), word(memory, TAIL));
    assert_eq!(push(&mut producer, 400), Ok(()));
    assert_eq!(push(&mut producer, 400), Ok(()));
    assert_eq!(push(&mut producer, 400), Err(RingError::Full));
}

#[test]
fn a_record_that_does_not_fit_before_the_end_goes_to_the_start() {
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    for _ in 0..2 {
        push(&mut producer, 400).unwrap();
    }
    producer.publish();
    for _ in 0..2 {
        take(&mut consumer).unwrap();
    }
    consumer.release();
    // 192 bytes remain up to the end. A record of exactly this size fits there; a record with one more byte does not.
    producer.reserve(177).unwrap();
    producer.commit(177, [177, 0, 0]);
    producer.publish();
    assert_eq!(word(memory, TAIL), 1024 + 208);
    assert_eq!(take(&mut consumer), Ok(Some(177)));
    assert_eq!(consumer.unreleased(), 192 + 208);
    consumer.release();
    for _ in 0..2 {
        push(&mut producer, 384).unwrap();
        producer.publish();
        assert_eq!(take(&mut consumer), Ok(Some(384)));
        consumer.release();
    }
    assert_eq!(word(memory, TAIL), 1024 + 1008);
    push(&mut producer, 0).unwrap();
    producer.publish();
    assert_eq!(word(memory, TAIL), 2048);
    assert_eq!(take(&mut consumer), Ok(Some(0)));
}

#[test]
fn no_more_is_committed_than_was_reserved() {
    let (mut producer, mut consumer) = ring(memory());
    producer.reserve(32).unwrap();
    producer.commit(100, [32, 0, 0]);
    // No reservation is left.
    producer.commit(16, [16, 0, 0]);
    producer.publish();
    assert_eq!(take(&mut consumer), Ok(Some(32)));
    assert_eq!(take(&mut consumer), Ok(None));
}

#[test]
fn the_rest_before_the_end_is_skipped_only_where_it_is_free() {
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    producer.skip_to_start();
    assert!(!producer.publish(), "at the start there is nothing to skip");
    push(&mut producer, 240).unwrap();
    producer.skip_to_start();
    assert!(producer.publish());
    assert_eq!(word(memory, TAIL), 1024);
    assert_eq!(take(&mut consumer), Ok(Some(240)));
    assert_eq!(take(&mut consumer), Ok(None), "a skip mark alone is no record");
    assert_eq!(consumer.unreleased(), 1024);
    // Not given back yet, so the producer at the start must not overwrite it.
    producer.skip_to_start();
    assert!(!producer.publish());
    consumer.release();
    // The records behind the tail reach to 512; only the bytes before them are free.
    push(&mut producer, 496).unwrap();
    push(&mut producer, 400).unwrap();
    producer.publish();
    take(&mut consumer).unwrap();
    consumer.release();
    push(&mut producer, 80).unwrap();
    push(&mut producer, 240).unwrap();
    producer.publish();
    let before = word(memory, TAIL);
    producer.skip_to_start();
    assert!(!producer.publish(), "the rest up to the end is in use");
    assert_eq!(word(memory, TAIL), before);
}

#[test]
fn what_is_committed_can_be_taken_back_until_it_is_published() {
    let (mut producer, mut consumer) = ring(memory());
    push(&mut producer, 16).unwrap();
    producer.publish();
    push(&mut producer, 32).unwrap();
    producer.retract();
    assert!(!producer.publish());
    push(&mut producer, 48).unwrap();
    assert!(producer.publish());
    assert_eq!(take(&mut consumer), Ok(Some(16)));
    assert_eq!(take(&mut consumer), Ok(Some(48)));
}

#[test]
fn a_ring_that_was_reset_is_as_new() {
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    push(&mut producer, 480).unwrap();
    producer.publish();
    take(&mut consumer).unwrap();
    push(&mut producer, 480).unwrap();
    indices(memory).reset();
    producer.reset();
    consumer.reset();
    assert_eq!((word(memory, TAIL), word(memory, HEAD)), (0, 0));
    assert_eq!((consumer.backlog(), consumer.unreleased()), (0, 0));
    assert_eq!(take(&mut consumer), Ok(None));
    assert!(!producer.publish());
    for _ in 0..2 {
        push(&mut producer, 496).unwrap();
    }
    producer.publish();
    assert_eq!(word(memory, TAIL), 1024);
    assert_eq!(take(&mut consumer), Ok(Some(496)));
}

#[test]
fn a_payload_is_copied_as_a_whole_or_in_parts() {
    let (mut producer, mut consumer) = ring(memory());
    producer.push(&[b"abc", b"", b"defg"], [0; 3]).unwrap();
    producer.push(&[b""], [0; 3]).unwrap();
    producer.publish();
    let done = consumer.take(|record| {
        assert_eq!((record.len(), record.is_empty()), (7, false));
        let mut out = [0; 10];
        assert_eq!(record.copy_to(&mut out), b"abcdefg");
        let mut few = [0; 3];
        assert_eq!(record.copy_to(&mut few), b"abc");
        assert!(record.copy_at(4, &mut few));
        assert_eq!(&few, b"efg");
        for offset in [5, 7, 8, usize::MAX] {
            assert!(!record.copy_at(offset, &mut few), "{offset}");
        }
        assert_eq!(&few, b"efg", "what is not all there is not copied at all");
        assert!(record.copy_at(7, &mut []));
        // SAFETY: the test does not write to the record meanwhile.
        assert_eq!(unsafe { record.as_slice() }, b"abcdefg");
    });
    assert_eq!(done, Ok(Some(())));
    assert_eq!(
        consumer.take(|record| (record.len(), record.is_empty())),
        Ok(Some((0, true)))
    );
}

#[test]
fn a_record_is_popped_by_its_size_and_never_beyond_what_is_known() {
    let (mut producer, mut consumer) = ring(memory());
    push(&mut producer, 17).unwrap();
    push(&mut producer, 1).unwrap();
    producer.publish();
    let record = consumer.peek().unwrap().unwrap();
    assert_eq!(Consumer::size_of(&record), 48);
    consumer.pop(48);
    assert_eq!(consumer.unreleased(), 48);
    let record = consumer.peek().unwrap().unwrap();
    assert_eq!((record.len(), Consumer::size_of(&record)), (1, 32));
    consumer.pop(1000);
    assert_eq!(consumer.unreleased(), 80);
    assert_eq!(take(&mut consumer), Ok(None));
}

#[test]
fn a_consumer_that_claims_more_than_was_published_is_a_liar() {
    for (head, lie) in [
        (16, false),
        (512, false),
        (8, true),
        (528, true),
        (1024, true),
        (u32::MAX - 15, true),
    ] {
        let memory = memory();
        let (mut producer, _) = ring(memory);
        push(&mut producer, 496).unwrap();
        producer.publish();
        push(&mut producer, 496).unwrap();
        write(memory, HEAD, &u32::to_le_bytes(head));
        let expected = match (lie, head) {
            (true, _) => Err(RingError::Peer),
            (false, 512) => Ok(()),
            (false, _) => Err(RingError::Full),
        };
        assert_eq!(push(&mut producer, 496), expected, "{head}");
    }
}

#[test]
fn a_producer_whose_index_jumps_is_a_liar() {
    for (tail, lie) in [(1024, false), (1040, true), (8, true), (u32::MAX - 15, true)] {
        let memory = memory();
        let (_, mut consumer) = ring(memory);
        publish(memory, tail);
        let expected = if lie { Err(RingError::Peer) } else { Ok(Some(0)) };
        assert_eq!(take(&mut consumer), expected, "{tail}");
    }
    // Back before the taken records, and ahead of the records that were not given back.
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    push(&mut producer, 496).unwrap();
    producer.publish();
    take(&mut consumer).unwrap();
    publish(memory, 496);
    assert_eq!(take(&mut consumer), Err(RingError::Peer));
    publish(memory, 1040);
    assert_eq!(take(&mut consumer), Err(RingError::Peer));
    publish(memory, 512);
    assert_eq!(take(&mut consumer), Ok(None));
    consumer.release();
    publish(memory, 1040 + 496);
    claim(memory, 512, 0);
    assert_eq!(consumer.peek().map(|record| record.is_some()), Ok(true));
}

#[test]
fn a_record_that_reaches_beyond_what_is_published_or_the_end_is_a_lie() {
    // Published bytes, claimed length, and true if this is a lie.
    for (tail, len, lie) in [
        (16, 0, false),
        (16, 1, true),
        (32, 16, false),
        (32, 17, true),
        (512, 496, false),
        (512, 497, true),
        (1024, 513, true),
        (1024, 600, true),
        (1024, 1008, true),
        (1024, u32::MAX - 1, true),
    ] {
        let memory = memory();
        let (_, mut consumer) = ring(memory);
        claim(memory, 0, len);
        publish(memory, tail);
        let found = consumer.peek().map(|record| record.map(|record| record.len()));
        let expected = if lie {
            Err(RingError::Peer)
        } else {
            Ok(Some(len as usize))
        };
        assert_eq!(found, expected, "{tail} {len}");
    }
    // All of it is published, but the record reaches past the end of the data.
    let memory = memory();
    let (mut producer, mut consumer) = ring(memory);
    for len in [496, 464] {
        push(&mut producer, len).unwrap();
    }
    producer.publish();
    for _ in 0..2 {
        take(&mut consumer).unwrap();
    }
    consumer.release();
    publish(memory, 1024 + 512);
    for (len, lie) in [(17, true), (400, true), (16, false)] {
        claim(memory, 992, len);
        let found = consumer.peek().map(|record| record.map(|record| record.len()));
        let expected = if lie {
            Err(RingError::Peer)
        } else {
            Ok(Some(len as usize))
        };
        assert_eq!(found, expected, "{len}");
    }
}

#[test]
fn a_skip_mark_stands_before_the_end_and_nowhere_else() {
    // At the start of the data, even if the whole ring is published.
    let memory = memory();
    let (_, mut consumer) = ring(memory);
    claim(memory, 0, SKIP);
    for tail in [16, 1024] {
        publish(memory, tail);
        assert_eq!(take(&mut consumer), Err(RingError::Peer), "{tail}");
    }
    // Past the published bytes.
    for (tail, expected) in [
        (1008, Err(RingError::Peer)),
        (1024, Ok(None)),
        (1040, Ok(Some(0))),
    ] {
        let memory = common::memory();
        let (mut producer, mut consumer) = ring(memory);
        push(&mut producer, 240).unwrap();
        producer.publish();
        take(&mut consumer).unwrap();
        consumer.release();
        write(memory, DATA, &[0; 16]);
        claim(memory, 256, SKIP);
        publish(memory, tail);
        assert_eq!(take(&mut consumer), expected, "{tail}");
    }
    // A second mark directly behind the first is at the start again.
    let memory = common::memory();
    let (mut producer, mut consumer) = ring(memory);
    push(&mut producer, 240).unwrap();
    producer.publish();
    take(&mut consumer).unwrap();
    consumer.release();
    claim(memory, 256, SKIP);
    claim(memory, 0, SKIP);
    publish(memory, 1024 + 256);
    assert_eq!(take(&mut consumer), Err(RingError::Peer));
}

#[test]
fn errors_say_what_happened() {
    assert_eq!(RingError::Full.to_string(), "ring is full");
    assert!(RingError::TooLong.to_string().contains("longer"));
    assert!(RingError::Peer.to_string().contains("impossible"));
}

fn streams(memory: brane_abi::shared::SharedRegion) -> (StreamProducer, StreamConsumer) {
    (
        StreamProducer::new(indices(memory), data(memory)).unwrap(),
        StreamConsumer::new(indices(memory), data(memory)).unwrap(),
    )
}

#[test]
fn a_stream_wraps_at_its_end_and_is_full_at_its_capacity() {
    let memory = memory();
    let (mut producer, mut consumer) = streams(memory);
    assert_eq!(producer.write(&[1; 1000]), Ok(1000));
    let mut out = [0; 1024];
    assert_eq!(consumer.read(&mut out[..900]), Ok(900));
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    assert_eq!(producer.write(&bytes), Ok(924));
    assert_eq!((producer.room(), producer.write(&bytes)), (Ok(0), Ok(0)));
    assert_eq!(consumer.available(), Ok(1024));
    assert_eq!(consumer.read(&mut out), Ok(1024));
    assert_eq!((&out[..100], &out[100..]), (&[1; 100][..], &bytes[..924]));
    assert_eq!((consumer.available(), producer.room()), (Ok(0), Ok(1024)));
    assert_eq!((word(memory, TAIL), word(memory, HEAD)), (1924, 1924));
}

#[test]
fn no_more_counts_as_written_or_taken_than_was_offered() {
    let memory = memory();
    let (mut producer, mut consumer) = streams(memory);
    assert_eq!(producer.write_with(|room| (room.len() + 5, room.len())), Ok(1024));
    assert_eq!(producer.room(), Ok(0));
    assert_eq!(
        consumer.read_with(|bytes| (bytes.len() + 5, bytes.len())),
        Ok(1024)
    );
    assert_eq!(consumer.available(), Ok(0));
    assert_eq!(producer.write_with(|_| (0, "nothing")), Ok("nothing"));
    assert_eq!(consumer.read_with(|_| (0, "nothing")), Ok("nothing"));
    assert_eq!((word(memory, TAIL), word(memory, HEAD)), (1024, 1024));
}

#[test]
fn a_stream_that_was_reset_is_as_new_and_one_that_is_resumed_goes_on() {
    let memory = memory();
    let (mut producer, mut consumer) = streams(memory);
    producer.write(&[1; 700]).unwrap();
    consumer.read(&mut [0; 300]).unwrap();
    let mut resumed = StreamProducer::resume(indices(memory), data(memory)).unwrap();
    assert_eq!(resumed.room(), Ok(1024 - 400));
    assert_eq!(resumed.write(b"xyz"), Ok(3));
    let mut out = [0; 500];
    assert_eq!(consumer.read(&mut out), Ok(403));
    assert_eq!(&out[399..403], b"\x01xyz");
    indices(memory).reset();
    producer.reset();
    consumer.reset();
    assert_eq!((producer.room(), consumer.available()), (Ok(1024), Ok(0)));
    producer.write(b"new").unwrap();
    assert_eq!(word(memory, TAIL), 3);
    assert_eq!(consumer.read(&mut out), Ok(3));
    assert_eq!(&out[..3], b"new");
}

#[test]
fn an_index_of_a_stream_that_jumps_is_a_lie() {
    for (head, expected) in [
        (0, Ok(924)),
        (100, Ok(1024)),
        (101, Err(RingError::Peer)),
        (u32::MAX, Err(RingError::Peer)),
    ] {
        let memory = memory();
        let (mut producer, _) = streams(memory);
        producer.write(&[1; 100]).unwrap();
        write(memory, HEAD, &u32::to_le_bytes(head));
        assert_eq!(producer.room(), expected, "{head}");
    }
    for (tail, expected) in [
        (100, Ok(70)),
        (101, Ok(71)),
        (30 + 1024, Ok(1024)),
        (30 + 1025, Err(RingError::Peer)),
        (99, Err(RingError::Peer)),
        (30, Err(RingError::Peer)),
        (0, Err(RingError::Peer)),
    ] {
        let memory = memory();
        let (mut producer, mut consumer) = streams(memory);
        producer.write(&[1; 100]).unwrap();
        assert_eq!(consumer.read(&mut [0; 30]), Ok(30));
        write(memory, TAIL, &u32::to_le_bytes(tail));
        assert_eq!(consumer.available(), expected, "{tail}");
    }
}
