//! Captured frames on their way to the operator's machine.
//!
//! Owns remote's ends of the regions `capture-N`, and the captures that requests of the present session have begun. On one side are
//! the branes, which are not trusted: a brane that breaks the rules of its ring or of its records is quarantined until it
//! restarts. It can harm only what its own captures show. On the other side is the line. Records are taken from the rings only
//! when the line takes another frame, so a slow line costs records in the branes, and no memory here.
//!
//! Records of a tag without a capture of this session are dropped: a session never sees the frames of an earlier one.

use alloc::vec::Vec;
use brane_abi::capture::line::{Fragment, Header, TIME};
use brane_abi::capture::{Capture, FrameHeader, Gone, Interface, MAX_INTERFACE, MAX_SNAPLEN, Reader, record};
use brane_abi::endpoint::{Endpoint, LinkEvent};
use brane_abi::layout;
use brane_abi::link::Side;
use brane_abi::operator::Request;
use brane_abi::remote::MAX_BODY;
use brane_abi::ring::Consumer;
use brane_abi::shared::SharedRegion;
use zerocopy::IntoBytes;

/// Captures under way, at most. Further ones get no records.
const CAPTURES: usize = brane_abi::operator::JOBS;
/// Records that are taken from the rings in one wake, at most.
pub const BUDGET: usize = 256;
/// Bytes of a record in a fragment.
const PIECE: usize = MAX_BODY - size_of::<Fragment>();
/// Longest payload of a record in bytes.
const LONGEST: usize = size_of::<FrameHeader>() + MAX_SNAPLEN as usize;
/// Numbers of interfaces of a brane are below this one.
const INTERFACES: u32 = 256;

/// A brane's records.
struct Source {
    endpoint: Endpoint<Consumer>,
    /// Number of the instance.
    instance: u8,
    /// Bytes of the ring that must be taken before captures that have ended are forgotten.
    owed: u32,
}

/// A capture of the present session.
struct Active {
    tag: u32,
    /// Number of its request.
    request: u32,
    /// Next fragment.
    sequence: u32,
    /// The record [`TIME`] was made.
    begun: bool,
    /// Its request has its answer. It is forgotten when the records of that time are taken.
    ended: bool,
}

/// Record that is being sent.
#[derive(Default)]
struct Record {
    tag: u32,
    bytes: Vec<u8>,
    /// Bytes that are sent.
    sent: usize,
}

/// All of it.
#[derive(Default)]
pub struct Captures {
    sources: Vec<Source>,
    active: Vec<Active>,
    record: Record,
    /// Source that is asked next.
    turn: usize,
    /// Records that may still be taken in this wake.
    budget: usize,
    now_ns: u64,
    violations: u32,
    dropped: u64,
}

impl Captures {
    /// Adds the region of an instance. Returns `None` if it is too small or not aligned. Regions must come in the order of the
    /// instances' numbers.
    pub fn connect(&mut self, region: SharedRegion) -> Option<()> {
        let instance = u8::try_from(self.sources.len()).ok()?;
        let ring = layout::capture::remote_ring(region)?;
        self.sources.push(Source {
            endpoint: Endpoint::start(region, Side::B, ring)?,
            instance,
            owed: 0,
        });
        Some(())
    }

    /// Returns true if no region was added.
    pub fn is_unconnected(&self) -> bool {
        self.sources.is_empty()
    }

    /// Takes the branes' regions from another line's captures, which end.
    pub fn take_over(&mut self, other: &mut Captures) {
        if other.is_unconnected() {
            return;
        }
        self.sources = core::mem::take(&mut other.sources);
        self.turn = other.turn;
        self.budget = other.budget;
        self.now_ns = other.now_ns;
        self.violations = other.violations;
        self.dropped = other.dropped;
        other.clear();
    }

    /// Polls the links. `now_ns` is the time since the boot in nanoseconds. Call it at each wake.
    pub fn wake(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.budget = BUDGET;
        for source in &mut self.sources {
            let _ = source.endpoint.wake();
            let mut event = source.endpoint.poll();
            if event == LinkEvent::PeerRestarted {
                source.endpoint.accept();
                source.owed = 0;
                event = source.endpoint.poll();
            }
            if matches!(event, LinkEvent::Lost | LinkEvent::Incompatible) {
                self.violations = self.violations.saturating_add(1);
            }
        }
    }

    /// Calls `notify` with the number of each brane that must be notified.
    pub fn flush(&mut self, mut notify: impl FnMut(usize)) {
        for (number, source) in self.sources.iter_mut().enumerate() {
            if source.endpoint.flush(0) {
                notify(number);
            }
        }
    }

    /// Announces sleep. Returns false if there may be records that were not taken, although the line has room: work again.
    #[must_use = "a false result means that there is work"]
    pub fn arm(&self) -> bool {
        self.budget > 0 && self.sources.iter().all(|source| source.endpoint.arm())
    }

    /// Returns the number of branes' violations of the protocol.
    pub fn violations(&self) -> u32 {
        self.violations
    }

    /// Returns the number of records that were dropped because no capture of the session has their tag.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Notes that the job of a request has begun. Does nothing unless the request begins a capture for the line.
    pub fn begin(&mut self, request: u32, body: &[u8]) {
        let Ok(Request::Capture(Capture {
            tag,
            reader: Reader::Line,
            ..
        })) = minicbor::decode(body)
        else {
            return;
        };
        self.active.retain(|capture| capture.tag != tag);
        if self.active.len() < CAPTURES {
            self.active.push(Active {
                tag,
                request,
                sequence: 0,
                begun: false,
                ended: false,
            });
        }
    }

