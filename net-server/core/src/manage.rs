//! The brane's end of the region that it shares with the manager: commands in, reports out.
//!
//! The manager is trusted: its configuration is checked for what the stack cannot take, so that a mistake is refused with a
//! reason instead of taking the brane down, but its rings are believed.

use crate::netif::usable;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, BraneStatus, MAX_MESSAGE, command, report};
use brane_abi::layout::{PORTS_PER_BRANE, ctl};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;

/// Commands taken in one look.
pub const COMMAND_BUDGET: usize = 16;

/// Fixed addresses that an interface can have besides its link-local one, DHCP's and those of advertised prefixes.
const ADDRESSES: usize = 4;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Become this brane.
    Configure(BraneConfig),
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
    /// The link.
    pub link: Link,
    up: bool,
    indices: [&'static RingIndices; 2],
    commands: Consumer,
    reports: Producer,
    /// The manager must be notified whatever its doorbell says.
    pub notify: bool,
    told: bool,
}

impl Control {
    /// Starts our side of the link. `None` when the region is too small or not aligned.
    pub fn start(region: SharedRegion) -> Option<Control> {
        if region.len() < ctl::SIZE {
            return None;
        }
        // SAFETY: RingIndices is made of atomics only.
        let indices = |offset| unsafe { region.object::<RingIndices>(offset) };
        let indices = [indices(ctl::COMMAND_INDICES)?, indices(ctl::REPORT_INDICES)?];
        Some(Control {
            commands: Consumer::new(indices[0], region.part(ctl::COMMANDS.offset, ctl::COMMANDS.len)?)?,
            reports: Producer::new(indices[1], region.part(ctl::REPORTS.offset, ctl::REPORTS.len)?)?,
            link: Link::start(region, Side::B)?,
            up: false,
            indices,
            notify: true,
            told: false,
        })
    }

    /// Follows the link. Returns whether it has just come up.
    pub fn look(&mut self) -> bool {
        let mut state = self.link.poll();
        if state == LinkState::PeerRestarted {
            self.up = false;
            self.indices.iter().for_each(|indices| indices.reset());
            self.commands.reset();
            self.reports.reset();
            self.link.acknowledge();
            self.notify = true;
            state = self.link.poll();
        }
        let was = core::mem::replace(&mut self.up, state == LinkState::Up);
        self.up && !was
    }

    /// The next command and its token.
    pub fn take(&mut self) -> Option<(u32, Command)> {
        if !self.up {
            return None;
        }
        let mut text = Vec::new();
        let record = self.commands.take(|record| {
            text.resize(record.len().min(MAX_MESSAGE), 0);
            record.copy_to(&mut text);
            (record.meta, record.len())
        });
        self.commands.release();
        let Ok(record) = record else {
            self.up = false;
            return None;
        };
        let ([kind, token, _], len) = record?;
        let command = match kind {
            command::CONFIGURE if len <= MAX_MESSAGE => match minicbor::decode::<BraneConfig>(&text) {
                Ok(config) => Command::Configure(config),
                Err(error) => Command::Bad(alloc::format!("the configuration is not readable: {error}")),
            },
            command::REPORT => Command::Report,
            command::CRASH => Command::Crash,
            command::HEARTBEAT => Command::Heartbeat,
            command::HANG => Command::Hang,
            _ => Command::Bad(alloc::format!("unknown command {kind} of {len} bytes")),
        };
        Some((token, command))
    }

    /// Puts a report into the ring; whether there is something new in it.
    fn put(&mut self, kind: u32, token: u32, payload: &[u8]) -> bool {
        // The manager takes a report for each command it sends, so the ring has room; should it not, the manager asks again.
        self.up && self.reports.push(&[payload], [kind, token, 0]).is_ok() && self.reports.publish()
    }

    fn send(&mut self, kind: u32, token: u32, payload: &[u8]) {
        self.told |= self.put(kind, token, payload);
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

    /// Answers a question for the status.
    pub fn status(&mut self, token: u32, status: &BraneStatus) {
        // Writing to a vector cannot fail.
        if let Ok(text) = minicbor::to_vec(status) {
            self.send(report::STATUS, token, &text);
        }
    }

    /// Whether the manager must be notified of what was sent.
    pub fn flush(&mut self) -> bool {
        let bell = self.link.peer_bell();
        let woken = core::mem::take(&mut self.told) && bell.ring(brane_abi::control::CONTROL_BIT);
        core::mem::take(&mut self.notify) | woken
    }
}

/// Whether the stack can take this configuration; otherwise why not.
pub fn check(config: &BraneConfig) -> Result<(), String> {
    let mut ports = [false; PORTS_PER_BRANE];
    if config.name.is_empty() || config.name.len() > 31 {
        return Err(alloc::format!("the name {:?} has not 1 to 31 bytes", config.name));
    }
    for interface in &config.interfaces {
        let name = &interface.name;
        match ports.get_mut(usize::from(interface.port)) {
            Some(used) if !*used => *used = true,
            Some(_) => {
                return Err(alloc::format!(
                    "{name}: port {} carries another interface",
                    interface.port
                ));
            }
            None => return Err(alloc::format!("{name}: there is no port {}", interface.port)),
        }
        if interface.addresses.len() > ADDRESSES {
            return Err(alloc::format!("{name}: more than {ADDRESSES} addresses"));
        }
        if let Some(bad) = interface.addresses.iter().find(|cidr| !usable(cidr)) {
            return Err(alloc::format!("{name}: {bad} cannot be an interface's address"));
        }
    }
    Ok(())
}
