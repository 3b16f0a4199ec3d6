//! Groups: sockets of the real library join and leave, the test is the querier and the other hosts of the link.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::control::{Protocol, command};
use brane_abi::port::FrameMeta;
use brane_socket::{Error, Interface, RingSizes, UdpSocket};
use common::*;
use core::net::{IpAddr, SocketAddr};
use net_server_core::ip::checksum;
use net_server_core::ip::output::group_station;
use packets::*;

const GROUP: &str = "239.1.2.3";
const GROUP6: &str = "ff15::1234";
const PORT: u16 = 5000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn host() -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    host.settle();
    advance(&mut host, 3 * SECOND);
    host
}

/// What the brane sends while this time passes, in steps of 10 ms.
fn advance(host: &mut Host, time: u64) -> Vec<Vec<u8>> {
    let end = host.now() + time;
    let mut sent = Vec::new();
    loop {
        host.settle();
        sent.extend(host.driver.sent(0).into_iter().map(|(frame, _)| frame));
        if host.now() >= end {
            return sent;
        }
        host.clock.0.set(host.now() + 10 * MS);
    }
}

/// Runs a task of the client to its end. Returns what the brane has sent meanwhile, too.
fn run<T: 'static>(host: &mut Host, task: impl Future<Output = T> + 'static) -> (T, Vec<Vec<u8>>) {
    let task = host.spawn(task);
    let sent = advance(host, 0);
    (task.borrow_mut().take().expect("the task has ended"), sent)
}

/// A socket at this address.
fn socket(host: &mut Host, local: &str) -> UdpSocket {
    let (stack, local) = (host.stack.clone(), at(local));
    let bound = run(host, async move {
        UdpSocket::bind(&stack, local, RingSizes::default()).await
    });
    bound.0.unwrap()
}

type Joined = (Result<(), Error>, UdpSocket);

fn join(host: &mut Host, mut socket: UdpSocket, group: &str) -> (Joined, Vec<Vec<u8>>) {
    let group = ip(group);
    run(host, async move {
        let joined = socket.join_multicast(group, Interface::Name("net0")).await;
        (joined, socket)
    })
}

fn member(host: &mut Host, group: &str) -> UdpSocket {
    let socket = socket(host, "[::]:5000");
    let ((joined, socket), _) = join(host, socket, group);
    joined.unwrap();
    socket
}

fn leave(host: &mut Host, mut socket: UdpSocket, group: &str) -> (Joined, Vec<Vec<u8>>) {
    let group = ip(group);
    run(host, async move {
        let left = socket.leave_multicast(group, Interface::Any).await;
        (left, socket)
    })
}

/// A message about membership: its destination, its type, and its records or its group.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    to: IpAddr,
    kind: u8,
    records: Vec<(u8, IpAddr)>,
}

fn report(frame: &[u8]) -> Option<Report> {
    let v6 = frame[12..14] == [0x86, 0xdd];
    let packet = &frame[14..];
    let (header, number, to, alert) = match v6 {
        true if packet[6] == 0 => {
            let to: [u8; 16] = packet[24..40].try_into().unwrap();
            assert_eq!(packet[41..48], [0, 5, 2, 0, 0, 1, 0]);
            (48, packet[40], IpAddr::from(to), packet[7])
        }
        true => return None,
        false => {
            let to: [u8; 4] = packet[16..20].try_into().unwrap();
            (
                usize::from(packet[0] & 15) * 4,
                packet[9],
                IpAddr::from(to),
                packet[8],
            )
        }
    };
    if !matches!(number, 2 | 58) {
        return None;
    }
    assert_eq!(alert, 1, "time to live or hop limit");
    assert_eq!(frame[..6], group_station(to.into()), "station address");
    let message = &packet[header..];
    let pseudo = match v6 {
        true => {
            assert_eq!(packet[8..10], [0xfe, 0x80], "a link-local source");
            let source: [u8; 16] = packet[8..24].try_into().unwrap();
            checksum::pseudo_header(IpAddr::from(source).into(), to.into(), 58, message.len()).unwrap()
        }
        false => {
            assert_eq!(packet[20..24], [0x94, 4, 0, 0], "router alert");
            assert_eq!(checksum::sum(&packet[..header]), 0xffff);
            0
        }
    };
    assert_eq!(checksum::add(pseudo, checksum::sum(message)), 0xffff, "checksum");
    let address = |bytes: &[u8]| match v6 {
        true => IpAddr::from(<[u8; 16]>::try_from(&bytes[..16]).unwrap()),
        false => IpAddr::from(<[u8; 4]>::try_from(&bytes[..4]).unwrap()),
    };
    let records = match message[0] {
        0x22 | 143 => {
            let count = usize::from(u16::from_be_bytes([message[6], message[7]]));
            let len = if v6 { 20 } else { 8 };
            assert_eq!(message.len(), 8 + count * len);
            let records = message[8..].chunks(len);
            records.map(|r| (r[0], address(&r[4..]))).collect()
        }
        _ => vec![(0, address(&message[if v6 { 8 } else { 4 }..]))],
    };
    Some(Report {
        to,
        kind: message[0],
        records,
    })
}

