//! Questions from inside: by a client through the real socket library, and by the manager.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::control::{Family, Protocol, command, report};
use brane_abi::port::FrameMeta;
use brane_abi::query::{Answer, MAX_ANSWER, Query, Refusal, Route};
use brane_abi::socket::QUESTIONS;
use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::{IpAddr, SocketAddr};
use net_server_core::query::Requester;
use packets::{answers, packet, udp};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Asks brane `a` as its client.
fn ask(pair: &mut Pair, query: Query) -> Answer {
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        stack.query(&query).await.unwrap()
    });
    pair.until(&task, 20 * SECOND)
}

/// Asks it as the manager, and finds the same answer.
fn ask_both(pair: &mut Pair, query: Query) -> Answer {
    let answer = ask(pair, query.clone());
    while pair.a.manager.report().is_some() {}
    pair.a
        .manager
        .command(command::QUERY, 4711, &minicbor::to_vec(&query).unwrap());
    pair.run(MS);
    let (kind, token, text) = pair.a.manager.report().expect("an answer");
    assert_eq!((kind, token), (report::ANSWER, 4711));
    let other: Answer = minicbor::decode(&text).unwrap();
    assert_eq!(std::mem::discriminant(&answer), std::mem::discriminant(&other));
    answer
}

fn ping(to: &str, size: u16, timeout_ms: u32) -> Query {
    Query::Ping {
        to: ip(to),
        sequence: 3,
        size,
        timeout_ms,
    }
}

#[test]
fn own_interfaces_are_shown_and_foreign_names_do_not_exist() {
    let mut pair = Pair::new(0);
    ask(&mut pair, ping("10.0.2.2", 56, 1000));
    let Answer::Interfaces(all) = ask_both(&mut pair, Query::Interfaces(None)) else {
        panic!("no interfaces");
    };
    assert_eq!(
        all.iter().map(|i| &i.name[..]).collect::<Vec<_>>(),
        ["lo0", "net0"]
    );
    assert_eq!(
        all.iter().map(|i| &i.device[..]).collect::<Vec<_>>(),
        ["lo0", "vnic1"]
    );
    assert!(all[1].rx_packets > 0 && all[1].tx_packets > 0 && all[1].rx_bytes > all[1].rx_packets);
    let one = ask(&mut pair, Query::Interfaces(Some("net0".into())));
    assert!(matches!(&one, Answer::Interfaces(list) if list.len() == 1 && list[0].mac == all[1].mac));
    // Devices, other branes and their interfaces, and what nobody has: the same words.
    for foreign in [
        "vnic1", "vnic2", "net1", "nic0", "test", "nosuch", "", "lo", "net0 ", "NET0",
    ] {
        let answer = ask(&mut pair, Query::Interfaces(Some(foreign.into())));
        assert_eq!(answer, Answer::Refused(Refusal::NoSuchInterface(foreign.into())));
    }
}

#[test]
fn routes_neighbours_and_protocols_are_shown() {
    let mut pair = Pair::new(0);
    pair.a.config.generation = 1;
    pair.a.config.interfaces[0].gateway4 = Some([10, 0, 2, 2].into());
    pair.a.restart();
    pair.run(10 * MS);
    ask(&mut pair, ping("10.0.2.2", 56, 1000));
    ask(&mut pair, ping("fec0::2", 56, 1000));
    let Answer::Routes(routes) = ask_both(&mut pair, Query::Routes) else {
        panic!("no routes");
    };
    let route = |to, via: Option<&str>, interface: &str| Route {
        to: cidr(to),
        via: via.map(ip),
        interface: interface.into(),
    };
    assert_eq!(routes[0], route("::1/128", None, "lo0"));
    assert!(routes.contains(&route("10.0.2.0/24", None, "net0")));
    assert!(routes.contains(&route("fec0::/64", None, "net0")));
    assert_eq!(routes.last(), Some(&route("0.0.0.0/0", Some("10.0.2.2"), "net0")));
    for (family, address) in [(Family::Inet, "10.0.2.2"), (Family::Inet6, "fec0::2")] {
        let Answer::Neighbours(list, false) = ask_both(&mut pair, Query::Neighbours { family, skip: 0 })
        else {
            panic!("no neighbours");
        };
        let found = list
            .iter()
            .find(|n| n.ip == ip(address))
            .unwrap_or_else(|| panic!("{list:?}"));
        assert_eq!(
            (found.mac, &found.interface[..]),
            (pair.b.config.interfaces[0].mac, "net0")
        );
        assert!(found.expires_ms > 50_000 && found.expires_ms <= 60_000);
        let rest = ask(&mut pair, Query::Neighbours { family, skip: 100 });
        assert_eq!(rest, Answer::Neighbours(vec![], false));
    }
    let Answer::Protocols(list) = ask_both(&mut pair, Query::Protocols) else {
        panic!("no protocols");
    };
    assert_eq!(list.len(), 6);
    let of = |family, protocol| {
        list.iter()
            .find(|p| (p.family, p.protocol) == (family, protocol))
            .unwrap()
    };
    let icmp = of(Family::Inet, Protocol::Icmp);
    assert_eq!((&icmp.state[..], icmp.counters[0].value), ("started", 1));
    assert_eq!(of(Family::Inet6, Protocol::Icmp6).counters[0].value, 1);
}

