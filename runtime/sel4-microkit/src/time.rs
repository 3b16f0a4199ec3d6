//! The shared clock: the time stamp counter, scaled to nanoseconds.

use crate::Region;

/// Nanoseconds since the counter was zero; monotonic, the same in all protection domains.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds for each tick, times 2^32.
    scale: u64,
}

impl Clock {
    /// Takes the frequency from the region prefilled with `x86_tsc_freq`: the boot information's record, whose header of
    /// 16 bytes (id, length) is followed by the frequency in MHz. `None` when that is 0.
    pub fn new(tsc: Region) -> Option<Clock> {
        // SAFETY: the region is mapped readable for the domain's life and longer than 20 bytes; nobody writes it.
        let mhz = unsafe { tsc.as_ptr().add(16).cast::<u32>().read_volatile() };
        (mhz != 0).then(|| Clock {
            scale: (1000 << 32) / u64::from(mhz),
        })
    }

    /// Now.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        // SAFETY: RDTSC is allowed in user mode by this kernel.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }
}
