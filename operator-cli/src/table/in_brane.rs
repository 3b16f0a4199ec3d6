//! The commands inside a brane. They show and change what belongs to the brane. For them a name of another brane does not exist.

use super::{Value, Verb, flag, many, one, option, optional};
use crate::change::{self, Change};
use crate::command::Command;
use crate::error::Error;
use crate::parse::Matches;
use crate::ping::Echo;
use crate::value_parsers;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use brane_abi::control::Family;
use brane_abi::operator::Request;
use brane_abi::query::Query;

const NUMERIC: super::Opt = flag("numeric", Some('n'), "addresses as numbers (always)");

/// Protocols that `netstat -p` accepts.
const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "icmp6"];

/// Commands in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "ifconfig",
        arguments: &[
            optional("INTERFACE", Value::Local, "the interface (default: all)"),
            many(
                "SETTING",
                Value::Word(change::WORDS),
                "inet or inet6, an address with its prefix length, then nothing, alias or delete",
            ),
        ],
        options: &[flag("all", Some('a'), "all interfaces")],
        help: "show interfaces, or change the addresses of one",
        long: "ifconfig net0 inet 10.0.0.5/24 makes this the only fixed IPv4 address. alias adds an address, delete removes one. \
               dhcp and nodhcp turn DHCP on and off, slaac and noslaac router advertisements.",
        example: "ifconfig net0 inet 10.0.0.5/24 alias",
        schema: "interfaces done",
        build: |m| {
            let interface = m.optional("INTERFACE").map(value_parsers::name).transpose()?;
            let words = m.all("SETTING");
            if m.flag("all") && interface.is_some() {
                return Err(Error::new("-a and an interface are given", "drop one of them"));
            }
            match interface {
                Some(interface) if !words.is_empty() => {
                    let words: alloc::vec::Vec<&str> = words.iter().map(String::as_str).collect();
                    change(m, Change::ifconfig(interface, &words)?)
                }
                interface => ask(m, Query::Interfaces(interface)),
            }
        },
    },
    Verb {
        name: "route",
        arguments: &[many(
            "CHANGE",
            Value::Word(&["show", "add", "delete", "default"]),
            "add default GATEWAY, or delete default [GATEWAY]",
        )],
        options: &[
            NUMERIC,
            flag(
                "inet6",
                Some('6'),
                "delete the IPv6 router if no gateway is given",
            ),
            option(
                "interface",
                Some('i'),
                "INTERFACE",
                Value::Local,
                "the interface (default: the one whose network has the gateway)",
            ),
        ],
        help: "show the routing table, or change the default router",
        long: "Routes to networks follow from the addresses. The default routers can be changed.",
        example: "route add default 10.0.2.2",
        schema: "routes done",
        build: |m| {
            let words: alloc::vec::Vec<&str> = m.all("CHANGE").iter().map(String::as_str).collect();
            let interface = m.value("interface").map(value_parsers::name).transpose()?;
            match words[..] {
                [] | ["show"] => ask(m, Query::Routes),
                ["add", "default", gateway] => {
                    change(m, Change::gateway(interface, value_parsers::address(gateway)?))
                }
                ["delete", "default", gateway] => change(
                    m,
                    Change::no_gateway(interface, Some(value_parsers::address(gateway)?), false),
                ),
                ["delete", "default"] => change(m, Change::no_gateway(interface, None, m.flag("inet6"))),
                _ => Err(Error::new(
                    alloc::format!("\"{}\" is no change of a route", words.join(" ")),
                    "write add default GATEWAY, or delete default [GATEWAY]",
                )),
            }
        },
    },
    Verb {
        name: "arp",
        arguments: &[],
        options: &[flag("all", Some('a'), "all neighbours (always)"), NUMERIC],
        help: "show IPv4 neighbours and their MAC addresses",
        long: "Shows the neighbours that the brane has exchanged packets with recently (RFC 826).",
        example: "arp -a",
        schema: "neighbours",
        build: |m| neighbours(m, Family::Inet),
    },
    Verb {
        name: "ndp",
        arguments: &[],
        options: &[flag("all", Some('a'), "all neighbours (always)"), NUMERIC],
        help: "show IPv6 neighbours and their MAC addresses",
        long: "Shows the neighbours that the brane has exchanged packets with recently (RFC 4861).",
        example: "ndp -an",
        schema: "neighbours",
        build: |m| neighbours(m, Family::Inet6),
    },
    Verb {
        name: "netstat",
        arguments: &[],
        options: &[
            flag("statistics", Some('s'), "counters of each protocol"),
            flag("routes", Some('r'), "the routing table, like route"),
            flag("interfaces", Some('i'), "interfaces, like ifconfig"),
            flag("all", Some('a'), "listening sockets too (always)"),
            NUMERIC,
            option(
                "protocol",
                Some('p'),
                "PROTOCOL",
                Value::Word(PROTOCOLS),
                "only sockets of this protocol, or with -s its counters",
            ),
        ],
        help: "show sockets and connections, routes, counters",
        long: "Without an option, shows the brane's sockets and connections.",
        example: "netstat -s",
        schema: "sockets protocols routes interfaces",
        build: |m| {
            let chosen = ["statistics", "routes", "interfaces"]
                .iter()
                .filter(|k| m.flag(k))
                .count();
            if chosen > 1 {
                return Err(Error::new("more than one of -s, -r and -i is given", "give one"));
            }
            let protocol = m
                .value("protocol")
                .map(|p| value_parsers::word(p, PROTOCOLS))
                .transpose()?;
            if protocol.is_some() && (m.flag("routes") || m.flag("interfaces")) {
                return Err(Error::new(
                    "-p is for sockets and for -s",
                    "drop it, or drop -r and -i",
                ));
            }
            if m.flag("statistics") {
                Ok(Command::Protocols {
                    brane: m.brane()?,
                    protocol,
                })
            } else if m.flag("routes") {
                ask(m, Query::Routes)
            } else if m.flag("interfaces") {
                ask(m, Query::Interfaces(None))
            } else {
                if let Some(protocol) = protocol.as_deref().filter(|p| !matches!(*p, "tcp" | "udp")) {
                    return Err(Error::new(
                        alloc::format!("{protocol} has no sockets"),
                        "add -s for its counters",
                    ));
                }
                Ok(Command::Sockets {
                    brane: m.brane()?,
                    protocol,
                })
            }
        },
    },
    Verb {
        name: "ping",
        arguments: &[one("HOST", Value::Text, "an address, or a name")],
        options: &[
            option(
                "count",
                Some('c'),
                "N",
                Value::Text,
                "number of requests (default: until Ctrl-C)",
            ),
            option(
                "size",
                Some('s'),
                "SIZE",
                Value::Text,
                "bytes of data, 0 to 1400 (default 56)",
            ),
            option(
                "interval",
                Some('i'),
                "TIME",
                Value::Text,
                "time between two requests (default 1s)",
            ),
            option(
                "timeout",
                Some('W'),
                "TIME",
                Value::Text,
                "time to wait for an answer, at most 10s (default 1s)",
            ),
        ],
        help: "send echo requests",
        long: "Ends with status 1 if no request was answered. With -j, prints one object at the end.",
        example: "ping -c 3 10.0.2.2",
        schema: "ping",
        build: |m| {
            let time = |key, otherwise, most| match m.value(key).map(value_parsers::time_ms).transpose()? {
                None => Ok(otherwise),
                Some(ms) if ms <= most => Ok(ms),
                Some(ms) => Err(Error::new(
                    alloc::format!("--{key} of {ms} ms is too long"),
                    alloc::format!("{most} ms are allowed"),
                )),
            };
            Ok(Command::Ping(Echo {
                brane: m.brane()?,
                host: host(m.one("HOST")?)?,
                count: m.number("count", 1, 65535)?.map(|n| n as u16),
                size: m.number("size", 0, 1400)?.unwrap_or(56) as u16,
                interval_ms: time("interval", 1000, 60_000)?,
                timeout_ms: time("timeout", 1000, 10_000)?,
            }))
        },
    },
    Verb {
        name: "host",
        arguments: &[
            one("NAME", Value::Text, "the name to look up"),
            optional(
                "SERVER",
                Value::Text,
                "the DNS server's address (default: the brane's server)",
            ),
        ],
        options: &[option(
            "timeout",
            Some('W'),
            "TIME",
            Value::Text,
            "time to wait for an answer, at most 10s (default 5s)",
        )],
        help: "look a name up",
        long: "Asks a DNS server for the addresses of a name (RFC 1035).",
        example: "host www.example.org 10.0.2.3",
        schema: "host",
        build: |m| {
            let timeout_ms = m.value("timeout").map_or(Ok(5000), value_parsers::time_ms)?;
            if timeout_ms > 10_000 {
                return Err(Error::new(
                    alloc::format!("--timeout of {timeout_ms} ms is too long"),
                    "10000 ms are allowed",
                ));
            }
            ask(
                m,
                Query::Host {
                    name: host(m.one("NAME")?)?,
                    server: m.optional("SERVER").map(value_parsers::address).transpose()?,
                    timeout_ms,
                },
            )
        },
    },
];

/// Parses the name of a host. RFC 1035 allows 253 characters.
fn host(word: &str) -> Result<String, Error> {
    match word.len() {
        1..=253 => Ok(word.to_string()),
        n => Err(Error::new(
            alloc::format!("host name of {n} bytes"),
            "1 to 253 are allowed",
        )),
    }
}

fn ask(m: &Matches, query: Query) -> Result<Command, Error> {
    Ok(Command::Send(Request::Query {
        brane: m.brane()?,
        query,
    }))
}

fn change(m: &Matches, change: Change) -> Result<Command, Error> {
    Ok(Command::Change {
        brane: m.brane()?,
        change: Box::new(change),
    })
}

fn neighbours(m: &Matches, family: Family) -> Result<Command, Error> {
    Ok(Command::Neighbours {
        brane: m.brane()?,
        family,
    })
}
