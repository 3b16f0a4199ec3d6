//! Prints a rule as text.

use crate::names::{self, FLAGS, PROTOCOLS, STATES};
use alloc::string::String;
use brane_abi::filter::{Action, Direction, End, Rule};
use brane_abi::net::Cidr;
use core::fmt::{self, Write};
use core::net::IpAddr;

/// Prints a rule as text. If the rule passes [`crate::check()`], [`crate::parse`] returns an equal rule.
pub fn print(rule: &Rule) -> String {
    let mut text = String::new();
    // A String accepts everything.
    let _ = write(&mut text, rule);
    text
}

fn write(f: &mut String, rule: &Rule) -> fmt::Result {
    f.write_str(match rule.action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Reject => "reject",
    })?;
    match rule.direction {
        Some(Direction::In) => f.write_str(" in")?,
        Some(Direction::Out) => f.write_str(" out")?,
        Some(Direction::Bind) => f.write_str(" bind")?,
        Some(Direction::Connect) => f.write_str(" connect")?,
        Some(Direction::Accept) => f.write_str(" accept")?,
        None => {}
    }
    if let Some(interface) = &rule.interface {
        write!(f, " on {interface}")?;
    }
    if let Some(family) = rule.family {
        write!(f, " {}", family.name())?;
    }
    if let Some(protocol) = rule.protocol {
        f.write_str(" proto ")?;
        named(f, PROTOCOLS, protocol)?;
    }
    side(f, "from", &rule.from)?;
    side(f, "to", &rule.to)?;
    if let Some(flags) = rule.flags {
        f.write_str(" flags ")?;
        letters(f, flags.set)?;
        f.write_str("/")?;
        letters(f, flags.mask)?;
    }
    if let Some(icmp) = rule.icmp {
        f.write_str(" icmp-type ")?;
        named(
            f,
            names::icmp_types(rule.protocol.unwrap_or(names::ICMP)),
            icmp.kind,
        )?;
        if let Some(code) = icmp.code {
            write!(f, "/{code}")?;
        }
    }
    for (index, state) in rule.states.iter().enumerate() {
        f.write_str(if index == 0 { " state " } else { "," })?;
        let name = STATES.iter().find(|(_, known)| known == state);
        f.write_str(name.map_or("", |(name, _)| name))?;
    }
    if let Some(rate) = rule.rate {
        write!(f, " rate {}/s", rate.per_second)?;
        if rate.burst != rate.per_second {
            write!(f, " burst {}", rate.burst)?;
        }
    }
    for (index, step) in rule.program.iter().enumerate() {
        f.write_str(if index == 0 { " bpf \"" } else { "; " })?;
        write!(f, "{} {} {} {}", step.code, step.jt, step.jf, step.k)?;
    }
    if !rule.program.is_empty() {
        f.write_str("\"")?;
    }
    Ok(())
}

fn side(f: &mut String, word: &str, end: &End) -> fmt::Result {
    if *end == End::default() {
        return Ok(());
    }
    match end.prefix {
        None => write!(f, " {word} any")?,
        Some(Cidr {
            ip: IpAddr::V4(ip),
            prefix: 32,
        }) => write!(f, " {word} {ip}")?,
        Some(Cidr {
            ip: IpAddr::V6(ip),
            prefix: 128,
        }) => write!(f, " {word} {ip}")?,
        Some(prefix) => write!(f, " {word} {prefix}")?,
    }
    for (index, range) in end.ports.iter().enumerate() {
        f.write_str(if index == 0 { " port " } else { "," })?;
        write!(f, "{}", range.first)?;
        if range.first != range.last {
            write!(f, "-{}", range.last)?;
        }
    }
    Ok(())
}

fn named(f: &mut String, table: &[(&'static str, u8)], number: u8) -> fmt::Result {
    match names::name_of(table, number) {
        Some(name) => f.write_str(name),
        None => write!(f, "{number}"),
    }
}

fn letters(f: &mut String, bits: u8) -> fmt::Result {
    FLAGS
        .iter()
        .filter(|(_, bit)| bits & bit != 0)
        .try_for_each(|(letter, _)| f.write_char(*letter))
}
