//! The last events, for operators who follow what happens.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{EVENTS_KEPT, Event};

/// Most events in one answer.
const PER_ANSWER: usize = 64;

/// The events that are remembered: bounded, the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct Events {
    kept: VecDeque<Event>,
    last: u64,
}

impl Events {
    pub(crate) fn push(
        &mut self,
        now: u64,
        what: &str,
        brane: Option<&str>,
        device: Option<&str>,
        detail: String,
    ) {
        self.last += 1;
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Event {
            number: self.last,
            at_us: now / 1_000,
            what: what.into(),
            brane: brane.map(Into::into),
            device: device.map(Into::into),
            detail,
        });
    }

    /// Those with numbers above `after`, the oldest first, as many as an answer has; none where there are none.
    pub(crate) fn after(&self, after: u64) -> Vec<Event> {
        let wanted = self.kept.iter().filter(|e| e.number > after);
        wanted.take(PER_ANSWER).cloned().collect()
    }
}
