//! The verbs of `branectl` for the configuration of the system, for tests of its recovery, and for help.
//!
//! They own no state. The person who types is not trusted: each word is checked here.

use super::super::{Value, Verb, flag, one, optional};
use super::BRANE;
use crate::command::Command;
use alloc::string::{String, ToString};
use brane_abi::operator::Request;

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "apply",
        arguments: &[one(
            "FILE",
            Value::File,
            "a file like brane-manager/branes.toml, or one that save wrote",
        )],
        options: &[
            flag("dry-run", Some('n'), "show the difference and change nothing"),
            flag("yes", Some('y'), "do not ask"),
        ],
        help: "change the running system to match a file",
        long: "Shows first the commands that make the difference. A file that save wrote makes none. Ports are not compared, \
               because `port` in the file counts only at boot. Works only on the host, because files are there.",
        example: "apply branes.toml --dry-run",
        schema: "apply",
        build: |m| {
            m.not_both("dry-run", "yes")?;
            Ok(Command::Apply {
                file: m.one("FILE")?.to_string(),
                dry_run: m.flag("dry-run"),
                yes: m.flag("yes"),
            })
        },
    },
    Verb {
        name: "save",
        arguments: &[optional(
            "FILE",
            Value::File,
            "the file to write (default: standard output)",
        )],
        options: &[],
        help: "write the desired configuration of the system to a file",
        long: "apply accepts the file, and a system can boot with it: name it under `boot` in configs.toml. Works only on the \
               host, because files are there.",
        example: "save branes.toml",
        schema: "save",
        build: |m| {
            Ok(Command::Save {
                file: m.optional("FILE").map(String::from),
            })
        },
    },
    Verb {
        name: "crash",
        arguments: &[BRANE],
        options: &[],
        help: "make a brane fault; the manager restarts it",
        long: "For tests of the recovery. show BRANE has the number of restarts.",
        example: "crash red",
        schema: "done",
        build: |m| Ok(Command::Send(Request::Crash(m.name("BRANE")?))),
    },
    Verb {
        name: "hang",
        arguments: &[BRANE],
        options: &[],
        help: "make a brane hang; the manager detects that and restarts it",
        long: "For tests of the recovery. After a few seconds show BRANE has the number of restarts.",
        example: "hang red",
        schema: "done",
        build: |m| Ok(Command::Send(Request::Hang(m.name("BRANE")?))),
    },
    Verb {
        name: "help",
        arguments: &[optional("VERB", Value::Verb, "the verb")],
        options: &[],
        help: "list the verbs, or explain one",
        long: "help nicctl lists the verbs for devices; help in lists those inside a brane.",
        example: "help limit",
        schema: "",
        build: |m| Ok(Command::Help(m.optional("VERB").map(String::from))),
    },
];
