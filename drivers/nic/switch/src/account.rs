//! Bounds the driver's work for each brane: an account for each brane, and the set of branes that wait for their turn.
//!
//! The driver runs above the branes, and the kernel charges its time to none of them. So the driver charges each
//! brane's account (`work_budget`) with its work for the brane. A brane whose account is exhausted *waits*: its frames
//! stay in its own rings. The driver then notifies the domain `turn`, which has the branes' priority. When the kernel's
//! round of turns reaches `turn`, `turn` notifies the driver. That pays back [`BURST`] of the debt of each brane that
//! waits.
//!
//! **Bound.** In a time `t` with `n` such notifications, the driver charges one brane at most `n + 1` times [`BURST`],
//! a tenth of `t`, and one turn. If no other domain of the branes' priority is ready to run, the notification comes as
//! soon as the brane itself sleeps. So the processor does not idle while a brane waits.
//!
//! All work is charged, with one exception. If `turn` answers within [`PROMPT`], no other domain used up its turn of
//! the round, because such a turn is longer. The driver then charges a quarter of its work until an answer takes
//! longer. So a brane that sends alone at full rate causes a quarter of the notifications. If another domain begins to
//! compute in that time, the brane has the work of one answer left at the reduced charge: four times [`BURST`].
//!
//! The driver cannot prevent a notification. The doorbell of a brane that waits is not armed, but one notification may
//! be under way. All further notifications are charged to a second account. If that account is exhausted, the manager
//! suspends the brane (`brane_abi::offender`).
//!
//! The branes are not trusted; they cannot reach these accounts.

use crate::Device;
use core::mem::take;
use work_budget::{Budget, Budgets, SWITCH_NS, Terms};

/// Work for one brane in advance of its tenth of the time, in nanoseconds.
pub const BURST: u64 = 1_000_000;
/// Longest time of a prompt answer, in nanoseconds: shorter than a turn of the kernel's round (5 ms), longer than most
/// domains need for one wake. See the head of this file.
pub const PROMPT: u64 = 2_000_000;
/// After a prompt answer, work is charged divided by 2 to the power of this.
const EASE: u32 = 2;
/// Length at which a turn in a round of the driver ends, in nanoseconds.
pub const LONGEST_TURN: u64 = 200_000;
/// A turn and one record of the longest kind, for up to 63 receivers, in nanoseconds. Longer times are not charged,
/// because the whole machine stood still in them.
const LONGEST: u64 = 1_000_000;
const WORK: Terms = Terms::new(100, BURST, LONGEST);
/// Budget of notifications from a brane that waits; the first notification of each wait is free. Five can come at once;
/// their long-term share is one hundredth of the time.
const KNOCKS: Terms = Terms::new(10, 5 * SWITCH_NS, SWITCH_NS);
/// Charge for a turn, in nanoseconds. Most of it is the notification of the device.
const TURN_COST: u64 = 6_000;
/// Charge for each record of a turn that is too short to be measured, in nanoseconds.
const RECORD_COST: u64 = 2_000;
/// Charge for later work on each record, such as reclaiming its transmit buffer, in nanoseconds.
const AFTER_RECORD: u64 = 300;
/// Charges that are collected before they enter the account, in nanoseconds, because each entry reads the clock.
const SETTLED_FROM: u64 = 50_000;
/// Bytes from which on a turn is measured, and between two readings of the clock. Long records count as several.
const MEASURED_FROM: usize = 16 * 1024;
const RECORD_BYTES: usize = 1024;
/// Charge for the records of a measured turn that came before its first measurement, in nanoseconds.
const UNMEASURED: u64 = (MEASURED_FROM / RECORD_BYTES) as u64 * RECORD_COST;

/// Measures one turn.
pub struct Meter {
    /// Bytes of all records; each record counts [`RECORD_BYTES`] more than its length.
    bytes: usize,
    /// Value of `bytes` at which the clock is read next.
    look_at: usize,
    start: Option<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            bytes: 0,
            look_at: MEASURED_FROM,
            start: None,
        }
    }
}

impl Meter {
    /// Enters a record of `len` bytes. Returns false if the turn has lasted long enough.
    #[inline]
    pub fn record(&mut self, len: usize, clock: &impl Fn() -> u64) -> bool {
        self.bytes += RECORD_BYTES + len;
        self.bytes < self.look_at || self.goes_on(clock())
    }

    fn goes_on(&mut self, now: u64) -> bool {
        self.look_at = self.bytes + MEASURED_FROM;
        now.saturating_sub(*self.start.get_or_insert(now)) < LONGEST_TURN
    }

    /// Returns the cost of the turn so far, in nanoseconds.
    #[inline]
    fn cost(&self, clock: &impl Fn() -> u64) -> u64 {
        let records = (self.bytes / RECORD_BYTES) as u64;
        let handled = match self.start {
            None => records * RECORD_COST,
            Some(start) => UNMEASURED + clock().saturating_sub(start),
        };
        TURN_COST + records * AFTER_RECORD + handled
    }
}

