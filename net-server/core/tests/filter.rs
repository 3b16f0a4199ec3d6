//! The brane's filter on the way of real traffic between two branes: what rules drop and reject in both directions, and that a
//! change is complete or not there at all.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::filter::RuleStatus;
use brane_abi::port::FrameMeta;
use brane_abi::query::{Answer, MAX_ANSWER, Query, Refusal};
use brane_socket::{Error, RingSizes, TcpStream, UdpSocket};
use common::*;
use net_server_core::query::Requester;
use std::cell::Cell;
use std::rc::Rc;

const SIZES: RingSizes = RingSizes { rx: 65536, tx: 65536 };

/// Replaces the rules of a brane.
fn set(host: &mut Host, rules: &[&str]) {
    try_set(host, rules).unwrap();
}

fn try_set(host: &mut Host, rules: &[&str]) -> Result<(), String> {
    let now = host.now();
    let rules = rules.iter().map(|text| branes_pfil::parse(text).unwrap());
    host.brane.replace_filter(now, rules.collect())
}

/// Returns the rules in force.
fn statuses(host: &mut Host) -> Vec<RuleStatus> {
    let now = host.now();
    let asked = host
        .brane
        .stack
        .query(now, Requester::Manager(1), Query::Filter { skip: 0 });
    let Some(Answer::Filter(rules, false)) = asked else {
        panic!("{asked:?}");
    };
    rules
}

/// Returns the packets that each rule has matched.
fn matched(host: &mut Host) -> Vec<u64> {
    statuses(host).iter().map(|status| status.packets).collect()
}

/// `a` sends datagrams of `len` bytes to the echo service of `b`. Returns the number of answers.
fn echoes(pair: &mut Pair, to: &str, count: usize, len: usize) -> usize {
    let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
    let answers: Rc<Cell<usize>> = Rc::default();
    let seen = answers.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES)
            .await
            .unwrap();
        for n in 0..count {
            socket.send_to(&vec![n as u8; len], to).await.unwrap();
        }
        let mut buffer = vec![0; len];
        loop {
            if socket.recv_from(&mut buffer).await.is_ok() {
                seen.set(seen.get() + 1);
            }
        }
    });
    pair.run(SECOND);
    drop(task);
    answers.get()
}

/// `a` connects to `b`, sends five bytes and waits for their echo.
fn connect(pair: &mut Pair, to: &str) -> Result<(), Error> {
    let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut stream = TcpStream::connect(&stack, to, SIZES).await?;
        stream.write_all(b"hello").await?;
        let mut got = [0; 5];
        let mut n = 0;
        while n < 5 {
            n += stream.read(&mut got[n..]).await?;
        }
        Ok(())
    });
    pair.until(&task, 20 * SECOND)
}

fn pair() -> Pair {
    let mut pair = Pair::new(0);
    echo::serve(&mut pair.b, 4);
    pair
}

const BOTH: [&str; 2] = ["10.0.2.2:7", "[fec0::2]:7"];

#[test]
fn a_rule_drops_what_it_matches_of_both_families_and_nothing_else() {
    let mut pair = pair();
    set(&mut pair.b, &["drop in proto udp to port 7"]);
    for to in BOTH {
        assert_eq!(echoes(&mut pair, to, 3, 40), 0, "{to}");
        connect(&mut pair, to).unwrap();
    }
    assert_eq!(matched(&mut pair.b), [6]);
    assert_eq!(pair.b.counter("filter dropped in"), 6);
    set(&mut pair.b, &[]);
    for to in BOTH {
        assert_eq!(echoes(&mut pair, to, 3, 40), 3, "{to}");
    }
    assert!(statuses(&mut pair.b).is_empty());
}

/// The flow cache delivers all datagrams but the first without the long way through the stack.
#[test]
fn a_rule_holds_for_datagrams_of_known_flows_and_counts_each_once() {
    let mut pair = pair();
    // Only datagrams whose checksum the device has verified can take the short way.
    pair.wire = Box::new(|(frame, meta)| {
        let flags = meta.flags | brane_abi::port::FLAG_DATA_VALID;
        vec![(frame.clone(), FrameMeta { flags, ..*meta })]
    });
    set(
        &mut pair.b,
        &[
            "pass in proto udp to port 7 rate 1/s burst 10",
            "drop in proto udp to port 7",
        ],
    );
    assert_eq!(echoes(&mut pair, BOTH[0], 30, 40), 10);
    assert_eq!(matched(&mut pair.b), [10, 20]);
    assert_eq!(pair.b.counter("filter dropped in"), 20);
}

