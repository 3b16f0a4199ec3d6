//! The words of every refusal: one text and one help for each code. The manager and the branes send codes with data and no words.
//!
//! A refusal of the manager is trusted, but its data may repeat what a brane or an operator has said. A refusal of a brane is not
//! trusted. Whoever shows the words passes them through [`crate::table_layout::printable`].

use crate::error::Error;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{Family, Protocol};
use brane_abi::operator::{
    DriverRefusal, JOBS, Kind, Known, MAX_BATCH, MAX_NAME, MAX_REQUEST, Purpose, REPLY_SIZE, Refusal,
    Unbelievable,
};
use brane_abi::query;

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
                "choose a name that does not begin with `lo.`",
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
                "delete one that nobody needs",
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
                "name one that nobody has",
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
            Refusal::OwnedDeviceIsNotRenamed { device, brane } => say(
                "owned-device-is-not-renamed",
                format!("\"{device}\" is in brane \"{brane}\""),
                format!("`branectl remove {device}` first; its name inside can be changed at any time"),
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

/// Returns a refusal of the manager for each code, for the documents and the tests.
pub fn examples() -> Vec<Refusal> {
    let text = |text: &str| text.to_string();
    let known: Known = ["main", "red"].into_iter().collect();
    let mac = brane_abi::net::MacAddr([2, 0x77, 0, 0, 0, 0x10]);
    let (brane, device, name) = (text("red"), text("vnic1"), text("green"));
    let state = text("starting");
    let why = text("refused its configuration: no port 1");
    [
        Refusal::UnreadableRequest,
        Refusal::UnknownCall(99),
        Refusal::RequestTooLong(800),
        Refusal::AnswerTooLong(70_000),
        Refusal::UnreadableReply,
        Refusal::NoBootConfiguration(text("it is damaged (its checksum does not match)")),
        Refusal::TooManyJobs,
        Refusal::NoSuchJob(7),
        Refusal::TakesLonger,
        Refusal::BadBatch,
        Refusal::TooLongForBatch,
        Refusal::NameTooLong(34),
        Refusal::NotAName(text("Red")),
        Refusal::NoSuchBrane(text("rde"), known.clone()),
        Refusal::NoSuchDevice(text("vnic9"), known.clone()),
        Refusal::NoSuchInterface {
            brane: brane.clone(),
            name: text("net9"),
            known: known.clone(),
        },
        Refusal::NothingWithCounters(text("nic9")),
        Refusal::NoSuchNic { nic: 4, nics: 2 },
        Refusal::BraneNameTaken(brane.clone()),
        Refusal::DeviceNameTaken(device.clone()),
        Refusal::InterfaceNameTaken {
            brane: brane.clone(),
            name: text("net0"),
        },
        Refusal::LoopbackName(text("lo.7")),
        Refusal::LoopbackIsFixed,
        Refusal::BraneIsChanging {
            name: brane.clone(),
            state: state.clone(),
        },
        Refusal::BraneIsNotStarted {
            name: brane.clone(),
            state,
            purpose: Purpose::Query,
        },
        Refusal::NoFreeInstance { name, instances: 4 },
        Refusal::PrimaryIsNeverDeleted(text("main")),
        Refusal::FamilyTwice(Family::Inet),
        Refusal::NotOfThisFamily(Family::Inet, Protocol::Icmp6),
        Refusal::ProtocolTwice(Family::Inet, Protocol::Udp),
        Refusal::NotCreated(why.clone()),
        Refusal::NotStarted {
            name: brane.clone(),
            why,
        },
        Refusal::RefusedByBrane(text("no port 1")),
        Refusal::BraneFailed,
        Refusal::NoAnswerInTime,
        Refusal::AnswerNotBelieved(Unbelievable::Name),
        Refusal::QueryTooLong,
        Refusal::TooManyQueries(brane.clone()),
        Refusal::DeviceIsChanging(device.clone()),
        Refusal::DeviceIsGone,
        Refusal::TooManyDevices(128),
        Refusal::KindCannotBeMade(Kind::Phys),
        Refusal::PairWithOneName(text("left")),
        Refusal::NotAVlan(4095),
        Refusal::NotAStation(brane_abi::net::MacAddr::BROADCAST),
        Refusal::MacTaken(mac, device.clone()),
        Refusal::MacPoolIsEmpty,
        Refusal::TooManyPrefixes { count: 9, most: 8 },
        Refusal::LimitsRefusedByDriver(device.clone(), DriverRefusal::BadLimits),
        Refusal::DeviceRefusedByDriver(device.clone(), DriverRefusal::Full),
        Refusal::BindingRefusedByDriver(device.clone(), DriverRefusal::InUse),
        Refusal::HasNoOwner(device.clone()),
        Refusal::OwnedAlready {
            device: device.clone(),
            brane: brane.clone(),
            interface: text("net0"),
        },
        Refusal::NoFreePort {
            brane: brane.clone(),
            nic: 0,
            ports: 2,
        },
        Refusal::OwnedDeviceIsNotDeleted {
            device: device.clone(),
            brane: brane.clone(),
        },
        Refusal::OwnedDeviceIsNotRenamed { device, brane },
        Refusal::NicIsNotDeleted(text("nic0")),
        Refusal::NicIsNotRenamed(text("nic0")),
        Refusal::TooManyAddresses { count: 5, most: 4 },
        Refusal::ImpossiblePrefix(brane_abi::net::Cidr {
            ip: [10, 0, 0, 1].into(),
            prefix: 33,
        }),
        Refusal::NoSuchLog(text("nic9"), known),
        Refusal::LogLevelRefused(text("nic0")),
    ]
    .into()
}

/// Returns a refusal of a brane for each code, for the documents and the tests.
pub fn query_examples() -> Vec<query::Refusal> {
    let host = || String::from("www.example.org");
    let to = core::net::IpAddr::from([10, 0, 2, 99]);
    [
        query::Refusal::NoSuchInterface("net9".into()),
        query::Refusal::InterfaceIsGone,
        query::Refusal::InterfaceIsDown,
        query::Refusal::TooManyQueries(16),
        query::Refusal::NoSuchProtocol(Protocol::Udp),
        query::Refusal::NoRoute(to),
        query::Refusal::TooMuchData {
            size: 1401,
            most: 1400,
        },
        query::Refusal::CannotSend(to),
        query::Refusal::NoReply(to),
        query::Refusal::NoNameServer,
        query::Refusal::NotAHostName("www..org".into()),
        query::Refusal::NoSuchHost(host()),
        query::Refusal::NoAnswerAbout(host()),
        query::Refusal::NoAnswer,
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    /// Returns the indices of the variants that the decoder of an enum knows.
    fn variants<'b, T: minicbor::Decode<'b, ()>>(texts: &'b [[u8; 4]]) -> BTreeSet<u64> {
        let unknown = |e: &minicbor::decode::Error| e.is_unknown_variant();
        let all = texts.iter().zip(0..);
        all.filter(|(text, _)| !minicbor::decode::<T>(&text[..]).as_ref().is_err_and(unknown))
            .map(|(_, n)| n)
            .collect()
    }

    fn index<T: minicbor::Encode<()>>(value: &T) -> u64 {
        let text = minicbor::to_vec(value).unwrap();
        let mut decoder = minicbor::Decoder::new(&text);
        assert_eq!(decoder.array().unwrap(), Some(2));
        decoder.u64().unwrap()
    }

    #[test]
    fn every_code_has_an_example_and_words_of_its_own() {
        // An enum is an array of the variant's index and of its fields; here none.
        let texts: Vec<[u8; 4]> = (0..=255).map(|n| [0x82, 0x18, n, 0x80]).collect();
        let examples: BTreeSet<u64> = examples().iter().map(index).collect();
        assert_eq!(variants::<Refusal>(&texts), examples);
        let queries: BTreeSet<u64> = query_examples().iter().map(index).collect();
        assert_eq!(variants::<query::Refusal>(&texts), queries);
        let all: Vec<Error> = self::examples()
            .iter()
            .map(Words::words)
            .chain(query_examples().iter().map(Words::words))
            .collect();
        let codes: BTreeSet<&str> = all.iter().map(|e| e.code).collect();
        assert_eq!(codes.len(), all.len(), "a code is used twice");
        for e in &all {
            let kebab = e
                .code
                .split('-')
                .all(|w| !w.is_empty() && w.bytes().all(|c| c.is_ascii_lowercase()));
            assert!(kebab, "{}", e.code);
            assert!(!e.what.is_empty() && !e.fix.is_empty(), "{e:?}");
        }
    }

    #[test]
    fn a_long_list_of_names_ends_with_their_number() {
        let names: Vec<String> = (0..25).map(|n| format!("b{n}")).collect();
        let known: Known = names.iter().map(String::as_str).collect();
        let error = Refusal::NoSuchBrane("x".into(), known).words();
        assert!(
            error.fix.starts_with("the branes are b0, b1, ") && error.fix.ends_with("b19 and 5 more"),
            "{error}"
        );
        let error = Refusal::NoSuchBrane("x".into(), Known::default()).words();
        assert_eq!(error.fix, "there are no branes");
    }
}
