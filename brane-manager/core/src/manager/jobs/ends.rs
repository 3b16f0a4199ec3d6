//! How jobs go on and end: what a brane's answer, a goal that is reached or the time does to them.

use super::*;
use brane_abi::inside::Query;
use brane_abi::operator::Encoded;

impl Manager {
    pub(in crate::manager) fn end_job(&mut self, job: u32, result: Result<Answer, Refusal>, cx: &mut Cx<'_>) {
        if let Some(job) = self.desk.take(job) {
            self.desk.finish(job, End::Said(result), cx.actions);
        }
    }

    /// A brane is where it was to go.
    pub(in crate::manager) fn arrived(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let Some(number) = self.branes[brane].job.take() else {
            return;
        };
        if let Some(job) = self.desk.take(number) {
            let said = match &job.work {
                Work::Goal(said) => said.clone(),
                _ => String::new(),
            };
            let said = match self.branes[brane].cut {
                0 => said,
                cut => format!("{said}; {cut} connections were cut off"),
            };
            self.desk
                .finish(job, End::Said(Ok(Answer::Done(said))), cx.actions);
        }
    }

    /// A brane that was to be started cannot be.
    pub(in crate::manager) fn not_started(&mut self, brane: usize, why: &str, cx: &mut Cx<'_>) {
        let b = &mut self.branes[brane];
        if matches!(b.goal, crate::brane::Goal::Gone(_)) {
            return;
        }
        let Some(job) = b.job.take() else { return };
        let what = format!("brane \"{}\" is not started: it {why}", b.name());
        self.end_job(
            job,
            Err(refusal(what, "change what it refuses; it is tried again then")),
            cx,
        );
    }

    /// What the job that deletes the brane says went home.
    pub(in crate::manager) fn gone(&mut self, brane: usize, home: Vec<String>) {
        let cut = self.branes[brane].cut;
        if let Some(job) = self.branes[brane].job.and_then(|j| self.desk.find(j))
            && let Work::Delete(receipt) = &mut job.work
        {
            receipt.home = home;
            receipt.cut = cut;
        }
    }

    /// The instance of a deleted brane is free again.
    pub(in crate::manager) fn freed(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let Some(number) = self.branes[brane].job.take() else {
            return;
        };
        let after = self.free(cx.driver);
        let Some(job) = self.desk.take(number) else { return };
        let answer = match &job.work {
            Work::Delete(receipt) => Answer::Receipt(Receipt {
                after,
                took_us: cx.now.saturating_sub(job.since) / 1_000,
                ..receipt.clone()
            }),
            _ => Answer::Done(String::new()),
        };
        self.desk.finish(job, End::Said(Ok(answer)), cx.actions);
    }

    /// The receipt of a deletion that begins now.
    pub(in crate::manager) fn receipt(&self, name: &str, before: Free) -> Receipt {
        Receipt {
            name: name.to_string(),
            before,
            ..Receipt::default()
        }
    }

    /// A brane has answered a job's command, or will not.
    pub(in crate::manager) fn job_goes_on(&mut self, number: u32, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(mut job) = self.desk.take(number) else {
            return;
        };
        let result = match (core::mem::replace(&mut job.work, Work::Inside), outcome) {
            (Work::Settle(answer), _) => Ok(answer),
            (Work::Inside, Outcome::Answer(text)) => {
                return self.desk.finish(job, End::Inside(text), cx.actions);
            }
            (Work::Inside, Outcome::Done) => Ok(Answer::Inside(inside::Answer::Refused(String::new()))),
            (_, Outcome::Refused(why)) => Err(refusal(
                format!("the brane refuses it: {why}"),
                "nothing was changed",
            )),
            (_, Outcome::Lost) => Err(refusal(
                "the brane failed before it answered",
                "it is started anew; ask again then",
            )),
            (_, Outcome::Late) => Err(refusal(
                "no answer in time",
                "`show` of the brane tells how it is",
            )),
            (
                Work::Assign {
                    device,
                    to,
                    interface,
                },
                _,
            ) => match self.assigned(device, to, interface, number, cx) {
                Ok((answer, true)) => {
                    job.work = Work::Settle(answer);
                    self.desk.running.push(job);
                    return;
                }
                Ok((answer, false)) => Ok(answer),
                Err(why) if self.takes_orders(to) => {
                    // Its port is free again only when the brane has answered that it gave the interface up.
                    job.work = Work::Settle(Answer::Done(String::new()));
                    job.failure = Some(why);
                    self.desk.running.push(job);
                    return;
                }
                Err(why) => Err(why),
            },
            (Work::Adjust { brane, interface }, _) => Ok(self.adjusted(brane, interface, cx)),
            (Work::Rename { brane, interface, to }, _) => Ok(self.renamed(brane, interface, to, cx)),
            (other, _) => {
                job.work = other;
                self.desk.running.push(job);
                return;
            }
        };
        self.desk.finish(job, End::Said(result), cx.actions);
    }

