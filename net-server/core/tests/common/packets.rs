//! Whole frames of a peer to the brane of a test, with right checksums. Included by the tests that want them.
#![allow(dead_code)]

use crate::common::*;
use brane_abi::port::FrameMeta;
use core::net::IpAddr;
use net_server_core::ip::checksum;

pub const OWN_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A brane at 10.0.2.1 and fec0::1 with echo servers at port 7, for which its peer's address is known.
pub fn echo_host() -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    host.settle();
    echo::serve(&mut host, 8);
    let mut arp = [
        &[0xff; 6][..],
        &PEER_MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &PEER_MAC,
    ]
    .concat();
    arp.extend([10, 0, 2, 9, 0, 0, 0, 0, 0, 0, 10, 0, 2, 1]);
    answers(&mut host, arp, 0);
    let mut question = vec![135, 0, 0, 0, 0, 0, 0, 0];
    question.extend("fec0::1".parse::<core::net::Ipv6Addr>().unwrap().octets());
    question.extend([1, 1]);
    question.extend(PEER_MAC);
    let mut frame = packet("fec0::9", "fec0::1", 58, &question);
    frame[14 + 7] = 255;
    assert_eq!(answers(&mut host, frame, 0).len(), 1);
    host
}

/// What the brane sends when this frame comes.
pub fn answers(host: &mut Host, frame: Vec<u8>, flags: u8) -> Vec<Vec<u8>> {
    let meta = FrameMeta {
        flags,
        ..FrameMeta::default()
    };
    host.driver.give(0, &(frame, meta));
    host.settle();
    host.driver.sent(0).into_iter().map(|(frame, _)| frame).collect()
}

/// A packet to the brane's station; the checksum of UDP, TCP, ICMP or ICMPv6 is filled in.
pub fn packet(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let payload = summed(src, dst, protocol, payload);
    plain(src, dst, protocol, &payload)
}

/// The same without a checksum of its own.
pub fn plain(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [OWN_MAC, PEER_MAC].concat();
    match (ip(src), ip(dst)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + payload.len() as u16).to_be_bytes());
            header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            header.extend(src.octets());
            header.extend(dst.octets());
            let sum = !checksum::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => panic!("mixed families"),
    }
    frame.extend(payload);
    frame
}

/// A transport header and what it carries, with its checksum.
pub fn summed(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let (at, pseudo) = match protocol {
        6 => (16, true),
        17 => (6, true),
        58 => (2, true),
        1 | 2 => (2, false),
        _ => return payload,
    };
    payload[at..at + 2].fill(0);
    let pseudo = match pseudo {
        true => checksum::pseudo_header(ip(src).into(), ip(dst).into(), protocol, payload.len()).unwrap(),
        false => 0,
    };
    let sum = !checksum::add(pseudo, checksum::sum(&payload));
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    payload
}

/// A UDP header and data, without checksum.
pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let len = 8 + data.len() as u16;
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    bytes.extend(data);
    bytes
}

/// A SYN, without checksum.
pub fn syn(from: u16, to: u16) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0]);
    bytes
}

/// An echo request of ICMP (8) or ICMPv6 (128), without checksum.
pub fn echo(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]
}
