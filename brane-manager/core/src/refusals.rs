//! Every refusal that an operator can get: one constructor for each reason.
//!
//! Operators are not trusted, so each text of theirs that is repeated here passes [`printable`].

use crate::text::{listed, nic_name, printable};
use alloc::format;
use alloc::string::String;
use brane_abi::control::{Family, Protocol};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{JOBS, Kind, MAX_BATCH, MAX_NAME, REPLY_SIZE, Refusal};
use core::fmt::Display;

fn refusal(what: impl Into<String>, help: impl Into<String>) -> Refusal {
    Refusal {
        what: what.into(),
        help: help.into(),
    }
}

const SAME_SOURCE: &str = "operator and manager are of different versions: build both from the same source";
const IN_A_MOMENT: &str = "try again in a moment";
const ANOTHER: &str = "choose another one";

// Calls and jobs.

pub(crate) fn unreadable_request() -> Refusal {
    refusal("the request is not readable", SAME_SOURCE)
}

pub(crate) fn unknown_call(label: u64) -> Refusal {
    refusal(format!("the manager has no call {label}"), SAME_SOURCE)
}

pub(crate) fn answer_too_long(bytes: usize) -> Refusal {
    refusal(
        format!("the answer has {bytes} bytes, {REPLY_SIZE} fit"),
        "ask for one thing by its name",
    )
}

pub(crate) fn no_boot_configuration(why: &str) -> Refusal {
    refusal(
        format!("no brane is configured: the boot configuration cannot be used: {why}"),
        "build the image anew with a good one (`boot` in configs.toml)",
    )
}

pub(crate) fn too_many_jobs() -> Refusal {
    refusal(
        format!("{JOBS} requests are under way already"),
        "wait for one of them",
    )
}

pub(crate) fn no_such_job(job: u32) -> Refusal {
    refusal(
        format!("there is no job {job}"),
        "its answer was fetched already, or is too old; ask again",
    )
}

pub(crate) fn takes_longer() -> Refusal {
    refusal(
        "it takes longer than 60 s and goes on",
        "`branectl list` tells when it is there",
    )
}

pub(crate) fn bad_batch() -> Refusal {
    refusal(
        format!("a batch has 1 to {MAX_BATCH} requests, each a change, a ping or a host"),
        "make several of it",
    )
}

pub(crate) fn too_long_for_a_batch() -> Refusal {
    refusal("the answer is too long for a batch", "ask for it alone")
}

// Names.

pub(crate) fn name_too_long(bytes: usize) -> Refusal {
    refusal(
        format!("name too long: {bytes} bytes, {MAX_NAME} allowed"),
        "choose a shorter one",
    )
}

pub(crate) fn not_a_name(name: &str) -> Refusal {
    refusal(
        format!("{:?} is not a name", printable(name)),
        "use a-z, 0-9, `-`, `_` and `.`, with a letter first",
    )
}

pub(crate) fn no_such_brane<'a>(name: &str, branes: impl Iterator<Item = &'a str>) -> Refusal {
    refusal(
        format!("no brane named \"{}\"", printable(name)),
        listed("branes", branes),
    )
}

pub(crate) fn no_such_device<'a>(name: &str, devices: impl Iterator<Item = &'a str>) -> Refusal {
    refusal(
        format!("no device named \"{}\"", printable(name)),
        listed("devices", devices),
    )
}

pub(crate) fn no_such_interface<'a>(
    brane: &str,
    name: &str,
    interfaces: impl Iterator<Item = &'a str>,
) -> Refusal {
    refusal(
        format!("brane \"{brane}\" has no interface named \"{}\"", printable(name)),
        listed("interfaces", interfaces),
    )
}

pub(crate) fn nothing_with_counters(name: &str) -> Refusal {
    refusal(
        format!("no brane, device or NIC named \"{}\"", printable(name)),
        "`list` shows the branes, `nicctl list` the devices",
    )
}

pub(crate) fn no_such_log<'a>(name: &str, domains: impl Iterator<Item = &'a str>) -> Refusal {
    refusal(
        format!(
            "no brane or protection domain with a log named \"{}\"",
            printable(name)
        ),
        listed("protection domains", domains),
    )
}

pub(crate) fn log_level_refused(domain: &str) -> Refusal {
    refusal(
        format!("serial does not know the log of {domain}"),
        "serial and manager are of different builds: build the image anew",
    )
}

