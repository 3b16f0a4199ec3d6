//! The manager's answers as text for a person.

use crate::command::{COMMANDS, Command};
use crate::table::Table;
use alloc::format;
use alloc::string::{String, ToString};
use brane_abi::console::{self, Brane, CounterGroup, List, Refusal, Stats};
use brane_abi::control::{Counter, InterfaceStatus, Origin};

/// The answer of `help`.
pub fn help() -> String {
    let mut table = Table::default();
    for (name, argument, what) in COMMANDS {
        table.row([format!("{name} {argument}"), what.into()]);
    }
    table.text("") + "up and down bring earlier lines back, Tab completes a command's name\n"
}

/// The answer to a command: the reply's label, the bytes of the region.
pub fn answer(command: &Command, label: u64, bytes: &[u8]) -> String {
    if label != console::OK {
        return match minicbor::decode::<Refusal>(bytes) {
            Ok(Refusal { what, help }) => format!("{what}: {help}\n"),
            Err(_) => format!("the manager refused the command (reply {label})\n"),
        };
    }
    let text = match command {
        Command::Help => Ok(help()),
        Command::List => minicbor::decode(bytes).map(|l| list(&l)),
        Command::Show(_) => minicbor::decode(bytes).map(|b| show(&b)),
        Command::Stats => minicbor::decode(bytes).map(|s| stats(&s)),
        Command::Crash(name) => Ok(format!(
            "{name} is told to fault; `show {name}` tells how it came back\n"
        )),
        Command::Hang(name) => Ok(format!(
            "{name} is told to hang; in a few seconds `show {name}` tells how it came back\n"
        )),
    };
    text.unwrap_or_else(|e| {
        format!("the manager's answer cannot be read ({e}): build console and manager from the same source\n")
    })
}

/// Whether each started brane of a list (the manager's answer to `LIST`) has reported within the last `ms` milliseconds.
pub fn all_reported(list: &[u8], ms: u64) -> bool {
    minicbor::decode::<List>(list).is_ok_and(|list| {
        let mut started = list.branes.iter().filter(|b| b.state == "started");
        started.all(|b| b.status_age_ms <= ms)
    })
}

/// `-` for nothing.
fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn list(list: &List) -> String {
    let mut table = Table::new(["BRANE", "STATE", "RESTARTS", "INTERFACE", "MAC", "ADDRESSES"]);
    for brane in &list.branes {
        let mut head = [
            format!("{}{}", brane.name, if brane.primary { " (primary)" } else { "" }),
            brane.state.clone(),
            brane.restarts.to_string(),
        ];
        let mut interfaces = brane
            .status
            .interfaces
            .iter()
            .filter(|i| i.name != "lo0")
            .peekable();
        if interfaces.peek().is_none() {
            let [a, b, c] = core::mem::take(&mut head);
            table.row([a, b, c, "-".into(), "-".into(), "-".into()]);
        }
        for i in interfaces {
            let shown = i.addresses.iter().filter(|a| a.origin != Origin::Link);
            let [a, b, c] = core::mem::take(&mut head);
            table.row([
                a,
                b,
                c,
                i.name.clone(),
                i.mac.to_string(),
                or_dash(join(shown.map(|a| a.cidr))),
            ]);
        }
    }
    table.text("")
}

fn join(items: impl Iterator<Item = impl ToString>) -> String {
    let mut out = String::new();
    for item in items {
        if !out.is_empty() {
            out += ", ";
        }
        out += &item.to_string();
    }
    out
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "static",
        Origin::Dhcp => "dhcp",
        Origin::Slaac => "slaac",
        Origin::Link => "link",
    }
}

fn show(brane: &Brane) -> String {
    let mut facts = Table::default();
    let mut fact = |name: &str, value: String| facts.row([name.into(), value]);
    fact(
        "number",
        format!("{}{}", brane.id, if brane.primary { " (primary)" } else { "" }),
    );
    fact("state", brane.state.clone());
    fact("restarts", brane.restarts.to_string());
    fact("last fault", or_dash(brane.last_fault.clone()));
    let us = brane.recovery_us;
    if us != 0 {
        fact("recovered in", format!("{}.{:03} ms", us / 1000, us % 1000));
    }
    if !brane.status.interfaces.is_empty() {
        fact("reported", format!("{} ms ago", brane.status_age_ms));
    }
    let mut out = format!("brane {}\n{}", brane.name, facts.text("  "));
    if brane.status.interfaces.is_empty() {
        out += "it has not reported yet\n";
    }
    for i in &brane.status.interfaces {
        out += &interface(i);
    }
    if !brane.status.counters.is_empty() {
        out += "counters\n";
        out += &counters(brane.status.counters.iter());
    }
    for group in &brane.vifs {
        out += &format!("device {}\n{}", group.name, counters(group.counters.iter()));
    }
    out
}

fn interface(i: &InterfaceStatus) -> String {
    let mut facts = Table::default();
    if !i.device.is_empty() {
        facts.row(["device".into(), i.device.clone()]);
    }
    if i.mac.is_station() {
        facts.row(["mac".into(), i.mac.to_string()]);
    }
    facts.row(["mtu".into(), i.mtu.to_string()]);
    for a in &i.addresses {
        facts.row(["address".into(), format!("{} ({})", a.cidr, origin(a.origin))]);
    }
    if let Some(ip) = i.gateway4 {
        facts.row(["gateway4".into(), ip.to_string()]);
    }
    if let Some(ip) = i.gateway6 {
        facts.row(["gateway6".into(), ip.to_string()]);
    }
    let up = if i.up { "up" } else { "down" };
    format!("interface {} is {up}\n{}", i.name, facts.text("  "))
}