    /// Moves the device from its old owner to the new one, which has added the interface. Returns the answer, and true if the
    /// old owner's answer is outstanding. If the driver refuses the move, the new owner is sent DETACH, if it takes commands.
    pub(in crate::manager) fn assigned(
        &mut self,
        vif: u32,
        to: usize,
        interface: InterfaceConfig,
        job: u32,
        cx: &mut Cx<'_>,
    ) -> Result<(Answer, bool), Refusal> {
        let device = self.registry.iter().position(|d| d.vif == vif);
        let name = interface.name.clone();
        let device_name = interface.device.clone();
        let owner = device.and_then(|d| self.registry.get(d)).and_then(|d| d.owner);
        let before = owner.map(|(from, _)| {
            let of = self.branes[from].interfaces().iter();
            let at = of.clone().find(|i| i.device == device_name);
            at.map_or(String::new(), |i| i.name.clone())
        });
        let moved = match device {
            Some(device) => self.hand_over(device, to, interface, cx),
            None => Err(refusal("the device is gone meanwhile", "see `nicctl list`")),
        };
        let from = match moved {
            Ok(from) => from,
            Err(why) => {
                if self.takes_orders(to) {
                    self.send_order(to, command::DETACH, name.into_bytes(), false, job, cx);
                }
                return Err(why);
            }
        };
        let brane = self.branes[to].name().to_string();
        let moved = from.map_or(String::new(), |f| format!(" from {}", self.branes[f].name()));
        self.event(
            cx.now,
            "assigned",
            Some(&brane),
            Some(&device_name),
            format!("as {name}{moved}"),
        );
        let answer = Answer::Done(format!("{device_name} is {name} of {brane}{moved}"));
        self.retry_refused(to, cx);
        let waits = match (from, before) {
            (Some(from), Some(old)) if self.takes_orders(from) => {
                self.send_order(from, command::DETACH, old.into_bytes(), false, job, cx)
            }
            _ => false,
        };
        Ok((answer, waits))
    }

    /// The interface's new addresses are in force.
    pub(in crate::manager) fn adjusted(
        &mut self,
        brane: usize,
        interface: InterfaceConfig,
        cx: &mut Cx<'_>,
    ) -> Answer {
        let (name, device) = (interface.name.clone(), interface.device.clone());
        if let Some(config) = &mut self.branes[brane].config
            && let Some(place) = config.interfaces.iter_mut().find(|i| i.name == name)
        {
            *place = interface;
        }
        let owner = self.branes[brane].name().to_string();
        self.event(cx.now, "adjusted", Some(&owner), Some(&device), String::new());
        self.retry_refused(brane, cx);
        Answer::Done(format!("{name} of {owner} has its new addresses"))
    }

    /// The new name is in force in the brane.
    pub(in crate::manager) fn renamed(
        &mut self,
        brane: usize,
        interface: Option<String>,
        to: String,
        cx: &mut Cx<'_>,
    ) -> Answer {
        let old = self.branes[brane].name().to_string();
        let mut device = None;
        if let Some(config) = &mut self.branes[brane].config {
            match &interface {
                None => config.name = to.clone(),
                Some(from) => {
                    if let Some(i) = config.interfaces.iter_mut().find(|i| i.name == *from) {
                        i.name = to.clone();
                        device = Some(i.device.clone());
                    }
                }
            }
        }
        let (what, said) = match interface {
            None => (format!("to {to}"), format!("{old} is called {to} now")),
            Some(from) => (
                format!("{from} to {to}"),
                format!("{from} of {old} is called {to} now"),
            ),
        };
        self.event(cx.now, "renamed", Some(&old), device.as_deref(), what);
        self.retry_refused(brane, cx);
        Answer::Done(said)
    }