/// The reports among the frames, without the groups of the brane's own addresses.
fn reports(frames: &[Vec<u8>]) -> Vec<Report> {
    let own = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.segments()[..7] == [0xff02, 0, 0, 0, 0, 1, 0xff00] || ip.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    let mut reports: Vec<Report> = frames.iter().filter_map(|frame| report(frame)).collect();
    for report in &mut reports {
        report.records.retain(|(_, group)| !own(group));
    }
    reports.retain(|report| !report.records.is_empty());
    reports
}

fn v3(kind: u8, group: &str) -> Report {
    let group = ip(group);
    let (to, message) = match group {
        IpAddr::V4(_) => ("224.0.0.22", 0x22),
        IpAddr::V6(_) => ("ff02::16", 143),
    };
    Report {
        to: ip(to),
        kind: message,
        records: vec![(kind, group)],
    }
}

/// A frame of another host on the link to a group.
fn to_group(src: &str, dst: &str, number: u8, payload: &[u8], ttl: u8) -> Vec<u8> {
    let mut frame = packet(src, dst, number, payload);
    frame[..6].copy_from_slice(&group_station(ip(dst).into()));
    if frame[12] == 8 {
        frame[22] = ttl;
        frame[24..26].fill(0);
        let sum = !checksum::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        frame[21] = ttl;
    }
    frame
}

/// An IPv6 frame with a router alert before its payload.
fn alerted(mut frame: Vec<u8>) -> Vec<u8> {
    let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    let number = std::mem::replace(&mut frame[20], 0);
    frame.splice(54..54, [number, 0, 5, 2, 0, 0, 1, 0]);
    frame
}

/// A query of IGMPv3 or MLDv2 with the longest delay of one second.
fn query(group: &str, sources: &[&str]) -> Vec<u8> {
    let group = ip(group);
    match group {
        IpAddr::V4(about) => {
            let mut message = vec![0x11, 10, 0, 0];
            message.extend(about.octets());
            message.extend([2, 125, 0, sources.len() as u8]);
            for source in sources {
                let IpAddr::V4(source) = ip(source) else { panic!() };
                message.extend(source.octets());
            }
            let to = if about.is_unspecified() {
                "224.0.0.1".into()
            } else {
                about.to_string()
            };
            to_group("10.0.2.9", &to, 2, &message, 1)
        }
        IpAddr::V6(about) => {
            let mut message = vec![130, 0, 0, 0, 3, 232, 0, 0];
            message.extend(about.octets());
            message.extend([2, 125, 0, sources.len() as u8]);
            for source in sources {
                let IpAddr::V6(source) = ip(source) else { panic!() };
                message.extend(source.octets());
            }
            let to = if about.is_unspecified() {
                "ff02::1".into()
            } else {
                about.to_string()
            };
            alerted(to_group("fe80::9", &to, 58, &message, 1))
        }
    }
}

fn give(host: &mut Host, frame: Vec<u8>) {
    assert!(host.driver.give(0, &(frame, FrameMeta::default())));
}

