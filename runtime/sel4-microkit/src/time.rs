//! The shared clock (the time stamp counter, scaled to nanoseconds), and this domain's one deadline at the timer.
//!
//! The timer domain is trusted and called; it answers at once.

use crate::{Channel, MessageInfo, Region, set_mr};
use brane_abi::timer;

/// Nanoseconds since the counter was zero; monotonic, the same in all protection domains.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds for each tick, times 2^32.
    scale: u64,
}

impl Clock {
    /// Takes the frequency from the region prefilled with `x86_tsc_freq`: the boot information's record, whose header of
    /// 16 bytes (id, length) is followed by the frequency in MHz.
    ///
    /// # Panics
    /// When that is 0: the kernel's word (trusted), without which no domain can work.
    pub fn new(tsc: Region) -> Clock {
        // SAFETY: the region is mapped readable for the domain's life and longer than 20 bytes; nobody writes it.
        let mhz = unsafe { tsc.as_ptr().add(16).cast::<u32>().read_volatile() };
        Self::with_frequency(mhz).expect("the boot information has no frequency of the time stamp counter")
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

/// This domain's deadline at the timer.
pub struct Alarm {
    timer: Channel,
    /// The deadline that the timer has of us.
    armed: Option<u64>,
}

impl Alarm {
    /// By the timer at the other end of this channel, which has no deadline of ours yet.
    pub const fn new(timer: Channel) -> Alarm {
        Alarm { timer, armed: None }
    }

    /// The timer has notified us, and has no deadline of ours any more.
    pub fn rang(&mut self) {
        self.armed = None;
    }

    /// Has the timer notify us at `at` (nanoseconds of [`Clock::now_ns`]), or earlier where it would anyway: it is called
    /// only for an earlier deadline than the one that it has. Returns whether it will notify us.
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
