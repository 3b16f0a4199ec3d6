//! Records of a capture, from the fragments that the line carries.
//!
//! On the other side is the system: the domain `remote` makes the fragments, and the branes make the records in them. Neither is trusted.
//! Each length is checked, a record and the number of interfaces are bounded, and a fault is counted and costs no more than the record
//! that it hits.

use std::collections::HashMap;

use brane_abi::capture::line::{Fragment, Header, TIME};
use brane_abi::capture::{End, FrameHeader, Gone, Interface, MAX_SNAPLEN, record};
use zerocopy::FromBytes;

/// Longest record in bytes.
const MAX_RECORD: usize = 70 * 1024;
/// Interfaces of a capture, at most. An interface that a capture sees again is another one.
pub const MAX_INTERFACES: usize = 4096;

/// An event of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The present time, in nanoseconds since the boot.
    Time(u64),
    /// The capture sees a further interface. Its number is that of interfaces before it.
    Interface(Interface),
    /// A frame.
    Frame(Frame),
    /// The capture does not see the interface with this number any more.
    Gone {
        /// The interface.
        interface: usize,
        /// Frames that it has lost.
        dropped: u64,
        /// Frames that the program selected, with the lost ones.
        matched: u64,
        /// The reason; `None` if it is unknown.
        end: Option<End>,
    },
}

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the interface, in the order of [`Event::Interface`].
    pub interface: usize,
    /// The brane sent it.
    pub sent: bool,
    /// Nanoseconds since the boot.
    pub time_ns: u64,
    /// Frames of the interface that were lost so far.
    pub dropped: u64,
    /// Length of the whole frame in bytes.
    pub length: u32,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// Faults of the stream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Fragments that the line has lost.
    pub lost: u64,
    /// Records that make no sense, are too long, or belong to no known interface.
    pub malformed: u64,
}

/// Reads the records of a capture.
#[derive(Debug, Default)]
pub struct Records {
    next: u32,
    record: Vec<u8>,
    /// The rest of the record is of no use.
    skipping: bool,
    /// Number of the present interface, by the numbers of the brane's instance and of the interface in it.
    present: HashMap<(u8, u8), usize>,
    count: usize,
    faults: Faults,
}

impl Records {
    /// Returns the faults so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Returns true if the capture sees an interface.
    pub fn sees(&self) -> bool {
        !self.present.is_empty()
    }

    /// Consumes a fragment. Returns the event of the record that it completes.
    pub fn fragment(&mut self, body: &[u8]) -> Option<Event> {
        let Ok((fragment, bytes)) = Fragment::read_from_prefix(body) else {
            self.faults.malformed += 1;
            return None;
        };
        let sequence = u32::from_le_bytes(fragment.sequence);
        let gap = sequence.wrapping_sub(self.next);
        if gap > u32::MAX / 2 {
            // It was there before.
            self.faults.malformed += 1;
            return None;
        }
        self.next = sequence.wrapping_add(1);
        if gap != 0 {
            self.faults.lost += u64::from(gap);
            self.skipping = true;
        }
        if !self.skipping && self.record.len() + bytes.len() > MAX_RECORD {
            self.faults.malformed += 1;
            self.skipping = true;
        }
        if self.skipping {
            self.record.clear();
        } else {
            self.record.extend_from_slice(bytes);
        }
        if fragment.last == 0 {
            return None;
        }
        if std::mem::take(&mut self.skipping) {
            return None;
        }
        let record = std::mem::take(&mut self.record);
        let event = self.record(&record);
        if event.is_none() {
            self.faults.malformed += 1;
        }
        self.record = record;
        self.record.clear();
        event
    }

    /// Decodes a record. Returns `None` if it makes no sense.
    fn record(&mut self, record: &[u8]) -> Option<Event> {
        let (header, payload) = Header::read_from_prefix(record).ok()?;
        let key = (header.instance, header.interface);
        if header.kind == TIME {
            return Some(Event::Time(u64::from_le_bytes(*payload.first_chunk()?)));
        }
        match u32::from(header.kind) {
            record::INTERFACE => {
                let interface: Interface = minicbor::decode(payload).ok()?;
                if !interface.is_plausible() || !is_plain(&interface) || self.count == MAX_INTERFACES {
                    return None;
                }
                self.present.insert(key, self.count);
                self.count += 1;
                Some(Event::Interface(interface))
            }
            record::FRAME => {
                let interface = *self.present.get(&key)?;
                let (frame, bytes) = FrameHeader::read_from_prefix(payload).ok()?;
                let kept = u32::try_from(bytes.len()).ok()?;
                (kept <= MAX_SNAPLEN && kept <= frame.length).then(|| {
                    Event::Frame(Frame {
                        interface,
                        sent: header.sent != 0,
                        time_ns: frame.time_ns,
                        dropped: frame.dropped,
                        length: frame.length,
                        bytes: bytes.to_vec(),
                    })
                })
            }
            record::GONE => {
                let (gone, _) = Gone::read_from_prefix(payload).ok()?;
                let interface = self.present.remove(&key)?;
                Some(Event::Gone {
                    interface,
                    dropped: gone.dropped,
                    matched: gone.matched,
                    end: End::from_code(gone.end),
                })
            }
            _ => None,
        }
    }
}

/// Returns true if the names have visible ASCII characters only, so that none forges a line of the output.
fn is_plain(interface: &Interface) -> bool {
    [&interface.brane, &interface.name, &interface.device]
        .iter()
        .all(|name| name.bytes().all(|c| c.is_ascii_graphic()))
}

#[cfg(test)]
pub(crate) mod tests;