/// The datagrams that a socket has received.
fn received(host: &mut Host, mut socket: UdpSocket) -> (Vec<Vec<u8>>, UdpSocket) {
    let task = host.spawn(async move {
        let mut all: Vec<Vec<u8>> = Vec::new();
        let _ = std::future::poll_fn(|cx| {
            let mut exchange = Box::pin(socket.exchange(64, |incoming, _| {
                let mut data = vec![0; incoming.len()];
                incoming.copy_to(&mut data);
                all.push(data);
                Ok(())
            }));
            std::task::Poll::Ready(exchange.as_mut().poll(cx).is_ready())
        })
        .await;
        (all, socket)
    });
    host.settle();
    task.borrow_mut().take().unwrap()
}

fn datagram(group: &str, port: u16, data: &[u8]) -> Vec<u8> {
    let src = if group.contains(':') {
        "fec0::9"
    } else {
        "10.0.2.9"
    };
    to_group(src, group, 17, &udp(4000, port, data), 1)
}

#[test]
fn joining_and_leaving_are_reported_twice_in_both_families() {
    for group in [GROUP, GROUP6] {
        let mut host = host();
        let socket = socket(&mut host, "[::]:5000");
        let ((joined, socket), now) = join(&mut host, socket, group);
        joined.unwrap();
        assert_eq!(reports(&now), [v3(4, group)], "at once");
        assert_eq!(
            reports(&advance(&mut host, 2 * SECOND)),
            [v3(4, group)],
            "and once more"
        );
        assert_eq!(reports(&advance(&mut host, 300 * SECOND)), []);
        let ((left, _), now) = leave(&mut host, socket, group);
        left.unwrap();
        assert_eq!(reports(&now), [v3(3, group)]);
        assert_eq!(reports(&advance(&mut host, 2 * SECOND)), [v3(3, group)]);
        assert_eq!(reports(&advance(&mut host, 300 * SECOND)), []);
    }
}

#[test]
fn a_group_is_left_with_its_last_socket_and_members_alone_get_its_datagrams() {
    for group in [GROUP, GROUP6] {
        let mut host = host();
        let first = member(&mut host, group);
        // At the same port, because it receives datagrams for the group only.
        let at_group = SocketAddr::new(ip(group), PORT).to_string();
        let second = socket(&mut host, &at_group);
        let stranger = socket(&mut host, "[::]:5001");
        give(&mut host, datagram(group, PORT, b"one"));
        let (got, second) = received(&mut host, second);
        assert!(got.is_empty(), "it has not joined");
        let ((joined, second), now) = join(&mut host, second, group);
        joined.unwrap();
        assert_eq!(reports(&now), [], "routers know of the group already");
        advance(&mut host, 2 * SECOND);
        give(&mut host, datagram(group, PORT, b"two"));
        give(&mut host, datagram(group, 5001, b"three"));
        let other = if group == GROUP { "239.1.2.4" } else { "ff15::1235" };
        give(&mut host, datagram(other, PORT, b"four"));
        let (got, first) = received(&mut host, first);
        assert_eq!(got, [b"one".to_vec(), b"two".to_vec()]);
        let (got, second) = received(&mut host, second);
        assert_eq!(got, [b"two".to_vec()]);
        let (got, _) = received(&mut host, stranger);
        assert!(got.is_empty());
        assert_eq!(reports(&advance(&mut host, 0)), []);
        let ((left, first), now) = leave(&mut host, first, group);
        left.unwrap();
        assert_eq!(reports(&now), [], "one is left");
        give(&mut host, datagram(group, PORT, b"five"));
        assert!(received(&mut host, first).0.is_empty());
        drop(second);
        assert_eq!(reports(&advance(&mut host, 0)), [v3(3, group)], "closing leaves");
    }
}

#[test]
fn queries_are_answered_once_within_their_time() {
    for (group, all, source) in [(GROUP, "0.0.0.0", "10.0.2.77"), (GROUP6, "::", "fec0::77")] {
        let mut host = host();
        let _socket = member(&mut host, group);
        advance(&mut host, 3 * SECOND);
        let mut delays = Vec::new();
        for asked in [query(all, &[]), query(group, &[]), query(group, &[source])] {
            give(&mut host, asked);
            let start = host.now();
            let mut answers = Vec::new();
            while answers.is_empty() {
                assert!(host.now() <= start + SECOND + 20 * MS, "no answer in time");
                answers = reports(&advance(&mut host, 10 * MS));
            }
            assert_eq!(answers, [v3(2, group)]);
            delays.push(host.now() - start);
            assert_eq!(reports(&advance(&mut host, 5 * SECOND)), []);
        }
        delays.dedup();
        assert_eq!(delays.len(), 3, "delays are random");
        // Two queries, one answer.
        give(&mut host, query(all, &[]));
        give(&mut host, query(all, &[]));
        assert_eq!(reports(&advance(&mut host, 3 * SECOND)), [v3(2, group)]);
        // About a group of nobody.
        let other = if group == GROUP { "239.9.9.9" } else { "ff15::9" };
        give(&mut host, query(other, &[]));
        assert_eq!(reports(&advance(&mut host, 3 * SECOND)), []);
    }
}

