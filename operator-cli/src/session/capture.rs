//! `capture` in a session: names, programs, the capture, then queries to the branes until the end. The console executes it. The branes
//! are not trusted: the frames of an answer are bounded, and a brane that does not answer is left out.

use super::{End, Output, Part, Session, Step};
use crate::capture::{self, CONSOLE_TAG, Frame, Options, Programs};
use crate::error::{self, Error};
use crate::refusals::Words;
use crate::table_layout::printable;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::capture::{Capture, QUERY_FRAMES, QUERY_SNAPLEN, Reader, Target};
use brane_abi::operator::{Answer, IfNet, Names, Refusal, Request};
use brane_abi::query::{self, Query};

/// Milliseconds between two rounds of queries.
const ROUND_MS: u32 = 200;
/// Queries to one brane in a round.
const QUERIES: usize = 8;

/// State of the command.
#[derive(Debug)]
pub(super) struct Live {
    options: Options,
    phase: Phase,
    target: Target,
    staged: bool,
    /// The branes that are queried, with the frames that each has dropped.
    branes: Vec<Polled>,
    /// Index of the brane whose answer is expected, and the queries to it in this round.
    at: usize,
    queries: usize,
    shown: u64,
    /// Requests that begin the capture and are left.
    begin: VecDeque<Request>,
}

#[derive(Debug)]
struct Polled {
    name: String,
    dropped: u64,
    gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Names,
    Owner,
    Begin,
    Polling,
    Pausing,
    Stopping,
}

impl Live {
    pub(super) fn new(options: Options) -> Live {
        Live {
            options,
            phase: Phase::Names,
            target: Target::All,
            staged: false,
            branes: Vec::new(),
            at: 0,
            queries: 0,
            shown: 0,
            begin: VecDeque::new(),
        }
    }

    fn query(&self) -> Option<Request> {
        let brane = self.branes.get(self.at)?;
        Some(Request::Query {
            brane: brane.name.clone(),
            query: Query::Captured(CONSOLE_TAG),
        })
    }

    /// Returns the query to the next brane of the round, or the pause behind the last one.
    fn next_brane(&mut self) -> Step {
        self.queries = 0;
        while self.branes.get(self.at).is_some_and(|brane| brane.gone) {
            self.at += 1;
        }
        match self.query() {
            Some(request) => {
                self.phase = Phase::Polling;
                self.queries = 1;
                Step::Send(request)
            }
            None if self.branes.iter().all(|brane| brane.gone) => self.stop(),
            None => {
                self.at = 0;
                self.phase = Phase::Pausing;
                Step::Pause(ROUND_MS)
            }
        }
    }

    fn stop(&mut self) -> Step {
        self.phase = Phase::Stopping;
        Step::Send(Request::StopCapture(CONSOLE_TAG))
    }

    /// Returns the next request that begins the capture.
    fn beginning(&mut self) -> Step {
        match self.begin.pop_front() {
            Some(request) => Step::Send(request),
            None => self.next_brane(),
        }
    }

    /// Compiles the words and lists the requests that begin the capture.
    fn prepare(&mut self) -> Result<Step, Error> {
        if !self.options.words.is_empty() {
            self.begin
                .extend(Programs::of_matches(&self.options.expression())?.stages());
            self.staged = true;
        }
        let snaplen = self.options.snaplen.unwrap_or(QUERY_SNAPLEN);
        self.begin.push_back(Request::Capture(Capture {
            tag: CONSOLE_TAG,
            target: self.target.clone(),
            reader: Reader::Query,
            snaplen: snaplen.min(QUERY_SNAPLEN),
            staged: self.staged,
        }));
        self.phase = Phase::Begin;
        Ok(self.beginning())
    }

    fn named(&mut self, names: &Names) -> Result<Step, Error> {
        self.target = self.options.target.resolve(names)?;
        let branes: &[String] = match &self.target {
            Target::All => &names.branes,
            Target::Brane(brane) | Target::Interface(brane, _) => core::slice::from_ref(brane),
            Target::Device(_) => {
                self.phase = Phase::Owner;
                return Ok(Step::Send(Request::Devices));
            }
        };
        self.branes = branes.iter().map(|name| polled(name)).collect();
        self.prepare()
    }

    fn owned(&mut self, devices: &[brane_abi::operator::DevNet]) -> Result<Step, Error> {
        let Target::Device(name) = &self.target else {
            return Ok(Step::Done(End::Failure));
        };
        let found = devices.iter().find(|device| device.config.name == *name);
        let Some(IfNet::Attached(owner)) = found.map(|device| &device.ifnet) else {
            return Err(Error::coded(
                error::NO_SUCH_NAME,
                format!("no brane has the device {name}"),
                "assign it to a brane first",
            ));
        };
        self.branes = Vec::from([polled(&owner.brane)]);
        self.prepare()
    }
}

