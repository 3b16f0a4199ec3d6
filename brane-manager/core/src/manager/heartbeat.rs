//! The heartbeat: notices a started brane that answers nobody though it has not faulted.
//!
//! At each beat every started brane is asked whether it is alive. The branes are not trusted: what counts is an answer with
//! the token of the question, once; others are unwanted reports like any. One that computes for ever, waits for ever or is
//! cut off from its commands is found at the beat after [`SILENT_BEATS`] silent ones, so within `SILENT_BEATS + 1` periods.
//!
//! A brane that can answer must not be taken for one that hangs, however slow the machine. The branes take turns of 5 ms, so
//! with 28 of them that all compute, each has its turn after 140 ms, and one turn is enough for an answer; between the
//! question and the verdict lie [`SILENT_BEATS`] periods. And what counts is beats, not the clock: where the whole machine
//! stood still, the next beat comes late and the one after it a whole period later, in which the branes run. So one such
//! pause, of any length, costs a single beat of the three.
//!
//! A brane that was suspended since the last beat ([`super::offenders`]) is excused: the beat does not count as a silent one.
//! After [`EXCUSED_BEATS`] excuses without an answer there are no more, so that a brane that hangs in a loop of calls is found as
//! well.

use super::{Action, Child, Cx, Manager, order};
use crate::brane::State;
use alloc::format;
use brane_abi::control::command;

/// Least time between two beats, in nanoseconds.
pub(crate) const PERIOD_NS: u64 = 1_000_000_000;
/// So many beats in succession after a question may find no answer; at the last of them the brane is taken to hang.
pub(crate) const SILENT_BEATS: u32 = 3;
/// So many beats after a question are not counted because the brane was suspended.
pub(crate) const EXCUSED_BEATS: u32 = 10;

/// What is known of one brane's pulse in its present life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    /// The token of the question that has no answer yet.
    asked: Option<u32>,
    /// Beats since the last answer; the first of them asked.
    silent: u32,
    /// When that first question was asked, in nanoseconds.
    since: u64,
    /// The brane was suspended since the last beat.
    suspended: bool,
    /// Beats since the last answer that were excused.
    excused: u32,
}

impl Pulse {
    /// Takes an answer; `false` where nobody asked for it.
    pub(super) fn answered(&mut self, token: u32) -> bool {
        let wanted = self.asked == Some(token);
        if wanted {
            *self = Pulse::default();
        }
        wanted
    }

    /// The brane is suspended.
    pub(super) fn suspended(&mut self) {
        self.suspended = true;
    }

    /// Whether the present beat finds an excuse, given whether the brane is suspended now.
    fn is_excused(&mut self, now: bool) -> bool {
        let suspended = core::mem::take(&mut self.suspended) || now;
        let excused = suspended && self.silent != 0 && self.excused < EXCUSED_BEATS;
        self.excused += u32::from(excused);
        excused
    }

    /// A command did not reach the brane. If it was the question, it is asked again at the next beat; the brane's silence
    /// goes on, because one that takes no commands hangs as well.
    pub(super) fn not_asked(&mut self, token: u32) {
        if self.asked == Some(token) {
            self.asked = None;
        }
    }
}

impl Manager {
    /// When the next beat is due; never while no brane is started.
    pub(super) fn next_beat(&self) -> Option<u64> {
        let started = self.branes.iter().any(|b| b.state == State::Started);
        started.then_some(self.beat_at)
    }

    /// If a beat is due: ends the lives of those that were silent too long, and asks the others.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        if now < self.beat_at {
            return;
        }
        self.beat_at = now + PERIOD_NS;
        for brane in 0..self.branes.len() {
            let token = self.next_token();
            let b = &mut self.branes[brane];
            if b.state != State::Started {
                continue;
            }
            if b.pulse.is_excused(self.offenders.suspended(Child::Brane(brane))) {
                continue;
            }
            if b.pulse.silent == 0 {
                b.pulse.since = now;
            }
            b.pulse.silent += 1;
            if b.pulse.silent > SILENT_BEATS {
                b.counts.hangs += 1;
                let silence = now.saturating_sub(b.pulse.since) / 1_000_000;
                let what = format!("no answer to a heartbeat for {silence} ms");
                cx.actions.push(Action::Stop(Child::Brane(brane)));
                self.fail(brane, "hangs", &what, cx);
            } else if b.pulse.asked.is_none() {
                b.pulse.asked = Some(token);
                cx.actions.push(order(brane, command::HEARTBEAT, token));
            }
        }
    }

    /// Makes a started brane hang; the heartbeat notices.
    pub(crate) fn hang(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let token = self.next_token();
        cx.actions.push(order(brane, command::HANG, token));
    }
}
