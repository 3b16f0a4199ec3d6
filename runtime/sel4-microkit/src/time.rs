//! The shared clock (the time stamp counter, scaled to nanoseconds), and this domain's one deadline at the timer.
//!
//! The timer domain is trusted. It answers a call at once.

use crate::{Channel, MessageInfo, Region, set_mr};
use brane_abi::timer;

/// A clock of nanoseconds since the counter was zero. It is monotonic and equal in all protection domains.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds for each tick, times 2^32.
    scale: u64,
}

impl Clock {
    /// Creates the clock from the region prefilled with `x86_tsc_freq`. The region has the boot information's record: a
    /// header of 16 bytes (id, length), and the frequency in MHz.
    ///
    /// # Panics
    /// If the frequency is 0. It comes from the kernel (trusted), and no domain can work without it.
    pub fn new(tsc: Region) -> Clock {
        // SAFETY: the region is mapped readable for the domain's life and longer than 20 bytes, and nothing writes it.
        let mhz = unsafe { tsc.as_ptr().add(16).cast::<u32>().read_volatile() };
        Self::with_frequency(mhz).expect("the boot information has no frequency of the time stamp counter")
    }

    fn with_frequency(mhz: u32) -> Option<Clock> {
        (mhz != 0).then(|| Clock {
            scale: (1000 << 32) / u64::from(mhz),
        })
    }

    /// Converts ticks to nanoseconds. The result depends only on the ticks, in every domain, and never decreases as
    /// they increase.
    #[inline]
    fn nanoseconds(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    /// Returns the time now, in nanoseconds.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        // SAFETY: RDTSC is allowed in user mode by this kernel.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        self.nanoseconds(ticks)
    }
}

/// This domain's deadline at the timer.
pub struct Alarm {
    timer: Channel,
    /// This domain's deadline at the timer, if any.
    armed: Option<u64>,
}

impl Alarm {
    /// Creates the alarm for the timer at the other end of this channel. The timer must not have a deadline of this
    /// domain yet.
    pub const fn new(timer: Channel) -> Alarm {
        Alarm { timer, armed: None }
    }

    /// Records that the timer has notified this domain, so its deadline is over.
    pub fn rang(&mut self) {
        self.armed = None;
    }

    /// Arms the timer for `at` (nanoseconds of [`Clock::now_ns`]). If an earlier deadline is armed, the timer is not
    /// called, and it notifies at that deadline. Returns true if the timer will notify this domain.
    #[inline]
    pub fn set(&mut self, at: u64) -> bool {
        if self.armed.is_some_and(|armed| armed <= at) {
            return true;
        }
        set_mr(0, at);
        let taken = self
            .timer
            .pp_call(MessageInfo::new(timer::SET_DEADLINE, 1))
            .label()
            == timer::OK;
        if taken {
            self.armed = Some(at);
        }
        taken
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
