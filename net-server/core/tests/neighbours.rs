//! Neighbours of a brane on a link whose hosts say what they like.

mod common;

use brane_abi::port::FrameMeta;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::cell::RefCell;
use std::rc::Rc;

const RINGS: RingSizes = RingSizes { rx: 16384, tx: 16384 };
/// The station of the second brane, and its addresses.
const STATION: [u8; 6] = [2, 0x77, 0, 0, 0, 2];
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn meta(frame: Vec<u8>) -> Frame {
    (frame, FrameMeta::default())
}

/// ARP from a station.
fn arp(operation: u8, mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Frame {
    let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let parts: [&[u8]; 8] = [
        &head,
        &mac,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
        &[0; 18],
    ];
    meta(parts.concat())
}

/// A neighbour solicitation (135) or advertisement (136) to the second brane, with an option of that type.
fn discovery(
    kind: u8,
    mac: [u8; 6],
    sender: Ipv6Addr,
    receiver: Ipv6Addr,
    target: Ipv6Addr,
    option: Option<u8>,
) -> Frame {
    let mut message = vec![kind, 0, 0, 0, if kind == 136 { 0x20 } else { 0 }, 0, 0, 0];
    message.extend(target.octets());
    if let Some(option) = option {
        message.extend([option, 1]);
        message.extend(mac);
    }
    let len = message.len();
    let mut pseudo = [
        &sender.octets()[..],
        &receiver.octets(),
        &[0, 0, 0, len as u8, 0, 0, 0, 58],
        &message,
    ]
    .concat();
    let sum = !net_server_core::ip::checksum::sum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    pseudo.truncate(32);
    let parts: [&[u8]; 5] = [
        &STATION,
        &mac,
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, len as u8, 58, 255],
        &pseudo,
        &message,
    ];
    meta(parts.concat())
}

/// What the second brane sends from here on, also reaching the first.
fn watch(pair: &mut Pair) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let list = seen.clone();
    pair.wire = Box::new(move |frame| {
        if frame.0[6..12] == STATION {
            list.borrow_mut().push(frame.0.clone());
        }
        vec![frame.clone()]
    });
    seen
}

/// The IPv4 addresses that these frames ask for.
fn asked(frames: &[Vec<u8>]) -> Vec<Ipv4Addr> {
    let questions = frames
        .iter()
        .filter(|f| f[12..14] == [8, 6] && f[21] == 1 && f[28..32] != f[38..42]);
    questions
        .map(|f| Ipv4Addr::new(f[38], f[39], f[40], f[41]))
        .collect()
}

fn give(pair: &mut Pair, frame: &Frame) {
    while !pair.b.driver.give(0, frame) {
        pair.b.settle();
    }
}