pub(crate) fn no_such_nic(nic: u8, nics: usize) -> Refusal {
    refusal(
        format!("no NIC named \"{}\"", nic_name(nic)),
        format!("this system has nic0 to nic{}", nics.saturating_sub(1)),
    )
}

pub(crate) fn brane_name_taken(name: &str) -> Refusal {
    refusal(format!("the name \"{name}\" is taken by a brane"), ANOTHER)
}

pub(crate) fn device_name_taken(name: &str) -> Refusal {
    refusal(
        format!("the name \"{name}\" is taken by a device"),
        "choose another one, or delete that device first",
    )
}

pub(crate) fn interface_name_taken(brane: &str, name: &str) -> Refusal {
    refusal(
        format!("brane \"{brane}\" has an interface \"{name}\" already"),
        "choose another name",
    )
}

pub(crate) fn loopback_name(name: &str) -> Refusal {
    refusal(
        format!("\"{name}\" is kept for the lo0 of a brane"),
        "choose a name that does not begin with `lo.`",
    )
}

pub(crate) fn loopback_is_fixed() -> Refusal {
    refusal(
        "lo0 is part of every brane as it is",
        "other interfaces can be changed",
    )
}

// Branes.

pub(crate) fn brane_is_changing(name: &str, state: &str) -> Refusal {
    refusal(
        format!("brane \"{name}\" is being changed ({state})"),
        IN_A_MOMENT,
    )
}

pub(crate) fn brane_is_not_started(name: &str, state: &str, purpose: &str) -> Refusal {
    refusal(
        format!("brane \"{name}\" is {state}, it cannot be {purpose} now"),
        "`list` shows when it is started",
    )
}

pub(crate) fn no_free_instance(name: &str, instances: usize) -> Refusal {
    refusal(
        format!("no free instance for \"{name}\": all {instances} are in use"),
        "delete a brane, or raise `instances` in configs.toml and build the image anew",
    )
}

pub(crate) fn primary_is_never_deleted(name: &str) -> Refusal {
    refusal(
        format!("\"{name}\" is the primary brane, which is never deleted"),
        "clients begin in it; `branectl shutdown` ends what it carries",
    )
}

pub(crate) fn family_twice(family: Family) -> Refusal {
    refusal(format!("family {} is named twice", family.name()), "name it once")
}

pub(crate) fn not_of_this_family(family: Family, protocol: Protocol) -> Refusal {
    let can = family.protocols().iter().map(|p| p.name());
    refusal(
        format!("family {} has no protocol {}", family.name(), protocol.name()),
        listed("protocols", can),
    )
}

pub(crate) fn protocol_twice(family: Family, protocol: Protocol) -> Refusal {
    refusal(
        format!("protocol {} of {} is named twice", protocol.name(), family.name()),
        "name it once",
    )
}

pub(crate) fn not_created(why: &str) -> Refusal {
    refusal(
        format!("the brane could not be created: {why}"),
        "nothing of it is left",
    )
}

pub(crate) fn not_started(name: &str, why: &str) -> Refusal {
    refusal(
        format!("brane \"{name}\" is not started: it {why}"),
        "change what it refuses; it is tried again then",
    )
}

// What a brane does with a command.

pub(crate) fn refused_by_brane(why: &str) -> Refusal {
    refusal(format!("the brane refuses it: {why}"), "nothing was changed")
}

pub(crate) fn brane_failed() -> Refusal {
    refusal(
        "the brane failed before it answered",
        "it is started anew; ask again then",
    )
}

pub(crate) fn no_answer_in_time() -> Refusal {
    refusal("no answer in time", "`show` of the brane tells how it is")
}

pub(crate) fn answer_not_believed(why: impl Display) -> Refusal {
    refusal(format!("the brane's answer is not believed: {why}"), "ask again")
}

pub(crate) fn query_too_long() -> Refusal {
    refusal("the question is too long", "ask for less")
}

pub(crate) fn too_many_queries(brane: &str) -> Refusal {
    refusal(
        format!("brane \"{brane}\" has too much to answer already"),
        IN_A_MOMENT,
    )
}

// Devices and interfaces.

pub(crate) fn device_is_changing(name: &str) -> Refusal {
    refusal(format!("device \"{name}\" is being changed"), IN_A_MOMENT)
}

pub(crate) fn device_is_gone() -> Refusal {
    refusal("the device is gone meanwhile", "see `nicctl list`")
}

