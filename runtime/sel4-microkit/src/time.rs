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
        Self::with_frequency(mhz)
    }

    fn with_frequency(mhz: u32) -> Option<Clock> {
        (mhz != 0).then(|| Clock {
            scale: (1000 << 32) / u64::from(mhz),
        })
    }

    /// Nanoseconds of that many ticks: the same in every domain for the same ticks, and never less for more.
    #[inline]
    fn nanoseconds(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    /// Now.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        // SAFETY: RDTSC is allowed in user mode by this kernel.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        self.nanoseconds(ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_frequency_is_no_clock() {
        assert!(Clock::with_frequency(0).is_none());
    }

    proptest! {
        #[test]
        fn a_year_is_right_to_a_part_in_a_million(mhz in 100u32..6000, seconds in 1u64..31_536_000) {
            let clock = Clock::with_frequency(mhz).unwrap();
            let ticks = seconds * u64::from(mhz) * 1_000_000;
            let (ns, right) = (clock.nanoseconds(ticks), seconds * 1_000_000_000);
            prop_assert!(ns <= right && right - ns <= right / 1_000_000);
            prop_assert!(clock.nanoseconds(ticks + 1) >= ns);
        }
    }
}
