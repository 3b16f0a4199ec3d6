//! Changes that stop nothing, each with its result.

use super::super::*;
use super::snapshots::kind;
use crate::samples::cidr;
use brane_abi::net::MacAddr;
use brane_abi::operator::{Kind, Mode};
use std::vec;

/// A change that stops nothing, and the result.
pub(super) type Passing = (&'static str, fn(&mut Snapshot), Outcome, &'static str);

pub(super) const PASSING: &[Passing] = &[
    (
        "red red",
        |s| s.rules("red", &["pass proto icmp rate 1/s", "drop"]),
        Outcome::Reaches,
        "rule 1: pass proto icmp rate 1/s",
    ),
    (
        "red blue",
        |s| {
            s.rules(
                "blue",
                &[
                    "pass in state new",
                    "drop in",
                    "pass out state established",
                    "drop out",
                ],
            )
        },
        Outcome::Reaches,
        "rule 3: pass out state established",
    ),
    (
        "red blue tcp 80",
        |s| {
            s.rules("red", &["pass in state established", "drop in"]);
            let mut web = s.tables_of("blue").listeners.clone().unwrap();
            web[0].local = "10.0.2.17:80".parse().unwrap();
            s.tables_of("blue").listeners = Some(web);
            s.rules(
                "blue",
                &["pass in proto tcp to any port 80 flags S/SA", "drop in"],
            );
        },
        Outcome::Reaches,
        "10.0.2.17:80",
    ),
    (
        "red blue",
        |s| s.rules("red", &["drop in proto tcp", "drop out proto udp"]),
        Outcome::Reaches,
        "no rule matches",
    ),
    (
        "red fe80::77:ff:fe00:11",
        |s| s.config("vnic1").allow = vec![cidr("10.0.2.16/32")],
        Outcome::Reaches,
        "link-local",
    ),
    (
        "red blue",
        |s| s.config("vnic1").allow = vec![cidr("10.0.2.16/30")],
        Outcome::Reaches,
        "10.0.2.16/30",
    ),
    (
        "red blue",
        |s| {
            kind(s, "vnic1", Kind::Pair("vnic2".into()));
            kind(s, "vnic2", Kind::Pair("vnic1".into()));
        },
        Outcome::Reaches,
        "its other end is vnic2",
    ),
    (
        "red blue",
        |s| {
            kind(s, "vnic1", Kind::Vlan(12));
            kind(s, "vnic2", Kind::Vlan(12));
        },
        Outcome::Reaches,
        "switch of nic0",
    ),
    (
        "red blue",
        |s| s.config("vnic1").rate_up = Some(10_000_000),
        Outcome::Reaches,
        "rate-up 10M",
    ),
    (
        "red blue",
        |s| s.config("vnic2").rate_down = Some(1000),
        Outcome::Reaches,
        "rate-down 1k",
    ),
    (
        "red blue",
        |s| s.config("vnic2").nic = 1,
        Outcome::Unknown,
        "only the outside connects them",
    ),
    (
        "red 10.0.2.2",
        |s| s.config("vnic1").mode = Mode::Private,
        Outcome::Reaches,
        "wire of nic0",
    ),
    ("red 10.9.9.9", |_| {}, Outcome::Reaches, "router 10.0.2.2"),
    ("10.9.9.9 red udp 7", |_| {}, Outcome::Reaches, "router 10.0.2.2"),
    (
        "red 10.0.5.17",
        |s| s.net0("blue").addresses[0].cidr = cidr("10.0.5.17/24"),
        Outcome::Unknown,
        "outside and decides",
    ),
    (
        "red blue",
        |s| {
            *s.tables_of("blue") = Tables {
                silent: Some("no answer in time".into()),
                ..Tables::default()
            };
        },
        Outcome::Unknown,
        "no answer in time",
    ),
    (
        "red blue udp 7",
        |s| drop(s.tables.remove("red")),
        Outcome::Unknown,
        "did not answer",
    ),
    (
        "red blue",
        |s| {
            s.tables_of("red").neighbours = Some(vec![Neighbour {
                ip: [10, 0, 2, 17].into(),
                mac: MacAddr([2, 0x77, 0, 0, 0, 17]),
                interface: "net0".into(),
                expires_ms: 1000,
            }]);
        },
        Outcome::Reaches,
        "is known",
    ),
];
