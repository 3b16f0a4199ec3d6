//! The way of each instance to its goal.
//!
//! An operator names the goal: held, started, gone. [`Manager::advance`] takes the next step there whenever nothing is
//! awaited any more. Creating may fail, and then nothing is left; starting cannot fail (a brane that dies of it is started
//! anew); shutting down and deleting cannot fail either, but may take time: what a brane or a subscriber does not do in its
//! time is done without it, in the end by a reset of the protection domain.
//!
//! ```text
//! free → starting → [after create] created → [after start] started
//! started → [before shutdown] stopping → created → [before destroy] deleting → free
//! any → failed → restarting → created / started
//! ```

use super::{Action, Child, Cx, LINK_TIMEOUT_NS, Manager, command, milliseconds, order};
use crate::brane::{Brane, Goal, State, Step};
use crate::encode;
use crate::hooks::{Living, News};
use crate::manager::CONFIGURE_TIMEOUT_NS;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::command as order_kind;
use brane_abi::hooks::Transition;

/// How long a brane may take to answer `START`; in nanoseconds.
const START_TIMEOUT_NS: u64 = 1_000_000_000;
/// How much longer than the deadline of a shutdown its answer may take, in nanoseconds.
const DRAIN_GRACE_NS: u64 = 500_000_000;

impl Manager {
    /// The branes that subscribers have heard of, by number.
    pub(super) fn living(&self) -> Vec<Living> {
        let all = self.branes.iter().enumerate();
        all.filter(|(_, b)| b.announced)
            .filter_map(|(i, b)| b.living(i))
            .collect()
    }

    pub(super) fn link_up(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        if b.step != Some(Step::Link) || b.linked {
            // It has begun anew though nobody restarted it.
            self.breach(brane, "it reset the control link by itself", cx);
            return;
        }
        b.linked = true;
        b.step = None;
        b.deadline = None;
        if b.state == State::Leaving {
            b.state = State::Idle;
            b.client.running_since = cx.now;
            cx.actions.push(Action::Renew(Child::Client(brane)));
            self.freed(brane, cx);
        }
    }

    /// Takes the next steps of an instance, up to one that has to be waited for.
    pub(super) fn advance(&mut self, brane: usize, cx: &mut Cx<'_>) {
        // Each turn is a step of the way above; there are fewer than this.
        for _ in 0..12 {
            let b = &self.branes[brane];
            let gone = matches!(b.goal, Goal::Gone(_)) && b.config.is_some();
            match b.step {
                Some(Step::Hooks(_)) if !self.hooks.waits(brane) => self.branes[brane].step = None,
                // What is to be deleted need not come up first.
                Some(Step::Delay | Step::Link | Step::Configured(..) | Step::Start(_)) if gone => {
                    self.branes[brane].step = None;
                    self.branes[brane].deadline = None;
                }
                Some(_) => return,
                None => {}
            }
            let b = &self.branes[brane];
            match (b.goal, b.state) {
                (_, State::Idle | State::Leaving) => return,
                (Goal::Held(_) | Goal::Gone(_), State::Started) => {
                    self.branes[brane].state = State::Stopping;
                    self.tell(brane, Transition::BeforeShutdown, cx);
                }
                (Goal::Gone(0), State::Stopping) => self.held(brane, cx),
                (Goal::Gone(ms) | Goal::Held(ms), State::Stopping) => self.drain(brane, ms, cx),
                (_, State::Destroying) => return self.recycle(brane, cx),
                (Goal::Gone(_), _) => {
                    let announced = b.announced;
                    self.branes[brane].state = State::Destroying;
                    // It may have been bound for a start that is not awaited any more.
                    self.unbind_all(brane, cx);
                    if announced {
                        self.tell(brane, Transition::BeforeDestroy, cx);
                    }
                    self.branes[brane].announced = false;
                }
                (_, State::Starting | State::Restarting) if b.linked => self.configure(brane, cx),
                (Goal::Started, State::Created) => self.start(brane, cx),
                (Goal::Started, State::Started) | (Goal::Held(_), State::Created) => {
                    return self.arrived(brane, cx);
                }
                _ => return,
            }
        }
    }

