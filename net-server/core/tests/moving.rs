//! Interfaces that come and go while the brane runs, over the driver's real switch.

mod common;
#[path = "common/host.rs"]
mod host;

use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::net::{Net, mac};
use common::*;
use host::*;
#[test]
fn an_interface_moves_while_traffic_flows() {
    let mut net = three();
    let (old, new) = (collect(&net, 0), collect(&net, 1));
    // A connection from brane 2 to the old owner, a socket and a listener on the address that moves.
    let stack = net.members[0].stack.clone();
    let server = net.spawn(0, async move {
        let listener = TcpListener::bind(&stack, at("10.0.2.1:80"), ListenOptions::default())
            .await
            .unwrap();
        let mut stream = listener.accept().await.unwrap();
        let error = stream.read(&mut [0; 100]).await.unwrap_err();
        (error, listener.accept().await.map(|_| ()).unwrap_err())
    });
    let stack = net.members[0].stack.clone();
    let bound = net.spawn(0, async move {
        let mut socket = UdpSocket::bind(&stack, at("10.0.2.1:70"), RingSizes::default())
            .await
            .unwrap();
        socket.recv_from(&mut [0; 10]).await.map(|_| ()).unwrap_err()
    });
    let stack = net.members[0].stack.clone();
    let own = net.spawn(0, async move {
        // Over lo0, but between addresses of the interface.
        let listener = TcpListener::bind(&stack, at("10.0.2.1:81"), ListenOptions::default())
            .await
            .unwrap();
        let mut stream = TcpStream::connect(&stack, at("10.0.2.1:81"), RingSizes::default())
            .await
            .unwrap();
        let _other = listener.accept().await.unwrap();
        stream.read(&mut [0; 10]).await.unwrap_err()
    });
    let stack = net.members[2].stack.clone();
    let remote = net.spawn(2, async move {
        TcpStream::connect(&stack, at("10.0.2.1:80"), RingSizes::default())
            .await
            .unwrap()
    });
    let _stream = net.until(&remote, SECOND);
    net.run(5 * MS);
    let mut number = 0;
    let mut send = |net: &mut Net, count: u32| {
        for _ in 0..count {
            number += 1;
            net.outside.coming.push_back(numbered(1, MOVING, number));
        }
        net.drive();
    };
    for _ in 0..20 {
        send(&mut net, 5);
        net.run(MS);
        answer_arp(&mut net);
    }
    assert_eq!(old.borrow().len(), 100);
    // In the old owner's ring when the interface goes: it has received them, and they are nobody's.
    send(&mut net, 7);
    net.switch.unbind(1).unwrap();
    send(&mut net, 5);
    net.detach(0, "net0").unwrap();
    send(&mut net, 5);
    net.bind(1, 1, 0);
    // Before its new owner knows of it: they wait in its ring, in front of nobody or behind the driver's word.
    send(&mut net, 5);
    net.outside.sent.clear();
    net.attach(1, &interface(1, &["10.0.2.1/24", "fec0::1/64"]))
        .unwrap();
    for _ in 0..20 {
        send(&mut net, 5);
        net.run(MS);
        answer_arp(&mut net);
    }
    let (old, new) = (old.borrow().clone(), new.borrow().clone());
    assert_eq!(&old[..100], (1..=100).collect::<Vec<u32>>());
    assert!(old.iter().all(|n| *n <= 107), "{old:?}");
    assert!(new.iter().all(|n| *n > 117), "{new:?}");
    assert_eq!(new[new.len() - 100..], (123..=222).collect::<Vec<u32>>());
    // Whoever used it has heard.
    let (conn, accept) = net.until(&server, MS);
    assert_eq!((conn, accept), (Error::ConnectionReset, Error::ConnectionReset));
    assert_eq!(net.until(&bound, MS), Error::ConnectionReset);
    assert_eq!(net.until(&own, MS), Error::ConnectionReset);
    assert!(net.members[0].brane.stack.tcp.conns.is_empty());
    // The new owner has said where it is, and answers.
    let announced = |bytes: &[u8]| {
        net.outside
            .sent
            .iter()
            .any(|f| f.windows(bytes.len()).any(|w| w == bytes))
    };
    let mut arp = mac(1).0.to_vec();
    arp.extend(MOVING.octets());
    assert!(announced(&arp), "no gratuitous ARP");
    assert!(
        announced(&[0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        "no unsolicited advertisement"
    );
    // The first one makes it ask where the host is.
    net.outside.coming.push_back(ping(1, MOVING, 99));
    net.run(MS);
    answer_arp(&mut net);
    net.outside.sent.clear();
    for seq in 0..10 {
        net.outside.coming.push_back(ping(1, MOVING, seq));
        net.run(MS);
        answer_arp(&mut net);
    }
    let replies = net
        .outside
        .sent
        .iter()
        .filter(|f| f.len() >= 42 && f[23] == 1 && f[34] == 0);
    assert_eq!(replies.count(), 10);
    // The connection's other end gets a reset from the new owner, which knows of no such connection.
    let stack = net.members[2].stack.clone();
    let again = net.spawn(2, async move {
        TcpStream::connect(&stack, at("10.0.2.1:80"), RingSizes::default())
            .await
            .map(|_| ())
    });
    assert_eq!(net.until(&again, 5 * SECOND), Err(Error::ConnectionRefused));
}

#[test]
fn frames_of_an_earlier_binding_reach_no_later_interface_of_the_port() {
    let mut net = three();
    let seen = collect(&net, 0);
    net.run(2 * MS);
    // They wait in brane 0's ring while the port gets another vif, and the brane another interface at the same address.
    for n in 1..=5 {
        net.outside.coming.push_back(numbered(1, MOVING, n));
    }
    net.drive();
    net.switch.unbind(1).unwrap();
    net.bind(2, 0, 0);
    net.drive();
    net.outside.coming.push_back(numbered(2, MOVING, 100));
    net.drive();
    let old = interface(1, &["10.0.2.1/24"]);
    let mut new = interface(2, &["10.0.2.1/24"]);
    new.name = "net7".into();
    // All in one turn: the orders are taken, then the frames.
    let member = &mut net.members[0];
    member.brane.detach(SECOND, &old.name).unwrap();
    member.brane.attach(SECOND, new.clone()).unwrap();
    net.run(5 * MS);
    assert_eq!(*seen.borrow(), [100]);
    // The same vif comes back to the same port: it is a new binding.
    for n in 200..205 {
        net.outside.coming.push_back(numbered(2, MOVING, n));
    }
    net.drive();
    net.switch.unbind(2).unwrap();
    net.bind(2, 0, 0);
    net.drive();
    let member = &mut net.members[0];
    member.brane.detach(SECOND, "net7").unwrap();
    member.brane.attach(SECOND, new).unwrap();
    net.run(5 * MS);
    assert_eq!(*seen.borrow(), [100]);
    net.outside.coming.push_back(numbered(2, MOVING, 300));
    net.run(5 * MS);
    assert_eq!(*seen.borrow(), [100, 300]);
}

#[test]
fn an_answer_that_the_driver_was_not_shown_does_not_leave_by_a_later_binding() {
    let mut net = three();
    for seq in 0..5 {
        net.outside.coming.push_back(ping(1, MOVING, seq));
        net.run(MS);
        answer_arp(&mut net);
    }
    assert_ne!(replies(&net), 0);
    net.outside.sent.clear();
    // The question and the end of the binding behind it are taken in one turn.
    net.outside.coming.push_back(ping(1, MOVING, 50));
    net.drive();
    net.switch.unbind(1).unwrap();
    net.run(5 * MS);
    net.bind(1, 0, 0);
    net.run(5 * MS);
    assert_eq!(replies(&net), 0);
    net.outside.coming.push_back(ping(1, MOVING, 51));
    net.run(MS);
    answer_arp(&mut net);
    net.outside.coming.push_back(ping(1, MOVING, 52));
    net.run(MS);
    assert_ne!(replies(&net), 0);
}