fn echo(host: &Host) {
    let stack = host.stack.clone();
    host.spawn(async move {
        let mut socket = UdpSocket::bind(&stack, at("[::]:7"), RINGS).await.unwrap();
        socket
            .serve(8, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
}

/// The second brane sends to the first and waits for the echo. Returns how long that took.
fn ask_first(pair: &mut Pair, to: &'static str) -> u64 {
    let start = pair.b.now();
    let stack = pair.b.stack.clone();
    let task = pair.b.spawn(async move {
        let mut socket = UdpSocket::bind(&stack, at("[::]:0"), RINGS).await.unwrap();
        socket.send_to(b"there?", at(to)).await.unwrap();
        socket.recv_from(&mut [0; 16]).await.unwrap();
    });
    pair.until(&task, 10 * SECOND);
    pair.b.now() - start
}

/// A station that no brane has.
fn stranger(n: u32) -> [u8; 6] {
    let [_, b, c, d] = n.to_be_bytes();
    [2, 0x99, 0, b, c, d]
}

#[test]
fn messages_of_strangers_do_not_make_the_brane_forget_its_peers() {
    let mut pair = Pair::new(0);
    echo(&pair.a);
    ask_first(&mut pair, "10.0.2.1:7");
    ask_first(&mut pair, "[fec0::1]:7");
    let seen = watch(&mut pair);
    for n in 0..1000u32 {
        let (mac, ip) = (stranger(n), Ipv4Addr::from_bits(0x0a00_0203 + n % 250));
        let from = Ipv6Addr::from_bits((0xfec0 << 112) | (0x10000 + u128::from(n)));
        for frame in [
            // Announcements, answers that nobody wants, and questions.
            arp(1, mac, ip, ip),
            arp(2, mac, ip, V4),
            arp(1, mac, ip, V4),
            discovery(
                136,
                mac,
                from,
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                from,
                Some(2),
            ),
            discovery(136, mac, from, V6, from, Some(2)),
            discovery(135, mac, from, V6, V6, Some(1)),
        ] {
            give(&mut pair, &frame);
        }
    }
    pair.b.settle();
    // A moment, so that the short way out asks again.
    pair.run(600 * MS);
    seen.borrow_mut().clear();
    for to in ["10.0.2.1:7", "[fec0::1]:7"] {
        let took = ask_first(&mut pair, to);
        assert!(took < 100 * MS, "{took} ns to {to}");
    }
    assert!(asked(&seen.borrow()).is_empty(), "it asked for what it knew");
    let solicitations = seen
        .borrow()
        .iter()
        .filter(|f| f[12..14] == [0x86, 0xdd] && f[20] == 58 && f[54] == 135)
        .count();
    assert_eq!(solicitations, 0);
}

#[test]
fn a_stranger_does_not_take_the_place_of_a_peer_that_is_known() {
    let mut pair = Pair::new(0);
    echo(&pair.a);
    ask_first(&mut pair, "10.0.2.1:7");
    ask_first(&mut pair, "[fec0::1]:7");
    // An advertisement that is not to override what is known.
    let first = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = discovery(136, stranger(1), first, V6, first, Some(2));
    frame.0[58] = 0;
    let sum = u16::from_be_bytes([frame.0[56], frame.0[57]]);
    frame.0[56..58].copy_from_slice(&(sum + 0x2000).to_be_bytes());
    give(&mut pair, &frame);
    // One that has crossed a router, one behind options, and ARP from outside of the network.
    let mut far = discovery(136, stranger(2), first, V6, first, Some(2));
    far.0[21] = 64;
    give(&mut pair, &far);
    give(&mut pair, &arp(2, stranger(3), Ipv4Addr::new(192, 0, 2, 1), V4));
    pair.run(600 * MS);
    let seen = watch(&mut pair);
    ask_first(&mut pair, "[fec0::1]:7");
    assert!(seen.borrow().iter().all(|f| f[..2] != [2, 0x99]));
}

#[test]
fn all_new_neighbours_are_asked_for_at_once() {
    let mut pair = Pair::new(0);
    let seen = watch(&mut pair);
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        let mut socket = UdpSocket::bind(&stack, at("[::]:0"), RINGS).await.unwrap();
        for n in 100..130u8 {
            let to = SocketAddr::new(Ipv4Addr::new(10, 0, 2, n).into(), 9);
            socket.send_to(b"there?", to).await.unwrap();
        }
    });
    pair.run(MS);
    let mut questions = asked(&seen.borrow());
    questions.sort_unstable();
    questions.dedup();
    assert_eq!(questions.len(), 30);
    assert!(seen.borrow().len() < 35, "it asked more than once");
    // Each is asked three times, a second apart, and no more.
    pair.run(10 * SECOND);
    assert!(
        asked(&seen.borrow()).len() <= 4 * 30,
        "{}",
        asked(&seen.borrow()).len()
    );
    assert_eq!(pair.b.counter("udp neighbour unreachable"), 30);
}

#[test]
fn a_connection_to_a_new_neighbour_waits_for_the_answer_only() {
    let mut pair = Pair::new(0);
    let stack = pair.a.stack.clone();
    pair.a.spawn(async move {
        let options = ListenOptions {
            rings: RINGS,
            backlog: 4,
            rx_buffer: 0,
            tx_buffer: 0,
        };
        let listener = TcpListener::bind(&stack, at("[::]:9"), options).await.unwrap();
        let mut all = Vec::new();
        loop {
            all.push(listener.accept().await.unwrap());
        }
    });
    pair.run(10 * MS);
    // Somebody else was asked for just now, and does not answer.
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        TcpStream::connect(&stack, at("10.0.2.77:9"), RINGS)
            .await
            .map(|_| ())
    });
    pair.run(MS);
    for to in ["10.0.2.1:9", "[fec0::1]:9"] {
        let (start, stack) = (pair.b.now(), pair.b.stack.clone());
        let task = pair
            .b
            .spawn(async move { TcpStream::connect(&stack, at(to), RINGS).await.is_ok() });
        assert!(pair.until(&task, 10 * SECOND));
        let took = pair.b.now() - start;
        assert!(took < 100 * MS, "{took} ns to {to}");
    }
}

