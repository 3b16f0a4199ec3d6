use super::*;
use crate::parse::{Context, line};
use crate::samples;
use crate::table::Program;
use brane_abi::log::Level;
use brane_abi::operator::{Done, LogLevel};

fn session(text: &str) -> Session {
    Session::new(line(text, &Context::of(Program::Branectl)).unwrap().unwrap())
}

/// Executes a line with the given answers, one after the other. Returns the requests, the output and the end.
fn run(text: &str, answers: Vec<Result<Answer, Refusal>>) -> (Vec<Request>, Output, Option<End>) {
    let mut session = session(text);
    let mut out = Output::default();
    let mut asked = Vec::new();
    let mut answers = answers.into_iter();
    let mut reply = None;
    for _ in 0..1000 {
        match session.step(reply.take(), &mut out) {
            Step::Send(request) => {
                asked.push(request);
                match answers.next() {
                    Some(answer) => reply = Some(answer),
                    None => return (asked, out, None),
                }
            }
            Step::Pause(_) => {}
            Step::Done(end) => return (asked, out, Some(end)),
        }
    }
    panic!("no end of {text}");
}

fn reply(rtt_us: u32) -> Result<Answer, Refusal> {
    Ok(Answer::Query(query::Answer::Echo {
        from: [10, 0, 2, 2].into(),
        size: 56,
        ttl: 64,
        rtt_us,
    }))
}

#[test]
fn ifconfig_reads_the_brane_and_then_changes_it() {
    let (asked, out, end) = run(
        "in red ifconfig net0 inet 10.0.2.99/24 alias",
        vec![
            Ok(Answer::Brane(samples::brane())),
            Ok(Answer::Done(Done::Limited("net0".into()))),
        ],
    );
    assert_eq!(asked[0], Request::Show("red".into()));
    let Request::Adjust {
        brane,
        interface,
        addressing,
    } = &asked[1]
    else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (brane.as_str(), interface.as_str(), addressing.addresses.len()),
        ("red", "net0", 3)
    );
    assert_eq!(
        (out.text.as_str(), end),
        ("net0 has its new limits\n", Some(End::Success))
    );
}

#[test]
fn a_filter_is_replaced_in_parts_and_only_its_end_is_shown() {
    let staged = |rules| Ok(Answer::Done(Done::Staged(rules)));
    let rule = "drop in proto tcp from fec0:1:2:3::/64 port 1000-2000 to fec0:4:5:6::/64 port 3000-4000";
    let line = format!("filter red replace {}", [rule; 5].join("; "));
    let filtered = Ok(Answer::Done(Done::Filtered {
        brane: "red".into(),
        rules: 5,
    }));
    let (asked, out, end) = run(&line, vec![staged(5), filtered.clone()]);
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (out.text.as_str(), end),
        ("the filter of red has 5 rules\n", Some(End::Success))
    );
    // A part that is refused ends the command.
    let why = Refusal::TooManyRules { rules: 65, most: 64 };
    let (asked, out, end) = run(&line, vec![Err(why)]);
    assert_eq!((asked.len(), end), (1, Some(End::Failure)));
    assert!(
        out.error.starts_with("65 rules, a filter takes 64"),
        "{}",
        out.error
    );
    let (_, out, _) = run(&format!("{line} -j"), vec![staged(5), filtered]);
    assert_eq!(
        out.text,
        "{\"code\":\"filtered\",\"done\":\"the filter of red has 5 rules\"}\n"
    );
}