pub(crate) fn too_many_devices(most: usize) -> Refusal {
    refusal(
        format!("there are {most} devices already"),
        "delete one that nobody needs",
    )
}

pub(crate) fn kind_cannot_be_made(kind: &Kind) -> Refusal {
    refusal(
        format!("a device of kind `{}` cannot be made", kind.word()),
        "kinds to make are vnic, vlan and pair",
    )
}

pub(crate) fn pair_with_one_name(name: &str) -> Refusal {
    refusal(
        format!("both ends of the pair are called \"{name}\""),
        "give the other end a name of its own",
    )
}

pub(crate) fn not_a_vlan(tag: u16) -> Refusal {
    refusal(
        format!("{tag} is no VLAN"),
        "VLANs are numbered 1 to 4094 (IEEE 802.1Q)",
    )
}

pub(crate) fn not_a_station(mac: MacAddr) -> Refusal {
    refusal(
        format!("{mac} is not the MAC address of a station"),
        "the lowest bit of its first byte must be 0, and not all of it",
    )
}

pub(crate) fn mac_taken(mac: MacAddr, device: &str) -> Refusal {
    refusal(
        format!("the MAC address {mac} is that of \"{device}\""),
        "choose another one, or leave it out for one from the pool",
    )
}

pub(crate) fn mac_pool_is_empty() -> Refusal {
    refusal("the pool of MAC addresses is used up", "name one that nobody has")
}

pub(crate) fn too_many_prefixes(count: usize, most: usize) -> Refusal {
    refusal(
        format!("{count} prefixes, the driver takes {most}"),
        "join some into shorter prefixes",
    )
}

pub(crate) fn limits_refused_by_driver(device: &str, why: &str) -> Refusal {
    refusal(
        format!("the NIC driver refuses the limits of \"{device}\": {why}"),
        "they are as before",
    )
}

pub(crate) fn device_refused_by_driver(device: &str, why: &str) -> Refusal {
    refusal(
        format!("the NIC driver refuses \"{device}\": {why}"),
        "nothing was changed; see `nicctl list` for what there is",
    )
}

pub(crate) fn binding_refused_by_driver(device: &str, why: &str) -> Refusal {
    refusal(
        format!("the NIC driver refuses `{device}`: {why}"),
        "nothing was changed; `branectl audit` compares manager and driver",
    )
}

pub(crate) fn has_no_owner(device: &str) -> Refusal {
    refusal(
        format!("no brane has \"{device}\""),
        "`nicctl list` shows who has what",
    )
}

pub(crate) fn owned_already(device: &str, brane: &str, interface: &str) -> Refusal {
    refusal(
        format!("\"{device}\" is in brane \"{brane}\" already, as \"{interface}\""),
        "`branectl rename` gives it another name there, `branectl address` other addresses",
    )
}

pub(crate) fn no_free_port(brane: &str, nic: u8, ports: usize) -> Refusal {
    refusal(
        format!(
            "brane \"{brane}\" has no free port at {}: {ports} are in use",
            nic_name(nic)
        ),
        "remove one of its interfaces there first",
    )
}

pub(crate) fn owned_device_is_not_deleted(device: &str, brane: &str) -> Refusal {
    refusal(
        format!("\"{device}\" is in brane \"{brane}\""),
        format!("`branectl remove {device}` takes it from there"),
    )
}

pub(crate) fn owned_device_is_not_renamed(device: &str, brane: &str) -> Refusal {
    refusal(
        format!("\"{device}\" is in brane \"{brane}\""),
        format!("`branectl remove {device}` first; its name inside can be changed at any time"),
    )
}

pub(crate) fn nic_is_not_deleted(device: &str) -> Refusal {
    refusal(
        format!("\"{device}\" is the NIC itself"),
        "it is there as long as the machine has it",
    )
}

pub(crate) fn nic_is_not_renamed(device: &str) -> Refusal {
    refusal(
        format!("\"{device}\" is the NIC itself, whose name is fixed"),
        "give the interface another name instead",
    )
}

pub(crate) fn too_many_addresses(count: usize, most: usize) -> Refusal {
    refusal(
        format!("{count} addresses, an interface takes {most}"),
        "drop some",
    )
}

pub(crate) fn impossible_prefix(cidr: &Cidr) -> Refusal {
    refusal(
        format!("{} has no prefix of {} bits", cidr.ip, cidr.prefix),
        "IPv4 addresses have 0 to 32, IPv6 addresses 0 to 128",
    )
}
