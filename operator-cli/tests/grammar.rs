//! The grammar through its public interface: every verb of the table, every kind of mistake, completion.

use brane_abi::operator::{Kind, Names, Request};
use operator_cli::command::Command;
use operator_cli::complete;
use operator_cli::help;
use operator_cli::parse::{Context, Parsed, line};
use operator_cli::table::{Program, Verb};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Command, String> {
    match line(text, &Context::of(Program::Branectl)) {
        Ok(Some(parsed)) => Ok(parsed.command),
        Ok(None) => Err("nothing".into()),
        Err(e) => Err(e.to_string()),
    }
}

fn error(text: &str) -> String {
    parse(text).expect_err(text)
}

fn every_verb() -> impl Iterator<Item = (Program, &'static Verb)> {
    Program::ALL
        .into_iter()
        .flat_map(|p| p.verbs().map(move |v| (p, v)))
}

#[test]
fn every_example_parses_and_with_j_too() {
    for (program, verb) in every_verb() {
        let example = help::example(program, verb);
        assert!(example.contains(verb.name), "{example}");
        let plain =
            line(&example, &Context::of(Program::Branectl)).unwrap_or_else(|e| panic!("{example}: {e}"));
        assert!(!plain.unwrap().json);
        let json = line(&format!("{example} -j"), &Context::of(Program::Branectl))
            .unwrap()
            .unwrap();
        assert!(json.json, "{example}");
    }
}

#[test]
fn json_and_help_may_stand_before_the_verb_or_behind_it() {
    let red = Context {
        program: Program::InBrane,
        brane: Some("red".into()),
    };
    let here = Context::of(Program::Branectl);
    for (place, text) in [
        (&here, "-j list"),
        (&here, "--json list"),
        (&here, "branectl -j list"),
        (&here, "nicctl --json show vnic0"),
        (&here, "-j nicctl list"),
        (&here, "in red -j route"),
        (&red, "-j route"),
    ] {
        assert!(line(text, place).unwrap().unwrap().json, "{text}");
    }
    for (place, text, program, verb) in [
        (&here, "--help", Program::Branectl, None),
        (&here, "list --help", Program::Branectl, Some("list")),
        (&here, "-h list", Program::Branectl, Some("list")),
        (&here, "assign -h x", Program::Branectl, Some("assign")),
        (&here, "help --help", Program::Branectl, Some("help")),
        (&here, "nicctl --help", Program::Nicctl, None),
        (&here, "nicctl list --help", Program::Nicctl, Some("list")),
        (&here, "in --help", Program::InBrane, None),
        (&here, "in red --help", Program::InBrane, None),
        (&here, "in red ping --help", Program::InBrane, Some("ping")),
        (&here, "enter --help", Program::InBrane, None),
        (&red, "ping -h", Program::InBrane, Some("ping")),
    ] {
        let found = line(text, place).unwrap().unwrap().command;
        assert_eq!(found, Command::HelpOf(program, verb), "{text}");
    }
    assert_eq!(error("lst --help"), "no verb \"lst\": did you mean list?");
    assert_eq!(error("-j"), "missing VERB: `help` lists the verbs");
    assert_eq!(completed("-j sho"), ["show"]);
}

#[test]
fn every_verb_says_what_it_is() {
    for (program, verb) in every_verb() {
        assert!(
            !verb.help.is_empty() && !verb.long.is_empty() && !verb.example.is_empty(),
            "{}",
            verb.name
        );
        assert!(
            verb.help.len() <= 80,
            "{}: {} characters",
            verb.name,
            verb.help.len()
        );
        let text = help::verb(program, verb);
        for option in verb.all_options() {
            assert!(text.contains(&format!("--{}", option.long)), "{text}");
        }
        for argument in verb.arguments {
            assert!(
                text.contains(argument.name) && text.contains(argument.help),
                "{text}"
            );
        }
        assert!(help::about(Some(verb.name)).unwrap().contains(verb.help));
        assert!(help::list(program).contains(verb.help));
        let known = verb.schemas().all(|s| operator_cli::schema::schema(s).is_some());
        assert!(known, "{} has schema {}", verb.name, verb.schema);
        // Each letter and each long name of an option is used once.
        let mut all: Vec<String> = verb.all_options().map(|o| o.long.into()).collect();
        all.extend(verb.all_options().filter_map(|o| o.short).map(String::from));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "{}", verb.name);
    }
}

