//! How much of the processor receiving may take, so that a flood from the wire leaves the rest to those who run below.
//!
//! The driver runs above the branes. If it took frames whenever there are some, a wire that is faster than the driver would
//! keep everybody else from running (receive livelock: Mogul and Ramakrishnan, 1997). So it keeps an account of the time
//! that its wakes for received frames take, against the time in between. Beyond [`BURST`] it rests: no interrupts for received
//! frames until a deadline, by which the others have had as much time as it took. What comes in meanwhile waits in the
//! device's buffers, and where they are full the device drops it, which costs the processor nothing.
//!
//! So in any stretch of time t the wakes take t / 2 at most, and beyond that [`BURST`] and the longest wake, whatever comes in.
//! A wake is bounded by the device's buffers. At less than half the processor there is no rest at all, and a lone frame is
//! never late.
//!
//! Pure arithmetic on times that the caller brings, in nanoseconds of a clock that does not go backwards (a step back counts
//! as no time). The wire is trusted with nothing.

/// Nanoseconds that receiving may be ahead of everything else.
pub const BURST: u64 = 1_000_000;
/// Longest rest, in nanoseconds. It bounds what a wake costs that seemed long because the whole machine stood still.
pub const LONGEST_REST: u64 = 16_000_000;
/// Shortest rest, in nanoseconds: not much against what it costs to be woken by the timer, and no longer than a device of 256
/// buffers can keep a million frames in a second.
pub const SHORTEST_REST: u64 = 250_000;
/// What a wake can have cost at most, in nanoseconds, and each of its frames: what took longer was no work of ours, but the whole
/// machine that stood still (in an emulator it does so now and then), and is nobody's to make up for. On a machine where a frame
/// costs more than this, receiving takes more than its half, and still not all.
pub const WAKE_COST: u64 = 50_000;
/// See [`WAKE_COST`].
pub const FRAME_COST: u64 = 8_000;
/// What a rest leaves of the debt.
const LEFT: u64 = BURST - SHORTEST_REST;

/// The account.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxThrottle {
    /// Nanoseconds taken, less those left to the others since.
    debt: u64,
    /// When the last wake ended.
    at: u64,
}

impl RxThrottle {
    /// Without debt.
    pub const fn new() -> RxThrottle {
        RxThrottle { debt: 0, at: 0 }
    }

    /// A wake that received so many frames lasted from `start` to `end`. `Some` when the next one has to wait until then, without
    /// interrupts for received frames; `None` when they may interrupt.
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