#[test]
fn a_message_about_a_neighbour_touches_only_what_waits_for_it() {
    let mut pair = Pair::new(0);
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        let mut socket = UdpSocket::bind(&stack, at("[::]:0"), RINGS).await.unwrap();
        for n in 0..240u32 {
            let to = SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0264 + n % 40).into(), 9);
            socket.send_to(b"there?", to).await.unwrap();
        }
        // The socket stays open: what is in its ring goes out.
        std::future::pending::<()>().await;
    });
    pair.run(MS);
    for n in 0..200 {
        let ip = Ipv4Addr::from_bits(0x0a00_02c8 + n % 50);
        give(&mut pair, &arp(1 + (n % 2) as u8, stranger(n), ip, V4));
        pair.b.settle();
    }
    assert_eq!(pair.b.counter("udp retried"), 0);
    let seen = watch(&mut pair);
    give(&mut pair, &arp(2, stranger(1), Ipv4Addr::new(10, 0, 2, 100), V4));
    pair.run(MS);
    assert_eq!(pair.b.counter("udp retried"), 6);
    let sent = seen
        .borrow()
        .iter()
        .filter(|f| f[..6] == stranger(1) && f[12..14] == [8, 0])
        .count();
    assert_eq!(sent, 6);
}

#[test]
fn questions_for_our_addresses_are_answered_and_others_are_not() {
    let mut pair = Pair::new(0);
    let (mac, host) = (stranger(5), Ipv4Addr::new(10, 0, 2, 50));
    let from = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x50);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);
    let seen = watch(&mut pair);
    let ask = |pair: &mut Pair, frame: Frame| {
        seen.borrow_mut().clear();
        give(pair, &frame);
        pair.run(MS);
        seen.borrow().clone()
    };
    let answers = ask(&mut pair, arp(1, mac, host, V4));
    assert_eq!(answers.len(), 1);
    assert_eq!((&answers[0][..6], &answers[0][20..22]), (&mac[..], &[0, 2][..]));
    assert_eq!(
        (&answers[0][28..32], &answers[0][38..42]),
        (&V4.octets()[..], &host.octets()[..])
    );
    // Who looks whether the address is free (RFC 5227, 2.1.1).
    assert_eq!(ask(&mut pair, arp(1, mac, Ipv4Addr::UNSPECIFIED, V4)).len(), 1);
    for frame in [
        arp(1, mac, host, Ipv4Addr::new(10, 0, 2, 51)),
        arp(2, mac, host, V4),
        arp(3, mac, host, V4),
        arp(1, [0xff; 6], host, V4),
        arp(1, mac, Ipv4Addr::new(10, 0, 2, 255), V4),
        arp(1, mac, Ipv4Addr::new(10, 0, 3, 1), V4),
        arp(1, mac, V4, V4),
    ] {
        let mut frame = frame;
        frame.0[6..12].copy_from_slice(&mac);
        assert_eq!(ask(&mut pair, frame).len(), 0);
    }
    for option in [Some(1), None] {
        let answers = ask(&mut pair, discovery(135, mac, from, group, V6, option));
        assert_eq!(answers.len(), 1);
        let answer = &answers[0];
        assert_eq!((&answer[..6], answer[54], answer[58]), (&mac[..], 136, 0x60));
        assert_eq!(
            (&answer[38..54], &answer[62..78]),
            (&from.octets()[..], &V6.octets()[..])
        );
    }
    // Duplicate address detection: all are told (RFC 4861, 7.2.4).
    let answers = ask(
        &mut pair,
        discovery(135, mac, Ipv6Addr::UNSPECIFIED, group, V6, None),
    );
    assert_eq!(answers.len(), 1);
    assert_eq!(
        (&answers[0][..6], answers[0][58]),
        (&[0x33, 0x33, 0, 0, 0, 1][..], 0x20)
    );
    let mut far = discovery(135, mac, from, group, V6, Some(1));
    far.0[21] = 254;
    for frame in [
        far,
        discovery(135, mac, Ipv6Addr::UNSPECIFIED, group, V6, Some(1)),
        discovery(135, mac, Ipv6Addr::UNSPECIFIED, V6, V6, None),
        discovery(135, mac, from, group, from, Some(1)),
        discovery(137, mac, from, V6, V6, None),
    ] {
        assert_eq!(ask(&mut pair, frame).len(), 0);
    }
}
