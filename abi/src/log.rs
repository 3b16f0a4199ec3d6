//! The log ring of a protection domain (layout: [`crate::layout::log`]): text lines towards serial.
//!
//! The writer never waits: what does not fit is dropped, and the writer counts it. Serial takes the bytes for text of
//! no authority and prints them behind the writer's name, which it knows from the system description.

use crate::layout::log::{DATA, INDICES};
use crate::shared::SharedRegion;
use crate::stream::{StreamConsumer, StreamProducer};

/// The writer's end; `None` when the region is too small.
pub fn producer(region: SharedRegion) -> Option<StreamProducer> {
    // SAFETY: RingIndices is made of atomics only.
    let indices = unsafe { region.object(INDICES)? };
    StreamProducer::resume(indices, region.part(DATA.offset, DATA.len)?)
}

/// Serial's end; `None` when the region is too small.
pub fn consumer(region: SharedRegion) -> Option<StreamConsumer> {
    // SAFETY: RingIndices is made of atomics only.
    let indices = unsafe { region.object(INDICES)? };
    StreamConsumer::new(indices, region.part(DATA.offset, DATA.len)?)
}