    /// Notes that a request has its answer. The records of its capture that are in the rings now are still sent.
    pub fn end(&mut self, request: u32) {
        let Some(capture) = self.active.iter_mut().find(|c| c.request == request) else {
            return;
        };
        capture.ended = true;
        for source in &mut self.sources {
            if source.endpoint.is_up() {
                source.owed = source.endpoint.rings.capacity();
            }
        }
    }

    /// Forgets a capture at once: the host has cancelled its request.
    pub fn forget(&mut self, request: u32) {
        self.active.retain(|capture| capture.request != request);
    }

    /// Forgets all captures: another session has begun.
    pub fn clear(&mut self) {
        self.active.clear();
        self.record = Record::default();
    }

    /// Returns true if records of a request's capture are still to come. Its answer then waits.
    pub fn holds(&self, request: u32) -> bool {
        let of_request = |capture: &&Active| capture.request == request;
        self.active.iter().find(of_request).is_some_and(|c| c.ended)
    }

    /// Returns the body of the next frame for the line, and its number. `None` if there are no records.
    pub fn next_frame(&mut self) -> Option<(u32, Vec<u8>)> {
        if self.record.sent >= self.record.bytes.len() {
            self.record = self.next_record()?;
        }
        let Record { tag, bytes, sent } = &mut self.record;
        let end = bytes.len().min(*sent + PIECE);
        let capture = self.active.iter_mut().find(|capture| capture.tag == *tag);
        let Some(capture) = capture else {
            // Its request was cancelled meanwhile. The next call takes the next record.
            self.record = Record::default();
            return self.next_frame();
        };
        let fragment = Fragment {
            sequence: capture.sequence.to_le_bytes(),
            last: u8::from(end == bytes.len()),
        };
        capture.sequence = capture.sequence.wrapping_add(1);
        let mut body = Vec::with_capacity(size_of::<Fragment>() + end - *sent);
        body.extend_from_slice(fragment.as_bytes());
        body.extend_from_slice(&bytes[*sent..end]);
        *sent = end;
        Some((*tag, body))
    }

    /// Makes the next record for the line.
    fn next_record(&mut self) -> Option<Record> {
        if let Some(capture) = self.active.iter_mut().find(|capture| !capture.begun) {
            capture.begun = true;
            let header = Header {
                kind: TIME,
                ..Header::default()
            };
            return Some(Record {
                tag: capture.tag,
                bytes: [header.as_bytes(), &self.now_ns.to_le_bytes()].concat(),
                sent: 0,
            });
        }
        while self.budget > 0 {
            let Some((tag, bytes)) = self.take() else {
                // All rings are empty, so nothing is owed.
                self.active.retain(|capture| !capture.ended);
                return None;
            };
            self.budget -= 1;
            if self.active.iter().any(|capture| capture.tag == tag) {
                return Some(Record { tag, bytes, sent: 0 });
            }
            self.dropped = self.dropped.saturating_add(1);
        }
        None
    }

    /// Takes a record from the rings in turns. Returns its tag, and the record with its header. `None` if all rings are empty.
    fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        for _ in 0..self.sources.len() {
            self.turn = (self.turn + 1) % self.sources.len();
            let source = &mut self.sources[self.turn];
            if !source.endpoint.is_up() {
                source.owed = 0;
                continue;
            }
            match source.take() {
                Ok(Some(record)) => {
                    if self.sources.iter().all(|source| source.owed == 0) {
                        let tag = record.0;
                        // This record may be the last one of its capture.
                        self.active.retain(|capture| !capture.ended || capture.tag == tag);
                    }
                    return Some(record);
                }
                Ok(None) => source.owed = 0,
                Err(Violation) => {
                    source.owed = 0;
                    self.violations = self
                        .violations
                        .saturating_add(u32::from(source.endpoint.violation()));
                }
            }
        }
        None
    }
}

/// The brane has broken the rules of the ring or of its records.
struct Violation;

impl Source {
    /// Takes the oldest record: copies it, then checks the copy. Returns its tag, and the record with its header for the line.
    fn take(&mut self) -> Result<Option<(u32, Vec<u8>)>, Violation> {
        let ring = &mut self.endpoint.rings;
        let Some(record) = ring.peek().map_err(|_| Violation)? else {
            return Ok(None);
        };
        let [kind, tag, word] = record.meta;
        let (length, size) = (record.len(), Consumer::size_of(&record));
        if length > LONGEST {
            return Err(Violation);
        }
        let index = word & !record::SENT;
        let header = Header {
            kind: kind as u8,
            instance: self.instance,
            interface: index as u8,
            sent: u8::from(word & record::SENT != 0),
        };
        let start = size_of::<Header>();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(start + length).map_err(|_| Violation)?;
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(start + length, 0);
        record.copy_to(&mut bytes[start..]);
        ring.spend(size);
        ring.release();
        self.owed = self.owed.saturating_sub(size);
        let plausible = index < INTERFACES && is_plausible(kind, &bytes[start..]);
        plausible.then_some(Some((tag, bytes))).ok_or(Violation)
    }
}

/// Returns true if the payload of a record can be what its kind says.
fn is_plausible(kind: u32, payload: &[u8]) -> bool {
    match kind {
        record::INTERFACE => {
            let short = payload.len() <= MAX_INTERFACE;
            short && minicbor::decode::<Interface>(payload).is_ok_and(|i| i.is_plausible())
        }
        record::FRAME => payload.len() >= size_of::<FrameHeader>(),
        record::GONE => payload.len() == size_of::<Gone>(),
        _ => false,
    }
}