#[test]
fn all_that_is_asked_for_is_there() {
    let names = |p: Program| p.verbs().map(|v| v.name).collect::<Vec<_>>();
    for verb in [
        "create",
        "delete",
        "list",
        "show",
        "start",
        "shutdown",
        "uptime",
        "assign",
        "remove",
        "rename",
        "limit",
        "stats",
        "subscribers",
        "filters",
        "readmit",
        "events",
        "audit",
        "apply",
        "save",
        "crash",
        "hang",
        "address",
        "filter",
        "why",
        "reach",
        "capture",
    ] {
        assert!(names(Program::Branectl).contains(&verb), "{verb}");
    }
    assert_eq!(
        names(Program::Nicctl),
        ["list", "show", "create", "delete", "rename"]
    );
    assert_eq!(
        names(Program::InBrane),
        [
            "ifconfig", "route", "arp", "ndp", "netstat", "ping", "host", "filter"
        ]
    );
}

#[test]
fn lines_become_requests() {
    assert_eq!(parse("show red"), Ok(Command::Send(Request::Show("red".into()))));
    assert_eq!(parse("branectl show 'red'"), parse("show red"));
    assert_eq!(parse("list"), Ok(Command::Send(Request::List { fresh: true })));
    assert_eq!(
        parse("shutdown red -d 500ms"),
        Ok(Command::Send(Request::Shutdown {
            name: "red".into(),
            deadline_ms: 500
        }))
    );
    assert_eq!(
        parse("delete --now red"),
        Ok(Command::Send(Request::Delete {
            name: "red".into(),
            deadline_ms: 0
        }))
    );
    let Ok(Command::Send(Request::Limit {
        allow,
        rate_up,
        rate_down,
        ..
    })) = parse("limit vnic1 --up=10M --down none -a any")
    else {
        panic!()
    };
    assert_eq!(
        (allow, rate_up, rate_down),
        (Some(vec![]), Some(10_000_000), Some(0))
    );
    let Ok(Command::Send(Request::AddDevice(config))) = parse("nicctl create pair a b") else {
        panic!()
    };
    assert_eq!(config.kind, Kind::Pair("b".into()));
    let Ok(Command::Send(Request::Assign {
        addressing,
        interface,
        ..
    })) = parse("assign vnic9 red")
    else {
        panic!()
    };
    assert_eq!((addressing, interface), (None, None), "what it had stays");
}

#[test]
fn a_brane_that_was_entered_is_meant() {
    let place = Context {
        program: Program::InBrane,
        brane: Some("red".into()),
    };
    let inside = |text: &str| line(text, &place).map(|p| p.unwrap());
    assert_eq!(
        inside("ifconfig -a").unwrap().command,
        parse("in red ifconfig -a").unwrap()
    );
    assert_eq!(
        inside("exit"),
        Ok(Parsed {
            command: Command::Exit,
            json: false
        })
    );
    assert_eq!(
        inside("show red").unwrap_err().to_string(),
        "no verb \"show\": it is a command of branectl, outside of this brane: write exit first"
    );
    // Commands for the whole system, or for another brane, are refused.
    for text in [
        "branectl show red",
        "branectl create x",
        "-j branectl create x",
        "nicctl list",
        "branectl in blue arp",
        "branectl enter blue",
        "branectl --help",
        "in blue arp",
        "enter blue",
    ] {
        assert!(inside(text).is_err(), "{text}");
    }
    assert_eq!(
        inside("branectl create x").unwrap_err().to_string(),
        "branectl manages the whole system, and this prompt only brane red: write exit first; `help` lists the commands here"
    );
    for text in ["enter red", "enter red -j", "enter --json red", "-j enter red"] {
        assert_eq!(parse(text), Ok(Command::Enter("red".into())), "{text}");
    }
}

