//! Snapshots with one change each, in both families: `why` must stop at the right step, or pass.

use super::*;
use crate::samples::cidr;
use brane_abi::control::{AddressStatus, InterfaceStatus, Origin};
use passes::PASSING;
use snapshots::snapshot;
use stops::CASES;

mod passes;
mod snapshots;
mod stops;

fn ask(snapshot: &Snapshot, line: &str) -> Result<Explanation, Error> {
    let words: Vec<&str> = line.split(' ').collect();
    let question = Why {
        from: Place::parse(words[0])?,
        to: Place::parse(words[1])?,
        traffic: Traffic::parse(words.get(2).copied(), words.get(3).copied())?,
    };
    why(snapshot, &question)
}

fn names(found: &Explanation) -> Vec<&'static str> {
    found.steps.iter().map(|step| step.step).collect()
}

#[test]
fn traffic_between_two_branes_passes_all_steps() {
    let found = ask(&snapshot(), "red blue").unwrap();
    assert_eq!(
        names(&found),
        [
            "brane",
            "brane",
            "route",
            "filter-out",
            "neighbour",
            "source-guard",
            "path",
            "interface",
            "address",
            "filter-in",
            "reply-route",
            "reply-filter-out",
            "reply-source-guard",
            "reply-path",
            "reply-filter-in"
        ]
    );
    assert!(names(&found).iter().all(|name| STEPS.contains(name)));
    assert_eq!(found.outcome(), Outcome::Reaches);
    let addresses = (
        found.source.unwrap().to_string(),
        found.destination.unwrap().to_string(),
    );
    assert_eq!(addresses, ("10.0.2.16".into(), "10.0.2.17".into()));
    let found = ask(&snapshot(), "red fec0::11 udp 7").unwrap();
    assert_eq!(found.outcome(), Outcome::Reaches, "{}", found.text());
    assert_eq!(found.source.unwrap().to_string(), "fec0::10");
    assert!(names(&found).contains(&"listener"));
    for line in ["red red", "red 127.0.0.1", "red ::1 udp 7", "red 10.0.2.16"] {
        let found = ask(&snapshot(), line).unwrap();
        assert_eq!(found.outcome(), Outcome::Reaches, "{line}: {}", found.text());
        assert!(!names(&found).contains(&"path"), "{line}: {}", found.text());
    }
}