#[test]
fn groups_of_the_branes_own_addresses_are_reported() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    let sent = advance(&mut host, 3 * SECOND);
    let records: Vec<(u8, IpAddr)> = sent
        .iter()
        .filter_map(|f| report(f))
        .flat_map(|r| r.records)
        .collect();
    let wanted = [ip("ff02::1:ff00:1")];
    assert_eq!(records, [(4, wanted[0]), (4, wanted[0])]);
    give(&mut host, query("::", &[]));
    let sent = advance(&mut host, SECOND + 10 * MS);
    let records: Vec<(u8, IpAddr)> = sent
        .iter()
        .filter_map(|f| report(f))
        .flat_map(|r| r.records)
        .collect();
    assert_eq!(records, [(2, wanted[0])]);
    // Another address brings another group.
    let mut interface = host.config.interfaces[0].clone();
    interface.addresses.push(cidr("fec0::abcd/64"));
    let text = minicbor::to_vec(&interface).unwrap();
    host.manager.command(command::ADJUST, 5, &text);
    let sent = advance(&mut host, 3 * SECOND);
    assert!(
        sent.iter()
            .filter_map(|f| report(f))
            .any(|r| r.records.contains(&(4, ip("ff02::1:ff00:abcd")))),
        "the new group is reported"
    );
}

fn old(kind: u8, group: &str, delay: u8) -> Vec<u8> {
    let about = ip(group);
    match about {
        IpAddr::V4(about) => {
            let mut message = vec![kind, delay, 0, 0];
            message.extend(about.octets());
            let to = if about.is_unspecified() {
                "224.0.0.1".into()
            } else {
                about.to_string()
            };
            to_group("10.0.2.9", &to, 2, &message, 1)
        }
        IpAddr::V6(about) => {
            let mut message = vec![kind, 0, 0, 0];
            message.extend((u16::from(delay) * 100).to_be_bytes());
            message.extend([0, 0]);
            message.extend(about.octets());
            let to = if about.is_unspecified() {
                "ff02::1".into()
            } else {
                about.to_string()
            };
            alerted(to_group("fe80::9", &to, 58, &message, 1))
        }
    }
}

#[test]
fn an_older_querier_is_spoken_to_in_its_version_until_it_is_gone() {
    let cases = [
        (GROUP, "0.0.0.0", 0x11, 10, 0x16, Some((0x17, "224.0.0.2"))),
        // IGMPv1: ten seconds, and no message at the end.
        (GROUP, "0.0.0.0", 0x11, 0, 0x12, None),
        (GROUP6, "::", 130, 10, 131, Some((132, "ff02::2"))),
    ];
    for (group, all, kind, delay, reported, leaving) in cases {
        let message = |kind: u8, to: &str| Report {
            to: ip(to),
            kind,
            records: vec![(0, ip(group))],
        };
        let wait = if delay == 0 { 10 * SECOND } else { SECOND };
        let mut host = host();
        let socket = member(&mut host, group);
        advance(&mut host, 3 * SECOND);
        give(&mut host, old(kind, all, delay));
        assert_eq!(
            reports(&advance(&mut host, wait + 20 * MS)),
            [message(reported, group)]
        );
        // Another host's answer is enough for all.
        give(&mut host, old(kind, all, delay));
        host.settle();
        give(&mut host, old(reported, group, 0));
        assert_eq!(reports(&advance(&mut host, wait + 20 * MS)), []);
        let ((left, socket), now) = leave(&mut host, socket, group);
        left.unwrap();
        assert_eq!(reports(&now), [], "another host was the last to report");
        let ((joined, socket), now) = join(&mut host, socket, group);
        joined.unwrap();
        assert_eq!(reports(&now), [message(reported, group)]);
        assert_eq!(
            reports(&advance(&mut host, 11 * SECOND)),
            [message(reported, group)]
        );
        let ((left, socket), now) = leave(&mut host, socket, group);
        left.unwrap();
        let wanted: Vec<Report> = leaving.map(|(kind, to)| message(kind, to)).into_iter().collect();
        assert_eq!(reports(&now), wanted);
        // The querier is gone.
        advance(&mut host, 270 * SECOND);
        let ((joined, _socket), now) = join(&mut host, socket, group);
        joined.unwrap();
        assert_eq!(reports(&now), [v3(4, group)]);
    }
}

