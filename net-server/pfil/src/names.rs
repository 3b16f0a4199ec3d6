//! Names of protocols, ICMP types and states, and the words that begin a clause.

use brane_abi::filter::FlowState;
use core::fmt;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;

/// Words that begin a clause or a part of one.
pub(crate) const CLAUSES: [&str; 18] = [
    "in",
    "out",
    "bind",
    "connect",
    "accept",
    "on",
    "inet",
    "inet6",
    "proto",
    "from",
    "port",
    "to",
    "flags",
    "icmp-type",
    "state",
    "rate",
    "burst",
    "bpf",
];
/// The order of the clauses.
pub(crate) const ORDER: &str = "in|out|bind|connect|accept, on, inet|inet6, proto, from [port], to [port], flags, icmp-type, state, rate [burst], bpf";

/// Protocols (IANA, "Assigned Internet Protocol Numbers"), by name.
pub(crate) const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("esp", 50),
    ("gre", 47),
    ("icmp", ICMP),
    ("icmp6", ICMP6),
    ("igmp", 2),
    ("ipip", 4),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", 132),
    ("tcp", TCP),
    ("udp", UDP),
    ("vrrp", 112),
];

/// Types of ICMP (RFC 792, RFC 1256).
const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("unreachable", 3),
    ("redirect", 5),
    ("echo", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
];

/// Types of ICMPv6 (RFC 4443, RFC 2710, RFC 3810, RFC 4861).
const ICMP6_TYPES: &[(&str, u8)] = &[
    ("unreachable", 1),
    ("too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("mldv2-report", 143),
];

/// States by name.
pub(crate) const STATES: [(&str, FlowState); 4] = [
    ("new", FlowState::New),
    ("established", FlowState::Established),
    ("related", FlowState::Related),
    ("invalid", FlowState::Invalid),
];

/// TCP flags by letter (RFC 9293, 3.1).
pub(crate) const FLAGS: [(char, u8); 6] = [
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('U', 0x20),
];
/// All of [`FLAGS`].
pub(crate) const ALL_FLAGS: u8 = 0x3f;

/// Returns the ICMP types of a protocol.
pub(crate) fn icmp_types(protocol: u8) -> &'static [(&'static str, u8)] {
    if protocol == ICMP6 {
        ICMP6_TYPES
    } else {
        ICMP_TYPES
    }
}

/// Returns the number of a name.
pub(crate) fn number_of(table: &[(&str, u8)], name: &str) -> Option<u8> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

/// Returns the name of a number.
pub(crate) fn name_of(table: &[(&'static str, u8)], number: u8) -> Option<&'static str> {
    table
        .iter()
        .find(|(_, known)| *known == number)
        .map(|(name, _)| *name)
}

/// The names of a table, as a list.
pub(crate) struct Names(pub &'static [(&'static str, u8)]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
