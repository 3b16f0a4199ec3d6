use super::records::tests::{Sender, frame, gone, record, seen};
use super::*;
use std::cell::RefCell;
use std::rc::Rc;

/// An output that keeps what it gets.
#[derive(Clone, Default)]
struct Kept {
    frames: Rc<RefCell<Vec<(usize, Duration, u64)>>>,
    statistics: Rc<RefCell<Vec<Counts>>>,
    fails: Rc<RefCell<Option<ErrorKind>>>,
}

impl Output for Kept {
    fn interface(&mut self, _: &Interface) -> io::Result<()> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, _: &Interface, time: Duration, lost: u64) -> io::Result<()> {
        self.frames.borrow_mut().push((frame.interface, time, lost));
        Ok(())
    }

    fn statistics(&mut self, _: usize, counts: Counts, _: Duration) -> io::Result<()> {
        self.statistics.borrow_mut().push(counts);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.fails.borrow().map_or(Ok(()), |kind| Err(kind.into()))
    }
}

fn reader(count: Option<u64>) -> (Reader, Kept, Sender) {
    let kept = Kept::default();
    let output = Box::new(kept.clone());
    (
        Reader::new(output, count, Arc::default()),
        kept,
        Sender::default(),
    )
}

fn feed(reader: &mut Reader, sender: &mut Sender, record: &[u8]) {
    for part in sender.fragments(record, 100) {
        reader.fragment(&part);
    }
}

#[test]
fn frames_are_counted_by_interface_and_ends_are_said() {
    let (mut reader, kept, mut sender) = reader(None);
    for record in [
        record(0, 0, false, &1_000_000_000u64.to_le_bytes()),
        seen(0, "net0", 1),
        seen(1, "net1", 1),
        frame(0, true, 1_000_000_500, 0, &[1; 60]),
        frame(0, true, 999_999_999, 3, &[1; 60]),
        frame(0, true, 1_000_000_600, 4, &[1; 60]),
        frame(1, false, 1_000_000_500, 0, &[1; 60]),
        gone(0, 5, 8, End::Moved.code()),
    ] {
        feed(&mut reader, &mut sender, &record);
    }
    assert!(reader.expects_more());
    feed(&mut reader, &mut sender, &gone(1, 0, 1, End::Stopped.code()));
    assert!(!reader.expects_more());
    reader.finish();
    let counts = |captured, dropped, matched| Counts {
        captured,
        dropped,
        matched,
    };
    assert_eq!(*kept.statistics.borrow(), [counts(3, 5, 8), counts(1, 0, 1)]);
    assert_eq!(
        reader.report(),
        "red/net0: the interface has left the brane; capture ended\nred/net0: 3 frames captured, 5 dropped\nred/net1: 1 \
         frame captured, 0 dropped\n"
    );
    // The system's time is mapped once, by the record of the time.
    let frames = kept.frames.borrow();
    let [first, second, third, _] = frames[..] else {
        panic!()
    };
    assert_eq!(first.1 - second.1, Duration::from_nanos(501));
    assert!(now().abs_diff(first.1) < Duration::from_secs(60));
    // Each frame has the frames that were lost since the one before it.
    assert_eq!((first.2, second.2, third.2), (0, 3, 1));
}

#[test]
fn impossible_times_and_counts_do_no_harm() {
    let clock = |guest_ns| Clock {
        guest_ns,
        time: Duration::from_secs(100),
    };
    assert_eq!(clock(0).map(u64::MAX), Duration::from_nanos(i64::MAX as u64));
    assert_eq!(clock(u64::MAX).map(0), Duration::ZERO);
    let (mut reader, kept, mut sender) = reader(None);
    feed(&mut reader, &mut sender, &seen(0, "net0", 1));
    for dropped in [u64::MAX, 0, u64::MAX] {
        feed(&mut reader, &mut sender, &frame(0, true, 0, dropped, &[]));
    }
    let lost: Vec<u64> = kept.frames.borrow().iter().map(|frame| frame.2).collect();
    assert_eq!(lost, [u64::MAX, 0, u64::MAX]);
    reader.finish();
    assert_eq!(kept.statistics.borrow()[0].matched, u64::MAX);
}

#[test]
fn a_count_stops_the_capture() {
    let (mut reader, kept, mut sender) = reader(Some(2));
    feed(&mut reader, &mut sender, &seen(0, "net0", 1));
    feed(&mut reader, &mut sender, &frame(0, true, 0, 0, &[1]));
    assert!(!reader.idle());
    for _ in 0..3 {
        feed(&mut reader, &mut sender, &frame(0, true, 0, 0, &[1]));
    }
    assert!(reader.idle());
    assert_eq!(kept.frames.borrow().len(), 2);
}

#[test]
fn a_failed_output_and_a_signal_stop_the_capture() {
    let (mut reader, kept, mut sender) = reader(None);
    feed(&mut reader, &mut sender, &seen(0, "net0", 1));
    assert!(!reader.idle());
    *kept.fails.borrow_mut() = Some(ErrorKind::StorageFull);
    assert!(reader.idle() && !reader.expects_more());
    *kept.fails.borrow_mut() = None;
    reader.finish();
    assert_eq!(reader.failure.as_ref().unwrap().kind(), ErrorKind::StorageFull);
    assert!(kept.statistics.borrow().is_empty());

    let (mut other, ..) = super::tests::reader(None);
    assert!(!other.idle());
    other.stop.store(true, Ordering::Relaxed);
    assert!(other.idle());
}

#[test]
fn lost_fragments_are_reported() {
    let (mut reader, _, mut sender) = reader(None);
    feed(&mut reader, &mut sender, &seen(0, "net0", 1));
    sender.fragments(&frame(0, true, 0, 0, &[1]), 100);
    feed(&mut reader, &mut sender, &frame(0, true, 0, 0, &[1]));
    feed(&mut reader, &mut sender, &frame(0, true, 0, 0, &[1]));
    let report = reader.report();
    assert_eq!(
        report,
        "red/net0: 1 frame captured, 0 dropped\n1 parts of frames lost on the control line\n"
    );
}
