//! A host outside that sends to the branes of the moving tests, and three branes over the driver's switch.
//! Included by the tests that want it, as it needs more crates than the other parts.
#![allow(dead_code)]

use crate::common::net::{Net, mac};
use crate::common::*;
use brane_socket::{RingSizes, UdpSocket};
use core::net::{Ipv4Addr, SocketAddr};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::cell::RefCell;
use std::rc::Rc;

/// The host outside.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 200);
pub const HOST_MAC: EthernetAddress = EthernetAddress([2, 0x99, 0, 0, 0, 1]);
pub const MOVING: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An IPv4 packet of the host to the station `to`.
pub fn packet(
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
pub fn numbered(to: u8, dst: Ipv4Addr, number: u32) -> Vec<u8> {
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

pub fn ping(to: u8, dst: Ipv4Addr, seq_no: u16) -> Vec<u8> {
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
pub fn answer_arp(net: &mut Net) {
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
pub fn collect(net: &Net, n: usize) -> Rc<RefCell<Vec<u32>>> {
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
pub fn three() -> Net {
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
/// Echo replies that have left.
pub fn replies(net: &Net) -> usize {
    let sent = net.outside.sent.iter();
    sent.filter(|f| f.len() >= 42 && f[23] == 1 && f[34] == 0).count()
}
