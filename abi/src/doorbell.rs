//! Waking the other side, and not waking it when it is awake.
//!
//! One [`Doorbell`] lies in shared memory for each direction. The side that is woken by it *takes* the dirty bits and,
//! before it sleeps, *arms* it; the other side *rings* it after it has published something, and needs a notification
//! only where the ring found it armed. Both sides may write both words: a peer that lies here can only miss its own
//! wake-ups or cause needless ones of the two that share the region.
//!
//! The order that makes it lossless: ring = publish, set the bit, *then* look whether the other is armed; sleep = arm,
//! *then* look whether a bit is set. With a sequentially consistent fence between the two steps of each side, one of the
//! two sees the other's write (checked by loom in `tests/ring_loom.rs`).

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// One direction's doorbell. 64 bytes, so that the two directions do not share a cache line.
#[repr(C, align(64))]
pub struct Doorbell {
    dirty: AtomicU64,
    armed: AtomicU32,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    /// An unarmed doorbell with nothing to do: what zeroed memory holds.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            dirty: AtomicU64::new(0),
            armed: AtomicU32::new(0),
        }
    }

    /// As above, for the model checker.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            dirty: AtomicU64::new(0),
            armed: AtomicU32::new(0),
        }
    }

    /// Producer: marks `bits` as having news. Returns whether the other side sleeps and must be notified.
    #[must_use = "a true result means that the peer sleeps until it is notified"]
    pub fn ring(&self, bits: u64) -> bool {
        self.dirty.fetch_or(bits, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) != 0 && self.armed.swap(0, Ordering::AcqRel) != 0
    }

    /// Consumer: takes all that is marked, leaving nothing marked.
    pub fn take(&self) -> u64 {
        if self.dirty.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.dirty.swap(0, Ordering::AcqRel)
    }

    /// Consumer: announces sleep. Returns `false` when there is news after all: then look again instead of sleeping.
    #[must_use = "a false result means that there is work"]
    pub fn arm(&self) -> bool {
        // An exchange rather than a store: it is ordered after the other side's exchange, whose 0 could otherwise be
        // taken for the newer value.
        self.armed.swap(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.dirty.load(Ordering::Acquire) != 0 {
            self.armed.store(0, Ordering::Release);
            return false;
        }
        true
    }

    /// Consumer: awake again, no notification needed until the next [`Self::arm`].
    pub fn disarm(&self) {
        if self.armed.load(Ordering::Relaxed) != 0 {
            self.armed.store(0, Ordering::Release);
        }
    }
}
