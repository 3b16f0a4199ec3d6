//! One refusal for each code, for the documents and the tests. It owns no state and has no peer.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{Family, Protocol};
use brane_abi::operator::{DriverRefusal, Kind, Known, Purpose, Refusal, Unbelievable};
use brane_abi::query;

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
        Refusal::LoopbackStays { device, brane },
        Refusal::NicIsNotDeleted(text("nic0")),
        Refusal::NicIsNotRenamed(text("nic0")),
        Refusal::TooManyAddresses { count: 5, most: 4 },
        Refusal::ImpossiblePrefix(brane_abi::net::Cidr {
            ip: [10, 0, 0, 1].into(),
            prefix: 33,
        }),
        Refusal::NoSuchSubscriber(text("subscriber-9"), known.clone()),
        Refusal::NotQuarantined(text("subscriber-1")),
        Refusal::NoSuchLog(text("nic9"), known),
        Refusal::LogLevelRefused(text("nic0")),
        Refusal::TooManyRules { rules: 65, most: 64 },
        Refusal::FilterTooLong {
            bytes: 6200,
            most: 6144,
        },
        Refusal::NoSuchRule {
            brane: text("red"),
            number: 9,
            rules: 3,
        },
        Refusal::BadRule {
            number: 4,
            why: text("ports need tcp or udp"),
        },
        Refusal::NothingStaged(text("red")),
        Refusal::TooManyCaptures(2),
        Refusal::CaptureTagTaken(7),
        Refusal::NoSuchCapture(7),
        Refusal::ImpossibleSnaplen {
            snaplen: 1000,
            most: 128,
        },
        Refusal::NoProgramStaged,
        Refusal::ProgramTooLong {
            instructions: 600,
            most: 512,
        },
        Refusal::BadProgram {
            link: brane_abi::capture::Link::Raw,
            index: 3,
            why: text("division by 0"),
        },
        Refusal::CaptureTooLong {
            bytes: 3000,
            most: 2560,
        },
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
        query::Refusal::OperatorsOnly,
        query::Refusal::NoSuchCapture(7),
        query::Refusal::NoAnswer,
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::refusals::Words;
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
