//! How long a test waits: for what has to come, and for what must not come.
//!
//! No test judges a duration that the host's clock gave, because a busy host stretches it. A wait for what has to come ends
//! with its condition, and its time-out is [`PATIENCE`]. What the guest may take is judged by counts: of events, of its own
//! heartbeats, or of its instructions ([`branes_qemu::Clock::Instructions`]).

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// The time-out for whatever has to come. On an idle machine nothing takes more than 10 s; this allows one that is five
/// times slower. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The time-out of one question to a service that answers within milliseconds. Who asks again uses [`until_well`].
pub const ANSWER: Duration = Duration::from_secs(15);
/// The time for which a test watches that something does not come. On a slow machine it notices less, and never fails.
pub const SILENCE: Duration = Duration::from_secs(1);
/// The pause between two questions whether a condition holds.
pub const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer, for [`PATIENCE`]. An error of `ask` ends the wait.
///
/// # Errors
/// `ask` failed, or there was no answer; `why` then says what there was instead.
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

/// Tries until it succeeds, for [`PATIENCE`].
///
/// # Errors
/// The error of the last try.
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
