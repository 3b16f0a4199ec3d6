//! What operators are answered.

use super::*;
use crate::control::{BraneStatus, Counter};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// It is done: in words, for instance which name an interface got.
    #[n(0)]
    Done(#[n(0)] String),
    /// The branes, by number.
    #[n(1)]
    Branes(#[n(0)] Vec<Brane>),
    /// One brane.
    #[n(2)]
    Brane(#[n(0)] Brane),
    /// Counters, in groups.
    #[n(3)]
    Stats(#[n(0)] Vec<CounterGroup>),
    /// What was freed.
    #[n(4)]
    Receipt(#[n(0)] Receipt),
    /// Devices, by name.
    #[n(5)]
    Devices(#[n(0)] Vec<Device>),
    /// Subscribers.
    #[n(6)]
    Subscribers(#[n(0)] Vec<SubscriberInfo>),
    /// Events in order.
    #[n(7)]
    Events(#[n(0)] Vec<Event>),
    /// The result of an audit.
    #[n(8)]
    Audit(#[n(0)] Audit),
    /// CBOR of the boot configuration that would bring the system up as it is wanted now
    /// (`brane_manager_core::boot::BootConfig::to_bytes`).
    #[n(9)]
    Saved(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// What the brane answered.
    #[n(10)]
    Query(#[n(0)] query::Answer),
    /// Names.
    #[n(11)]
    Names(#[n(0)] Names),
    /// What became of each request of a batch, in order.
    #[n(12)]
    Batch(#[n(0)] Vec<Outcome>),
    /// The table of a view that has no type of its own.
    #[n(13)]
    Report(#[n(0)] Report),
    /// Log levels of all protection domains.
    #[n(20)]
    LogLevels(#[n(0)] Vec<LogLevel>),
    /// Lines of logs in order, [`LOG_LINES`] at most.
    #[n(21)]
    Logs(#[n(0)] Vec<LogLine>),
}

/// The log level of a protection domain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogLevel {
    /// Its name.
    #[n(0)]
    pub pd: String,
    /// Its level.
    #[n(1)]
    pub level: Level,
}

/// A line of a log, as serial printed it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogLine {
    /// Number, from 1, over all domains.
    #[n(0)]
    pub number: u64,
    /// When it was printed, in microseconds of the system's clock.
    #[n(1)]
    pub at_us: u64,
    /// The domain that wrote it.
    #[n(2)]
    pub pd: String,
    /// Its level.
    #[n(3)]
    pub level: Level,
    /// Its text.
    #[n(4)]
    pub text: String,
}

/// Named values, then rows of named values. The operator's end shows any report in the same way, as text and as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Values of the system: name and value.
    #[n(0)]
    pub facts: Vec<(String, Cell)>,
    /// Names of the columns, as JSON has them: lower case, words joined by `_`.
    #[n(1)]
    pub columns: Vec<String>,
    /// Rows. Each has a cell for each column.
    #[n(2)]
    pub rows: Vec<Vec<Cell>>,
}

/// A value of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Cell {
    /// There is no value.
    #[n(0)]
    None,
    /// A name or a word.
    #[n(1)]
    Text(#[n(0)] String),
    /// A number.
    #[n(2)]
    Number(#[n(0)] u64),
    /// A span of time in microseconds.
    #[n(3)]
    Micros(#[n(0)] u64),
}

/// What became of a request of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// The answer, where it was not refused.
    #[n(0)]
    pub answer: Option<Answer>,
    /// The refusal, where it was.
    #[n(1)]
    pub refusal: Option<Refusal>,
    /// Microseconds from the beginning of the batch to this answer.
    #[n(2)]
    pub at_us: u64,
}

/// One brane as the manager knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Brane {
    /// Number.
    #[n(0)]
    pub id: u32,
    /// Name.
    #[n(1)]
    pub name: String,
    /// State in a word: `creating`, `created`, `starting`, `started`, `stopping`, `restarting`, `failed`.
    #[n(2)]
    pub state: String,
    /// Restarts so far.
    #[n(3)]
    pub restarts: u32,
    /// The last fault, in words; empty when there was none.
    #[n(4)]
    pub last_fault: String,
    /// Its own last report.
    #[n(5)]
    pub status: BraneStatus,
    /// Age of that report in milliseconds.
    #[n(6)]
    pub status_age_ms: u64,
    /// The driver's counters of its vifs, one group for each.
    #[n(7)]
    pub vifs: Vec<CounterGroup>,
    /// Whether it is the primary brane.
    #[n(8)]
    pub primary: bool,
    /// Time from the last fault to being configured again, in microseconds; 0 when there was none.
    #[n(9)]
    pub recovery_us: u64,
    /// Its families and protocols.
    #[n(10)]
    pub families: Vec<FamilyConfig>,
    /// Its interfaces as they are wanted.
    #[n(11)]
    pub interfaces: Vec<InterfaceConfig>,
}

/// Counters of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CounterGroup {
    /// The thing's name.
    #[n(0)]
    pub name: String,
    /// Its counters.
    #[n(1)]
    pub counters: Vec<Counter>,
}

/// A device and who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Device {
    /// What it is, its MAC address as it is in force.
    #[n(0)]
    pub config: DeviceConfig,
    /// Brane that has it and its name there; `None` where it is at home.
    #[n(1)]
    pub owner: Option<Owner>,
}

/// Who has a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Owner {
    /// The brane.
    #[n(0)]
    pub brane: String,
    /// The interface in it.
    #[n(1)]
    pub interface: String,
}

/// What there is of things that can run out, before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The brane or device that is gone.
    #[n(0)]
    pub name: String,
    /// What was free before it was deleted.
    #[n(1)]
    pub before: Free,
    /// What is free now.
    #[n(2)]
    pub after: Free,
    /// From the request to the end of it, in microseconds.
    #[n(3)]
    pub took_us: u64,
    /// Sockets and connections that were cut off.
    #[n(4)]
    pub cut: u32,
    /// Devices that went home, by name.
    #[n(5)]
    pub home: Vec<String>,
}

/// Things that can run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Free {
    /// Free instances: branes that could be made.
    #[n(0)]
    pub slots: u32,
    /// Free ports of all branes at all NICs.
    #[n(1)]
    pub ports: u32,
    /// Names in use, of branes, devices and interfaces together.
    #[n(2)]
    pub names: u32,
    /// MAC addresses in use.
    #[n(3)]
    pub macs: u32,
    /// Vifs that the drivers have.
    #[n(4)]
    pub vifs: u32,
    /// Bytes of the manager's heap in use.
    #[n(5)]
    pub bytes: u64,
}

/// A subscriber to transitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SubscriberInfo {
    /// Its protection domain.
    #[n(0)]
    pub subscriber: String,
    /// The brane that it asked for; `None` for all.
    #[n(1)]
    pub brane: Option<String>,
    /// The family that it asked for; `None` for all.
    #[n(2)]
    pub family: Option<crate::control::Family>,
    /// The transitions that it asked for, in words.
    #[n(3)]
    pub transitions: Vec<String>,
    /// Notifications that it was sent.
    #[n(4)]
    pub notified: u64,
    /// Why it is quarantined; empty if it is not.
    #[n(5)]
    pub quarantined: String,
    /// The protocols that it asked for, in words; none if it asked for families.
    #[n(6)]
    #[cbor(default)]
    pub protocols: Vec<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Its number; one more than that of the event before.
    #[n(0)]
    pub number: u64,
    /// When, in microseconds since the manager's start.
    #[n(1)]
    pub at_us: u64,
    /// What, in a word: `created`, `started`, `shutdown`, `deleted`, `renamed`, `assigned`, `removed`, `device-added`,
    /// `device-deleted`, `limited`, `adjusted`, `failed`, `restarted`, `subscriber-joined`,
    /// `subscriber-left`, `subscriber-quarantined`, `subscriber-readmitted`.
    #[n(2)]
    pub what: String,
    /// The brane that it happened to, where it did to one.
    #[n(3)]
    pub brane: Option<String>,
    /// The device, likewise.
    #[n(4)]
    pub device: Option<String>,
    /// More, in words; may be empty.
    #[n(5)]
    pub detail: String,
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Audit {
    /// Devices looked at.
    #[n(0)]
    pub devices: u32,
    /// Branes that answered.
    #[n(1)]
    pub branes: u32,
    /// Branes that did not answer in time, by name; their view is missing.
    #[n(2)]
    pub silent: Vec<String>,
    /// Every disagreement, in words; empty where there is none.
    #[n(3)]
    pub findings: Vec<String>,
    /// What is free.
    #[n(4)]
    pub free: Free,
}

/// Names that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Names {
    /// Branes.
    #[n(0)]
    pub branes: Vec<String>,
    /// Devices.
    #[n(1)]
    pub devices: Vec<String>,
    /// Interfaces, as `BRANE/INTERFACE`.
    #[n(2)]
    pub interfaces: Vec<String>,
    /// NICs.
    #[n(3)]
    pub nics: Vec<String>,
    /// Protection domains that have a log.
    #[n(4)]
    pub logs: Vec<String>,
}
