//! Accounts of a service's work for each of its callers.
//!
//! A service (timer, serial, a NIC driver, the manager) runs above its callers, and the kernel charges its
//! time to no caller. So a caller in a loop would get the service's time in addition to its own. A service
//! therefore keeps a [`Budget`] for each untrusted caller: work in nanoseconds, paid back at a fixed
//! `Terms::share` of the time that passes. A caller whose debt is above `Terms::burst` is exhausted until
//! all of its debt is paid back.
//!
//! **Bound.** If a service begins no operation for an exhausted caller, then in any interval of length t it
//! works for that caller at most `burst + share * t` plus one longest operation (`tests/bound.rs`).
//!
//! A service cannot prevent a call or a notification, so each of them is charged as well ([`ENTRY_NS`] for
//! the kernel's part). The service reports an exhausted caller to the manager, which suspends the caller
//! until its debt is paid back ([`Budgets::take_offender`], `brane_abi::offender`).
//!
//! Pure arithmetic on times that are arguments, in nanoseconds of one clock. If the clock goes backwards, it
//! counts as stopped. Callers are not trusted, and they cannot reach these accounts.
#![no_std]

/// Charge for each call or notification in addition to the measured time, in nanoseconds. It covers the
/// kernel's two entries and switches of address space, which no service can measure.
pub const ENTRY_NS: u64 = 2_000;

/// Charge for each call or notification to a service whose callers have no reason for many of them. It also
/// holds on a machine that is several times slower than the one of [`ENTRY_NS`]: 50,000 ns were measured in
/// an emulator that shared its processor with 20 others.
pub const SWITCH_NS: u64 = 20_000;

/// Maximum of callers of one service: channel ids 0 to 61.
pub const MAX_CALLERS: usize = 62;

/// Limits of one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    per_thousand: u64,
    /// Maximum debt that is not exhausted, in nanoseconds of paying back.
    patience: u64,
    longest: u64,
}

impl Terms {
    /// Returns a share of `per_thousand` thousandths of the processor, with bursts of `burst` nanoseconds and
    /// operations of at most `longest` nanoseconds. A longer operation is charged as `longest`, because the
    /// whole machine stood still, as an emulator does.
    ///
    /// # Panics
    /// If `per_thousand` is 0 or above 1000. For constants this is a compile-time error.
    pub const fn new(per_thousand: u64, burst: u64, longest: u64) -> Terms {
        assert!(per_thousand != 0 && per_thousand <= 1000);
        Terms {
            per_thousand,
            patience: burst.saturating_mul(1000) / per_thousand,
            longest,
        }
    }

    /// Returns the nanoseconds in which so much work is paid back, rounded up.
    const fn payback(&self, work: u64) -> u64 {
        work.saturating_mul(1000).div_ceil(self.per_thousand)
    }
}

/// The account of one caller.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    terms: Terms,
    /// Time at which all debt is paid back.
    free_at: u64,
    /// Latest time seen.
    latest: u64,
    exhausted: bool,
}

impl Budget {
    /// Returns an account without debt.
    pub const fn new(terms: Terms) -> Budget {
        Budget {
            terms,
            free_at: 0,
            latest: 0,
            exhausted: false,
        }
    }

    /// Charges an operation that ended at `now` and took `cost` nanoseconds.
    #[inline]
    pub fn charge(&mut self, now: u64, cost: u64) {
        self.latest = self.latest.max(now);
        if self.free_at <= self.latest {
            self.free_at = self.latest;
            self.exhausted = false;
        }
        let payback = self.terms.payback(cost.min(self.terms.longest));
        self.free_at = self.free_at.saturating_add(payback);
        self.exhausted |= self.free_at - self.latest > self.terms.patience;
    }

    /// Pays back one burst of the debt at `now`, in addition to the payback by time.
    #[inline]
    pub fn pay_burst(&mut self, now: u64) {
        self.latest = self.latest.max(now);
        let free_at = self.free_at.saturating_sub(self.terms.patience);
        self.free_at = free_at.max(self.latest);
        self.exhausted &= self.free_at - self.latest > self.terms.patience;
    }

    /// Returns when the caller may be served again, or `None` if it may be served now.
    #[inline]
    pub fn exhausted(&mut self, now: u64) -> Option<u64> {
        self.latest = self.latest.max(now);
        self.exhausted &= self.free_at > self.latest;
        self.exhausted.then_some(self.free_at)
    }
}

/// Accounts of callers 0 to `N - 1` of one service, and the offenders to report to the manager.
#[derive(Clone, Debug)]
pub struct Budgets<const N: usize> {
    accounts: [Budget; N],
    /// Bit for each exhausted caller that the manager has not fetched yet.
    offenders: u64,
    /// Bit for each caller that has an account.
    bounded: u64,
    exhaustions: u64,
}

impl<const N: usize> Budgets<N> {
    /// Returns accounts without debt for the callers whose bits are set in `bounded`. The other callers are
    /// trusted and never charged.
    ///
    /// # Panics
    /// If `N` is above [`MAX_CALLERS`].
    pub const fn new(terms: Terms, bounded: u64) -> Self {
        assert!(N <= MAX_CALLERS);
        Self {
            accounts: [Budget::new(terms); N],
            offenders: 0,
            bounded,
            exhaustions: 0,
        }
    }

    /// Returns the accounts with other terms for one caller.
    #[must_use]
    pub const fn with_terms(mut self, caller: usize, terms: Terms) -> Self {
        if caller < N {
            self.accounts[caller] = Budget::new(terms);
        }
        self
    }

    fn account(&mut self, caller: usize) -> Option<&mut Budget> {
        let account = self.accounts.get_mut(caller)?;
        (self.bounded & 1 << caller != 0).then_some(account)
    }

    /// Charges an operation of `caller` that ended at `now` and took `cost` nanoseconds. Returns true if
    /// there is a new offender, of which the manager must be notified.
    #[inline]
    #[must_use = "the manager suspends an offender only if it is notified"]
    pub fn charge(&mut self, caller: usize, now: u64, cost: u64) -> bool {
        let Some(account) = self.account(caller) else {
            return false;
        };
        account.charge(now, cost);
        if account.exhausted(now).is_none() || self.offenders & 1 << caller != 0 {
            return false;
        }
        self.offenders |= 1 << caller;
        self.exhaustions += 1;
        true
    }

    /// Returns when `caller` may be served again, or `None` if it may be served now.
    #[inline]
    pub fn exhausted(&mut self, caller: usize, now: u64) -> Option<u64> {
        self.account(caller)?.exhausted(now)
    }

    /// Returns the next caller that the manager must suspend, and the end of the suspension. Each report is
    /// fetched once. A caller that continues is reported again by its next [`Self::charge`].
    pub fn take_offender(&mut self, now: u64) -> Option<(usize, u64)> {
        while self.offenders != 0 {
            let caller = self.offenders.trailing_zeros() as usize;
            self.offenders &= self.offenders - 1;
            if let Some(until) = self.exhausted(caller, now) {
                return Some((caller, until));
            }
        }
        None
    }

    /// Returns the number of reports so far.
    pub fn exhaustions(&self) -> u64 {
        self.exhaustions
    }
}
