//! Captures: the options of `capture`, its target, its programs, and the packets of a capture as text and JSON.
//!
//! Owns no state. The person who types is not trusted, and the frames and names come from branes: all of them are checked, and text is
//! made printable where it is shown.

pub mod packet;

use crate::error::{self, Error};
use crate::parse::near;
use crate::value_parsers;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::capture::{End, Link, MAX_PROGRAM, MAX_SNAPLEN, MAX_STAGED, Stage, Target};
use brane_abi::filter::{Instruction, Rule};
use brane_abi::operator::{Names, Request};
use serde_json::{Value, json};

/// Tag of the console's captures. Captures of other programs have random tags above it.
pub const CONSOLE_TAG: u32 = 1;

/// Longest expression in bytes, with the spaces between its words.
pub const MAX_EXPRESSION: usize = 4096;

/// A capture as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What it shows.
    pub target: Place,
    /// The file for the frames; `-` for standard output, `None` for lines.
    pub write: Option<String>,
    /// Bytes of each frame that are kept; `None` for the most.
    pub snaplen: Option<u32>,
    /// Number of frames after which the capture ends.
    pub count: Option<u64>,
    /// The expression: words of libpcap on the host, words of a filter rule on the console.
    pub words: Vec<String>,
}

/// The target of a capture as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `all`.
    All,
    /// `BRANE/INTERFACE`.
    Interface(String, String),
    /// The name of a brane or of a device.
    Name(String),
}

impl Place {
    /// Parses the word of a target.
    pub fn parse(word: &str) -> Result<Place, Error> {
        Ok(match word {
            "all" => Place::All,
            word if word.contains('/') => {
                let (brane, interface) = value_parsers::interface(word)?;
                Place::Interface(brane, interface)
            }
            word => Place::Name(value_parsers::name(word)?),
        })
    }

    /// Returns the target of a request. If a brane and a device have the name, it is the brane's.
    pub fn resolve(&self, names: &Names) -> Result<Target, Error> {
        match self {
            Place::All => Ok(Target::All),
            Place::Interface(brane, interface) => Ok(Target::Interface(brane.clone(), interface.clone())),
            Place::Name(name) if names.branes.contains(name) => Ok(Target::Brane(name.clone())),
            Place::Name(name) if names.devices.contains(name) => Ok(Target::Device(name.clone())),
            Place::Name(name) => {
                let all = names.branes.iter().chain(&names.devices).map(String::as_str);
                let fix = match near(name, all) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`list` shows the branes, `nicctl list` the devices".into(),
                };
                Err(Error::coded(
                    error::NO_SUCH_NAME,
                    format!("no brane or device named \"{name}\""),
                    fix,
                ))
            }
        }
    }
}

impl Options {
    /// Builds the options from the words of a line.
    pub fn new(
        target: &str,
        write: Option<&str>,
        snaplen: Option<u64>,
        count: Option<u64>,
        words: &[String],
    ) -> Result<Options, Error> {
        let length: usize = words.iter().map(|word| word.len() + 1).sum();
        if length > MAX_EXPRESSION {
            return Err(Error::new(
                format!("an expression of {length} bytes"),
                format!("{MAX_EXPRESSION} are allowed"),
            ));
        }
        Ok(Options {
            target: Place::parse(target)?,
            write: write.map(String::from),
            // As for tcpdump, 0 keeps all.
            snaplen: snaplen
                .filter(|n| *n != 0)
                .map(|n| n.min(MAX_SNAPLEN.into()) as u32),
            count,
            words: words.to_vec(),
        })
    }

    /// Returns the expression, with a space between its words.
    pub fn expression(&self) -> String {
        self.words.join(" ")
    }
}

/// The programs of a capture, one for each link type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// For frames with an Ethernet header.
    pub ethernet: Vec<Instruction>,
    /// For packets of `lo0`.
    pub raw: Vec<Instruction>,
}

