//! Calls of an operator's domain (the console, or the remote line to the host's `branectl`) to the manager.
//!
//! A protected call: label [`CALL`], message word 0 the length of the CBOR [`Request`] in the bytes after it. The reply's
//! label is [`OK`] (the region `NAME-reply` holds a CBOR [`Answer`]), [`ERROR`] (it holds a [`Refusal`]) or [`LATER`] (word 1 is
//! the number of a job): word 0 is the length of the text in the region. The manager notifies the operator when one of its
//! jobs has come to an end; the operator then fetches the answer with label [`POLL`] and the job's number in word 0. The
//! end of a job is kept until it is fetched or [`JOBS`] newer ones of the same operator have been begun.
//!
//! Operators are not trusted with the manager's life: requests are checked, answers bounded.

use crate::control::{FamilyConfig, InterfaceConfig};
use crate::log::Level;
use crate::net::{Cidr, MacAddr};
use crate::query;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};

mod answer;
mod refusal;

pub use answer::{
    Answer, Audit, Brane, Cell, CounterGroup, Device, Event, Free, LogLevel, LogLine, Names, Outcome, Owner,
    Receipt, Report, SubscriberInfo,
};
pub use refusal::{DriverRefusal, Known, Purpose, Refusal, Unbelievable};

/// Label: a [`Request`].
pub const CALL: u64 = 16;
/// Label: the answer to a job; word 0 is its number.
pub const POLL: u64 = 17;
/// Label: nobody waits for a job any more; word 0 is its number. A question is given up, a batch begins nothing more, and a
/// change goes on; its end is not kept.
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
/// Jobs of one operator whose end is kept or awaited.
pub const JOBS: usize = 8;
/// Longest name of a brane, a device or an interface in bytes.
pub const MAX_NAME: usize = 31;
/// Requests of one batch.
pub const MAX_BATCH: usize = 16;
/// Lines in one [`Answer::Logs`] at most.
pub const LOG_LINES: usize = 64;
/// Events that the manager remembers.
pub const EVENTS_KEPT: usize = 256;

/// Who can reach an interface besides the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Mode {
    /// Other branes on the same NIC too, through the driver's switch.
    #[default]
    #[n(0)]
    Bridge,
    /// Nobody else.
    #[n(1)]
    Private,
}

