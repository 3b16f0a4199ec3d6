//! `why` and `reach`: which part of the system lets traffic pass, and which part stops it.
//!
//! A [`Survey`] collects the answers of manager and branes in a [`Snapshot`]. [`why`] evaluates a snapshot and sends nothing.
//! Branes are not trusted: their tables are bounded, and a brane that does not answer makes steps
//! unknown.

use crate::error::Error;
use crate::value_parsers;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{Family, Protocol};
use brane_abi::filter::Rule;
use brane_abi::operator::{Brane, DevNet};
use brane_abi::query::{Neighbour, Route, Socket};
use core::fmt;
use core::net::IpAddr;

mod devices;
mod ends;
mod gate;
mod matrix;
mod packets;
mod routes;
mod show;
mod sides;
mod steps;
mod survey;

pub use matrix::{Matrix, Pair};
pub use steps::why;
pub use survey::{Next, Survey};

/// Protocols that `why` and `reach` accept.
pub const PROTOCOLS: &[&str] = &["icmp", "tcp", "udp"];

/// Traffic that is evaluated: its first packet and the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// An echo request.
    Icmp,
    /// A SYN to this port.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
}

impl Traffic {
    /// Parses `[PROTO [PORT]]`.
    pub fn parse(protocol: Option<&str>, port: Option<&str>) -> Result<Traffic, Error> {
        let name = value_parsers::word(protocol.unwrap_or("icmp"), PROTOCOLS)?;
        let port = port
            .map(|word| value_parsers::number(word, 1, 65535))
            .transpose()?;
        match (name.as_str(), port) {
            ("icmp", None) => Ok(Traffic::Icmp),
            ("icmp", Some(_)) => Err(Error::new("icmp has no ports", "drop the port")),
            (_, None) => Err(Error::new(
                format!("missing PORT of {name}"),
                format!("write {name} and a port from 1 to 65535"),
            )),
            ("tcp", Some(port)) => Ok(Traffic::Tcp(port as u16)),
            (_, Some(port)) => Ok(Traffic::Udp(port as u16)),
        }
    }

    /// Returns the protocol's name as `why` accepts it.
    pub const fn name(self) -> &'static str {
        match self {
            Traffic::Icmp => "icmp",
            Traffic::Tcp(_) => "tcp",
            Traffic::Udp(_) => "udp",
        }
    }

    /// Returns the destination port. ICMP has none.
    pub const fn port(self) -> Option<u16> {
        match self {
            Traffic::Icmp => None,
            Traffic::Tcp(port) | Traffic::Udp(port) => Some(port),
        }
    }

    /// Returns the protocol that a family needs for the traffic.
    pub const fn protocol(self, family: Family) -> Protocol {
        match (self, family) {
            (Traffic::Icmp, Family::Inet) => Protocol::Icmp,
            (Traffic::Icmp, Family::Inet6) => Protocol::Icmp6,
            (Traffic::Tcp(_), _) => Protocol::Tcp,
            (Traffic::Udp(_), _) => Protocol::Udp,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port() {
            None => f.write_str(self.name()),
            Some(port) => write!(f, "{} {port}", self.name()),
        }
    }
}

/// One end of the traffic, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address: of a brane, or outside.
    Address(IpAddr),
    /// A brane.
    Brane(String),
    /// An interface of a brane.
    Interface(String, String),
}

impl Place {
    /// Parses an address, `BRANE/INTERFACE` or a brane.
    pub fn parse(word: &str) -> Result<Place, Error> {
        if let Ok(address) = word.parse() {
            return single(address).map(Place::Address);
        }
        if word.contains('/') {
            let (brane, interface) = value_parsers::interface(word)?;
            return Ok(Place::Interface(brane, interface));
        }
        value_parsers::name(word).map(Place::Brane)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => write!(f, "{address}"),
            Place::Brane(brane) => f.write_str(brane),
            Place::Interface(brane, interface) => write!(f, "{brane}/{interface}"),
        }
    }
}

/// Fails if an address cannot be the address of one host.
fn single(address: IpAddr) -> Result<IpAddr, Error> {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(Error::new(
            format!("{address} is not the address of one host"),
            "name a brane, BRANE/INTERFACE or the address of a host",
        ));
    }
    Ok(address)
}

/// Arguments of `why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The sender.
    pub from: Place,
    /// The receiver.
    pub to: Place,
    /// The traffic.
    pub traffic: Traffic,
}

