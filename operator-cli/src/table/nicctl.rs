//! The verbs of `nicctl`, for all devices, independent of their owners.

use super::branectl::mode;
use super::{Value, Verb, one, option, optional, options};
use crate::command::Command;
use crate::error::Error;
use crate::value_parsers;
use brane_abi::operator::{DeviceConfig, Kind, Request};

const DEVICE: super::Argument = one("DEVICE", Value::Device, "the device's name");
const KINDS: &[&str] = &["vnic", "vlan", "pair"];

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "list",
        arguments: &[],
        options: &[],
        help: "list all devices: kind, NIC, MAC address, state, owner",
        long: "Devices of kind phys are the NICs themselves.",
        example: "list",
        schema: "devices",
        build: |_| Ok(Command::Send(Request::Devices)),
    },
    Verb {
        name: "show",
        arguments: &[DEVICE],
        options: &[],
        help: "show one device: kind, limits, state, owner",
        long: "branectl stats DEVICE shows its counters.",
        example: "show vnic1",
        schema: "device",
        build: |m| Ok(Command::ShowDevice(m.name("DEVICE")?)),
    },
    Verb {
        name: "create",
        arguments: &[
            one(
                "KIND",
                Value::Word(KINDS),
                "vnic: an interface of a NIC with its own MAC address; vlan: a vnic in a VLAN; pair: a wire with two ends",
            ),
            one(
                "NAME",
                Value::Text,
                "its name: a-z, 0-9, - _ and ., a letter first, up to 31 bytes",
            ),
            optional("PEER", Value::Text, "the name of the other end of a pair"),
        ],
        options: &[
            option(
                "nic",
                Some('n'),
                "NIC",
                Value::Nic,
                "the NIC that carries it (default nic0)",
            ),
            option(
                "tag",
                Some('t'),
                "TAG",
                Value::Text,
                "the tag of a vlan on the wire (IEEE 802.1Q), 1 to 4094",
            ),
            option(
                "mac",
                None,
                "MAC",
                Value::Text,
                "its MAC address (default: one of the pool that follows from the name)",
            ),
            option(
                "mode",
                Some('m'),
                "MODE",
                Value::Word(&["bridge", "private"]),
                "bridge: branes on the same NIC reach it; private: only the outside",
            ),
            option(
                "up",
                Some('u'),
                "RATE",
                Value::Text,
                "bytes per second that the device may send: 250k, 10M, 1.5G",
            ),
            option(
                "down",
                Some('d'),
                "RATE",
                Value::Text,
                "bytes per second that the device may receive, in the form of --up",
            ),
            options(
                "allow",
                Some('a'),
                "PREFIX",
                Value::Text,
                "prefixes of source addresses that may be sent, separated by commas",
            ),
        ],
        help: "create a device",
        long: "No brane has the device until it is assigned to one. A pair is created with both ends: frames that are sent at one \
               end arrive at the other.",
        example: "create vlan office0 --tag 12 --nic nic0 --up 10M",
        schema: "done",
        build: |m| {
            let kind = value_parsers::word(m.one("KIND")?, KINDS)?;
            let tag = m.number("tag", 1, 4094)?;
            let peer = m.optional("PEER").map(value_parsers::new_name).transpose()?;
            let name = value_parsers::new_name(m.one("NAME")?)?;
            let extra = |what: &str, of: &str| {
                Err(Error::new(
                    alloc::format!("a {kind} has no {what}"),
                    alloc::format!("drop it, or make a {of}"),
                ))
            };
            let kind = match (kind.as_str(), tag, peer) {
                ("vlan", Some(tag), None) => Kind::Vlan(tag as u16),
                ("vlan", None, _) => {
                    return Err(Error::new("a vlan has a tag", "name it by --tag 1 to 4094"));
                }
                ("pair", None, Some(peer)) if peer == name => {
                    return Err(Error::new(
                        alloc::format!("both ends of the pair are \"{name}\""),
                        "name the other end differently",
                    ));
                }
                ("pair", None, Some(peer)) => Kind::Pair(peer),
                ("pair", _, None) => {
                    return Err(Error::new(
                        "a pair has two ends",
                        "name the other end too: create pair NAME PEER",
                    ));
                }
                ("vnic", None, None) => Kind::Vnic,
                (_, Some(_), _) => return extra("tag", "vlan"),
                (_, _, _) => return extra("other end", "pair"),
            };
            let mut allow = alloc::vec::Vec::new();
            for word in m.all("allow") {
                allow.extend(value_parsers::cidrs(word)?);
            }
            let rate = |key| {
                m.value(key)
                    .map(value_parsers::rate)
                    .transpose()
                    .map(|r| r.filter(|r| *r != 0))
            };
            Ok(Command::Send(Request::AddDevice(DeviceConfig {
                name,
                kind,
                nic: m.value("nic").map_or(Ok(0), value_parsers::nic)?,
                mac: m.value("mac").map(value_parsers::mac).transpose()?,
                mode: m.value("mode").map(mode).transpose()?.unwrap_or_default(),
                allow,
                rate_up: rate("up")?,
                rate_down: rate("down")?,
            })))
        },
    },
    Verb {
        name: "delete",
        arguments: &[DEVICE],
        options: &[],
        help: "delete an unattached device; for a pair, both ends",
        long: "To delete a device of a brane, remove it first: branectl remove DEVICE.",
        example: "delete office0",
        schema: "receipt",
        build: |m| Ok(Command::Send(Request::DeleteDevice(m.name("DEVICE")?))),
    },
    Verb {
        name: "rename",
        arguments: &[DEVICE, one("NEW", Value::Text, "its new name")],
        options: &[],
        help: "rename a device",
        long: "The brane that has the device keeps it. The name of the interface in the brane stays.",
        example: "rename vnic1 uplink",
        schema: "done",
        build: |m| {
            Ok(Command::Send(Request::RenameDevice {
                from: m.name("DEVICE")?,
                to: value_parsers::new_name(m.one("NEW")?)?,
            }))
        },
    },
];
