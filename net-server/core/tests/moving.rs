//! Interfaces that come, go and change while the brane runs, over the driver's real switch.

mod common;

use brane_abi::control::{BraneConfig, Rename, command};
use brane_abi::layout::{ctl, ports};
use brane_socket::{Error, ListenOptions, RingSizes, TcpListener, TcpStream, UdpSocket};
use common::net::{Net, mac};
use common::*;
use core::net::{Ipv4Addr, SocketAddr};
use net_server_core::{Brane, Peer};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::cell::RefCell;
use std::rc::Rc;

/// The host outside.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 200);
const HOST_MAC: EthernetAddress = EthernetAddress([2, 0x99, 0, 0, 0, 1]);
const MOVING: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An IPv4 packet of the host to the station `to`.
fn packet(
    to: u8,
    dst: Ipv4Addr,
    next_header: IpProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: HOST,
        dst_addr: dst,
        next_header,
        payload_len: len,
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + 20 + len];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(HOST_MAC);
    ethernet.set_dst_addr(EthernetAddress(mac(to).0));
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut());
    frame
}

/// A datagram with a number to port 9.
fn numbered(to: u8, dst: Ipv4Addr, number: u32) -> Vec<u8> {
    packet(to, dst, IpProtocol::Udp, 12, |room| {
        let udp = UdpRepr {
            src_port: 1234,
            dst_port: 9,
        };
        let fill = |data: &mut [u8]| data.copy_from_slice(&number.to_be_bytes());
        let mut datagram = UdpPacket::new_unchecked(room);
        let (src, dst) = (HOST.into(), dst.into());
        udp.emit(
            &mut datagram,
            &src,
            &dst,
            4,
            fill,
            &ChecksumCapabilities::default(),
        );
    })
}

fn ping(to: u8, dst: Ipv4Addr, seq_no: u16) -> Vec<u8> {
    let echo = Icmpv4Repr::EchoRequest {
        ident: 7,
        seq_no,
        data: b"abcd",
    };
    packet(to, dst, IpProtocol::Icmp, echo.buffer_len(), |room| {
        echo.emit(
            &mut Icmpv4Packet::new_unchecked(room),
            &ChecksumCapabilities::default(),
        );
    })
}

/// The host answers ARP questions for its address.
fn answer_arp(net: &mut Net) {
    let questions: Vec<_> = net
        .outside
        .sent
        .iter()
        .filter(|f| f[12..14] == [8, 6])
        .cloned()
        .collect();
    for question in questions {
        if question[20..22] == [0, 1] && question[38..42] == HOST.octets() {
            let mut answer = question.clone();
            answer[..6].copy_from_slice(&question[6..12]);
            answer[6..12].copy_from_slice(&HOST_MAC.0);
            answer[21] = 2;
            answer[22..28].copy_from_slice(&HOST_MAC.0);
            answer[28..32].copy_from_slice(&HOST.octets());
            answer[32..38].copy_from_slice(&question[22..28]);
            answer[38..42].copy_from_slice(&question[28..32]);
            net.outside.coming.push_back(answer);
        }
    }
    net.outside
        .sent
        .retain(|f| f[12..14] != [8, 6] || f[38..42] != HOST.octets());
}

/// Numbers that a brane's client has got at port 9.
fn collect(net: &Net, n: usize) -> Rc<RefCell<Vec<u32>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let list = seen.clone();
    let stack = net.members[n].stack.clone();
    net.spawn(n, async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at("[::]:9"), RingSizes { rx: 65536, tx: 1024 })
            .await
            .unwrap();
        let mut buffer = [0; 100];
        loop {
            let (len, _, _) = socket.recv_from(&mut buffer).await.unwrap();
            list.borrow_mut()
                .push(u32::from_be_bytes(buffer[..len].try_into().unwrap()));
        }
    });
    seen
}

/// Three branes: 0 has vif 1 at 10.0.2.1, 1 nothing yet, 2 has vif 3 at 10.0.2.3.
fn three() -> Net {
    let mut net = Net::new();
    net.run(MS);
    for vif in [1, 2, 3] {
        net.add_vif(vif);
    }
    net.bind(1, 0, 0);
    net.bind(3, 2, 0);
    net.attach(0, &interface(1, &["10.0.2.1/24", "fec0::1/64"]))
        .unwrap();
    net.attach(2, &interface(3, &["10.0.2.3/24", "fec0::3/64"]))
        .unwrap();
    net.run(20 * MS);
    net
}

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
    assert!(net.members[0].brane.stack.conns.is_empty());
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

