//! The verbs of `branectl`.

use super::{Opt, Value, Verb, flag, many, one, option, optional, options};
use crate::command::Command;
use crate::error::Error;
use crate::parse::Matches;
use crate::value_parsers;
use alloc::string::{String, ToString};
use brane_abi::operator::{Addressing, Mode, Request};

const BRANE: super::Argument = one("BRANE", Value::Brane, "the brane's name");
const DEADLINE: Opt = option(
    "deadline",
    Some('d'),
    "TIME",
    Value::Text,
    "time for connections to end, such as 500ms or 5s (default 5s)",
);
const GATEWAY4: Opt = option("gateway4", None, "IP", Value::Text, "IPv4 default router");
const GATEWAY6: Opt = option("gateway6", None, "IP", Value::Text, "IPv6 default router");
const DHCP4: Opt = flag("dhcp4", None, "ask DHCP for an IPv4 address and router");
const SLAAC: Opt = flag("slaac", None, "take IPv6 addresses from router advertisements");

/// Names of the log levels.
const LEVELS: [&str; 5] = ["off", "error", "warn", "info", "debug"];

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
        name: "readmit",
        arguments: &[one("SUBSCRIBER", Value::Text, "a quarantined subscriber")],
        options: &[],
        help: "restart a quarantined subscriber",
        long: "Restarts the subscriber's protection domain, which then subscribes again.",
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

const MODES: &[&str] = &["bridge", "private"];

/// Parses `bridge` or `private`.
pub fn mode(word: &str) -> Result<Mode, Error> {
    Ok(match value_parsers::word(word, MODES)?.as_str() {
        "private" => Mode::Private,
        _ => Mode::Bridge,
    })
}

fn deadline(m: &Matches) -> Result<u32, Error> {
    m.value("deadline").map_or(Ok(5000), value_parsers::time_ms)
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
