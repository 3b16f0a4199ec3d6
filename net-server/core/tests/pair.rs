//! Two branes back to back: everything from the client's call on one to the client's call on the other.

mod common;

use brane_abi::port;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::SocketAddr;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const OFFLOADS: u32 = port::FEATURE_TX_CSUM | port::FEATURE_TSO4 | port::FEATURE_TSO6;

/// A UDP echo server on `b`, forever.
fn udp_echo(pair: &Pair) {
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:7"), RingSizes { rx: 65536, tx: 65536 })
            .await
            .expect("a port");
        socket
            .serve(64, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
}

fn exchange(pair: &mut Pair, to: &str, data: Vec<u8>) -> (Vec<u8>, SocketAddr) {
    let stack = pair.a.stack.clone();
    let remote = at(to);
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:0"), RingSizes { rx: 32768, tx: 32768 })
            .await
            .unwrap();
        socket.send_to(&data, remote).await.unwrap();
        let mut out = vec![0; 20000];
        let (n, from, _) = socket.recv_from(&mut out).await.unwrap();
        (out[..n].to_vec(), from)
    });
    pair.until(&task, 5 * SECOND)
}

#[test]
fn datagrams_come_back_over_both_families() {
    for features in [0, OFFLOADS] {
        let mut pair = Pair::new(features);
        udp_echo(&pair);
        for to in ["10.0.2.2:7", "[fec0::2]:7"] {
            for len in [0, 1, 64, 1400] {
                let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
                assert_eq!(
                    exchange(&mut pair, to, data.clone()),
                    (data, at(to)),
                    "{to} {len}"
                );
            }
        }
        // In fragments, both ways.
        let data: Vec<u8> = (0..9000u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(exchange(&mut pair, "10.0.2.2:7", data.clone()).0, data);
        assert!(pair.b.counter("reassembled") == 1 && pair.a.counter("reassembled") == 1);
        assert_eq!(pair.b.counter("bad checksum"), 0);
    }
}

/// A socket on `a` with a transmit ring of 1 KiB, whose longest datagram has 456 bytes and takes half of the ring.
fn small_ring(pair: &mut Pair) -> UdpSocket {
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let sizes = RingSizes { rx: 1024, tx: 1024 };
        UdpSocket::bind(&stack, at("[::]:0"), sizes).await.unwrap()
    });
    let socket = pair.until(&task, SECOND);
    assert_eq!(socket.max_payload(), 456);
    socket
}

/// Puts datagrams of these lengths into the ring without a pause, waiting only where it is full. Nobody answers them, so
/// nothing but room wakes the sender. Fails when it sleeps for ever.
fn burst(pair: &mut Pair, mut socket: UdpSocket, lengths: &[usize]) -> UdpSocket {
    let lengths = lengths.to_vec();
    let task = pair.a.spawn(async move {
        for len in lengths {
            socket.send_to(&vec![7; len], at("10.0.2.2:9")).await.unwrap();
        }
        socket
    });
    let socket = pair.until(&task, SECOND);
    pair.run(MS);
    socket
}

#[test]
fn a_long_datagram_that_finds_the_ring_full_is_woken() {
    let mut pair = Pair::new(0);
    let mut socket = small_ring(&mut pair);
    // Wherever the ring stands and however little is in it, a first long one gets its room.
    for before in 0..13 {
        for short in 1..4 {
            // 64 bytes with its headers, each.
            socket = burst(&mut pair, socket, &vec![8; before]);
            let lengths = [vec![8; short], vec![456], vec![8]].concat();
            socket = burst(&mut pair, socket, &lengths);
            drop(socket);
            socket = small_ring(&mut pair);
        }
    }
    // Whatever the lengths.
    let mut state = 1u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for _ in 0..300 {
        let lengths: Vec<_> = (0..=random(9)).map(|_| random(457) as usize).collect();
        socket = burst(&mut pair, socket, &lengths);
    }
}

