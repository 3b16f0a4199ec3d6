//! Bounds the processor time of receiving, so that a flood from the wire leaves time to the domains of lower priority.
//!
//! The driver runs above the branes. If it received frames whenever there are some, a wire faster than the driver would
//! keep the branes from running (receive livelock: Mogul and Ramakrishnan, 1997). So this module compares the time of
//! wakes for received frames with the time between them. If receiving is ahead by more than [`BURST`], the driver
//! pauses. Interrupts for received frames stay off until a deadline, at which the other domains have had as much time
//! as the driver used. Frames that arrive during the pause wait in the device's buffers. If these are full, the device
//! drops the frames, which costs no processor time.
//!
//! So in any time t the wakes use at most half of t, and besides that [`BURST`] and the longest wake, whatever arrives.
//! A wake is bounded by the device's buffers. If receiving uses less than half of the processor, there is no pause, and
//! a single frame is never delayed.
//!
//! This module computes only with times that the caller passes, in nanoseconds of a clock that does not go backwards. A
//! step back counts as no time. The wire is not trusted.

/// Nanoseconds by which receiving may be ahead of all other work.
pub const BURST: u64 = 1_000_000;
/// Longest pause, in nanoseconds. It bounds the effect of a wake that seemed long because the whole machine stood
/// still.
pub const LONGEST_REST: u64 = 16_000_000;
/// Shortest pause, in nanoseconds. It is long enough that the wake by the timer costs little of it. It is short enough
/// that a device with 256 buffers can store a million frames in a second.
pub const SHORTEST_REST: u64 = 250_000;
/// Highest charge for a wake, in nanoseconds; [`FRAME_COST`] is added for each frame. A longer time was not work of the
/// driver. The whole machine stood still, as an emulator sometimes does, and no domain has to make up for that. On a
/// machine on which a frame costs more than this, receiving uses more than half of the processor, but not all of it.
pub const WAKE_COST: u64 = 50_000;
/// Highest charge for each received frame, in nanoseconds. See [`WAKE_COST`].
pub const FRAME_COST: u64 = 8_000;
/// The debt that is left after a pause, in nanoseconds.
const LEFT: u64 = BURST - SHORTEST_REST;

/// The account of receiving.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxThrottle {
    /// Nanoseconds that receiving used, less those of the other domains since.
    debt: u64,
    /// Time at which the last wake ended, in nanoseconds.
    at: u64,
}

impl RxThrottle {
    /// Creates an account without debt.
    pub const fn new() -> RxThrottle {
        RxThrottle { debt: 0, at: 0 }
    }

    /// Charges a wake that received `frames` frames from `start` to `end`. Returns the time until which the next one
    /// must wait, with interrupts for received frames off. Returns `None` if received frames may interrupt.
    #[inline]
    pub fn after(&mut self, start: u64, end: u64, frames: u64) -> Option<u64> {
        let others = start.saturating_sub(self.at);
        let most = frames.saturating_mul(FRAME_COST).saturating_add(WAKE_COST);
        let taken = end.saturating_sub(start).min(most);
        self.debt = self
            .debt
            .saturating_sub(others)
            .saturating_add(taken)
            .min(LEFT + LONGEST_REST);
        self.at = end;
        (self.debt > BURST).then(|| end.saturating_add(self.debt - LEFT))
    }
}