/// The accounts of all branes.
pub struct Accounts<const N: usize> {
    work: [Budget; N],
    /// Charges that have not been entered yet.
    due: [u64; N],
    /// Branes that had a measured turn since the last notification of the device.
    long: u64,
    knocks: Budgets<N>,
    /// Branes that wait.
    waiting: u64,
    /// Waiting branes that have notified the driver since they wait.
    knocked: u64,
    /// True from the notification of the domain `turn` until its answer.
    asked: bool,
    /// Time at which the first waiting brane exhausted its account, in nanoseconds.
    since: u64,
    /// See [`EASE`]; 0 after a late answer.
    ease: u32,
    /// True if the manager must be notified.
    offended: bool,
}

impl<const N: usize> Default for Accounts<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Accounts<N> {
    /// Creates accounts without debts.
    pub const fn new() -> Self {
        Self {
            work: [Budget::new(WORK); N],
            due: [0; N],
            long: 0,
            knocks: Budgets::new(KNOCKS, u64::MAX),
            waiting: 0,
            knocked: 0,
            asked: false,
            since: 0,
            ease: 0,
            offended: false,
        }
    }

    /// Charges brane `b` with a wake of the driver. The charge takes effect with the next turn.
    #[inline]
    pub fn on_wake(&mut self, b: usize) {
        self.due[b] += SWITCH_NS;
    }

    /// Charges brane `b` with a turn. Returns true if the brane must wait from now on.
    #[inline]
    pub fn charge(&mut self, b: usize, turn: &Meter, clock: &impl Fn() -> u64) -> bool {
        self.long |= u64::from(turn.start.is_some()) << b;
        let due = &mut self.due[b];
        *due += turn.cost(clock);
        *due >= SETTLED_FROM && self.settle(b, clock())
    }

    /// Notifies the device of the sent frames. An emulated device can block the driver here as long as it works. So the
    /// time is charged to each brane with a measured turn. The charge takes effect with the next turn.
    #[inline]
    pub fn kick(&mut self, device: &mut impl Device, clock: &impl Fn() -> u64) {
        if self.long == 0 {
            return device.kick();
        }
        let start = clock();
        device.kick();
        let took = clock().saturating_sub(start);
        let mut left = take(&mut self.long);
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            self.due[b] += took;
        }
    }

    fn settle(&mut self, b: usize, now: u64) -> bool {
        self.work[b].charge(now, take(&mut self.due[b]) >> self.ease);
        let exhausted = self.work[b].exhausted(now).is_some();
        if exhausted && self.waiting == 0 {
            self.since = now;
        }
        self.waiting |= u64::from(exhausted) << b;
        exhausted
    }

    /// Returns true if brane `b` waits for its turn.
    #[inline]
    pub fn waits(&self, b: usize) -> bool {
        self.waiting & 1 << b != 0
    }

    /// Records a notification from brane `b`, which waits. The first one is free, because it may have been under way.
    #[cold]
    pub fn on_notification(&mut self, b: usize, now: u64) {
        if self.knocked & 1 << b != 0 {
            self.offended |= self.knocks.charge(b, now, SWITCH_NS);
        }
        self.knocked |= 1 << b;
    }

    /// Pays back one burst of the debt of each waiting brane. Must be called when `turn` has notified. Returns the
    /// branes that no longer wait. A brane with a longer debt, from an operation that took long, waits for another
    /// turn.
    #[cold]
    pub fn turn_came(&mut self, now: u64) -> u64 {
        self.asked = false;
        self.knocked = 0;
        let prompt = now.saturating_sub(self.since) < PROMPT;
        self.ease = if prompt { EASE } else { 0 };
        let mut released = 0;
        let mut left = take(&mut self.waiting);
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            self.settle(b, now);
            self.work[b].pay_burst(now);
            let waits = u64::from(self.work[b].exhausted(now).is_some());
            self.waiting = self.waiting & !(1 << b) | waits << b;
            released |= (1 - waits) << b;
        }
        released
    }

    /// Returns true if [`Self::take_request`] or [`Self::take_offence`] may return true.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.waiting != 0 || self.offended
    }

    /// Returns true, once, if the domain `turn` must be notified.
    #[inline]
    pub fn take_request(&mut self) -> bool {
        if self.waiting == 0 || self.asked {
            return false;
        }
        self.asked = true;
        true
    }

    /// Returns true, once, if the manager must be notified of an offender.
    #[inline]
    pub fn take_offence(&mut self) -> bool {
        take(&mut self.offended)
    }

    /// Returns the next brane that the manager must suspend, and the time until which.
    pub fn take_offender(&mut self, now: u64) -> Option<(usize, u64)> {
        self.knocks.take_offender(now)
    }
}