    /// A brane that refused its configuration gets the changed one.
    pub(in crate::manager) fn retry_refused(&mut self, brane: usize, cx: &mut Cx<'_>) {
        if self.branes[brane].state == State::Refused {
            self.stop(brane, "its configuration was changed", cx);
        }
    }

    /// Begins a batch with its first request.
    pub(in crate::manager) fn batch(
        &mut self,
        operator: usize,
        requests: &[Encoded],
        cx: &mut Cx<'_>,
    ) -> Result<u32, Refusal> {
        let count = requests.len();
        let requests: Vec<Request> = match requests.len() > MAX_BATCH {
            true => Vec::new(),
            false => requests.iter().filter_map(Encoded::read).collect(),
        };
        let fits = |r: &Request| match r {
            Request::Inside { query, .. } => matches!(query, Query::Ping { .. } | Query::Host { .. }),
            other => other.changes(),
        };
        if requests.is_empty() || requests.len() != count || !requests.iter().all(fits) {
            return Err(refusal(
                format!("a batch has 1 to {MAX_BATCH} requests, each a change, a ping or a host"),
                "make several of it",
            ));
        }
        let work = Work::Batch(requests.into(), Vec::new());
        let job = self.desk.begin(cx.now, operator, work, Locks::default())?;
        self.batch_goes_on(job, None, cx);
        Ok(job)
    }

    /// Takes the end of a batch's last request, and begins the next one, up to one that has to be waited for.
    fn batch_goes_on(&mut self, job: u32, mut ended: Option<Result<Answer, Refusal>>, cx: &mut Cx<'_>) {
        // Each turn takes a request off.
        for _ in 0..=MAX_BATCH {
            let Some(job) = self.desk.find(job) else { return };
            let (number, operator, since) = (job.number, job.operator, job.since);
            let Work::Batch(left, outcomes) = &mut job.work else {
                return;
            };
            let mut refused = false;
            if let Some(result) = ended.take() {
                let at_us = cx.now.saturating_sub(since) / 1_000;
                refused = result.is_err();
                let (answer, refusal) = match result {
                    Ok(answer) => (Some(answer), None),
                    Err(why) => (None, Some(why)),
                };
                outcomes.push(operator::Outcome {
                    answer,
                    refusal,
                    at_us,
                });
            }
            let next = left.pop_front().filter(|_| !refused);
            let Some(request) = next else {
                let outcomes = core::mem::take(outcomes);
                return self.end_job(number, Ok(Answer::Batch(outcomes)), cx);
            };
            self.desk.begins = Some(number);
            let begun = self.request(operator, request, cx);
            self.desk.begins = None;
            match begun {
                Ok(Begun::Later(_)) => return,
                Ok(Begun::Now(answer)) => ended = Some(Ok(answer)),
                Err(why) => ended = Some(Err(why)),
            }
        }
    }

    /// Ends the jobs whose wait is over. Whether a batch has gone on, so that there may be more to do.
    pub(in crate::manager) fn jobs_due(&mut self, cx: &mut Cx<'_>) -> bool {
        let parts = core::mem::take(&mut self.desk.parts);
        let more = !parts.is_empty();
        for (batch, result) in parts {
            self.batch_goes_on(batch, Some(result), cx);
        }
        for (job, after) in self.desk.followers() {
            let events = self.events.after(after);
            if !events.is_empty() {
                self.end_job(job, Ok(Answer::Events(events)), cx);
            }
        }
        for (number, since, late) in self.desk.waiting(cx.now) {
            let reported = |b: &Brane| b.state != State::Started || b.status_at.is_some_and(|at| at >= since);
            if late || self.branes.iter().all(reported) {
                let Some(job) = self.desk.take(number) else {
                    continue;
                };
                let Work::Fresh(view) = &job.work else { continue };
                let end = End::View(view.clone(), since);
                self.desk.finish(job, end, cx.actions);
            }
        }
        let slow: Vec<u32> = (self.desk.running.iter())
            .filter(|j| j.deadline.is_some_and(|at| at <= cx.now))
            .map(|j| j.number)
            .collect();
        for job in slow {
            for b in &mut self.branes {
                if b.job == Some(job) {
                    b.job = None;
                }
            }
            let help = "`branectl list` tells when it is there";
            self.end_job(
                job,
                Err(refusal("it takes longer than 60 s and goes on", help)),
                cx,
            );
        }
        more || !self.desk.parts.is_empty()
    }
}
