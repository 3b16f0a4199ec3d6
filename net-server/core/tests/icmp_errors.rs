//! ICMP errors of other hosts about packets of the brane: which socket they reach, and what they end.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_socket::{Error, RingSizes, TcpStream, UdpSocket};
use common::*;
use core::net::SocketAddr;
use packets::*;
use std::cell::RefCell;
use std::rc::Rc;

const SIZES: RingSizes = RingSizes { rx: 4096, tx: 4096 };

/// Own address, address of the peer, offset of the TCP header in a frame, ICMP's number, type and code of three errors: port
/// unreachable, prohibited, and host unreachable.
struct Case {
    own: &'static str,
    peer: &'static str,
    header: usize,
    icmp: u8,
    port: (u8, u8),
    prohibited: (u8, u8),
    soft: [(u8, u8); 6],
}

const CASES: [Case; 2] = [
    Case {
        own: "10.0.2.1",
        peer: "10.0.2.9",
        header: 34,
        icmp: 1,
        port: (3, 3),
        prohibited: (3, 13),
        soft: [(3, 0), (3, 1), (3, 4), (3, 5), (11, 0), (12, 0)],
    },
    Case {
        own: "fec0::1",
        peer: "fec0::9",
        header: 54,
        icmp: 58,
        port: (1, 4),
        prohibited: (1, 1),
        soft: [(1, 0), (1, 3), (2, 0), (3, 0), (4, 0), (99, 0)],
    },
];

impl Case {
    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.peer.parse().unwrap(), port)
    }

    /// An error of the peer about a packet in a frame that the brane has sent.
    fn error(&self, (kind, code): (u8, u8), quoted: &[u8]) -> Vec<u8> {
        let message = [&[kind, code, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
        packet(self.peer, self.own, self.icmp, &message)
    }
}

type Outcome = Rc<RefCell<Option<Result<(), Error>>>>;

/// Begins to connect to the peer. Returns the outcome and the frame with the SYN.
fn connect(host: &mut Host, to: SocketAddr) -> (Outcome, Vec<u8>) {
    let stack = host.stack.clone();
    let task = host.spawn(async move { TcpStream::connect(&stack, to, SIZES).await.map(|_| ()) });
    host.settle();
    let sent = host.driver.sent(0);
    assert_eq!(sent.len(), 1, "a SYN");
    (task, sent[0].0.clone())
}

#[test]
fn a_hard_error_about_the_syn_ends_the_attempt_and_nothing_else_does() {
    for case in CASES {
        for (error, expected) in [
            (case.port, Error::ConnectionRefused),
            (case.prohibited, Error::Unreachable),
        ] {
            let mut host = echo_host();
            let (task, syn) = connect(&mut host, case.at(80));
            for soft in case.soft {
                assert!(answers(&mut host, case.error(soft, &syn), 0).is_empty());
            }
            assert_eq!(host.counter("tcp icmp errors"), 6);
            // Another sequence number, another port, and another sender of the quoted packet.
            for at in [
                case.header + 7,
                case.header + 1,
                14 + if case.icmp == 1 { 15 } else { 23 },
            ] {
                let mut other = syn.clone();
                other[at] ^= 1;
                assert!(answers(&mut host, case.error(error, &other), 0).is_empty());
            }
            // Too short to name a port.
            answers(&mut host, case.error(error, &syn[..case.header + 7]), 0);
            assert_eq!(host.counter("icmp errors stray"), 4);
            assert!(task.borrow().is_none(), "{error:?}");
            assert!(answers(&mut host, case.error(error, &syn), 0).is_empty());
            assert_eq!(*task.borrow(), Some(Err(expected)), "{error:?}");
            assert_eq!(host.counter("tcp icmp errors"), 7);
            assert!(host.brane.stack.tcp.conns.is_empty());
        }
    }
}

#[test]
fn an_error_about_an_established_connection_is_noted_and_does_not_end_it() {
    for case in CASES {
        let mut host = echo_host();
        let stack = host.stack.clone();
        let to = case.at(80);
        let task = host.spawn(async move {
            let mut stream = TcpStream::connect(&stack, to, SIZES).await?;
            let mut byte = [0];
            stream.read(&mut byte).await?;
            Ok::<u8, Error>(byte[0])
        });
        host.settle();
        let syn = host.driver.sent(0)[0].0.clone();
        let own = u16::from_be_bytes([syn[case.header], syn[case.header + 1]]);
        let iss = u32::from_be_bytes(*syn[case.header + 4..].first_chunk().unwrap());
        let segment = |seq: u32, flags: u8, data: &[u8]| {
            let mut bytes = [80u16.to_be_bytes(), own.to_be_bytes()].concat();
            bytes.extend(seq.to_be_bytes());
            bytes.extend((iss + 1).to_be_bytes());
            bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            bytes.extend(data);
            packet(case.peer, case.own, 6, &bytes)
        };
        let ack = answers(&mut host, segment(100, 0x12, &[]), 0);
        assert_eq!(host.counter("tcp connected"), 1);
        for error in [case.port, case.prohibited, case.soft[0]] {
            assert!(answers(&mut host, case.error(error, &ack[0]), 0).is_empty());
        }
        assert_eq!(host.counter("tcp icmp errors"), 3);
        answers(&mut host, segment(101, 0x18, b"x"), 0);
        assert_eq!(*task.borrow(), Some(Ok(b'x')));
    }
}

#[test]
fn errors_about_datagrams_are_counted_for_their_socket() {
    for case in CASES {
        let mut host = echo_host();
        let (stack, to) = (host.stack.clone(), case.at(9));
        let task = host.spawn(async move {
            let any = SocketAddr::new("::".parse().unwrap(), 5000);
            let mut socket = UdpSocket::bind(&stack, any, SIZES).await.unwrap();
            socket.send_to(b"hello", to).await.unwrap();
            socket
        });
        host.settle();
        let datagram = host.driver.sent(0)[0].0.clone();
        answers(&mut host, case.error(case.port, &datagram), 0);
        assert_eq!(host.counter("udp icmp errors"), 1);
        // What is quoted is not a packet of the brane's, or of no socket.
        let mut other = datagram.clone();
        other[case.header + 1] ^= 1;
        answers(&mut host, case.error(case.port, &other), 0);
        let mut foreign = datagram.clone();
        foreign[case.header - 5] ^= 1;
        foreign[case.header - if case.icmp == 1 { 8 } else { 32 }..][..4].fill(77);
        answers(&mut host, case.error(case.port, &foreign), 0);
        assert_eq!(host.counter("icmp errors stray"), 2);
        assert_eq!(host.counter("icmp errors received"), 2);
        assert!(task.borrow().is_some());
    }
}

#[test]
fn errors_about_protocols_that_the_brane_lacks_and_errors_about_errors_are_stray() {
    let mut host = echo_host();
    for case in CASES {
        let unknown = plain(case.own, case.peer, 132, &[1; 16]);
        answers(&mut host, case.error(case.port, &unknown), 0);
        let error = case.error(case.port, &unknown);
        let about_error = plain(case.own, case.peer, case.icmp, &error[case.header..]);
        answers(&mut host, case.error(case.port, &about_error), 0);
    }
    assert_eq!(host.counter("icmp errors stray"), 4);
}