#[test]
fn every_mistake_names_the_thing_and_the_fix() {
    let long = "x".repeat(34);
    for (text, expected) in [
        ("creat red", "no verb \"creat\": did you mean create?"),
        ("nicctl lsit", "no verb \"lsit\": did you mean list?"),
        ("xyzzyplugh", "no verb \"xyzzyplugh\": `help` lists the verbs"),
        (
            "ifconfig -a",
            "no verb \"ifconfig\": it is a command inside a brane: in BRANE ifconfig",
        ),
        ("nicctl audit", "no verb \"audit\": write branectl audit"),
        (
            "create",
            "missing BRANE: usage: create BRANE [-f FAMILY[=PROTOCOL,...]]... [-m BYTES] [-s] [-j]",
        ),
        ("show", "missing BRANE: usage: show BRANE [-j]"),
        ("list red", "\"red\" is one word too many: usage: list [-q] [-j]"),
        (
            "crash red blue",
            "\"blue\" is one word too many: usage: crash BRANE [-j]",
        ),
        (
            "delete red --deadlin 5s",
            "no option --deadlin of delete: did you mean --deadline?",
        ),
        (
            "delete red -x",
            "no option -x of delete: usage: delete BRANE [-d TIME] [-n] [-j]",
        ),
        (
            "delete red --deadline",
            "missing TIME after --deadline: usage: delete BRANE [-d TIME] [-n] [-j]",
        ),
        (
            "delete red -d 1s -d 2s",
            "--deadline is given twice: usage: delete BRANE [-d TIME] [-n] [-j]",
        ),
        (
            "delete red --now -d 1s",
            "--now and --deadline are given: drop one of them",
        ),
        (
            "delete red -d soon",
            "\"soon\" is not a time: write it as in 500ms, 5s or 2m",
        ),
        (
            "list --quick=yes",
            "option does not require a value: --quick: usage: list [-q] [-j]",
        ),
        (
            "limit vnic1",
            "nothing to change: name --up, --down, --mode or --allow",
        ),
        (
            "limit vnic1 -m open",
            "\"open\" is none of bridge, private: use one of them",
        ),
        (
            "address red net0",
            "\"red\" is not an interface: write BRANE/INTERFACE, as in red/net0",
        ),
        (
            "address red/net0",
            "no address is given: name addresses, --dhcp4 or --slaac; or --none for none",
        ),
        (
            "address red/net0 10.0.0.1/8 --none",
            "--none and addresses are given: drop one of them",
        ),
        (
            "assign v red 10.0.0.1/8 --gateway4 fe80::1",
            "fe80::1 is not an IPv4 address: name the other option",
        ),
        (
            "nicctl create vlan v",
            "a vlan has a tag: name it by --tag 1 to 4094",
        ),
        (
            "nicctl create vlan v -t 4095",
            "\"4095\" is not a number from 1 to 4094: write it in decimal digits",
        ),
        (
            "nicctl create vnic v -t 5",
            "a vnic has no tag: drop it, or make a vlan",
        ),
        (
            "nicctl create vnic v w",
            "a vnic has no other end: drop it, or make a pair",
        ),
        (
            "nicctl create pair a",
            "a pair has two ends: name the other end too: create pair NAME PEER",
        ),
        (
            "nicctl create pair a a",
            "both ends of the pair are \"a\": name the other end differently",
        ),
        (
            "nicctl create tap a",
            "\"tap\" is none of vnic, vlan, pair: use one of them",
        ),
        ("in", "missing BRANE: usage: in BRANE COMMAND..."),
        ("in red", "missing COMMAND: usage: in BRANE COMMAND..."),
        ("enter", "missing BRANE: usage: enter BRANE"),
        ("enter -j", "missing BRANE: usage: enter BRANE"),
        ("enter -x red", "no option -x of enter: usage: enter BRANE"),
        (
            "enter red blue",
            "\"blue\" is one word too many: usage: enter BRANE",
        ),
        (
            "in red route add 10.0.0.0/8 10.0.2.2",
            "\"add 10.0.0.0/8 10.0.2.2\" is no change of a route: write add default GATEWAY, or delete default [GATEWAY]",
        ),
        (
            "in red ping -s 1401 10.0.2.2",
            "\"1401\" is not a number from 0 to 1400: write it in decimal digits",
        ),
        (
            "in red ping -W 11s 10.0.2.2",
            "--timeout of 11000 ms is too long: 10000 ms are allowed",
        ),
        (
            "in red netstat -rs",
            "more than one of -s, -r and -i is given: give one",
        ),
        (
            "in red netstat -r -p tcp",
            "-p is for sockets and for -s: drop it, or drop -r and -i",
        ),
        (
            "in red netstat -p icmp",
            "icmp has no sockets: add -s for its counters",
        ),
        (
            "show \"red",
            "a quotation mark or backslash stands alone: close it, or drop it",
        ),
        (
            "why red blue tcp",
            "missing PORT of tcp: write tcp and a port from 1 to 65535",
        ),
        ("why red blue icmp 7", "icmp has no ports: drop the port"),
        ("why red", "missing TO: usage: why FROM TO [PROTO] [PORT] [-j]"),
        (
            "why red 224.0.0.1",
            "224.0.0.1 is not the address of one host: name a brane, BRANE/INTERFACE or the address of a host",
        ),
        ("reach -p udp 7", "udp cannot be tried: drop --probe, or use icmp"),
        (
            "create g -f inet -f inet=udp",
            "family inet is given twice: give it once, with commas between its protocols",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    for text in [
        format!("show {long}"),
        format!("create {long}"),
        format!("in {long} arp"),
        format!("rename a {long}"),
    ] {
        assert_eq!(error(&text), "name too long: 34 bytes, 31 allowed", "{text}");
    }
    assert_eq!(error(&"x".repeat(600)), "line of 600 bytes: 512 are allowed");
    assert_eq!(error(&"x ".repeat(65)), "line of 65 words: 64 are allowed");
}

fn names() -> Names {
    let all = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Names {
        branes: all(&["main", "red", "blue"]),
        devices: all(&["vnic0", "vnic1", "nic0"]),
        interfaces: all(&["main/net0", "red/net0", "red/net1"]),
        nics: all(&["nic0"]),
        logs: all(&["brane-0", "nic0"]),
    }
}

fn completed(text: &str) -> Vec<String> {
    complete::line(text, &Context::of(Program::Branectl), &names()).candidates
}

#[test]
fn verbs_branes_devices_and_interfaces_are_completed() {
    for (text, expected) in [
        ("sho", &["show"][..]),
        (
            "s",
            &["save", "show", "shutdown", "start", "stats", "subscribers"],
        ),
        ("show ", &["blue", "main", "red"]),
        ("show r", &["red"]),
        ("show red ", &[]),
        ("why red/", &["red/net0", "red/net1"]),
        ("why red b", &["blue"]),
        ("why red blue ", &["icmp", "tcp", "udp"]),
        ("reach u", &["udp"]),
        ("assign vn", &["vnic0", "vnic1"]),
        ("assign vnic0 b", &["blue"]),
        ("assign --as x vnic0 b", &["blue"]),
        ("remove red/", &["red/net0", "red/net1"]),
        ("address m", &["main/net0"]),
        ("rename r", &["red", "red/net0", "red/net1"]),
        ("stats n", &["nic0"]),
        ("limit vnic0 --m", &["--mode"]),
        ("limit vnic0 --mode p", &["private"]),
        ("limit vnic0 -m p", &["private"]),
        ("limit vnic0 --mode=p", &["--mode=private"]),
        ("nicctl cr", &["create"]),
        ("nicctl create v", &["vlan", "vnic"]),
        ("nicctl create vnic v --nic ", &["nic0"]),
        ("in r", &["red"]),
        ("in red ifc", &["ifconfig"]),
        ("in red ifconfig n", &["net0", "net1"]),
        ("in blue ifconfig ", &["lo0"]),
        ("in red ifconfig net0 ine", &["inet", "inet6"]),
        ("filter r", &["red"]),
        ("filter red ", &["add", "delete", "flush", "list", "replace"]),
        ("filter red add dr", &["drop"]),
        ("in red filter add at 1 re", &["reject"]),
        ("enter b", &["blue"]),
        ("help lim", &["limit"]),
        ("xyz ", &[]),
        ("show red", &["red"]),
    ] {
        assert_eq!(completed(text), expected, "{text}");
    }
    let entered = Context {
        program: Program::InBrane,
        brane: Some("red".into()),
    };
    assert_eq!(
        complete::line("ifconfig net", &entered, &names()).candidates,
        ["net0", "net1"]
    );
    for text in ["branectl ", "branectl sho", "nicctl l"] {
        assert_eq!(
            complete::line(text, &entered, &names()).candidates,
            [""; 0],
            "{text}"
        );
    }
    let two = complete::line("assign vn", &Context::of(Program::Branectl), &names());
    assert_eq!((two.shared(), two.start), ("vnic", 7));
}

/// Generates words that the grammar knows, and some that it does not know.
fn word() -> impl Strategy<Value = String> {
    let mut known: Vec<String> = every_verb().map(|(_, v)| v.name.to_string()).collect();
    for (_, verb) in every_verb() {
        known.extend(verb.all_options().map(|o| format!("--{}", o.long)));
    }
    known.extend(
        [
            "in",
            "enter",
            "red",
            "net0",
            "red/net0",
            "inet",
            "10.0.0.1/8",
            "-a",
            "--",
            "-",
            "",
            "default",
        ]
        .map(String::from),
    );
    prop_oneof![3 => proptest::sample::select(known), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(text in any::<String>(), words in proptest::collection::vec(word(), 0..8)) {
        let words = words.join(" ");
        for place in [Context::of(Program::Branectl), Context::of(Program::Nicctl), Context { program: Program::InBrane, brane: Some("red".into()) }] {
            for text in [&text, &words] {
                match line(text, &place) {
                    Ok(_) => {}
                    Err(e) => prop_assert!(!e.what.is_empty()),
                }
                let completion = complete::line(text, &place, &names());
                prop_assert!(text.is_char_boundary(completion.start));
                let begun = &text[completion.start..];
                prop_assert!(completion.candidates.iter().all(|c| c.starts_with(begun)));
            }
        }
    }

    #[test]
    fn what_is_completed_is_taken(words in proptest::collection::vec(word(), 0..4)) {
        // The parser knows every verb that completion offers.
        let text = format!("{} ", words.join(" "));
        for candidate in completed(&text) {
            let whole = format!("{text}{candidate}");
            if let Err(e) = line(&whole, &Context::of(Program::Branectl)) {
                prop_assert!(!e.what.starts_with(&format!("no verb \"{candidate}\"")), "{whole}: {e}");
            }
        }
    }
}

#[test]
fn a_capture_has_a_target_options_and_an_expression() {
    use operator_cli::capture::{Options, Place};
    let Ok(Command::Capture(options)) =
        parse("capture red/net0 -w x.pcapng -s 64 --count=7 udp and 'port 53'")
    else {
        panic!()
    };
    let expected = Options {
        target: Place::Interface("red".into(), "net0".into()),
        write: Some("x.pcapng".into()),
        snaplen: Some(64),
        count: Some(7),
        words: vec!["udp".into(), "and".into(), "port 53".into()],
    };
    assert_eq!(options, expected);
    assert_eq!(options.expression(), "udp and port 53");
    // Behind -- a dash begins no option.
    let Ok(Command::Capture(options)) = parse("capture all -w - -- -1 + len > 60") else {
        panic!()
    };
    assert_eq!(
        (options.expression().as_str(), options.write.as_deref()),
        ("-1 + len > 60", Some("-"))
    );
    assert_eq!(
        error("capture"),
        "missing TARGET: usage: capture TARGET [EXPRESSION...] [-w FILE] [-s N] [-c N] [-j]"
    );
    assert_eq!(
        error("capture red -c 0").split(':').next(),
        Some("\"0\" is not a number from 1 to 18446744073709551615")
    );
    assert!(error("capture red -s 70000").contains("0 to 65535"));
    assert_eq!(completed("capture v"), ["vnic0", "vnic1"]);
    assert!(
        completed("capture ").contains(&"all".into()) && completed("capture ").contains(&"red/net0".into())
    );
}
