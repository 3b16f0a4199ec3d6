//! Durations for which a test waits: for events that must happen, and for events that must not.
//!
//! No test judges a duration of the host's clock, because a busy host stretches it. A wait for an event ends
//! with the event, and its time-out is [`PATIENCE`]. The guest's speed is judged by counts: of events, of its
//! own heartbeats, or of its instructions ([`branes_qemu::Clock::Instructions`]).

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Time-out for an event that must happen. On an idle machine nothing takes more than 10 s, so a machine may
/// be five times slower. Only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time-out of one request to a service that answers within milliseconds. Use [`until_well`] to repeat the
/// request.
pub const ANSWER: Duration = Duration::from_secs(15);
/// Time for which a test watches that an event does not happen. On a slow machine the test detects less, but
/// never fails wrongly.
pub const SILENCE: Duration = Duration::from_secs(1);
/// Pause between two checks of a condition.
pub const POLL: Duration = Duration::from_millis(20);

/// Calls `ask` until it returns a value, for [`PATIENCE`].
///
/// # Errors
/// `ask` failed, or the time is over. `why` then describes the last state.
pub fn until<R>(mut ask: impl FnMut() -> Result<Option<R>>, why: impl FnOnce() -> String) -> Result<R> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("not within {PATIENCE:?}: {}", why());
        }
        std::thread::sleep(POLL);
    }
}

/// Repeats `attempt` until it succeeds, for [`PATIENCE`].
///
/// # Errors
/// The error of the last attempt.
pub fn until_well<R>(mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < end => std::thread::sleep(POLL),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_its_condition_and_with_an_error() {
        let mut left = 3;
        let mut ask = || {
            left -= 1;
            Ok((left == 0).then_some("there"))
        };
        assert_eq!(until(&mut ask, String::new).unwrap(), "there");
        let failed = until(|| -> Result<Option<()>> { bail!("broken") }, String::new);
        assert_eq!(failed.unwrap_err().to_string(), "broken");
        let mut left = 2;
        let mut attempt = || {
            left -= 1;
            if left > 0 { bail!("not yet") } else { Ok(7) }
        };
        assert_eq!(until_well(&mut attempt).unwrap(), 7);
    }
}