#[test]
fn a_rejected_packet_is_answered_as_a_closed_port_is() {
    let mut pair = pair();
    set(
        &mut pair.b,
        &[
            "reject in proto tcp to port 7",
            "reject in proto udp to port 7",
            "reject in proto icmp",
        ],
    );
    let answers: Rc<Cell<[u32; 3]>> = Rc::default();
    let seen = answers.clone();
    pair.wire = Box::new(move |frame| {
        let bytes = &frame.0;
        // Only what `b` sends: resets, and destination unreachable for a port or by prohibition.
        if bytes[12..14] == [8, 0] && bytes[29] == 2 {
            let mut all = seen.get();
            match (bytes[23], bytes[34], bytes[35]) {
                (6, ..) if bytes[47] & 4 != 0 => all[0] += 1,
                (1, 3, 3) => all[1] += 1,
                (1, 3, 13) => all[2] += 1,
                _ => {}
            }
            seen.set(all);
        }
        vec![frame.clone()]
    });
    let begin = pair.a.now();
    assert_eq!(connect(&mut pair, "10.0.2.2:7"), Err(Error::ConnectionRefused));
    assert!(pair.a.now() - begin < SECOND, "the refusal came late");
    assert_eq!(echoes(&mut pair, "10.0.2.2:7", 1, 40), 0);
    let now = pair.a.now();
    let ping = Query::Ping {
        to: "10.0.2.2".parse().unwrap(),
        sequence: 1,
        size: 16,
        timeout_ms: 100,
    };
    assert_eq!(pair.a.brane.stack.query(now, Requester::Manager(1), ping), None);
    pair.run(SECOND);
    assert_eq!(answers.get(), [1, 1, 1]);
}

#[test]
fn what_the_brane_sends_is_dropped_or_its_client_is_told_at_once() {
    let mut pair = pair();
    set(
        &mut pair.a,
        &[
            "reject out proto tcp to 10.0.2.2",
            "drop out proto udp to fec0::2",
        ],
    );
    let begin = pair.a.now();
    assert_eq!(connect(&mut pair, "10.0.2.2:7"), Err(Error::ConnectionRefused));
    assert!(pair.a.now() - begin < SECOND, "the refusal came late");
    connect(&mut pair, "[fec0::2]:7").unwrap();
    assert_eq!(echoes(&mut pair, "[fec0::2]:7", 3, 40), 0);
    assert_eq!(echoes(&mut pair, "10.0.2.2:7", 3, 40), 3);
    assert_eq!(pair.a.counter("filter dropped out"), 4);
}

#[test]
fn a_packet_in_fragments_passes_whole_or_not_at_all() {
    let mut pair = pair();
    set(&mut pair.a, &["pass in", "pass out"]);
    set(&mut pair.b, &["pass in", "pass out"]);
    assert_eq!(echoes(&mut pair, "10.0.2.2:7", 1, 4000), 1);
    set(&mut pair.a, &["drop out proto udp to port 7"]);
    let carried = pair.carried;
    assert_eq!(echoes(&mut pair, "10.0.2.2:7", 1, 4000), 0);
    assert_eq!(pair.carried, carried, "a fragment left");
}

#[test]
fn a_brane_that_passes_answers_alone_reaches_others_and_is_not_reached() {
    let mut pair = pair();
    set(
        &mut pair.a,
        &[
            "pass in state established,related",
            "drop in state new,invalid",
            "pass out",
        ],
    );
    for to in BOTH {
        connect(&mut pair, to).unwrap();
        assert_eq!(echoes(&mut pair, to, 3, 40), 3);
    }
    echo::serve(&mut pair.a, 4);
    core::mem::swap(&mut pair.a, &mut pair.b);
    for to in ["10.0.2.1:7", "[fec0::1]:7"] {
        assert_eq!(echoes(&mut pair, to, 3, 40), 0);
    }
}

#[test]
fn a_filter_that_is_refused_leaves_the_old_one_in_force() {
    let mut pair = pair();
    set(&mut pair.b, &["drop in proto udp to port 7"]);
    assert_eq!(echoes(&mut pair, BOTH[0], 2, 40), 0);
    let mut bad = branes_pfil::parse("pass in").unwrap();
    bad.program = vec![Default::default()];
    let now = pair.b.now();
    let why = pair
        .b
        .brane
        .replace_filter(now, vec![Default::default(), bad])
        .unwrap_err();
    assert!(why.starts_with("rule 2: "), "{why}");
    assert_eq!(matched(&mut pair.b), [2]);
    assert_eq!(echoes(&mut pair, BOTH[0], 2, 40), 0);
    // A rule that stays keeps its count.
    set(&mut pair.b, &["pass in proto tcp", "drop in proto udp to port 7"]);
    assert_eq!(matched(&mut pair.b), [0, 4]);
}

#[test]
fn a_configuration_brings_its_filter_before_the_first_packet() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    host.config.filter = vec![branes_pfil::parse("drop in proto icmp").unwrap()];
    (0..3).for_each(|_| host.settle());
    assert_eq!(statuses(&mut host).len(), 1);
}

