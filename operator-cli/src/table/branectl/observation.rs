//! The verbs of `branectl` for counters, times, subscribers, events and logs.
//!
//! They own no state. The person who types is not trusted: each word is checked here.

use super::super::{Value, Verb, flag, one, option, optional};
use crate::command::Command;
use crate::value_parsers;
use brane_abi::operator::Request;

/// Names of the log levels.
const LEVELS: [&str; 5] = ["off", "error", "warn", "info", "debug"];

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "stats",
        arguments: &[optional(
            "NAME",
            Value::AnyTarget,
            "a brane, a device or a NIC (default: all)",
        )],
        options: &[flag("all", Some('a'), "show counters that are 0 too")],
        help: "show counters",
        long: "Shows the counters of drivers, manager and branes, in groups with the name of the counted thing.",
        example: "stats nic0",
        schema: "stats",
        build: |m| {
            Ok(Command::Stats {
                of: m.optional("NAME").map(value_parsers::name).transpose()?,
                zeros: m.flag("all"),
            })
        },
    },
    Verb {
        name: "uptime",
        arguments: &[],
        options: &[],
        help: "show the time since the boot, and since each brane's start and last restart",
        long: "A start follows the creation or a shutdown of the brane. A restart follows a failure and does not change the time of the start.",
        example: "uptime",
        schema: "report",
        build: |_| Ok(Command::Send(Request::Uptime)),
    },
    Verb {
        name: "subscribers",
        arguments: &[],
        options: &[],
        help: "list the subscribers to the lifecycle of branes",
        long: "Shows for each subscriber its subscription, the number of its notifications, and the reason if it is quarantined.",
        example: "subscribers",
        schema: "subscribers",
        build: |_| Ok(Command::Send(Request::Subscribers)),
    },
    Verb {
        name: "filters",
        arguments: &[],
        options: &[],
        help: "list the external filters and their hooks in branes",
        long: "Shows for each hook and brane whether the filter is attached or why not, and how many packets it got, decided in time, and missed. An external filter is a domain of its own; `filter` shows the rules of a brane.",
        example: "filters",
        schema: "report",
        build: |_| Ok(Command::Send(Request::Filters)),
    },
    Verb {
        name: "readmit",
        arguments: &[one(
            "SUBSCRIBER",
            Value::Text,
            "a quarantined subscriber, or a filter",
        )],
        options: &[],
        help: "restart a quarantined subscriber or an external filter",
        long: "Restarts the protection domain, which then subscribes or registers again.",
        example: "readmit subscriber-1",
        schema: "done",
        build: |m| Ok(Command::Send(Request::Readmit(m.name("SUBSCRIBER")?))),
    },
    Verb {
        name: "events",
        arguments: &[],
        options: &[
            option(
                "after",
                Some('a'),
                "NUMBER",
                Value::Text,
                "events with numbers above this (default: all stored events)",
            ),
            flag("once", Some('1'), "end after the stored events"),
        ],
        help: "show events: stored ones, then new ones",
        long: "Shows the stored events and then each new one, until Ctrl-C. With -j, each line is one JSON object.",
        example: "events --after 17 --once",
        schema: "event",
        build: |m| {
            Ok(Command::Events {
                after: m.number("after", 0, u64::MAX)?.unwrap_or(0),
                once: m.flag("once"),
            })
        },
    },
    Verb {
        name: "log",
        arguments: &[
            optional(
                "PD",
                Value::Domain,
                "a protection domain, or a brane for its domain (default: all)",
            ),
            optional(
                "LEVEL",
                Value::Word(&LEVELS),
                "the new level (default: show the present one)",
            ),
        ],
        options: &[],
        help: "show or set the log level of a protection domain",
        long: "The levels are off, error, warn, info and debug. A domain logs the lines of its level and of all levels before it. `save` writes the levels into the boot configuration.",
        example: "log red debug",
        schema: "done log-levels",
        build: |m| {
            let pd = m.optional("PD").map(value_parsers::name).transpose()?;
            Ok(match (pd, m.optional("LEVEL")) {
                (Some(pd), Some(level)) => Command::Send(Request::SetLogLevel {
                    pd,
                    level: value_parsers::level(level)?,
                }),
                (pd, _) => Command::Send(Request::LogLevels(pd)),
            })
        },
    },
    Verb {
        name: "logs",
        arguments: &[optional(
            "PD",
            Value::Domain,
            "a protection domain, or a brane for its domain (default: all)",
        )],
        options: &[
            option(
                "after",
                Some('a'),
                "NUMBER",
                Value::Text,
                "lines with numbers above this (default: all stored lines)",
            ),
            flag("follow", Some('f'), "show new lines too, until Ctrl-C"),
        ],
        help: "show the last lines of a protection domain's log",
        long: "Shows the lines that serial stores: about the last 25 of each domain. With -j, each line is one JSON object.",
        example: "logs red --follow",
        schema: "log-line",
        build: |m| {
            Ok(Command::Logs {
                pd: m.optional("PD").map(value_parsers::name).transpose()?,
                after: m.number("after", 0, u64::MAX)?.unwrap_or(0),
                follow: m.flag("follow"),
            })
        },
    },
    Verb {
        name: "audit",
        arguments: &[],
        options: &[],
        help: "compare the records of manager, drivers and branes",
        long: "Ends with status 1 if they disagree.",
        example: "audit",
        schema: "audit",
        build: |_| Ok(Command::Send(Request::Audit)),
    },
];
