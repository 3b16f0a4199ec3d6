//! Faults, each with the step that must stop.

use super::super::*;
use super::snapshots::{interface, kind};
use crate::samples::cidr;
use brane_abi::net::MacAddr;
use brane_abi::operator::{IfNet, Kind, Mode};
use std::vec;

/// A fault: the line of `why`, the change of the snapshot, the brane and the step that must stop, a part of its words.
pub(super) type Case = (
    &'static str,
    fn(&mut Snapshot),
    &'static str,
    &'static str,
    &'static str,
);

pub(super) const CASES: &[Case] = &[
    (
        "red blue",
        |s| s.the("red").state = "created".into(),
        "red",
        "brane",
        "created",
    ),
    (
        "red blue",
        |s| s.the("blue").state = "restarting".into(),
        "blue",
        "brane",
        "restarting",
    ),
    (
        "red blue",
        |s| s.the("red").families[0].protocols.clear(),
        "red",
        "brane",
        "inet has no icmp",
    ),
    (
        "red fec0::11",
        |s| drop(s.the("blue").families.pop()),
        "blue",
        "brane",
        "no inet6",
    ),
    (
        "red blue tcp 80",
        |s| {
            s.the("blue").families[0]
                .protocols
                .retain(|p| *p != Protocol::Tcp)
        },
        "blue",
        "brane",
        "inet has no tcp",
    ),
    (
        "red blue",
        |s| s.the("blue").status.interfaces.truncate(1),
        "blue",
        "interface",
        "no interface besides lo0",
    ),
    (
        "red blue/net0",
        |s| {
            s.net0("blue").addresses.retain(|own| own.cidr.ip.is_ipv6());
            s.net0("red").addresses.retain(|own| own.cidr.ip.is_ipv4());
            s.the("blue")
                .interfaces
                .push(brane_abi::control::InterfaceConfig {
                    name: "net0".into(),
                    ..Default::default()
                });
        },
        "red",
        "route",
        "net0, it has no inet6 address",
    ),
    (
        "10.0.2.2 blue",
        |s| s.net0("blue").addresses.retain(|own| own.cidr.ip.is_ipv6()),
        "blue",
        "address",
        "no inet address",
    ),
    (
        "red blue",
        |s| {
            s.the("red").status.interfaces.truncate(1);
            s.routed("red");
        },
        "red",
        "route",
        "no interface besides lo0",
    ),
    (
        "red 10.9.9.9",
        |s| {
            s.tables_of("red")
                .routes
                .as_mut()
                .unwrap()
                .retain(|r| r.via.is_none())
        },
        "red",
        "route",
        "none",
    ),
    (
        "red fec0::11",
        |s| {
            s.net0("red").up = false;
            s.routed("red");
        },
        "red",
        "route",
        "net0 is down",
    ),
    (
        "red/net1 blue",
        |s| {
            let mut net1 = interface("net1", "vnic5", 99);
            net1.addresses = vec![net1.addresses[0]];
            net1.addresses[0].cidr = cidr("10.0.9.9/24");
            s.the("red").status.interfaces.push(net1);
            s.the("red").interfaces.push(brane_abi::control::InterfaceConfig {
                name: "net1".into(),
                ..Default::default()
            });
        },
        "red",
        "route",
        "leaves by net0",
    ),
    (
        "red blue",
        |s| s.rules("red", &["pass in", "drop out proto icmp"]),
        "red",
        "filter-out",
        "rule 2: drop out proto icmp",
    ),
    (
        "red fec0::11 udp 7",
        |s| s.rules("red", &["reject out inet6"]),
        "red",
        "filter-out",
        "rule 1",
    ),
    (
        "red blue udp 7",
        |s| {
            s.rules(
                "red",
                &[
                    "drop out proto udp to any port 9",
                    "drop out proto udp to any port 7 rate 1/s",
                ],
            )
        },
        "red",
        "filter-out",
        "rates are ignored",
    ),
    (
        "red blue",
        |s| {
            let wrong = Neighbour {
                ip: [10, 0, 2, 17].into(),
                mac: MacAddr([2, 9, 9, 9, 9, 9]),
                interface: "net0".into(),
                expires_ms: 5000,
            };
            s.tables_of("red").neighbours = Some(vec![wrong]);
        },
        "red",
        "neighbour",
        "02:09:09:09:09:09",
    ),
    (
        "red blue",
        |s| s.config("vnic1").allow = vec![cidr("10.9.0.0/16")],
        "red",
        "source-guard",
        "10.0.2.16 is not in",
    ),
    (
        "red fec0::11",
        |s| s.config("vnic1").allow = vec![cidr("fec0::11/128"), cidr("10.0.2.0/24")],
        "red",
        "source-guard",
        "fec0::10",
    ),
    (
        "red blue",
        |s| s.config("vnic1").mode = Mode::Private,
        "red",
        "path",
        "vnic1 has mode private",
    ),
    (
        "red fec0::11",
        |s| s.config("vnic2").mode = Mode::Private,
        "red",
        "path",
        "vnic2 has mode private",
    ),
    (
        "red blue",
        |s| kind(s, "vnic2", Kind::Vlan(12)),
        "red",
        "path",
        "vnic1 has no VLAN, vnic2 has VLAN 12",
    ),
    (
        "red blue",
        |s| {
            kind(s, "vnic1", Kind::Vlan(11));
            kind(s, "vnic2", Kind::Vlan(12));
        },
        "red",
        "path",
        "VLAN 11",
    ),
    (
        "red blue",
        |s| kind(s, "vnic1", Kind::Pair("vnic0".into())),
        "red",
        "path",
        "leads to vnic0 alone",
    ),
    (
        "red blue",
        |s| kind(s, "vnic2", Kind::Pair("vnic0".into())),
        "red",
        "path",
        "only vnic0",
    ),
    (
        "red 10.0.2.99",
        |s| kind(s, "vnic1", Kind::Pair("vnic0".into())),
        "red",
        "path",
        "leads to vnic0 alone",
    ),
    (
        "10.0.2.99 red",
        |s| kind(s, "vnic1", Kind::Pair("vnic0".into())),
        "red",
        "path",
        "only vnic0",
    ),
    (
        "red 10.9.9.9",
        |s| {
            s.net0("red").gateway4 = Some([10, 0, 2, 15].into());
            s.routed("red");
        },
        "red",
        "path",
        "brane main",
    ),
    (
        "red blue",
        |s| s.net0("blue").up = false,
        "blue",
        "interface",
        "down",
    ),
    (
        "red blue",
        |s| s.devices[2].ifnet = IfNet::Unattached,
        "blue",
        "interface",
        "in no brane",
    ),
    (
        // The packet goes to the address of another interface of the router.
        "red 10.0.3.15",
        |s| {
            let mut net1 = interface("net1", "vnic0", 15);
            net1.addresses[0].cidr = cidr("10.0.3.15/24");
            s.the("main").status.interfaces.push(net1);
            s.net0("red").gateway4 = Some([10, 0, 2, 15].into());
            s.routed("red");
        },
        "main",
        "address",
        "arrives at net0",
    ),
    (
        "red blue",
        |s| s.rules("blue", &["drop in proto icmp"]),
        "blue",
        "filter-in",
        "rule 1: drop in proto icmp",
    ),
    (
        "10.0.2.2 blue udp 7",
        |s| {
            s.rules(
                "blue",
                &["pass in from 10.0.2.16/32", "reject in proto udp to any port 7"],
            )
        },
        "blue",
        "filter-in",
        "rule 2",
    ),
    (
        "red fec0::11",
        |s| s.rules("blue", &["pass in state established", "drop in on net0 inet6"]),
        "blue",
        "filter-in",
        "new flow",
    ),
    (
        "red fec0::11 tcp 7",
        |s| {
            s.rules(
                "red",
                &["drop connect inet", "reject connect proto tcp to fec0::/64"],
            )
        },
        "red",
        "filter-connect",
        "rule 2",
    ),
    (
        "red blue tcp 7",
        |s| {
            s.rules(
                "blue",
                &["drop accept on net0 proto tcp from 10.0.2.0/24 to any port 7"],
            )
        },
        "blue",
        "filter-accept",
        "rule 1",
    ),
    (
        "red red tcp 7",
        |s| s.rules("red", &["drop connect on lo0 proto tcp"]),
        "red",
        "filter-connect",
        "rule 1",
    ),
    (
        "red blue udp 9",
        |s| s.tables_of("blue").listeners = Some(vec![]),
        "blue",
        "listener",
        "no socket listens",
    ),
    (
        "red blue udp 7",
        |s| s.tables_of("blue").listeners.as_mut().unwrap()[0].local = "10.0.2.1:7".parse().unwrap(),
        "blue",
        "listener",
        "only at 10.0.2.1:7",
    ),
    (
        "red fec0::11 udp 7",
        |s| s.tables_of("blue").listeners.as_mut().unwrap()[0].local = "0.0.0.0:7".parse().unwrap(),
        "blue",
        "listener",
        "0.0.0.0:7",
    ),
    (
        "red blue",
        |s| s.tables_of("blue").routes = Some(vec![]),
        "blue",
        "reply-route",
        "none",
    ),
    (
        "red blue",
        |s| s.rules("blue", &["pass in", "drop out"]),
        "blue",
        "reply-filter-out",
        "rule 2",
    ),
    (
        "red fec0::11 udp 7",
        |s| s.rules("blue", &["drop out proto udp from any port 7"]),
        "blue",
        "reply-filter-out",
        "port 7",
    ),
    (
        "red blue",
        |s| s.config("vnic2").allow = vec![cidr("10.0.2.16/32")],
        "blue",
        "reply-source-guard",
        "10.0.2.17 is not in",
    ),
    (
        "red blue",
        |s| s.rules("red", &["pass out", "drop in proto icmp icmp-type echo-reply"]),
        "red",
        "reply-filter-in",
        "rule 2",
    ),
    (
        "red fec0::11",
        |s| s.rules("red", &["pass in state related", "drop in"]),
        "red",
        "reply-filter-in",
        "rule 2",
    ),
    (
        "red red",
        |s| s.rules("red", &["drop in on lo0"]),
        "red",
        "filter-in",
        "rule 1",
    ),
    (
        "red red",
        |s| s.rules("red", &["drop out proto icmp icmp-type echo-reply"]),
        "red",
        "reply-filter-out",
        "rule 1",
    ),
    (
        "red ::1 udp 9",
        |s| s.tables_of("red").listeners = Some(vec![]),
        "red",
        "listener",
        "no socket",
    ),
];
