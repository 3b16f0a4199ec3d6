//! The protection domain `subject.elf`: counts its notifications, and is stopped and resumed by
//! `irq-checker.elf`.
//!
//! For tests. It owns the count. On the other side is the checker, which only reads the count.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};
use sel4_microkit::{ChannelSet, Handler, Never, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-subject.rs"));
}

struct Count(&'static AtomicU64);

#[protection_domain]
fn init() -> Count {
    // SAFETY: an atomic in a region with no other content. The checker reads it as an atomic.
    let count = unsafe { wiring::regions::SUBJECT_COUNT.shared().object::<AtomicU64>(0) };
    Count(count.expect("the region holds eight bytes"))
}

impl Handler for Count {
    type Error = Never;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Never> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
