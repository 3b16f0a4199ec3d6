//! The verbs `why` and `reach`. They own no state. The person who types is not trusted: `crate::reach` checks the words.

use super::{Argument, Value, Verb, flag, one, optional};
use crate::command::Command;
use crate::reach::{PROTOCOLS, Place, Reach, Traffic, Why};

const PROTO: Argument = optional(
    "PROTO",
    Value::Word(PROTOCOLS),
    "icmp, tcp or udp (default: icmp)",
);
const PORT: Argument = optional("PORT", Value::Text, "the destination port of tcp or udp");

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "why",
        arguments: &[
            one(
                "FROM",
                Value::BraneOrInterface,
                "the sender: a brane, BRANE/INTERFACE or an address",
            ),
            one(
                "TO",
                Value::BraneOrInterface,
                "the receiver: a brane, BRANE/INTERFACE or an address",
            ),
            PROTO,
            PORT,
        ],
        options: &[],
        help: "show step by step what lets traffic pass or stops it",
        long: "Evaluates the state of the moment and sends no packet. Each step has a verdict: pass, stop, or unknown if the answers do \
               not decide it. The first step that stops the traffic is the last one. The steps that begin with reply- are those of the \
               answer. Of a brane as TO, the first address counts. An address that no brane has is outside, and the steps there are not shown.\n\
               Filters are evaluated for a new flow and without rates. A neighbour without an entry is unknown, because the brane asks for \
               it. Ends with status 1 if a step stops the traffic.",
        example: "why red blue tcp 80",
        schema: "why",
        build: |m| {
            Ok(Command::Why(Why {
                from: Place::parse(m.one("FROM")?)?,
                to: Place::parse(m.one("TO")?)?,
                traffic: Traffic::parse(m.optional("PROTO"), m.optional("PORT"))?,
            }))
        },
    },
    Verb {
        name: "reach",
        arguments: &[PROTO, PORT],
        options: &[flag(
            "probe",
            Some('p'),
            "send an echo request for each pair too, and show differences",
        )],
        help: "show which started brane reaches which",
        long: "Rows are senders, columns receivers. Each pair is computed as why does, for the receiver's first address of each family: \
               yes, no, or ? if it is unknown. A line for each no names the step that stops the traffic. With --probe, each sender also \
               sends an echo request and waits for a reply for one second. Ends with status 1 if a computed result and a tried one differ.",
        example: "reach --probe",
        schema: "reach",
        build: |m| {
            let traffic = Traffic::parse(m.optional("PROTO"), m.optional("PORT"))?;
            Reach::new(traffic, m.flag("probe")).map(Command::Reach)
        },
    },
];
