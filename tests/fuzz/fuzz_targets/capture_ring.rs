//! Fuzz target: remote reads the captured frames of a brane that writes anything into their region: records, indices, epochs.
//!
//! Checks that there is no panic, that only records of the present captures go to the line, each whole and of a known form, and
//! that an honest incarnation of the brane is read again.
#![no_main]

extern crate alloc;

#[path = "../../../clients/remote/src/captures.rs"]
#[allow(dead_code)]
mod captures;

use brane_abi::capture::line::{Fragment, Header};
use brane_abi::capture::{Capture, FrameHeader, Gone, Reader, Target, record};
use brane_abi::endpoint::{Endpoint, LinkEvent};
use brane_abi::layout::capture;
use brane_abi::link::Side;
use brane_abi::operator::Request;
use brane_abi::ring::Producer;
use brane_abi::shared::SharedRegion;
use captures::Captures;
use libfuzzer_sys::fuzz_target;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use zerocopy::{FromBytes, IntoBytes};

const TAG: u32 = 3;

thread_local! {
    /// One region for all inputs, because regions are never freed.
    static MEMORY: SharedRegion = {
        let layout = Layout::from_size_align(capture::SIZE, 4096).unwrap();
        // SAFETY: the layout has a size above zero; the memory is never freed.
        unsafe { SharedRegion::new(NonNull::new(alloc_zeroed(layout)).unwrap(), capture::SIZE) }
    };
}

struct Bench {
    region: SharedRegion,
    captures: Captures,
    brane: Endpoint<Producer>,
    /// Fragments of the present record.
    record: Vec<u8>,
    sequence: u32,
    active: bool,
}

impl Bench {
    fn begin(&mut self) {
        let capture = Capture {
            tag: TAG,
            target: Target::All,
            reader: Reader::Line,
            snaplen: 96,
            staged: false,
        };
        self.captures
            .begin(1, &minicbor::to_vec(Request::Capture(capture)).unwrap());
        self.record.clear();
        self.sequence = 0;
        self.active = true;
    }

    fn restart(&mut self) {
        self.brane = start(self.region);
    }

    fn poll(&mut self) {
        if self.brane.poll() == LinkEvent::PeerRestarted {
            self.brane.accept();
        }
        let _ = self.brane.poll();
    }

    /// Lets remote work. Returns the number of records of frames.
    fn wake(&mut self) -> usize {
        self.captures.wake(9);
        let mut frames = 0;
        while let Some((tag, body)) = self.captures.next_frame() {
            assert!(tag == TAG && self.active, "a record of another capture");
            let (fragment, rest) = Fragment::read_from_prefix(&body).unwrap();
            assert_eq!(u32::from_le_bytes(fragment.sequence), self.sequence);
            self.sequence += 1;
            self.record.extend_from_slice(rest);
            if fragment.last == 0 {
                continue;
            }
            let (header, payload) = Header::read_from_prefix(&self.record).unwrap();
            match u32::from(header.kind) {
                0 => assert_eq!(payload.len(), 8),
                record::INTERFACE => assert!(payload.len() <= 256),
                record::FRAME => {
                    assert!(payload.len() >= size_of::<FrameHeader>());
                    frames += 1;
                }
                record::GONE => assert_eq!(payload.len(), size_of::<Gone>()),
                kind => panic!("kind {kind}"),
            }
            self.record.clear();
        }
        self.captures.flush(|_| ());
        let _ = self.captures.arm();
        frames
    }

    fn push(&mut self, kind: u32, tag: u32, word: u32, payload: &[u8]) {
        self.poll();
        if self.brane.is_up() {
            let _ = self.brane.rings.push(&[payload], [kind, tag, word]);
            self.brane.rings.publish();
        }
    }
}

fn start(region: SharedRegion) -> Endpoint<Producer> {
    Endpoint::start(region, Side::A, capture::brane_ring(region).unwrap()).unwrap()
}

fn run(region: SharedRegion, mut program: &[u8]) {
    // SAFETY: one thread runs all that use the region, and no handle of an earlier input is left.
    unsafe { region.base().write_bytes(0, region.len()) };
    let mut captures = Captures::default();
    captures.connect(region).unwrap();
    let mut bench = Bench {
        region,
        captures,
        brane: start(region),
        record: Vec::new(),
        sequence: 0,
        active: false,
    };
    bench.begin();
    // Remote's magic, version and epoch.
    let mut own = [0; 12];
    // SAFETY: inside the region; one thread runs all that use it.
    unsafe { region.base().add(64).copy_to_nonoverlapping(own.as_mut_ptr(), own.len()) };
    while let [op, a, b, c, rest @ ..] = program {
        program = rest;
        let payload = &rest[..rest.len().min(usize::from(*b))];
        match op % 8 {
            0 | 1 => bench.push(u32::from(a % 5), TAG, u32::from(*c), payload),
            2 => bench.push(u32::from(a % 4), u32::from(*c), u32::from(*c) << 24, payload),
            3 => {
                // The link header, the indices or the beginning of the data.
                let start = [0, capture::RECORD_INDICES, capture::RECORDS.offset][usize::from(a % 3)];
                let place = region.part(start + usize::from(*b), 1).unwrap();
                // SAFETY: inside the region; one thread runs all that use it.
                unsafe { place.base().write(*c) };
            }
            4 => bench.restart(),
            5 => match a % 3 {
                0 => bench.begin(),
                1 => {
                    bench.captures.clear();
                    bench.active = false;
                }
                _ => bench.captures.end(1),
            },
            _ => drop(bench.wake()),
        }
    }
    // Honest incarnations. The header may be garbled, and the first epoch can be one that remote knows, so another one follows.
    bench.captures.clear();
    // SAFETY: as above. The brane's part of the header is as that of a first start.
    unsafe { region.base().write_bytes(0, 64) };
    // A brane that garbles remote's words keeps the link down until remote restarts (docs/weaknesses.md), so they are put back.
    // SAFETY: as above.
    unsafe { region.base().add(64).copy_from_nonoverlapping(own.as_ptr(), own.len()) };
    for _ in 0..2 {
        bench.restart();
        bench.begin();
        for _ in 0..3 {
            bench.wake();
            bench.poll();
        }
    }
    let mut frames = 0;
    for _ in 0..3 {
        bench.push(record::FRAME, TAG, 0, FrameHeader::default().as_bytes());
        frames += bench.wake();
    }
    assert!(
        frames > 0 || bench.brane.is_quarantined() || !bench.brane.is_up(),
        "an honest brane is not read"
    );
}

fuzz_target!(|program: &[u8]| {
    MEMORY.with(|memory| run(*memory, program));
});