#[test]
fn the_rules_of_a_filter_come_in_pages() {
    let page = |rules, more| Ok(Answer::Query(query::Answer::Filter(rules, more)));
    let rule = || samples::rule("drop in", 1);
    let (asked, out, end) = run(
        "in red filter list",
        vec![page(vec![rule(), rule()], true), page(vec![rule()], false)],
    );
    let queries: Vec<_> = asked
        .iter()
        .map(|request| match request {
            Request::Query {
                query: Query::Filter { skip },
                brane,
            } if brane == "red" => *skip,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((queries, end), (vec![0, 2], Some(End::Success)));
    assert_eq!(out.text.lines().count(), 4, "{}", out.text);
    assert!(
        out.text.ends_with("3       1        60     drop in\n"),
        "{}",
        out.text
    );
    // A brane that always reports one more page.
    let pages = (0..MAX_PAGES + 5).map(|_| page(vec![rule()], true)).collect();
    let (asked, _, end) = run("filter red", pages);
    assert_eq!((asked.len(), end), (MAX_PAGES, Some(End::Success)));
}

#[test]
fn a_file_of_rules_is_for_the_host() {
    let (asked, out, end) = run("filter red replace web.rules", vec![]);
    assert_eq!((asked.len(), end), (0, Some(End::Failure)));
    assert!(
        out.error.contains("branectl filter red replace FILE"),
        "{}",
        out.error
    );
}

#[test]
fn an_interface_is_removed_by_its_device() {
    let (asked, _, end) = run(
        "remove red/net0",
        vec![
            Ok(Answer::Brane(samples::brane())),
            Ok(Answer::Done(Done::Nothing)),
        ],
    );
    assert_eq!(asked[1], Request::Remove("vnic1".into()));
    assert_eq!(end, Some(End::Success));
    let (asked, out, end) = run("remove red/x", vec![Ok(Answer::Brane(samples::brane()))]);
    assert_eq!((asked.len(), end), (1, Some(End::Failure)));
    assert_eq!(
        out.error,
        "no interface \"x\" in brane red: there are lo0, net0\n"
    );
}

#[test]
fn ping_counts_what_was_answered() {
    let no = Ok(Answer::Query(query::Answer::Refused(query::Refusal::NoReply(
        [10, 0, 2, 2].into(),
    ))));
    let (asked, out, end) = run("in red ping -c 3 10.0.2.2", vec![reply(100), no, reply(300)]);
    assert_eq!((asked.len(), end), (3, Some(End::Success)));
    assert_eq!(
        out.text,
        "56 bytes from 10.0.2.2: seq=0 ttl=64 time=0.100 ms\nno reply to seq 1: no answer from 10.0.2.2\n56 bytes from \
         10.0.2.2: seq=2 ttl=64 time=0.300 ms\n3 sent, 2 received, 33% lost\nround trip least/mean/most 0.100 ms / 0.200 ms / \
         0.300 ms\n"
    );
    let no = Ok(Answer::Query(query::Answer::Refused(
        query::Refusal::NoNameServer,
    )));
    assert_eq!(run("in red ping -c 1 10.0.2.2", vec![no]).2, Some(End::Failure));
}

#[test]
fn ping_looks_a_name_up_first_and_says_what_it_knows_when_it_is_stopped() {
    let mut session = session("in red ping -s 8 gateway.example");
    let mut out = Output::default();
    let Step::Send(Request::Query {
        query: Query::Host { name, .. },
        ..
    }) = session.step(None, &mut out)
    else {
        panic!()
    };
    assert_eq!(name, "gateway.example");
    let found = Answer::Query(query::Answer::Host(vec![[10, 0, 2, 2].into()]));
    let Step::Send(Request::Query {
        query: Query::Ping { to, size, .. },
        ..
    }) = session.step(Some(Ok(found)), &mut out)
    else {
        panic!()
    };
    assert_eq!((to, size), (IpAddr::from([10, 0, 2, 2]), 8));
    assert_eq!(session.step(Some(reply(100)), &mut out), Step::Pause(1000));
    assert_eq!(session.cancel(&mut out), Step::Done(End::Success));
    assert!(out.text.contains("1 sent, 1 received, 0% lost"), "{}", out.text);
}

#[test]
fn tables_come_in_pages_and_a_brane_that_never_ends_is_left() {
    let page = |list, more| Ok(Answer::Query(query::Answer::Neighbours(list, more)));
    let (asked, out, _) = run(
        "in red arp -an",
        vec![
            page(vec![samples::neighbour(2)], true),
            page(vec![samples::neighbour(3)], false),
        ],
    );
    let Request::Query {
        query: Query::Neighbours { skip, .. },
        ..
    } = asked[1]
    else {
        panic!("{asked:?}")
    };
    assert_eq!(skip, 1);
    assert_eq!(
        out.text,
        "ADDRESS   MAC                INTERFACE  EXPIRES\n10.0.2.2  52:55:0a:00:02:02  net0       59 s\n10.0.2.3  \
         52:55:0a:00:02:03  net0       59 s\n"
    );
    let endless = (0..2000)
        .map(|_| page(vec![samples::neighbour(2)], true))
        .collect();
    let (asked, _, end) = run("in red arp", endless);
    assert_eq!((asked.len(), end), (MAX_PAGES, Some(End::Success)));
    let empty = (0..9).map(|_| page(vec![], true)).collect();
    assert_eq!(run("in red ndp", empty).0.len(), 1);
}

#[test]
fn netstat_shows_one_protocol_alone() {
    let answer = Ok(Answer::Query(query::Answer::Sockets(samples::sockets(), false)));
    let (_, out, _) = run("in red netstat -p udp", vec![answer]);
    assert_eq!(
        out.text,
        "PROTO  RECV-Q  SEND-Q  LOCAL         REMOTE          STATE\nudp    12      0       [fec0::16]:7  [fec0::2]:4000\n"
    );
}

#[test]
fn netstat_shows_the_counters_of_one_protocol_alone() {
    let status = |family, protocol| query::ProtocolStatus {
        family,
        protocol,
        state: "started".into(),
        counters: vec![samples::counter("received", 7)],
    };
    use brane_abi::control::{Family, Protocol};
    let all = vec![
        status(Family::Inet, Protocol::Icmp),
        status(Family::Inet, Protocol::Udp),
        status(Family::Inet6, Protocol::Udp),
    ];
    let answer = Ok(Answer::Query(query::Answer::Protocols(all)));
    let (asked, out, end) = run("in red netstat -s -p udp -j", vec![answer]);
    assert_eq!((asked.len(), end), (1, Some(End::Success)));
    let shown: serde_json::Value = serde_json::from_str(&out.text).unwrap();
    let list = shown["protocols"].as_array().unwrap();
    assert!(
        list.len() == 2 && list.iter().all(|p| p["protocol"] == "udp"),
        "{out:?}"
    );
}

#[test]
fn events_are_followed_from_the_last_one() {
    let (asked, out, end) = run(
        "events -j",
        vec![
            Ok(Answer::Events(vec![samples::event(4), samples::event(5)])),
            Ok(Answer::Events(vec![])),
        ],
    );
    assert_eq!(
        asked,
        [
            Request::Events { after: 0, wait: true },
            Request::Events { after: 5, wait: true },
            Request::Events { after: 5, wait: true }
        ]
    );
    assert_eq!((out.text.lines().count(), end), (2, None));
    assert!(
        out.text.lines().all(|l| l.starts_with("{\"at_us\":1234567,")),
        "{}",
        out.text
    );
    // With --once: one answer of events after the other, until none is left.
    let (asked, out, end) = run(
        "events --once --after 3",
        vec![
            Ok(Answer::Events(vec![samples::event(4)])),
            Ok(Answer::Events(vec![samples::event(5)])),
            Ok(Answer::Events(vec![])),
        ],
    );
    let at_once = |after| Request::Events { after, wait: false };
    assert_eq!(asked, [3, 4, 5].map(at_once));
    assert_eq!(end, Some(End::Success));
    assert_eq!(
        out.text,
        "     4       1.234 s  assigned red vnic1: as net0\n     5       1.234 s  assigned red vnic1: as net0\n"
    );
}

#[test]
fn events_that_happen_faster_than_they_are_read_come_to_an_end() {
    let answers = (1..=1000).map(|n| Ok(Answer::Events(vec![samples::event(n)])));
    let (asked, _, end) = run("events --once", answers.collect());
    assert_eq!((asked.len(), end), (MAX_PAGES, Some(End::Success)));
}

#[test]
fn refusals_and_findings_end_badly() {
    let refusal = || Refusal::NoSuchBrane("rde".into(), ["main", "red", "blue"].into_iter().collect());
    let (_, out, end) = run("show rde", vec![Err(refusal())]);
    assert_eq!(
        out.error,
        "no brane named \"rde\": the branes are main, red, blue\n"
    );
    assert_eq!((out.text.as_str(), end), ("", Some(End::Failure)));
    let (_, out, _) = run("show rde -j", vec![Err(refusal())]);
    assert_eq!(
        out.text,
        "{\"error\":{\"code\":\"no-such-brane\",\"fix\":\"the branes are main, red, blue\",\"what\":\"no brane named \\\"rde\\\"\"}}\n"
    );
    let audit = samples::answers()
        .into_iter()
        .find(|(n, _)| *n == "audit")
        .unwrap()
        .1;
    assert_eq!(run("audit", vec![Ok(audit)]).2, Some(End::Failure));
    let (_, out, end) = run("nicctl show vnic2", vec![Ok(Answer::Devices(samples::devices()))]);
    assert_eq!(out.error, "no device named \"vnic2\": did you mean vnic1?\n");
    assert_eq!(end, Some(End::Failure));
}

#[test]
fn no_answer_commands_the_terminal() {
    let evil = Ok(Answer::Query(query::Answer::Refused(
        query::Refusal::NoSuchInterface("\x1b[2J\x07gone\r".into()),
    )));
    let (_, out, _) = run("in red ifconfig -a", vec![evil]);
    assert_eq!(
        out.error,
        "no interface named \"?[2J?gone?\": `ifconfig` shows the interfaces of the brane\n"
    );
}

#[test]
fn files_are_for_the_host() {
    let (_, out, end) = run("save x.toml", vec![]);
    assert_eq!(end, Some(End::Failure));
    assert!(
        out.error.starts_with("save works only on the host"),
        "{}",
        out.error
    );
}

/// Returns a full part of a log. Its first line has this number.
fn full_part(first: u64) -> Answer {
    Answer::Logs((first..first + LOG_LINES as u64).map(samples::log_line).collect())
}

#[test]
fn kept_lines_are_asked_for_until_a_part_is_not_full() {
    let last = Answer::Logs(vec![samples::log_line(100)]);
    let (asked, out, end) = run("logs red", vec![Ok(full_part(4)), Ok(last), Ok(full_part(101))]);
    let request = |after| Request::Logs {
        pd: Some("red".into()),
        after,
        wait: false,
    };
    assert_eq!(asked, [request(0), request(3 + LOG_LINES as u64)]);
    assert_eq!(end, Some(End::Success));
    assert_eq!(
        out.text.lines().next(),
        Some("     4       1.234 s  [brane-1] error: panicked at x")
    );
    assert_eq!(out.text.lines().count(), LOG_LINES + 1);
}

#[test]
fn a_log_that_grows_faster_than_it_is_read_comes_to_an_end() {
    let parts = (0..1000).map(|n| Ok(full_part(1 + n * LOG_LINES as u64)));
    let (asked, _, end) = run("logs", parts.collect());
    assert_eq!((asked.len(), end), (MAX_PAGES, Some(End::Success)));
}

#[test]
fn a_log_that_is_followed_goes_on_after_an_empty_answer() {
    let (asked, out, end) = run(
        "logs --follow --after 3 -j",
        vec![
            Ok(Answer::Logs(vec![])),
            Ok(Answer::Logs(vec![samples::log_line(4)])),
        ],
    );
    let waits: Vec<bool> = asked
        .iter()
        .map(|request| matches!(request, Request::Logs { wait: true, .. }))
        .collect();
    assert_eq!((waits, end), (vec![false, true, true], None));
    assert!(
        out.text.starts_with("{\"at_us\":1234567,\"level\":\"error\""),
        "{}",
        out.text
    );
}

#[test]
fn a_level_is_shown_or_set() {
    let (asked, _, _) = run("log red debug", vec![]);
    let set = Request::SetLogLevel {
        pd: "red".into(),
        level: Level::Debug,
    };
    assert_eq!(asked, [set]);
    let levels = Answer::LogLevels(vec![LogLevel {
        pd: "nic0".into(),
        level: Level::Warn,
    }]);
    let (asked, out, _) = run("log", vec![Ok(levels)]);
    assert_eq!(asked, [Request::LogLevels(None)]);
    assert_eq!(out.text, "PD    LEVEL\nnic0  warn\n");
    let (asked, _, _) = run("log red", vec![]);
    assert_eq!(asked, [Request::LogLevels(Some("red".into()))]);
}

fn query_of(request: &Request) -> (&str, &Query) {
    match request {
        Request::Query { brane, query } => (brane, query),
        other => panic!("{other:?}"),
    }
}

/// Returns the answers to the lists of `why` and `reach`: red and blue at nic0.
fn two_branes() -> [Result<Answer, Refusal>; 2] {
    let red = samples::brane();
    let mut blue = samples::brane();
    blue.name = "blue".into();
    let net0 = &mut blue.status.interfaces[1];
    net0.device = "vnic2".into();
    net0.mac.0[5] = 2;
    net0.addresses.truncate(1);
    net0.addresses[0].cidr = samples::cidr("10.0.2.17/24");
    let mut devices = samples::devices();
    let mut vnic1 = devices.pop().unwrap();
    vnic1.config.mode = brane_abi::operator::Mode::Bridge;
    let mut vnic2 = vnic1.clone();
    vnic2.config.name = "vnic2".into();
    vnic2.config.allow = vec![];
    vnic2.ifnet = brane_abi::operator::IfNet::Attached(brane_abi::operator::Owner {
        brane: "blue".into(),
        interface: "net0".into(),
    });
    devices.extend([vnic1, vnic2]);
    [Ok(Answer::Branes(vec![red, blue])), Ok(Answer::Devices(devices))]
}

fn routes() -> Result<Answer, Refusal> {
    let route = query::Route {
        to: samples::cidr("10.0.2.0/24"),
        via: None,
        interface: "net0".into(),
    };
    Ok(Answer::Query(query::Answer::Routes(vec![route])))
}

fn no_rules() -> Result<Answer, Refusal> {
    Ok(Answer::Query(query::Answer::Filter(vec![], false)))
}

fn neighbours(list: Vec<query::Neighbour>, more: bool) -> Result<Answer, Refusal> {
    Ok(Answer::Query(query::Answer::Neighbours(list, more)))
}

fn listeners(protocol: brane_abi::control::Protocol, port: u16, more: bool) -> Result<Answer, Refusal> {
    let mut list = samples::sockets();
    list.truncate(1);
    list[0].protocol = protocol;
    list[0].local.set_port(port);
    Ok(Answer::Query(query::Answer::Sockets(list, more)))
}

#[test]
fn why_asks_manager_and_both_branes_and_shows_the_steps() {
    use brane_abi::control::Protocol::{Tcp, Udp};
    let mut answers: Vec<_> = two_branes().into();
    answers.extend([routes(), no_rules()]);
    answers.extend([
        neighbours(vec![samples::neighbour(2)], true),
        neighbours(vec![], false),
    ]);
    answers.push(listeners(Tcp, 80, false));
    answers.extend([routes(), no_rules()]);
    // The listener is on the second page; the socket of the first page is for another port.
    answers.extend([listeners(Udp, 80, true), listeners(Tcp, 80, false)]);
    let (asked, out, end) = run("why red blue tcp 80", answers.clone());
    assert_eq!(asked[..2], [Request::List { fresh: true }, Request::Devices]);
    let queries: Vec<_> = asked[2..].iter().map(query_of).collect();
    let family = brane_abi::control::Family::Inet;
    assert_eq!(
        queries,
        [
            ("red", &Query::Routes),
            ("red", &Query::Filter { skip: 0 }),
            ("red", &Query::Neighbours { family, skip: 0 }),
            ("red", &Query::Neighbours { family, skip: 1 }),
            ("red", &Query::Sockets { skip: 0 }),
            ("blue", &Query::Routes),
            ("blue", &Query::Filter { skip: 0 }),
            ("blue", &Query::Sockets { skip: 0 }),
            ("blue", &Query::Sockets { skip: 1 }),
        ]
    );
    assert_eq!((end, out.error.as_str()), (Some(End::Success), ""));
    assert!(
        out.text.starts_with(
            "STEP                BRANE  VERDICT  THING                DETAIL\n\
             brane               red    pass     red                  started, with inet and tcp\n\
             brane               blue   pass     blue                 started, with inet and tcp\n\
             route               red    pass     10.0.2.0/24 by net0  on-link, source 10.0.2.16\n\
             filter-out          red    pass     no rules\n\
             neighbour           red    unknown  10.0.2.17            not known yet: the brane asks for it\n"
        ) && out.text.ends_with("\nred reaches blue\n"),
        "{}",
        out.text
    );
    let (_, out, end) = run("why red blue tcp 80 -j", answers.clone());
    let value: serde_json::Value = serde_json::from_str(&out.text).unwrap();
    assert_eq!(end, Some(End::Success));
    assert_eq!(
        (&value["result"], &value["stopped_at"], &value["port"]),
        (&"reaches".into(), &serde_json::Value::Null, &80.into())
    );
    // Without the last page no socket listens.
    answers.pop();
    answers.push(listeners(Udp, 80, false));
    let (_, out, end) = run("why red blue tcp 80 -j", answers);
    let value: serde_json::Value = serde_json::from_str(&out.text).unwrap();
    assert_eq!(
        (end, &value["stopped_at"]),
        (Some(End::Failure), &"listener".into())
    );
}

#[test]
fn why_of_an_unknown_name_asks_no_brane() {
    let (asked, out, end) = run("why red bleu", two_branes().into());
    assert_eq!((asked.len(), end), (1, Some(End::Failure)));
    assert_eq!(out.error, "no brane named \"bleu\": the branes are red, blue\n");
    let (_, out, _) = run("why red bleu -j", two_branes().into());
    assert!(out.text.contains("\"code\":\"no-such-brane\""), "{}", out.text);
    let (asked, _, end) = run("why red blue", vec![Err(Refusal::NoAnswerInTime)]);
    assert_eq!((asked.len(), end), (1, Some(End::Failure)));
}

#[test]
fn a_brane_without_answers_makes_steps_unknown_and_is_asked_once() {
    for silence in [
        Err(Refusal::NoAnswerInTime),
        Ok(Answer::Query(query::Answer::Refused(query::Refusal::NoAnswer))),
        Ok(Answer::Query(query::Answer::Host(vec![]))),
    ] {
        let mut answers: Vec<_> = two_branes().into();
        answers.extend([routes(), no_rules(), neighbours(vec![], false), silence.clone()]);
        let (asked, out, end) = run("why red blue", answers);
        assert_eq!(asked.len(), 6, "{asked:?}");
        assert_eq!(query_of(&asked[5]).0, "blue");
        assert_eq!(end, Some(End::Success), "{}", out.error);
        assert!(
            out.text.contains("filter-in           blue   unknown")
                && out.text.ends_with("red reaches blue if the unknown steps pass\n"),
            "{}",
            out.text
        );
    }
}

#[test]
fn tables_of_a_brane_that_never_end_are_left() {
    let rule = || samples::rule("pass in", 0);
    let mut answers: Vec<_> = two_branes().into();
    answers.push(routes());
    answers.extend((0..100).map(|_| Ok(Answer::Query(query::Answer::Filter(vec![rule()], true)))));
    let (asked, _, _) = run("why red blue", answers);
    // One rule more than a filter can have ends the queries to red.
    let of_red = asked[2..].iter().filter(|r| query_of(r).0 == "red").count();
    assert_eq!(of_red, 1 + 65);
    let mut answers: Vec<_> = two_branes().into();
    answers.extend([routes(), no_rules()]);
    answers.extend((0..100).map(|_| neighbours(vec![samples::neighbour(2)], true)));
    let (asked, _, _) = run("why red 10.0.2.2", answers);
    assert_eq!(asked.len(), 4 + 64);
}

#[test]
fn reach_computes_and_tries_each_pair() {
    let mut answers: Vec<_> = two_branes().into();
    answers.extend([routes(), no_rules(), routes(), no_rules()]);
    let (asked, out, end) = run("reach", answers.clone());
    assert_eq!((asked.len(), end), (6, Some(End::Success)));
    assert_eq!(
        out.text,
        "inet icmp  red  blue\nred        -    yes\nblue       yes  -\n"
    );
    answers.push(reply(100));
    let no = query::Refusal::NoReply([10, 0, 2, 16].into());
    let mut agree = answers.clone();
    agree.push(reply(100));
    // A ping that should have a reply is repeated twice.
    for _ in 0..3 {
        answers.push(Ok(Answer::Query(query::Answer::Refused(no.clone()))));
    }
    let (asked, out, end) = run("reach -p", answers.clone());
    assert_eq!(end, Some(End::Failure));
    assert!(
        out.text.contains("blue       yes (tried: no)  -\n")
            && out.text.ends_with("1 difference between computed and tried\n"),
        "{}",
        out.text
    );
    let pings: Vec<_> = asked[6..].iter().map(query_of).collect();
    assert!(
        matches!(
            pings[..],
            [
                ("red", Query::Ping { to: IpAddr::V4(a), timeout_ms: 1000, .. }),
                ("blue", Query::Ping { to: IpAddr::V4(b), .. }),
                ("blue", Query::Ping { .. }),
                ("blue", Query::Ping { .. }),
            ] if a.octets() == [10, 0, 2, 17] && b.octets() == [10, 0, 2, 16]
        ),
        "{pings:?}"
    );
    let (_, out, end) = run("reach --probe", agree);
    assert!(out.text.ends_with("computed and tried agree\n"), "{}", out.text);
    assert_eq!(end, Some(End::Success));
    let (_, out, end) = run("reach --probe -j", answers);
    let value: serde_json::Value = serde_json::from_str(&out.text).unwrap();
    assert_eq!((end, &value["differs"]), (Some(End::Failure), &true.into()));
    assert_eq!(value["pairs"][0]["tried"], true);
    assert_eq!(value["pairs"][1]["differs"], true);
}

mod capture;