    /// Tells subscribers; the instance waits for them.
    fn tell(&mut self, brane: usize, transition: Transition, cx: &mut Cx<'_>) {
        let Some(living) = self.branes[brane].living(brane) else {
            return;
        };
        self.hooks.tell(cx.now, &living, transition);
        self.branes[brane].step = Some(Step::Hooks(transition));
    }

    fn configure(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let token = self.next_token();
        let waited_for = self.branes[brane]
            .living(brane)
            .is_some_and(|l| self.hooks.anybody(&l, Transition::AfterCreate));
        let b = &mut self.branes[brane];
        // Nothing may pass before those who subscribed have done their part.
        let held = b.goal != Goal::Started || waited_for;
        let Some(config) = &mut b.config else { return };
        config.generation = b.restarts;
        config.held = held;
        let payload = encode(config);
        b.told = true;
        b.step = Some(Step::Configured(token, held));
        b.deadline = Some(cx.now + CONFIGURE_TIMEOUT_NS);
        if !held {
            self.bind_all(brane, cx);
        }
        cx.actions
            .push(command(brane, order_kind::CONFIGURE, token, payload));
    }

    /// The brane has taken its configuration, or refused it.
    pub(super) fn configured(&mut self, brane: usize, refused: Option<String>, cx: &mut Cx<'_>) {
        let label = self.label(brane);
        let b = &mut self.branes[brane];
        let held = matches!(b.step, Some(Step::Configured(_, true)));
        b.step = None;
        b.deadline = None;
        if let Some(why) = refused {
            b.state = State::Refused;
            // What is changed now is for its next life.
            b.told = false;
            b.last_fault = format!("refused its configuration: {why}");
            cx.log(format!("{label} {}", b.last_fault));
            let what = self.branes[brane].last_fault.clone();
            self.unbind_all(brane, cx);
            self.failed_new(brane, &what);
            self.not_started(brane, &what, cx);
            return;
        }
        b.state = State::Created;
        b.announced = true;
        if core::mem::take(&mut b.new) {
            let name = b.name().to_string();
            self.event(cx.now, "created", Some(&name), None, String::new());
        }
        if held {
            return self.tell(brane, Transition::AfterCreate, cx);
        }
        self.running(brane, cx);
    }

    fn start(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let token = self.next_token();
        let b = &mut self.branes[brane];
        b.step = Some(Step::Start(token));
        b.deadline = Some(cx.now + START_TIMEOUT_NS);
        self.bind_all(brane, cx);
        cx.actions.push(order(brane, order_kind::START, token));
    }

    /// The brane has answered `START`.
    pub(super) fn started(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let b = &mut self.branes[brane];
        b.step = None;
        b.deadline = None;
        self.running(brane, cx);
    }

    fn running(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let label = self.label(brane);
        let b = &mut self.branes[brane];
        b.state = State::Started;
        b.started_at = Some(cx.now);
        let name = b.name().to_string();
        let (what, took) = match b.failed_at.take() {
            Some(at) => {
                b.recovery_ns = cx.now.saturating_sub(at);
                let took = milliseconds(b.recovery_ns);
                ("restarted", format!(" again, {took} after the failure"))
            }
            None => ("started", String::new()),
        };
        cx.log(format!("{label} is up{took}"));
        self.event(
            cx.now,
            what,
            Some(&name),
            None,
            took.trim_start_matches(" again, ").into(),
        );
        self.tell(brane, Transition::AfterStart, cx);
    }

    fn drain(&mut self, brane: usize, ms: u32, cx: &mut Cx<'_>) {
        let token = self.next_token();
        let b = &mut self.branes[brane];
        b.step = Some(Step::Drained(token));
        b.deadline = Some(cx.now + u64::from(ms) * 1_000_000 + DRAIN_GRACE_NS);
        let payload = ms.to_le_bytes().to_vec();
        cx.actions
            .push(command(brane, order_kind::SHUTDOWN, token, payload));
    }