impl Programs {
    /// Compiles the words of a filter rule's matches: `proto udp from 10.0.2.0/24 to any port 53`.
    pub fn of_matches(words: &str) -> Result<Programs, Error> {
        let usage = "write matches of a filter rule, as in proto udp from 10.0.2.2 to any port 53; branectl on the host accepts \
                     expressions of tcpdump";
        let wrong = |problem: String| Error::new(problem, usage);
        let rule = branes_pfil::parse(&format!("pass {words}")).map_err(|fault| {
            // The action is not typed, so the column is that of the words.
            let column = fault.column.saturating_sub("pass ".len()).max(1);
            wrong(format!("column {column}: {}", fault.problem))
        })?;
        for (present, clause) in [
            (rule.direction.is_some(), "in or out"),
            (rule.interface.is_some(), "on"),
            (!rule.states.is_empty(), "state"),
            (rule.rate.is_some(), "rate"),
            (!rule.program.is_empty(), "bpf"),
        ] {
            if present {
                return Err(wrong(format!("{clause} is no match of a capture")));
            }
        }
        let compiled = |rule: &Rule, link| {
            branes_pfil::for_capture(rule, link).map_err(|problem| wrong(format!("{problem}")))
        };
        Programs {
            ethernet: compiled(&rule, Link::Ethernet)?,
            raw: compiled(&rule, Link::Raw)?,
        }
        .checked()
    }

    /// Fails if a program has more instructions than a capture can have.
    pub fn checked(self) -> Result<Programs, Error> {
        let length = self.ethernet.len().max(self.raw.len());
        if length > MAX_PROGRAM {
            return Err(Error::new(
                format!("the expression has {length} instructions, {MAX_PROGRAM} are allowed"),
                "write a shorter expression",
            ));
        }
        Ok(self)
    }

    /// Builds the requests that stage both programs, in order.
    pub fn stages(&self) -> Vec<Request> {
        let mut out: Vec<Request> = Vec::new();
        for (link, program) in [(Link::Ethernet, &self.ethernet), (Link::Raw, &self.raw)] {
            for part in program.chunks(MAX_STAGED) {
                out.push(Request::StageCapture(Stage {
                    first: out.is_empty(),
                    link,
                    program: part.to_vec(),
                }));
            }
        }
        out
    }
}

/// A frame as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Nanoseconds since the boot.
    pub at_ns: u64,
    /// Time of the day, if the clock is known.
    pub time: Option<&'a str>,
    /// Name of the brane.
    pub brane: &'a str,
    /// Name of the interface in it.
    pub interface: &'a str,
    /// Link type.
    pub link: Link,
    /// The brane sent it.
    pub sent: bool,
    /// Length of the whole frame in bytes.
    pub length: u32,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// Returns its line: time, interface, direction, packet.
    pub fn text(&self) -> String {
        let time = match self.time {
            Some(time) => time.to_string(),
            None => format!(
                "{}.{:06}",
                self.at_ns / 1_000_000_000,
                self.at_ns / 1000 % 1_000_000
            ),
        };
        let direction = if self.sent { "Out" } else { "In " };
        let packet = packet::line(self.link, self.bytes, self.length);
        // A name with a line feed would forge a line.
        let name = |name: &str| -> String {
            let harmless = |c: char| if c.is_ascii_graphic() { c } else { '?' };
            name.chars().map(harmless).collect()
        };
        let (brane, interface) = (name(self.brane), name(self.interface));
        format!("{time} {brane}/{interface} {direction} {packet}\n")
    }

    /// Converts it to JSON.
    pub fn json(&self) -> Value {
        let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "at_ns": self.at_ns, "time": self.time, "brane": self.brane, "interface": self.interface,
            "direction": if self.sent { "out" } else { "in" }, "length": self.length, "captured": self.bytes.len(),
            "packet": packet::line(self.link, self.bytes, self.length), "bytes": hex,
        })
    }
}

/// Returns the reason for the end of a capture in words.
pub fn ended(end: End) -> &'static str {
    match end {
        End::Stopped => "the capture was stopped",
        End::Moved => "the interface has left the brane; capture ended",
        End::BraneGone => "the brane was shut down or deleted; capture ended",
        End::BraneFailed => "the brane failed; capture interrupted",
    }
}

/// Returns the summary of an interface, as tcpdump prints it.
pub fn summary(name: &str, captured: u64, dropped: u64) -> String {
    let frames = if captured == 1 { "frame" } else { "frames" };
    format!("{name}: {captured} {frames} captured, {dropped} dropped\n")
}

#[cfg(test)]
mod tests;