/// Arguments of `reach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The traffic.
    pub traffic: Traffic,
    /// Each pair is tried too.
    pub probe: bool,
}

impl Reach {
    /// Builds the arguments. Only echo requests can be tried, because a brane sends them itself.
    pub fn new(traffic: Traffic, probe: bool) -> Result<Reach, Error> {
        if probe && traffic != Traffic::Icmp {
            return Err(Error::new(
                format!("{} cannot be tried", traffic.name()),
                "drop --probe, or use icmp",
            ));
        }
        Ok(Reach { traffic, probe })
    }
}

/// Answers of manager and branes about one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All branes.
    pub branes: Vec<Brane>,
    /// All devices.
    pub devices: Vec<DevNet>,
    /// Tables of started branes, by name. A brane that was not asked has no entry.
    pub tables: BTreeMap<String, Tables>,
}

impl Snapshot {
    fn brane(&self, name: &str) -> Option<&Brane> {
        self.branes.iter().find(|brane| brane.name == name)
    }

    fn device(&self, name: &str) -> Option<&DevNet> {
        self.devices.iter().find(|device| device.config.name == name)
    }
}

/// Tables of one brane. `None`: the brane did not answer, or was not asked.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Routes, the most special first.
    pub routes: Option<Vec<Route>>,
    /// Rules of the filter.
    pub rules: Option<Vec<Rule>>,
    /// Neighbours of both families.
    pub neighbours: Option<Vec<Neighbour>>,
    /// Sockets that accept the traffic's protocol and port at some address.
    pub listeners: Option<Vec<Socket>>,
    /// The reason why a table is missing.
    pub silent: Option<String>,
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The traffic passes.
    Pass,
    /// The traffic ends here.
    Stop,
    /// The answers do not decide it.
    Unknown,
}

impl Verdict {
    /// Returns the verdict in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Stop => "stop",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, as in [`STEPS`].
    pub step: &'static str,
    /// The brane that the step is about.
    pub brane: String,
    /// Its result.
    pub verdict: Verdict,
    /// The thing that decides: a brane, a rule, a device, a route.
    pub thing: String,
    /// Further facts; may be empty.
    pub detail: String,
}

/// Names of the steps in their order. The steps of the answer begin with `reply-`.
pub const STEPS: &[&str] = &[
    "brane",
    "route",
    "filter-connect",
    "filter-out",
    "neighbour",
    "source-guard",
    "rate",
    "path",
    "interface",
    "address",
    "filter-in",
    "listener",
    "filter-accept",
    "reply-route",
    "reply-filter-out",
    "reply-source-guard",
    "reply-path",
    "reply-filter-in",
];

/// Result of all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The traffic and its answer pass.
    Reaches,
    /// A step stops it.
    Stopped,
    /// No step stops it, but a step is unknown.
    Unknown,
}

impl Outcome {
    /// Returns the result in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Reaches => "reaches",
            Outcome::Stopped => "stopped",
            Outcome::Unknown => "unknown",
        }
    }
}

/// The way of the traffic. The first step that stops it is the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The sender, as it was typed.
    pub from: String,
    /// The receiver, as it was typed.
    pub to: String,
    /// The traffic.
    pub traffic: Traffic,
    /// The source address, if it is known.
    pub source: Option<IpAddr>,
    /// The destination address, if there is one.
    pub destination: Option<IpAddr>,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Explanation {
    /// Returns the step that stops the traffic, if any.
    pub fn stop(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.verdict == Verdict::Stop)
    }

    /// Returns the result. A neighbour without an entry does not make it unknown, because the brane asks for it.
    pub fn outcome(&self) -> Outcome {
        let unknown = |step: &Step| step.verdict == Verdict::Unknown && step.step != "neighbour";
        match self.stop() {
            Some(_) => Outcome::Stopped,
            None if self.steps.iter().any(unknown) => Outcome::Unknown,
            None => Outcome::Reaches,
        }
    }
}

impl Step {
    /// Returns step, brane and thing in one text.
    pub fn place(&self) -> String {
        let mut out = format!("{} of {}: {}", self.step, self.brane, self.thing);
        if !self.detail.is_empty() {
            out += ", ";
            out += &self.detail.to_string();
        }
        out
    }
}

#[cfg(test)]
mod tests;
