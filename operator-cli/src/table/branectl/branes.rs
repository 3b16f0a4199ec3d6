//! The verbs of `branectl` for the lifecycle and the names of branes.
//!
//! They own no state. The person who types is not trusted: each word is checked here.

use super::super::{Opt, Value, Verb, flag, one, option, options};
use super::BRANE;
use crate::command::Command;
use crate::error::Error;
use crate::parse::Matches;
use crate::value_parsers;
use brane_abi::operator::Request;

const DEADLINE: Opt = option(
    "deadline",
    Some('d'),
    "TIME",
    Value::Text,
    "time for connections to end, such as 500ms or 5s (default 5s)",
);

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "list",
        arguments: &[],
        options: &[flag(
            "quick",
            Some('q'),
            "show the last reports and do not ask the branes",
        )],
        help: "list all branes: state, restarts, interfaces, addresses",
        long: "Each brane is asked for its state and has one second to answer. Branes that do not answer are shown with their last report.",
        example: "list",
        schema: "branes",
        build: |m| {
            Ok(Command::Send(Request::List {
                fresh: !m.flag("quick"),
            }))
        },
    },
    Verb {
        name: "show",
        arguments: &[BRANE],
        options: &[],
        help: "show one brane: interfaces, addresses, counters",
        long: "Shows the manager's state of the brane, the brane's own report, and the driver's counters of its devices.",
        example: "show red",
        schema: "brane",
        build: |m| Ok(Command::Send(Request::Show(m.name("BRANE")?))),
    },
    Verb {
        name: "create",
        arguments: &[one(
            "BRANE",
            Value::Text,
            "its name: a-z, 0-9, - _ and ., a letter first, up to 31 bytes",
        )],
        options: &[
            options(
                "family",
                Some('f'),
                "FAMILY[=PROTOCOL,...]",
                Value::Text,
                "inet (icmp, udp, tcp) or inet6 (icmp6, udp, tcp), with the named protocols (default: all families and protocols)",
            ),
            option(
                "memory",
                Some('m'),
                "BYTES",
                Value::Text,
                "memory for the tables of its families and protocols, without the buffers of connections (default: enough for all)",
            ),
            flag("start", Some('s'), "start the brane too"),
        ],
        help: "create a brane",
        long: "The brane has only lo0 until a device is assigned to it, and serves no client until it is started. It answers \
               packets of a protocol that it lacks like a host without that protocol.",
        example: "create green --family inet=icmp,udp --family inet6 --start",
        schema: "done",
        build: |m| {
            let mut families = alloc::vec::Vec::new();
            for word in m.all("family") {
                let family = value_parsers::family(word)?;
                if families
                    .iter()
                    .any(|f: &brane_abi::control::FamilyConfig| f.family == family.family)
                {
                    return Err(Error::new(
                        alloc::format!("family {} is given twice", family.family.name()),
                        "give it once, with commas between its protocols",
                    ));
                }
                families.push(family);
            }
            families.sort_by_key(|f| f.family);
            Ok(Command::Send(Request::Create {
                name: value_parsers::new_name(m.one("BRANE")?)?,
                families: (!families.is_empty()).then_some(families),
                start: m.flag("start"),
                memory: m.value("memory").map(value_parsers::bytes).transpose()?,
            }))
        },
    },
    Verb {
        name: "start",
        arguments: &[BRANE],
        options: &[],
        help: "start a brane that was created or shut down",
        long: "The brane then carries packets and serves its clients.",
        example: "start green",
        schema: "done",
        build: |m| Ok(Command::Send(Request::Start(m.name("BRANE")?))),
    },
    Verb {
        name: "shutdown",
        arguments: &[BRANE],
        options: &[DEADLINE],
        help: "end a brane's connections, then stop it",
        long: "The brane accepts no new connections and waits until the present ones have ended. It aborts those that are left at \
               the deadline. It keeps its devices and can be started again.",
        example: "shutdown green --deadline 500ms",
        schema: "done",
        build: |m| {
            Ok(Command::Send(Request::Shutdown {
                name: m.name("BRANE")?,
                deadline_ms: deadline(m)?,
            }))
        },
    },
    Verb {
        name: "delete",
        arguments: &[BRANE],
        options: &[DEADLINE, flag("now", Some('n'), "abort everything at once")],
        help: "shut a brane down and delete it; its devices are released",
        long: "The answer is a receipt: the free instances, ports, names, MAC addresses, vifs and memory before and after. The \
               primary brane cannot be deleted.",
        example: "delete green --deadline 2s",
        schema: "receipt",
        build: |m| {
            m.not_both("now", "deadline")?;
            Ok(Command::Send(Request::Delete {
                name: m.name("BRANE")?,
                deadline_ms: if m.flag("now") { 0 } else { deadline(m)? },
            }))
        },
    },
    Verb {
        name: "rename",
        arguments: &[
            one(
                "NAME",
                Value::BraneOrInterface,
                "a brane, or an interface as BRANE/INTERFACE",
            ),
            one("NEW", Value::Text, "its new name"),
        ],
        options: &[],
        help: "rename a brane or one of its interfaces",
        long: "Connections and addresses stay. To rename a device, use nicctl rename.",
        example: "rename red/net0 lan0",
        schema: "done",
        build: |m| {
            let (from, to) = (m.one("NAME")?, value_parsers::new_name(m.one("NEW")?)?);
            Ok(Command::Send(if from.contains('/') {
                let (brane, from) = value_parsers::interface(from)?;
                Request::RenameInterface { brane, from, to }
            } else {
                Request::RenameBrane {
                    from: value_parsers::name(from)?,
                    to,
                }
            }))
        },
    },
];

fn deadline(m: &Matches) -> Result<u32, Error> {
    m.value("deadline").map_or(Ok(5000), value_parsers::time_ms)
}