    /// The answer to a shutdown.
    pub(super) fn drained(&mut self, brane: usize, cut: u32, cx: &mut Cx<'_>) {
        self.branes[brane].cut = cut;
        self.held(brane, cx);
    }

    /// It has ended what it carried, or is not asked to.
    fn held(&mut self, brane: usize, cx: &mut Cx<'_>) {
        self.unbind_all(brane, cx);
        let b = &mut self.branes[brane];
        b.step = None;
        b.deadline = None;
        b.started_at = None;
        b.state = State::Created;
        let name = b.name().to_string();
        let detail = match b.cut {
            0 => String::new(),
            cut => format!("{cut} cut off"),
        };
        self.event(cx.now, "shutdown", Some(&name), None, detail);
    }

    /// The deadline of a shutdown is over without an answer: the protection domain is reset.
    pub(super) fn not_drained(&mut self, brane: usize, cx: &mut Cx<'_>) {
        self.stop(brane, "did not end its connections in time, so it was reset", cx);
    }

    /// Ends the brane: its devices go home, brane and client start pristine.
    fn recycle(&mut self, brane: usize, cx: &mut Cx<'_>) {
        cx.actions.push(Action::Stop(Child::Brane(brane)));
        cx.actions.push(Action::Stop(Child::Client(brane)));
        self.unbind_all(brane, cx);
        self.orders_lost(brane, cx);
        let home = self.all_go_home(brane, cx);
        let b = &mut self.branes[brane];
        let name = b.config.take().map(|c| c.name).unwrap_or_default();
        let old = core::mem::replace(b, Brane::new(None));
        let b = &mut self.branes[brane];
        // Counts are the instance's; so is the job that waits for the end.
        b.counts = old.counts;
        b.job = old.job;
        b.cut = old.cut;
        b.state = State::Leaving;
        b.deadline = Some(cx.now + LINK_TIMEOUT_NS);
        b.client.running_since = cx.now;
        // The client stands still until the brane has cleared what they share.
        cx.actions.push(Action::Renew(Child::Brane(brane)));
        self.gone(brane, home);
        self.event(cx.now, "deleted", Some(&name), None, String::new());
        cx.log(format!("brane `{name}` is deleted"));
    }

    /// Makes a started brane fault.
    pub(crate) fn crash(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let token = self.next_token();
        self.branes[brane].crash_by = Some(cx.now + super::CRASH_TIMEOUT_NS);
        cx.actions.push(order(brane, order_kind::CRASH, token));
    }

    /// A brane that was never created has failed: it is not tried again, and nothing of it stays.
    pub(super) fn failed_new(&mut self, brane: usize, why: &str) {
        let b = &mut self.branes[brane];
        if b.new {
            b.goal = Goal::Gone(0);
            if let Some(job) = b.job {
                self.desk.fails(job, why);
            }
        }
    }

    /// What became of subscribers, for log and events.
    pub(super) fn hook_news(&mut self, cx: &mut Cx<'_>) {
        for news in core::mem::take(&mut self.hooks.news) {
            let (what, k, why) = match news {
                News::Joined(k) => ("hook-joined", k, String::new()),
                News::Left(k) => ("hook-left", k, String::new()),
                News::Cut(k, why) => ("hook-cut", k, why),
            };
            let detail = match why.as_str() {
                "" => watcher(k),
                why => format!("{}: {why}", watcher(k)),
            };
            if what == "hook-cut" {
                cx.log(format!("{detail}; it is told no more"));
            }
            self.event(cx.now, what, None, None, detail);
        }
        // A subscriber may have been dropped: resumes branes that were waiting for it.
        for brane in 0..self.branes.len() {
            self.advance(brane, cx);
        }
    }
}

/// The name of a subscriber's protection domain.
pub(super) fn watcher(k: usize) -> String {
    format!("watcher-{k}")
}