#[test]
fn long_rules_come_in_pages_and_only_to_operators() {
    let mut pair = pair();
    let program = "bpf \"".to_owned() + &"0 0 0 4294967295;".repeat(20) + "6 0 0 65535\"";
    let rules: Vec<String> = (1..=30)
        .map(|port| format!("drop in proto udp from 192.0.2.0/24 to 192.0.2.{port} port {port} {program}"))
        .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    set(&mut pair.b, &rules);
    let (now, mut seen) = (pair.b.now(), Vec::new());
    loop {
        let query = Query::Filter {
            skip: seen.len() as u32,
        };
        let answer = pair
            .b
            .brane
            .stack
            .query(now, Requester::Manager(1), query)
            .unwrap();
        assert!(minicbor::to_vec(&answer).unwrap().len() <= MAX_ANSWER);
        let Answer::Filter(page, more) = answer else {
            panic!("no rules")
        };
        assert!(!page.is_empty());
        seen.extend(page);
        if !more {
            break;
        }
    }
    let shown: Vec<String> = seen.iter().map(|s| branes_pfil::print(&s.rule)).collect();
    assert_eq!(shown.len(), 30);
    assert!(shown[29].contains("192.0.2.30 port 30"), "{}", shown[29]);
    let client = Requester::Client { client: 0, token: 1 };
    let answer = pair.b.brane.stack.query(now, client, Query::Filter { skip: 0 });
    assert_eq!(answer, Some(Answer::Refused(Refusal::OperatorsOnly)));
}

#[test]
fn a_rate_is_credited_for_the_time_in_which_nothing_came() {
    let mut host = packets::echo_host();
    set(
        &mut host,
        &[
            "pass in proto udp to port 9 rate 1/s burst 1",
            "drop in proto udp to port 9",
        ],
    );
    let datagram = packets::packet("fec0::9", "fec0::1", 17, &packets::udp(5, 9, b"one"));
    for _ in 0..3 {
        packets::answers(&mut host, datagram.clone(), 0);
        // The brane has no turn until the next datagram comes.
        host.clock.0.set(host.now() + 5 * SECOND);
    }
    assert_eq!(matched(&mut host), [3, 0]);
}

/// Each would answer the other for ever.
#[test]
fn two_branes_that_reject_icmp_exchange_no_errors_about_errors() {
    let mut pair = pair();
    for host in [&mut pair.a, &mut pair.b] {
        set(host, &["reject in proto icmp", "reject in proto icmp6"]);
    }
    let errors: Rc<Cell<usize>> = Rc::default();
    let seen = errors.clone();
    pair.wire = Box::new(move |frame| {
        let bytes = &frame.0;
        let is_error = bytes[12..14] == [8, 0] && bytes[23] == 1 && bytes[34] == 3
            || bytes[12..14] == [0x86, 0xdd] && bytes[20] == 58 && bytes[54] == 1;
        seen.set(seen.get() + usize::from(is_error));
        vec![frame.clone()]
    });
    for to in ["10.0.2.2", "fec0::2"] {
        let ping = Query::Ping {
            to: to.parse().unwrap(),
            sequence: 1,
            size: 16,
            timeout_ms: 100,
        };
        let now = pair.a.now();
        assert_eq!(pair.a.brane.stack.query(now, Requester::Manager(1), ping), None);
        pair.run(5 * SECOND);
    }
    assert_eq!(errors.get(), 2);
}

#[test]
fn packets_with_extension_headers_that_draw_an_error_pass_the_head_first() {
    let mut host = packets::echo_host();
    let behind = |first: u8, headers: [u8; 8], protocol: u8, payload: &[u8]| {
        let payload = packets::summed("fec0::9", "fec0::1", protocol, payload);
        packets::plain("fec0::9", "fec0::1", first, &[&headers[..], &payload].concat())
    };
    let frames = [
        behind(0, [132, 0, 1, 4, 0, 0, 0, 0], 132, &[1; 8]),
        behind(
            0,
            [17, 0, 0xbe, 4, 0, 0, 0, 0],
            17,
            &packets::udp(5, 9, b"nobody"),
        ),
    ];
    for (rules, answers) in [(&[][..], 1), (&["drop in"], 0)] {
        set(&mut host, rules);
        for frame in &frames {
            assert_eq!(
                packets::answers(&mut host, frame.clone(), 0).len(),
                answers,
                "{rules:?}"
            );
        }
    }
}

#[test]
fn a_configuration_whose_filter_is_refused_leaves_nothing_and_another_one_is_taken() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    let mut config = host.config.clone();
    let mut bad = branes_pfil::parse("pass in").unwrap();
    bad.program = vec![Default::default()];
    config.filter = vec![bad];
    let now = host.now();
    let why = host.brane.configure(now, config).unwrap_err();
    assert!(why.starts_with("rule 1: "), "{why}");
    assert_eq!(host.brane.stack.account.used(), 0);
    let config = host.config.clone();
    host.brane.configure(now, config).unwrap();
}
