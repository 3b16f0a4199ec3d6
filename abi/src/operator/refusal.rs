//! Reasons for which the manager refuses a request: a code with data. The operator's end makes the words.
//!
//! The manager builds refusals. Operators trust it, but the data includes text from branes and operators. So the manager cleans
//! and bounds each text before it puts it into a refusal.

use super::Kind;
use crate::control::{Family, Protocol};
use crate::net::{Cidr, MacAddr};
use crate::vif;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// The request is not CBOR of a [`super::Request`].
    #[n(0)]
    UnreadableRequest,
    /// The manager has no call with this label.
    #[n(1)]
    UnknownCall(#[n(0)] u64),
    /// The request has this many bytes, more than [`super::MAX_REQUEST`].
    #[n(2)]
    RequestTooLong(#[n(0)] u32),
    /// The answer has this many bytes, more than [`super::REPLY_SIZE`].
    #[n(3)]
    AnswerTooLong(#[n(0)] u32),
    /// The operator's end cannot decode the manager's reply.
    #[n(4)]
    UnreadableReply,
    /// No brane is configured, because the boot configuration cannot be used for this reason.
    #[n(5)]
    NoBootConfiguration(#[n(0)] String),
    /// The operator has [`super::JOBS`] requests under way.
    #[n(6)]
    TooManyJobs,
    /// The operator has no job with this number.
    #[n(7)]
    NoSuchJob(#[n(0)] u32),
    /// The job's time limit is over. The operation that it waits for goes on.
    #[n(8)]
    TakesLonger,
    /// The batch is empty, longer than [`super::MAX_BATCH`], or has a request that is not allowed in a batch.
    #[n(9)]
    BadBatch,
    /// The answer is too long for a part of a batch.
    #[n(10)]
    TooLongForBatch,
    /// The name has this many bytes, more than [`super::MAX_NAME`].
    #[n(11)]
    NameTooLong(#[n(0)] u32),
    /// The text cannot be a name.
    #[n(12)]
    NotAName(#[n(0)] String),
    /// No brane has this name.
    #[n(13)]
    NoSuchBrane(#[n(0)] String, #[n(1)] Known),
    /// No device has this name.
    #[n(14)]
    NoSuchDevice(#[n(0)] String, #[n(1)] Known),
    /// The brane has no interface of this name.
    #[n(15)]
    NoSuchInterface {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// The name that was given.
        #[n(1)]
        name: String,
        /// Names of its interfaces.
        #[n(2)]
        known: Known,
    },
    /// No brane, device or NIC has this name.
    #[n(16)]
    NothingWithCounters(#[n(0)] String),
    /// The system has no NIC with this number.
    #[n(17)]
    NoSuchNic {
        /// The number that was given.
        #[n(0)]
        nic: u8,
        /// Number of NICs of the system.
        #[n(1)]
        nics: u32,
    },
    /// A brane has this name, or is being renamed to it.
    #[n(18)]
    BraneNameTaken(#[n(0)] String),
    /// A device has this name.
    #[n(19)]
    DeviceNameTaken(#[n(0)] String),
    /// An interface of the brane has this name.
    #[n(20)]
    InterfaceNameTaken {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// Name of the interface.
        #[n(1)]
        name: String,
    },
    /// Names of this form are reserved for loopback devices.
    #[n(21)]
    LoopbackName(#[n(0)] String),
    /// `lo0` cannot be changed.
    #[n(22)]
    LoopbackIsFixed,
    /// Another operation changes the brane.
    #[n(23)]
    BraneIsChanging {
        /// Name of the brane.
        #[n(0)]
        name: String,
        /// Its state, as [`super::Brane::state`] names it.
        #[n(1)]
        state: String,
    },
    /// The brane is not started, so the request is impossible.
    #[n(24)]
    BraneIsNotStarted {
        /// Name of the brane.
        #[n(0)]
        name: String,
        /// Its state, as [`super::Brane::state`] names it.
        #[n(1)]
        state: String,
        /// Purpose of the request.
        #[n(2)]
        purpose: Purpose,
    },
    /// Every instance has a brane, so none is free.
    #[n(25)]
    NoFreeInstance {
        /// Name of the brane that was to be created.
        #[n(0)]
        name: String,
        /// Number of instances of the system.
        #[n(1)]
        instances: u32,
    },
    /// The primary brane, which has this name, is never deleted.
    #[n(26)]
    PrimaryIsNeverDeleted(#[n(0)] String),
    /// The family is named twice.
    #[n(27)]
    FamilyTwice(#[n(0)] Family),
    /// The family has no such protocol.
    #[n(28)]
    NotOfThisFamily(#[n(0)] Family, #[n(1)] Protocol),
    /// The family names the protocol twice.
    #[n(29)]
    ProtocolTwice(#[n(0)] Family, #[n(1)] Protocol),
    /// The new brane has failed for this reason, and nothing of it is left.
    #[n(30)]
    NotCreated(#[n(0)] String),
    /// The brane cannot be started.
    #[n(31)]
    NotStarted {
        /// Name of the brane.
        #[n(0)]
        name: String,
        /// The brane's last fault, in words.
        #[n(1)]
        why: String,
    },
    /// The brane refuses the change, in its own words.
    #[n(32)]
    RefusedByBrane(#[n(0)] String),
    /// The brane has failed before it answered.
    #[n(33)]
    BraneFailed,
    /// The brane has not answered in time.
    #[n(34)]
    NoAnswerInTime,
    /// The brane's answer breaks a rule.
    #[n(35)]
    AnswerNotBelieved(#[n(0)] Unbelievable),
    /// The query is longer than [`crate::query::MAX_QUERY`].
    #[n(36)]
    QueryTooLong,
    /// The brane of this name has too many unanswered queries.
    #[n(37)]
    TooManyQueries(#[n(0)] String),
    /// Another operation changes the device of this name.
    #[n(38)]
    DeviceIsChanging(#[n(0)] String),
    /// The device was deleted after the request had begun.
    #[n(39)]
    DeviceIsGone,
    /// The system has this many devices, which is the most.
    #[n(40)]
    TooManyDevices(#[n(0)] u32),
    /// Devices of this kind cannot be created.
    #[n(41)]
    KindCannotBeMade(#[n(0)] Kind),
    /// Both ends of the pair have this name.
    #[n(42)]
    PairWithOneName(#[n(0)] String),
    /// No VLAN has this number.
    #[n(43)]
    NotAVlan(#[n(0)] u16),
    /// No station can have this MAC address.
    #[n(44)]
    NotAStation(#[n(0)] MacAddr),
    /// The named device has this MAC address.
    #[n(45)]
    MacTaken(#[n(0)] MacAddr, #[n(1)] String),
    /// All addresses of the MAC pool are in use.
    #[n(46)]
    MacPoolIsEmpty,
    /// More prefixes than a device can have.
    #[n(47)]
    TooManyPrefixes {
        /// Number of prefixes in the request.
        #[n(0)]
        count: u32,
        /// Most prefixes that the driver accepts.
        #[n(1)]
        most: u32,
    },
    /// The NIC driver refuses the limits of the named device.
    #[n(48)]
    LimitsRefusedByDriver(#[n(0)] String, #[n(1)] DriverRefusal),
    /// The NIC driver refuses to add the named device.
    #[n(49)]
    DeviceRefusedByDriver(#[n(0)] String, #[n(1)] DriverRefusal),
    /// The NIC driver refuses to bind the named device to the brane's port.
    #[n(50)]
    BindingRefusedByDriver(#[n(0)] String, #[n(1)] DriverRefusal),
    /// No brane has the device of this name.
    #[n(51)]
    HasNoOwner(#[n(0)] String),
    /// The brane has the device already.
    #[n(52)]
    OwnedAlready {
        /// Name of the device.
        #[n(0)]
        device: String,
        /// Name of the brane.
        #[n(1)]
        brane: String,
        /// Name of the interface.
        #[n(2)]
        interface: String,
    },
    /// All ports of the brane at the NIC are in use.
    #[n(53)]
    NoFreePort {
        /// Name of the brane.
        #[n(0)]
        brane: String,
        /// Number of the NIC.
        #[n(1)]
        nic: u8,
        /// Number of ports of the brane at the NIC.
        #[n(2)]
        ports: u32,
    },
    /// A device that belongs to a brane cannot be deleted.
    #[n(54)]
    OwnedDeviceIsNotDeleted {
        /// Name of the device.
        #[n(0)]
        device: String,
        /// Name of the brane.
        #[n(1)]
        brane: String,
    },
    /// The loopback device of a brane cannot be changed.
    #[n(55)]
    LoopbackStays {
        /// Name of the device.
        #[n(0)]
        device: String,
        /// Name of the brane.
        #[n(1)]
        brane: String,
    },
    /// The NIC itself, of this name, cannot be deleted.
    #[n(56)]
    NicIsNotDeleted(#[n(0)] String),
    /// The NIC itself, of this name, cannot be renamed.
    #[n(57)]
    NicIsNotRenamed(#[n(0)] String),
    /// More addresses than an interface can have.
    #[n(58)]
    TooManyAddresses {
        /// Number of addresses in the request.
        #[n(0)]
        count: u32,
        /// Most addresses of an interface.
        #[n(1)]
        most: u32,
    },
    /// The address cannot have a prefix of this length.
    #[n(59)]
    ImpossiblePrefix(#[n(0)] Cidr),
    /// Neither a protection domain with a log nor a brane has this name.
    #[n(60)]
    NoSuchLog(#[n(0)] String, #[n(1)] Known),
    /// Serial does not know the log of the protection domain of this name.
    #[n(61)]
    LogLevelRefused(#[n(0)] String),
    /// No subscriber has this name.
    #[n(62)]
    NoSuchSubscriber(#[n(0)] String, #[n(1)] Known),
    /// The subscriber of this name is not quarantined.
    #[n(63)]
    NotQuarantined(#[n(0)] String),
    /// The filter would have more rules than a brane takes.
    #[n(64)]
    TooManyRules {
        /// Number of rules that the filter would have.
        #[n(0)]
        rules: u32,
        /// Most rules of a filter.
        #[n(1)]
        most: u32,
    },
    /// The rules of the filter would be too long together.
    #[n(65)]
    FilterTooLong {
        /// Their length in CBOR, in bytes.
        #[n(0)]
        bytes: u32,
        /// The longest filter.
        #[n(1)]
        most: u32,
    },
    /// The filter of the brane has no rule with this number, and none can get it.
    #[n(66)]
    NoSuchRule {
        /// The brane.
        #[n(0)]
        brane: String,
        /// The number.
        #[n(1)]
        number: u32,
        /// Number of rules of the filter.
        #[n(2)]
        rules: u32,
    },
    /// No packet filter can have this rule.
    #[n(67)]
    BadRule {
        /// The number that the rule would get.
        #[n(0)]
        number: u32,
        /// The fault.
        #[n(1)]
        why: String,
    },
    /// The operator has collected no rules for this brane.
    #[n(68)]
    NothingStaged(#[n(0)] String),
    /// The system, or a brane that the capture would show, takes part in this many captures already.
    #[n(69)]
    TooManyCaptures(#[n(0)] u32),
    /// There is a capture with this tag.
    #[n(70)]
    CaptureTagTaken(#[n(0)] u32),
    /// The operator has no capture with this tag.
    #[n(71)]
    NoSuchCapture(#[n(0)] u32),
    /// A capture of this reader cannot keep this many bytes of each frame.
    #[n(72)]
    ImpossibleSnaplen {
        /// The bytes.
        #[n(0)]
        snaplen: u32,
        /// The most bytes; 1 is the least.
        #[n(1)]
        most: u32,
    },
    /// The operator has collected no program for a capture.
    #[n(73)]
    NoProgramStaged,
    /// The program has too many instructions.
    #[n(74)]
    ProgramTooLong {
        /// Their number.
        #[n(0)]
        instructions: u32,
        /// The most.
        #[n(1)]
        most: u32,
    },
    /// No capture can have this program.
    #[n(75)]
    BadProgram {
        /// The frames that the program is for.
        #[n(0)]
        link: crate::capture::Link,
        /// Index of the instruction, from 0 on.
        #[n(1)]
        index: u32,
        /// The fault.
        #[n(2)]
        why: String,
    },
    /// The capture with its programs has too many bytes in CBOR.
    #[n(76)]
    CaptureTooLong {
        /// Its bytes.
        #[n(0)]
        bytes: u32,
        /// The most.
        #[n(1)]
        most: u32,
    },
}

/// Existing names, at most [`Known::SHOWN`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Known {
    /// The first names.
    #[n(0)]
    pub names: Vec<String>,
    /// Number of further names.
    #[n(1)]
    pub more: u32,
}

impl Known {
    /// Most names that a refusal carries.
    pub const SHOWN: usize = 20;
}

impl<'a> FromIterator<&'a str> for Known {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Known {
        let mut known = Known::default();
        for name in names {
            if known.names.len() < Known::SHOWN {
                known.names.push(name.into());
            } else {
                known.more = known.more.saturating_add(1);
            }
        }
        known
    }
}

/// Purpose of a request to a brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// A query.
    #[n(0)]
    Query,
    /// [`super::Request::Crash`].
    #[n(1)]
    Crash,
    /// [`super::Request::Hang`].
    #[n(2)]
    Hang,
    /// [`super::Request::Capture`] of one interface.
    #[n(3)]
    Capture,
}

/// Reason for which the manager rejects a brane's report or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Unbelievable {
    /// Longer than a record may be.
    #[n(0)]
    TooLong,
    /// Not CBOR of the expected type.
    #[n(1)]
    Malformed,
    /// More interfaces, addresses or counters than any brane has.
    #[n(2)]
    TooMany,
    /// A name that is too long or not plain text.
    #[n(3)]
    Name,
    /// A prefix longer than its address.
    #[n(4)]
    Address,
    /// A rule that no packet filter can have.
    #[n(5)]
    Rule,
}

impl Unbelievable {
    /// Returns the code in words joined by `-`, for a log.
    pub const fn code(self) -> &'static str {
        match self {
            Unbelievable::TooLong => "too-long",
            Unbelievable::Malformed => "malformed",
            Unbelievable::TooMany => "too-many-entries",
            Unbelievable::Name => "impossible-name",
            Unbelievable::Address => "impossible-address",
            Unbelievable::Rule => "impossible-rule",
        }
    }
}

/// Reason for which a NIC driver refuses a call of the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum DriverRefusal {
    /// The system has no such NIC.
    #[n(0)]
    NoSuchNic,
    /// The driver has no vif with this number.
    #[n(1)]
    NoSuchVif,
    /// The number, the MAC address or the port is taken.
    #[n(2)]
    InUse,
    /// No station can have the MAC address.
    #[n(3)]
    BadMac,
    /// The brane has no such port.
    #[n(4)]
    NoSuchPort,
    /// A rate, a prefix or the number of prefixes is impossible.
    #[n(5)]
    BadLimits,
    /// The driver's table is full.
    #[n(6)]
    Full,
    /// The driver does not know the call.
    #[n(7)]
    UnknownCall,
}

impl DriverRefusal {
    /// Converts the label of a driver's reply ([`crate::vif`]).
    pub const fn from_label(label: u64) -> Result<(), DriverRefusal> {
        Err(match label {
            vif::OK => return Ok(()),
            vif::NO_SUCH_VIF => DriverRefusal::NoSuchVif,
            vif::IN_USE => DriverRefusal::InUse,
            vif::BAD_MAC => DriverRefusal::BadMac,
            vif::NO_SUCH_PORT => DriverRefusal::NoSuchPort,
            vif::BAD_LIMITS => DriverRefusal::BadLimits,
            vif::FULL => DriverRefusal::Full,
            _ => DriverRefusal::UnknownCall,
        })
    }
}