#[test]
fn messages_that_no_neighbour_can_have_sent_change_nothing() {
    let mut host = host();
    let _socket = member(&mut host, GROUP);
    let _socket6 = {
        let socket = socket(&mut host, "[::]:5001");
        join(&mut host, socket, GROUP6).0.1
    };
    advance(&mut host, 3 * SECOND);
    let changed = |frame: Vec<u8>, at: usize, value: u8| {
        let mut frame = frame;
        frame[at] = value;
        frame
    };
    let v4 = |payload: &[u8], ttl: u8| to_group("10.0.2.9", "224.0.0.1", 2, payload, ttl);
    let v6 = |src: &str, code: u8, ttl: u8| {
        let mut message = vec![130, code, 0, 0, 3, 232, 0, 0];
        message.extend([0; 16]);
        message.extend([2, 125, 0, 0]);
        to_group(src, "ff02::1", 58, &message, ttl)
    };
    let sound = [0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
    let hostile = [
        ("a router has passed it on", v4(&sound, 2)),
        ("a wrong checksum", changed(v4(&sound, 1), 36, 1)),
        ("a length of no version", v4(&sound[..10], 1)),
        ("too short", v4(&sound[..6], 1)),
        (
            "about no group",
            to_group("10.0.2.9", "224.0.0.1", 2, &[0x11, 10, 0, 0, 10, 0, 2, 1], 1),
        ),
        (
            "from the brane itself",
            to_group("10.0.2.1", "224.0.0.1", 2, &sound, 1),
        ),
        (
            "to a group that the brane has not joined",
            to_group("10.0.2.9", "224.0.0.9", 2, &sound, 1),
        ),
        ("IPv6: a router has passed it on", alerted(v6("fe80::9", 0, 2))),
        ("IPv6: without router alert", v6("fe80::9", 0, 1)),
        ("IPv6: not link-local", alerted(v6("fec0::9", 0, 1))),
        ("IPv6: without a source", alerted(v6("::", 0, 1))),
        ("IPv6: a code", alerted(v6("fe80::9", 1, 1))),
        (
            "IPv6: a wrong checksum",
            changed(alerted(v6("fe80::9", 0, 1)), 64, 1),
        ),
    ];
    for (what, frame) in hostile {
        give(&mut host, frame);
        assert_eq!(reports(&advance(&mut host, 2 * SECOND)), [], "{what}");
    }
    // The router alert of a packet that came before is not taken for this one's.
    give(&mut host, alerted(v6("fec0::9", 0, 1)));
    give(&mut host, v6("fe80::9", 0, 1));
    assert_eq!(reports(&advance(&mut host, 2 * SECOND)), []);
    for (frame, group) in [(v4(&sound, 1), GROUP), (alerted(v6("fe80::9", 0, 1)), GROUP6)] {
        give(&mut host, frame);
        assert_eq!(reports(&advance(&mut host, 2 * SECOND)), [v3(2, group)]);
    }
}

#[test]
fn requests_without_sense_or_room_are_refused() {
    let mut host = host();
    let mut socket = member(&mut host, GROUP);
    let stack = host.stack.clone();
    let (errors, _) = run(&mut host, async move {
        let mut errors = vec![
            socket.join_multicast(ip(GROUP), Interface::Any).await,
            socket.join_multicast(ip("10.0.2.9"), Interface::Any).await,
            socket
                .join_multicast(ip("239.2.2.2"), Interface::Name("net7"))
                .await,
            socket
                .join_multicast(ip("239.2.2.2"), Interface::Address(ip("10.0.2.9")))
                .await,
            socket.leave_multicast(ip("239.2.2.2"), Interface::Any).await,
            socket.join_multicast(ip("239.2.2.2"), Interface::Name("")).await,
            socket.set_multicast_if(Interface::Name("net7")).await,
        ];
        let mut bound = UdpSocket::bind(&stack, at("10.0.2.1:6000"), RingSizes::default())
            .await
            .unwrap();
        errors.push(bound.join_multicast(ip(GROUP6), Interface::Any).await);
        errors.push(
            UdpSocket::bind(&stack, at("239.1.1.1:0"), RingSizes::default())
                .await
                .map(|_| ()),
        );
        for n in 1..32 {
            bound
                .join_multicast(ip(&format!("239.7.0.{n}")), Interface::Address(ip("10.0.2.1")))
                .await
                .unwrap();
        }
        errors.push(bound.join_multicast(ip("239.7.0.32"), Interface::Any).await);
        bound
            .leave_multicast(ip("239.7.0.31"), Interface::Any)
            .await
            .unwrap();
        bound
            .join_multicast(ip("239.7.0.32"), Interface::Any)
            .await
            .unwrap();
        errors
    });
    let errors: Vec<Error> = errors.into_iter().map(Result::unwrap_err).collect();
    use Error::*;
    assert_eq!(
        errors,
        [
            AddressInUse,
            InvalidInput,
            AddressNotAvailable,
            AddressNotAvailable,
            AddressNotAvailable,
            InvalidInput,
            AddressNotAvailable,
            InvalidInput,
            InvalidInput,
            NoResources
        ]
    );
    assert_eq!(host.counter("groups refused"), 1);
    // A socket at a group without a port.
    assert_eq!(host.counter("client bad requests"), 1);
}

#[test]
fn what_a_socket_sends_to_a_group_has_its_ttl_and_reaches_members_in_the_brane() {
    for (group, src) in [(GROUP, "10.0.2.1"), (GROUP6, "fec0::1")] {
        let mut host = host();
        let near = member(&mut host, group);
        advance(&mut host, 3 * SECOND);
        let sender = socket(&mut host, "[::]:6000");
        let to = SocketAddr::new(ip(group), PORT);
        let (sender, frames) = run(&mut host, async move {
            let mut sender = sender;
            sender.send_to(b"first", to).await.unwrap();
            sender.set_multicast_ttl(7).await.unwrap();
            sender
                .set_multicast_if(Interface::Address(ip(src)))
                .await
                .unwrap();
            sender.send_to(b"second", to).await.unwrap();
            sender.set_multicast_loop(false).await.unwrap();
            sender
                .send_from(b"third", Some(SocketAddr::new(ip(src), 6000)), to)
                .await
                .unwrap();
            sender.set_multicast_loop(true).await.unwrap();
            sender.set_multicast_ttl(0).await.unwrap();
            sender.send_to(b"fourth", to).await.unwrap();
            sender
        });
        let v6 = group == GROUP6;
        let sent: Vec<(u8, &[u8])> = frames
            .iter()
            .map(|frame| {
                assert_eq!(frame[..6], group_station(ip(group).into()));
                if v6 {
                    (frame[21], &frame[62..])
                } else {
                    (frame[22], &frame[42..])
                }
            })
            .collect();
        // What is sent in one turn leaves together with the options of that turn's requests, so only the order is fixed.
        let texts: Vec<&[u8]> = sent.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts, [&b"first"[..], b"second", b"third"]);
        assert_eq!(sent.iter().map(|(ttl, _)| *ttl).collect::<Vec<_>>(), [1, 7, 7]);
        for frame in &frames {
            let (start, src, dst) = if v6 {
                (
                    54,
                    IpAddr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap()),
                    ip(group),
                )
            } else {
                (
                    34,
                    IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap()),
                    ip(group),
                )
            };
            let udp = &frame[start..];
            let pseudo = checksum::pseudo_header(src.into(), dst.into(), 17, udp.len()).unwrap();
            assert_eq!(checksum::add(pseudo, checksum::sum(udp)), 0xffff);
        }
        let (got, near) = received(&mut host, near);
        assert_eq!(got, [b"first".to_vec(), b"second".to_vec(), b"fourth".to_vec()]);
        drop((sender, near));
    }
}

