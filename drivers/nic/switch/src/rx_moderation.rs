//! When the driver takes received frames: at each interrupt while they are part of a conversation, in batches while a flood comes,
//! and not at all while receiving is ahead of everybody else's work.
//!
//! An interrupt for each burst of a flood costs more than the burst: whoever runs is stopped in the middle, and the device may be
//! held up just then (an emulator keeps its lock while it hands a burst over). So where [`MANY`] frames more have been taken
//! than were sent, the next ones are gathered: no interrupts for received frames until the timer, [`LONGEST`] later at most, and
//! sooner where the device's buffers would not last. A brane that has something to send wakes the driver as ever, and what has
//! come in meanwhile is taken too. It goes on as long as that many come each time. Peers that wait for their answers are never
//! late, however many they are: for each of their frames one is sent.
//!
//! What receiving takes of the processor is bounded by [`crate::rx_throttle`], which goes first.
//!
//! Pure arithmetic on times that the caller brings, in nanoseconds of a clock that does not go backwards, and on its counts. The
//! wire is trusted with nothing, the branes only with waking us.

use crate::BACKLOG;
use crate::rx_throttle::RxThrottle;

/// Frames taken beyond those sent from which on the next ones are gathered.
pub const MANY: u64 = 12;
/// Longest time for which frames are gathered, in nanoseconds: what a round trip may cost beside a flood.
pub const LONGEST: u64 = 400_000;
/// Shortest time that is worth waking by the timer, in nanoseconds.
pub const SHORTEST: u64 = 50_000;

/// Who takes received frames next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The device's interrupt.
    None,
    /// The timer, or a brane that has something to send.
    Gather,
    /// The timer, not before that time.
    RxThrottle(u64),
}

/// What a wake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Received frames are taken.
    Receive,
    /// They stay where they are.
    Leave,
    /// They stay where they are, and the timer is to wake us at that time.
    LeaveUntil(u64),
}

/// What the driver has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames taken from the device.
    pub received: u64,
    /// Frames given to it.
    pub sent: u64,
    /// Buffers for receiving given back to it.
    pub buffers: u64,
}

/// The state of receiving.
#[derive(Clone, Copy, Debug)]
pub struct RxModeration {
    throttle: RxThrottle,
    rest: Rest,
    /// When it was last decided who takes the next frames, and the counts then.
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
    /// Each frame interrupts.
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

    /// Who takes received frames next.
    pub fn rest(&self) -> Rest {
        self.rest
    }

    /// The driver was woken: by the device, by the timer (its deadline is over then), or by branes alone. `now` is asked for where
    /// it matters.
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

    /// Frames beyond those sent, since the last decision.
    fn unanswered(&self, counts: &Counts) -> u64 {
        let received = counts.received - self.then.received;
        received.saturating_sub(counts.sent - self.then.sent)
    }

    /// Whether a wake leaves the interrupts off for now, without a look at whether more frames have come.
    #[inline]
    pub fn gathers(&self, counts: &Counts) -> bool {
        self.rest == Rest::Gather || self.unanswered(counts) >= MANY
    }

    /// A wake that received lasted from `start` to `end`; the counts are those of its end. `Some` when received frames are not to
    /// interrupt, and the timer is to wake us then; `None` when nothing changes: they may, or the timer knows already.
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
        // As fast as they came, they fill half of the device's buffers in that time.
        let buffers = (counts.buffers - then.buffers).max(1);
        let lasts = since.saturating_mul(u64::from(BACKLOG) / 2) / buffers;
        let time = lasts.min(LONGEST);
        if time < SHORTEST {
            return None;
        }
        self.rest = Rest::Gather;
        Some(end.saturating_add(time))
    }

    /// The timer does not take the deadline: rather no rest than no end of it.
    pub fn no_timer(&mut self) {
        self.rest = Rest::None;
    }
}
