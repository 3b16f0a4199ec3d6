use super::*;
use brane_abi::capture::Link;
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// Makes the fragments of records, as the domain `remote` does.
#[derive(Default)]
pub(crate) struct Sender {
    next: u32,
}

impl Sender {
    pub(crate) fn fragments(&mut self, record: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut parts = record.chunks(size).peekable();
        let mut out = Vec::new();
        while let Some(part) = parts.next() {
            let fragment = Fragment {
                sequence: self.next.to_le_bytes(),
                last: parts.peek().is_none().into(),
            };
            self.next = self.next.wrapping_add(1);
            out.push([fragment.as_bytes(), part].concat());
        }
        out
    }
}

pub(crate) fn record(kind: u32, interface: u8, sent: bool, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: kind as u8,
        instance: 1,
        interface,
        sent: sent.into(),
    };
    [header.as_bytes(), payload].concat()
}

pub(crate) fn interface(name: &str, generation: u32) -> Interface {
    Interface {
        brane: "red".into(),
        brane_generation: 0,
        name: name.into(),
        device: "vnic1".into(),
        generation,
        link: if name == "lo0" { Link::Raw } else { Link::Ethernet },
    }
}

pub(crate) fn seen(number: u8, name: &str, generation: u32) -> Vec<u8> {
    let payload = minicbor::to_vec(interface(name, generation)).unwrap();
    record(record::INTERFACE, number, false, &payload)
}

pub(crate) fn frame(interface: u8, sent: bool, time_ns: u64, dropped: u64, bytes: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        time_ns,
        dropped,
        length: bytes.len() as u32,
        reserved: 0,
    };
    record(
        record::FRAME,
        interface,
        sent,
        &[header.as_bytes(), bytes].concat(),
    )
}

pub(crate) fn gone(interface: u8, dropped: u64, matched: u64, end: u32) -> Vec<u8> {
    let payload = Gone {
        dropped,
        matched,
        end,
        reserved: 0,
    };
    record(record::GONE, interface, false, payload.as_bytes())
}

fn read(records: &mut Records, sender: &mut Sender, record: &[u8]) -> Option<Event> {
    let fragments = sender.fragments(record, 100);
    let events: Vec<Event> = fragments
        .iter()
        .filter_map(|part| records.fragment(part))
        .collect();
    assert!(events.len() < 2);
    events.into_iter().next()
}

#[test]
fn records_become_events() {
    let (mut records, mut sender) = (Records::default(), Sender::default());
    let mut read = |bytes: &[u8]| self::read(&mut records, &mut sender, bytes);
    assert_eq!(
        read(&record(0, 0, false, &7u64.to_le_bytes())),
        Some(Event::Time(7))
    );
    // No interface is known yet.
    assert_eq!(read(&frame(3, true, 9, 0, &[1; 400])), None);
    assert_eq!(
        read(&seen(3, "net0", 5)),
        Some(Event::Interface(interface("net0", 5)))
    );
    let expected = Frame {
        interface: 0,
        sent: true,
        time_ns: 9,
        dropped: 2,
        length: 400,
        bytes: vec![1; 400],
    };
    assert_eq!(
        read(&frame(3, true, 9, 2, &[1; 400])),
        Some(Event::Frame(expected))
    );
    let end = Event::Gone {
        interface: 0,
        dropped: 4,
        matched: 5,
        end: Some(End::Moved),
    };
    assert_eq!(read(&gone(3, 4, 5, 1)), Some(end));
    assert_eq!(read(&frame(3, true, 9, 0, &[1; 4])), None);
    // The brane's number 3 is another interface now.
    assert!(matches!(read(&seen(3, "net0", 6)), Some(Event::Interface(_))));
    assert!(matches!(read(&frame(3, false, 9, 0, &[1; 4])), Some(Event::Frame(f)) if f.interface == 1));
    assert_eq!(
        records.faults(),
        Faults {
            lost: 0,
            malformed: 2
        }
    );
}

