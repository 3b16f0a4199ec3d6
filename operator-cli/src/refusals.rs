//! The words of every refusal: one text and one help for each code. The manager and the branes send codes with data and no words.
//!
//! A refusal of the manager is trusted, but its data may include text from a brane or an operator. A refusal of a brane is not
//! trusted. The code that prints the words makes them printable first ([`crate::table_layout::printable`]).

use crate::error::Error;
use alloc::format;
use alloc::string::String;
use brane_abi::capture::Link;
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
        Purpose::Capture => "captured",
    }
}

fn unbelievable(why: Unbelievable) -> &'static str {
    match why {
        Unbelievable::TooLong => "a report longer than 4096 bytes",
        Unbelievable::Malformed => "a report that is not well formed",
        Unbelievable::TooMany => "a report with more entries than any brane has",
        Unbelievable::Name => "a report with an impossible name",
        Unbelievable::Address => "a report with an impossible address",
        Unbelievable::Rule => "a report with an impossible rule",
    }
}

fn driver(why: DriverRefusal) -> &'static str {
    match why {
        DriverRefusal::NoSuchNic => "there is no such NIC",
        DriverRefusal::NoSuchVif => "no vif of that number",
        DriverRefusal::InUse => "number, MAC address or port is taken",
        DriverRefusal::BadMac => "not the MAC address of a station",
        DriverRefusal::NoSuchPort => "no such port",
        DriverRefusal::BadLimits => "a rate, a prefix or their number is not possible",
        DriverRefusal::Full => "its table is full",
        DriverRefusal::UnknownCall => "it does not know the request",
    }
}

