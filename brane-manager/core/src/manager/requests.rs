//! Requests of operators: each is checked here, and done at once or begun as a job.
//!
//! Operators are not trusted: a request may be any bytes. What it names is looked up in the one place for its kind of name,
//! and nothing is changed before all of it is found to be possible.

use super::jobs::{End, Locks, View, Work, inside_answer};
use super::{Cx, Manager, life};
use crate::brane::{Brane, Goal, State, Step};
use crate::driver::Driver;
use crate::encode;
use crate::names::{self, listed, printable, refusal};
use crate::registry::MAX_ALLOW;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, FamilyConfig, InterfaceConfig, Rename, command};
use brane_abi::inside::MAX_QUERY;
use brane_abi::operator::{self, Addressing, Answer, DeviceConfig, Receipt, Refusal, Request};

mod branes;
mod interfaces;
mod lookup;

/// Longest time that a shutdown can be given, in milliseconds.
const MAX_DEADLINE_MS: u32 = 30_000;

/// What is answered to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// [`operator::OK`], [`operator::ERROR`] or [`operator::LATER`].
    pub label: u64,
    /// The CBOR text for the operator's region; empty for `LATER`.
    pub text: Vec<u8>,
    /// For `LATER`, the job.
    pub job: u32,
}

/// What a request comes to.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is encoded at once"
)]
pub(super) enum Begun {
    Now(Answer),
    Later(u32),
}

use Begun::{Later, Now};

fn job_number(argument: &[u8]) -> u32 {
    let number = argument.get(..4).and_then(|b| b.try_into().ok());
    number.map_or(0, u32::from_le_bytes)
}

impl Manager {
    /// Serves one call of an operator: label and message bytes.
    pub fn operator(
        &mut self,
        now: u64,
        operator: usize,
        label: u64,
        argument: &[u8],
        driver: &mut dyn Driver,
        actions: &mut Vec<super::Action>,
    ) -> Reply {
        let first = actions.len();
        let cx = &mut Cx { now, driver, actions };
        let result = match label {
            operator::CALL => match minicbor::decode::<Request>(argument) {
                Ok(request) => self.request(operator, request, cx),
                Err(_) => Err(refusal(
                    "the request is not readable",
                    "operator and manager are of different versions: build both from the same source",
                )),
            },
            operator::CANCEL => {
                self.desk.cancel(operator, job_number(argument));
                Ok(Now(Answer::Done(String::new())))
            }
            operator::POLL => {
                let job = job_number(argument);
                match self.desk.poll(operator, job) {
                    None => Ok(Later(job)),
                    Some(End::Said(result)) => result.map(Now),
                    Some(End::View(view, since)) => self.view(&view, since, cx).map(Now),
                    Some(End::Inside(text)) => inside_answer(&text).map(Now),
                }
            }
            other => Err(refusal(
                format!("the manager has no call {other}"),
                "operator and manager are of different versions: build both from the same source",
            )),
        };
        self.settle(cx);
        self.offenders.forget(&actions[first..]);
        let (label, text, job) = match result {
            Ok(Later(job)) => (operator::LATER, Vec::new(), job),
            Ok(Now(answer)) => (operator::OK, encode(&answer), 0),
            Err(why) => (operator::ERROR, encode(&why), 0),
        };
        if text.len() > operator::REPLY_SIZE {
            let what = format!(
                "the answer has {} bytes, {} fit",
                text.len(),
                operator::REPLY_SIZE
            );
            return Reply {
                label: operator::ERROR,
                text: encode(&refusal(what, "ask for one thing by its name")),
                job: 0,
            };
        }
        Reply { label, text, job }
    }

