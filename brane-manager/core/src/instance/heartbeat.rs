//! The heartbeat: detects a started brane that hangs, that is, a brane that has not faulted but does not answer.
//!
//! At each beat every started brane is asked whether it is alive. Branes are not trusted. Only the first answer with
//! the token of the probe counts; any other is an unexpected report. A brane that loops, waits forever or is
//! quarantined is detected at the beat after [`SILENT_BEATS`] silent ones. So it is detected within `SILENT_BEATS + 1`
//! periods.
//!
//! A brane that can answer must not count as hanging, however slow the machine is. Branes take turns of 5 ms. If 28 of
//! them compute, each has its turn after 140 ms, and one turn is enough for an answer. Between the probe and the
//! verdict lie [`SILENT_BEATS`] periods. Beats are counted rather than time. If the whole machine paused, the next beat
//! comes late and the following one a whole period later, in which the branes run. So one such pause, of any length,
//! costs one of the three beats.
//!
//! If a brane was suspended since the last beat, the beat does not count as silent. Without an answer, at most
//! [`EXCUSED_BEATS`] beats are excused. So a brane that hangs in a loop of calls is detected as well.

use super::{Effects, Instance, LifecycleState};
use crate::shell::{Action, Child};
use alloc::format;
use brane_abi::control::command;

/// Minimum time between two beats, in nanoseconds.
pub(crate) const PERIOD_NS: u64 = 1_000_000_000;
/// Number of silent beats after a probe; at the last of them the brane counts as hanging.
pub(crate) const SILENT_BEATS: u32 = 3;
/// Maximum number of beats after a probe that are excused because the brane was suspended.
pub(crate) const EXCUSED_BEATS: u32 = 10;

/// The heartbeat of one brane in its present incarnation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heartbeat {
    /// Token of the probe without an answer.
    asked: Option<u32>,
    /// Beats since the last answer. The first of them sent the probe.
    silent: u32,
    /// Time of the first probe without an answer, in nanoseconds.
    since: u64,
    /// True if the brane was suspended since the last beat.
    suspended: bool,
    /// Number of excused beats since the last answer.
    excused: u32,
}

impl Heartbeat {
    /// Handles an answer. Returns false if the token is not that of the probe.
    pub(super) fn answered(&mut self, token: u32) -> bool {
        let expected = self.asked == Some(token);
        if expected {
            *self = Heartbeat::default();
        }
        expected
    }

    pub(super) fn suspended(&mut self) {
        self.suspended = true;
    }

    /// Returns true if the present beat is excused. `now` is true if the brane is suspended now.
    fn is_excused(&mut self, now: bool) -> bool {
        let suspended = core::mem::take(&mut self.suspended) || now;
        let excused = suspended && self.silent != 0 && self.excused < EXCUSED_BEATS;
        self.excused += u32::from(excused);
        excused
    }

    /// Handles a command that did not reach the brane. If it was the probe, the next beat asks again. The brane
    /// still counts as silent, because a brane that accepts no commands hangs as well.
    pub(super) fn dropped(&mut self, token: u32) {
        if self.asked == Some(token) {
            self.asked = None;
        }
    }
}

impl Instance {
    /// Ends the incarnation of a brane that was silent too long, and asks the other branes.
    pub(super) fn heartbeat(&mut self, now: u64, suspended: bool, effects: &mut Effects) {
        if self.state != LifecycleState::Started || self.heartbeat.is_excused(suspended) {
            return;
        }
        if self.heartbeat.silent == 0 {
            self.heartbeat.since = now;
        }
        self.heartbeat.silent += 1;
        if self.heartbeat.silent > SILENT_BEATS {
            self.counters.hangs += 1;
            let silence = now.saturating_sub(self.heartbeat.since) / 1_000_000;
            let what = format!("no answer to a heartbeat for {silence} ms");
            effects.act(Action::Stop(Child::Brane(self.id)));
            self.fail(now, "hangs", &what, effects);
        } else if self.heartbeat.asked.is_none() {
            let token = self.next_token();
            self.heartbeat.asked = Some(token);
            effects.act(self.send(command::HEARTBEAT, token, Default::default()));
        }
    }
}
