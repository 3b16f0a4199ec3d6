//! The brane's end of the region that it shares with the manager: commands in, reports out.
//!
//! The manager is trusted: its configuration is checked for what the stack cannot take, so that a mistake is refused with a
//! reason instead of taking the brane down, but its rings are believed.

use crate::ip::address::{is_host4, is_host6};
use crate::netif::usable;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::capture::CaptureConfig;
use brane_abi::control::{
    BraneConfig, BraneStatus, CONTROL_BIT, Family, InterfaceConfig, MAX_COMMAND, Rename, command, report,
};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::filter::Rule;
use brane_abi::hook::{HookConfig, HookStatus};
use brane_abi::layout::ctl;
use brane_abi::link::Side;
use brane_abi::query::{Answer, Query};
use brane_abi::shared::SharedRegion;
use core::net::IpAddr;

/// Commands taken in one look.
pub const COMMAND_BUDGET: usize = 16;

/// Fixed addresses that an interface can have besides its link-local one, DHCP's and those of advertised prefixes.
const ADDRESSES: usize = 4;

/// Longest name in bytes.
const NAME: usize = 31;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Become this brane.
    Configure(BraneConfig),
    /// This interface is yours from now on.
    Attach(InterfaceConfig),
    /// The interface of that name is yours no longer.
    Detach(String),
    /// The interface of that name is to be like this.
    Adjust(InterfaceConfig),
    /// Take another name.
    Rename(Rename),
    /// Replace the rules of the filter.
    Filter(Vec<Rule>),
    /// Begin a capture.
    Capture(CaptureConfig),
    /// End the capture with this tag.
    Uncapture(u32),
    /// Replace the external hooks.
    Hooks(Vec<HookConfig>),
    /// Answer a question.
    Query(Query),
    /// Serve from now on.
    Start,
    /// End what there is within so many milliseconds.
    Shutdown(u32),
    /// Say how you are.
    Report,
    /// Fault.
    Crash,
    /// Say that you are alive.
    Heartbeat,
    /// Answer nobody any more.
    Hang,
    /// Nothing known, with the reason.
    Bad(String),
}

/// The brane's end of the manager's region.
pub struct Control {
    /// The link. Its rings carry reports to the manager and commands from it.
    pub endpoint: Endpoint<RingPair>,
    /// Reports were published since the last flush that the manager must be woken for.
    reported: bool,
}

impl Control {
    /// Starts the brane's side of the link. Returns `None` if the region is too small or not aligned.
    pub fn start(region: SharedRegion) -> Option<Control> {
        Some(Control {
            endpoint: Endpoint::start(region, Side::B, ctl::brane_rings(region)?)?,
            reported: false,
        })
    }

