//! Every refusal that an operator can get: one constructor for each reason.
//!
//! A refusal is a code with data; the operator's end forms the words. Operators are not trusted. So each text of theirs
//! that is repeated here passes [`printable`], except for names that were checked before.

use crate::filter::BadFilter;
use crate::text::printable;
use alloc::string::ToString;
use brane_abi::capture::Link;
use brane_abi::control::{Family, Protocol};
use brane_abi::filter::{MAX_FILTER, MAX_RULES};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{DriverRefusal, Kind, Purpose, Refusal, Unbelievable};

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn unreadable_request() -> Refusal {
    Refusal::UnreadableRequest
}

pub(crate) fn unknown_call(label: u64) -> Refusal {
    Refusal::UnknownCall(label)
}

pub(crate) fn answer_too_long(bytes: usize) -> Refusal {
    Refusal::AnswerTooLong(number(bytes))
}

pub(crate) fn no_boot_configuration(why: &str) -> Refusal {
    Refusal::NoBootConfiguration(why.into())
}

pub(crate) fn too_many_jobs() -> Refusal {
    Refusal::TooManyJobs
}

pub(crate) fn no_such_job(job: u32) -> Refusal {
    Refusal::NoSuchJob(job)
}

pub(crate) fn takes_longer() -> Refusal {
    Refusal::TakesLonger
}

pub(crate) fn bad_batch() -> Refusal {
    Refusal::BadBatch
}

pub(crate) fn too_long_for_a_batch() -> Refusal {
    Refusal::TooLongForBatch
}

pub(crate) fn name_too_long(bytes: usize) -> Refusal {
    Refusal::NameTooLong(number(bytes))
}

pub(crate) fn not_a_name(name: &str) -> Refusal {
    Refusal::NotAName(printable(name))
}

pub(crate) fn no_such_brane<'a>(name: &str, branes: impl Iterator<Item = &'a str>) -> Refusal {
    Refusal::NoSuchBrane(printable(name), branes.collect())
}

pub(crate) fn no_such_device<'a>(name: &str, devices: impl Iterator<Item = &'a str>) -> Refusal {
    Refusal::NoSuchDevice(printable(name), devices.collect())
}

pub(crate) fn no_such_interface<'a>(
    brane: &str,
    name: &str,
    interfaces: impl Iterator<Item = &'a str>,
) -> Refusal {
    Refusal::NoSuchInterface {
        brane: brane.into(),
        name: printable(name),
        known: interfaces.collect(),
    }
}

pub(crate) fn nothing_with_counters(name: &str) -> Refusal {
    Refusal::NothingWithCounters(printable(name))
}

pub(crate) fn no_such_log<'a>(name: &str, domains: impl Iterator<Item = &'a str>) -> Refusal {
    Refusal::NoSuchLog(printable(name), domains.collect())
}

pub(crate) fn log_level_refused(domain: &str) -> Refusal {
    Refusal::LogLevelRefused(domain.into())
}

pub(crate) fn no_such_subscriber<'a>(name: &str, subscribers: impl Iterator<Item = &'a str>) -> Refusal {
    Refusal::NoSuchSubscriber(printable(name), subscribers.collect())
}

pub(crate) fn not_quarantined(name: &str) -> Refusal {
    Refusal::NotQuarantined(name.into())
}

pub(crate) fn no_such_nic(nic: u8, nics: usize) -> Refusal {
    Refusal::NoSuchNic {
        nic,
        nics: number(nics),
    }
}

pub(crate) fn brane_name_taken(name: &str) -> Refusal {
    Refusal::BraneNameTaken(name.into())
}

pub(crate) fn device_name_taken(name: &str) -> Refusal {
    Refusal::DeviceNameTaken(name.into())
}

pub(crate) fn interface_name_taken(brane: &str, name: &str) -> Refusal {
    Refusal::InterfaceNameTaken {
        brane: brane.into(),
        name: name.into(),
    }
}

pub(crate) fn loopback_name(name: &str) -> Refusal {
    Refusal::LoopbackName(name.into())
}

