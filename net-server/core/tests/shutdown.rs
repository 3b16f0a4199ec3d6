//! A shutdown of a brane that has connections: they end as TCP has it, or at the deadline.

mod common;

use brane_abi::control::{command, report};
use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;
use core::net::SocketAddr;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A connection from `a` to `b`, both ends.
fn connection(pair: &mut Pair) -> (TcpStream, TcpStream) {
    let stack = pair.b.stack.clone();
    let server = pair.b.spawn(async move {
        stack.ready().await;
        let listener = TcpListener::bind(&stack, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        listener.accept().await.unwrap()
    });
    let stack = pair.a.stack.clone();
    let client = pair.a.spawn(async move {
        stack.ready().await;
        TcpStream::connect(&stack, at("10.0.2.2:80"), RingSizes::default())
            .await
            .unwrap()
    });
    (pair.until(&client, SECOND), pair.until(&server, SECOND))
}

fn shut_down(pair: &mut Pair, ms: u32) {
    while pair.b.manager.report().is_some() {}
    pair.b.manager.command(command::SHUTDOWN, 9, &ms.to_le_bytes());
}

#[test]
fn a_shutdown_ends_connections_in_order_and_a_start_follows() {
    let mut pair = Pair::new(0);
    for round in 0..3 {
        let (mut near, mut far) = connection(&mut pair);
        let stack = pair.b.stack.clone();
        let listening = pair.b.spawn(async move {
            let listener = TcpListener::bind(&stack, at("[::]:81"), ListenOptions::default())
                .await
                .unwrap();
            listener.accept().await.map(|_| ()).unwrap_err()
        });
        let stack = pair.b.stack.clone();
        let bound = pair.b.spawn(async move {
            let mut socket = UdpSocket::bind(&stack, at("[::]:82"), RingSizes::default())
                .await
                .unwrap();
            socket.recv_from(&mut [0; 9]).await.map(|_| ()).unwrap_err()
        });
        pair.run(MS);
        // What was written before still arrives, then the end.
        let written = pair.b.spawn(async move {
            far.write_all(&[7; 3000]).await.unwrap();
            far
        });
        pair.b.settle();
        let far = pair.until(&written, SECOND);
        shut_down(&mut pair, 5000);
        let read = pair.a.spawn(async move {
            let (mut buffer, mut sum) = ([0; 1000], 0);
            loop {
                match near.read(&mut buffer).await.unwrap() {
                    0 => return (sum, near),
                    n => sum += n,
                }
            }
        });
        let (read, near) = pair.until(&read, SECOND);
        assert_eq!(read, 3000);
        assert_eq!(
            pair.b.manager.report(),
            None,
            "round {round}: the connection is still there"
        );
        assert!(
            pair.until(&listening, MS) != Error::BraneRestarted
                && pair.until(&bound, MS) != Error::BraneRestarted
        );
        assert!(!pair.b.stack.is_ready());
        // The other end closes too, then nothing is left.
        drop(near);
        pair.run(10 * MS);
        assert_eq!(pair.b.manager.report(), Some((report::DRAINED, 9, vec![0; 4])));
        drop(far);
        pair.run(10 * MS);
        assert!(pair.b.brane.stack.tcp.conns.is_empty() && pair.b.brane.stack.tcp.listeners.is_empty());
        assert_eq!(pair.b.driver.sent(0).len(), 0);
        assert!(!pair.b.status().interfaces[1].up);
        pair.b.manager.command(command::START, 3, &[]);
        pair.run(10 * MS);
        assert_eq!(pair.b.manager.report(), Some((report::DONE, 3, vec![])));
        pair.run(3 * SECOND);
    }
}

#[test]
fn a_shutdown_ends_at_its_deadline_and_says_how_much_was_left() {
    let mut pair = Pair::new(0);
    let (mut near, mut far) = connection(&mut pair);
    shut_down(&mut pair, 300);
    pair.run(250 * MS);
    assert_eq!(pair.b.manager.report(), None);
    pair.b.manager.command(command::SHUTDOWN, 10, &[0; 4]);
    pair.run(10 * MS);
    assert!(matches!(pair.b.manager.report(), Some((report::REFUSED, 10, _))));
    pair.run(100 * MS);
    assert_eq!(
        pair.b.manager.report(),
        Some((report::DRAINED, 9, vec![1, 0, 0, 0]))
    );
    let reset = pair.a.spawn(async move {
        let mut buffer = [0; 10];
        loop {
            match near.read(&mut buffer).await {
                Ok(0) => match near.write_all(&[1]).await {
                    Ok(()) => brane_socket::executor::yield_now().await,
                    Err(error) => return error,
                },
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    assert_eq!(pair.until(&reset, SECOND), Error::ConnectionReset);
    let reset = pair
        .b
        .spawn(async move { far.read(&mut [0; 10]).await.unwrap_err() });
    assert_eq!(pair.until(&reset, SECOND), Error::ConnectionReset);
    // A brane that serves nothing has nothing left.
    pair.b.manager.command(command::SHUTDOWN, 11, &[0; 4]);
    pair.run(MS);
    assert_eq!(pair.b.manager.report(), Some((report::DRAINED, 11, vec![0; 4])));
}
