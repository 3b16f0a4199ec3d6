//! Executes a command: decides which request to send next, and what to show. It owns the results so far and never waits. The
//! console and the host send the requests in their own ways and pass the answers in. The manager's answers are trusted; text of
//! branes in them is not.

use crate::command::Command;
use crate::error::{self, Error};
use crate::ping::Outcome;
use crate::reach::Survey;
use crate::refusals::Words;
use crate::table_layout::printable;
use crate::{change, filter, help, json, parse, text};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::filter::RuleStatus;
use brane_abi::operator::{Answer, Done, LOG_LINES, Refusal, Request};
use brane_abi::query::{self, Query};
use core::net::IpAddr;

/// Most pages of one table that are fetched.
const MAX_PAGES: usize = 256;

/// The caller's next action.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
pub enum Step {
    /// Send this request, then pass its answer in.
    Send(Request),
    /// Wait for this many milliseconds, then continue without an answer.
    Pause(u32),
    /// The command has ended.
    Done(End),
}

/// Result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command has succeeded.
    Success,
    /// The request was refused, or the result is bad: a disagreement, or a host that does not answer.
    Failure,
}

/// Output of a step, by stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Answers.
    pub text: String,
    /// Errors.
    pub error: String,
}

/// A command under execution.
#[derive(Debug)]
pub struct Session {
    command: Command,
    json: bool,
    begun: bool,
    /// Results so far of an answer that comes in parts.
    part: Part,
}

#[derive(Debug)]
enum Part {
    None,
    Neighbours(Vec<query::Neighbour>, usize),
    Sockets(Vec<query::Socket>, usize),
    Rules(Vec<RuleStatus>, usize),
    /// The requests of a replacement of a filter that are left.
    Replacing(VecDeque<Request>),
    /// The change is computed and its request is sent.
    Changing,
    /// Echo requests: the results, and the number of the next request.
    Ping(Outcome, u64),
    /// `why` or `reach`.
    Survey(Box<Survey>),
    /// `capture`.
    Capture(Box<capture::Live>),
    /// Number of answers with log lines or events so far.
    Pages(usize),
}

impl Session {
    /// Creates the session before its first request.
    pub fn new(parsed: parse::Parsed) -> Session {
        let part = match &parsed.command {
            Command::Neighbours { .. } => Part::Neighbours(Vec::new(), 0),
            Command::Sockets { .. } => Part::Sockets(Vec::new(), 0),
            Command::FilterList(_) => Part::Rules(Vec::new(), 0),
            Command::Logs { .. } | Command::Events { .. } => Part::Pages(0),
            Command::Why(why) => Part::Survey(Box::new(Survey::why(why.clone()))),
            Command::Reach(reach) => Part::Survey(Box::new(Survey::reach(*reach))),
            Command::Capture(options) => Part::Capture(Box::new(capture::Live::new(options.clone()))),
            Command::Ping(echo) => Part::Ping(Outcome::new(echo.host.parse().ok()), 0),
            _ => Part::None,
        };
        Session {
            command: parsed.command,
            json: parsed.json,
            begun: false,
            part,
        }
    }

    /// Executes the next step. `reply` is the answer to the last request; `None` at the beginning and after a pause.
    pub fn step(&mut self, reply: Option<Result<Answer, Refusal>>, out: &mut Output) -> Step {
        if matches!(self.part, Part::Survey(_)) {
            return self.survey(reply, out).unwrap_or_else(|e| self.failed(&e, out));
        }
        if matches!(self.part, Part::Capture(_)) {
            return self.capture(reply, out).unwrap_or_else(|e| self.failed(&e, out));
        }
        let begun = core::mem::replace(&mut self.begun, true);
        let next = match reply {
            None if !begun => self.first(out),
            None => self.resumed(out),
            Some(Err(refusal)) => Err(refusal.into()),
            Some(Ok(answer)) => self.answered(answer, out),
        };
        next.unwrap_or_else(|e| self.failed(&e, out))
    }

    /// Stops the command, as Ctrl-C does. Shows the results so far. Returns the next step, which is the end unless the system has to
    /// be told of it. No earlier request may be answered afterwards.
    pub fn cancel(&mut self, out: &mut Output) -> Step {
        if matches!(self.part, Part::Capture(_)) {
            return self.cancel_capture();
        }
        Step::Done(match core::mem::replace(&mut self.part, Part::None) {
            Part::Ping(outcome, _) => self.pinged(&outcome, out),
            _ => End::Success,
        })
    }

