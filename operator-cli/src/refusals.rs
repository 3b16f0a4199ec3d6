//! The words of every refusal: one text and one help for each code. The manager and the branes send codes with data and no words.
//!
//! A refusal of the manager is trusted, but its data may include text from a brane or an operator. A refusal of a brane is not
//! trusted. The code that prints the words makes them printable first ([`crate::table_layout::printable`]).

use crate::error::Error;
use alloc::format;
use alloc::string::String;
use brane_abi::operator::{
    DriverRefusal, JOBS, Known, MAX_BATCH, MAX_NAME, MAX_REQUEST, Purpose, REPLY_SIZE, Refusal, Unbelievable,
};
use brane_abi::query;

mod examples;

pub use examples::{examples, query_examples};

/// A refusal that has words.
pub trait Words {
    /// Returns the code, the text and the help.
    fn words(&self) -> Error;
}

const SAME_SOURCE: &str = "operator and manager are of different versions: build both from the same source";
const IN_A_MOMENT: &str = "try again in a moment";
const SHOW_DEVICES: &str = "see `nicctl list`";

fn listed(what: &str, known: &Known) -> String {
    let names = known.names.join(", ");
    match (names.is_empty(), known.more) {
        (true, _) => format!("there are no {what}"),
        (false, 0) => format!("the {what} are {names}"),
        (false, more) => format!("the {what} are {names} and {more} more"),
    }
}

fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Query => "asked",
        Purpose::Crash => "made to fault",
        Purpose::Hang => "made to hang",
    }
}

fn unbelievable(why: Unbelievable) -> &'static str {
    match why {
        Unbelievable::TooLong => "a report longer than 4096 bytes",
        Unbelievable::Malformed => "a report that is not well formed",
        Unbelievable::TooMany => "a report with more entries than any brane has",
        Unbelievable::Name => "a report with an impossible name",
        Unbelievable::Address => "a report with an impossible address",
    }
}

fn driver(why: DriverRefusal) -> &'static str {
    match why {
        DriverRefusal::NoSuchNic => "there is no such NIC",
        DriverRefusal::NoSuchVif => "no vif of that number",
        DriverRefusal::InUse => "number, MAC address or port is taken",
        DriverRefusal::BadMac => "not the MAC address of a station",
        DriverRefusal::NoSuchPort => "no such port",
        DriverRefusal::BadLimits => "a rate, a prefix or their number cannot be",
        DriverRefusal::Full => "its table is full",
        DriverRefusal::UnknownCall => "it does not know the request",
    }
}

