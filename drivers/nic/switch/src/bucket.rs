//! A token bucket: it limits a vif to a rate in bytes for each second, and allows bursts up to its capacity.
//!
//! It computes only with the driver's own numbers and with the time that the caller passes. The time is in nanoseconds
//! of a clock that does not go backwards; a step back counts as no time.

use brane_abi::port::MAX_FRAME;
use brane_abi::vif::MAX_RATE;

const SECOND: u64 = 1_000_000_000;

/// A token bucket. It is full at first.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Bytes in each second.
    rate: u64,
    /// Capacity in bytes.
    burst: u64,
    /// Bytes available now.
    tokens: u64,
    /// Fraction of a byte available besides, in billionths.
    rest: u64,
    /// Time of the last refill, in nanoseconds.
    at: u64,
}

impl Bucket {
    /// A bucket that passes no frame: for a vif without a rate, for which [`Self::take`] is not called.
    pub const EMPTY: Bucket = Bucket {
        rate: 0,
        burst: 0,
        tokens: 0,
        rest: 0,
        at: 0,
    };

    /// Creates a full bucket for `rate` bytes in each second. Its capacity is a tenth of a second, and at least the
    /// longest frame, which could otherwise never pass. Returns `None` if the rate is 0 or above [`MAX_RATE`].
    pub fn new(rate: u64) -> Option<Bucket> {
        let burst = (rate / 10).max(MAX_FRAME as u64);
        (rate != 0 && rate <= MAX_RATE).then_some(Bucket {
            rate,
            burst,
            tokens: burst,
            ..Bucket::EMPTY
        })
    }

    /// Fills the bucket.
    pub fn fill(&mut self) {
        (self.tokens, self.rest) = (self.burst, 0);
    }

    /// Returns true if a frame of `len` bytes may pass at `now`. The bucket is then reduced by `len`.
    pub fn take(&mut self, len: usize, now: u64) -> bool {
        let passed = now.saturating_sub(self.at);
        if passed != 0 {
            self.at = now;
            // A longer time fills the bucket in any case. With this bound the product fits: 10^19 for the highest rate.
            let most = (self.burst.saturating_mul(SECOND) / self.rate.max(1)).saturating_add(1);
            let gained = passed
                .min(most)
                .saturating_mul(self.rate)
                .saturating_add(self.rest);
            self.tokens = self.tokens.saturating_add(gained / SECOND);
            self.rest = gained % SECOND;
            if self.tokens >= self.burst {
                (self.tokens, self.rest) = (self.burst, 0);
            }
        }
        match self.tokens.checked_sub(len as u64) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_that_cannot_be() {
        assert!(Bucket::new(0).is_none() && Bucket::new(MAX_RATE + 1).is_none());
        assert!(Bucket::new(1).unwrap().take(MAX_FRAME, 0));
        assert!(!Bucket::new(1).unwrap().take(MAX_FRAME + 1, u64::MAX));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let mut bucket = Bucket::new(1000).unwrap();
        assert!(bucket.take(MAX_FRAME, 5 * SECOND));
        assert!(!bucket.take(1, 0));
        assert!(!bucket.take(1, 5 * SECOND));
        assert!(bucket.take(1000, 6 * SECOND));
        assert!(!bucket.take(1, 6 * SECOND));
    }

    proptest! {
        /// Checks that a bucket never passes more than the rate times the time, and one burst.
        #[test]
        fn passes_its_rate_and_no_more(
            rate in prop_oneof![1u64..100_000, 100_000u64..MAX_RATE, Just(MAX_RATE)],
            steps in proptest::collection::vec((0u64..20_000_000, 1usize..=1514), 1..300),
        ) {
            let mut bucket = Bucket::new(rate).unwrap();
            let burst = (rate / 10).max(MAX_FRAME as u64);
            let (mut now, mut passed) = (0u64, 0u128);
            for (gap, len) in steps {
                now += gap;
                let mut asked = 0;
                while bucket.take(len, now) && asked < 200 {
                    passed += len as u128;
                    asked += 1;
                }
                let most = u128::from(rate) * u128::from(now) / u128::from(SECOND) + u128::from(burst);
                prop_assert!(passed <= most, "{passed} of {most}");
            }
        }

        #[test]
        fn a_hungry_sender_gets_its_rate(rate in 20_000u64..1_000_000, gap in 1u64..1_000_000) {
            let mut bucket = Bucket::new(rate).unwrap();
            while bucket.take(1000, 0) {}
            let mut passed = 0;
            let mut now = 0;
            // Two seconds, or a hundred thousand steps.
            for _ in 0..100_000u64.min(2 * SECOND / gap) {
                now += gap;
                while bucket.take(1000, now) {
                    passed += 1000;
                }
            }
            let fair = u128::from(rate) * u128::from(now) / u128::from(SECOND);
            prop_assert!(u128::from(passed as u64).abs_diff(fair) <= 1000, "{passed} of {fair}");
        }

        #[test]
        fn no_numbers_make_it_panic(rate: u64, times in proptest::collection::vec(any::<(u64, usize)>(), 0..20)) {
            if let Some(mut bucket) = Bucket::new(rate) {
                for (now, len) in times {
                    let _ = bucket.take(len, now);
                }
            }
        }
    }
}