    fn failed(&self, e: &Error, out: &mut Output) -> Step {
        if self.json {
            self.show_json(&json::error(e), out);
        }
        out.error += &printable(&format!("{e}\n"));
        Step::Done(End::Failure)
    }

    fn show_json(&self, value: &serde_json::Value, out: &mut Output) {
        out.text += &value.to_string();
        out.text.push('\n');
    }

    fn show(&self, answer: &Answer, out: &mut Output) {
        if self.json {
            self.show_json(&json::answer(answer), out);
        } else {
            out.text += &printable(&text::answer(answer));
        }
    }

    fn first(&mut self, out: &mut Output) -> Result<Step, Error> {
        let page = |brane: &str, query| {
            Step::Send(Request::Query {
                brane: brane.into(),
                query,
            })
        };
        let elsewhere = |what: &str| {
            Error::coded(
                error::WRONG_PROGRAM,
                format!("{what} works only on the host, because files are there"),
                format!("run `branectl {what} FILE` there"),
            )
        };
        Ok(match &self.command {
            Command::Send(request) => Step::Send(request.clone()),
            Command::Stats { of, .. } => Step::Send(Request::Stats(of.clone())),
            Command::ShowDevice(_) => Step::Send(Request::Devices),
            Command::RemoveInterface { brane, .. } | Command::Change { brane, .. } => {
                Step::Send(Request::Show(brane.clone()))
            }
            Command::Neighbours { brane, family } => page(
                brane,
                Query::Neighbours {
                    family: *family,
                    skip: 0,
                },
            ),
            Command::Sockets { brane, .. } => page(brane, Query::Sockets { skip: 0 }),
            Command::Protocols { brane, .. } => page(brane, Query::Protocols),
            Command::FilterList(brane) => page(brane, Query::Filter { skip: 0 }),
            Command::Ping(_) => return Ok(self.ping()),
            // Their steps are not those of a page.
            Command::Why(_) | Command::Reach(_) | Command::Capture(_) => Step::Done(End::Failure),
            Command::FilterReplace { brane, rules } => {
                self.part = Part::Replacing(filter::requests(brane, rules)?);
                return Ok(self.replace());
            }
            Command::Logs { pd, after, .. } => Step::Send(Request::Logs {
                pd: pd.clone(),
                after: *after,
                wait: false,
            }),
            Command::Events { after, once } => Step::Send(Request::Events {
                after: *after,
                wait: !once,
            }),
            Command::Help(word) => {
                out.text += &help::about(word.as_deref())?;
                Step::Done(End::Success)
            }
            Command::HelpOf(program, verb) => {
                out.text += &match verb.and_then(|name| program.verb(name)) {
                    Some(verb) => help::verb(*program, verb),
                    None => help::list(*program),
                };
                Step::Done(End::Success)
            }
            Command::Apply { .. } => return Err(elsewhere("apply")),
            Command::Save { .. } => return Err(elsewhere("save")),
            Command::FilterFile { brane, .. } => {
                return Err(Error::coded(
                    error::WRONG_PROGRAM,
                    "a file of rules works only on the host, because files are there",
                    format!(
                        "run `branectl filter {brane} replace FILE` there, or write the rules here with ; between them"
                    ),
                ));
            }
            Command::Enter(_) | Command::Exit => {
                return Err(Error::coded(
                    error::WRONG_PROGRAM,
                    "only the console is inside a brane",
                    "write in BRANE COMMAND",
                ));
            }
        })
    }

    fn resumed(&mut self, _out: &mut Output) -> Result<Step, Error> {
        match self.part {
            Part::Ping(..) => Ok(self.ping()),
            _ => Err(Error::new("nothing to go on with", "give the command again")),
        }
    }