/// Echo replies that have left.
fn replies(net: &Net) -> usize {
    let sent = net.outside.sent.iter();
    sent.filter(|f| f.len() >= 42 && f[23] == 1 && f[34] == 0).count()
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

#[test]
fn attach_and_bind_come_in_any_order_and_slots_are_not_confused() {
    let mut net = Net::new();
    net.run(MS);
    net.add_vif(1);
    net.add_vif(2);
    let first = interface(1, &["10.0.2.1/24"]);
    let mut second = interface(2, &["10.0.3.1/24"]);
    (second.name, second.port) = ("net1".into(), 1);
    for round in 0..6 {
        // The orders before the driver, after it, and between.
        if round % 3 == 0 {
            net.bind(1, 0, 0);
            net.run(MS);
        }
        net.attach(0, &first).unwrap();
        net.attach(0, &second).unwrap();
        if round % 3 != 0 {
            net.bind(1, 0, 0);
        }
        net.bind(2, 0, 1);
        net.run(5 * MS);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces.len(), 3);
        for (name, end) in [("net0", 1), ("net1", 2)] {
            let one = status.interfaces.iter().find(|i| i.name == name).unwrap();
            assert!(one.up && one.mac == mac(end), "{one:?}");
        }
        // The first goes: what goes through the second is not touched.
        net.switch.unbind(1).unwrap();
        net.detach(0, "net0").unwrap();
        assert_eq!(net.detach(0, "net0"), Err("no interface net0".into()));
        net.outside
            .coming
            .push_back(ping(2, Ipv4Addr::new(10, 0, 3, 1), round));
        net.run(2 * MS);
        net.switch.unbind(2).unwrap();
        net.detach(0, "net1").unwrap();
        net.run(MS);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces.len(), 1);
        assert!(net.members[0].stack.identity().addresses.is_empty());
    }
    assert_eq!(
        net.detach(0, "lo0"),
        Err("lo0 stays as it is: every brane has its own".into())
    );
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason_and_changes_nothing() {
    let mut net = three();
    let good = interface(9, &["10.0.9.1/24"]);
    let with = |change: &dyn Fn(&mut brane_abi::control::InterfaceConfig)| {
        let mut config = good.clone();
        (config.name, config.port) = ("net9".into(), 1);
        change(&mut config);
        config
    };
    let before = net.members[0].brane.status().interfaces;
    for (config, why) in [
        (
            with(&|c| c.name = "net0".into()),
            "name taken: there is an interface net0",
        ),
        (
            with(&|c| c.name = "lo0".into()),
            "name taken: there is an interface lo0",
        ),
        (
            with(&|c| c.name = "x".repeat(34)),
            "name too long: 34 bytes, 31 allowed",
        ),
        (
            with(&|c| c.device = "vnic1".into()),
            "net9: vnic1 is net0's device",
        ),
        (with(&|c| c.port = 0), "net9: port 0 carries another interface"),
        (with(&|c| c.port = 2), "net9: there is no port 2"),
        (
            with(&|c| c.addresses = vec![cidr("224.0.0.1/4")]),
            "net9: 224.0.0.1/4 cannot be an interface's address",
        ),
    ] {
        assert_eq!(net.attach(0, &config), Err(why.into()));
    }
    assert_eq!(net.members[0].brane.status().interfaces, before);
    net.attach(0, &with(&|_| ())).unwrap();
}

#[test]
fn names_change_and_refusals_say_why() {
    let mut net = three();
    let rename = |net: &mut Net, interface: Option<&str>, to: &str| {
        let rename = Rename {
            interface: interface.map(Into::into),
            to: to.into(),
        };
        net.order(0, command::RENAME, &minicbor::to_vec(&rename).unwrap())
    };
    let long = "x".repeat(34);
    for (interface, to, why) in [
        (Some("net0"), &long[..], "name too long: 34 bytes, 31 allowed"),
        (None, &long[..], "name too long: 34 bytes, 31 allowed"),
        (Some("net0"), "", "name too short: 1 byte at least"),
        (Some("net0"), "lo0", "name taken: there is an interface lo0"),
        (Some("lo0"), "lo1", "lo0 stays as it is: every brane has its own"),
        (Some("net3"), "net4", "no interface net3"),
    ] {
        assert_eq!(rename(&mut net, interface, to), Err(why.into()));
    }
    rename(&mut net, Some("net0"), &"y".repeat(31)).unwrap();
    rename(&mut net, Some(&"y".repeat(31)), "wan").unwrap();
    rename(&mut net, None, "gate").unwrap();
    net.run(2 * MS);
    assert_eq!(net.members[0].stack.identity().name, "gate");
    assert_eq!(net.members[0].brane.status().interfaces[1].name, "wan");
    net.outside.coming.push_back(numbered(1, MOVING, 1));
    net.detach(0, "wan").unwrap();
}

