//! Sockets over a simulated brane.

mod common;

use brane_abi::layout::sock;
use brane_abi::socket::*;
use brane_socket::{Error, ListenOptions, NetClient, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use std::cell::Cell;
use std::rc::Rc;
use zerocopy::IntoBytes;

const ANY: &str = "[::]";

fn any(port: u16) -> core::net::SocketAddr {
    format!("{ANY}:{port}").parse().unwrap()
}

/// Opens a listener and accepts one stream on it. Returns both and the requests that the brane has received for the stream.
fn accepted(bench: &mut Bench) -> (TcpListener, TcpStream, Request, Accept) {
    let net = bench.net.clone();
    let listener =
        bench.spawn(async move { TcpListener::bind(&net, any(7), ListenOptions::default()).await });
    let request = bench.peer.expect(request::TCP_LISTEN);
    assert_eq!(request.parse::<Listen>().local.port, 7);
    bench.peer.answer(
        &request,
        event::BOUND,
        &Endpoints {
            local: v4([0; 4], 7),
            ..Endpoints::default()
        },
    );
    bench.run();
    let listener = listener.take().unwrap().unwrap();
    let listening = request.slot as u32;

    let both = bench.spawn(async move {
        let stream = listener.accept().await;
        (listener, stream)
    });
    let request = bench.peer.expect(request::TCP_ACCEPT);
    let accept: Accept = request.parse();
    assert_eq!(accept.listener, listening);
    let ends = Endpoints {
        local: v4([10, 0, 2, 16], 7),
        remote: v4([10, 0, 2, 2], 4000),
    };
    bench.peer.answer(&request, event::ACCEPTED, &ends);
    bench.run();
    let (listener, stream) = both.take().unwrap();
    let stream = stream.unwrap();
    assert_eq!(stream.remote_addr().to_string(), "10.0.2.2:4000");
    (listener, stream, request, accept)
}

#[test]
fn a_stream_carries_bytes_both_ways_and_closes_in_order() {
    let mut bench = Bench::new();
    let (_listener, mut stream, request, accept) = accepted(&mut bench);
    let (mut tx, mut rx) = bench.peer.stream(request.slot, accept.rings);
    let done = bench.spawn(async move {
        let mut total = 0;
        loop {
            match stream.echo().await? {
                0 => break Ok::<_, Error>(total),
                n => total += n,
            }
        }
    });
    // More bytes than the ring has room for, in pieces that wrap around its end.
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let mut back = Vec::new();
    let mut sent = 0;
    while back.len() < data.len() {
        sent += tx.write(&data[sent..data.len().min(sent + 5000)]).unwrap();
        bench.peer.ring(request.slot);
        bench.run();
        let mut buffer = [0; 3000];
        let n = rx.read(&mut buffer).unwrap();
        back.extend_from_slice(&buffer[..n]);
        bench.peer.ring(request.slot);
    }
    assert!(back == data);
    bench.run();
    assert!(done.take().is_none());
    bench
        .peer
        .event(event::PEER_CLOSED, request.slot, request.generation, &[]);
    bench.run();
    assert_eq!(done.take().unwrap(), Ok(data.len()));
    // The stream was dropped at the end of its task.
    let close = bench.peer.expect(request::CLOSE);
    assert_eq!((close.slot, close.generation), (request.slot, request.generation));
    assert_eq!(bench.net.counters().bad_events, 0);
}

#[test]
fn all_slots_can_be_used_over_and_over_and_never_share_rings() {
    let mut bench = Bench::new();
    let mut last = [0; sock::SLOTS];
    for _ in 0..5 {
        let results: Vec<_> = (0..sock::SLOTS)
            .map(|i| {
                let net = bench.net.clone();
                let sizes = RingSizes {
                    rx: 1024 << (i % 5),
                    tx: 2048,
                };
                bench.spawn(
                    async move { TcpStream::connect(&net, "10.0.2.2:80".parse().unwrap(), sizes).await },
                )
            })
            .collect();
        let requests: Vec<Request> = std::iter::from_fn(|| bench.peer.request()).collect();
        assert_eq!(requests.len(), sock::SLOTS);
        let mut used: Vec<(u32, u32)> = Vec::new();
        for request in &requests {
            assert_ne!(
                request.generation, last[request.slot],
                "another generation at each use"
            );
            last[request.slot] = request.generation;
            let rings = request.parse::<Open>().rings;
            for (offset, len) in [(rings.rx_offset, rings.rx_len), (rings.tx_offset, rings.tx_len)] {
                assert!(used.iter().all(|&(o, l)| o + l <= offset || offset + len <= o));
                used.push((offset, len));
            }
            bench
                .peer
                .answer(request, event::CONNECTED, &Endpoints::default());
        }
        bench.run();

        // A further socket finds no room. When a socket is closing, it waits for that room.
        let bind = |bench: &Bench| {
            let net = bench.net.clone();
            bench.spawn(async move { UdpSocket::bind(&net, any(0), RingSizes::default()).await.err() })
        };
        assert_eq!(bind(&bench).take(), Some(Some(Error::NoResources)));
        drop(results[0].take().unwrap().unwrap());
        let waiting = bind(&bench);
        let close = bench.peer.expect(request::CLOSE);
        bench.peer.closed(&close);
        bench.run();
        let request = bench.peer.expect(request::UDP_BIND);
        assert_eq!(request.slot, close.slot);
        last[request.slot] = request.generation;
        bench.peer.answer(
            &request,
            event::FAILED,
            &Failed {
                error: error::ADDRESS_IN_USE,
            },
        );
        bench.peer.closed(&request);
        bench.run();
        assert_eq!(waiting.take(), Some(Some(Error::AddressInUse)));

        results[1..]
            .iter()
            .for_each(|result| drop(result.take().unwrap().unwrap()));
        bench.run();
        for _ in 1..sock::SLOTS {
            let close = bench.peer.expect(request::CLOSE);
            bench.peer.closed(&close);
        }
        bench.run();
        assert_eq!(bench.peer.request(), None);
    }
}

#[test]
fn datagrams_are_answered_in_batches_with_one_notification() {
    let mut bench = Bench::new();
    let net = bench.net.clone();
    let socket = bench.spawn(async move {
        UdpSocket::bind(
            &net,
            any(7),
            RingSizes {
                rx: 1 << 18,
                tx: 1 << 18,
            },
        )
        .await
    });
    let request = bench.peer.expect(request::UDP_BIND);
    bench.peer.answer(
        &request,
        event::BOUND,
        &Endpoints {
            local: v4([0; 4], 7),
            ..Endpoints::default()
        },
    );
    bench.run();
    let mut socket = socket.take().unwrap().unwrap();
    let rings = request.parse::<Open>().rings;
    let (mut tx, mut rx) = bench.peer.datagrams(request.slot, rings);
    let task = bench.spawn(async move {
        loop {
            if let Err(error) = socket
                .exchange(64, |incoming, outgoing| outgoing.echo(incoming))
                .await
            {
                break error;
            }
        }
    });
    for (round, count) in [1usize, 64, 100].into_iter().enumerate() {
        let header = DatagramHeader {
            remote: v4([10, 0, 2, 2], 999),
            local: v4([10, 0, 2, 16], 7),
        };
        for i in 0..count {
            tx.push(&[header.as_bytes(), &[i as u8; 64]], [0; 3]).unwrap();
        }
        tx.publish();
        bench.peer.ring(request.slot);
        // The brane sleeps.
        let _ = bench.peer.link.own_bell().take();
        assert!(bench.peer.link.own_bell().arm());
        let before = bench.world.notified.get();
        bench.run();
        assert_eq!(bench.world.notified.get() - before, 1, "round {round}");
        assert_eq!(bench.peer.link.own_bell().take(), 1 << request.slot);
        for i in 0..count {
            let reply = rx.take(|r| {
                let mut bytes = vec![0; r.len()];
                r.copy_to(&mut bytes);
                bytes
            });
            let mut expected = header.as_bytes().to_vec();
            expected.extend_from_slice(&[i as u8; 64]);
            assert_eq!(reply, Ok(Some(expected)));
        }
        assert_eq!(rx.take(|_| ()), Ok(None));
        rx.release();
    }
    assert!(task.take().is_none());
}

#[test]
fn a_full_reply_ring_keeps_datagrams_until_there_is_room() {
    let mut bench = Bench::new();
    let net = bench.net.clone();
    let socket = bench.spawn(async move {
        UdpSocket::bind(
            &net,
            any(7),
            RingSizes {
                rx: 1 << 16,
                tx: 1024,
            },
        )
        .await
    });
    let request = bench.peer.expect(request::UDP_BIND);
    bench.peer.answer(&request, event::BOUND, &Endpoints::default());
    bench.run();
    let mut socket = socket.take().unwrap().unwrap();
    let (mut tx, mut rx) = bench.peer.datagrams(request.slot, request.parse::<Open>().rings);
    let _task = bench.spawn(async move { while socket.exchange(64, |i, o| o.echo(i)).await.is_ok() {} });
    let header = DatagramHeader::default();
    for i in 0..50u8 {
        tx.push(&[header.as_bytes(), &[i; 100]], [0; 3]).unwrap();
    }
    // Longer than the reply ring allows: discarded and counted.
    tx.push(&[header.as_bytes(), &[77; 600]], [0; 3]).unwrap();
    // Shorter than a header.
    tx.push(&[&[1, 2, 3]], [0; 3]).unwrap();
    tx.publish();
    bench.peer.ring(request.slot);
    let mut replies = Vec::new();
    for _ in 0..60 {
        bench.run();
        let mut any = false;
        while let Ok(Some(first)) = rx.take(|r| {
            let mut bytes = [0; 41];
            assert!(r.copy_at(0, &mut bytes));
            bytes[40]
        }) {
            replies.push(first);
            any = true;
        }
        if any {
            rx.release();
            bench.peer.ring(request.slot);
        }
    }
    assert_eq!(replies, (0..50).collect::<Vec<u8>>());
    assert_eq!(bench.net.counters().bad_datagrams, 2);
}

#[test]
fn a_restarted_brane_ends_every_socket_and_takes_new_ones() {
    let mut bench = Bench::new();
    let (listener, mut stream, ..) = accepted(&mut bench);
    let reading = bench.spawn(async move { stream.read(&mut [0; 10]).await });
    let accepting = bench.spawn(async move { listener.accept().await.err() });
    let net = bench.net.clone();
    let serial = net.serial();
    let changed = bench.spawn(async move { net.changed(serial).await });
    assert!(reading.take().is_none() && accepting.take().is_none() && changed.take().is_none());

    bench.peer = Peer::start(bench.memory.region());
    bench.run();
    assert_eq!(reading.take(), Some(Err(Error::BraneRestarted)));
    assert_eq!(accepting.take(), Some(Some(Error::BraneRestarted)));
    assert!(changed.take().is_some());
    assert!(!bench.net.is_ready());
    let net = bench.net.clone();
    let early = bench.spawn(async move { UdpSocket::bind(&net, any(7), RingSizes::default()).await.err() });
    assert_eq!(early.take(), Some(Some(Error::NotReady)));

    bench.link_up(1);
    assert_eq!(bench.net.identity().generation, 1);
    assert_eq!(bench.net.identity().name, "red");
    let (_listener, _stream, ..) = accepted(&mut bench);
    assert_eq!(bench.net.counters().links_up, 2);
    assert_eq!(bench.net.counters().sockets_lost, 3);
}

#[test]
fn reading_notifies_the_brane_only_where_it_may_wait_for_room() {
    let mut bench = Bench::new();
    let (_listener, mut stream, request, accept) = accepted(&mut bench);
    let (mut tx, _) = bench.peer.stream(request.slot, accept.rings);
    let _task = bench.spawn(async move { while stream.discard().await != Ok(0) {} });
    let bit = 1 << request.slot;
    for (bytes, rings) in [(100, false), (4096, false), (4097, true), (16384, true)] {
        let _ = bench.peer.link.own_bell().take();
        assert_eq!(tx.write(&vec![0; bytes]), Ok(bytes));
        bench.peer.ring(request.slot);
        bench.run();
        assert_eq!(
            bench.peer.link.own_bell().take() & bit != 0,
            rings,
            "{bytes} of 16384"
        );
    }
}

#[test]
fn another_generation_of_the_identity_ends_sockets_too() {
    let mut bench = Bench::new();
    let (_listener, mut stream, ..) = accepted(&mut bench);
    let reading = bench.spawn(async move { stream.read(&mut [0; 10]).await });
    bench.peer.identify(5, true);
    bench.run();
    assert_eq!(reading.take(), Some(Err(Error::BraneRestarted)));
}

#[test]
fn a_reset_and_a_shutdown_reach_the_right_side() {
    let mut bench = Bench::new();
    let (_listener, mut stream, request, accept) = accepted(&mut bench);
    let (_, mut rx) = bench.peer.stream(request.slot, accept.rings);
    let task = bench.spawn(async move {
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().unwrap();
        stream.shutdown().unwrap();
        let write = stream.write(b"more").await;
        (write, stream.read(&mut [0; 4]).await)
    });
    bench.peer.expect(request::SHUTDOWN);
    let mut words = [0; 20];
    assert_eq!(rx.read(&mut words), Ok(10));
    bench
        .peer
        .event(event::RESET, request.slot, request.generation, &[]);
    bench.run();
    assert_eq!(
        task.take(),
        Some((Err(Error::Closed), Err(Error::ConnectionReset)))
    );
    let close = bench.peer.expect(request::CLOSE);
    assert_eq!(close.slot, request.slot, "exactly one SHUTDOWN, then CLOSE");
}

#[test]
fn an_accept_that_is_given_up_is_withdrawn() {
    let mut bench = Bench::new();
    let (listener, ..) = accepted(&mut bench);
    bench.peer.expect(request::CLOSE);
    let task = bench.executor.spawn(async move {
        let _ = listener.accept().await;
    });
    bench.run();
    let accept = bench.peer.expect(request::TCP_ACCEPT);
    drop(task);
    bench.run();
    let kinds: Vec<_> = std::iter::from_fn(|| bench.peer.request())
        .map(|r| (r.kind, r.slot))
        .collect();
    assert!(kinds.contains(&(request::ABORT, accept.slot)), "{kinds:?}");
    // The connection was accepted meanwhile, so its slot is free only after CLOSED.
    bench.peer.answer(&accept, event::ACCEPTED, &Endpoints::default());
    bench.peer.closed(&accept);
    bench.peer.closed(&accept);
    bench.run();
    assert_eq!(bench.net.counters().bad_events, 0);
    assert_eq!(
        bench.net.counters().stale_events,
        1,
        "the second CLOSED came to a free slot"
    );
}

#[test]
fn waits_end_at_their_limit_and_slow_closes_are_reset() {
    let mut bench = Bench::new();
    let (_listener, mut stream, request, _) = accepted(&mut bench);
    assert_eq!(bench.run(), None, "no timer without a limit");
    stream.set_timeout(Some(1_000));
    let reading = bench.spawn(async move { stream.read(&mut [0; 10]).await });
    assert_eq!(bench.run(), Some(1_000));
    bench.world.now.set(999);
    bench.run();
    assert_eq!(reading.take(), None);
    bench.world.now.set(1_000);
    let next = bench.run().expect("the closing socket has a limit");
    assert_eq!(reading.take(), Some(Err(Error::TimedOut)));
    let close = bench.peer.expect(request::CLOSE);
    assert_eq!(close.slot, request.slot);
    bench.world.now.set(next);
    assert_eq!(bench.run(), None);
    assert_eq!(bench.peer.expect(request::ABORT).generation, request.generation);

    let net = bench.net.clone();
    let slept = bench.spawn(async move { net.sleep(500).await });
    assert_eq!(bench.run(), Some(next + 500));
    bench.world.now.set(next + 500);
    bench.run();
    assert_eq!(slept.take(), Some(()));
    assert_eq!(bench.run(), None);
}

/// Counts the polls of a future.
struct Counted<F>(F, Rc<Cell<u64>>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;
    fn poll(
        mut self: core::pin::Pin<&mut Self>,
        cx: &mut core::task::Context<'_>,
    ) -> core::task::Poll<F::Output> {
        self.1.set(self.1.get() + 1);
        core::pin::Pin::new(&mut self.0).poll(cx)
    }
}

#[test]
fn only_the_task_with_news_is_polled() {
    let mut bench = Bench::new();
    let polls: Vec<Rc<Cell<u64>>> = (0..50).map(|_| Rc::default()).collect();
    let mut rings = Vec::new();
    for count in &polls {
        let net: NetClient = bench.net.clone();
        let future = Box::pin(async move {
            let sizes = RingSizes { rx: 4096, tx: 4096 };
            let mut socket = UdpSocket::bind(&net, any(0), sizes).await.unwrap();
            while socket.exchange(64, |i, o| o.echo(i)).await.is_ok() {}
        });
        bench.executor.spawn(Counted(future, count.clone())).detach();
        bench.run();
        let request = bench.peer.expect(request::UDP_BIND);
        bench.peer.answer(&request, event::BOUND, &Endpoints::default());
        bench.run();
        rings.push((
            request.slot,
            bench.peer.datagrams(request.slot, request.parse::<Open>().rings),
        ));
    }
    polls.iter().for_each(|count| count.set(0));
    let (slot, (tx, rx)) = &mut rings[31];
    tx.push(&[DatagramHeader::default().as_bytes(), b"hello"], [0; 3])
        .unwrap();
    tx.publish();
    bench.peer.ring(*slot);
    bench.run();
    assert!(rx.take(|_| ()).unwrap().is_some());
    let polled: Vec<u64> = polls.iter().map(|count| count.get()).collect();
    assert_eq!(polled.iter().sum::<u64>(), 1, "{polled:?}");
    assert_eq!(polled[31], 1);
}
