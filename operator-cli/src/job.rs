//! A command being carried out: which request comes next, and what there is to show. It waits for nobody; console and host
//! send the requests in their own ways and hand the answers in.

use crate::columns::printable;
use crate::command::Command;
use crate::error::Error;
use crate::ping::Outcome;
use crate::{change, help, json, parse, text};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::inside::{self, Query};
use brane_abi::operator::{Answer, LOG_LINES, Refusal, Request};
use core::net::IpAddr;

/// Most pages of one table that are fetched.
const MAX_PAGES: usize = 256;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, then hand in the answer.
    Ask(Request),
    /// Wait so many milliseconds, then go on without an answer.
    Pause(u32),
    /// That was all.
    Done(End),
}

/// How a command came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Well,
    /// It was refused, or found something bad: a disagreement, a host that does not answer.
    Badly,
}

/// Where what is shown belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Answers.
    pub text: String,
    /// Errors.
    pub error: String,
}

/// A command being carried out.
#[derive(Debug)]
pub struct Job {
    command: Command,
    json: bool,
    begun: bool,
    /// How much is known already of what comes in parts.
    part: Part,
}

#[derive(Debug)]
enum Part {
    None,
    Neighbours(Vec<inside::Neighbour>, usize),
    Sockets(Vec<inside::Socket>, usize),
    /// The change is computed and on its way.
    Changing,
    /// Echo requests: the number of the next one.
    Ping(Outcome, u64),
    /// Parts of logs that have come.
    Logs(usize),
}

impl Job {
    /// Nothing is sent yet.
    pub fn new(parsed: parse::Parsed) -> Job {
        let part = match &parsed.command {
            Command::Neighbours { .. } => Part::Neighbours(Vec::new(), 0),
            Command::Sockets { .. } => Part::Sockets(Vec::new(), 0),
            Command::Logs { .. } => Part::Logs(0),
            Command::Ping(echo) => Part::Ping(Outcome::new(echo.host.parse().ok()), 0),
            _ => Part::None,
        };
        Job {
            command: parsed.command,
            json: parsed.json,
            begun: false,
            part,
        }
    }

    /// Goes on: `reply` is the answer to the last request, `None` at the beginning and after a pause.
    pub fn step(&mut self, reply: Option<Result<Answer, Refusal>>, out: &mut Output) -> Step {
        let begun = core::mem::replace(&mut self.begun, true);
        let next = match reply {
            None if !begun => self.first(out),
            None => self.resumed(out),
            Some(Err(refusal)) => Err(refusal.into()),
            Some(Ok(answer)) => self.answered(answer, out),
        };
        next.unwrap_or_else(|e| self.failed(&e, out))
    }

    /// Stops it, as Ctrl-C does: shows what is known.
    pub fn cancel(&mut self, out: &mut Output) -> End {
        match core::mem::replace(&mut self.part, Part::None) {
            Part::Ping(outcome, _) => self.pinged(&outcome, out),
            _ => End::Well,
        }
    }

