//! Decides when the driver processes received frames. Normally it does so at each interrupt. During a flood it does so
//! in batches. If receiving has used too much processor time, it pauses.
//!
//! An interrupt for each burst of a flood costs more than the burst itself. It stops the running domain, and it may
//! block the device: an emulator holds its lock while it transfers a burst. So if the driver has received [`MANY`]
//! frames more than it has sent, it gathers the next ones. Interrupts for received frames stay off until the timer
//! wakes the driver. That is at most [`LONGEST`] later, and earlier if the device's buffers would run out. A brane that
//! sends still wakes the driver, which then processes the received frames too. Gathering continues as long as that many
//! frames come each time. It never delays peers that wait for answers, however many they are, because the driver sends
//! a frame for each of theirs.
//!
//! [`crate::rx_throttle`] bounds the processor time of receiving, and has precedence.
//!
//! This module computes only with counters and with times that the caller passes, in nanoseconds of a clock that does
//! not go backwards. The wire is not trusted. The branes are not trusted either; their notifications only wake the
//! driver.

use crate::BACKLOG;
use crate::rx_throttle::RxThrottle;

/// Surplus of received frames over sent ones from which on the driver gathers.
pub const MANY: u64 = 12;
/// Longest time of gathering, in nanoseconds: the delay of a round trip during a flood.
pub const LONGEST: u64 = 400_000;
/// Shortest time that is worth a wake by the timer, in nanoseconds.
pub const SHORTEST: u64 = 50_000;

/// The event that starts the next processing of received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The device's interrupt.
    None,
    /// The timer, or a brane that sends.
    Gather,
    /// The timer, not before this time.
    RxThrottle(u64),
}

/// The action of a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Process received frames.
    Receive,
    /// Leave received frames in the device.
    Leave,
    /// Leave received frames in the device and arm the timer for this time.
    LeaveUntil(u64),
}

/// Totals since the driver started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames received from the device.
    pub received: u64,
    /// Frames sent to the device.
    pub sent: u64,
    /// Receive buffers given back to the device.
    pub buffers: u64,
}

/// The state of receiving.
#[derive(Clone, Copy, Debug)]
pub struct RxModeration {
    throttle: RxThrottle,
    rest: Rest,
    /// Time of the last decision, and the counts at that time.
    at: u64,
    then: Counts,
    /// Frames received before this wake.
    received: u64,
}

impl Default for RxModeration {
    fn default() -> Self {
        Self::new()
    }
}

impl RxModeration {
    /// Creates the state in which each received frame interrupts.
    pub const fn new() -> RxModeration {
        RxModeration {
            throttle: RxThrottle::new(),
            rest: Rest::None,
            at: 0,
            then: Counts {
                received: 0,
                sent: 0,
                buffers: 0,
            },
            received: 0,
        }
    }

    /// Returns the event that starts the next processing of received frames.
    pub fn rest(&self) -> Rest {
        self.rest
    }

    /// Decides the action of a wake. `interrupted` is true if the device interrupted, `rang` if the timer's deadline
    /// has passed; otherwise only branes woke the driver. `now` is called only if the time matters.
    #[inline]
    pub fn wake(&mut self, interrupted: bool, rang: bool, now: impl FnOnce() -> u64) -> Wake {
        if rang {
            if let Rest::RxThrottle(until) = self.rest
                && now() < until
            {
                return Wake::LeaveUntil(until);
            }
            self.rest = Rest::None;
        }
        match self.rest {
            Rest::None if interrupted || rang => Wake::Receive,
            Rest::Gather => Wake::Receive,
            Rest::None | Rest::RxThrottle(_) => Wake::Leave,
        }
    }

    /// Returns the surplus of received frames over sent ones since the last decision.
    fn unanswered(&self, counts: &Counts) -> u64 {
        let received = counts.received - self.then.received;
        received.saturating_sub(counts.sent - self.then.sent)
    }

    /// Returns true if a wake leaves the interrupts off for now, without a poll for more frames.
    #[inline]
    pub fn gathers(&self, counts: &Counts) -> bool {
        self.rest == Rest::Gather || self.unanswered(counts) >= MANY
    }

    /// Records a wake that processed received frames from `start` to `end`; `counts` are those at its end. Returns the
    /// time for which the timer must be armed if received frames must not interrupt. Returns `None` if nothing changes:
    /// they may interrupt, or the timer is armed already.
    #[inline]
    pub fn after(&mut self, start: u64, end: u64, counts: Counts) -> Option<u64> {
        let frames = counts.received - core::mem::replace(&mut self.received, counts.received);
        let paced = self.throttle.after(start, end, frames);
        if self.rest == Rest::Gather && paced.is_none() {
            return None;
        }
        let unanswered = self.unanswered(&counts);
        let since = end.saturating_sub(core::mem::replace(&mut self.at, end));
        let then = core::mem::replace(&mut self.then, counts);
        if let Some(until) = paced {
            self.rest = Rest::RxThrottle(until);
            return Some(until);
        }
        if unanswered < MANY {
            return None;
        }
        // At their present rate, frames fill half of the device's buffers in this time.
        let buffers = (counts.buffers - then.buffers).max(1);
        let lasts = since.saturating_mul(u64::from(BACKLOG) / 2) / buffers;
        let time = lasts.min(LONGEST);
        if time < SHORTEST {
            return None;
        }
        self.rest = Rest::Gather;
        Some(end.saturating_add(time))
    }

    /// Cancels the pause. Called when the timer rejects the deadline; otherwise RX interrupts would stay off forever.
    pub fn no_timer(&mut self) {
        self.rest = Rest::None;
    }
}
