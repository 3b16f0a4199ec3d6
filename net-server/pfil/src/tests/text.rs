//! Text of rules: each clause, each fault with its column, and the way back.

use super::*;
use crate::{Problem, check, parse, print};

fn parsed(text: &str) -> Rule {
    parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn cidr(ip: &str, prefix: u8) -> Option<Cidr> {
    Some(Cidr {
        ip: ip.parse().unwrap(),
        prefix,
    })
}

fn ports(ranges: &[(u16, u16)]) -> Vec<PortRange> {
    ranges
        .iter()
        .map(|&(first, last)| PortRange { first, last })
        .collect()
}

#[test]
fn every_clause_is_understood() {
    let text = "reject out on em0 inet proto tcp from 10.0.2.0/24 port 1-3,7 to 192.168.0.1 port 80 \
                flags S/SA state new,established rate 10/s burst 5 bpf \"40 0 0 12; 21 0 1 2048; 6 0 0 1; 6 0 0 0\"";
    let rule = parsed(text);
    assert_eq!(
        rule,
        Rule {
            action: Action::Reject,
            direction: Some(Direction::Out),
            interface: Some("em0".into()),
            family: Some(Family::Inet),
            protocol: Some(6),
            from: End {
                prefix: cidr("10.0.2.0", 24),
                ports: ports(&[(1, 3), (7, 7)]),
            },
            to: End {
                prefix: cidr("192.168.0.1", 32),
                ports: ports(&[(80, 80)]),
            },
            flags: Some(TcpFlags {
                set: 0x02,
                mask: 0x12
            }),
            icmp: None,
            states: vec![FlowState::New, FlowState::Established],
            rate: Some(Rate {
                per_second: 10,
                burst: 5
            }),
            program: vec![
                instruction(40, 0, 0, 12),
                instruction(21, 0, 1, 2048),
                instruction(6, 0, 0, 1),
                instruction(6, 0, 0, 0),
            ],
        }
    );
    assert_eq!(print(&rule), text);
}

#[test]
fn short_forms_mean_the_same() {
    for (short, long) in [
        ("pass", "pass"),
        ("  drop \t in ", "drop in"),
        ("pass from any to any", "pass"),
        ("pass from port 53", "pass from any port 53"),
        ("pass proto 6 to port 80-80", "pass proto tcp to any port 80"),
        ("pass proto 200", "pass proto 200"),
        ("drop from fec0::2/128", "drop from fec0::2"),
        ("drop from 0.0.0.0/0", "drop from 0.0.0.0/0"),
        ("drop from 0:0:0:0:0:0:0:1", "drop from ::1"),
        ("pass proto icmp icmp-type 8", "pass proto icmp icmp-type echo"),
        (
            "pass proto icmp6 icmp-type unreachable/4",
            "pass proto icmp6 icmp-type unreachable/4",
        ),
        ("pass proto icmp6 icmp-type 99", "pass proto icmp6 icmp-type 99"),
        ("pass proto tcp flags /APURSF", "pass proto tcp flags /FSRPAU"),
        ("pass rate 7/s", "pass rate 7/s"),
        ("pass rate 7/s burst 7", "pass rate 7/s"),
        ("pass bpf 6 0 0 1", "pass bpf \"6 0 0 1\""),
        (
            "pass bpf \"2,48 0 0 9,6 0 0 1,\"",
            "pass bpf \"48 0 0 9; 6 0 0 1\"",
        ),
        (
            "pass bpf 2\n48 0 0 9\n6 0 0 1\n",
            "pass bpf \"48 0 0 9; 6 0 0 1\"",
        ),
    ] {
        assert_eq!(print(&parsed(short)), long, "{short}");
        assert_eq!(parsed(short), parsed(long), "{short}");
    }
}

#[test]
fn faults_name_their_column() {
    for (text, fault) in [
        ("", "column 1: the action (pass, drop or reject) is missing"),
        (
            "allow in",
            "column 1: `allow` is no action; known: pass, drop, reject",
        ),
        (
            "pass proto htp",
            "column 12: `htp` is no protocol; known: ah, esp, gre, icmp, icmp6, igmp, ipip, ospf, pim, sctp, tcp, udp, vrrp, 0 to 255",
        ),
        ("pass proto 256", "column 12: `256` is no protocol"),
        ("pass proto  ", "column 11: the protocol is missing"),
        ("pass on", "column 8: the interface's name is missing"),
        ("pass on Ä", "column 9: an interface's name has"),
        ("pass\u{a0}x", "column 1: `pass\u{a0}x` is no action"),
        (
            "pass Äää in",
            "column 6: `Äää` begins no clause; known: in|out|bind|connect|accept, on",
        ),
        ("pass from 10.0.2.1 ö", "column 20: `ö` begins no clause"),
        (
            "pass proto tcp in",
            "column 16: `in` cannot follow here; each clause once, in the order in|out",
        ),
        ("pass in out", "column 9: `out` cannot follow here"),
        ("pass proto tcp port 80", "column 16: `port` cannot follow here"),
        ("pass from", "column 10: the address is missing"),
        (
            "pass from 10.0.2",
            "column 11: `10.0.2` is no address; such as any",
        ),
        (
            "pass from 10.0.2.0/33",
            "column 11: prefix too long; the address has 32 bits",
        ),
        ("pass from 10.0.2.0/", "column 20: `` is no number from 0 to 255"),
        (
            "pass from fec0::/129",
            "column 11: prefix too long; the address has 128 bits",
        ),
        (
            "pass to 10.0.2.1/24",
            "column 9: bits beyond the prefix are set; the network is 10.0.2.0/24",
        ),
        (
            "pass to fec0::1/64",
            "column 9: bits beyond the prefix are set; the network is fec0::/64",
        ),
        (
            "pass from 10.0.2.1 to fec0::1",
            "column 23: this is for inet6, and the rule for inet",
        ),
        (
            "pass inet6 from 10.0.2.1",
            "column 17: this is for inet, and the rule for inet6",
        ),
        (
            "pass inet6 proto icmp",
            "column 18: this is for inet, and the rule for inet6",
        ),
        (
            "pass proto icmp6 to 10.0.2.1",
            "column 21: this is for inet, and the rule for inet6",
        ),
        ("pass from any port", "column 19: the port is missing"),
        (
            "pass from any port 1,2-x",
            "column 24: `x` is no number from 0 to 65535",
        ),
        ("pass from any port 1,,2", "column 22: `` is no number"),
        ("pass from any port +1", "column 20: `+1` is no number"),
        (
            "pass from any port 65536",
            "column 20: `65536` is no number from 0 to 65535",
        ),
        (
            "pass from any port 1,5-4",
            "column 22: the first port of the range is above its last",
        ),
        (
            "pass from any port 1,2,3,4,5,6,7,8,9",
            "column 36: 9 ranges of ports, 8 allowed",
        ),
        (
            "pass proto icmp to port 80",
            "column 25: ports need the protocol tcp or udp",
        ),
        ("pass flags S/SA", "column 12: flags need the protocol tcp"),
        (
            "pass proto tcp flags SX/SA",
            "column 23: `X` is no TCP flag; known: F, S, R, P, A, U",
        ),
        (
            "pass proto tcp flags S",
            "column 22: `S` lacks the flags to compare, such as in S/SA",
        ),
        (
            "pass proto tcp flags S/A",
            "column 22: a flag to be set is not among the flags to compare",
        ),
        (
            "pass proto tcp flags /",
            "column 22: the flags to compare are some of",
        ),
        (
            "pass icmp-type echo",
            "column 16: an ICMP type needs the protocol icmp or icmp6",
        ),
        (
            "pass proto icmp icmp-type ping",
            "column 27: `ping` is no type; known: echo-reply, unreachable, redirect, echo",
        ),
        (
            "pass proto icmp6 icmp-type ping",
            "column 28: `ping` is no type; known: unreachable, too-big",
        ),
        (
            "pass proto icmp icmp-type echo/256",
            "column 32: `256` is no number from 0 to 255",
        ),
        (
            "pass state new,old",
            "column 16: `old` is no state; known: new, established, related, invalid",
        ),
        ("pass state new,new", "column 16: the state is given twice"),
        ("pass rate 10", "column 11: `10` is no rate; such as 10/s"),
        (
            "pass rate x/s",
            "column 11: `x` is no number from 0 to 4294967295",
        ),
        ("pass rate 0/s", "column 11: the rate is 0"),
        ("pass rate 1/s burst 0", "column 21: the burst is 0"),
        ("pass burst 3", "column 6: `burst` cannot follow here"),
        ("pass bpf", "column 9: the program is missing"),
        ("pass bpf \"\"", "column 11: the program is missing"),
        ("pass bpf \"6 0 0\"", "column 11: 3 numbers; an instruction has 4"),
        (
            "pass bpf \"6 0 0 1; 6 0 0 1 1\"",
            "column 20: 5 numbers; an instruction has 4",
        ),
        (
            "pass bpf \"6 0 0 1; 6\"",
            "column 20: 1 number; an instruction has 4",
        ),
        (
            "pass bpf \"3, 6 0 0 1\"",
            "column 11: the program has another length, 1",
        ),
        (
            "pass bpf \"6 0 x 1\"",
            "column 15: `x` is no number from 0 to 255",
        ),
        ("pass bpf \"6 0 0 1 ", "column 18: the closing quote is missing"),
        ("pass bpf 6 0 0 1\"", "column 16: `1\"` is no number"),
        (
            "pass bpf \"0 0 0 1; 5 0 0 1; 6 0 0 1\"",
            "column 20: instruction 1: the jump ends behind",
        ),
        (
            "pass bpf \"6 0 0 1; 0 0 0 1\"",
            "column 20: instruction 1: the last instruction does not return",
        ),
        ("pass bpf \"6 0 0 1\" in", "column 20: `in` cannot follow here"),
    ] {
        let found = parse(text).expect_err(text).to_string();
        assert!(found.starts_with(fault), "{text}\n found {found}\nwanted {fault}");
    }
}

#[test]
fn a_program_has_a_limit() {
    let program = |steps| format!("pass bpf \"{}6 0 0 1\"", "0 0 0 1; ".repeat(steps));
    assert_eq!(parsed(&program(MAX_PROGRAM - 1)).program.len(), MAX_PROGRAM);
    let fault = parse(&program(MAX_PROGRAM)).unwrap_err();
    assert_eq!(fault.problem, Problem::ProgramTooLong(MAX_PROGRAM + 1));
    assert_eq!(fault.column, 11 + MAX_PROGRAM * "0 0 0 1; ".len());
}

#[test]
fn a_fault_repeats_no_long_words_and_no_control_characters() {
    let fault = parse(&format!("\u{1b}[31m{}", "x".repeat(10_000)))
        .unwrap_err()
        .to_string();
    assert!(fault.len() < 120 && !fault.contains('\u{1b}'), "{fault}");
}

#[test]
fn rules_as_data_are_checked_too() {
    let base = parsed("pass proto tcp");
    let flags = |set, mask| Rule {
        flags: Some(TcpFlags { set, mask }),
        ..base.clone()
    };
    assert_eq!(check(&flags(0x40, 0x40)), Err(Problem::FlagMask));
    assert_eq!(check(&flags(0x02, 0x02)), Ok(()));
    let long = "a".repeat(32);
    for name in ["", "0a", "a b", "a\"", "A", &long] {
        let rule = Rule {
            interface: Some(name.into()),
            ..base.clone()
        };
        assert_eq!(check(&rule), Err(Problem::Interface), "{name}");
    }
    let prefix = |prefix| Rule {
        from: End {
            prefix,
            ports: vec![],
        },
        ..base.clone()
    };
    assert_eq!(
        check(&prefix(cidr("10.0.0.0", 255))),
        Err(Problem::PrefixLength(32))
    );
    let program = |program| Rule {
        program,
        ..base.clone()
    };
    assert!(check(&program(vec![instruction(0, 0, 0, 0); 100_000])).is_err());
    assert!(matches!(
        check(&program(vec![instruction(0xffff, 0, 0, 0)])),
        Err(Problem::Program(_))
    ));
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed_to_the_same_rule(rule in rule()) {
        prop_assert_eq!(check(&rule), Ok(()));
        let text = print(&rule);
        prop_assert_eq!(parse(&text)?, rule);
    }

    #[test]
    fn no_text_causes_a_panic(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_row_of_words_causes_a_panic_and_columns_lie_in_the_text(words in vec(select(vec![
        "pass", "in", "bind", "accept", "on", "a", "inet", "proto", "tcp", "icmp", "from", "to", "any", "10.0.0.0/8", "port", "1-2,3", "flags",
        "S/SA", "/", "icmp-type", "echo", "state", "new,", "rate", "1/s", "burst", "5", "bpf", "\"6", "0", ";", ",", "\"", "ä",
    ]), 0..20)) {
        let text = words.join(" ");
        match parse(&text) {
            Ok(rule) => prop_assert_eq!(check(&rule), Ok(())),
            Err(fault) => prop_assert!((1..=text.chars().count() + 1).contains(&fault.column), "{} {}", text, fault),
        }
    }

    /// A manager prints rules that it has checked; a rule that it has not checked must not panic either.
    #[test]
    fn any_rule_is_checked_and_printed_without_a_panic(
        (set, mask, prefix, ip) in any::<(u8, u8, u8, u128)>(), protocol in any::<Option<u8>>(), name in ".*",
    ) {
        let rule = Rule {
            protocol,
            interface: Some(name),
            flags: Some(TcpFlags { set, mask }),
            from: End { prefix: Some(Cidr { ip: Ipv6Addr::from_bits(ip).into(), prefix }), ports: vec![] },
            to: End { prefix: Some(Cidr { ip: Ipv4Addr::from_bits(ip as u32).into(), prefix }), ports: vec![] },
            ..Rule::default()
        };
        let _ = (check(&rule), print(&rule));
    }
}