    pub(super) fn request(
        &mut self,
        operator: usize,
        request: Request,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        if let Some(why) = &self.boot_error {
            return Err(refusal(
                format!("no brane is configured: the boot configuration cannot be used: {why}"),
                "build the image anew with a good one (`boot` in configs.toml)",
            ));
        }
        match request {
            Request::List { fresh: false } => Ok(Now(self.view(&View::List, cx.now, cx)?)),
            Request::List { fresh: true } => self.fresh(operator, View::List, cx),
            Request::Show(name) => {
                self.brane(&name)?;
                self.fresh(operator, View::Show(name), cx)
            }
            Request::Stats(name) => self.fresh(operator, View::Stats(name), cx),
            Request::Audit => self.fresh(operator, View::Audit, cx),
            Request::Create {
                name,
                families,
                start,
            } => self.create(operator, name, families, start, cx),
            Request::Start(name) => {
                let brane = self.settled(&name)?;
                let b = &self.branes[brane];
                if b.goal == Goal::Started && b.state == State::Started {
                    return Ok(Now(Answer::Done(format!("{name} is started already"))));
                }
                let said = format!("{name} is started");
                self.go(operator, brane, Goal::Started, Work::Goal(said), cx)
            }
            Request::Shutdown { name, deadline_ms } => {
                let brane = self.settled(&name)?;
                let ms = deadline_ms.min(MAX_DEADLINE_MS);
                if matches!(self.branes[brane].goal, Goal::Held(_))
                    && self.branes[brane].state == State::Created
                {
                    return Ok(Now(Answer::Done(format!("{name} is shut down already"))));
                }
                let said = format!("{name} is shut down; `branectl start {name}` opens it again");
                self.go(operator, brane, Goal::Held(ms), Work::Goal(said), cx)
            }
            Request::Delete { name, deadline_ms } => {
                let brane = self.settled(&name)?;
                if self.branes[brane].config.as_ref().is_some_and(|c| c.primary) {
                    return Err(refusal(
                        format!("\"{name}\" is the primary brane, which is never deleted"),
                        "clients begin in it; `branectl shutdown` ends what it carries",
                    ));
                }
                let before = self.free(cx.driver);
                let receipt = self.receipt(&name, before);
                let goal = Goal::Gone(deadline_ms.min(MAX_DEADLINE_MS));
                self.go(operator, brane, goal, Work::Delete(receipt), cx)
            }
            Request::RenameBrane { from, to } => {
                let brane = self.settled(&from)?;
                self.free_brane(&to)?;
                self.rename(operator, brane, None, to, cx)
            }
            Request::RenameInterface { brane, from, to } => {
                let brane = self.settled(&brane)?;
                self.interface(brane, &from)?;
                self.free_interface(brane, &to)?;
                self.rename(operator, brane, Some(from), to, cx)
            }
            Request::Assign {
                device,
                brane,
                interface,
                addressing,
            } => self.assign(operator, &device, &brane, interface.as_deref(), addressing, cx),
            Request::Remove(device) => self.remove(operator, &device, cx),
            Request::Adjust {
                brane,
                interface,
                addressing,
            } => self.adjust(operator, &brane, &interface, addressing, cx),
            Request::Limit {
                device,
                mode,
                allow,
                rate_up,
                rate_down,
            } => {
                let change = |c: &mut DeviceConfig| {
                    let rate = |old, new: Option<u64>| new.map_or(old, |r| (r != 0).then_some(r));
                    c.mode = mode.unwrap_or(c.mode);
                    c.allow = allow.clone().unwrap_or_else(|| c.allow.clone());
                    c.rate_up = rate(c.rate_up, rate_up);
                    c.rate_down = rate(c.rate_down, rate_down);
                };
                self.limit(&device, change, cx)
            }
            Request::Devices => Ok(Now(Answer::Devices(self.devices()))),
            Request::AddDevice(config) => Ok(Now(Answer::Done(self.add_device(config, cx)?))),
            Request::DeleteDevice(name) => {
                let device = self.unlocked_device(&name)?;
                let before = self.free(cx.driver);
                let names = self.delete_device(device, cx)?;
                let after = self.free(cx.driver);
                Ok(Now(Answer::Receipt(Receipt {
                    name,
                    before,
                    after,
                    home: names,
                    ..Receipt::default()
                })))
            }
            Request::RenameDevice { from, to } => self.rename_device(&from, &to, cx),
            Request::Hooks => Ok(Now(Answer::Hooks(self.hooks.list(life::watcher)))),
            Request::Events(after) => match self.events.after(after) {
                events if !events.is_empty() => Ok(Now(Answer::Events(events))),
                _ => self.begin(operator, Work::Events(after), Locks::default(), cx),
            },
            Request::Save => Ok(Now(Answer::Saved(self.saved().to_bytes()))),
            Request::Inside { brane, query } => {
                let brane = self.running_brane(&brane, "asked")?;
                let text = encode(&query);
                if text.len() > MAX_QUERY {
                    return Err(refusal("the question is too long", "ask for less"));
                }
                let begun = self.begin(operator, Work::Inside, Locks::default(), cx)?;
                self.send_for(begun, brane, command::QUERY, text, true, cx)
            }
            Request::Crash(name) => {
                let brane = self.running_brane(&name, "made to fault")?;
                self.crash(brane, cx);
                Ok(Now(Answer::Done(format!("{name} is told to fault"))))
            }
            Request::Hang(name) => {
                let brane = self.running_brane(&name, "made to hang")?;
                self.hang(brane, cx);
                Ok(Now(Answer::Done(format!("{name} is told to hang"))))
            }
            Request::Names => Ok(Now(Answer::Names(self.names()))),
            Request::Batch(requests) => self.batch(operator, &requests, cx).map(Later),
        }
    }

    fn begin(&mut self, operator: usize, work: Work, locks: Locks, cx: &Cx<'_>) -> Result<Begun, Refusal> {
        self.desk.begin(cx.now, operator, work, locks).map(Later)
    }

    fn fresh(&mut self, operator: usize, view: View, cx: &mut Cx<'_>) -> Result<Begun, Refusal> {
        let begun = self.begin(operator, Work::Fresh(view), Locks::default(), cx)?;
        self.refresh(cx);
        Ok(begun)
    }

    /// Sends a brane the command of a job that was begun for it.
    fn send_for(
        &mut self,
        begun: Begun,
        brane: usize,
        kind: u32,
        payload: Vec<u8>,
        question: bool,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let Later(job) = begun else { return Ok(begun) };
        if self.send_order(brane, kind, payload, question, job, cx) {
            return Ok(Later(job));
        }
        let why = refusal(
            format!(
                "brane \"{}\" has too much to answer already",
                self.branes[brane].name()
            ),
            "try again in a moment",
        );
        self.desk.abandon(job);
        Err(why)
    }
}