/// What a device is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// A virtual interface with a MAC address of its own on a physical NIC.
    #[default]
    #[n(0)]
    Vnic,
    /// The physical NIC itself: a virtual interface with the NIC's own MAC address. There is one for each NIC, by its name.
    #[n(1)]
    Phys,
    /// One end of a wire whose other end is the named device.
    #[n(2)]
    Pair(#[n(0)] String),
    /// A vnic whose frames carry this VLAN tag on the wire (IEEE 802.1Q), 1 to 4094; the brane sees them without it.
    #[n(3)]
    Vlan(#[n(0)] u16),
    /// A brane's own `lo0`: made with the brane, gone with it, never anywhere else.
    #[n(4)]
    Lo,
}

impl Kind {
    /// In a word: `vnic`, `phys`, `pair`, `vlan`, `lo`.
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

/// A device (DevNet): what manager and driver know of an interface, whoever has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DeviceConfig {
    /// Its name, unique in the whole system.
    #[n(0)]
    pub name: String,
    /// What it is.
    #[n(1)]
    pub kind: Kind,
    /// Number of the NIC whose driver carries it: 0 for `nic0`.
    #[n(2)]
    #[cbor(default)]
    pub nic: u8,
    /// Its MAC address; `None` for one from the pool.
    #[n(3)]
    pub mac: Option<MacAddr>,
    /// Who can reach it.
    #[n(4)]
    #[cbor(default)]
    pub mode: Mode,
    /// Where what it sends may come from, besides its link-local address; empty: anything.
    #[n(5)]
    #[cbor(default)]
    pub allow: Vec<Cidr>,
    /// Bytes per second that it may send.
    #[n(6)]
    pub rate_up: Option<u64>,
    /// Bytes per second that it gets.
    #[n(7)]
    pub rate_down: Option<u64>,
}

/// How an interface gets its addresses.
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
    /// Ask DHCP.
    #[n(3)]
    #[cbor(default)]
    pub dhcp4: bool,
    /// Take router advertisements.
    #[n(4)]
    #[cbor(default)]
    pub slaac: bool,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// All branes → [`Answer::Branes`]. `fresh`: after each has been asked how it is, or has had its time for it.
    #[n(0)]
    List {
        /// See above.
        #[n(0)]
        fresh: bool,
    },
    /// One brane, asked how it is → [`Answer::Brane`].
    #[n(1)]
    Show(#[n(0)] String),
    /// Counters of everything, or of the named brane, device or NIC → [`Answer::Stats`].
    #[n(2)]
    Stats(#[n(0)] Option<String>),
    /// Make a brane → [`Answer::Done`].
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
    },
    /// Start a brane that is created or shut down → [`Answer::Done`].
    #[n(4)]
    Start(#[n(0)] String),
    /// End a brane's connections in good order, then hold it; it stays created → [`Answer::Done`].
    #[n(5)]
    Shutdown {
        /// Which.
        #[n(0)]
        name: String,
        /// Milliseconds after which what is left is cut off.
        #[n(1)]
        deadline_ms: u32,
    },
    /// Shut down and delete a brane; its devices go home → [`Answer::Receipt`].
    #[n(6)]
    Delete {
        /// Which.
        #[n(0)]
        name: String,
        /// Milliseconds after which what is left is cut off; 0: at once.
        #[n(1)]
        deadline_ms: u32,
    },
    /// Give a brane another name → [`Answer::Done`].
    #[n(7)]
    RenameBrane {
        /// Its present name.
        #[n(0)]
        from: String,
        /// The new one.
        #[n(1)]
        to: String,
    },
    /// Give a brane a device as an interface; from whatever brane has it now → [`Answer::Done`].
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
        /// Its addresses; `None`: where it moves, those that it has, otherwise none but its link-local one.
        #[n(3)]
        addressing: Option<Addressing>,
    },
    /// Take a device from its brane; it goes home → [`Answer::Done`].
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
        /// What it is to have instead of what it has.
        #[n(2)]
        addressing: Addressing,
    },
    /// Give a brane's interface another name → [`Answer::Done`].
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
    /// Change a device's mode and limits: those fields that are given → [`Answer::Done`].
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
    /// Make a device (of kind vnic or vlan), or for kind pair both ends → [`Answer::Done`].
    #[n(14)]
    AddDevice(#[n(0)] DeviceConfig),
    /// Delete a device that no brane has; of a pair, both ends → [`Answer::Receipt`].
    #[n(15)]
    DeleteDevice(#[n(0)] String),
    /// Give a device another name → [`Answer::Done`].
    #[n(16)]
    RenameDevice {
        /// Its present name.
        #[n(0)]
        from: String,
        /// The new one.
        #[n(1)]
        to: String,
    },
    /// Who is told of transitions → [`Answer::Subscribers`].
    #[n(17)]
    Subscribers,
    /// Events in order, as many as one answer takes → [`Answer::Events`].
    #[n(18)]
    Events {
        /// Only events with numbers above this one.
        #[n(0)]
        after: u64,
        /// If there is no such event: true to be answered when there is one, false to be answered at once.
        #[n(1)]
        wait: bool,
    },
    /// Compare what manager, drivers and branes say of who has what → [`Answer::Audit`].
    #[n(19)]
    Audit,
    /// The whole configuration as it is wanted now → [`Answer::Saved`].
    #[n(20)]
    Save,
    /// A question to a brane → [`Answer::Query`].
    #[n(21)]
    Query {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// What to ask.
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
    /// Several requests, each begun when the one before is done, up to the first that is refused → [`Answer::Batch`]. Each is
    /// one that changes something ([`Request::changes`]), or asks inside for a ping or a host: answers that are short.
    #[n(25)]
    Batch(#[n(0)] Vec<Encoded>),
    /// Log levels of all protection domains, or of the named one → [`Answer::LogLevels`].
    #[n(30)]
    LogLevels(#[n(0)] Option<String>),
    /// Set a log level → [`Answer::Done`].
    #[n(31)]
    SetLogLevel {
        /// Name of a protection domain, or of a brane for that of its domain.
        #[n(0)]
        pd: String,
        /// The level.
        #[n(1)]
        level: Level,
    },
    /// Kept lines of logs → [`Answer::Logs`].
    #[n(32)]
    Logs {
        /// As in [`Request::SetLogLevel`]; `None` for all domains.
        #[n(0)]
        pd: Option<String>,
        /// Lines with higher numbers than this one.
        #[n(1)]
        after: u64,
        /// If there are none, wait for some. The answer can have none all the same.
        #[n(2)]
        wait: bool,
    },
    /// Times since the boot, and since each brane's start and last restart → [`Answer::Report`].
    #[n(26)]
    Uptime,
    /// Restart a quarantined subscriber → [`Answer::Done`].
    #[n(33)]
    Readmit(#[n(0)] String),
}

/// A request as its CBOR text: in a batch, so that reading one takes no deeper stack for what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Encoded(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    Vec<u8>,
);

impl Encoded {
    /// The request; `None` where it is not readable.
    pub fn read(&self) -> Option<Request> {
        minicbor::decode(&self.0).ok()
    }
}

impl Request {
    /// A batch of these.
    pub fn batch(requests: &[Request]) -> Request {
        let encoded = requests.iter().map(|request| {
            let mut text = Vec::new();
            // Writing to a vector cannot fail, and no request refuses to be encoded.
            let _ = minicbor::encode(request, &mut text);
            Encoded(text)
        });
        Request::Batch(encoded.collect())
    }

    /// Whether it changes something; the answer then is [`Answer::Done`] or [`Answer::Receipt`].
    pub const fn changes(&self) -> bool {
        match self {
            Request::List { .. }
            | Request::Show(_)
            | Request::Stats(_)
            | Request::Devices
            | Request::Subscribers
            | Request::Events { .. }
            | Request::Uptime
            | Request::Audit
            | Request::Save
            | Request::Query { .. }
            | Request::Names
            | Request::LogLevels(_)
            | Request::Logs { .. }
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
            | Request::Readmit(_) => true,
        }
    }
}
