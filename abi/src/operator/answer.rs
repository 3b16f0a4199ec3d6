//! Answers of the manager to operators. Operators trust the manager.

use super::*;
use crate::control::{BraneStatus, Counter};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// A change was made.
    #[n(0)]
    Done(#[n(0)] Done),
    /// The branes, by number.
    #[n(1)]
    Branes(#[n(0)] Vec<Brane>),
    /// One brane.
    #[n(2)]
    Brane(#[n(0)] Brane),
    /// Counters, in groups.
    #[n(3)]
    Stats(#[n(0)] Vec<CounterGroup>),
    /// Resources before and after a deletion.
    #[n(4)]
    Receipt(#[n(0)] Receipt),
    /// Devices, by name.
    #[n(5)]
    Devices(#[n(0)] Vec<DevNet>),
    /// Subscribers.
    #[n(6)]
    Subscribers(#[n(0)] Vec<SubscriberInfo>),
    /// Events in order.
    #[n(7)]
    Events(#[n(0)] Vec<Event>),
    /// The result of an audit.
    #[n(8)]
    Audit(#[n(0)] Audit),
    /// CBOR of the boot configuration that starts the system as it is wanted now
    /// (`brane_manager_core::boot::BootConfig::to_bytes`).
    #[n(9)]
    Saved(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// The brane's answer to a query.
    #[n(10)]
    Query(#[n(0)] query::Answer),
    /// Names.
    #[n(11)]
    Names(#[n(0)] Names),
    /// Results of a batch's requests, in order.
    #[n(12)]
    Batch(#[n(0)] Vec<Outcome>),
    /// The table of a view that has no answer type of its own.
    #[n(13)]
    Report(#[n(0)] Report),
    /// A capture has ended as a whole, for this reason.
    #[n(14)]
    Captured(#[n(0)] crate::capture::End),
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
    /// Time of printing, in microseconds of the system's clock.
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

/// Named values, then rows of cells in named columns. The operator's end shows every report by one rule, as text and as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Values of the system: name and value.
    #[n(0)]
    pub facts: Vec<(String, Cell)>,
    /// Names of the columns as in JSON: lower case, words joined by `_`.
    #[n(1)]
    pub columns: Vec<String>,
    /// Rows, each with one cell for each column.
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

/// Result of one request of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// The answer, if the request was not refused.
    #[n(0)]
    pub answer: Option<Answer>,
    /// The refusal, if the request was refused.
    #[n(1)]
    pub refusal: Option<Refusal>,
    /// Microseconds from the beginning of the batch to this answer.
    #[n(2)]
    pub at_us: u64,
}

/// One brane, as the manager knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Brane {
    /// Number.
    #[n(0)]
    pub id: u32,
    /// Name.
    #[n(1)]
    pub name: String,
    /// State in one word: `creating`, `created`, `starting`, `started`, `stopping`, `restarting`, `failed`.
    #[n(2)]
    pub state: String,
    /// Restarts so far.
    #[n(3)]
    pub restarts: u32,
    /// The last fault, in words; empty if there was none.
    #[n(4)]
    pub last_fault: String,
    /// The brane's last report.
    #[n(5)]
    pub status: BraneStatus,
    /// Age of that report in milliseconds.
    #[n(6)]
    pub status_age_ms: u64,
    /// The driver's counters of its vifs, one group for each.
    #[n(7)]
    pub vifs: Vec<CounterGroup>,
    /// True for the primary brane.
    #[n(8)]
    pub primary: bool,
    /// Microseconds from the last fault until the brane was configured again; 0 if there was none.
    #[n(9)]
    pub recovery_us: u64,
    /// Its families and protocols.
    #[n(10)]
    pub families: Vec<FamilyConfig>,
    /// Its interfaces as they are configured.
    #[n(11)]
    pub interfaces: Vec<InterfaceConfig>,
}

/// Named counters of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CounterGroup {
    /// Name of the source: for instance a brane, a vif or a NIC.
    #[n(0)]
    pub name: String,
    /// Its counters.
    #[n(1)]
    pub counters: Vec<Counter>,
}

/// A device: its name is unique over all branes. Each has exactly one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DevNet {
    /// Its settings, with the MAC address in force.
    #[n(0)]
    pub config: DeviceConfig,
    /// Its interface.
    #[n(1)]
    pub ifnet: IfNet,
}

/// The interface of a device, one to one, also while no brane has the device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum IfNet {
    /// No brane has the device. The interface has no name.
    #[default]
    #[n(0)]
    Unattached,
    /// A brane has the device.
    #[n(1)]
    Attached(#[n(0)] Owner),
}

impl IfNet {
    /// Returns the brane that has the device, with the interface's name there. Returns `None` if it is unattached.
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            IfNet::Unattached => None,
            IfNet::Attached(owner) => Some(owner),
        }
    }

    /// Returns the word for the state.
    pub fn state(&self) -> &'static str {
        match self {
            IfNet::Unattached => "unattached",
            IfNet::Attached(_) => "attached",
        }
    }
}

impl From<Option<Owner>> for IfNet {
    fn from(owner: Option<Owner>) -> IfNet {
        owner.map_or(IfNet::Unattached, IfNet::Attached)
    }
}

/// The brane that has a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Owner {
    /// The brane.
    #[n(0)]
    pub brane: String,
    /// The interface in the brane.
    #[n(1)]
    pub interface: String,
}

/// Free and used resources before and after a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The deleted brane or device.
    #[n(0)]
    pub name: String,
    /// Resources before the deletion.
    #[n(1)]
    pub before: Free,
    /// Resources now.
    #[n(2)]
    pub after: Free,
    /// Microseconds from the request to its end.
    #[n(3)]
    pub took_us: u64,
    /// Sockets and connections that were aborted.
    #[n(4)]
    pub aborted: u32,
    /// Of a deleted brane: the devices that no brane has now. Of a deleted device: its ends, one for each end of a pair.
    #[n(5)]
    pub released: Vec<String>,
}

/// Free and used amounts of each limited resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Free {
    /// Free instances: the number of branes that could be created.
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
    /// Vifs in the drivers' tables.
    #[n(4)]
    pub vifs: u32,
    /// Bytes of the manager's heap in use.
    #[n(5)]
    pub bytes: u64,
}

/// A subscriber to transitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SubscriberInfo {
    /// Name of its protection domain.
    #[n(0)]
    pub subscriber: String,
    /// The brane of its subscription; `None` for all.
    #[n(1)]
    pub brane: Option<String>,
    /// The family of its subscription; `None` for all.
    #[n(2)]
    pub family: Option<crate::control::Family>,
    /// The transitions of its subscription, by name.
    #[n(3)]
    pub transitions: Vec<String>,
    /// Number of notifications sent to it.
    #[n(4)]
    pub notified: u64,
    /// The reason of its quarantine; empty if it is not quarantined.
    #[n(5)]
    pub quarantined: String,
    /// The protocols of its subscription, by name; empty if it subscribed to whole families.
    #[n(6)]
    #[cbor(default)]
    pub protocols: Vec<String>,
}

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Its number, one more than that of the previous event.
    #[n(0)]
    pub number: u64,
    /// Its time in microseconds since the manager's start.
    #[n(1)]
    pub at_us: u64,
    /// Its kind in one word: `created`, `started`, `shutdown`, `deleted`, `renamed`, `assigned`, `removed`, `device-added`,
    /// `device-deleted`, `limited`, `adjusted`, `failed`, `restarted`, `subscriber-joined`, `subscriber-left`,
    /// `subscriber-quarantined`, `subscriber-readmitted`.
    #[n(2)]
    pub what: String,
    /// The brane that the event concerns, if any.
    #[n(3)]
    pub brane: Option<String>,
    /// The device that the event concerns, if any.
    #[n(4)]
    pub device: Option<String>,
    /// Further details in words; may be empty.
    #[n(5)]
    pub detail: String,
}

/// Result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Audit {
    /// Number of compared devices.
    #[n(0)]
    pub devices: u32,
    /// Number of branes that answered.
    #[n(1)]
    pub branes: u32,
    /// Names of the branes that did not answer in time. Their view is missing.
    #[n(2)]
    pub silent: Vec<String>,
    /// Every disagreement, in words; empty if there is none.
    #[n(3)]
    pub findings: Vec<String>,
    /// Free and used resources.
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
