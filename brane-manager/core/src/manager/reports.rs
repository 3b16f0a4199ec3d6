//! What branes say, which is an allegation, and the end of a life that breaks the rules, faults or does not do what it must.

use super::*;

impl Manager {
    pub(super) fn report(
        &mut self,
        brane: usize,
        report_kind: u32,
        token: u32,
        payload: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        if report_kind == kind::ALIVE && b.pulse.answered(token) {
            b.counts.heartbeats += 1;
            return;
        }
        b.counts.reports += 1;
        match report_kind {
            kind::CONFIGURED | kind::REFUSED if matches!(b.step, Some(Step::Configured(t, _)) if t == token) =>
            {
                let refused = (report_kind == kind::REFUSED).then(|| report::reason(payload));
                self.configured(brane, refused, cx);
            }
            kind::DONE if b.step == Some(Step::Start(token)) => self.started(brane, cx),
            kind::DRAINED if b.step == Some(Step::Drained(token)) => {
                let cut = payload.try_into().map_or(0, u32::from_le_bytes);
                self.drained(brane, cut, cx);
            }
            kind::STATUS if b.reporting.is_some_and(|(t, _)| t == token) => {
                b.reporting = None;
                match report::status(payload) {
                    Ok(status) => {
                        b.status = status;
                        b.status_at = Some(cx.now);
                    }
                    Err(why) => {
                        b.counts.reports_refused += 1;
                        self.unwanted(brane, why, cx);
                    }
                }
            }
            kind::DONE | kind::REFUSED | kind::ANSWER if b.orders.iter().any(|o| o.token == token) => {
                self.order_answered(brane, report_kind, token, payload, cx);
            }
            _ => {
                b.counts.reports_unexpected += 1;
                self.unwanted(brane, "reports that nobody asked for", cx);
            }
        }
    }

    pub(crate) fn unwanted(&mut self, brane: usize, what: impl ToString, cx: &mut Cx<'_>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.unwanted += 1;
        if b.unwanted == MAX_UNWANTED {
            self.breach(brane, &what.to_string(), cx);
        }
    }

    pub(crate) fn breach(&mut self, brane: usize, what: &str, cx: &mut Cx<'_>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.counts.breaches += 1;
        if b.state == State::Failed {
            return;
        }
        let what = format!("broke the control protocol: {what}");
        self.stop(brane, &what, cx);
    }

    /// A command did not reach the brane.
    pub(super) fn dropped(&mut self, brane: usize, token: u32, cx: &mut Cx<'_>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.counts.commands_dropped += 1;
        b.pulse.not_asked(token);
        if b.reporting.is_some_and(|(t, _)| t == token) {
            b.reporting = None;
        }
        let needed = match b.step {
            Some(Step::Configured(t, _) | Step::Start(t) | Step::Drained(t)) => t == token,
            _ => b.orders.iter().any(|o| o.token == token),
        };
        if needed {
            self.breach(brane, "it does not take its commands", cx);
        }
    }

    /// The brane's life is over; it stands still. `how` is the log's verb for it.
    pub(crate) fn fail(&mut self, brane: usize, how: &str, what: &str, cx: &mut Cx<'_>) {
        let label = self.label(brane);
        self.unbind_all(brane, cx);
        self.orders_lost(brane, cx);
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        let up = b.started_at.take().map(|at| cx.now.saturating_sub(at));
        let idle = matches!(b.state, State::Idle | State::Leaving);
        let deleting = matches!(b.state, State::Destroying) || matches!(b.goal, Goal::Gone(_));
        b.linked = false;
        b.told = false;
        b.reporting = None;
        b.crash_by = None;
        b.pulse = Pulse::default();
        b.unwanted = 0;
        b.last_fault = what.into();
        b.step = None;
        b.deadline = None;
        if deleting && !idle {
            // Nothing of it is wanted any more: it goes on to its end, which starts it anew.
            b.state = State::Failed;
            cx.log(format!("{label} {how}: {what}; it is deleted"));
            return;
        }
        let delay = b.backoff.failed(up);
        if !idle {
            b.state = State::Failed;
            b.failed_at.get_or_insert(cx.now);
        }
        cx.log(if delay == 0 {
            format!("{label} {how}: {what}; restarting it")
        } else {
            format!("{label} {how}: {what}; restarting it in {}", milliseconds(delay))
        });
        if delay == 0 {
            self.restart(brane, cx);
        } else if let Some(b) = self.branes.get_mut(brane) {
            b.step = Some(Step::Delay);
            b.deadline = Some(cx.now + delay);
        }
        if !idle {
            let name = self.branes[brane].name().to_string();
            self.event(cx.now, "failed", Some(&name), None, what.into());
            self.failed_new(brane, what);
        }
    }

    pub(super) fn restart(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let Some(b) = self.branes.get_mut(brane) else {
            return;
        };
        b.step = Some(Step::Link);
        b.deadline = Some(cx.now + LINK_TIMEOUT_NS);
        b.restarts += 1;
        if !matches!(b.state, State::Idle | State::Leaving) {
            b.state = State::Restarting;
        }
        let child = Child::Brane(brane);
        // One that failed while it cleared what the last brane left has to do it again.
        cx.actions.push(match b.state {
            State::Leaving => Action::Renew(child),
            _ => Action::Restart(child),
        });
    }

    /// Ends the life of a brane that runs but does not do what it must.
    pub(crate) fn stop(&mut self, brane: usize, what: &str, cx: &mut Cx<'_>) {
        cx.actions.push(Action::Stop(Child::Brane(brane)));
        self.fail(brane, "failed", what, cx);
    }
}
