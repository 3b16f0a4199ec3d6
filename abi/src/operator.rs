//! Calls of an operator's domain to the manager. The operator is the console, or the remote line to the host's `branectl`.
//!
//! A request is a protected call with label [`CALL`]. Message word 0 is the length of the CBOR [`Request`] in the bytes after it.
//! The manager writes the reply into the region `NAME-reply`. Word 0 of the reply is the length of this text in bytes. The label
//! says what the region holds: with [`OK`] a CBOR [`Answer`], with [`ERROR`] a [`Refusal`]. With [`LATER`] word 1 is the number
//! of a job.
//!
//! When one of the operator's jobs ends, the manager notifies the operator. The operator then fetches the answer with label
//! [`POLL`] and the job's number in word 0. The manager keeps the result until the operator fetches it, or until the operator has
//! begun [`JOBS`] newer jobs.
//!
//! The manager does not trust operators: it checks requests and bounds answers.

use crate::capture::{Capture, Stage};
use crate::control::{FamilyConfig, InterfaceConfig};
use crate::filter::Edit;
use crate::log::Level;
use crate::net::{Cidr, MacAddr};
use crate::query;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};

mod answer;
mod done;
mod refusal;

pub use answer::{
    Answer, Audit, Brane, Cell, CounterGroup, DevNet, Event, Free, IfNet, LogLevel, LogLine, Names, Outcome,
    Owner, Receipt, Report, SubscriberInfo,
};
pub use done::Done;
pub use refusal::{DriverRefusal, Known, Purpose, Refusal, Unbelievable};

/// Label: a [`Request`].
pub const CALL: u64 = 16;
/// Label: the answer to a job; word 0 is its number.
pub const POLL: u64 = 17;
/// Label: cancels a job; word 0 is its number. The job's result is not kept. A query is dropped, a batch begins no further
/// request, and a change goes on.
pub const CANCEL: u64 = 18;

/// Reply: the region holds an [`Answer`].
pub const OK: u64 = 0;
/// Reply: the region holds a [`Refusal`].
pub const ERROR: u64 = 1;
/// Reply: not yet; word 1 is the job's number.
pub const LATER: u64 = 2;

/// Longest request in bytes.
pub const MAX_REQUEST: usize = 768;
/// Bytes of an operator's reply region.
pub const REPLY_SIZE: usize = 0x1_0000;
/// Jobs of one operator that run or have a kept result, at most.
pub const JOBS: usize = 8;
/// Longest name of a brane, a device or an interface in bytes.
pub const MAX_NAME: usize = 31;
/// Requests of one batch.
pub const MAX_BATCH: usize = 16;
/// Lines in one [`Answer::Logs`] at most.
pub const LOG_LINES: usize = 64;
/// Events that the manager remembers.
pub const EVENTS_KEPT: usize = 256;

/// Peers that can reach an interface besides the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Mode {
    /// Also other branes on the NIC, through the driver's switch.
    #[default]
    #[n(0)]
    Bridge,
    /// No other brane.
    #[n(1)]
    Private,
}

/// Kind of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// A virtual interface with a MAC address of its own on a physical NIC.
    #[default]
    #[n(0)]
    Vnic,
    /// The physical NIC itself: a virtual interface with the NIC's own MAC address and name. Each NIC has one.
    #[n(1)]
    Phys,
    /// One end of a wire; the named device is the other end.
    #[n(2)]
    Pair(#[n(0)] String),
    /// A vnic whose frames carry this VLAN tag on the wire (IEEE 802.1Q), 1 to 4094; the brane sees them without it.
    #[n(3)]
    Vlan(#[n(0)] u16),
    /// A brane's own `lo0`. It is created and deleted with the brane and never moves.
    #[n(4)]
    Lo,
}

impl Kind {
    /// Returns the kind in one word: `vnic`, `phys`, `pair`, `vlan` or `lo`.
    pub const fn word(&self) -> &'static str {
        match self {
            Kind::Vnic => "vnic",
            Kind::Phys => "phys",
            Kind::Pair(_) => "pair",
            Kind::Vlan(_) => "vlan",
            Kind::Lo => "lo",
        }
    }
}

