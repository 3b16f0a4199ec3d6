//! Checks a rule: the one list of conditions, for rules as text and for rules that arrive as data.

use crate::Problem;
use crate::names::{ALL_FLAGS, ICMP, ICMP6, TCP, UDP};
use brane_abi::control::Family;
use brane_abi::filter::{Direction, End, MAX_PORTS, MAX_PROGRAM, Rule};
use brane_abi::net::Cidr;
use brane_abi::operator::MAX_NAME;
use branes_bpf::Program;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Clause of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    Interface,
    Family,
    Protocol,
    From,
    FromPort,
    To,
    ToPort,
    Flags,
    Icmp,
    State,
    Rate,
    Burst,
    Program,
}

/// Place of a fault: the clause, and the index of the part in it.
pub(crate) type Place = (Clause, usize);

/// Checks a rule. Rules come from operators, so each domain checks the rules that it uses.
pub fn check(rule: &Rule) -> Result<(), Problem> {
    find(rule).map_err(|(_, problem)| problem)
}

/// Returns the only family whose packets a rule can match: that of its clause, of its protocol, or of its addresses.
pub fn family_of(rule: &Rule) -> Option<Family> {
    families(rule).find_map(|(_, family)| family)
}

/// Lists the clauses that can name a family.
fn families(rule: &Rule) -> impl Iterator<Item = (Clause, Option<Family>)> {
    let protocol = match rule.protocol {
        Some(ICMP) => Some(Family::Inet),
        Some(ICMP6) => Some(Family::Inet6),
        _ => None,
    };
    let of = |end: &End| {
        end.prefix.map(|prefix| match prefix.ip {
            IpAddr::V4(_) => Family::Inet,
            IpAddr::V6(_) => Family::Inet6,
        })
    };
    [
        (Clause::Family, rule.family),
        (Clause::Protocol, protocol),
        (Clause::From, of(&rule.from)),
        (Clause::To, of(&rule.to)),
    ]
    .into_iter()
}

/// Finds the first fault of a rule, with its place.
pub(crate) fn find(rule: &Rule) -> Result<(), (Place, Problem)> {
    let at = |clause, problem| Err(((clause, 0), problem));
    if rule.interface.as_deref().is_some_and(|name| !is_name(name)) {
        return at(Clause::Interface, Problem::Interface);
    }
    for (end, clause) in [(&rule.from, Clause::From), (&rule.to, Clause::To)] {
        if let Some(problem) = end.prefix.and_then(fault_of_prefix) {
            return at(clause, problem);
        }
    }
    let family = family_of(rule);
    for (clause, other) in families(rule) {
        if let (Some(family), Some(other)) = (family, other)
            && family != other
        {
            return at(clause, Problem::Family(family, other));
        }
    }
    ports(rule, &rule.from, Clause::FromPort)?;
    ports(rule, &rule.to, Clause::ToPort)?;
    if rule.direction.is_some_and(Direction::is_call) {
        call(rule)?;
    }
    if let Some(flags) = rule.flags {
        if rule.protocol != Some(TCP) {
            return at(Clause::Flags, Problem::FlagsWithoutTcp);
        }
        if flags.mask == 0 || flags.mask & !ALL_FLAGS != 0 {
            return at(Clause::Flags, Problem::FlagMask);
        }
        if flags.set & !flags.mask != 0 {
            return at(Clause::Flags, Problem::FlagsBeyondMask);
        }
    }
    if rule.icmp.is_some() && !matches!(rule.protocol, Some(ICMP | ICMP6)) {
        return at(Clause::Icmp, Problem::IcmpWithoutProtocol);
    }
    for (index, state) in rule.states.iter().enumerate() {
        if rule.states.iter().take(index).any(|earlier| earlier == state) {
            return Err(((Clause::State, index), Problem::StateTwice));
        }
    }
    if let Some(rate) = rule.rate {
        if rate.per_second == 0 {
            return at(Clause::Rate, Problem::RateZero);
        }
        if rate.burst == 0 {
            return at(Clause::Burst, Problem::BurstZero);
        }
    }
    if rule.program.is_empty() {
        return Ok(());
    }
    let length = rule.program.len();
    if length > MAX_PROGRAM {
        return Err(((Clause::Program, MAX_PROGRAM), Problem::ProgramTooLong(length)));
    }
    match Program::verify(&rule.program) {
        Ok(_) => Ok(()),
        Err(fault) => Err(((Clause::Program, fault.index), Problem::Program(fault))),
    }
}

/// Checks a rule for a call, which has addresses and ports only.
fn call(rule: &Rule) -> Result<(), (Place, Problem)> {
    let clause = match rule {
        rule if !matches!(rule.protocol, None | Some(TCP | UDP)) => Clause::Protocol,
        rule if rule.flags.is_some() => Clause::Flags,
        rule if rule.icmp.is_some() => Clause::Icmp,
        rule if !rule.states.is_empty() => Clause::State,
        _ => return Ok(()),
    };
    Err(((clause, 0), Problem::Call))
}

/// Returns true if an interface can have the name. The manager's rule for names is equal.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c))
}

fn fault_of_prefix(prefix: Cidr) -> Option<Problem> {
    let (bits, network) = match prefix.ip {
        IpAddr::V4(ip) => (
            32,
            Ipv4Addr::from_bits(ip.to_bits() & mask4(prefix.prefix)).into(),
        ),
        IpAddr::V6(ip) => (
            128,
            Ipv6Addr::from_bits(ip.to_bits() & mask6(prefix.prefix)).into(),
        ),
    };
    if prefix.prefix > bits {
        return Some(Problem::PrefixLength(bits));
    }
    let network = Cidr {
        ip: network,
        ..prefix
    };
    (network != prefix).then_some(Problem::HostBits(network))
}

/// Returns the mask of an IPv4 prefix.
pub(crate) fn mask4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

/// Returns the mask of an IPv6 prefix.
pub(crate) fn mask6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0)
}

fn ports(rule: &Rule, end: &End, clause: Clause) -> Result<(), (Place, Problem)> {
    if end.ports.is_empty() {
        return Ok(());
    }
    if !matches!(rule.protocol, None | Some(TCP | UDP)) {
        return Err(((clause, 0), Problem::Ports));
    }
    if end.ports.len() > MAX_PORTS {
        return Err(((clause, MAX_PORTS), Problem::TooManyPorts(end.ports.len())));
    }
    match end.ports.iter().position(|range| range.first > range.last) {
        Some(index) => Err(((clause, index), Problem::PortOrder)),
        None => Ok(()),
    }
}