pub(crate) fn loopback_stays(device: &str, brane: &str) -> Refusal {
    Refusal::LoopbackStays {
        device: device.into(),
        brane: brane.into(),
    }
}

pub(crate) fn loopback_is_fixed() -> Refusal {
    Refusal::LoopbackIsFixed
}

pub(crate) fn brane_is_changing(name: &str, state: &str) -> Refusal {
    Refusal::BraneIsChanging {
        name: name.into(),
        state: state.into(),
    }
}

pub(crate) fn brane_is_not_started(name: &str, state: &str, purpose: Purpose) -> Refusal {
    Refusal::BraneIsNotStarted {
        name: name.into(),
        state: state.into(),
        purpose,
    }
}

pub(crate) fn no_free_instance(name: &str, instances: usize) -> Refusal {
    Refusal::NoFreeInstance {
        name: name.into(),
        instances: number(instances),
    }
}

pub(crate) fn primary_is_never_deleted(name: &str) -> Refusal {
    Refusal::PrimaryIsNeverDeleted(name.into())
}

pub(crate) fn family_twice(family: Family) -> Refusal {
    Refusal::FamilyTwice(family)
}

pub(crate) fn not_of_this_family(family: Family, protocol: Protocol) -> Refusal {
    Refusal::NotOfThisFamily(family, protocol)
}

pub(crate) fn protocol_twice(family: Family, protocol: Protocol) -> Refusal {
    Refusal::ProtocolTwice(family, protocol)
}

pub(crate) fn not_created(why: &str) -> Refusal {
    Refusal::NotCreated(why.into())
}

pub(crate) fn not_started(name: &str, why: &str) -> Refusal {
    Refusal::NotStarted {
        name: name.into(),
        why: why.into(),
    }
}

pub(crate) fn refused_by_brane(why: &str) -> Refusal {
    Refusal::RefusedByBrane(why.into())
}

pub(crate) fn brane_failed() -> Refusal {
    Refusal::BraneFailed
}

pub(crate) fn no_answer_in_time() -> Refusal {
    Refusal::NoAnswerInTime
}

pub(crate) fn answer_not_believed(why: Unbelievable) -> Refusal {
    Refusal::AnswerNotBelieved(why)
}

pub(crate) fn query_too_long() -> Refusal {
    Refusal::QueryTooLong
}

pub(crate) fn too_many_queries(brane: &str) -> Refusal {
    Refusal::TooManyQueries(brane.into())
}

pub(crate) fn device_is_changing(name: &str) -> Refusal {
    Refusal::DeviceIsChanging(name.into())
}

pub(crate) fn device_is_gone() -> Refusal {
    Refusal::DeviceIsGone
}

pub(crate) fn too_many_devices(most: usize) -> Refusal {
    Refusal::TooManyDevices(number(most))
}

pub(crate) fn kind_cannot_be_made(kind: &Kind) -> Refusal {
    Refusal::KindCannotBeMade(kind.clone())
}

pub(crate) fn pair_with_one_name(name: &str) -> Refusal {
    Refusal::PairWithOneName(printable(name))
}

pub(crate) fn not_a_vlan(tag: u16) -> Refusal {
    Refusal::NotAVlan(tag)
}

pub(crate) fn not_a_station(mac: MacAddr) -> Refusal {
    Refusal::NotAStation(mac)
}

pub(crate) fn mac_taken(mac: MacAddr, device: &str) -> Refusal {
    Refusal::MacTaken(mac, device.into())
}

pub(crate) fn mac_pool_is_empty() -> Refusal {
    Refusal::MacPoolIsEmpty
}

pub(crate) fn too_many_prefixes(count: usize, most: usize) -> Refusal {
    Refusal::TooManyPrefixes {
        count: number(count),
        most: number(most),
    }
}

pub(crate) fn limits_refused_by_driver(device: &str, why: DriverRefusal) -> Refusal {
    Refusal::LimitsRefusedByDriver(device.into(), why)
}

