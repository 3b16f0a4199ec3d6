//! What the driver works for each brane, and which branes wait for their turn.
//!
//! The driver runs above the branes, and the kernel charges its time to none of them. So the driver charges each brane's
//! account (`work_budget`) with what it works for the brane. A brane whose account is exhausted *waits*: its frames stay in its
//! own rings. The driver then notifies the domain `turn`, which has the branes' priority and notifies the driver when the
//! kernel's round of turns has come to it. That pays back [`BURST`] of the debt of each brane that waits.
//!
//! **Bound.** In `n` such notifications and the time `t`, the driver charges one brane with `n + 1` times [`BURST`], a tenth of `t`,
//! and one turn at most. If no other domain of the branes' priority wants to run, the notification comes as soon as the brane itself sleeps. So
//! the processor does not idle while a brane waits.
//!
//! All work is charged, but for one case. If `turn` answers within [`PROMPT`], no other domain used up its turn of the round, because
//! such a turn is longer. The driver then charges a quarter of its work until an answer takes longer. So a brane that sends alone at
//! full rate causes a quarter of the notifications. If another domain begins to compute then, the brane has one answer's work at
//! this price left: four times [`BURST`].
//!
//! The driver cannot prevent a notification. A brane that waits is not armed for one, but for one that was under way, so what
//! it notifies beyond that is charged to a second account. If that is exhausted, the manager suspends the brane
//! (`brane_abi::offender`).
//!
//! The branes are not trusted; they cannot reach these accounts.

use crate::Device;
use core::mem::take;
use work_budget::{Budget, Budgets, SWITCH_NS, Terms};

/// Work for one brane beyond its tenth of the time, in nanoseconds.
pub const BURST: u64 = 1_000_000;
/// See the head of this file: shorter than a turn of the kernel's round (5 ms), longer than most domains take to serve one wake.
pub const PROMPT: u64 = 2_000_000;
/// The part of the work that is charged after a prompt answer: one in 2 to the power of this.
const EASE: u32 = 2;
/// A turn in a round of the driver ends after so many nanoseconds.
pub const LONGEST_TURN: u64 = 200_000;
/// A turn and one record of the longest kind, for up to 63 receivers, in nanoseconds. What took longer is not charged: the
/// whole machine stood still then.
const LONGEST: u64 = 1_000_000;
const WORK: Terms = Terms::new(100, BURST, LONGEST);
/// Charges for notifications of a brane while it waits; the first notification of each wait is free. A brane can make five at
/// once, and may cost one hundredth of the time.
const KNOCKS: Terms = Terms::new(10, 5 * SWITCH_NS, SWITCH_NS);
/// Charge for a turn, in nanoseconds: telling the device of its frames is most of it.
const TURN_COST: u64 = 6_000;
/// Charge for each record of a turn that is too short to be measured, and for what comes after the turn, as taking back the
/// buffer of the frame, in nanoseconds.
const RECORD_COST: u64 = 2_000;
const AFTER_RECORD: u64 = 300;
/// Charges are entered into the account when so many nanoseconds have come together, since that takes a look at the clock.
const SETTLED_FROM: u64 = 50_000;
/// A turn is measured from so many bytes on, and the clock is looked at again after as many. Long records count as several.
const MEASURED_FROM: usize = 16 * 1024;
const RECORD_BYTES: usize = 1024;
/// Charge for the records of a measured turn before it was measured, in nanoseconds.
const UNMEASURED: u64 = (MEASURED_FROM / RECORD_BYTES) as u64 * RECORD_COST;

/// Measures one turn.
pub struct Meter {
    /// Bytes of all records, where each record counts for [`RECORD_BYTES`] more.
    bytes: usize,
    /// How many there are when the clock is to be looked at.
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

    /// What the turn has cost up to now.
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
    /// Branes that had a turn, long enough to be measured, since the device was told last.
    long: u64,
    knocks: Budgets<N>,
    /// Branes that wait.
    waiting: u64,
    /// Those of them that have notified since.
    knocked: u64,
    /// The domain `turn` has been notified and has not answered.
    asked: bool,
    /// When the first waiting brane exhausted its account, in nanoseconds.
    since: u64,
    /// See [`EASE`]; 0 after a late answer.
    ease: u32,
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

    /// Charges brane `b` with a wake of the driver. Takes effect with the next turn.
    #[inline]
    pub fn woke(&mut self, b: usize) {
        self.due[b] += SWITCH_NS;
    }

    /// Charges brane `b` with a turn. Returns true if the brane has to wait from now on.
    #[inline]
    pub fn charge(&mut self, b: usize, turn: &Meter, clock: &impl Fn() -> u64) -> bool {
        self.long |= u64::from(turn.start.is_some()) << b;
        let due = &mut self.due[b];
        *due += turn.cost(clock);
        *due >= SETTLED_FROM && self.settle(b, clock())
    }

    /// Tells the device of what was sent. An emulated device can keep the driver waiting here for as long as it works, so
    /// the time is charged to each brane that has sent much. Takes effect with the next turn.
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

    /// Returns true if brane `b` waits.
    #[inline]
    pub fn waits(&self, b: usize) -> bool {
        self.waiting & 1 << b != 0
    }

    /// Brane `b` has notified the driver although it waits. Its first notification may have been under way.
    #[cold]
    pub fn knock(&mut self, b: usize, now: u64) {
        if self.knocked & 1 << b != 0 {
            self.offended |= self.knocks.charge(b, now, SWITCH_NS);
        }
        self.knocked |= 1 << b;
    }

    /// The turn has come: it pays back one burst of the debt of each brane that waits. Returns those that wait no longer. One
    /// with a longer debt, from an operation that took long, waits for the next turn too.
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

    /// Returns true if [`Self::take_request`] or [`Self::take_offence`] would.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.waiting != 0 || self.offended
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
        take(&mut self.offended)
    }

    /// The next brane that the manager is to suspend, and until when.
    pub fn take_offender(&mut self, now: u64) -> Option<(usize, u64)> {
        self.knocks.take_offender(now)
    }
}
