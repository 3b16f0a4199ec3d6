//! Work for `valgrind --tool=callgrind`: how many instructions a brane spends on an echo, a byte, a connection. The argument
//! picks the load: `idle`, `batch`, `in`, `out`, `connections`; `Brane::turn` is the function to look at.

#[path = "../tests/common/mod.rs"]
mod common;

use brane_abi::port;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::SocketAddr;

const OFFLOADS: u32 = port::FEATURE_TX_CSUM | port::FEATURE_TSO4;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn echo(pair: &Pair) {
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let sizes = RingSizes {
            rx: 512 << 10,
            tx: 512 << 10,
        };
        let mut socket = UdpSocket::bind(&stack, at("[::]:7"), sizes)
            .await
            .expect("a port");
        socket
            .serve(64, |incoming, outgoing| outgoing.echo(incoming))
            .await
    });
}

/// A datagram to `b`, as its driver hands it over.
fn datagram(pair: &mut Pair) -> Frame {
    let stack = pair.a.stack.clone();
    pair.a.spawn(async move {
        stack.ready().await;
        let sizes = RingSizes { rx: 4096, tx: 4096 };
        let mut socket = UdpSocket::bind(&stack, at("[::]:9000"), sizes)
            .await
            .expect("a port");
        socket.send_to(&[7; 64], at("10.0.2.2:7")).await.expect("room");
        let mut out = [0; 64];
        socket.recv_from(&mut out).await.expect("an echo");
        socket.send_to(&[7; 64], at("10.0.2.2:7")).await.expect("room");
        std::future::pending::<()>().await;
    });
    pair.run(100 * MS);
    let kept = std::rc::Rc::new(std::cell::RefCell::new(None));
    let seen = kept.clone();
    pair.wire = Box::new(move |frame| {
        seen.borrow_mut().get_or_insert(frame.clone());
        vec![frame.clone()]
    });
    let stack = pair.a.stack.clone();
    pair.a.spawn(async move {
        let sizes = RingSizes { rx: 4096, tx: 4096 };
        let mut socket = UdpSocket::bind(&stack, at("[::]:9001"), sizes)
            .await
            .expect("a port");
        socket.send_to(&[7; 64], at("10.0.2.2:7")).await.expect("room");
    });
    pair.run(10 * MS);
    kept.borrow_mut().take().expect("a frame")
}

fn udp(batch: usize, rounds: usize) {
    let mut pair = Pair::new(OFFLOADS);
    echo(&pair);
    let frame = datagram(&mut pair);
    let b = &mut pair.b;
    let mut answers = 0;
    for _ in 0..rounds {
        for _ in 0..batch {
            b.driver.give(0, &frame);
        }
        turns(b);
        b.stack.run(&b.executor);
        turns(b);
        answers += b.driver.sent(0).len();
        b.clock.0.set(b.now() + 200_000);
    }
    println!("{answers} echoes");
}

/// Turns as the protection domain takes them.
fn turns(host: &mut Host) {
    while host.brane.turn(host.clock.0.get(), |_| {}).more || !host.brane.arm() {}
}

fn bulk(out: bool) {
    let mut pair = Pair::new(OFFLOADS);
    let options = ListenOptions {
        rings: RingSizes {
            rx: 128 << 10,
            tx: 128 << 10,
        },
        backlog: 4,
        rx_buffer: 256 << 10,
        tx_buffer: 256 << 10,
    };
    const LEN: usize = 32 << 20;
    let write = |mut stream: TcpStream| async move {
        let mut left = LEN;
        while left != 0 {
            left -= stream
                .split()
                .1
                .write_with(|room| room.len().min(left))
                .await
                .expect("room");
        }
        stream.shutdown().expect("an open stream");
        while stream.discard().await.is_ok_and(|n| n != 0) {}
    };
    let read = |mut stream: TcpStream| async move { while stream.discard().await.is_ok_and(|n| n != 0) {} };
    let stack = pair.b.stack.clone();
    pair.b.spawn(async move {
        stack.ready().await;
        let listener = TcpListener::bind(&stack, at("[::]:9"), options)
            .await
            .expect("a port");
        let stream = listener.accept().await.expect("a connection");
        if out {
            write(stream).await
        } else {
            read(stream).await
        }
    });
    let stack = pair.a.stack.clone();
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let stream = TcpStream::connect(&stack, at("10.0.2.2:9"), options.rings)
            .await
            .expect("a connection");
        if out {
            read(stream).await
        } else {
            write(stream).await
        }
    });
    let start = std::time::Instant::now();
    pair.until(&task, 1000 * SECOND);
    println!(
        "{} MiB in {:?}, both branes, one thread",
        LEN >> 20,
        start.elapsed()
    );
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("idle") => udp(1, 10_000),
        Some("batch") => udp(64, 1_000),
        Some("in") => bulk(false),
        Some("out") => bulk(true),
        other => println!("one of idle, batch, in, out; not {other:?}"),
    }
}
