//! The heartbeat: detects a started brane that hangs, that is, answers nothing although it has not faulted.
//!
//! At each beat every started brane is asked whether it is alive. Branes are not trusted. Only the first answer with the
//! token of the question counts; any other is an unexpected report. A brane that loops, waits for ever or is
//! quarantined is detected at the beat after [`SILENT_BEATS`] silent ones, so within `SILENT_BEATS + 1` periods.
//!
//! A brane that can answer must not count as hanging, however slow the machine is. Branes take turns of 5 ms. If 28 of them
//! compute, each has its turn after 140 ms, and one turn is enough for an answer. Between the question and the verdict lie
//! [`SILENT_BEATS`] periods. Beats are counted, not the clock: if the whole machine paused, the next beat comes late and the one
//! after it a whole period later, in which the branes run. So one such pause, of any length, costs one of the three beats.
//!
//! If a brane was suspended since the last beat, the beat does not count as silent. After [`EXCUSED_BEATS`] such
//! beats without an answer there are no more, so that a brane that hangs in a loop of calls is detected as well.

use super::{Effects, Instance, LifecycleState};
use crate::shell::{Action, Child};
use alloc::format;
use brane_abi::control::command;

/// Least time between two beats, in nanoseconds.
pub(crate) const PERIOD_NS: u64 = 1_000_000_000;
/// Silent beats after a question; at the last of them the brane counts as hanging.
pub(crate) const SILENT_BEATS: u32 = 3;
/// Beats after a question that are not counted because the brane was suspended.
pub(crate) const EXCUSED_BEATS: u32 = 10;

/// The heartbeat of one brane in its present incarnation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heartbeat {
    /// Token of the question that has no answer yet.
    asked: Option<u32>,
    /// Beats since the last answer. The first of them asked.
    silent: u32,
    /// When the first question without an answer was asked, in nanoseconds.
    since: u64,
    /// The brane was suspended since the last beat.
    suspended: bool,
    /// Beats since the last answer that were excused.
    excused: u32,
}

impl Heartbeat {
    /// Takes an answer. Returns false if the token is not that of the question.
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

    /// Takes notice of a command that did not reach the brane. If it was the question, it is asked again at the next beat.
    /// The brane stays silent, because one that takes no commands hangs as well.
    pub(super) fn dropped(&mut self, token: u32) {
        if self.asked == Some(token) {
            self.asked = None;
        }
    }
}

impl Instance {
    /// Ends the incarnation of a brane that was silent too long, and asks the others.
    pub(super) fn beat(&mut self, now: u64, suspended: bool, effects: &mut Effects) {
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