    fn failed(&self, e: &Error, out: &mut Output) -> Step {
        if self.json {
            self.show_json(&json::error(e), out);
        }
        out.error += &printable(&format!("{e}\n"));
        Step::Done(End::Badly)
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
            Step::Ask(Request::Inside {
                brane: brane.into(),
                query,
            })
        };
        let elsewhere = |what: &str| {
            Error::new(
                format!("{what} works on the host, where the files are"),
                format!("run `branectl {what} FILE` there"),
            )
        };
        Ok(match &self.command {
            Command::Ask(request) => Step::Ask(request.clone()),
            Command::Stats { of, .. } => Step::Ask(Request::Stats(of.clone())),
            Command::ShowDevice(_) => Step::Ask(Request::Devices),
            Command::RemoveInterface { brane, .. } | Command::Change { brane, .. } => {
                Step::Ask(Request::Show(brane.clone()))
            }
            Command::Neighbours { brane, family } => page(
                brane,
                Query::Neighbours {
                    family: *family,
                    skip: 0,
                },
            ),
            Command::Sockets { brane, .. } => page(brane, Query::Sockets { skip: 0 }),
            Command::Ping(_) => return Ok(self.ping()),
            Command::Events { after, .. } => Step::Ask(Request::Events(*after)),
            Command::Logs { pd, after, .. } => Step::Ask(Request::Logs {
                pd: pd.clone(),
                after: *after,
                wait: false,
            }),
            Command::Help(word) => {
                out.text += &help::about(word.as_deref())?;
                Step::Done(End::Well)
            }
            Command::HelpOf(program, verb) => {
                out.text += &match verb.and_then(|name| program.verb(name)) {
                    Some(verb) => help::verb(*program, verb),
                    None => help::list(*program),
                };
                Step::Done(End::Well)
            }
            Command::Apply { .. } => return Err(elsewhere("apply")),
            Command::Save { .. } => return Err(elsewhere("save")),
            Command::Enter(_) | Command::Exit => {
                return Err(Error::new(
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
        if let Answer::Inside(inside::Answer::Refused(why)) = &answer
            && !matches!(self.command, Command::Ping(_))
        {
            return Err(Error::new(why.as_str(), ""));
        }
        let command = self.command.clone();
        match (&command, answer) {
            (Command::Ping(_), Answer::Inside(answer)) => return self.echo(answer, out),
            (
                Command::Neighbours { brane, family },
                Answer::Inside(inside::Answer::Neighbours(list, more)),
            ) => {
                return Ok(self.neighbours(brane, *family, list, more, out));
            }
            (Command::Sockets { brane, protocol }, Answer::Inside(inside::Answer::Sockets(list, more))) => {
                return Ok(self.sockets(brane, protocol.as_deref(), list, more, out));
            }
            (Command::Change { change, .. }, Answer::Brane(brane))
                if !matches!(self.part, Part::Changing) =>
            {
                let request = change.request(&brane)?;
                parse::fits(&request)?;
                self.part = Part::Changing;
                return Ok(Step::Ask(request));
            }
            (Command::RemoveInterface { interface, .. }, Answer::Brane(brane))
                if !matches!(self.part, Part::Changing) =>
            {
                let device = change::find(&brane, interface)?.device.clone();
                self.part = Part::Changing;
                return Ok(Step::Ask(Request::Remove(device)));
            }
            (Command::ShowDevice(name), Answer::Devices(list)) => {
                let found = list.iter().find(|d| d.config.name == *name);
                let device = found.ok_or_else(|| {
                    let names: Vec<&str> = list.iter().map(|d| d.config.name.as_str()).collect();
                    let fix = match parse::near(name, names.iter().copied()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "`nicctl list` shows the names".into(),
                    };
                    Error::new(format!("no device named \"{name}\""), fix)
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
                if !once {
                    return Ok(Step::Ask(Request::Events(last)));
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
                // Lines come in parts. A part that is not full is the last one that is kept, and a domain that goes on writing
                // does not keep the command from its end.
                let Part::Logs(parts) = &mut self.part else {
                    return Ok(Step::Done(End::Badly));
                };
                *parts += 1;
                if !follow && (lines.len() < LOG_LINES || *parts == MAX_PAGES) {
                    return Ok(Step::Done(End::Well));
                }
                let after = lines.iter().map(|line| line.number).fold(*after, u64::max);
                self.command = Command::Logs {
                    pd: pd.clone(),
                    after,
                    follow: *follow,
                };
                return Ok(Step::Ask(Request::Logs {
                    pd: pd.clone(),
                    after,
                    wait: *follow,
                }));
            }
            (_, Answer::Audit(audit)) => {
                let clean = audit.findings.is_empty();
                self.show(&Answer::Audit(audit), out);
                if !clean {
                    return Ok(Step::Done(End::Badly));
                }
            }
            (_, answer) => self.show(&answer, out),
        }
        Ok(Step::Done(End::Well))
    }

    fn neighbours(
        &mut self,
        brane: &str,
        family: brane_abi::control::Family,
        list: Vec<inside::Neighbour>,
        more: bool,
        out: &mut Output,
    ) -> Step {
        let Part::Neighbours(all, pages) = &mut self.part else {
            return Step::Done(End::Badly);
        };
        let none = list.is_empty();
        all.extend(list);
        *pages += 1;
        // A brane that always has one more page is not followed for ever.
        if more && !none && *pages < MAX_PAGES {
            let query = Query::Neighbours {
                family,
                skip: all.len() as u32,
            };
            return Step::Ask(Request::Inside {
                brane: brane.into(),
                query,
            });
        }
        let all = core::mem::take(all);
        self.show(&Answer::Inside(inside::Answer::Neighbours(all, more)), out);
        Step::Done(End::Well)
    }

    fn sockets(
        &mut self,
        brane: &str,
        protocol: Option<&str>,
        list: Vec<inside::Socket>,
        more: bool,
        out: &mut Output,
    ) -> Step {
        let Part::Sockets(all, pages) = &mut self.part else {
            return Step::Done(End::Badly);
        };
        let none = list.is_empty();
        all.extend(list);
        *pages += 1;
        if more && !none && *pages < MAX_PAGES {
            return Step::Ask(Request::Inside {
                brane: brane.into(),
                query: Query::Sockets {
                    skip: all.len() as u32,
                },
            });
        }
        let mut all = core::mem::take(all);
        all.retain(|s| protocol.is_none_or(|p| s.protocol.name() == p));
        self.show(&Answer::Inside(inside::Answer::Sockets(all, more)), out);
        Step::Done(End::Well)
    }

    /// The next echo request, or the question for the host's address.
    fn ping(&mut self) -> Step {
        let (Command::Ping(echo), Part::Ping(outcome, next)) = (&self.command, &mut self.part) else {
            return Step::Done(End::Badly);
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
        Step::Ask(Request::Inside {
            brane: echo.brane.clone(),
            query,
        })
    }

    fn echo(&mut self, answer: inside::Answer, out: &mut Output) -> Result<Step, Error> {
        let (Command::Ping(echo), Part::Ping(outcome, next)) = (&self.command, &mut self.part) else {
            return Ok(Step::Done(End::Badly));
        };
        if outcome.to.is_none() {
            let first = match answer {
                inside::Answer::Host(list) => list.first().copied(),
                inside::Answer::Refused(why) => return Err(Error::new(why, "")),
                _ => None,
            };
            let to: IpAddr = first.ok_or_else(|| {
                Error::new(
                    format!("{} has no address", echo.host),
                    "name another host, or an address",
                )
            })?;
            outcome.to = Some(to);
            return Ok(self.ping());
        }
        let sequence = *next as u16;
        let line = match answer {
            inside::Answer::Echo {
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
            let end = self.cancel(out);
            return Ok(Step::Done(end));
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
            End::Well
        } else {
            End::Badly
        }
    }
}

#[cfg(test)]
mod tests;