/// A device (DevNet): what manager and driver know of an interface, independent of the brane that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DeviceConfig {
    /// Its name, unique in the whole system.
    #[n(0)]
    pub name: String,
    /// Its kind.
    #[n(1)]
    pub kind: Kind,
    /// Number of the NIC whose driver carries it: 0 for `nic0`.
    #[n(2)]
    #[cbor(default)]
    pub nic: u8,
    /// Its MAC address; `None` for one from the pool.
    #[n(3)]
    pub mac: Option<MacAddr>,
    /// Peers that can reach it.
    #[n(4)]
    #[cbor(default)]
    pub mode: Mode,
    /// Source addresses that it may send from, besides its link-local address. Empty: any.
    #[n(5)]
    #[cbor(default)]
    pub allow: Vec<Cidr>,
    /// Bytes per second that it may send.
    #[n(6)]
    pub rate_up: Option<u64>,
    /// Bytes per second that it may receive.
    #[n(7)]
    pub rate_down: Option<u64>,
}

/// Addresses of an interface and the ways to obtain more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Addressing {
    /// Fixed addresses.
    #[n(0)]
    #[cbor(default)]
    pub addresses: Vec<Cidr>,
    /// Fixed IPv4 default router.
    #[n(1)]
    pub gateway4: Option<Ipv4Addr>,
    /// Fixed IPv6 default router.
    #[n(2)]
    pub gateway6: Option<Ipv6Addr>,
    /// Use DHCP.
    #[n(3)]
    #[cbor(default)]
    pub dhcp4: bool,
    /// Use router advertisements.
    #[n(4)]
    #[cbor(default)]
    pub slaac: bool,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// All branes → [`Answer::Branes`].
    #[n(0)]
    List {
        /// Wait until each brane has reported its present state, or its time for the report is over.
        #[n(0)]
        fresh: bool,
    },
    /// One brane, with its present state → [`Answer::Brane`].
    #[n(1)]
    Show(#[n(0)] String),
    /// Counters of everything, or of the named brane, device or NIC → [`Answer::Stats`].
    #[n(2)]
    Stats(#[n(0)] Option<String>),
    /// Create a brane → [`Answer::Done`].
    #[n(3)]
    Create {
        /// Its name.
        #[n(0)]
        name: String,
        /// Its families; `None` for all.
        #[n(1)]
        families: Option<Vec<FamilyConfig>>,
        /// Start it as well.
        #[n(2)]
        start: bool,
        /// See [`crate::control::BraneConfig::memory`].
        #[n(3)]
        #[cbor(default)]
        memory: Option<u32>,
    },
    /// Start a brane that is created or shut down → [`Answer::Done`].
    #[n(4)]
    Start(#[n(0)] String),
    /// Shut a brane down: end its connections as their protocols require, then stop it. It stays created → [`Answer::Done`].
    #[n(5)]
    Shutdown {
        /// Name of the brane.
        #[n(0)]
        name: String,
        /// Milliseconds after which the remaining connections are aborted.
        #[n(1)]
        deadline_ms: u32,
    },
    /// Shut down and delete a brane; no brane has its devices afterwards → [`Answer::Receipt`].
    #[n(6)]
    Delete {
        /// Name of the brane.
        #[n(0)]
        name: String,
        /// Milliseconds after which the remaining connections are aborted; 0: at once.
        #[n(1)]
        deadline_ms: u32,
    },
    /// Rename a brane → [`Answer::Done`].
    #[n(7)]
    RenameBrane {
        /// Its present name.
        #[n(0)]
        from: String,
        /// The new one.
        #[n(1)]
        to: String,
    },
    /// Assign a device to a brane as an interface. If another brane has the device, it moves → [`Answer::Done`].
    #[n(8)]
    Assign {
        /// Name of the device.
        #[n(0)]
        device: String,
        /// Name of the brane.
        #[n(1)]
        brane: String,
        /// Name of the interface in the brane; `None` for the first free of `net0`, `net1`, ...
        #[n(2)]
        interface: Option<String>,
        /// Its addresses. `None`: a device that moves keeps its addresses; any other device has only its link-local address.
        #[n(3)]
        addressing: Option<Addressing>,
    },
    /// Remove a device from its brane; no brane has it afterwards → [`Answer::Done`].
    #[n(9)]
    Remove(#[n(0)] String),
    /// Change the addresses of a brane's interface → [`Answer::Done`].
    #[n(10)]
    Adjust {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// Name of the interface in it.
        #[n(1)]
        interface: String,
        /// The new addressing; it replaces the present one.
        #[n(2)]
        addressing: Addressing,
    },
    /// Rename a brane's interface → [`Answer::Done`].
    #[n(11)]
    RenameInterface {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// Present name of the interface.
        #[n(1)]
        from: String,
        /// The new one.
        #[n(2)]
        to: String,
    },
    /// Change those of a device's mode and limits that are given → [`Answer::Done`].
    #[n(12)]
    Limit {
        /// Name of the device.
        #[n(0)]
        device: String,
        /// See [`DeviceConfig::mode`].
        #[n(1)]
        mode: Option<Mode>,
        /// See [`DeviceConfig::allow`].
        #[n(2)]
        allow: Option<Vec<Cidr>>,
        /// See [`DeviceConfig::rate_up`]; 0 for no limit.
        #[n(3)]
        rate_up: Option<u64>,
        /// See [`DeviceConfig::rate_down`]; 0 for no limit.
        #[n(4)]
        rate_down: Option<u64>,
    },
    /// All devices → [`Answer::Devices`].
    #[n(13)]
    Devices,
    /// Create a device of kind vnic or vlan, or both ends of kind pair → [`Answer::Done`].
    #[n(14)]
    AddDevice(#[n(0)] DeviceConfig),
    /// Delete a device that no brane has; for an end of a pair, both ends → [`Answer::Receipt`].
    #[n(15)]
    DeleteDevice(#[n(0)] String),
    /// Rename a device → [`Answer::Done`].
    #[n(16)]
    RenameDevice {
        /// Its present name.
        #[n(0)]
        from: String,
        /// The new one.
        #[n(1)]
        to: String,
    },
    /// Subscribers to transitions → [`Answer::Subscribers`].
    #[n(17)]
    Subscribers,
    /// Events in order, as many as one answer takes → [`Answer::Events`].
    #[n(18)]
    Events {
        /// Only events with numbers above this one.
        #[n(0)]
        after: u64,
        /// If there is no such event: true waits for one, false returns at once.
        #[n(1)]
        wait: bool,
    },
    /// Compare the views that manager, drivers and branes have of devices and interfaces → [`Answer::Audit`].
    #[n(19)]
    Audit,
    /// The whole configuration as it is wanted now → [`Answer::Saved`].
    #[n(20)]
    Save,
    /// A query to a brane → [`Answer::Query`].
    #[n(21)]
    Query {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// The query.
        #[n(1)]
        query: query::Query,
    },
    /// Make a brane fault → [`Answer::Done`]. For tests of the recovery.
    #[n(22)]
    Crash(#[n(0)] String),
    /// Make a brane hang → [`Answer::Done`]. For tests of the recovery.
    #[n(23)]
    Hang(#[n(0)] String),
    /// Names that exist, for completion → [`Answer::Names`].
    #[n(24)]
    Names,
    /// Several requests → [`Answer::Batch`]. Each begins when the previous one has ended; the batch ends at the first refusal. A
    /// batch takes only requests with short answers: changes ([`Request::changes`]), and ping and host queries.
    #[n(25)]
    Batch(#[n(0)] Vec<Encoded>),
    /// Log levels of all protection domains, or of the named one → [`Answer::LogLevels`].
    #[n(30)]
    LogLevels(#[n(0)] Option<String>),
    /// Set a log level → [`Answer::Done`].
    #[n(31)]
    SetLogLevel {
        /// Name of a protection domain, or of a brane to select the brane's domain.
        #[n(0)]
        pd: String,
        /// The level.
        #[n(1)]
        level: Level,
    },
    /// Kept lines of logs → [`Answer::Logs`].
    #[n(32)]
    Logs {
        /// See [`Request::SetLogLevel`]; `None` for all domains.
        #[n(0)]
        pd: Option<String>,
        /// Only lines with numbers above this one.
        #[n(1)]
        after: u64,
        /// If there are no such lines, wait for some. The answer may still be empty.
        #[n(2)]
        wait: bool,
    },
    /// Times since the boot, and since each brane's start and last restart → [`Answer::Report`].
    #[n(26)]
    Uptime,
    /// Registered external filters, with the states of their hooks in branes → [`Answer::Report`].
    #[n(50)]
    Filters,
    /// Restart a quarantined subscriber, or an external filter → [`Answer::Done`].
    #[n(33)]
    Readmit(#[n(0)] String),
    /// Change the filter of a brane → [`Answer::Done`].
    #[n(34)]
    Filter {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// The change.
        #[n(1)]
        edit: Edit,
    },
    /// Collect a part of the programs of this operator's next capture → [`Answer::Done`].
    #[n(35)]
    StageCapture(#[n(0)] Stage),
    /// Begin a capture. For [`crate::capture::Reader::Line`] the job lasts as long as the capture → [`Answer::Captured`]. For
    /// [`crate::capture::Reader::Query`] the answer comes at once → [`Answer::Done`], and [`Request::StopCapture`] ends the capture.
    #[n(36)]
    Capture(#[n(0)] Capture),
    /// End this operator's capture with this tag. Its job ends → [`Answer::Done`].
    #[n(37)]
    StopCapture(#[n(0)] u32),
}

/// A CBOR-encoded request. Batches hold these instead of [`Request`] so that decoding cannot recurse.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Encoded(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    Vec<u8>,
);

impl Encoded {
    /// Decodes the request. Returns `None` if it is malformed.
    pub fn read(&self) -> Option<Request> {
        minicbor::decode(&self.0).ok()
    }
}

impl Request {
    /// Builds a batch of these requests.
    pub fn batch(requests: &[Request]) -> Request {
        let encoded = requests.iter().map(|request| {
            let mut text = Vec::new();
            // Writing to a vector cannot fail, and every request can be encoded.
            let _ = minicbor::encode(request, &mut text);
            Encoded(text)
        });
        Request::Batch(encoded.collect())
    }

    /// Returns true if the request changes something. Its answer is then [`Answer::Done`] or [`Answer::Receipt`].
    pub const fn changes(&self) -> bool {
        match self {
            Request::List { .. }
            | Request::Show(_)
            | Request::Stats(_)
            | Request::Devices
            | Request::Subscribers
            | Request::Filters
            | Request::Events { .. }
            | Request::Uptime
            | Request::Audit
            | Request::Save
            | Request::Query { .. }
            | Request::Names
            | Request::LogLevels(_)
            | Request::Logs { .. }
            | Request::StageCapture(_)
            | Request::Capture(_)
            | Request::StopCapture(_)
            | Request::Batch(_) => false,
            Request::Create { .. }
            | Request::Start(_)
            | Request::Shutdown { .. }
            | Request::Delete { .. }
            | Request::RenameBrane { .. }
            | Request::Assign { .. }
            | Request::Remove(_)
            | Request::Adjust { .. }
            | Request::RenameInterface { .. }
            | Request::Limit { .. }
            | Request::AddDevice(_)
            | Request::DeleteDevice(_)
            | Request::RenameDevice { .. }
            | Request::Crash(_)
            | Request::Hang(_)
            | Request::SetLogLevel { .. }
            | Request::Readmit(_)
            | Request::Filter { .. } => true,
        }
    }
}
