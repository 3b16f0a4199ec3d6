//! Wake-ups of the other side, without notifications while it is awake.
//!
//! One [`Doorbell`] lies in shared memory for each direction. The woken side *takes* the dirty bits and, before it sleeps, *arms*
//! the doorbell. The other side *rings* it after each publication, and notifies only if the ring found the doorbell armed. Both
//! sides may write both words and need not trust each other. A dishonest peer can only miss its own wake-ups or cause needless
//! wake-ups of the two sides that share the region.
//!
//! The order makes it lossless. To ring: publish, set the bit, *then* check if the other side is armed. To sleep: arm, *then*
//! check if a bit is set. A sequentially consistent fence stands between the two steps of each side. So at least one of the two
//! sides sees the other's write (checked by loom in `tests/ring_loom.rs`).

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Doorbell of one direction. 64 bytes, so that the two directions do not share a cache line.
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
    /// Creates an unarmed doorbell without dirty bits. Zeroed memory has this value.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            dirty: AtomicU64::new(0),
            armed: AtomicU32::new(0),
        }
    }

    /// Creates an unarmed doorbell without dirty bits, for the model checker.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            dirty: AtomicU64::new(0),
            armed: AtomicU32::new(0),
        }
    }

    /// Sets `bits`. The producer calls this. Returns true if the other side sleeps and must be notified.
    #[must_use = "a true result means that the peer sleeps until it is notified"]
    pub fn ring(&self, bits: u64) -> bool {
        self.dirty.fetch_or(bits, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) != 0 && self.armed.swap(0, Ordering::AcqRel) != 0
    }

    /// Takes all set bits and clears them. The consumer calls this.
    pub fn take(&self) -> u64 {
        if self.dirty.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.dirty.swap(0, Ordering::AcqRel)
    }

    /// Announces sleep. The consumer calls this. Returns false if a bit is set already; then poll again instead of sleeping.
    #[must_use = "a false result means that there is work"]
    pub fn arm(&self) -> bool {
        // An exchange rather than a store, because an exchange is ordered after the other side's exchange. After a store, the 0
        // of that exchange could count as the newer value.
        self.armed.swap(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.dirty.load(Ordering::Acquire) != 0 {
            self.armed.store(0, Ordering::Release);
            return false;
        }
        true
    }

    /// Ends the sleep: no notification is needed until the next [`Self::arm`]. The consumer calls this.
    pub fn disarm(&self) {
        if self.armed.load(Ordering::Relaxed) != 0 {
            self.armed.store(0, Ordering::Release);
        }
    }
}