    /// Polls the link. Returns true if it has just come up.
    pub fn poll(&mut self) -> bool {
        let mut event = self.endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            self.endpoint.accept();
            event = self.endpoint.poll();
        }
        event == LinkEvent::CameUp
    }

    /// The next command and its token.
    pub fn take(&mut self) -> Option<(u32, Command)> {
        if !self.endpoint.is_up() {
            return None;
        }
        let mut text = Vec::new();
        let commands = &mut self.endpoint.rings.rx;
        let record = commands.take(|record| {
            text.resize(record.len().min(MAX_COMMAND), 0);
            record.copy_to(&mut text);
            (record.meta, record.len())
        });
        commands.release();
        let Ok(record) = record else {
            // A manager that breaks the rules is ignored until it restarts.
            let _ = self.endpoint.violation();
            return None;
        };
        let ([kind, token, _], len) = record?;
        let command = match kind {
            _ if len > MAX_COMMAND => {
                Command::Bad(alloc::format!("command {kind} of {len} bytes is too long"))
            }
            command::CONFIGURE => read(&text, Command::Configure, "the configuration"),
            command::ATTACH => read(&text, Command::Attach, "the interface"),
            command::ADJUST => read(&text, Command::Adjust, "the interface"),
            command::RENAME => read(&text, Command::Rename, "the name"),
            command::FILTER => read(&text, Command::Filter, "the filter"),
            command::CAPTURE => read(&text, Command::Capture, "the capture"),
            command::UNCAPTURE => match text.first_chunk() {
                Some(tag) if len == 4 => Command::Uncapture(u32::from_le_bytes(*tag)),
                _ => Command::Bad("the end of a capture without its tag".into()),
            },
            command::HOOKS => read(&text, Command::Hooks, "the hooks"),
            command::DETACH => match String::from_utf8(text) {
                Ok(name) => Command::Detach(name),
                Err(_) => Command::Bad("the interface's name is not UTF-8".into()),
            },
            command::QUERY => read(&text, Command::Query, "the question"),
            command::START => Command::Start,
            command::SHUTDOWN => match text.first_chunk() {
                Some(ms) if len == 4 => Command::Shutdown(u32::from_le_bytes(*ms)),
                _ => Command::Bad("a shutdown without its milliseconds".into()),
            },
            command::REPORT => Command::Report,
            command::CRASH => Command::Crash,
            command::HEARTBEAT => Command::Heartbeat,
            command::HANG => Command::Hang,
            _ => Command::Bad(alloc::format!("unknown command {kind} of {len} bytes")),
        };
        Some((token, command))
    }

    /// Puts a report into the ring. Returns true if there is something new in it.
    fn put(&mut self, kind: u32, token: u32, payload: &[u8]) -> bool {
        // The manager takes a report for each command that it sends, so the ring has room. If it has none, the manager asks again.
        if !self.endpoint.is_up() {
            return false;
        }
        let reports = &mut self.endpoint.rings.tx;
        reports.push(&[payload], [kind, token, 0]).is_ok() && reports.publish()
    }

    fn send(&mut self, kind: u32, token: u32, payload: &[u8]) {
        self.reported |= self.put(kind, token, payload);
    }

    /// Answers a heartbeat. Wakes nobody: the manager looks before it asks again.
    pub fn alive(&mut self, token: u32) {
        self.put(report::ALIVE, token, &[]);
    }

    /// Answers a configuration.
    pub fn configured(&mut self, token: u32, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.send(report::CONFIGURED, token, &[]),
            Err(why) => self.send(report::REFUSED, token, why.as_bytes()),
        }
    }

    /// Answers an order that is in force now, or refused.
    pub fn done(&mut self, token: u32, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.send(report::DONE, token, &[]),
            Err(why) => self.send(report::REFUSED, token, why.as_bytes()),
        }
    }

    /// Answers a question from inside.
    pub fn answer(&mut self, token: u32, answer: &Answer) {
        // Writing to a vector cannot fail.
        if let Ok(text) = minicbor::to_vec(answer) {
            self.send(report::ANSWER, token, &text);
        }
    }

    /// Answers a shutdown: so many were left.
    pub fn drained(&mut self, token: u32, left: u32) {
        self.send(report::DRAINED, token, &left.to_le_bytes());
    }

    /// Answers a question for the status.
    pub fn status(&mut self, token: u32, status: &BraneStatus) {
        // Writing to a vector cannot fail.
        if let Ok(text) = minicbor::to_vec(status) {
            self.send(report::STATUS, token, &text);
        }
    }

    /// Reports the states of the external hooks, because one has changed.
    pub fn hooks(&mut self, hooks: &[HookStatus]) {
        // Writing to a vector cannot fail.
        if let Ok(text) = minicbor::to_vec(hooks) {
            self.send(report::HOOKS, 0, &text);
        }
    }

    /// Returns true if the manager must be notified.
    pub fn flush(&mut self) -> bool {
        let bits = if core::mem::take(&mut self.reported) {
            CONTROL_BIT
        } else {
            0
        };
        self.endpoint.flush(bits)
    }
}

/// A command's payload as CBOR.
fn read<'a, T: minicbor::Decode<'a, ()>>(text: &'a [u8], of: fn(T) -> Command, what: &str) -> Command {
    match minicbor::decode(text) {
        Ok(value) => of(value),
        Err(error) => Command::Bad(alloc::format!("{what} is not readable: {error}")),
    }
}