#[test]
fn a_brane_reaches_itself_over_lo0() {
    let mut pair = Pair::new(0);
    let stack = pair.a.stack.clone();
    pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:7"), RingSizes { rx: 65536, tx: 65536 })
            .await
            .unwrap();
        socket
            .serve(64, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
    let before = pair.carried;
    for to in ["127.0.0.1:7", "[::1]:7", "10.0.2.1:7", "[fec0::1]:7"] {
        assert_eq!(
            exchange(&mut pair, to, b"self".to_vec()),
            (b"self".to_vec(), at(to))
        );
    }
    assert_eq!(pair.carried, before, "nothing of it may leave");
}

/// Sends `len` bytes each way at once over one connection and checks all of them.
fn both_ways(pair: &mut Pair, to: &str, len: usize) {
    let port = at(to).port();
    let buffers = 64 << 10;
    let options = ListenOptions {
        rings: RingSizes { rx: 65536, tx: 65536 },
        backlog: 4,
        rx_buffer: buffers,
        tx_buffer: buffers,
    };
    let byte = |i: usize, seed: usize| (i.wrapping_mul(2654435761) >> 7) as u8 ^ seed as u8;
    let exchange = move |mut stream: TcpStream, seed: usize| async move {
        let (mut reader, mut writer) = stream.split();
        let (mut sent, mut received) = (0, 0);
        let mut buffer = vec![0; 5000];
        while sent < len || received < len {
            if sent < len {
                let n = writer
                    .write_with(|room| {
                        let n = room.len().min(len - sent).min(3000);
                        for (i, b) in room[..n].iter_mut().enumerate() {
                            *b = byte(sent + i, seed);
                        }
                        n
                    })
                    .await
                    .unwrap();
                sent += n;
                if sent == len {
                    writer.shutdown().unwrap();
                }
            }
            if received < len {
                let n = reader.read(&mut buffer).await.unwrap();
                assert_ne!(n, 0, "closed after {received} bytes");
                for (i, b) in buffer[..n].iter().enumerate() {
                    assert_eq!(*b, byte(received + i, 1 - seed), "byte {}", received + i);
                }
                received += n;
            }
        }
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 0, "the end must follow");
        received
    };
    let stack = pair.b.stack.clone();
    let server = pair.b.spawn(async move {
        stack.ready().await;
        let listener = TcpListener::bind(&stack, SocketAddr::new(at("[::]:1").ip(), port), options)
            .await
            .unwrap();
        let stream = listener.accept().await.unwrap();
        exchange(stream, 1).await
    });
    let (stack, remote) = (pair.a.stack.clone(), at(to));
    let client = pair.a.spawn(async move {
        let stream = TcpStream::connect(&stack, remote, options.rings).await.unwrap();
        exchange(stream, 0).await
    });
    pair.run(5 * MS);
    assert_eq!(pair.until(&client, 120 * SECOND), len);
    assert_eq!(pair.until(&server, 120 * SECOND), len);
}

#[test]
fn streams_carry_every_byte_both_ways() {
    for features in [0, OFFLOADS] {
        let mut pair = Pair::new(features);
        pair.run(10 * MS);
        both_ways(&mut pair, "10.0.2.2:19", 1_000_000);
        both_ways(&mut pair, "[fec0::2]:20", 1_000_000);
        assert_eq!(
            (pair.a.counter("bad checksum"), pair.b.counter("bad checksum")),
            (0, 0)
        );
    }
}

#[test]
fn streams_survive_loss_and_disorder() {
    let mut pair = Pair::new(0);
    // Where the losses begin matters: both ends have the same clock, and smoltcp can lock up if both retransmit the same instant.
    let (mut n, mut held) = (2u32, None);
    pair.wire = Box::new(move |frame| {
        // Reports of groups come at random times. They would move the losses.
        if frame.0[12..14] == [0x86, 0xdd] && frame.0[20] == 0 {
            return vec![frame.clone()];
        }
        n += 1;
        match n % 23 {
            0 => vec![],
            7 => {
                held = Some(frame.clone());
                vec![]
            }
            9 => [held.take(), Some(frame.clone())].into_iter().flatten().collect(),
            _ => vec![frame.clone()],
        }
    });
    both_ways(&mut pair, "10.0.2.2:19", 200_000);
}

#[test]
fn many_connections_come_and_go_without_a_trace() {
    let mut pair = Pair::new(0);
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let options = ListenOptions {
            backlog: 16,
            ..ListenOptions::default()
        };
        let listener = TcpListener::bind(&stack, at("[::]:80"), options).await.unwrap();
        loop {
            let mut stream = listener.accept().await.unwrap();
            let mut buffer = [0; 64];
            let n = stream.read(&mut buffer).await.unwrap();
            stream.write_all(&buffer[..n]).await.unwrap();
            // The client closes first.
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        }
    });
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        for i in 0..1000u32 {
            let mut stream = TcpStream::connect(&stack, at("10.0.2.2:80"), RingSizes::default())
                .await
                .unwrap();
            stream.write_all(&i.to_be_bytes()).await.unwrap();
            let mut answer = [0; 4];
            assert_eq!(stream.read(&mut answer).await.unwrap(), 4);
            assert_eq!(answer, i.to_be_bytes());
            drop(stream);
        }
    });
    pair.until(&task, 300 * SECOND);
    pair.run(100 * MS);
    assert_eq!(pair.b.counter("tcp accepted"), 1000);
    assert_eq!(
        pair.b.counter("tcp connections"),
        0,
        "the peer keeps TIME-WAIT, not we"
    );
    assert_eq!(pair.b.counter("tcp resets"), 0);
    // Those of the side that closed first are bounded, and gone after a while.
    pair.run(70 * SECOND);
    assert_eq!(pair.a.counter("tcp connections"), 0);
}