fn error(code: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Error {
    Error::coded(code, what, fix)
}

impl Words for Refusal {
    fn words(&self) -> Error {
        match self {
            Refusal::UnreadableRequest => {
                error("unreadable-request", "the request is not readable", SAME_SOURCE)
            }
            Refusal::UnknownCall(label) => error(
                "unknown-call",
                format!("the manager has no call {label}"),
                SAME_SOURCE,
            ),
            Refusal::RequestTooLong(bytes) => error(
                "request-too-long",
                format!("request too long: {bytes} bytes, {MAX_REQUEST} allowed"),
                "name fewer addresses or prefixes; drop ports of a rule, or shorten its program",
            ),
            Refusal::AnswerTooLong(bytes) => error(
                "answer-too-long",
                format!("the answer has {bytes} bytes, {REPLY_SIZE} fit"),
                "ask for one thing by its name",
            ),
            Refusal::UnreadableReply => error(
                "unreadable-reply",
                "the manager's reply is not readable",
                SAME_SOURCE,
            ),
            Refusal::NoBootConfiguration(why) => error(
                "no-boot-configuration",
                format!("no brane is configured: the boot configuration cannot be used: {why}"),
                "build the image again with a valid one (`boot` in configs.toml)",
            ),
            Refusal::TooManyJobs => error(
                "too-many-jobs",
                format!("{JOBS} requests are under way already"),
                "wait for one of them",
            ),
            Refusal::NoSuchJob(job) => error(
                "no-such-job",
                format!("there is no job {job}"),
                "its answer was read already, or is too old; send the request again",
            ),
            Refusal::TakesLonger => error(
                "takes-longer",
                "it takes longer than 60 s and continues",
                "`branectl list` shows when it has ended",
            ),
            Refusal::BadBatch => error(
                "bad-batch",
                format!("a batch has 1 to {MAX_BATCH} requests, each a change, a ping or a host"),
                "send several smaller batches",
            ),
            Refusal::TooLongForBatch => error(
                "too-long-for-batch",
                "the answer is too long for a batch",
                "send the request alone",
            ),
            Refusal::NameTooLong(bytes) => error(
                "name-too-long",
                format!("name too long: {bytes} bytes, {MAX_NAME} allowed"),
                "choose a shorter one",
            ),
            Refusal::NotAName(name) => error(
                "not-a-name",
                format!("{name:?} is not a name"),
                "use a-z, 0-9, `-`, `_` and `.`, with a letter first",
            ),
            Refusal::NoSuchBrane(name, known) => error(
                "no-such-brane",
                format!("no brane named \"{name}\""),
                listed("branes", known),
            ),
            Refusal::NoSuchDevice(name, known) => error(
                "no-such-device",
                format!("no device named \"{name}\""),
                listed("devices", known),
            ),
            Refusal::NoSuchInterface { brane, name, known } => error(
                "no-such-interface",
                format!("brane \"{brane}\" has no interface named \"{name}\""),
                listed("interfaces", known),
            ),
            Refusal::NothingWithCounters(name) => error(
                "nothing-with-counters",
                format!("no brane, device or NIC named \"{name}\""),
                "`list` shows the branes, `nicctl list` the devices",
            ),
            Refusal::NoSuchNic { nic, nics } => error(
                "no-such-nic",
                format!("no NIC named \"nic{nic}\""),
                format!("this system has nic0 to nic{}", nics.saturating_sub(1)),
            ),
            Refusal::BraneNameTaken(name) => error(
                "brane-name-taken",
                format!("the name \"{name}\" is taken by a brane"),
                "choose another one",
            ),
            Refusal::DeviceNameTaken(name) => error(
                "device-name-taken",
                format!("the name \"{name}\" is taken by a device"),
                "choose another one, or delete that device first",
            ),
            Refusal::InterfaceNameTaken { brane, name } => error(
                "interface-name-taken",
                format!("brane \"{brane}\" has an interface \"{name}\" already"),
                "choose another name",
            ),
            Refusal::LoopbackName(name) => error(
                "loopback-name",
                format!("\"{name}\" is kept for the lo0 of a brane"),
                "choose a name other than `lo`, `loN` and `lo.N`",
            ),
            Refusal::LoopbackIsFixed => error(
                "loopback-is-fixed",
                "lo0 of a brane cannot be changed",
                "other interfaces can be changed",
            ),
            Refusal::BraneIsChanging { name, state } => error(
                "brane-is-changing",
                format!("brane \"{name}\" is being changed ({state})"),
                IN_A_MOMENT,
            ),
            Refusal::BraneIsNotStarted {
                name,
                state,
                purpose: to,
            } => error(
                "brane-is-not-started",
                format!("brane \"{name}\" is {state}, it cannot be {} now", purpose(*to)),
                "`branectl list` shows when it is started",
            ),
            Refusal::NoFreeInstance { name, instances } => error(
                "no-free-instance",
                format!("no free instance for \"{name}\": all {instances} are in use"),
                "delete a brane, or raise `instances` in configs.toml and build the image again",
            ),
            Refusal::PrimaryIsNeverDeleted(name) => error(
                "primary-is-never-deleted",
                format!("\"{name}\" is the primary brane, which is never deleted"),
                "clients start in it; `branectl shutdown` ends its connections",
            ),
            Refusal::FamilyTwice(family) => error(
                "family-twice",
                format!("family {} is named twice", family.name()),
                "name it once",
            ),
            Refusal::NotOfThisFamily(family, protocol) => error(
                "not-of-this-family",
                format!("family {} has no protocol {}", family.name(), protocol.name()),
                listed(
                    "protocols",
                    &family.protocols().iter().map(|p| p.name()).collect(),
                ),
            ),
            Refusal::ProtocolTwice(family, protocol) => error(
                "protocol-twice",
                format!("protocol {} of {} is named twice", protocol.name(), family.name()),
                "name it once",
            ),
            Refusal::NotCreated(why) => error(
                "not-created",
                format!("the brane could not be created: {why}"),
                "nothing of it is left",
            ),
            Refusal::NotStarted { name, why } => error(
                "not-started",
                format!("brane \"{name}\" is not started: it {why}"),
                "change the refused setting; then the manager starts it again",
            ),
            Refusal::RefusedByBrane(why) => error(
                "refused-by-brane",
                format!("the brane refuses it: {why}"),
                "nothing was changed",
            ),
            Refusal::BraneFailed => error(
                "brane-failed",
                "the brane failed before it answered",
                "the manager restarts it; try again then",
            ),
            Refusal::NoAnswerInTime => error(
                "no-answer-in-time",
                "no answer in time",
                "`branectl show BRANE` shows its state",
            ),
            Refusal::AnswerNotBelieved(why) => error(
                "answer-not-believed",
                format!("the brane's answer is not believed: {}", unbelievable(*why)),
                "ask again",
            ),
            Refusal::QueryTooLong => error("query-too-long", "the query is too long", "ask for less"),
            Refusal::TooManyQueries(brane) => error(
                "too-many-queries",
                format!("brane \"{brane}\" has too much to answer already"),
                IN_A_MOMENT,
            ),
            Refusal::DeviceIsChanging(name) => error(
                "device-is-changing",
                format!("device \"{name}\" is being changed"),
                IN_A_MOMENT,
            ),
            Refusal::DeviceIsGone => {
                error("device-is-gone", "the device was deleted meanwhile", SHOW_DEVICES)
            }
            Refusal::TooManyDevices(most) => error(
                "too-many-devices",
                format!("there are {most} devices already"),
                "delete a device that no brane needs",
            ),
            Refusal::KindCannotBeMade(kind) => error(
                "kind-cannot-be-made",
                format!("a device of kind `{}` cannot be made", kind.word()),
                "kinds to make are vnic, vlan and pair",
            ),
            Refusal::PairWithOneName(name) => error(
                "pair-with-one-name",
                format!("both ends of the pair are called \"{name}\""),
                "give the other end a name of its own",
            ),
            Refusal::NotAVlan(tag) => error(
                "not-a-vlan",
                format!("{tag} is no VLAN"),
                "VLANs are numbered 1 to 4094 (IEEE 802.1Q)",
            ),
            Refusal::NotAStation(mac) => error(
                "not-a-station",
                format!("{mac} is not the MAC address of a station"),
                "the lowest bit of its first byte must be 0, and the address must not be zero",
            ),
            Refusal::MacTaken(mac, device) => error(
                "mac-taken",
                format!("the MAC address {mac} is that of \"{device}\""),
                "choose another one, or leave it out for one from the pool",
            ),
            Refusal::MacPoolIsEmpty => error(
                "mac-pool-is-empty",
                "the pool of MAC addresses is used up",
                "give a MAC address that no device has",
            ),
            Refusal::TooManyPrefixes { count, most } => error(
                "too-many-prefixes",
                format!("{count} prefixes, the driver takes {most}"),
                "join some into shorter prefixes",
            ),
            Refusal::LimitsRefusedByDriver(device, why) => error(
                "limits-refused-by-driver",
                format!(
                    "the NIC driver refuses the limits of \"{device}\": {}",
                    driver(*why)
                ),
                "the limits did not change",
            ),
            Refusal::DeviceRefusedByDriver(device, why) => error(
                "device-refused-by-driver",
                format!("the NIC driver refuses \"{device}\": {}", driver(*why)),
                "nothing was changed; `nicctl list` shows the devices",
            ),
            Refusal::BindingRefusedByDriver(device, why) => error(
                "binding-refused-by-driver",
                format!("the NIC driver refuses `{device}`: {}", driver(*why)),
                "nothing was changed; `branectl audit` compares manager and driver",
            ),
            Refusal::HasNoOwner(device) => error(
                "has-no-owner",
                format!("no brane has \"{device}\""),
                "`nicctl list` shows the owner of each device",
            ),
            Refusal::OwnedAlready {
                device,
                brane,
                interface,
            } => error(
                "owned-already",
                format!("\"{device}\" is in brane \"{brane}\" already, as \"{interface}\""),
                "`branectl rename` gives it another name there, `branectl address` other addresses",
            ),
            Refusal::NoFreePort { brane, nic, ports } => error(
                "no-free-port",
                format!("brane \"{brane}\" has no free port at nic{nic}: {ports} are in use"),
                "remove one of its interfaces there first",
            ),
            Refusal::OwnedDeviceIsNotDeleted { device, brane } => error(
                "owned-device-is-not-deleted",
                format!("\"{device}\" is in brane \"{brane}\""),
                format!("`branectl remove {device}` takes it from there"),
            ),
            Refusal::LoopbackStays { device, brane } => error(
                "loopback-stays",
                format!("\"{device}\" is the loopback device of brane \"{brane}\""),
                "loopback devices cannot be changed; other devices can",
            ),
            Refusal::NicIsNotDeleted(device) => error(
                "nic-is-not-deleted",
                format!("\"{device}\" is the NIC itself"),
                "it exists as long as the machine has the NIC",
            ),
            Refusal::NicIsNotRenamed(device) => error(
                "nic-is-not-renamed",
                format!("\"{device}\" is the NIC itself, and its name is fixed"),
                "give the interface another name instead",
            ),
            Refusal::TooManyAddresses { count, most } => error(
                "too-many-addresses",
                format!("{count} addresses, an interface takes {most}"),
                "drop some",
            ),
            Refusal::ImpossiblePrefix(cidr) => error(
                "impossible-prefix",
                format!("{} has no prefix of {} bits", cidr.ip, cidr.prefix),
                "IPv4 addresses have 0 to 32, IPv6 addresses 0 to 128",
            ),
            Refusal::NoSuchSubscriber(name, known) => error(
                "no-such-subscriber",
                format!("no subscriber named \"{name}\""),
                listed("subscribers", known),
            ),
            Refusal::NotQuarantined(name) => error(
                "not-quarantined",
                format!("{name} is not quarantined"),
                "it needs no readmission; `branectl subscribers` shows those that do",
            ),
            Refusal::NoSuchLog(name, known) => error(
                "no-such-log",
                format!("no brane or protection domain with a log named \"{name}\""),
                listed("protection domains", known),
            ),
            Refusal::LogLevelRefused(domain) => error(
                "log-level-refused",
                format!("serial does not know the log of {domain}"),
                "serial and manager are of different builds: build the image again",
            ),
            Refusal::TooManyRules { rules, most } => error(
                "too-many-rules",
                format!("{rules} rules, a filter takes {most}"),
                "delete a rule, or join some into one",
            ),
            Refusal::FilterTooLong { bytes, most } => error(
                "filter-too-long",
                format!("the rules of the filter have {bytes} bytes, {most} fit"),
                "delete a rule, or drop ports and programs of some",
            ),
            Refusal::NoSuchRule {
                brane,
                number,
                rules: 0,
            } => error(
                "no-such-rule",
                format!("the filter of brane \"{brane}\" has no rule {number}"),
                "it has no rules; a rule that is added gets number 1",
            ),
            Refusal::NoSuchRule { brane, number, rules } => error(
                "no-such-rule",
                format!("the filter of brane \"{brane}\" has no rule {number}"),
                format!("its last rule is {rules}; `branectl filter {brane} list` shows the rules"),
            ),
            Refusal::BadRule { number, why } => error(
                "bad-rule",
                format!("rule {number} is not possible: {why}"),
                "nothing was changed",
            ),
            Refusal::NothingStaged(brane) => error(
                "nothing-staged",
                format!("no rules were collected for brane \"{brane}\""),
                "send the replacement again from its beginning",
            ),
            Refusal::TooManyCaptures(most) => error(
                "too-many-captures",
                format!("{most} captures are under way, more are not possible"),
                "end one first; `branectl events` shows who has begun them",
            ),
            Refusal::CaptureTagTaken(tag) => error(
                "capture-tag-taken",
                format!("there is a capture {tag}"),
                "try again",
            ),
            Refusal::NoSuchCapture(tag) => error(
                "no-such-capture",
                format!("you have no capture {tag}"),
                "it has ended already",
            ),
            Refusal::ImpossibleSnaplen { snaplen, most } => error(
                "impossible-snaplen",
                format!("a capture cannot keep {snaplen} bytes of each frame"),
                format!("keep 1 to {most} bytes"),
            ),
            Refusal::NoProgramStaged => error(
                "no-program-staged",
                "no program was collected for the capture",
                "send the program again from its beginning",
            ),
            Refusal::ProgramTooLong { instructions, most } => error(
                "program-too-long",
                format!("the program has {instructions} instructions, {most} fit"),
                "write a shorter expression",
            ),
            Refusal::BadProgram { link, index, why } => error(
                "bad-program",
                match link {
                    Link::Ethernet => format!("the program for Ethernet frames: instruction {index}: {why}"),
                    Link::Raw => format!("the program for lo0: instruction {index}: {why}"),
                },
                "compile the expression again",
            ),
            Refusal::CaptureTooLong { bytes, most } => error(
                "capture-too-long",
                format!("the capture with its programs has {bytes} bytes, {most} fit"),
                "write a shorter expression",
            ),
        }
    }
}

impl Words for query::Refusal {
    fn words(&self) -> Error {
        match self {
            query::Refusal::NoSuchInterface(name) => error(
                "query-no-such-interface",
                format!("no interface named \"{name}\""),
                "`ifconfig` shows the interfaces of the brane",
            ),
            query::Refusal::InterfaceIsGone => error(
                "query-interface-is-gone",
                "the interface is gone",
                "`ifconfig` shows the interfaces of the brane",
            ),
            query::Refusal::InterfaceIsDown => error(
                "query-interface-is-down",
                "the interface is down",
                "`ifconfig` shows when it is up",
            ),
            query::Refusal::TooManyQueries(count) => error(
                "query-too-many",
                format!("too many at once: {count} are under way"),
                IN_A_MOMENT,
            ),
            query::Refusal::NoSuchProtocol(protocol) => error(
                "query-no-such-protocol",
                format!("the brane has no {}", protocol.name()),
                "`netstat -s` shows the protocols of the brane",
            ),
            query::Refusal::NoRoute(to) => error(
                "query-no-route",
                format!("no route to {to}"),
                "`route` shows the routes",
            ),
            query::Refusal::TooMuchData { size, most } => error(
                "query-too-much-data",
                format!("size too large: {size} bytes, {most} allowed"),
                "send less",
            ),
            query::Refusal::CannotSend(to) => error(
                "query-cannot-send",
                format!("{to} cannot be asked"),
                "name another host",
            ),
            query::Refusal::NoReply(from) => error(
                "query-no-reply",
                format!("no answer from {from}"),
                "the host is down, or does not answer echo requests",
            ),
            query::Refusal::NoNameServer => error(
                "query-no-name-server",
                "no name server is known",
                "name one: host NAME SERVER",
            ),
            query::Refusal::NotAHostName(name) => error(
                "query-not-a-host-name",
                format!("{name:?} is not a host name"),
                "write it as in www.example.org",
            ),
            query::Refusal::NoSuchHost(name) => error(
                "query-no-such-host",
                format!("no such host: {name}"),
                "the name server has no address for the name",
            ),
            query::Refusal::NoAnswerAbout(name) => error(
                "query-no-answer-about",
                format!("no answer about {name} in time"),
                "try again, or name another name server",
            ),
            query::Refusal::OperatorsOnly => error(
                "query-operators-only",
                "only an operator may ask this",
                "ask at the console or with branectl",
            ),
            query::Refusal::NoSuchCapture(tag) => error(
                "query-no-such-capture",
                format!("the brane has no capture {tag} for queries"),
                "begin it first",
            ),
            query::Refusal::NoAnswer => error(
                "query-no-answer",
                "the answer of the brane does not fit the query",
                "`branectl show BRANE` shows its state",
            ),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        refusal.words()
    }
}