/// Whether the stack of a brane with so many ports can take this configuration; otherwise why not.
pub fn check(config: &BraneConfig, ports: usize) -> Result<(), String> {
    check_name(&config.name)?;
    for (n, interface) in config.interfaces.iter().enumerate() {
        check_interface(interface, &config.interfaces[..n], ports)?;
    }
    Ok(())
}

/// Whether this can be a name, of a brane, an interface or a device; otherwise why not.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("name too short: 1 byte at least".into());
    }
    if name.len() > NAME {
        return Err(alloc::format!(
            "name too long: {} bytes, {NAME} allowed",
            name.len()
        ));
    }
    match name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(c) => Err(alloc::format!("name {name:?}: {c:?} cannot be part of a name")),
        None => Ok(()),
    }
}

/// Whether an interface can be one of a brane with so many ports that has these `others`; otherwise why not.
pub fn check_interface(
    interface: &InterfaceConfig,
    others: &[InterfaceConfig],
    ports: usize,
) -> Result<(), String> {
    let (name, port) = (&interface.name, interface.port);
    check_name(name)?;
    check_name(&interface.device).map_err(|why| alloc::format!("{name}: device: {why}"))?;
    if name == "lo0" || others.iter().any(|other| other.name == *name) {
        return Err(alloc::format!("name taken: there is an interface {name}"));
    }
    if let Some(other) = others.iter().find(|other| other.device == interface.device) {
        return Err(alloc::format!(
            "{name}: {} is {}'s device",
            other.device,
            other.name
        ));
    }
    if usize::from(port) >= ports {
        return Err(alloc::format!("{name}: there is no port {port}"));
    }
    if others.iter().any(|other| other.port == port) {
        return Err(alloc::format!("{name}: port {port} carries another interface"));
    }
    if !interface.mac.is_station() {
        return Err(alloc::format!(
            "{name}: {} cannot be a station's MAC address",
            interface.mac
        ));
    }
    check_addresses(interface)
}

/// Whether a brane with these families can have an interface; otherwise why not.
pub fn check_families(interface: &InterfaceConfig, has: impl Fn(Family) -> bool) -> Result<(), String> {
    let addresses = interface.addresses.iter().map(|cidr| match cidr.ip {
        IpAddr::V4(_) => (Family::Inet, "an address"),
        IpAddr::V6(_) => (Family::Inet6, "an address"),
    });
    let wants = [
        (interface.gateway4.is_some(), Family::Inet, "a router"),
        (interface.dhcp4, Family::Inet, "DHCP"),
        (interface.gateway6.is_some(), Family::Inet6, "a router"),
        (interface.slaac, Family::Inet6, "SLAAC"),
    ];
    let wants = wants
        .into_iter()
        .filter(|(wanted, ..)| *wanted)
        .map(|(_, family, what)| (family, what));
    match addresses.chain(wants).find(|(family, _)| !has(*family)) {
        Some((family, what)) => Err(alloc::format!(
            "{}: {what} of {}, which the brane does not have",
            interface.name,
            family.name()
        )),
        None => Ok(()),
    }
}

/// Whether an interface can have the addresses that it is to have; otherwise why not.
pub fn check_addresses(interface: &InterfaceConfig) -> Result<(), String> {
    let name = &interface.name;
    if interface.addresses.len() > ADDRESSES {
        return Err(alloc::format!("{name}: more than {ADDRESSES} addresses"));
    }
    if let Some(bad) = interface.addresses.iter().find(|cidr| !usable(cidr)) {
        return Err(alloc::format!("{name}: {bad} cannot be an interface's address"));
    }
    let routers = [
        (
            interface.gateway4.map(IpAddr::V4),
            interface.gateway4.is_none_or(is_host4),
        ),
        (
            interface.gateway6.map(IpAddr::V6),
            interface.gateway6.is_none_or(is_host6),
        ),
    ];
    match routers.into_iter().find(|(_, sound)| !sound) {
        Some((Some(bad), _)) => Err(alloc::format!("{name}: {bad} cannot be a router")),
        _ => Ok(()),
    }
}