fn polled(name: &str) -> Polled {
    Polled {
        name: name.into(),
        dropped: 0,
        gone: false,
    }
}

impl Session {
    /// Executes the next step of `capture`.
    pub(super) fn capture(
        &mut self,
        reply: Option<Result<Answer, Refusal>>,
        out: &mut Output,
    ) -> Result<Step, Error> {
        let Part::Capture(live) = &mut self.part else {
            return Ok(Step::Done(End::Failure));
        };
        if live.options.write.is_some() {
            return Err(Error::coded(
                error::WRONG_PROGRAM,
                "capture -w works only on the host, because files are there",
                "run `branectl capture TARGET -w FILE` there",
            ));
        }
        let answer = match (live.phase, reply) {
            (Phase::Names, None) => return Ok(Step::Send(Request::Names)),
            (_, None) => return Ok(live.next_brane()),
            // A brane that does not run has no frames. It is queried again in the next round.
            (Phase::Polling, Some(Err(_))) => {
                live.at += 1;
                return Ok(live.next_brane());
            }
            (Phase::Stopping, Some(_)) => {
                let (shown, dropped) = (live.shown, live.branes.iter().map(|brane| brane.dropped).sum());
                out.error += &capture::summary("capture", shown, dropped);
                return Ok(Step::Done(End::Success));
            }
            (_, Some(Err(refusal))) => return Err(refusal.into()),
            (_, Some(Ok(answer))) => answer,
        };
        match (live.phase, answer) {
            (Phase::Names, Answer::Names(names)) => live.named(&names),
            (Phase::Owner, Answer::Devices(list)) => live.owned(&list),
            (Phase::Begin, Answer::Captured(end)) => Err(Error::new(capture::ended(end), "")),
            (Phase::Begin, _) => Ok(live.beginning()),
            (Phase::Polling, Answer::Query(answer)) => Ok(self.captured(answer, out)),
            _ => Ok(live.stop()),
        }
    }

    /// Shows the frames of an answer. Returns the next step.
    fn captured(&mut self, answer: query::Answer, out: &mut Output) -> Step {
        let json = self.json;
        let mut lines = Vec::new();
        let Part::Capture(live) = &mut self.part else {
            return Step::Done(End::Failure);
        };
        let left = live
            .options
            .count
            .map_or(u64::MAX, |count| count - live.shown.min(count));
        let Some(brane) = live.branes.get_mut(live.at) else {
            return live.stop();
        };
        let query::Answer::Captured {
            frames, dropped, end, ..
        } = answer
        else {
            if let query::Answer::Refused(why) = answer {
                out.error += &printable(&format!("{}: {}\n", brane.name, why.words()));
            }
            brane.gone = true;
            live.at += 1;
            return live.next_brane();
        };
        let full = frames.len() >= QUERY_FRAMES;
        for captured in frames
            .iter()
            .take(QUERY_FRAMES)
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            let frame = Frame {
                at_ns: captured.time_ns,
                time: None,
                brane: &brane.name,
                interface: &captured.interface,
                link: captured.link,
                sent: captured.sent,
                length: captured.length,
                bytes: &captured.bytes[..captured.bytes.len().min(QUERY_SNAPLEN as usize)],
            };
            live.shown += 1;
            match json {
                true => lines.push(frame.json()),
                false => out.text += &printable(&frame.text()),
            }
        }
        brane.dropped = dropped;
        if let Some(end) = end.filter(|_| !full) {
            out.error += &printable(&format!("{}: {}\n", brane.name, capture::ended(end)));
            brane.gone = true;
        }
        let enough = live.options.count.is_some_and(|count| live.shown >= count);
        let step = if enough {
            live.stop()
        } else if full && live.queries < QUERIES {
            live.queries += 1;
            live.query().map_or_else(|| live.stop(), Step::Send)
        } else {
            live.at += 1;
            live.next_brane()
        };
        for line in lines {
            self.show_json(&line, out);
        }
        step
    }

    /// Returns the step after Ctrl-C: the end of the capture if it may have begun.
    pub(super) fn cancel_capture(&mut self) -> Step {
        match &mut self.part {
            Part::Capture(live) if !matches!(live.phase, Phase::Names | Phase::Owner | Phase::Stopping) => {
                live.stop()
            }
            _ => Step::Done(End::Success),
        }
    }
}
