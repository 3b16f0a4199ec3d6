//! Requests of operators: each is checked here, and done at once or begun as a job.
//!
//! Operators are not trusted: a request may be any bytes. What it names is looked up in the one place for its kind of name,
//! and nothing is changed before all of it is found to be possible.

use super::jobs::{Locks, View, Work};
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

/// Longest time that a shutdown can be given, in milliseconds.
const MAX_DEADLINE_MS: u32 = 30_000;
/// Most fixed addresses of an interface.
const MAX_ADDRESSES: usize = 4;

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
        let cx = &mut Cx { now, driver, actions };
        let result = match label {
            operator::CALL => match minicbor::decode::<Request>(argument) {
                Ok(request) => self.request(operator, request, cx),
                Err(_) => Err(refusal(
                    "the request is not readable",
                    "operator and manager are of different versions: build both from the same source",
                )),
            },
            operator::POLL => {
                let job = argument
                    .get(..4)
                    .and_then(|b| b.try_into().ok())
                    .map_or(0, u32::from_le_bytes);
                match self.desk.poll(operator, job) {
                    None => Ok(Later(job)),
                    Some(result) => result.map(Now),
                }
            }
            other => Err(refusal(
                format!("the manager has no call {other}"),
                "operator and manager are of different versions: build both from the same source",
            )),
        };
        self.settle(cx);
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
            Request::Batch(requests) => self.batch(operator, requests, cx).map(Later),
        }
    }

    /// The one place where a name becomes a brane.
    pub(crate) fn brane(&self, name: &str) -> Result<usize, Refusal> {
        let found = self
            .branes
            .iter()
            .position(|b| b.config.is_some() && b.name() == name);
        found.ok_or_else(|| {
            let names = self.branes.iter().map(Brane::name).filter(|n| !n.is_empty());
            refusal(
                format!("no brane named \"{}\"", printable(name)),
                listed("branes", names),
            )
        })
    }

    /// The one place where a name becomes an interface of a brane; its device.
    fn interface(&self, brane: usize, name: &str) -> Result<&InterfaceConfig, Refusal> {
        let b = &self.branes[brane];
        let found = b.interfaces().iter().find(|i| i.name == name);
        found.ok_or_else(|| match name {
            "lo0" => refusal(
                "lo0 is part of every brane as it is",
                "other interfaces can be changed",
            ),
            _ => refusal(
                format!(
                    "brane \"{}\" has no interface named \"{}\"",
                    b.name(),
                    printable(name)
                ),
                listed("interfaces", b.interfaces().iter().map(|i| i.name.as_str())),
            ),
        })
    }

    /// A brane that nobody is changing.
    fn settled(&self, name: &str) -> Result<usize, Refusal> {
        let brane = self.brane(name)?;
        match self.branes[brane].moving() || self.desk.locked(brane) {
            true => Err(refusal(
                format!(
                    "brane \"{name}\" is being changed ({})",
                    self.branes[brane].state.word()
                ),
                "try again in a moment",
            )),
            false => Ok(brane),
        }
    }

    fn running_brane(&self, name: &str, what: &str) -> Result<usize, Refusal> {
        let brane = self.brane(name)?;
        match self.branes[brane].state {
            State::Started => Ok(brane),
            state => Err(refusal(
                format!("brane \"{name}\" is {}, it cannot be {what} now", state.word()),
                "`list` shows when it is started",
            )),
        }
    }

    fn unlocked_device(&self, name: &str) -> Result<usize, Refusal> {
        let device = self.registry.resolve(name)?;
        match self
            .registry
            .get(device)
            .is_some_and(|d| self.desk.vif_locked(d.vif))
        {
            true => Err(refusal(
                format!("device \"{name}\" is being changed"),
                "try again in a moment",
            )),
            false => Ok(device),
        }
    }

    /// Whether a brane can have this name.
    fn free_brane(&self, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        match self.branes.iter().any(|b| b.config.is_some() && b.name() == name) {
            true => Err(refusal(
                format!("the name \"{name}\" is taken by a brane"),
                "choose another one",
            )),
            false => Ok(()),
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

    /// Gives a brane a goal and a job that waits for it.
    fn go(
        &mut self,
        operator: usize,
        brane: usize,
        goal: Goal,
        work: Work,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let begun = self.begin(operator, work, Locks::default(), cx)?;
        let Later(job) = begun else { return Ok(begun) };
        let b = &mut self.branes[brane];
        b.goal = goal;
        b.job = Some(job);
        b.cut = 0;
        if let Some(config) = &mut b.config {
            config.held = goal != Goal::Started;
        }
        if b.state == State::Refused && goal == Goal::Started {
            self.stop(brane, "it is to be tried again", cx);
        }
        Ok(begun)
    }

    fn create(
        &mut self,
        operator: usize,
        name: String,
        families: Option<Vec<FamilyConfig>>,
        start: bool,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        self.free_brane(&name)?;
        if let Some(families) = &families {
            check_families(families)?;
        }
        let free = |b: &Brane| b.state == State::Idle && b.job.is_none();
        // One whose domain is up already comes first.
        let up = self.branes.iter().position(|b| free(b) && b.linked);
        let Some(brane) = up.or_else(|| self.branes.iter().position(free)) else {
            let have = self.branes.len();
            return Err(refusal(
                format!("no free instance for \"{name}\": all {have} are in use"),
                "delete a brane, or raise `instances` in configs.toml and build the image anew",
            ));
        };
        let goal = if start { Goal::Started } else { Goal::Held(0) };
        let said = match start {
            true => format!("{name} is started"),
            false => format!("{name} is created; `branectl start {name}` starts it"),
        };
        let work = Work::Goal(said);
        let begun = self.begin(operator, work, Locks::default(), cx)?;
        let Later(job) = begun else { return Ok(begun) };
        let b = &mut self.branes[brane];
        b.config = Some(BraneConfig {
            id: brane as u32,
            name,
            families,
            held: !start,
            ..BraneConfig::default()
        });
        b.state = State::Starting;
        b.goal = goal;
        b.new = true;
        b.job = Some(job);
        b.restarts = 0;
        b.last_fault = String::new();
        b.cut = 0;
        if b.step == Some(Step::Delay) {
            b.failed_at = None;
        }
        Ok(begun)
    }

    fn rename(
        &mut self,
        operator: usize,
        brane: usize,
        interface: Option<String>,
        to: String,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        if !self.takes_orders(brane) {
            return Ok(Now(self.renamed(brane, interface, to, cx)));
        }
        let payload = encode(&Rename {
            interface: interface.clone(),
            to: to.clone(),
        });
        let locks = Locks {
            branes: Vec::from([brane]),
            vif: None,
        };
        let begun = self.begin(operator, Work::Rename { brane, interface, to }, locks, cx)?;
        self.send_for(begun, brane, command::RENAME, payload, false, cx)
    }

    fn assign(
        &mut self,
        operator: usize,
        device: &str,
        brane: &str,
        interface: Option<&str>,
        addressing: Option<Addressing>,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let at = self.unlocked_device(device)?;
        let to = self.settled(brane)?;
        let Some(d) = self.registry.get(at) else {
            return Err(refusal("there is no such device", "see `nicctl list`"));
        };
        let (vif, mac) = (d.vif, d.mac());
        let from = d.owner.map(|(from, _)| from).filter(|&from| from != to);
        if let Some(from) = from {
            self.settled(self.branes[from].name())?;
        }
        let (name, port) = self.place(at, to, interface)?;
        let had = from.and_then(|from| {
            let of = self.branes[from].interfaces().iter();
            of.clone().find(|i| i.device == device).cloned()
        });
        let mut interface = InterfaceConfig {
            name,
            device: device.to_string(),
            port,
            mac,
            ..had.unwrap_or_default()
        };
        if let Some(addressing) = addressing {
            set_addressing(&mut interface, addressing)?;
        }
        // Before `place` gave the name, the one that it had is not the one that it gets.
        if !self.takes_orders(to) {
            let (answer, waits) = {
                let locks = lock(to, from, vif);
                let job = match from {
                    Some(_) => self.begin(operator, Work::Settle(Answer::Done(String::new())), locks, cx)?,
                    None => Now(Answer::Done(String::new())),
                };
                let number = if let Later(job) = job { job } else { 0 };
                let done = self.assigned(vif, to, interface, number, cx);
                if let Ok((answer, true)) = &done {
                    self.desk.set_work(number, Work::Settle(answer.clone()));
                    return Ok(Later(number));
                }
                self.desk.abandon(number);
                done?
            };
            debug_assert!(!waits);
            return Ok(Now(answer));
        }
        let payload = encode(&interface);
        let work = Work::Assign {
            device: vif,
            to,
            interface,
        };
        let begun = self.begin(operator, work, lock(to, from, vif), cx)?;
        self.send_for(begun, to, command::ATTACH, payload, false, cx)
    }

    fn remove(&mut self, operator: usize, device: &str, cx: &mut Cx<'_>) -> Result<Begun, Refusal> {
        let at = self.unlocked_device(device)?;
        let Some((from, _)) = self.registry.get(at).and_then(|d| d.owner) else {
            return Err(refusal(
                format!("no brane has \"{device}\""),
                "`nicctl list` shows who has what",
            ));
        };
        let owner = self.branes[from].name().to_string();
        self.settled(&owner)?;
        let of = self.branes[from].interfaces().iter();
        let name = of
            .clone()
            .find(|i| i.device == device)
            .map_or(String::new(), |i| i.name.clone());
        let answer = Answer::Done(format!("{device} is no longer {name} of {owner}"));
        let vif = self.registry.get(at).map_or(0, |d| d.vif);
        let begun = match self.takes_orders(from) {
            true => self.begin(operator, Work::Settle(answer), lock(from, None, vif), cx)?,
            false => Now(answer),
        };
        self.go_home(at, cx);
        self.event(cx.now, "removed", Some(&owner), Some(device), name.clone());
        self.retry_refused(from, cx);
        self.send_for(begun, from, command::DETACH, name.into_bytes(), false, cx)
    }

    fn adjust(
        &mut self,
        operator: usize,
        brane: &str,
        interface: &str,
        addressing: Addressing,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let brane = self.settled(brane)?;
        let mut interface = self.interface(brane, interface)?.clone();
        set_addressing(&mut interface, addressing)?;
        if !self.takes_orders(brane) {
            return Ok(Now(self.adjusted(brane, interface, cx)));
        }
        let payload = encode(&interface);
        let begun = self.begin(
            operator,
            Work::Adjust { brane, interface },
            lock(brane, None, u32::MAX),
            cx,
        )?;
        self.send_for(begun, brane, command::ADJUST, payload, false, cx)
    }

    fn limit(
        &mut self,
        device: &str,
        change: impl FnOnce(&mut DeviceConfig),
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let at = self.registry.resolve(device)?;
        let Some(d) = self.registry.get_mut(at) else {
            return Err(refusal("there is no such device", "see `nicctl list`"));
        };
        let old = d.config.clone();
        change(&mut d.config);
        let count = d.config.allow.len();
        let result = match count > MAX_ALLOW {
            true => Err(crate::registry::too_many_prefixes(count)),
            false => self.apply_limits(at, cx).map_err(|why| {
                let what = format!("the NIC driver refuses the limits of \"{device}\": {why}");
                refusal(what, "they are as before")
            }),
        };
        if let Err(why) = result {
            if let Some(d) = self.registry.get_mut(at) {
                d.config = old;
            }
            let _ = self.apply_limits(at, cx);
            return Err(why);
        }
        self.event(cx.now, "limited", None, Some(device), String::new());
        Ok(Now(Answer::Done(format!("{device} has its new limits"))))
    }

    fn rename_device(&mut self, from: &str, to: &str, cx: &mut Cx<'_>) -> Result<Begun, Refusal> {
        let device = self.unlocked_device(from)?;
        let owner = self.registry.get(device).and_then(|d| d.owner);
        if self
            .registry
            .get(device)
            .is_some_and(|d| d.config.kind == operator::Kind::Phys)
        {
            return Err(refusal(
                format!("\"{from}\" is the NIC itself, whose name is fixed"),
                "give the interface another name instead",
            ));
        }
        if let Some((brane, _)) = owner {
            return Err(refusal(
                format!("\"{from}\" is in brane \"{}\"", self.branes[brane].name()),
                format!("`branectl remove {from}` first; its name inside can be changed at any time"),
            ));
        }
        self.registry.rename(device, to)?;
        self.event(cx.now, "renamed", None, Some(from), format!("to {to}"));
        Ok(Now(Answer::Done(format!("{from} is called {to} now"))))
    }
}

fn lock(brane: usize, other: Option<usize>, vif: u32) -> Locks {
    let mut branes = Vec::from([brane]);
    branes.extend(other);
    Locks {
        branes,
        vif: Some(vif),
    }
}

fn set_addressing(interface: &mut InterfaceConfig, to: Addressing) -> Result<(), Refusal> {
    if to.addresses.len() > MAX_ADDRESSES {
        return Err(refusal(
            format!(
                "{} addresses, an interface takes {MAX_ADDRESSES}",
                to.addresses.len()
            ),
            "drop some",
        ));
    }
    interface.addresses = to.addresses;
    interface.gateway4 = to.gateway4;
    interface.gateway6 = to.gateway6;
    interface.dhcp4 = to.dhcp4;
    interface.slaac = to.slaac;
    Ok(())
}

fn check_families(families: &[FamilyConfig]) -> Result<(), Refusal> {
    for (i, given) in families.iter().enumerate() {
        let name = given.family.name();
        if families[..i].iter().any(|f| f.family == given.family) {
            return Err(refusal(format!("family {name} is named twice"), "name it once"));
        }
        for (j, protocol) in given.protocols.iter().enumerate() {
            if !given.family.protocols().contains(protocol) {
                let can = given.family.protocols().iter().map(|p| p.name());
                return Err(refusal(
                    format!("family {name} has no protocol {}", protocol.name()),
                    listed("protocols", can),
                ));
            }
            if given.protocols[..j].contains(protocol) {
                return Err(refusal(
                    format!("protocol {} of {name} is named twice", protocol.name()),
                    "name it once",
                ));
            }
        }
    }
    Ok(())
}