#[test]
fn a_record_that_lies_is_none() {
    let (mut records, mut sender) = (Records::default(), Sender::default());
    let mut read = |bytes: &[u8]| self::read(&mut records, &mut sender, bytes);
    read(&seen(0, "net0", 1));
    let header = FrameHeader {
        length: 3,
        ..FrameHeader::default()
    };
    let long_names = minicbor::to_vec(Interface {
        brane: "x".repeat(300),
        ..interface("net1", 1)
    });
    for lie in [
        // More bytes than the frame has.
        record(record::FRAME, 0, false, &[header.as_bytes(), &[0; 4]].concat()),
        record(record::FRAME, 0, false, &header.as_bytes()[..23]),
        frame(0, false, 0, 0, &[0; MAX_SNAPLEN as usize + 1]),
        record(record::INTERFACE, 1, false, &long_names.unwrap()),
        record(record::INTERFACE, 1, false, b"\xff"),
        seen(1, "net0\nforged", 1),
        gone(7, 0, 0, 0),
        record(0, 0, false, &[0; 7]),
        record(99, 0, false, &[]),
        vec![1, 2, 3],
    ] {
        assert_eq!(read(&lie), None, "{:?}", &lie[..lie.len().min(40)]);
    }
    assert_eq!(records.faults().malformed, 10);
    // A record without an end costs no memory.
    let first = records.next;
    for sequence in first..first + 1000 {
        let fragment = Fragment {
            sequence: sequence.to_le_bytes(),
            last: 0,
        };
        assert_eq!(
            records.fragment(&[fragment.as_bytes(), &[0; 1000]].concat()),
            None
        );
        assert!(records.record.len() <= MAX_RECORD);
    }
    assert_eq!(records.faults().malformed, 11);
}

#[test]
fn interfaces_are_bounded() {
    let (mut records, mut sender) = (Records::default(), Sender::default());
    for n in 0..MAX_INTERFACES + 10 {
        let event = read(
            &mut records,
            &mut sender,
            &seen((n % 200) as u8, "net0", n as u32),
        );
        assert_eq!(event.is_some(), n < MAX_INTERFACES);
    }
    assert_eq!(records.present.len(), 200);
}

proptest! {
    /// A lost fragment costs its own record and at most the one behind it. All other frames arrive whole and in order.
    #[test]
    fn loss_costs_what_it_hits(sizes in proptest::collection::vec(0usize..600, 1..20), size in 30usize..200, lost: Vec<prop::sample::Index>, start: u32) {
        let (mut records, mut sender) = (Records { next: start, ..Records::default() }, Sender { next: start });
        for part in sender.fragments(&seen(0, "net0", 1), size) {
            records.fragment(&part);
        }
        let frames: Vec<Vec<Vec<u8>>> = sizes
            .iter()
            .zip(0u8..)
            .map(|(length, n)| sender.fragments(&frame(0, false, n.into(), 0, &vec![n; *length]), size))
            .collect();
        let total: usize = frames.iter().map(Vec::len).sum();
        let lost: Vec<usize> = lost.iter().take(3).map(|index| index.index(total)).collect();
        let mut at = 0;
        let mut hit = false;
        for (frame, n) in frames.iter().zip(0u64..) {
            let mut whole = true;
            let mut received = None;
            let mut last = true;
            for part in frame {
                last = !lost.contains(&at);
                if last {
                    received = received.or(records.fragment(part));
                }
                whole &= last;
                at += 1;
            }
            // The record behind a lost last fragment is dropped too, because it looks like the rest of that record.
            if whole && !hit {
                let Some(Event::Frame(found)) = received else { panic!("frame {n} of {frames:?} is missing") };
                prop_assert_eq!((found.time_ns, found.bytes.len()), (n, sizes[n as usize]));
            } else {
                prop_assert_eq!(received, None);
            }
            // Without its last fragment the record's loss is noticed behind it.
            hit = !last;
        }
    }

    #[test]
    fn any_fragments_are_taken(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..60), in_order: bool) {
        let mut records = Records::default();
        for (mut body, n) in bodies.into_iter().zip(0u32..) {
            if in_order && body.len() >= 4 {
                body[..4].copy_from_slice(&n.to_le_bytes());
            }
            records.fragment(&body);
            prop_assert!(records.record.len() <= MAX_RECORD);
        }
    }
}
