//! Converts a request to the line that has its effect. `apply` shows these lines, and a person can type them. Owns no state.

use crate::filter::joined;
use crate::json::mode;
use crate::table_layout::rate;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::filter::Edit;
use brane_abi::operator::{Addressing, Kind, Request};

/// Returns the line for a request that changes something; `None` for other requests.
pub fn line(request: &Request) -> Option<String> {
    Some(match request {
        Request::Create {
            name,
            families,
            start,
            memory,
        } => {
            let mut out = format!("branectl create {name}");
            for f in families.iter().flatten() {
                let protocols: Vec<&str> = f.protocols.iter().map(|p| p.name()).collect();
                out += &format!(" --family {}={}", f.family.name(), protocols.join(","));
            }
            if let Some(bytes) = memory {
                out += &format!(" --memory {bytes}");
            }
            if *start {
                out += " --start";
            }
            out
        }
        Request::Start(name) => format!("branectl start {name}"),
        Request::Shutdown { name, deadline_ms } => {
            format!("branectl shutdown {name} --deadline {deadline_ms}ms")
        }
        Request::Delete { name, deadline_ms: 0 } => format!("branectl delete {name} --now"),
        Request::Delete { name, deadline_ms } => format!("branectl delete {name} --deadline {deadline_ms}ms"),
        Request::RenameBrane { from, to } => format!("branectl rename {from} {to}"),
        Request::RenameInterface { brane, from, to } => format!("branectl rename {brane}/{from} {to}"),
        Request::Assign {
            device,
            brane,
            interface,
            addressing,
        } => {
            let mut out = format!("branectl assign {device} {brane}");
            if let Some(a) = addressing {
                out += &addresses(a);
            }
            if let Some(name) = interface {
                out += &format!(" --as {name}");
            }
            out
        }
        Request::Remove(device) => format!("branectl remove {device}"),
        Request::Adjust {
            brane,
            interface,
            addressing,
        } => {
            let words = addresses(addressing);
            let words = if words.is_empty() { " --none".into() } else { words };
            format!("branectl address {brane}/{interface}{words}")
        }
        Request::Limit {
            device,
            mode: m,
            allow,
            rate_up,
            rate_down,
        } => {
            let mut out = format!("branectl limit {device}");
            if let Some(m) = m {
                out += &format!(" --mode {}", mode(*m));
            }
            if let Some(allow) = allow {
                out += &format!(
                    " --allow {}",
                    if allow.is_empty() {
                        "any".into()
                    } else {
                        commas(allow)
                    }
                );
            }
            for (key, value) in [("up", rate_up), ("down", rate_down)] {
                if let Some(value) = value {
                    out += &format!(
                        " --{key} {}",
                        if *value == 0 { "none".into() } else { rate(*value) }
                    );
                }
            }
            out
        }
        Request::AddDevice(c) => {
            let mut out = match &c.kind {
                Kind::Pair(peer) => format!("nicctl create pair {} {peer}", c.name),
                Kind::Vlan(tag) => format!("nicctl create vlan {} --tag {tag}", c.name),
                other => format!("nicctl create {} {}", other.word(), c.name),
            };
            if c.nic != 0 {
                out += &format!(" --nic nic{}", c.nic);
            }
            if let Some(mac) = c.mac {
                out += &format!(" --mac {mac}");
            }
            if c.mode != brane_abi::operator::Mode::Bridge {
                out += &format!(" --mode {}", mode(c.mode));
            }
            if !c.allow.is_empty() {
                out += &format!(" --allow {}", commas(&c.allow));
            }
            for (key, value) in [("up", c.rate_up), ("down", c.rate_down)] {
                if let Some(value) = value {
                    out += &format!(" --{key} {}", rate(value));
                }
            }
            out
        }
        Request::DeleteDevice(name) => format!("nicctl delete {name}"),
        Request::RenameDevice { from, to } => format!("nicctl rename {from} {to}"),
        Request::Filter { brane, edit } => {
            let action = match edit {
                Edit::Add { at: None, rule } => format!("add {}", quoted(&branes_pfil::print(rule))),
                Edit::Add { at: Some(at), rule } => {
                    format!("add at {at} {}", quoted(&branes_pfil::print(rule)))
                }
                Edit::Delete(number) => format!("delete {number}"),
                Edit::Flush => "flush".into(),
                // A line has all requests of a replacement: see `steps`.
                Edit::Stage { .. } | Edit::Replace => return None,
            };
            format!("branectl filter {brane} {action}")
        }
        Request::Readmit(name) => format!("branectl readmit {name}"),
        Request::SetLogLevel { pd, level } => format!("branectl log {pd} {}", level.name()),
        _ => return None,
    })
}