#[test]
fn addresses_change_in_place_and_what_keeps_its_address_goes_on() {
    let mut net = three();
    let two = interface(1, &["10.0.2.1/24", "10.0.2.11/24"]);
    net.adjust(0, &two).unwrap();
    let stack = net.members[0].stack.clone();
    net.spawn(0, async move {
        let listener = TcpListener::bind(&stack, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        let mut one = listener.accept().await.unwrap();
        let mut other = listener.accept().await.unwrap();
        let _ = one.echo().await;
        let _ = one.echo().await;
        let _ = other.echo().await;
    });
    let connect = |net: &mut Net, to: &'static str| {
        let stack = net.members[2].stack.clone();
        let task = net.spawn(2, async move {
            TcpStream::connect(&stack, at(to), RingSizes::default())
                .await
                .unwrap()
        });
        net.until(&task, SECOND)
    };
    let mut stays = connect(&mut net, "10.0.2.1:80");
    let _goes = connect(&mut net, "10.0.2.11:80");
    net.run(5 * MS);
    net.outside.sent.clear();
    let mut next = interface(1, &["10.0.2.1/24", "10.0.2.12/24", "fec0::5/64"]);
    next.gateway4 = Some(Ipv4Addr::new(10, 0, 2, 254));
    net.adjust(0, &next).unwrap();
    net.run(5 * MS);
    let status = net.members[0].brane.status();
    let addresses: Vec<_> = status.interfaces[1]
        .addresses
        .iter()
        .map(|a| a.cidr.to_string())
        .collect();
    assert_eq!(addresses[1..], ["10.0.2.1/24", "10.0.2.12/24", "fec0::5/64"]);
    assert_eq!(status.interfaces[1].gateway4, next.gateway4);
    let announced = |bytes: &[u8]| {
        net.outside
            .sent
            .iter()
            .any(|f| f.windows(bytes.len()).any(|w| w == bytes))
    };
    assert!(
        announced(&[10, 0, 2, 12, 0, 0, 0, 0, 0, 0, 10, 0, 2, 12]),
        "the new address was not announced"
    );
    assert_eq!(net.members[0].brane.stack.conns.len(), 1, "one of the two stays");
    let task = net.spawn(2, async move {
        stays.write_all(b"still").await.unwrap();
        let mut out = [0; 5];
        let n = stays.read(&mut out).await.unwrap();
        (n, out)
    });
    assert_eq!(net.until(&task, SECOND), (5, *b"still"));
    // SLAAC on and off again, DHCP on and off again: the fixed addresses stay.
    for (dhcp4, slaac) in [(true, true), (false, false)] {
        (next.dhcp4, next.slaac) = (dhcp4, slaac);
        net.outside.sent.clear();
        net.adjust(0, &next).unwrap();
        net.run(3 * SECOND);
        let asked = |port: [u8; 2]| {
            net.outside
                .sent
                .iter()
                .any(|f| f.len() > 42 && f[23] == 17 && f[36..38] == port)
        };
        assert_eq!(asked([0, 67]), dhcp4);
        let solicited = |f: &Vec<u8>| f[12..14] == [0x86, 0xdd] && f[54] == 133;
        assert_eq!(net.outside.sent.iter().any(solicited), slaac);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces[1].addresses.len(), 4);
    }
    let mut other = next.clone();
    other.port = 1;
    assert_eq!(
        net.adjust(0, &other),
        Err("net0: device, port and MAC address stay; detach the interface and attach it anew".into())
    );
}

#[test]
fn ports_of_a_second_nic_follow_those_of_the_first() {
    let regions = [memory(ports::SIZE), memory(ports::SIZE)];
    let mut brane = Brane::start([3; 32], SECOND, &regions, memory(ctl::SIZE), &[]).unwrap();
    let driver = |nic: usize| Driver::start(regions[nic], vec![port_info(mac(nic as u8 + 1), 0)]);
    let mut drivers = [driver(0), driver(1)];
    let mut second = interface(2, &["10.0.3.1/24"]);
    (second.name, second.port) = ("net1".into(), 2);
    let config = BraneConfig {
        name: "two".into(),
        interfaces: vec![interface(1, &["10.0.2.1/24"])],
        ..BraneConfig::default()
    };
    brane.configure(SECOND, config).unwrap();
    brane.attach(SECOND, second.clone()).unwrap();
    (second.name, second.device, second.port) = ("net2".into(), "vnic9".into(), 4);
    assert_eq!(
        brane.attach(SECOND, second),
        Err("net2: there is no port 4".into())
    );
    let mut now = SECOND;
    let mut run = |brane: &mut Brane, drivers: &mut [Driver; 2]| {
        let (mut notified, mut sent) = (Vec::new(), [0, 0]);
        for _ in 0..10 {
            brane.turn(now, |peer| notified.push(peer));
            assert!(brane.arm() || brane.turn(now, |_| {}).deadline != 0);
            for (driver, sent) in drivers.iter_mut().zip(&mut sent) {
                // The driver's end checks the source address of each.
                *sent += driver.sent(0).len();
            }
            now += SECOND / 2;
        }
        let up: Vec<_> = brane.status().interfaces.iter().map(|i| i.up).collect();
        (up, sent, notified)
    };
    let (up, sent, notified) = run(&mut brane, &mut drivers);
    assert_eq!(up, [true; 3]);
    assert!(sent[0] > 0 && sent[1] > 0, "both announce: {sent:?}");
    for nic in 0..2 {
        assert!(notified.contains(&Peer::Driver(nic)));
    }
    // The second NIC's driver restarts: the first's interface does not notice.
    drivers[1] = driver(1);
    brane.turn(100 * SECOND, |_| {});
    let up: Vec<_> = brane.status().interfaces.iter().map(|i| i.up).collect();
    assert_eq!(up, [true, true, false]);
    let (up, sent, _) = run(&mut brane, &mut drivers);
    assert_eq!(up, [true; 3]);
    assert!(sent[0] == 0 && sent[1] > 0, "{sent:?}");
}