fn say(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Error {
    Error::coded(code, what, fix)
}

impl Words for Refusal {
    fn words(&self) -> Error {
        match self {
            Refusal::UnreadableRequest => {
                say("unreadable-request", "the request is not readable", SAME_SOURCE)
            }
            Refusal::UnknownCall(label) => say(
                "unknown-call",
                format!("the manager has no call {label}"),
                SAME_SOURCE,
            ),
            Refusal::RequestTooLong(bytes) => say(
                "request-too-long",
                format!("request too long: {bytes} bytes, {MAX_REQUEST} allowed"),
                "name fewer addresses or prefixes",
            ),
            Refusal::AnswerTooLong(bytes) => say(
                "answer-too-long",
                format!("the answer has {bytes} bytes, {REPLY_SIZE} fit"),
                "ask for one thing by its name",
            ),
            Refusal::UnreadableReply => say(
                "unreadable-reply",
                "the manager's reply is not readable",
                SAME_SOURCE,
            ),
            Refusal::NoBootConfiguration(why) => say(
                "no-boot-configuration",
                format!("no brane is configured: the boot configuration cannot be used: {why}"),
                "build the image anew with a good one (`boot` in configs.toml)",
            ),
            Refusal::TooManyJobs => say(
                "too-many-jobs",
                format!("{JOBS} requests are under way already"),
                "wait for one of them",
            ),
            Refusal::NoSuchJob(job) => say(
                "no-such-job",
                format!("there is no job {job}"),
                "its answer was fetched already, or is too old; ask again",
            ),
            Refusal::TakesLonger => say(
                "takes-longer",
                "it takes longer than 60 s and goes on",
                "`branectl list` tells when it is there",
            ),
            Refusal::BadBatch => say(
                "bad-batch",
                format!("a batch has 1 to {MAX_BATCH} requests, each a change, a ping or a host"),
                "make several of it",
            ),
            Refusal::TooLongForBatch => say(
                "too-long-for-batch",
                "the answer is too long for a batch",
                "ask for it alone",
            ),
            Refusal::NameTooLong(bytes) => say(
                "name-too-long",
                format!("name too long: {bytes} bytes, {MAX_NAME} allowed"),
                "choose a shorter one",
            ),
            Refusal::NotAName(name) => say(
                "not-a-name",
                format!("{name:?} is not a name"),
                "use a-z, 0-9, `-`, `_` and `.`, with a letter first",
            ),
            Refusal::NoSuchBrane(name, known) => say(
                "no-such-brane",
                format!("no brane named \"{name}\""),
                listed("branes", known),
            ),
            Refusal::NoSuchDevice(name, known) => say(
                "no-such-device",
                format!("no device named \"{name}\""),
                listed("devices", known),
            ),
            Refusal::NoSuchInterface { brane, name, known } => say(
                "no-such-interface",
                format!("brane \"{brane}\" has no interface named \"{name}\""),
                listed("interfaces", known),
            ),
            Refusal::NothingWithCounters(name) => say(
                "nothing-with-counters",
                format!("no brane, device or NIC named \"{name}\""),
                "`list` shows the branes, `nicctl list` the devices",
            ),
            Refusal::NoSuchNic { nic, nics } => say(
                "no-such-nic",
                format!("no NIC named \"nic{nic}\""),
                format!("this system has nic0 to nic{}", nics.saturating_sub(1)),
            ),
            Refusal::BraneNameTaken(name) => say(
                "brane-name-taken",
                format!("the name \"{name}\" is taken by a brane"),
                "choose another one",
            ),
            Refusal::DeviceNameTaken(name) => say(
                "device-name-taken",
                format!("the name \"{name}\" is taken by a device"),
                "choose another one, or delete that device first",
            ),
            Refusal::InterfaceNameTaken { brane, name } => say(
                "interface-name-taken",
                format!("brane \"{brane}\" has an interface \"{name}\" already"),
                "choose another name",
            ),
            Refusal::LoopbackName(name) => say(
                "loopback-name",
                format!("\"{name}\" is kept for the lo0 of a brane"),
                "choose a name other than `lo`, `loN` and `lo.N`",
            ),
            Refusal::LoopbackIsFixed => say(
                "loopback-is-fixed",
                "lo0 is part of every brane as it is",
                "other interfaces can be changed",
            ),
            Refusal::BraneIsChanging { name, state } => say(
                "brane-is-changing",
                format!("brane \"{name}\" is being changed ({state})"),
                IN_A_MOMENT,
            ),
            Refusal::BraneIsNotStarted {
                name,
                state,
                purpose: to,
            } => say(
                "brane-is-not-started",
                format!("brane \"{name}\" is {state}, it cannot be {} now", purpose(*to)),
                "`list` shows when it is started",
            ),
            Refusal::NoFreeInstance { name, instances } => say(
                "no-free-instance",
                format!("no free instance for \"{name}\": all {instances} are in use"),
                "delete a brane, or raise `instances` in configs.toml and build the image anew",
            ),
            Refusal::PrimaryIsNeverDeleted(name) => say(
                "primary-is-never-deleted",
                format!("\"{name}\" is the primary brane, which is never deleted"),
                "clients begin in it; `branectl shutdown` ends what it carries",
            ),
            Refusal::FamilyTwice(family) => say(
                "family-twice",
                format!("family {} is named twice", family.name()),
                "name it once",
            ),
            Refusal::NotOfThisFamily(family, protocol) => say(
                "not-of-this-family",
                format!("family {} has no protocol {}", family.name(), protocol.name()),
                listed(
                    "protocols",
                    &family.protocols().iter().map(|p| p.name()).collect(),
                ),
            ),
            Refusal::ProtocolTwice(family, protocol) => say(
                "protocol-twice",
                format!("protocol {} of {} is named twice", protocol.name(), family.name()),
                "name it once",
            ),
            Refusal::NotCreated(why) => say(
                "not-created",
                format!("the brane could not be created: {why}"),
                "nothing of it is left",
            ),
            Refusal::NotStarted { name, why } => say(
                "not-started",
                format!("brane \"{name}\" is not started: it {why}"),
                "change what it refuses; it is tried again then",
            ),
            Refusal::RefusedByBrane(why) => say(
                "refused-by-brane",
                format!("the brane refuses it: {why}"),
                "nothing was changed",
            ),
            Refusal::BraneFailed => say(
                "brane-failed",
                "the brane failed before it answered",
                "it is started anew; ask again then",
            ),
            Refusal::NoAnswerInTime => say(
                "no-answer-in-time",
                "no answer in time",
                "`show` of the brane tells how it is",
            ),
            Refusal::AnswerNotBelieved(why) => say(
                "answer-not-believed",
                format!("the brane's answer is not believed: {}", unbelievable(*why)),
                "ask again",
            ),
            Refusal::QueryTooLong => say("query-too-long", "the question is too long", "ask for less"),
            Refusal::TooManyQueries(brane) => say(
                "too-many-queries",
                format!("brane \"{brane}\" has too much to answer already"),
                IN_A_MOMENT,
            ),
            Refusal::DeviceIsChanging(name) => say(
                "device-is-changing",
                format!("device \"{name}\" is being changed"),
                IN_A_MOMENT,
            ),
            Refusal::DeviceIsGone => say("device-is-gone", "the device is gone meanwhile", SHOW_DEVICES),
            Refusal::TooManyDevices(most) => say(
                "too-many-devices",
                format!("there are {most} devices already"),
                "delete a device that no brane needs",
            ),
            Refusal::KindCannotBeMade(kind) => say(
                "kind-cannot-be-made",
                format!("a device of kind `{}` cannot be made", kind.word()),
                "kinds to make are vnic, vlan and pair",
            ),
            Refusal::PairWithOneName(name) => say(
                "pair-with-one-name",
                format!("both ends of the pair are called \"{name}\""),
                "give the other end a name of its own",
            ),
            Refusal::NotAVlan(tag) => say(
                "not-a-vlan",
                format!("{tag} is no VLAN"),
                "VLANs are numbered 1 to 4094 (IEEE 802.1Q)",
            ),
            Refusal::NotAStation(mac) => say(
                "not-a-station",
                format!("{mac} is not the MAC address of a station"),
                "the lowest bit of its first byte must be 0, and not all of it",
            ),
            Refusal::MacTaken(mac, device) => say(
                "mac-taken",
                format!("the MAC address {mac} is that of \"{device}\""),
                "choose another one, or leave it out for one from the pool",
            ),
            Refusal::MacPoolIsEmpty => say(
                "mac-pool-is-empty",
                "the pool of MAC addresses is used up",
                "give a MAC address that no device has",
            ),
            Refusal::TooManyPrefixes { count, most } => say(
                "too-many-prefixes",
                format!("{count} prefixes, the driver takes {most}"),
                "join some into shorter prefixes",
            ),
            Refusal::LimitsRefusedByDriver(device, why) => say(
                "limits-refused-by-driver",
                format!(
                    "the NIC driver refuses the limits of \"{device}\": {}",
                    driver(*why)
                ),
                "they are as before",
            ),
            Refusal::DeviceRefusedByDriver(device, why) => say(
                "device-refused-by-driver",
                format!("the NIC driver refuses \"{device}\": {}", driver(*why)),
                "nothing was changed; see `nicctl list` for what there is",
            ),
            Refusal::BindingRefusedByDriver(device, why) => say(
                "binding-refused-by-driver",
                format!("the NIC driver refuses `{device}`: {}", driver(*why)),
                "nothing was changed; `branectl audit` compares manager and driver",
            ),
            Refusal::HasNoOwner(device) => say(
                "has-no-owner",
                format!("no brane has \"{device}\""),
                "`nicctl list` shows who has what",
            ),
            Refusal::OwnedAlready {
                device,
                brane,
                interface,
            } => say(
                "owned-already",
                format!("\"{device}\" is in brane \"{brane}\" already, as \"{interface}\""),
                "`branectl rename` gives it another name there, `branectl address` other addresses",
            ),
            Refusal::NoFreePort { brane, nic, ports } => say(
                "no-free-port",
                format!("brane \"{brane}\" has no free port at nic{nic}: {ports} are in use"),
                "remove one of its interfaces there first",
            ),
            Refusal::OwnedDeviceIsNotDeleted { device, brane } => say(
                "owned-device-is-not-deleted",
                format!("\"{device}\" is in brane \"{brane}\""),
                format!("`branectl remove {device}` takes it from there"),
            ),
            Refusal::LoopbackStays { device, brane } => say(
                "loopback-stays",
                format!("\"{device}\" is the loopback device of brane \"{brane}\""),
                "it stays as it is, with its brane; other devices can be changed",
            ),
            Refusal::NicIsNotDeleted(device) => say(
                "nic-is-not-deleted",
                format!("\"{device}\" is the NIC itself"),
                "it is there as long as the machine has it",
            ),
            Refusal::NicIsNotRenamed(device) => say(
                "nic-is-not-renamed",
                format!("\"{device}\" is the NIC itself, whose name is fixed"),
                "give the interface another name instead",
            ),
            Refusal::TooManyAddresses { count, most } => say(
                "too-many-addresses",
                format!("{count} addresses, an interface takes {most}"),
                "drop some",
            ),
            Refusal::ImpossiblePrefix(cidr) => say(
                "impossible-prefix",
                format!("{} has no prefix of {} bits", cidr.ip, cidr.prefix),
                "IPv4 addresses have 0 to 32, IPv6 addresses 0 to 128",
            ),
            Refusal::NoSuchSubscriber(name, known) => say(
                "no-such-subscriber",
                format!("no subscriber named \"{name}\""),
                listed("subscribers", known),
            ),
            Refusal::NotQuarantined(name) => say(
                "not-quarantined",
                format!("{name} is not quarantined"),
                "it needs no readmission; `branectl subscribers` shows those that do",
            ),
            Refusal::NoSuchLog(name, known) => say(
                "no-such-log",
                format!("no brane or protection domain with a log named \"{name}\""),
                listed("protection domains", known),
            ),
            Refusal::LogLevelRefused(domain) => say(
                "log-level-refused",
                format!("serial does not know the log of {domain}"),
                "serial and manager are of different builds: build the image anew",
            ),
        }
    }
}

impl Words for query::Refusal {
    fn words(&self) -> Error {
        match self {
            query::Refusal::NoSuchInterface(name) => say(
                "query-no-such-interface",
                format!("no interface named \"{name}\""),
                "`ifconfig` shows the interfaces of the brane",
            ),
            query::Refusal::InterfaceIsGone => say(
                "query-interface-is-gone",
                "the interface is gone",
                "`ifconfig` shows the interfaces of the brane",
            ),
            query::Refusal::InterfaceIsDown => say(
                "query-interface-is-down",
                "the interface is down",
                "`ifconfig` shows when it is up",
            ),
            query::Refusal::TooManyQueries(count) => say(
                "query-too-many",
                format!("too many at once: {count} are under way"),
                IN_A_MOMENT,
            ),
            query::Refusal::NoSuchProtocol(protocol) => say(
                "query-no-such-protocol",
                format!("{} does not run here", protocol.name()),
                "`netstat -s` shows the protocols of the brane",
            ),
            query::Refusal::NoRoute(to) => say(
                "query-no-route",
                format!("no route to {to}"),
                "`route` shows the routes",
            ),
            query::Refusal::TooMuchData { size, most } => say(
                "query-too-much-data",
                format!("size too large: {size} bytes, {most} allowed"),
                "send less",
            ),
            query::Refusal::CannotSend(to) => say(
                "query-cannot-send",
                format!("{to} cannot be asked"),
                "name another host",
            ),
            query::Refusal::NoReply(from) => say(
                "query-no-reply",
                format!("no answer from {from}"),
                "the host is down, or does not answer echo requests",
            ),
            query::Refusal::NoNameServer => say(
                "query-no-name-server",
                "no name server is known",
                "name one: host NAME SERVER",
            ),
            query::Refusal::NotAHostName(name) => say(
                "query-not-a-host-name",
                format!("{name:?} cannot be a host's name"),
                "write it as in www.example.org",
            ),
            query::Refusal::NoSuchHost(name) => say(
                "query-no-such-host",
                format!("no such host: {name}"),
                "the name server knows no address for the name",
            ),
            query::Refusal::NoAnswerAbout(name) => say(
                "query-no-answer-about",
                format!("no answer about {name} in time"),
                "try again, or name another name server",
            ),
            query::Refusal::NoAnswer => say(
                "query-no-answer",
                "the brane answered with something else",
                "`show` of the brane tells how it is",
            ),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        refusal.words()
    }
}
