//! What the driver works for each brane, and which branes wait for their turn.
//!
//! The driver runs above the branes, and the kernel charges its time to none of them. So the driver charges each brane's
//! account (`work_budget`) with what it works for the brane. A brane whose account is exhausted *waits*: its frames stay in its
//! own rings. The driver then notifies the domain `turn`, which has the branes' priority and notifies the driver when the
//! kernel's round of turns has come to it. All accounts begin anew then.
//!
//! **Bound.** Between two such notifications, the driver works for one brane [`BURST`] and a tenth of the time, and one turn at
//! most. If no other domain of the branes' priority wants to run, the notification comes as soon as the brane itself sleeps. So
//! the processor does not idle while a brane waits.
//!
//! The driver cannot prevent a notification. A brane that waits is not armed for one, but for one that was under way, so what
//! it notifies beyond that is charged to a second account. If that is exhausted, the manager suspends the brane
//! (`brane_abi::offender`).
//!
//! The branes are not trusted; they cannot reach these accounts.

use work_budget::{Budget, Budgets, ENTRY_NS, Terms};

/// Work for one brane beyond its tenth of the time, in nanoseconds.
pub const BURST: u64 = 1_000_000;
/// A turn in a round of the driver ends after so many nanoseconds.
pub const LONGEST_TURN: u64 = 200_000;
/// A turn and one record of the longest kind, for up to 63 receivers, in nanoseconds. What took longer is not charged: the
/// whole machine stood still then.
const LONGEST: u64 = 1_000_000;
const WORK: Terms = Terms::new(100, BURST, LONGEST);
/// Notifications of a brane that waits: some thirty at once, and one in a hundred of the time.
const KNOCKS: Terms = Terms::new(10, 100_000, 100_000);
/// Charge for a turn, which is for its wake too, and for each record of a turn that is too short to be measured, in
/// nanoseconds.
const TURN_COST: u64 = ENTRY_NS + 1_000;
const RECORD_COST: u64 = 2_000;
/// Charges are entered into the account when so many nanoseconds have come together, since that takes a look at the clock.
const SETTLED_FROM: u64 = 50_000;
/// A turn is measured from so many bytes on, where each record counts for [`RECORD_BYTES`] more. The clock is looked at again
/// after as many.
const MEASURED_FROM: usize = 4 * 1024;
const RECORD_BYTES: usize = 1024;

/// Measures one turn.
#[derive(Default)]
pub struct Meter {
    records: u64,
    bytes: usize,
    start: Option<u64>,
}

impl Meter {
    /// Enters a record of `len` bytes. Returns false if the turn has lasted long enough.
    #[inline]
    pub fn record(&mut self, len: usize, clock: &impl Fn() -> u64) -> bool {
        self.bytes += RECORD_BYTES + len;
        if self.bytes < MEASURED_FROM {
            self.records += u64::from(self.start.is_none());
            return true;
        }
        self.bytes = 0;
        let now = clock();
        now.saturating_sub(*self.start.get_or_insert(now)) < LONGEST_TURN
    }

    /// What the turn has cost up to now.
    #[inline]
    fn cost(&self, clock: &impl Fn() -> u64) -> u64 {
        let measured = self.start.map_or(0, |start| clock().saturating_sub(start));
        TURN_COST + self.records * RECORD_COST + measured
    }
}

/// The accounts of all branes.
pub struct Accounts<const N: usize> {
    work: [Budget; N],
    /// Charges that have not been entered yet.
    due: [u64; N],
    knocks: Budgets<N>,
    /// Branes that wait.
    waiting: u64,
    /// The domain `turn` has been notified and has not answered.
    asked: bool,
    /// The manager has to be notified.
    offended: bool,
}

impl<const N: usize> Default for Accounts<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Accounts<N> {
    /// Without debts.
    pub const fn new() -> Self {
        Self {
            work: [Budget::new(WORK); N],
            due: [0; N],
            knocks: Budgets::new(KNOCKS, u64::MAX),
            waiting: 0,
            asked: false,
            offended: false,
        }
    }

    /// Charges brane `b` with a turn. Returns true if the brane has to wait from now on.
    #[inline]
    pub fn charge(&mut self, b: usize, turn: &Meter, clock: &impl Fn() -> u64) -> bool {
        let due = &mut self.due[b];
        *due += turn.cost(clock);
        *due >= SETTLED_FROM && self.settle(b, clock())
    }

    fn settle(&mut self, b: usize, now: u64) -> bool {
        self.work[b].charge(now, core::mem::take(&mut self.due[b]));
        let exhausted = self.work[b].exhausted(now).is_some();
        self.waiting |= u64::from(exhausted) << b;
        exhausted
    }

    /// Returns true if brane `b` waits.
    #[inline]
    pub fn waits(&self, b: usize) -> bool {
        self.waiting & 1 << b != 0
    }

    /// Brane `b` has notified the driver although it waits.
    #[cold]
    pub fn knock(&mut self, b: usize, now: u64) {
        self.offended |= self.knocks.charge(b, now, TURN_COST);
    }

    /// The turn has come: all accounts begin anew. Returns the branes that have waited.
    #[cold]
    pub fn turn_came(&mut self) -> u64 {
        self.asked = false;
        self.work = [Budget::new(WORK); N];
        self.due = [0; N];
        core::mem::take(&mut self.waiting)
    }

    /// Returns true, once, if the domain `turn` has to be notified.
    #[inline]
    pub fn take_request(&mut self) -> bool {
        if self.waiting == 0 || self.asked {
            return false;
        }
        self.asked = true;
        true
    }

    /// Returns true, once, if the manager has to be notified that there is an offender.
    #[inline]
    pub fn take_offence(&mut self) -> bool {
        core::mem::take(&mut self.offended)
    }

    /// The next brane that the manager is to suspend, and until when.
    pub fn take_offender(&mut self, now: u64) -> Option<(usize, u64)> {
        self.knocks.take_offender(now)
    }
}
