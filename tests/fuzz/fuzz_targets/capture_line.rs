//! Fuzz target: the records of a capture as they come from the control line. The system is not trusted. Checks that no fragments cause a
//! panic or memory without bound, and that each frame is shown in printable ASCII.
#![no_main]

use arbitrary::Arbitrary;
use brane_abi::capture::{Link, MAX_SNAPLEN};
use branes_branectl::capture::records::{Event, MAX_INTERFACES, Records};
use libfuzzer_sys::fuzz_target;
use operator_cli::capture::packet;

#[derive(Arbitrary, Debug)]
struct Piece {
    /// Fragments before this one that the line loses.
    lost: u8,
    /// The fragment is the last one of its record.
    last: bool,
    /// Sends the bytes as they are, with a sequence number of their own.
    raw: bool,
    bytes: Vec<u8>,
}

fuzz_target!(|pieces: Vec<Piece>| {
    let mut records = Records::default();
    let mut sequence = 0u32;
    let mut interfaces = 0;
    for piece in pieces {
        sequence = sequence.wrapping_add((piece.lost % 3).into());
        let body = match piece.raw {
            true => piece.bytes,
            false => [&sequence.to_le_bytes()[..], &[piece.last.into()], &piece.bytes].concat(),
        };
        sequence = sequence.wrapping_add(1);
        match records.fragment(&body) {
            Some(Event::Interface(interface)) => {
                assert!(interface.is_plausible());
                interfaces += 1;
                assert!(interfaces <= MAX_INTERFACES);
            }
            Some(Event::Frame(frame)) => {
                assert!(frame.interface < interfaces && frame.bytes.len() <= MAX_SNAPLEN as usize);
                for link in [Link::Ethernet, Link::Raw] {
                    let line = packet::line(link, &frame.bytes, frame.length);
                    assert!(line.bytes().all(|c| (0x20..0x7f).contains(&c)), "{line:?}");
                }
            }
            Some(Event::Gone { interface, .. }) => assert!(interface < interfaces),
            Some(Event::Time(_)) | None => {}
        }
    }
});
