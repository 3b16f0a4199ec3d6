//! The branes' clients: restarted when they fault, with their branes left as they are.
//!
//! Clients are not trusted. They have no link with the manager, so one that hangs is not noticed.

use super::{Action, Child, Manager};
use alloc::format;
use alloc::vec::Vec;

impl Manager {
    /// A client stands still after a fault.
    pub(super) fn client_fault(&mut self, now: u64, brane: usize, what: &str, actions: &mut Vec<Action>) {
        let label = self.label(brane);
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.counts.client_faults += 1;
        let up = now.saturating_sub(b.client.running_since);
        // Nobody tells when a client is done starting, so a quick end is one before it came up.
        let delay = b
            .client
            .backoff
            .failed((up >= crate::backoff::HEALTHY_NS).then_some(up));
        b.client.restart_at = Some(now + delay);
        actions.push(Action::Log(format!(
            "the client of {label} failed: {what}; restarting it"
        )));
        self.clients_due(now, brane, actions);
    }

    /// Starts a brane's client anew if its time has come.
    pub(super) fn clients_due(&mut self, now: u64, brane: usize, actions: &mut Vec<Action>) {
        let client = &mut self.branes[brane].client;
        if client.restart_at.is_some_and(|at| at <= now) {
            client.restart_at = None;
            client.running_since = now;
            self.branes[brane].counts.client_restarts += 1;
            actions.push(Action::Restart(Child::Client(brane)));
        }
    }
}
