//! Reasons for which a rule is refused, with their words.

use crate::names::{self, Names};
use alloc::string::String;
use brane_abi::control::Family;
use brane_abi::filter::{MAX_PORTS, MAX_PROGRAM, MAX_RULES};
use brane_abi::net::Cidr;
use branes_bpf::Reason;
use core::fmt;

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text ends where this is expected.
    Missing(&'static str),
    /// The word is no action.
    Action(String),
    /// The word begins no clause.
    UnknownClause(String),
    /// The word begins a clause that cannot follow here: it has to stand further left, or the rule has it already.
    MisplacedClause(&'static str),
    /// The word is no protocol.
    Protocol(String),
    /// The word is no address.
    Address(String),
    /// The word is no number, or above the number given here.
    Number(String, u32),
    /// The character is no TCP flag.
    Flag(char),
    /// The flags lack the `/` between set and mask.
    FlagsWithoutMask(String),
    /// The word is no ICMP type of the protocol with this number.
    IcmpType(String, u8),
    /// The word is no state.
    State(String),
    /// The word is no rate.
    Rate(String),
    /// The instruction has this many numbers.
    Quadruple(usize),
    /// The program begins with a number of instructions, and this is the number that it has.
    ProgramLength(usize),

    /// The interface's name is not a name.
    Interface,
    /// The rule is for the first family, and this clause for the second.
    Family(Family, Family),
    /// The prefix is longer than the address, which has this number of bits.
    PrefixLength(u8),
    /// The address has bits beyond the prefix. The network's address is given here.
    HostBits(Cidr),
    /// The rule has ports and a protocol without ports.
    Ports,
    /// The range's first port is above its last.
    PortOrder,
    /// The clause has more than [`MAX_PORTS`] ranges.
    TooManyPorts(usize),
    /// The rule is for a call, and has a clause that no call matches.
    Call,
    /// The rule has flags and another protocol than TCP.
    FlagsWithoutTcp,
    /// The mask is empty, or has bits that are no flags.
    FlagMask,
    /// A flag has to be set that is not in the mask.
    FlagsBeyondMask,
    /// The rule has an ICMP type and another protocol than `icmp` and `icmp6`.
    IcmpWithoutProtocol,
    /// The rule has the state twice.
    StateTwice,
    /// The rate is 0.
    RateZero,
    /// The burst is 0.
    BurstZero,
    /// The program has more than [`MAX_PROGRAM`] instructions.
    ProgramTooLong(usize),
    /// The program is refused.
    Program(branes_bpf::Fault),
    /// The filter has more than [`MAX_RULES`] rules.
    TooManyRules(usize),
}

/// Refusal of a rule's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Column of the fault in characters, from 1 on.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.problem)
    }
}

impl core::error::Error for Fault {}
impl core::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(what) => write!(f, "{what} is missing"),
            Problem::Action(word) => write!(f, "`{word}` is no action; known: pass, drop, reject"),
            Problem::UnknownClause(word) => write!(f, "`{word}` begins no clause; known: {}", names::ORDER),
            Problem::MisplacedClause(word) => {
                write!(
                    f,
                    "`{word}` cannot follow here; each clause once, in the order {}",
                    names::ORDER
                )
            }
            Problem::Protocol(word) => {
                write!(
                    f,
                    "`{word}` is no protocol; known: {}, 0 to 255",
                    Names(names::PROTOCOLS)
                )
            }
            Problem::Address(word) => write!(f, "`{word}` is no address; such as any, 10.0.2.0/24, fec0::2"),
            Problem::Number(word, most) => write!(f, "`{word}` is no number from 0 to {most}"),
            Problem::Flag(flag) => write!(f, "`{flag}` is no TCP flag; known: F, S, R, P, A, U"),
            Problem::FlagsWithoutMask(word) => {
                write!(f, "`{word}` lacks the flags to compare, such as in S/SA")
            }
            Problem::IcmpType(word, protocol) => {
                let known = names::icmp_types(*protocol);
                write!(f, "`{word}` is no type; known: {}, 0 to 255", Names(known))
            }
            Problem::State(word) => {
                write!(
                    f,
                    "`{word}` is no state; known: {}",
                    names::STATES.map(|(name, _)| name).join(", ")
                )
            }
            Problem::Rate(word) => write!(f, "`{word}` is no rate; such as 10/s"),
            Problem::Quadruple(1) => f.write_str("1 number; an instruction has 4: CODE JT JF K"),
            Problem::Quadruple(numbers) => {
                write!(f, "{numbers} numbers; an instruction has 4: CODE JT JF K")
            }
            Problem::ProgramLength(length) => write!(f, "the program has another length, {length}"),
            Problem::Interface => {
                f.write_str("an interface's name has up to 31 of a-z, 0-9, - _ . and begins with a-z")
            }
            Problem::Family(rule, other) => {
                write!(
                    f,
                    "this is for {}, and the rule for {}",
                    other.name(),
                    rule.name()
                )
            }
            Problem::PrefixLength(bits) => write!(f, "prefix too long; the address has {bits} bits"),
            Problem::HostBits(network) => {
                write!(f, "bits beyond the prefix are set; the network is {network}")
            }
            Problem::Ports => f.write_str("ports need the protocol tcp or udp"),
            Problem::PortOrder => f.write_str("the first port of the range is above its last"),
            Problem::TooManyPorts(ranges) => write!(f, "{ranges} ranges of ports, {MAX_PORTS} allowed"),
            Problem::Call => f.write_str(
                "a rule for bind, connect or accept has the protocol tcp or udp, and no flags, no ICMP type and no state",
            ),
            Problem::FlagsWithoutTcp => f.write_str("flags need the protocol tcp"),
            Problem::FlagMask => f.write_str("the flags to compare are some of F, S, R, P, A, U"),
            Problem::FlagsBeyondMask => f.write_str("a flag to be set is not among the flags to compare"),
            Problem::IcmpWithoutProtocol => f.write_str("an ICMP type needs the protocol icmp or icmp6"),
            Problem::StateTwice => f.write_str("the state is given twice"),
            Problem::RateZero => f.write_str("the rate is 0"),
            Problem::BurstZero => f.write_str("the burst is 0"),
            Problem::ProgramTooLong(length) => {
                write!(f, "{length} instructions, {MAX_PROGRAM} allowed")
            }
            Problem::Program(fault) => match fault.reason {
                Reason::Empty => f.write_str("the program is empty"),
                _ => write!(f, "{fault}"),
            },
            Problem::TooManyRules(rules) => write!(f, "{rules} rules, {MAX_RULES} allowed"),
        }
    }
}