pub(crate) fn device_refused_by_driver(device: &str, why: DriverRefusal) -> Refusal {
    Refusal::DeviceRefusedByDriver(device.into(), why)
}

pub(crate) fn binding_refused_by_driver(device: &str, why: DriverRefusal) -> Refusal {
    Refusal::BindingRefusedByDriver(device.into(), why)
}

pub(crate) fn has_no_owner(device: &str) -> Refusal {
    Refusal::HasNoOwner(device.into())
}

pub(crate) fn owned_already(device: &str, brane: &str, interface: &str) -> Refusal {
    Refusal::OwnedAlready {
        device: device.into(),
        brane: brane.into(),
        interface: interface.into(),
    }
}

pub(crate) fn no_free_port(brane: &str, nic: u8, ports: usize) -> Refusal {
    Refusal::NoFreePort {
        brane: brane.into(),
        nic,
        ports: number(ports),
    }
}

pub(crate) fn owned_device_is_not_deleted(device: &str, brane: &str) -> Refusal {
    Refusal::OwnedDeviceIsNotDeleted {
        device: device.into(),
        brane: brane.into(),
    }
}

pub(crate) fn nic_is_not_deleted(device: &str) -> Refusal {
    Refusal::NicIsNotDeleted(device.into())
}

pub(crate) fn nic_is_not_renamed(device: &str) -> Refusal {
    Refusal::NicIsNotRenamed(device.into())
}

pub(crate) fn too_many_addresses(count: usize, most: usize) -> Refusal {
    Refusal::TooManyAddresses {
        count: number(count),
        most: number(most),
    }
}

pub(crate) fn impossible_prefix(cidr: &Cidr) -> Refusal {
    Refusal::ImpossiblePrefix(*cidr)
}

pub(crate) fn bad_filter(why: BadFilter) -> Refusal {
    match why {
        BadFilter::TooManyRules(rules) => Refusal::TooManyRules {
            rules: number(rules),
            most: number(MAX_RULES),
        },
        BadFilter::TooLong(bytes) => Refusal::FilterTooLong {
            bytes: number(bytes),
            most: number(MAX_FILTER),
        },
        BadFilter::Rule(rule, problem) => Refusal::BadRule {
            number: number(rule),
            // The checks of rules that are data repeat no text of an operator.
            why: problem.to_string(),
        },
    }
}

pub(crate) fn no_such_rule(brane: &str, rule: u16, rules: usize) -> Refusal {
    Refusal::NoSuchRule {
        brane: brane.into(),
        number: rule.into(),
        rules: number(rules),
    }
}

pub(crate) fn nothing_staged(brane: &str) -> Refusal {
    Refusal::NothingStaged(brane.into())
}

pub(crate) fn too_many_captures(most: usize) -> Refusal {
    Refusal::TooManyCaptures(number(most))
}

pub(crate) fn capture_tag_taken(tag: u32) -> Refusal {
    Refusal::CaptureTagTaken(tag)
}

pub(crate) fn no_such_capture(tag: u32) -> Refusal {
    Refusal::NoSuchCapture(tag)
}

pub(crate) fn impossible_snaplen(snaplen: u32, most: u32) -> Refusal {
    Refusal::ImpossibleSnaplen { snaplen, most }
}

pub(crate) fn no_program_staged() -> Refusal {
    Refusal::NoProgramStaged
}

pub(crate) fn program_too_long(instructions: usize, most: usize) -> Refusal {
    Refusal::ProgramTooLong {
        instructions: number(instructions),
        most: number(most),
    }
}

pub(crate) fn bad_program(link: Link, index: usize, reason: &branes_bpf::Reason) -> Refusal {
    Refusal::BadProgram {
        link,
        index: number(index),
        // The checks repeat no text of an operator.
        why: reason.to_string(),
    }
}

pub(crate) fn capture_too_long(bytes: usize, most: usize) -> Refusal {
    Refusal::CaptureTooLong {
        bytes: number(bytes),
        most: number(most),
    }
}
