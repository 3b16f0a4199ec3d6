//! `capture`: shows an operator copies of the frames of branes, until it stops. The job lasts as long as the capture. The manager
//! checks the right and tells the branes (`CAPTURE`, `UNCAPTURE`). No frame passes it.
//!
//! The job ends when all branes have answered, so the last records of a capture are in their rings before its answer.

use crate::Manager;
use crate::captures::{Running, Target};
use crate::encode;
use crate::ids::{BraneId, JobId, OperatorId};
use crate::jobs::OnCancel;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open, send_change};
use crate::operators::operator_name;
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::capture::{
    self, BRANE_CAPTURES, CaptureConfig, End, Link, MAX_CONFIG, MAX_PROGRAM, MAX_STAGED, Reader, Stage,
};
use brane_abi::control::command;
use brane_abi::filter::Instruction;
use brane_abi::operator::{Answer, Done, Purpose, Refusal};
use branes_bpf::Program;

/// State of a capture's job.
#[derive(Debug)]
struct Capture {
    tag: u32,
    /// Commands without an answer.
    outstanding: u32,
    /// The result of the job, while it waits for the last answers.
    result: Option<Result<End, Refusal>>,
}

/// Collects a part of the operator's next programs.
pub(super) fn stage(m: &mut Manager, operator: OperatorId, stage: Stage) -> Result<Progress, Refusal> {
    let parts = stage.program.len();
    let lengths = match parts <= MAX_STAGED {
        true => m.captures.stage(operator, stage),
        false => return Err(refusals::program_too_long(parts, MAX_STAGED)),
    };
    let lengths = lengths.ok_or_else(refusals::no_program_staged)?;
    if let Some(&length) = lengths.iter().find(|length| **length > MAX_PROGRAM) {
        m.captures.forget_operator(operator);
        return Err(refusals::program_too_long(length, MAX_PROGRAM));
    }
    let staged = lengths.iter().sum::<usize>();
    Ok(Progress::Done(Answer::Done(Done::Staged(staged as u32))))
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    wanted: capture::Capture,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    // Removed first, so that a refused capture leaves no programs behind.
    let staged = m.captures.take_staged(operator);
    let tag = wanted.tag;
    if m.captures.find(tag).is_some() {
        return Err(refusals::capture_tag_taken(tag));
    }
    if m.captures.is_full() {
        return Err(refusals::too_many_captures(capture::MAX_CAPTURES));
    }
    let most = match wanted.reader {
        Reader::Line => capture::MAX_SNAPLEN,
        Reader::Query => capture::QUERY_SNAPLEN,
    };
    if wanted.snaplen == 0 || wanted.snaplen > most {
        return Err(refusals::impossible_snaplen(wanted.snaplen, most));
    }
    let (target, interface) = resolve(m, &wanted.target)?;
    let crowded = |id: &BraneId| target.concerns(*id) && m.captures.of(*id).count() >= BRANE_CAPTURES;
    if m.instances.ids().any(|id| crowded(&id)) {
        return Err(refusals::too_many_captures(BRANE_CAPTURES));
    }
    let [ethernet, raw] = match wanted.staged {
        true => staged.ok_or_else(refusals::no_program_staged)?,
        false => Default::default(),
    };
    verify(Link::Ethernet, &ethernet)?;
    verify(Link::Raw, &raw)?;
    let config = CaptureConfig {
        tag,
        interface,
        reader: wanted.reader,
        snaplen: wanted.snaplen,
        ethernet,
        raw,
    };
    let payload = encode(&config);
    if payload.len() > MAX_CONFIG {
        return Err(refusals::capture_too_long(payload.len(), MAX_CONFIG));
    }
    let operation = Capture {
        tag,
        outstanding: 0,
        result: None,
    };
    let job = open(m, operator, operation, cx)?;
    let running = Running {
        operator,
        job,
        target,
        config,
        names: names(m, target),
        incarnation: incarnation(m, target),
        started: false,
        end: None,
    };
    event(m, "capture-begun", &running, "", cx);
    m.captures.add(running);
    let sent = tell(m, job, target, (command::CAPTURE, payload), cx);
    note_outstanding(m, job, tag, sent);
    Ok(match wanted.reader {
        Reader::Line => Progress::Pending(job),
        // The operator reads the frames by further requests, so it does not wait for the job.
        Reader::Query => Progress::Done(Answer::Done(Done::Nothing)),
    })
}