fn counters<'a>(list: impl Iterator<Item = &'a Counter>) -> String {
    let mut table = Table::default();
    for c in list {
        table.row([c.name.clone(), c.value.to_string()]);
    }
    table.text("  ")
}

fn stats(stats: &Stats) -> String {
    let mut out = String::new();
    for CounterGroup { name, counters: all } in &stats.groups {
        let shown = counters(all.iter().filter(|c| c.value != 0));
        if !shown.is_empty() {
            out += &format!("{name}\n{shown}");
        }
    }
    out + "counters that are not listed are 0\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::control::{AddressStatus, BraneStatus};
    use brane_abi::net::{Cidr, MacAddr};
    use proptest::prelude::*;

    fn sample() -> Brane {
        let address = |ip: [u8; 4], prefix, origin| AddressStatus {
            cidr: Cidr {
                ip: ip.into(),
                prefix,
            },
            origin,
        };
        let lo0 = InterfaceStatus {
            name: "lo0".into(),
            mtu: 65535,
            up: true,
            addresses: vec![address([127, 0, 0, 1], 8, Origin::Link)],
            ..InterfaceStatus::default()
        };
        let net0 = InterfaceStatus {
            name: "net0".into(),
            device: "vnic1".into(),
            mac: MacAddr([2, 0x77, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            addresses: vec![address([10, 0, 9, 51], 24, Origin::Dhcp)],
            gateway4: Some([10, 0, 9, 1].into()),
            ..InterfaceStatus::default()
        };
        Brane {
            id: 1,
            name: "red".into(),
            state: "started".into(),
            restarts: 2,
            last_fault: "invalid instruction (panic) at 0x201000".into(),
            recovery_us: 4100,
            status_age_ms: 12,
            status: BraneStatus {
                interfaces: vec![lo0, net0],
                counters: vec![Counter {
                    name: "client protocol errors".into(),
                    value: 0,
                }],
            },
            ..Brane::default()
        }
    }

    fn ok<T: minicbor::Encode<()>>(command: Command, value: T) -> String {
        answer(&command, console::OK, &minicbor::to_vec(value).unwrap())
    }

    #[test]
    fn list_has_a_line_for_each_interface() {
        let blue = Brane {
            name: "blue".into(),
            state: "restarting".into(),
            primary: true,
            ..Brane::default()
        };
        let text = ok(
            Command::List,
            List {
                branes: vec![sample(), blue],
            },
        );
        assert_eq!(
            text,
            "BRANE           STATE       RESTARTS  INTERFACE  MAC                ADDRESSES\n\
             red             started     2         net0       02:77:00:00:00:01  10.0.9.51/24\n\
             blue (primary)  restarting  0         -          -                  -\n"
        );
    }

    #[test]
    fn show_says_all_of_a_brane() {
        let text = ok(Command::Show("red".into()), sample());
        assert_eq!(
            text,
            "brane red\n  number        1\n  state         started\n  restarts      2\n  last fault    invalid \
             instruction (panic) at 0x201000\n  recovered in  4.100 ms\n  reported      12 ms ago\ninterface lo0 is \
             up\n  mtu      65535\n  address  127.0.0.1/8 (link)\ninterface net0 is up\n  device    vnic1\n  mac       \
             02:77:00:00:00:01\n  mtu       1500\n  address   10.0.9.51/24 (dhcp)\n  gateway4  \
             10.0.9.1\ncounters\n  client protocol errors  0\n"
        );
    }

    #[test]
    fn stats_leaves_zeros_out() {
        let counter = |name: &str, value| Counter {
            name: name.into(),
            value,
        };
        let groups = vec![
            CounterGroup {
                name: "nic0".into(),
                counters: vec![counter("rx_frames", 10), counter("rx_unclaimed", 0)],
            },
            CounterGroup {
                name: "vnic0".into(),
                counters: vec![counter("tx_spoofed", 0)],
            },
        ];
        let text = ok(Command::Stats, Stats { groups });
        assert_eq!(
            text,
            "nic0\n  rx_frames  10\ncounters that are not listed are 0\n"
        );
    }

    #[test]
    fn only_started_branes_are_waited_for() {
        let list = |state: &str, status_age_ms| {
            let brane = Brane {
                state: state.into(),
                status_age_ms,
                ..Brane::default()
            };
            minicbor::to_vec(List { branes: vec![brane] }).unwrap()
        };
        assert!(all_reported(&list("started", 20), 20));
        assert!(!all_reported(&list("started", 21), 20));
        assert!(!all_reported(&list("started", u64::MAX), 20));
        assert!(all_reported(&list("starting", u64::MAX), 20));
    }

    #[test]
    fn refusals_and_rubbish_are_said_in_a_line() {
        let why = Refusal {
            what: "no brane named \"rde\"".into(),
            help: "the branes are main, red, blue".into(),
        };
        let crash = Command::Crash("rde".into());
        assert_eq!(
            answer(&crash, console::ERROR, &minicbor::to_vec(why).unwrap()),
            "no brane named \"rde\": the branes are main, red, blue\n"
        );
        assert!(answer(&crash, 7, &[]).contains("reply 7"));
        assert!(answer(&Command::List, console::OK, &[1]).contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), label in 0u64..2) {
            let named = [Command::Show, Command::Crash, Command::Hang].map(|of| of("a".into()));
            for c in [Command::List, Command::Stats].into_iter().chain(named) {
                prop_assert!(answer(&c, label, &bytes).ends_with('\n'));
            }
        }
    }
}