    fn answered(&mut self, answer: Answer, out: &mut Output) -> Result<Step, Error> {
        if let Answer::Query(query::Answer::Refused(why)) = &answer
            && !matches!(self.command, Command::Ping(_))
        {
            return Err(why.words());
        }
        let command = self.command.clone();
        match (&command, answer) {
            (Command::Ping(_), Answer::Query(answer)) => return self.echo(answer, out),
            (Command::Neighbours { brane, family }, Answer::Query(query::Answer::Neighbours(list, more))) => {
                return Ok(self.neighbours(brane, *family, list, more, out));
            }
            (Command::Protocols { protocol, .. }, Answer::Query(query::Answer::Protocols(mut list))) => {
                list.retain(|p| {
                    protocol
                        .as_deref()
                        .is_none_or(|wanted| p.protocol.name() == wanted)
                });
                self.show(&Answer::Query(query::Answer::Protocols(list)), out);
            }
            (Command::Sockets { brane, protocol }, Answer::Query(query::Answer::Sockets(list, more))) => {
                return Ok(self.sockets(brane, protocol.as_deref(), list, more, out));
            }
            (Command::FilterList(brane), Answer::Query(query::Answer::Filter(list, more))) => {
                return Ok(self.rules(brane, list, more, out));
            }
            (Command::FilterReplace { .. }, Answer::Done(Done::Staged(_))) => return Ok(self.replace()),
            (Command::Change { change, .. }, Answer::Brane(brane))
                if !matches!(self.part, Part::Changing) =>
            {
                let request = change.request(&brane)?;
                parse::fits(&request)?;
                self.part = Part::Changing;
                return Ok(Step::Send(request));
            }
            (Command::RemoveInterface { interface, .. }, Answer::Brane(brane))
                if !matches!(self.part, Part::Changing) =>
            {
                let device = change::find(&brane, interface)?.device.clone();
                self.part = Part::Changing;
                return Ok(Step::Send(Request::Remove(device)));
            }
            (Command::ShowDevice(name), Answer::Devices(list)) => {
                let found = list.iter().find(|d| d.config.name == *name);
                let device = found.ok_or_else(|| {
                    let names: Vec<&str> = list.iter().map(|d| d.config.name.as_str()).collect();
                    let fix = match parse::near(name, names.iter().copied()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "`nicctl list` shows the names".into(),
                    };
                    Error::coded(error::NO_SUCH_NAME, format!("no device named \"{name}\""), fix)
                })?;
                if self.json {
                    self.show_json(&json::device(device), out);
                } else {
                    out.text += &printable(&text::device(device));
                }
            }
            (Command::Stats { zeros, .. }, Answer::Stats(groups)) if !self.json => {
                out.text += &printable(&text::stats(&groups, *zeros));
            }
            (Command::Events { after, once }, Answer::Events(list)) => {
                for event in &list {
                    if self.json {
                        self.show_json(&json::event(event), out);
                    } else {
                        out.text += &printable(&text::event(event));
                    }
                }
                let last = list.iter().map(|e| e.number).max().unwrap_or(*after).max(*after);
                self.command = Command::Events {
                    after: last,
                    once: *once,
                };
                // An answer has a limited number of events. So a command with --once requests more until none is left.
                // `MAX_PAGES` ends the command even if new events come faster than it reads them.
                let Part::Pages(pages) = &mut self.part else {
                    return Ok(Step::Done(End::Failure));
                };
                *pages += 1;
                if !once || (!list.is_empty() && *pages < MAX_PAGES) {
                    return Ok(Step::Send(Request::Events {
                        after: last,
                        wait: !once,
                    }));
                }
            }
            (Command::Logs { pd, after, follow }, Answer::Logs(lines)) => {
                for line in &lines {
                    if self.json {
                        self.show_json(&json::log_line(line), out);
                    } else {
                        out.text += &printable(&text::log_line(line));
                    }
                }
                // Lines come in parts. A part that is not full is the last part. `MAX_PAGES` ends the command even
                // if a domain writes on.
                let Part::Pages(pages) = &mut self.part else {
                    return Ok(Step::Done(End::Failure));
                };
                *pages += 1;
                if !follow && (lines.len() < LOG_LINES || *pages == MAX_PAGES) {
                    return Ok(Step::Done(End::Success));
                }
                let after = lines.iter().map(|line| line.number).fold(*after, u64::max);
                self.command = Command::Logs {
                    pd: pd.clone(),
                    after,
                    follow: *follow,
                };
                return Ok(Step::Send(Request::Logs {
                    pd: pd.clone(),
                    after,
                    wait: *follow,
                }));
            }
            (_, Answer::Audit(audit)) => {
                let clean = audit.findings.is_empty();
                self.show(&Answer::Audit(audit), out);
                if !clean {
                    return Ok(Step::Done(End::Failure));
                }
            }
            (_, answer) => self.show(&answer, out),
        }
        Ok(Step::Done(End::Success))
    }

    fn neighbours(
        &mut self,
        brane: &str,
        family: brane_abi::control::Family,
        list: Vec<query::Neighbour>,
        more: bool,
        out: &mut Output,
    ) -> Step {
        let Part::Neighbours(all, pages) = &mut self.part else {
            return Step::Done(End::Failure);
        };
        let none = list.is_empty();
        all.extend(list);
        *pages += 1;
        // `MAX_PAGES` bounds the requests to a brane that always reports one more page.
        if more && !none && *pages < MAX_PAGES {
            let query = Query::Neighbours {
                family,
                skip: all.len() as u32,
            };
            return Step::Send(Request::Query {
                brane: brane.into(),
                query,
            });
        }
        let all = core::mem::take(all);
        self.show(&Answer::Query(query::Answer::Neighbours(all, more)), out);
        Step::Done(End::Success)
    }