#[test]
fn an_idle_connection_is_probed_after_a_minute_and_not_at_once() {
    let mut pair = Pair::new(0);
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let segments = seen.clone();
    pair.wire = Box::new(move |frame| {
        // Whole TCP segments of IPv4 without options: flags and bytes of payload.
        if frame.0[12..14] == [8, 0] && frame.0[23] == 6 {
            let total = usize::from(u16::from_be_bytes([frame.0[16], frame.0[17]]));
            let header = usize::from(frame.0[46] >> 4) * 4;
            segments.borrow_mut().push((frame.0[47], total - 20 - header));
        }
        vec![frame.clone()]
    });
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let listener = TcpListener::bind(&stack, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        let _stream = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let stack = pair.a.stack.clone();
    pair.a.spawn(async move {
        stack.ready().await;
        let mut stream = TcpStream::connect(&stack, at("10.0.2.2:80"), RingSizes::default())
            .await
            .unwrap();
        stream.write_all(b"four").await.unwrap();
        std::future::pending::<()>().await;
    });
    pair.run(50 * SECOND);
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const PUSH: u8 = 8;
    let handshake = [(SYN, 0), (SYN | ACK, 0), (ACK, 0)];
    assert_eq!(
        *seen.borrow(),
        [&handshake[..], &[(PUSH | ACK, 4), (ACK, 0)]].concat()
    );
    seen.borrow_mut().clear();
    pair.run(15 * SECOND);
    let probes = seen.borrow().iter().filter(|(_, len)| *len == 1).count();
    assert!((1..=2).contains(&probes), "{probes} probes: {:?}", seen.borrow());
}

#[test]
fn a_closed_port_refuses_and_a_silent_host_times_out() {
    let mut pair = Pair::new(0);
    let connect = |pair: &mut Pair, to: &str| {
        let (stack, remote) = (pair.a.stack.clone(), at(to));
        let task = pair.a.spawn(async move {
            stack.ready().await;
            TcpStream::connect(&stack, remote, RingSizes::default())
                .await
                .map(|_| ())
        });
        pair.until(&task, 60 * SECOND)
    };
    assert_eq!(
        connect(&mut pair, "10.0.2.2:81"),
        Err(brane_socket::Error::ConnectionRefused)
    );
    assert_eq!(
        connect(&mut pair, "10.0.2.99:81"),
        Err(brane_socket::Error::TimedOut)
    );
    assert_eq!(
        connect(&mut pair, "192.0.2.1:81"),
        Err(brane_socket::Error::Unreachable)
    );
}

#[test]
fn a_refusal_that_comes_late_is_no_silence() {
    let mut pair = Pair::new(0);
    // The first SYN is lost, so the refusal answers the second one.
    let mut syns = 0;
    pair.wire = Box::new(move |frame| {
        let is_syn = frame.0[12..14] == [8, 0] && frame.0[23] == 6 && frame.0[47] == 2;
        syns += u32::from(is_syn);
        if is_syn && syns == 1 {
            return vec![];
        }
        vec![frame.clone()]
    });
    let (stack, start) = (pair.a.stack.clone(), pair.a.now());
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let stream = TcpStream::connect(&stack, at("10.0.2.2:81"), RingSizes::default()).await;
        stream.map(|_| ())
    });
    let outcome = pair.until(&task, 60 * SECOND);
    assert_eq!(outcome, Err(brane_socket::Error::ConnectionRefused));
    assert!(pair.a.now() - start > SECOND / 2, "no SYN was lost");
}

#[test]
fn a_restarted_brane_comes_back_with_its_addresses_and_announces_them() {
    let mut pair = Pair::new(0);
    udp_echo(&pair);
    assert_eq!(exchange(&mut pair, "10.0.2.2:7", b"one".to_vec()).0, b"one");
    pair.b.config.generation = 1;
    pair.b.restart();
    pair.b.settle();
    let sent = pair.b.driver.sent(0);
    let announced = |bytes: &[u8]| {
        sent.iter()
            .any(|(frame, _)| frame.windows(bytes.len()).any(|w| w == bytes))
    };
    assert!(
        announced(&[10, 0, 2, 2]),
        "no gratuitous ARP in {} frames",
        sent.len()
    );
    assert!(
        announced(&[0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
        "no unsolicited advertisement"
    );
    // The client lost its sockets, and opens new ones.
    udp_echo(&pair);
    assert_eq!(exchange(&mut pair, "10.0.2.2:7", b"two".to_vec()).0, b"two");
}

#[test]
fn one_silent_neighbour_does_not_hold_up_the_others() {
    let mut pair = Pair::new(0);
    udp_echo(&pair);
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:0"), RingSizes { rx: 32768, tx: 32768 })
            .await
            .unwrap();
        for host in 100..110 {
            socket
                .send_to(b"anybody?", at(&format!("10.0.2.{host}:7")))
                .await
                .unwrap();
        }
        socket.send_to(b"here", at("10.0.2.2:7")).await.unwrap();
        let mut out = [0; 100];
        socket.recv_from(&mut out).await.unwrap().0
    });
    assert_eq!(
        pair.until(&task, 100 * MS),
        4,
        "the answer must not wait for the silent"
    );
    pair.run(5 * SECOND);
    assert_eq!(pair.a.counter("udp neighbour unreachable"), 10);
}