/// A line, and the requests that have its effect together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The line.
    pub line: String,
    /// The requests, in order.
    pub requests: &'a [Request],
}

/// Converts requests that change something to lines. The requests of a replacement of a filter have one line together. Leaves out
/// other requests.
pub fn steps(requests: &[Request]) -> Vec<Step<'_>> {
    let mut out = Vec::new();
    let mut rules = Vec::new();
    let mut start = 0;
    for (at, request) in requests.iter().enumerate() {
        let line = match request {
            Request::Filter {
                edit: Edit::Stage { first, rules: part },
                ..
            } => {
                if *first {
                    rules.clear();
                }
                rules.extend_from_slice(part);
                continue;
            }
            Request::Filter {
                brane,
                edit: Edit::Replace,
            } => Some(match rules.is_empty() {
                true => format!("branectl filter {brane} flush"),
                false => format!("branectl filter {brane} replace {}", quoted(&joined(&rules))),
            }),
            other => line(other),
        };
        if let Some(line) = line {
            let requests = &requests[start..=at];
            out.push(Step { line, requests });
        }
        rules.clear();
        start = at + 1;
    }
    out
}

/// Returns the text as one word of a line.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.into(), |word| word.into_owned())
}

fn commas(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

fn addresses(a: &Addressing) -> String {
    let mut out = String::new();
    for cidr in &a.addresses {
        out += &format!(" {cidr}");
    }
    if let Some(ip) = a.gateway4 {
        out += &format!(" --gateway4 {ip}");
    }
    if let Some(ip) = a.gateway6 {
        out += &format!(" --gateway6 {ip}");
    }
    for (on, key) in [(a.dhcp4, "dhcp4"), (a.slaac, "slaac")] {
        if on {
            out += &format!(" --{key}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::parse::{self, Context};
    use crate::table::Program;
    use crate::{filter, samples, value_parsers};
    use alloc::vec;
    use brane_abi::filter::Rule;
    use brane_abi::operator::{DeviceConfig, Mode};
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Request> {
        let name = "[a-z][a-z0-9_.-]{0,8}";
        let address = proptest::sample::select(vec!["10.0.2.16/24", "fec0::16/64", "10.1.0.0/16"]);
        let addressing =
            (proptest::collection::vec(address, 0..3), any::<[bool; 4]>()).prop_map(|(list, flags)| {
                Addressing {
                    addresses: list.into_iter().map(samples::cidr).collect(),
                    gateway4: flags[0].then_some([10, 0, 2, 2].into()),
                    gateway6: flags[1].then(|| "fe80::2".parse().unwrap()),
                    dhcp4: flags[2],
                    slaac: flags[3],
                }
            });
        let some = addressing
            .clone()
            .prop_map(|a| Some(a).filter(|a| *a != Addressing::default()));
        let rate = prop_oneof![
            Just(None),
            (1..value_parsers::MAX_RATE).prop_map(Some),
            Just(Some(10_000_000))
        ];
        let kind = prop_oneof![
            Just(Kind::Vnic),
            (1u16..4095).prop_map(Kind::Vlan),
            Just(Kind::Pair("other-end".into()))
        ];
        let device = (name, kind, 0u8..4, any::<[bool; 3]>(), rate.clone(), rate.clone()).prop_map(
            |(name, kind, nic, flags, rate_up, rate_down)| DeviceConfig {
                name,
                kind,
                nic,
                mac: flags[0].then_some(brane_abi::net::MacAddr([2, 0x77, 0, 0, 9, 9])),
                mode: if flags[1] { Mode::Private } else { Mode::Bridge },
                allow: if flags[2] {
                    vec![samples::cidr("fec0::/64")]
                } else {
                    vec![]
                },
                rate_up,
                rate_down,
            },
        );
        let families = proptest::option::of(proptest::sample::select(vec![
            vec![value_parsers::family("inet=icmp").unwrap()],
            vec![
                value_parsers::family("inet=").unwrap(),
                value_parsers::family("inet6").unwrap(),
            ],
        ]));
        prop_oneof![
            (name, families, any::<bool>(), proptest::option::of(any::<u32>())).prop_map(
                |(name, families, start, memory)| Request::Create {
                    name,
                    families,
                    start,
                    memory,
                }
            ),
            name.prop_map(Request::Start),
            (name, any::<u32>()).prop_map(|(name, deadline_ms)| Request::Shutdown { name, deadline_ms }),
            (name, 0u32..3).prop_map(|(name, deadline_ms)| Request::Delete { name, deadline_ms }),
            (name, name).prop_map(|(from, to)| Request::RenameBrane { from, to }),
            (name, name, name).prop_map(|(brane, from, to)| Request::RenameInterface { brane, from, to }),
            (name, name, proptest::option::of(name), some).prop_map(
                |(device, brane, interface, addressing)| Request::Assign {
                    device,
                    brane,
                    interface,
                    addressing
                }
            ),
            name.prop_map(Request::Remove),
            (name, name, addressing).prop_map(|(brane, interface, addressing)| Request::Adjust {
                brane,
                interface,
                addressing
            }),
            (
                name,
                any::<bool>(),
                proptest::option::of(0..value_parsers::MAX_RATE)
            )
                .prop_map(|(device, any, rate_up)| Request::Limit {
                    device,
                    mode: Some(Mode::Bridge),
                    allow: Some(if any {
                        vec![]
                    } else {
                        vec![samples::cidr("10.0.0.0/8")]
                    }),
                    rate_up,
                    rate_down: None,
                }),
            device.prop_map(Request::AddDevice),
            name.prop_map(Request::DeleteDevice),
            (name, name).prop_map(|(from, to)| Request::RenameDevice { from, to }),
            (name, edits()).prop_map(|(brane, edit)| Request::Filter { brane, edit }),
        ]
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let texts = vec![
            "drop",
            "pass in on net0 inet proto tcp from 10.0.0.0/8 to any port 22,80-90 flags S/SA state new rate 10/s burst 20",
            "reject out inet6 proto icmp6 icmp-type echo/0",
            "drop bpf \"48 0 0 9; 21 0 1 6; 6 0 0 1; 6 0 0 0\"",
        ];
        proptest::sample::select(texts).prop_map(|text| branes_pfil::parse(text).unwrap())
    }

    fn edits() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (proptest::option::of(1u16..65), some_rule()).prop_map(|(at, rule)| Edit::Add { at, rule }),
            (1u16..65).prop_map(Edit::Delete),
            Just(Edit::Flush),
        ]
    }

    proptest! {
        #[test]
        fn a_replacement_has_one_line(rules in proptest::collection::vec(some_rule(), 1..30)) {
            let before = Request::Start("red".into());
            let mut all = vec![before.clone()];
            all.extend(filter::requests("red", &rules).unwrap());
            all.push(before.clone());
            let steps = steps(&all);
            prop_assert_eq!(steps.len(), 3);
            prop_assert_eq!(steps[0].requests, &all[..1]);
            prop_assert_eq!(steps[1].requests, &all[1..all.len() - 1]);
            prop_assert_eq!(steps[2].requests, &all[all.len() - 1..]);
            let words = shlex::split(&steps[1].line).unwrap();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let parsed = parse::words_of(&words, &Context::of(Program::Branectl)).unwrap();
            let brane = "red".to_string();
            prop_assert_eq!(parsed.command, Command::FilterReplace { brane, rules });
        }

        #[test]
        fn what_is_spelled_is_understood(request in requests()) {
            let line = line(&request).unwrap();
            let parsed = parse::line(&line, &Context::of(Program::Branectl));
            prop_assert_eq!(parsed.map(|p| p.unwrap().command), Ok(Command::Send(request)), "{}", line);
        }
    }
}