#[test]
fn members_in_another_brane_get_copies_and_branes_without_members_none() {
    let mut pair = Pair::new(0);
    for group in [GROUP, GROUP6] {
        let group = ip(group);
        let stack = pair.b.stack.clone();
        let receiver = pair.b.spawn(async move {
            let mut socket = UdpSocket::bind(&stack, at("[::]:5000"), RingSizes::default())
                .await
                .unwrap();
            socket.join_multicast(group, Interface::Any).await.unwrap();
            let mut data = [0; 9];
            let (len, from, to) = socket.recv_from(&mut data).await.unwrap();
            (data[..len].to_vec(), from.port(), to)
        });
        // The sender's brane has a socket at the port that has not joined.
        let stack = pair.a.stack.clone();
        let sender = pair.a.spawn(async move {
            let mut socket = UdpSocket::bind(&stack, at("[::]:5000"), RingSizes::default())
                .await
                .unwrap();
            socket
                .send_to(b"hello", SocketAddr::new(group, 5000))
                .await
                .unwrap();
            socket
        });
        let got = pair.until(&receiver, SECOND);
        assert_eq!(got, (b"hello".to_vec(), 5000, SocketAddr::new(group, 5000)));
        let sender = pair.until(&sender, SECOND);
        let (got, _) = received(&mut pair.a, sender);
        assert!(got.is_empty(), "a socket that has not joined");
        pair.run(SECOND);
    }
}

