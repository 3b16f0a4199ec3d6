//! Owns the last events, for operators who follow them.
//!
//! The events are stored as CBOR in memory that is allocated once, so the manager's use of memory does not depend on
//! them.

use crate::encode;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{EVENTS_KEPT, Event};

/// Maximum number of events in one answer.
const PER_ANSWER: usize = 64;
/// Bytes of all stored events: 96 for each, which is more than most need.
const BYTES: usize = 96 * EVENTS_KEPT;

/// The stored events, bounded in number and bytes. The oldest are dropped first.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// The events in CBOR, one after another.
    bytes: VecDeque<u8>,
    /// Length of each event in bytes.
    lengths: VecDeque<u16>,
    last: u64,
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog {
            bytes: VecDeque::with_capacity(BYTES),
            lengths: VecDeque::with_capacity(EVENTS_KEPT),
            last: 0,
        }
    }
}

impl EventLog {
    pub(crate) fn push(
        &mut self,
        now: u64,
        what: &str,
        brane: Option<&str>,
        device: Option<&str>,
        detail: String,
    ) {
        self.last += 1;
        let text = encode(&Event {
            number: self.last,
            at_us: now / 1_000,
            what: what.into(),
            brane: brane.map(Into::into),
            device: device.map(Into::into),
            detail,
        });
        // Names have 31 bytes and details are short, so this succeeds. Otherwise the event is missing, and the gap in
        // the numbers shows that.
        let Ok(length) = u16::try_from(text.len()) else {
            return;
        };
        while self.lengths.len() == EVENTS_KEPT || self.bytes.len() + text.len() > BYTES {
            let Some(oldest) = self.lengths.pop_front() else {
                return;
            };
            self.bytes.drain(..usize::from(oldest));
        }
        self.bytes.extend(text);
        self.lengths.push_back(length);
    }

    /// Returns events with numbers above `after`, the oldest first, as many as fit into one answer.
    pub(crate) fn after(&self, after: u64) -> Vec<Event> {
        if after >= self.last {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut at = 0;
        for &length in &self.lengths {
            let end = at + usize::from(length);
            let text: Vec<u8> = self.bytes.range(at..end).copied().collect();
            at = end;
            match minicbor::decode::<Event>(&text) {
                Ok(event) if event.number > after => found.push(event),
                _ => {}
            }
            if found.len() == PER_ANSWER {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_in_order_in_the_same_memory() {
        let mut events = EventLog::default();
        let room = events.bytes.capacity();
        for n in 1..=2000u64 {
            let detail = "x".repeat(n as usize % 200);
            events.push(n * 1_000, "created", Some("red"), None, detail);
            let last = events.after(n - 1);
            assert_eq!((last.len(), last[0].number, last[0].at_us), (1, n, n));
        }
        assert_eq!(events.bytes.capacity(), room);
        let all: Vec<u64> = (0..10)
            .fold((Vec::new(), 0), |(mut all, after), _| {
                let part = events.after(after);
                let next = part.last().map_or(after, |e| e.number);
                all.extend(part.iter().map(|e| e.number));
                (all, next)
            })
            .0;
        assert!(all.len() > 100 && all.last() == Some(&2000), "{all:?}");
        assert!(all.is_sorted_by(|a, b| a + 1 == *b));
        assert!(events.after(2000).is_empty());
    }
}