#[test]
fn each_fault_stops_at_its_step() {
    for (line, change, brane, step, words) in CASES {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        let found = ask(&snapshot, line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let text = found.text();
        let stop = found
            .stop()
            .unwrap_or_else(|| panic!("{line} passes, not {step}:\n{text}"));
        assert_eq!(
            (stop.step, stop.brane.as_str()),
            (*step, *brane),
            "{line}:\n{text}"
        );
        assert!(stop.place().contains(words), "{line}, {words}:\n{text}");
        assert_eq!(found.steps.last(), Some(stop), "{text}");
        assert!(
            text.ends_with(&format!("stopped at: {}\n", stop.place())),
            "{text}"
        );
        assert_eq!(found.outcome(), Outcome::Stopped);
    }
    // Every step that can stop is among them.
    for step in STEPS
        .iter()
        .filter(|step| !matches!(**step, "rate" | "reply-path"))
    {
        assert!(CASES.iter().any(|case| case.3 == *step), "{step}");
    }
}

#[test]
fn the_answers_path_is_a_step_of_its_own() {
    // Blue answers by a router that is a brane.
    let mut snapshot = snapshot();
    let routes = snapshot.tables_of("blue").routes.as_mut().unwrap();
    routes.retain(|route| route.to.prefix != 24);
    let default = routes.iter_mut().find(|route| route.via.is_some()).unwrap();
    default.via = Some([10, 0, 2, 15].into());
    let found = ask(&snapshot, "red blue").unwrap();
    assert_eq!(
        found.stop().map(|stop| stop.step),
        Some("reply-path"),
        "{}",
        found.text()
    );
}

#[test]
fn what_stops_nothing_passes_or_is_unknown() {
    for (line, change, outcome, words) in PASSING {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        let found = ask(&snapshot, line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let text = found.text();
        assert_eq!(found.outcome(), *outcome, "{line}, {words}:\n{text}");
        assert!(text.contains(words), "{line}, {words}:\n{text}");
        let (from, to) = line.split_once(' ').unwrap();
        let to = to.split(' ').next().unwrap();
        let end = match outcome {
            Outcome::Unknown => format!("{from} reaches {to} if the unknown steps pass\n"),
            _ => format!("{from} reaches {to}\n"),
        };
        assert!(text.ends_with(&end), "{text}");
    }
}

#[test]
fn outside_has_no_steps() {
    let found = ask(&snapshot(), "red 10.0.2.2").unwrap();
    assert!(
        found.steps.iter().all(|step| step.brane == "red"),
        "{}",
        found.text()
    );
    assert_eq!(names(&found).last(), Some(&"reply-filter-in"));
    let found = ask(&snapshot(), "10.0.2.2 red udp 7").unwrap();
    assert!(
        found.steps.iter().all(|step| step.brane == "red"),
        "{}",
        found.text()
    );
    assert_eq!(names(&found)[..3], ["brane", "path", "interface"]);
    assert_eq!(names(&found).last(), Some(&"reply-path"));
}

#[test]
fn wrong_ends_are_errors() {
    for (line, error) in [
        (
            "rde blue",
            "no brane named \"rde\": the branes are main, red, blue",
        ),
        (
            "red bleu",
            "no brane named \"bleu\": the branes are main, red, blue",
        ),
        (
            "red/net9 blue",
            "no interface \"net9\" in brane red: there are lo0, none",
        ),
        ("red blue/lo0", "lo0 of blue leads to blue alone: write blue"),
        (
            "10.0.2.2 10.0.2.3",
            "no brane has the address 10.0.2.2 or 10.0.2.3: name a brane at one end",
        ),
        (
            "10.0.2.16 fec0::11",
            "10.0.2.16 and fec0::11 are of different families: name addresses of one family",
        ),
        (
            "127.0.0.1 red",
            "127.0.0.1 is an address of every brane: name a brane",
        ),
        (
            "red 224.0.0.1",
            "224.0.0.1 is not the address of one host: name a brane, BRANE/INTERFACE or the address of a host",
        ),
        (
            "red ::",
            ":: is not the address of one host: name a brane, BRANE/INTERFACE or the address of a host",
        ),
        ("red blue icmp 7", "icmp has no ports: drop the port"),
        (
            "red blue tcp",
            "missing PORT of tcp: write tcp and a port from 1 to 65535",
        ),
        (
            "red blue udp 0",
            "\"0\" is not a number from 1 to 65535: write it in decimal digits",
        ),
        (
            "red blue sctp 1",
            "\"sctp\" is none of icmp, tcp, udp: use one of them",
        ),
    ] {
        assert_eq!(ask(&snapshot(), line).unwrap_err().to_string(), error, "{line}");
    }
}

#[test]
fn the_source_is_chosen_as_the_stack_chooses_it() {
    let of = |list: &[&str], to: &str| {
        let addresses = list.iter().map(|text| AddressStatus {
            cidr: cidr(text),
            origin: Origin::Static,
        });
        let interface = InterfaceStatus {
            addresses: addresses.collect(),
            ..InterfaceStatus::default()
        };
        routes::source(&interface, to.parse().unwrap()).map(|ip| ip.to_string())
    };
    let four = ["10.0.2.16/24", "10.0.9.51/24"];
    let six = ["fe80::1/64", "fec0::1/64", "2001:db8::1/64", "2001:db8:9::1/64"];
    for (own, to, source) in [
        (&four[..], "10.0.9.1", Some("10.0.9.51")),
        (&four, "8.8.8.8", Some("10.0.2.16")),
        (&four, "fec0::2", None),
        (&six, "fe80::9", Some("fe80::1")),
        (&six, "fec0::9", Some("fec0::1")),
        (&six, "2001:db8:9::5", Some("2001:db8:9::1")),
        (&six, "2001:db8::5", Some("2001:db8::1")),
        (&six[..1], "2001:db8::5", Some("fe80::1")),
        (&six[..0], "fec0::9", None),
    ] {
        assert_eq!(of(own, to).as_deref(), source, "{own:?} to {to}");
    }
}

#[test]
fn prefixes_hold_their_addresses() {
    for (prefix, address, inside) in [
        ("10.0.2.0/24", "10.0.2.255", true),
        ("10.0.2.0/24", "10.0.3.0", false),
        ("0.0.0.0/0", "255.1.2.3", true),
        ("10.0.2.16/32", "10.0.2.17", false),
        ("::/0", "fec0::1", true),
        ("::/0", "10.0.2.1", false),
        ("fec0::/65", "fec0::8000:0:0:0", false),
        ("fec0::1/128", "fec0::1", true),
    ] {
        assert_eq!(
            devices::within(&cidr(prefix), address.parse().unwrap()),
            inside,
            "{prefix} {address}"
        );
    }
}

#[test]
fn the_matrix_has_each_pair_of_started_branes() {
    let mut all = snapshot();
    all.the("main").state = "created".into();
    all.rules("blue", &["drop in inet proto icmp icmp-type echo"]);
    let mut matrix = Matrix::new(&all, Traffic::Icmp, false);
    assert_eq!(
        matrix.text(),
        "inet icmp  red  blue\nred        -    no\nblue       yes  -\n\
         inet6 icmp  red  blue\nred         -    yes\nblue        yes  -\n\
         inet red to blue: filter-in of blue: rule 1: drop in inet proto icmp icmp-type echo\n"
    );
    assert!(!matrix.differs());
    matrix.probe = true;
    for pair in &mut matrix.pairs {
        pair.tried = Some(pair.family == Family::Inet);
    }
    assert!(matrix.differs());
    assert!(matrix.text().contains("no (tried: yes)") && matrix.text().contains("yes (tried: no)"));
    assert!(
        matrix
            .text()
            .ends_with("3 differences between computed and tried\n"),
        "{}",
        matrix.text()
    );
    let none = Matrix::new(&Snapshot::default(), Traffic::Tcp(80), false);
    assert_eq!(
        none.text(),
        "no two started branes have addresses of one family\n"
    );
}