    fn sockets(
        &mut self,
        brane: &str,
        protocol: Option<&str>,
        list: Vec<query::Socket>,
        more: bool,
        out: &mut Output,
    ) -> Step {
        let Part::Sockets(all, pages) = &mut self.part else {
            return Step::Done(End::Failure);
        };
        let none = list.is_empty();
        all.extend(list);
        *pages += 1;
        if more && !none && *pages < MAX_PAGES {
            return Step::Send(Request::Query {
                brane: brane.into(),
                query: Query::Sockets {
                    skip: all.len() as u32,
                },
            });
        }
        let mut all = core::mem::take(all);
        all.retain(|s| protocol.is_none_or(|p| s.protocol.name() == p));
        self.show(&Answer::Query(query::Answer::Sockets(all, more)), out);
        Step::Done(End::Success)
    }

    fn rules(&mut self, brane: &str, list: Vec<RuleStatus>, more: bool, out: &mut Output) -> Step {
        let Part::Rules(all, pages) = &mut self.part else {
            return Step::Done(End::Failure);
        };
        let none = list.is_empty();
        all.extend(list);
        *pages += 1;
        if more && !none && *pages < MAX_PAGES {
            return Step::Send(Request::Query {
                brane: brane.into(),
                query: Query::Filter {
                    skip: all.len() as u32,
                },
            });
        }
        let all = core::mem::take(all);
        self.show(&Answer::Query(query::Answer::Filter(all, more)), out);
        Step::Done(End::Success)
    }

    /// Returns the next request of a replacement.
    fn replace(&mut self) -> Step {
        match &mut self.part {
            Part::Replacing(left) => left.pop_front().map_or(Step::Done(End::Failure), Step::Send),
            _ => Step::Done(End::Failure),
        }
    }

    /// Returns the next echo request, or the query for the host's address.
    fn ping(&mut self) -> Step {
        let (Command::Ping(echo), Part::Ping(outcome, next)) = (&self.command, &mut self.part) else {
            return Step::Done(End::Failure);
        };
        let query = match outcome.to {
            None => Query::Host {
                name: echo.host.clone(),
                server: None,
                timeout_ms: 5000,
            },
            Some(to) => {
                outcome.sent += 1;
                Query::Ping {
                    to,
                    sequence: *next as u16,
                    size: echo.size,
                    timeout_ms: echo.timeout_ms,
                }
            }
        };
        Step::Send(Request::Query {
            brane: echo.brane.clone(),
            query,
        })
    }

    fn echo(&mut self, answer: query::Answer, out: &mut Output) -> Result<Step, Error> {
        let (Command::Ping(echo), Part::Ping(outcome, next)) = (&self.command, &mut self.part) else {
            return Ok(Step::Done(End::Failure));
        };
        if outcome.to.is_none() {
            let first = match answer {
                query::Answer::Host(list) => list.first().copied(),
                query::Answer::Refused(why) => return Err(why.words()),
                _ => None,
            };
            let to: IpAddr = first.ok_or_else(|| {
                Error::coded(
                    error::NO_SUCH_NAME,
                    format!("{} has no address", echo.host),
                    "name another host, or an address",
                )
            })?;
            outcome.to = Some(to);
            return Ok(self.ping());
        }
        let sequence = *next as u16;
        let line = match answer {
            query::Answer::Echo {
                from,
                size,
                ttl,
                rtt_us,
            } => outcome.reply(sequence, from, size, ttl, rtt_us),
            other => outcome.none(sequence, &other),
        };
        if !self.json {
            out.text += &printable(&line);
        }
        *next += 1;
        if echo.count.is_some_and(|count| *next >= count.into()) {
            return Ok(self.cancel(out));
        }
        Ok(Step::Pause(echo.interval_ms))
    }

    fn pinged(&self, outcome: &Outcome, out: &mut Output) -> End {
        if self.json {
            self.show_json(&outcome.json(), out);
        } else if outcome.to.is_some() {
            out.text += &outcome.text();
        }
        if outcome.received > 0 {
            End::Success
        } else {
            End::Failure
        }
    }
}

mod capture;
mod survey;
#[cfg(test)]
mod tests;