#[test]
fn sockets_come_in_pages_that_fit_an_answer() {
    let mut pair = Pair::new(0);
    let (near, far) = (pair.a.stack.clone(), pair.b.stack.clone());
    pair.b.spawn(async move {
        far.ready().await;
        let listener = TcpListener::bind(&far, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        let _stream = listener.accept().await.unwrap();
        core::future::pending::<()>().await
    });
    let task = pair.a.spawn(async move {
        near.ready().await;
        let sizes = RingSizes { rx: 1024, tx: 1024 };
        let mut udps = Vec::new();
        for port in 1000..1050 {
            let address = if port == 1049 { "10.0.2.1" } else { "[::]" };
            udps.push(
                UdpSocket::bind(&near, at(&format!("{address}:{port}")), sizes)
                    .await
                    .unwrap(),
            );
        }
        let listener = TcpListener::bind(&near, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        let stream = TcpStream::connect(&near, at("10.0.2.2:80"), RingSizes::default())
            .await
            .unwrap();
        (udps, listener, stream)
    });
    let _kept = pair.until(&task, SECOND);
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let answer = ask_both(
            &mut pair,
            Query::Sockets {
                skip: all.len() as u32,
            },
        );
        assert!(minicbor::to_vec(&answer).unwrap().len() <= MAX_ANSWER);
        let Answer::Sockets(list, more) = answer else {
            panic!("no sockets");
        };
        all.extend(list);
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!((all.len(), pages), (52, 2));
    assert_eq!((&all[0].state[..], all[0].local), ("LISTEN", at("[::]:80")));
    assert!(
        all.iter()
            .any(|s| s.protocol == Protocol::Udp && s.local == at("10.0.2.1:1049"))
    );
    let conn = all.last().unwrap();
    assert_eq!(
        (&conn.state[..], conn.remote),
        ("ESTABLISHED", Some(at("10.0.2.2:80")))
    );
}

#[test]
fn a_listener_of_a_brane_without_inet6_is_at_any_ipv4_address() {
    let inet = brane_abi::control::all_families()
        .into_iter()
        .filter(|f| f.family == Family::Inet);
    let inet: Vec<_> = inet.collect();
    for (families, any) in [(None, "[::]"), (Some(inet), "0.0.0.0")] {
        let mut pair = Pair::new(0);
        pair.a.config.interfaces[0].addresses.retain(|a| a.ip.is_ipv4());
        pair.a.config.interfaces[0].slaac = false;
        pair.a.config.families = families;
        pair.a.config.generation = 1;
        pair.a.restart();
        let near = pair.a.stack.clone();
        let task = pair.a.spawn(async move {
            near.ready().await;
            let sizes = RingSizes { rx: 1024, tx: 1024 };
            let udp = UdpSocket::bind(&near, at("0.0.0.0:7"), sizes).await.unwrap();
            let listener = TcpListener::bind(&near, at("0.0.0.0:80"), ListenOptions::default());
            (udp, listener.await.unwrap())
        });
        let _kept = pair.until(&task, 10 * SECOND);
        let Answer::Sockets(list, false) = ask_both(&mut pair, Query::Sockets { skip: 0 }) else {
            panic!("no sockets");
        };
        let locals: Vec<_> = list.iter().map(|s| s.local).collect();
        assert_eq!(locals, [at(&format!("{any}:80")), at(&format!("{any}:7"))]);
    }
}

#[test]
fn the_longest_pages_fit_an_answer() {
    use brane_abi::query::{Neighbour, Socket};
    let longest: SocketAddr = "[fec0:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    let socket = Socket {
        protocol: Protocol::Udp,
        local: longest,
        remote: Some(longest),
        state: "SYN-RECEIVED".into(),
        receive_queue: u32::MAX,
        send_queue: u32::MAX,
    };
    let neighbour = Neighbour {
        ip: longest.ip(),
        mac: brane_abi::net::MacAddr::BROADCAST,
        interface: "x".repeat(31),
        expires_ms: u32::MAX,
    };
    for answer in [
        Answer::Sockets(vec![socket; 32], true),
        Answer::Neighbours(vec![neighbour; 32], true),
    ] {
        assert!(minicbor::to_vec(&answer).unwrap().len() <= MAX_ANSWER);
    }
}

#[test]
fn pings_are_answered_timed_and_bounded() {
    let mut pair = Pair::new(0);
    // The first one finds the neighbour on its way.
    for to in ["10.0.2.2", "fec0::2", "127.0.0.1", "::1", "10.0.2.1", "fec0::1"] {
        for size in [0, 56, 1400] {
            let answer = ask_both(&mut pair, ping(to, size, 1000));
            let Answer::Echo {
                from,
                size: got,
                ttl,
                rtt_us,
            } = answer
            else {
                panic!("{to}: {answer:?}");
            };
            assert_eq!((from, got, ttl), (ip(to), size, 64));
            assert!(rtt_us < 20_000, "{to}: {rtt_us} us");
        }
    }
    for (query, why) in [
        (ping("10.0.2.99", 56, 300), Refusal::NoReply(ip("10.0.2.99"))),
        (ping("192.0.2.1", 56, 300), Refusal::NoRoute(ip("192.0.2.1"))),
        (ping("224.0.0.1", 56, 300), Refusal::NoRoute(ip("224.0.0.1"))),
        (
            ping("10.0.2.2", 1401, 300),
            Refusal::TooMuchData {
                size: 1401,
                most: 1400,
            },
        ),
    ] {
        let before = pair.a.now();
        assert_eq!(ask(&mut pair, query), Answer::Refused(why));
        assert!(pair.a.now() - before < 310 * MS);
    }
    // As many as a client may ask at once, and one more; then all is free again.
    for _ in 0..3 {
        let tasks: Vec<_> = (0..QUESTIONS + 1)
            .map(|_| {
                let stack = pair.a.stack.clone();
                pair.a
                    .spawn(async move { stack.query(&ping("10.0.2.99", 8, 200)).await })
            })
            .collect();
        let outcomes: Vec<_> = tasks.iter().map(|task| pair.until(task, SECOND)).collect();
        let silent = |o: &&Result<Answer, Error>| matches!(o, Ok(Answer::Refused(_)));
        assert_eq!(outcomes.iter().filter(silent).count(), QUESTIONS);
        assert_eq!(outcomes.last(), Some(&Err(Error::NoResources)));
    }
    assert!(pair.a.brane.stack.queries.is_empty() && pair.a.brane.stack.icmp.is_idle());
    // The manager's are bounded too, and answered all the same.
    while pair.a.manager.report().is_some() {}
    let query = minicbor::to_vec(ping("10.0.2.99", 8, 200)).unwrap();
    for token in 0..30 {
        pair.a.manager.command(command::QUERY, token, &query);
    }
    pair.run(SECOND);
    let mut refused = 0;
    for _ in 0..30 {
        let (_, _, text) = pair.a.manager.report().expect("an answer to each");
        let Answer::Refused(why) = minicbor::decode(&text).unwrap() else {
            panic!("nobody is there");
        };
        refused += usize::from(why == Refusal::TooManyQueries(16));
    }
    assert_eq!(refused, 30 - 16);
    // The network's rubbish is no reply: another sender, identifier or number.
    pair.wire = Box::new(|(frame, meta)| {
        let mut frame = frame.clone();
        if frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 0 {
            // Both the number and the checksum.
            frame[41] = frame[41].wrapping_add(1);
            let sum = !net_server_core::ip::checksum::sum(&[&frame[34..36], &[0, 0], &frame[38..]].concat());
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
        }
        vec![(frame, *meta)]
    });
    let answer = ask(&mut pair, ping("10.0.2.2", 8, 200));
    assert_eq!(answer, Answer::Refused(Refusal::NoReply(ip("10.0.2.2"))));
}

#[test]
fn what_is_asked_through_an_interface_ends_with_it() {
    let mut pair = Pair::new(0);
    let stack = pair.a.stack.clone();
    let task = pair
        .a
        .spawn(async move { stack.query(&ping("10.0.2.99", 8, 9000)).await });
    pair.run(MS);
    pair.a.manager.command(command::DETACH, 1, b"net0");
    assert_eq!(
        pair.until(&task, 100 * MS),
        Ok(Answer::Refused(Refusal::InterfaceIsGone))
    );
    // And with the brane.
    let mut pair = Pair::new(0);
    let stack = pair.a.stack.clone();
    let task = pair
        .a
        .spawn(async move { stack.query(&ping("10.0.2.99", 8, 9000)).await });
    pair.run(MS);
    pair.a.restart();
    assert_eq!(pair.until(&task, 100 * MS), Err(Error::BraneRestarted));
}

/// A name server on `b`: answers with what it is asked for, or with an error for names that begin with `no`.
fn name_server(pair: &Pair) {
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:53"), RingSizes { rx: 65536, tx: 65536 })
            .await
            .unwrap();
        let mut buffer = [0; 600];
        loop {
            let (n, from, _) = socket.recv_from(&mut buffer).await.unwrap();
            let question = &buffer[..n];
            let v6 = question[n - 3] == 28;
            let none = question[13..15] == *b"no";
            let mut answer = question.to_vec();
            answer[2..4].copy_from_slice(&[0x81, if none { 0x83 } else { 0x80 }]);
            if !none {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, question[n - 3], 0, 1, 0, 0, 0, 60]);
                if v6 {
                    answer.extend([0, 16]);
                    answer.extend("2001:db8::7".parse::<core::net::Ipv6Addr>().unwrap().octets());
                } else {
                    answer.extend([0, 4, 192, 0, 2, 7]);
                }
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
}

#[test]
fn names_are_looked_up() {
    let mut pair = Pair::new(0);
    name_server(&pair);
    let host = |name: &str, server: Option<&str>| Query::Host {
        name: name.into(),
        server: server.map(ip),
        timeout_ms: 3000,
    };
    let mut expected = vec![ip("192.0.2.7"), ip("2001:db8::7")];
    for server in ["10.0.2.2", "fec0::2", "10.0.2.2"] {
        let Answer::Host(mut found) = ask_both(&mut pair, host("www.example.org", Some(server))) else {
            panic!("not found");
        };
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
    for (query, why) in [
        (
            host("nosuch.example.org", Some("10.0.2.2")),
            Refusal::NoSuchHost("nosuch.example.org".into()),
        ),
        (host("www.example.org", None), Refusal::NoNameServer),
        (
            host("www..org", Some("10.0.2.2")),
            Refusal::NotAHostName("www..org".into()),
        ),
        (
            host("www.example.org", Some("192.0.2.9")),
            Refusal::NoRoute(ip("192.0.2.9")),
        ),
        (
            host("www.example.org", Some("10.0.2.99")),
            Refusal::NoAnswerAbout("www.example.org".into()),
        ),
    ] {
        assert_eq!(ask(&mut pair, query), Answer::Refused(why));
    }
    assert!(pair.a.brane.stack.queries.is_empty() && pair.a.brane.stack.icmp.is_idle());
    // A router advertises a server (RFC 8106); nobody need name one then.
    pair.a.config.generation += 1;
    pair.a.config.interfaces[0].slaac = true;
    pair.a.restart();
    pair.run(10 * MS);
    let mut message = vec![
        134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 3, 0, 0, 0, 0, 1, 0,
    ];
    message.extend("fec0::2".parse::<core::net::Ipv6Addr>().unwrap().octets());
    let router: core::net::Ipv6Addr = "fe80::77:ff:fe00:2".parse().unwrap();
    let group: core::net::Ipv6Addr = "ff02::1".parse().unwrap();
    let pseudo =
        net_server_core::ip::checksum::pseudo_header(router.into(), group.into(), 58, message.len()).unwrap();
    let sum = !net_server_core::ip::checksum::add(pseudo, net_server_core::ip::checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![
        0x33, 0x33, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    frame.extend([0, message.len() as u8, 58, 255]);
    frame.extend(router.octets());
    frame.extend(group.octets());
    frame.extend(&message);
    pair.a.driver.give(0, &(frame, FrameMeta::default()));
    let answer = ask(&mut pair, host("www.example.org", None));
    assert!(
        matches!(&answer, Answer::Host(found) if found.len() == 2),
        "{answer:?}"
    );
}

/// smoltcp sees all datagrams from port 53 while a name is looked up. Errors that it would send about them are dropped.
#[test]
fn a_datagram_from_port_53_draws_no_error_while_a_name_is_looked_up() {
    let mut pair = Pair::new(0);
    let now = pair.a.now();
    let query = Query::Host {
        name: "www.example.org".into(),
        server: Some(ip("10.0.2.2")),
        timeout_ms: 3000,
    };
    assert_eq!(pair.a.brane.stack.query(now, Requester::Manager(1), query), None);
    assert!(pair.a.brane.stack.queries.looks_up());
    // The server is known by now and does not answer, and smoltcp may ask for a neighbour again.
    pair.run(1500 * MS);
    // From another host than the server, to a port that nobody has.
    let datagram = packet("10.0.2.9", "10.0.2.1", 17, &udp(53, 4711, b"no answer"));
    let sent = answers(&mut pair.a, datagram, 0);
    assert!(sent.is_empty(), "{sent:02x?}");
    assert!(pair.a.brane.stack.queries.looks_up());
}