pub(super) fn stop(m: &mut Manager, operator: OperatorId, tag: u32) -> Result<Progress, Refusal> {
    match m.captures.stop(operator, tag, End::Stopped) {
        // The job is resumed after this request.
        true => Ok(Progress::Done(Answer::Done(Done::Nothing))),
        false => Err(refusals::no_such_capture(tag)),
    }
}

/// Finds what a capture shows, and the name of its interface if it has only one.
fn resolve(m: &Manager, target: &capture::Target) -> Result<(Target, Option<String>), Refusal> {
    let of_interface = |brane: &str, name: &str| {
        let id = m.started_brane(brane, Purpose::Capture)?;
        let device = match name {
            "lo0" => None,
            _ => m
                .devices
                .find(&m.interface(id, name)?.device)
                .map(|device| device.id),
        };
        Ok((Target::Interface(id, device), Some(name.to_string())))
    };
    match target {
        capture::Target::All => Ok((Target::All, None)),
        capture::Target::Brane(name) => Ok((Target::Brane(m.brane(name)?), None)),
        capture::Target::Interface(brane, name) => of_interface(brane, name),
        capture::Target::Device(name) => {
            if let Some(brane) = m.devices.loopback_owner(name) {
                return of_interface(m.instances[brane].name(), "lo0");
            }
            let device = m.devices.resolve(name)?;
            let owner = m.devices.get(device).and_then(|d| d.owner);
            let brane = &m.instances[owner.ok_or_else(|| refusals::has_no_owner(name))?.brane];
            let interface = brane.interface_of(name).map_or("", |i| &i.name);
            of_interface(brane.name(), interface)
        }
    }
}

fn verify(link: Link, program: &[Instruction]) -> Result<(), Refusal> {
    match program {
        [] => Ok(()),
        program => Program::verify(program)
            .map(|_| ())
            .map_err(|fault| refusals::bad_program(link, fault.index, &fault.reason)),
    }
}

/// Returns the names of a target's brane and device.
fn names(m: &Manager, target: Target) -> (Option<String>, Option<String>) {
    let brane = |id: BraneId| Some(m.instances[id].name().to_string());
    match target {
        Target::All => (None, None),
        Target::Brane(id) => (brane(id), None),
        Target::Interface(id, device) => {
            let device = device.and_then(|device| m.devices.get(device));
            let name = device.map_or("lo0", |device| device.name());
            (brane(id), Some(name.to_string()))
        }
    }
}

fn incarnation(m: &Manager, target: Target) -> (u64, u32) {
    match target {
        Target::All => (0, 0),
        Target::Brane(id) | Target::Interface(id, _) => {
            let b = &m.instances[id];
            (b.identity, b.restarts)
        }
    }
}

/// Sends a command to all branes of a target that have their configuration. Returns the number of commands.
fn tell(
    m: &mut Manager,
    job: JobId,
    target: Target,
    (kind, payload): (u32, Vec<u8>),
    cx: &mut Context<'_>,
) -> u32 {
    let branes = m.instances.iter().filter(|b| b.configured);
    let branes = branes.map(|b| b.id()).filter(|id| target.concerns(*id));
    let branes: Vec<BraneId> = branes.collect();
    for &id in &branes {
        send_change(m, job, (id, kind, payload.clone()), cx);
    }
    branes.len() as u32
}

/// Stores the number of commands whose answers the job waits for.
fn note_outstanding(m: &mut Manager, job: JobId, tag: u32, outstanding: u32) {
    if let Some(job) = m.jobs.get_mut(job) {
        job.operation = Box::new(Capture {
            tag,
            outstanding,
            result: None,
        });
    }
}

