//! The verb `filter`, for branes by name and inside a brane. It owns no state. The person who types is not trusted: `crate::filter`
//! checks the words.

use super::{Argument, Value, Verb, many, one, optional};
use crate::filter::{self, ACTIONS};

const ACTION: Argument = optional(
    "ACTION",
    Value::Word(ACTIONS),
    "list, add, delete, flush or replace (default: list)",
);
const WORD: Argument = many(
    "WORD",
    Value::Word(&[
        "at",
        "pass",
        "drop",
        "reject",
        "in",
        "out",
        "on",
        "inet",
        "inet6",
        "proto",
        "from",
        "to",
        "any",
        "port",
        "flags",
        "icmp-type",
        "state",
        "rate",
        "burst",
        "bpf",
    ]),
    "add: at NUMBER, then the rule; delete: the number; replace: rules with ; between them, or a file",
);
const HELP: &str = "show or change the rules of a brane's packet filter";
const LONG: &str = "The first rule that matches a packet decides. A packet that matches no rule passes. list shows the rules in force, with \
     the packets and bytes that each has matched.\n\
     add puts a rule behind the last one, or at a number. delete removes the rule with a number, flush all rules. replace puts \
     other rules in the place of all rules, at once: rules with ; between them, or on the host a file with one rule in each line, \
     or - for standard input. A # begins a comment in a file. If a rule is wrong, nothing changes.\n\
     A rule has these clauses in this order: pass|drop|reject [in|out|bind|connect|accept] [on INTERFACE] [inet|inet6] [proto PROTOCOL] \
     [from any|ADDRESS[/LENGTH] [port PORT[-PORT],...]] [to any|ADDRESS[/LENGTH] [port PORT[-PORT],...]] [flags SET/MASK] \
     [icmp-type TYPE[/CODE]] [state new|established|related|invalid,...] [rate NUMBER/s [burst NUMBER]] [bpf PROGRAM]. \
     Rules with bind, connect or accept are for the sockets of clients; from and to are the ends of the packet that such a call sends or \
     waits for, so to is the local end for bind and accept, and the remote end for connect. A rule without in, out or one of these \
     is for packets.";

/// The verb of `branectl`.
pub const OF_BRANECTL: &[Verb] = &[Verb {
    name: "filter",
    arguments: &[one("BRANE", Value::Brane, "the brane's name"), ACTION, WORD],
    options: &[],
    help: HELP,
    long: LONG,
    example: "filter red add drop in proto tcp from 10.0.2.0/24 to any port 22,8000-8080",
    schema: "rules done",
    build: |m| {
        filter::command(
            "filter BRANE",
            m.name("BRANE")?,
            m.optional("ACTION"),
            m.all("WORD"),
        )
    },
}];

/// The verb inside a brane.
pub const IN_BRANE: &[Verb] = &[Verb {
    name: "filter",
    arguments: &[ACTION, WORD],
    options: &[],
    help: HELP,
    long: LONG,
    example: "filter add at 1 pass in proto icmp icmp-type echo rate 10/s",
    schema: "rules done",
    build: |m| filter::command("filter", m.brane()?, m.optional("ACTION"), m.all("WORD")),
}];
