//! Packets for the evaluation of filters: the first packet of the traffic, and the answer to it. Checksums are 0, because a filter
//! sees packets after their check.

use super::Traffic;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// The sender's port, from the range of ephemeral ports (RFC 6335, 6).
pub(super) const PORT: u16 = 49152;
/// Identifier of the echo request.
const IDENT: u16 = 1;
/// Bytes of data of the echo request, as `ping` sends.
const DATA: usize = 56;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Builds the first packet. Returns `None` if the addresses are of different families.
pub(super) fn request(traffic: Traffic, source: IpAddr, destination: IpAddr) -> Option<Vec<u8>> {
    let six = source.is_ipv6();
    let (protocol, payload) = match traffic {
        Traffic::Icmp => echo(six, false),
        Traffic::Tcp(port) => (TCP, tcp((PORT, port), (1000, 0), SYN)),
        Traffic::Udp(port) => (UDP, udp(PORT, port)),
    };
    ip(protocol, source, destination, &payload)
}

/// Builds the answer to the first packet with these addresses.
pub(super) fn reply(traffic: Traffic, source: IpAddr, destination: IpAddr) -> Option<Vec<u8>> {
    let six = source.is_ipv6();
    let (protocol, payload) = match traffic {
        Traffic::Icmp => echo(six, true),
        Traffic::Tcp(port) => (TCP, tcp((port, PORT), (2000, 1001), SYN | ACK)),
        Traffic::Udp(port) => (UDP, udp(port, PORT)),
    };
    ip(protocol, destination, source, &payload)
}

fn ip(protocol: u8, source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = payload.len() as u16;
    let mut out = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend([0x45, 0]);
            out.extend((20 + length).to_be_bytes());
            out.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend(length.to_be_bytes());
            out.extend([protocol, 64]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        _ => return None,
    }
    out.extend(payload);
    Some(out)
}

/// Builds an echo request or its reply (RFC 792, RFC 4443).
fn echo(six: bool, reply: bool) -> (u8, Vec<u8>) {
    let kind = match (six, reply) {
        (false, false) => 8,
        (false, true) => 0,
        (true, false) => 128,
        (true, true) => 129,
    };
    let mut out = vec![0; 8 + DATA];
    out[0] = kind;
    out[4..6].copy_from_slice(&IDENT.to_be_bytes());
    (if six { ICMP6 } else { ICMP }, out)
}

/// Builds a segment without data (RFC 9293, 3.1). `numbers` are those of the sequence and of the acknowledgement.
fn tcp(ports: (u16, u16), numbers: (u32, u32), flags: u8) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(numbers.0.to_be_bytes());
    out.extend(numbers.1.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out
}

/// Builds a datagram without data.
fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(source.to_be_bytes());
    out.extend(destination.to_be_bytes());
    out.extend([0, 8, 0, 0]);
    out
}
