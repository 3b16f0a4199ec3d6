//! The branes' clients, the subscribers and the operators: restarted when they fault, with the branes left as they are.
//!
//! None of them is trusted. Clients have no link with the manager, so one that hangs is not noticed; a subscriber that hangs is cut
//! off ([`crate::hooks`]).

use super::{Action, Child, Cx, Manager, life, offenders};
use crate::brane::Client;
use alloc::format;

impl Client {
    /// It has failed; starts again after a delay.
    fn failed(&mut self, now: u64) {
        let up = now.saturating_sub(self.running_since);
        // Nobody tells when it is done starting, so a quick end is one before it came up.
        let delay = self
            .backoff
            .failed((up >= crate::backoff::HEALTHY_NS).then_some(up));
        self.restart_at = Some(now + delay);
    }

    /// Whether it is to be started now.
    fn due(&mut self, now: u64) -> bool {
        let due = self.restart_at.is_some_and(|at| at <= now);
        if due {
            self.restart_at = None;
            self.running_since = now;
        }
        due
    }
}

impl Manager {
    /// A client stands still after a fault.
    pub(super) fn client_fault(&mut self, brane: usize, what: &str, cx: &mut Cx<'_>) {
        let label = self.label(brane);
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.counts.client_faults += 1;
        b.client.failed(cx.now);
        cx.log(format!("the client of {label} failed: {what}; restarting it"));
        self.clients_due(brane, cx);
    }

    /// Starts a brane's client anew if its time has come.
    pub(super) fn clients_due(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let b = &mut self.branes[brane];
        if b.client.due(cx.now) {
            b.counts.client_restarts += 1;
            cx.actions.push(Action::Restart(Child::Client(brane)));
        }
    }

    /// A subscriber stands still after a fault.
    pub(super) fn watcher_fault(&mut self, k: usize, what: &str, cx: &mut Cx<'_>) {
        let Some(watcher) = self.watchers.get_mut(k) else {
            return;
        };
        watcher.failed(cx.now);
        cx.log(format!("{} failed: {what}; restarting it", life::watcher(k)));
        self.hooks.cut(k, "it failed");
        self.watchers_due(cx);
    }

    /// Drops the jobs of an operator that has faulted, because no operator will fetch them. The operator stays stopped until it
    /// is restarted.
    pub(super) fn operator_fault(&mut self, k: usize, what: &str, cx: &mut Cx<'_>) {
        let Some(operator) = self.operators.get_mut(k) else {
            return;
        };
        operator.failed(cx.now);
        cx.log(format!(
            "{} failed: {what}; restarting it",
            offenders::operator(k)
        ));
        self.desk.leave(k);
        self.operators_due(cx);
    }

    /// Starts operators anew whose time has come.
    pub(super) fn operators_due(&mut self, cx: &mut Cx<'_>) {
        for (k, operator) in self.operators.iter_mut().enumerate() {
            if operator.due(cx.now) {
                cx.actions.push(Action::Restart(Child::Operator(k)));
            }
        }
    }

    /// Starts subscribers anew whose time has come.
    pub(super) fn watchers_due(&mut self, cx: &mut Cx<'_>) {
        for (k, watcher) in self.watchers.iter_mut().enumerate() {
            if watcher.due(cx.now) {
                self.hooks.fresh(k);
                cx.actions.push(Action::Restart(Child::Watcher(k)));
            }
        }
    }
}
