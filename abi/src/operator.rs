//! Calls of an operator's domain (the console, or the remote line to the host's `branectl`) to the manager.
//!
//! A protected call: label [`CALL`], message word 0 the length of the CBOR [`Request`] in the bytes after it. The reply's
//! label is [`OK`] (the region `NAME-reply` holds a CBOR [`Answer`]), [`ERROR`] (it holds a [`Refusal`]) or [`LATER`] (word 1 is
//! the number of a job): word 0 is the length of the text in the region. The manager notifies the operator when one of its
//! jobs has come to an end; the operator then fetches the answer with label [`POLL`] and the job's number in word 0. The
//! end of a job is kept until it is fetched or [`JOBS`] newer ones of the same operator have been begun.
//!
//! Operators are not trusted with the manager's life: requests are checked, answers bounded.

use crate::control::{BraneStatus, Counter, FamilyConfig, InterfaceConfig};
use crate::inside;
use crate::net::{Cidr, MacAddr};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};

/// Label: a [`Request`].
pub const CALL: u64 = 16;
/// Label: the answer to a job; word 0 is its number.
pub const POLL: u64 = 17;

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
/// Events that the manager remembers.
pub const EVENTS_KEPT: usize = 256;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// What is wrong, naming the thing.
    #[n(0)]
    pub what: String,
    /// What to do.
    #[n(1)]
    pub help: String,
}

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
    /// Who is told of transitions → [`Answer::Hooks`].
    #[n(17)]
    Hooks,
    /// Events with numbers above this → [`Answer::Events`], at once where there are any, otherwise when there is one.
    #[n(18)]
    Events(#[n(0)] u64),
    /// Compare what manager, drivers and branes say of who has what → [`Answer::Audit`].
    #[n(19)]
    Audit,
    /// The whole configuration as it is wanted now → [`Answer::Saved`].
    #[n(20)]
    Save,
    /// A question to a brane → [`Answer::Inside`].
    #[n(21)]
    Inside {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// What to ask.
        #[n(1)]
        query: inside::Query,
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
    Batch(#[n(0)] Vec<Request>),
}

impl Request {
    /// Whether it changes something; the answer then is [`Answer::Done`] or [`Answer::Receipt`].
    pub const fn changes(&self) -> bool {
        match self {
            Request::List { .. }
            | Request::Show(_)
            | Request::Stats(_)
            | Request::Devices
            | Request::Hooks
            | Request::Events(_)
            | Request::Audit
            | Request::Save
            | Request::Inside { .. }
            | Request::Names
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
            | Request::Hang(_) => true,
        }
    }
}

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
    Hooks(#[n(0)] Vec<Hook>),
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
    Inside(#[n(0)] inside::Answer),
    /// Names.
    #[n(11)]
    Names(#[n(0)] Names),
    /// What became of each request of a batch, in order.
    #[n(12)]
    Batch(#[n(0)] Vec<Outcome>),
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
pub struct Hook {
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
    /// How many it was told.
    #[n(4)]
    pub told: u64,
    /// Whether it was cut off, and why; empty where it was not.
    #[n(5)]
    pub cut: String,
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
    /// `device-deleted`, `limited`, `adjusted`, `failed`, `restarted`, `hook-joined`, `hook-left`, `hook-cut`.
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
}
