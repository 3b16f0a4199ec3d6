//! The head of the sockets: what rules for `bind`, `connect` and `accept` do to clients of a real brane and to another host.

mod common;

use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::*;

const SIZES: RingSizes = RingSizes { rx: 65536, tx: 65536 };

fn set(host: &mut Host, rules: &[&str]) {
    let now = host.now();
    let rules = rules.iter().map(|text| branes_pfil::parse(text).unwrap());
    host.brane.replace_filter(now, rules.collect()).unwrap();
}

fn pair() -> Pair {
    let mut pair = Pair::new(0);
    echo::serve(&mut pair.b, 4);
    pair
}

/// `a` connects to `b`, sends five bytes and waits for their echo. Returns whether it came.
fn connect(pair: &mut Pair, to: &str) -> Result<bool, Error> {
    let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
    let task = pair.a.spawn(async move {
        stack.ready().await;
        let mut stream = TcpStream::connect(&stack, to, SIZES).await?;
        stream.write_all(b"hello").await?;
        let mut got = [0; 5];
        Ok(stream.read(&mut got).await? != 0)
    });
    pair.until(&task, 30 * SECOND)
}

/// `a` connects to `b`. Returns the result after five seconds, or `None` if there is none yet.
fn opens(pair: &mut Pair, to: &str) -> Option<bool> {
    let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
    let task = pair.a.spawn(async move {
        stack.ready().await;
        TcpStream::connect(&stack, to, SIZES).await.is_ok()
    });
    pair.run(5 * SECOND);
    task.take()
}

fn bind(host: &mut Pair, at: &str) -> Result<(), Error> {
    let (stack, at) = (host.a.stack.clone(), at.parse().unwrap());
    let task = host.a.spawn(async move {
        stack.ready().await;
        UdpSocket::bind(&stack, at, SIZES).await.map(drop)
    });
    host.until(&task, SECOND)
}

fn listen(host: &mut Pair, at: &str) -> Result<(), Error> {
    let (stack, at) = (host.a.stack.clone(), at.parse().unwrap());
    let task = host.a.spawn(async move {
        stack.ready().await;
        TcpListener::bind(&stack, at, ListenOptions::default())
            .await
            .map(drop)
    });
    host.until(&task, SECOND)
}

const BOTH: [&str; 2] = ["10.0.2.2:7", "[fec0::2]:7"];

#[test]
fn a_refused_connect_fails_at_once_and_sends_nothing() {
    for action in ["drop", "reject"] {
        let mut pair = pair();
        set(
            &mut pair.a,
            &[&format!(
                "{action} connect on net0 proto tcp from 10.0.2.1 to 10.0.2.2 port 7"
            )],
        );
        let sent = pair.b.counter("rx frames");
        assert_eq!(connect(&mut pair, BOTH[0]), Err(Error::PermissionDenied));
        assert_eq!(pair.b.counter("rx frames"), sent);
        assert_eq!(pair.a.counter("filter refused calls"), 1);
        // Another family, and without rules.
        assert_eq!(connect(&mut pair, BOTH[1]), Ok(true));
        set(&mut pair.a, &[]);
        assert_eq!(connect(&mut pair, BOTH[0]), Ok(true));
    }
}

#[test]
fn a_refused_bind_fails_and_others_go_on() {
    let mut pair = pair();
    set(
        &mut pair.a,
        &[
            "drop bind inet proto udp to any port 53",
            "reject bind proto tcp to any port 80",
            "drop bind on net0 to 10.0.2.1 port 99",
        ],
    );
    // A socket for both families would get IPv4 datagrams too.
    assert_eq!(bind(&mut pair, "[::]:53"), Err(Error::PermissionDenied));
    assert_eq!(bind(&mut pair, "10.0.2.1:53"), Err(Error::PermissionDenied));
    assert_eq!(bind(&mut pair, "[fec0::1]:53"), Ok(()));
    assert_eq!(bind(&mut pair, "[::]:80"), Ok(()));
    assert_eq!(listen(&mut pair, "[::]:80"), Err(Error::PermissionDenied));
    assert_eq!(listen(&mut pair, "[::]:53"), Ok(()));
    assert_eq!(bind(&mut pair, "10.0.2.1:99"), Err(Error::PermissionDenied));
    assert_eq!(bind(&mut pair, "127.0.0.1:99"), Ok(()));
    assert_eq!(pair.a.counter("filter refused calls"), 4);
}

#[test]
fn a_refused_connection_is_reset_or_dropped_before_a_client_has_it() {
    let mut pair = pair();
    set(
        &mut pair.b,
        &["reject accept on net0 proto tcp from 10.0.2.1 to 10.0.2.2 port 7"],
    );
    assert_eq!(connect(&mut pair, BOTH[0]), Err(Error::ConnectionRefused));
    assert_eq!(pair.b.counter("tcp accepted"), 0);
    assert_eq!(pair.b.counter("filter refused calls"), 1);
    assert_eq!(connect(&mut pair, BOTH[1]), Ok(true));
    set(&mut pair.b, &["drop accept proto tcp from 10.0.2.0/24"]);
    assert_eq!(opens(&mut pair, BOTH[0]), None);
    assert_eq!(pair.b.counter("tcp accepted"), 1);
    set(&mut pair.b, &[]);
    assert_eq!(connect(&mut pair, BOTH[0]), Ok(true));
}

#[test]
fn calls_pass_rules_for_packets_and_packets_pass_rules_for_calls() {
    let mut pair = pair();
    set(
        &mut pair.b,
        &["drop accept proto udp", "drop bind", "drop connect"],
    );
    assert_eq!(connect(&mut pair, BOTH[0]), Ok(true));
    set(&mut pair.a, &["pass connect", "drop"]);
    assert_eq!(bind(&mut pair, "[::]:53"), Ok(()));
    // The call passes, and the SYN does not leave.
    let sent = pair.a.counter("filter dropped out");
    assert_eq!(opens(&mut pair, BOTH[0]), None);
    assert!(pair.a.counter("filter dropped out") > sent);
    assert_eq!(pair.a.counter("filter refused calls"), 0);
}
