//! The verbs of `branectl` for the interfaces of branes and the limits of devices.
//!
//! They own no state. The person who types is not trusted: each word is checked here.

use super::super::{Opt, Value, Verb, flag, many, one, option, options};
use super::BRANE;
use crate::command::Command;
use crate::error::Error;
use crate::parse::Matches;
use crate::value_parsers;
use alloc::string::ToString;
use brane_abi::operator::{Addressing, Mode, Request};

const GATEWAY4: Opt = option("gateway4", None, "IP", Value::Text, "IPv4 default router");
const GATEWAY6: Opt = option("gateway6", None, "IP", Value::Text, "IPv6 default router");
const DHCP4: Opt = flag("dhcp4", None, "ask DHCP for an IPv4 address and router");
const SLAAC: Opt = flag("slaac", None, "take IPv6 addresses from router advertisements");
const MODES: &[&str] = &["bridge", "private"];

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "assign",
        arguments: &[
            one("DEVICE", Value::Device, "the device's name"),
            BRANE,
            many(
                "ADDRESS",
                Value::Text,
                "fixed addresses with their prefix lengths",
            ),
        ],
        options: &[
            option(
                "as",
                None,
                "NAME",
                Value::Text,
                "its name in the brane (default: the first free of net0, net1, ...)",
            ),
            GATEWAY4,
            GATEWAY6,
            DHCP4,
            SLAAC,
        ],
        help: "assign a device to a brane as an interface",
        long: "If another brane has the device, it moves; no frame of the former brane reaches the new one. Without addresses and \
               options for them, the interface keeps its addresses. A new one has only its link-local address.",
        example: "assign vnic9 red 10.0.2.20/24 --gateway4 10.0.2.2 --as net1",
        schema: "done",
        build: |m| {
            let addressing = addressing(m)?;
            Ok(Command::Send(Request::Assign {
                device: m.name("DEVICE")?,
                brane: m.name("BRANE")?,
                interface: m.value("as").map(value_parsers::new_name).transpose()?,
                addressing: (addressing != Addressing::default()).then_some(addressing),
            }))
        },
    },
    Verb {
        name: "remove",
        arguments: &[one(
            "DEVICE",
            Value::DeviceOrInterface,
            "a device, or an interface as BRANE/INTERFACE",
        )],
        options: &[],
        help: "remove a device from its brane",
        long: "Connections over the interface are reset. The device stays, unattached.",
        example: "remove red/net1",
        schema: "done",
        build: |m| {
            let name = m.one("DEVICE")?;
            if name.contains('/') {
                let (brane, interface) = value_parsers::interface(name)?;
                return Ok(Command::RemoveInterface { brane, interface });
            }
            Ok(Command::Send(Request::Remove(value_parsers::name(name)?)))
        },
    },
    Verb {
        name: "address",
        arguments: &[
            one("BRANE/INTERFACE", Value::Interface, "the interface"),
            many(
                "ADDRESS",
                Value::Text,
                "fixed addresses with their prefix lengths",
            ),
        ],
        options: &[
            GATEWAY4,
            GATEWAY6,
            DHCP4,
            SLAAC,
            flag("none", None, "no address but the link-local one"),
        ],
        help: "set all addresses of an interface",
        long: "The interface then has exactly the named addresses. To change a single address, use ifconfig in the brane.",
        example: "address red/net0 10.0.2.16/24 fec0::16/64 --gateway4 10.0.2.2 --slaac",
        schema: "done",
        build: |m| {
            let (brane, interface) = value_parsers::interface(m.one("BRANE/INTERFACE")?)?;
            let addressing = addressing(m)?;
            let none = addressing == Addressing::default();
            if none != m.flag("none") {
                return Err(if none {
                    Error::new(
                        "no address is given",
                        "name addresses, --dhcp4 or --slaac; or --none for none",
                    )
                } else {
                    Error::new("--none and addresses are given", "drop one of them")
                });
            }
            Ok(Command::Send(Request::Adjust {
                brane,
                interface,
                addressing,
            }))
        },
    },
    Verb {
        name: "limit",
        arguments: &[one("DEVICE", Value::Device, "the device's name")],
        options: &[
            option(
                "up",
                Some('u'),
                "RATE",
                Value::Text,
                "bytes per second that the device may send: 250k, 10M, 1.5G, or none",
            ),
            option(
                "down",
                Some('d'),
                "RATE",
                Value::Text,
                "bytes per second that the device may receive, in the form of --up",
            ),
            option(
                "mode",
                Some('m'),
                "MODE",
                Value::Word(MODES),
                "bridge: branes on the same NIC reach it; private: only the outside",
            ),
            options(
                "allow",
                Some('a'),
                "PREFIX",
                Value::Text,
                "prefixes of source addresses that may be sent, separated by commas; any for all",
            ),
        ],
        help: "change a device's mode and limits",
        long: "Settings that are not named stay. Rates are in bytes per second; k, M and G are factors of 10^3, 10^6 and 10^9. \
               The driver drops frames that exceed a limit and counts them: stats DEVICE.",
        example: "limit vnic1 --up 10M --down none --allow 10.0.2.16/32,fec0::/64",
        schema: "done",
        build: |m| {
            let mut allow: Option<alloc::vec::Vec<_>> = None;
            let words = m.all("allow");
            for word in words {
                if word == "any" && words.len() > 1 {
                    return Err(Error::new("--allow any beside prefixes", "drop one of them"));
                }
                let list = if word == "any" {
                    [].into()
                } else {
                    value_parsers::cidrs(word)?
                };
                allow.get_or_insert_default().extend(list);
            }
            let request = Request::Limit {
                device: m.name("DEVICE")?,
                mode: m.value("mode").map(mode).transpose()?,
                allow,
                rate_up: m.value("up").map(value_parsers::rate).transpose()?,
                rate_down: m.value("down").map(value_parsers::rate).transpose()?,
            };
            if let Request::Limit {
                mode: None,
                allow: None,
                rate_up: None,
                rate_down: None,
                ..
            } = request
            {
                return Err(Error::new(
                    "nothing to change",
                    "name --up, --down, --mode or --allow",
                ));
            }
            Ok(Command::Send(request))
        },
    },
];

/// Parses `bridge` or `private`.
pub fn mode(word: &str) -> Result<Mode, Error> {
    Ok(match value_parsers::word(word, MODES)?.as_str() {
        "private" => Mode::Private,
        _ => Mode::Bridge,
    })
}

fn addressing(m: &Matches) -> Result<Addressing, Error> {
    let wrong = |word: &str, family: &str| {
        Error::new(
            alloc::format!("{word} is not an {family} address"),
            "name the other option",
        )
    };
    let gateway4 = match m.value("gateway4").map(value_parsers::address).transpose()? {
        Some(core::net::IpAddr::V6(ip)) => return Err(wrong(&ip.to_string(), "IPv4")),
        Some(core::net::IpAddr::V4(ip)) => Some(ip),
        None => None,
    };
    let gateway6 = match m.value("gateway6").map(value_parsers::address).transpose()? {
        Some(core::net::IpAddr::V4(ip)) => return Err(wrong(&ip.to_string(), "IPv6")),
        Some(core::net::IpAddr::V6(ip)) => Some(ip),
        None => None,
    };
    Ok(Addressing {
        addresses: m
            .all("ADDRESS")
            .iter()
            .map(|w| value_parsers::cidr(w))
            .collect::<Result<_, _>>()?,
        gateway4,
        gateway6,
        dhcp4: m.flag("dhcp4"),
        slaac: m.flag("slaac"),
    })
}