/// Adds an event: operators see which captures there are.
fn event(m: &mut Manager, what: &str, capture: &Running, how: &str, cx: &mut Context<'_>) {
    let (brane, device) = &capture.names;
    let of = if brane.is_none() { "all branes" } else { "" };
    let words = [of, "by", &operator_name(capture.operator), how];
    let detail = words.iter().filter(|word| !word.is_empty());
    let detail = detail.fold(String::new(), |text, word| match text.as_str() {
        "" => (*word).to_string(),
        text => format!("{text} {word}"),
    });
    m.event(cx.now, what, brane.as_deref(), device.as_deref(), detail);
}

const fn words(end: End) -> &'static str {
    match end {
        End::Stopped => "stopped",
        End::Moved => "interface gone",
        End::BraneGone => "brane gone",
        End::BraneFailed => "brane failed",
    }
}

/// Ends the captures whose jobs were cancelled or whose interfaces have gone, and writes the others to the configurations of
/// branes that are not configured yet. Must be called before an instance takes its next step.
pub(crate) fn settle(m: &mut Manager, cx: &mut Context<'_>) {
    m.captures.observe(&m.instances, &m.devices);
    let runs = |job: JobId| m.jobs.running().iter().any(|j| j.id == job);
    let captures = m.captures.running().iter();
    let cancelled = captures.filter(|capture| !runs(capture.job));
    let cancelled: Vec<u32> = cancelled.map(|capture| capture.config.tag).collect();
    for capture in cancelled
        .into_iter()
        .filter_map(|tag| m.captures.remove(tag))
        .collect::<Vec<_>>()
    {
        let tag = capture.config.tag.to_le_bytes().to_vec();
        tell(m, capture.job, capture.target, (command::UNCAPTURE, tag), cx);
        event(m, "capture-ended", &capture, "cancelled", cx);
    }
    let waiting = m.instances.branes().filter(|b| !b.configured);
    for id in waiting.map(|b| b.id()).collect::<Vec<_>>() {
        let configs: Vec<CaptureConfig> = m.captures.of(id).cloned().collect();
        m.instances.set_captures(id, configs);
    }
}

impl Operation for Capture {
    fn resume(
        mut self: Box<Self>,
        m: &mut Manager,
        job: Resumed,
        resume: Resume,
        cx: &mut Context<'_>,
    ) -> Next {
        let end = m.captures.find(self.tag).and_then(|capture| capture.end);
        let result = match resume {
            Resume::Command(_) if self.result.is_some() => {
                self.outstanding = self.outstanding.saturating_sub(1);
                None
            }
            Resume::Command(result) => {
                self.outstanding = self.outstanding.saturating_sub(1);
                match result {
                    crate::instance::CommandResult::Refused(why) => {
                        Some(Err(refusals::refused_by_brane(&why)))
                    }
                    // A brane that fails gets the capture again with its configuration.
                    _ => None,
                }
            }
            _ => end.map(Ok),
        };
        if let (Some(result), None) = (result, &self.result) {
            m.captures.stop(
                job.operator,
                self.tag,
                result.as_ref().map_or(End::Stopped, |end| *end),
            );
            if let Some(target) = m.captures.find(self.tag).map(|capture| capture.target) {
                let tag = self.tag.to_le_bytes().to_vec();
                self.outstanding += tell(m, job.id, target, (command::UNCAPTURE, tag), cx);
            }
            self.result = Some(result);
        }
        if self.outstanding > 0 || self.result.is_none() {
            return Next::Wait(self);
        }
        let result = self.result.unwrap_or(Ok(End::Stopped));
        if let Some(capture) = m.captures.remove(self.tag) {
            let how = result.as_ref().map_or("refused by a brane", |end| words(*end));
            event(m, "capture-ended", &capture, how, cx);
        }
        result.map(Answer::Captured).into()
    }

    fn is_ready(&self, m: &Manager, _: u64) -> bool {
        let ends = || {
            m.captures
                .find(self.tag)
                .is_none_or(|capture| capture.end.is_some())
        };
        self.result.is_none() && ends()
    }

    fn on_cancel(&self) -> OnCancel {
        OnCancel::Drop
    }
}