#[test]
fn groups_end_with_the_client_the_interface_and_a_shutdown() {
    // The client crashes.
    let mut host = host();
    let socket = member(&mut host, GROUP);
    advance(&mut host, 3 * SECOND);
    host.stack = brane_socket::NetClient::start(host.client_region, Box::new(host.clock.clone())).unwrap();
    assert_eq!(
        reports(&advance(&mut host, 3 * SECOND)),
        [v3(3, GROUP), v3(3, GROUP)]
    );
    drop(socket);
    // The interface goes and comes back: its groups do not.
    let socket = member(&mut host, GROUP);
    advance(&mut host, 3 * SECOND);
    let interface = host.config.interfaces[0].clone();
    host.manager.command(command::DETACH, 6, b"net0");
    host.settle();
    let text = minicbor::to_vec(&interface).unwrap();
    host.manager.command(command::ATTACH, 7, &text);
    host.settle();
    let mut info = port_info(interface.mac, 0);
    info.generation = 2;
    host.driver.announce(0, info);
    assert_eq!(reports(&advance(&mut host, 3 * SECOND)), []);
    give(&mut host, datagram(GROUP, PORT, b"late"));
    let (got, socket) = received(&mut host, socket);
    assert!(got.is_empty());
    let ((joined, _socket), now) = join(&mut host, socket, GROUP);
    joined.unwrap();
    assert_eq!(reports(&now), [v3(4, GROUP)]);
    advance(&mut host, 3 * SECOND);
    // The link goes down and up: routers learn anew.
    info.link_up = 0;
    host.driver.announce(0, info);
    assert_eq!(reports(&advance(&mut host, 3 * SECOND)), []);
    info.link_up = 1;
    host.driver.announce(0, info);
    assert_eq!(
        reports(&advance(&mut host, 3 * SECOND)),
        [v3(4, GROUP), v3(4, GROUP)]
    );
    host.manager.command(command::SHUTDOWN, 8, &1000u32.to_le_bytes());
    assert_eq!(reports(&advance(&mut host, 3 * SECOND)), [v3(3, GROUP)]);
}

#[test]
fn tables_are_charged_and_given_back() {
    let mut host = host();
    assert!(host.brane.stack.switch.has(None, Protocol::Udp));
    let used = host.brane.stack.account.used();
    let socket = member(&mut host, GROUP);
    assert_eq!(host.brane.stack.account.used(), used, "a join costs nothing more");
    drop(socket);
    let families = brane_abi::control::all_families();
    let mut stack = net_server_core::stack::Stack::new([7; 32], 0);
    let created = net_server_core::family::Families::create(&families, &mut stack).unwrap();
    let draining = created.start(&mut stack).shutdown(&mut stack);
    draining.drained(&mut stack).destroy(&mut stack);
    assert_eq!((stack.switch, stack.account), Default::default());
}
