//! IPv6 on the wire of [`crate::wire`]: neighbor discovery, echo, and errors for a missing protocol.

use crate::wire::{HOST_MAC, Mac, Wire};
use anyhow::{Result, bail};
use etherparse::{Icmpv6Slice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// The host's IPv6 address on the wire.
pub const HOST_IP6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 type of a neighbor solicitation (RFC 4861).
const SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbor advertisement (RFC 4861).
pub const ADVERTISEMENT: u8 = 136;
/// ICMPv6 type of a parameter problem (RFC 4443).
pub const PARAMETER_PROBLEM: u8 = 4;

/// The ICMPv6 message of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp6 {
    /// Source address.
    pub from: Ipv6Addr,
    /// Destination address.
    pub to: Ipv6Addr,
    pub kind: u8,
    pub code: u8,
    /// The four bytes after the checksum.
    pub word: u32,
    /// All bytes after `word`.
    pub rest: Vec<u8>,
}

/// Returns the ICMPv6 message of a frame.
pub fn icmp6(frame: &[u8]) -> Option<Icmp6> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let NetSlice::Ipv6(ip) = packet.net.as_ref()? else {
        return None;
    };
    let TransportSlice::Icmpv6(icmp) = packet.transport.as_ref()? else {
        return None;
    };
    let message: &Icmpv6Slice = icmp;
    Some(Icmp6 {
        from: ip.header().source_addr(),
        to: ip.header().destination_addr(),
        kind: message.type_u8(),
        code: message.code_u8(),
        word: u32::from_be_bytes(message.bytes5to8()),
        rest: message.payload().to_vec(),
    })
}

/// Returns an ICMPv6 frame from the host, with the hop limit that neighbor discovery requires.
pub fn message(mac: Mac, to: Ipv6Addr, kind: u8, word: u32, rest: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ipv6(HOST_IP6.octets(), to.octets(), 255);
    let builder = builder.icmpv6_raw(kind, 0, word.to_be_bytes());
    let mut frame = Vec::with_capacity(builder.size(rest.len()));
    builder.write(&mut frame, rest).expect("writing to memory");
    frame
}

/// Returns a router advertisement from the host to all nodes, with one prefix for autoconfiguration (RFC
/// 4861, 4.2 and 4.6.2).
pub fn router_advertisement(prefix: Ipv6Addr, len: u8) -> Vec<u8> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to = [0x33, 0x33, 0, 0, 0, 1];
    let builder = PacketBuilder::ethernet2(HOST_MAC, to).ipv6(router.octets(), all_nodes.octets(), 255);
    // Hop limit 64, lifetime 1800 s.
    let builder = builder.icmpv6_raw(134, 0, [64, 0, 7, 8]);
    let mut rest = vec![0; 8];
    // Flags on-link and autonomous, lifetimes of one hour.
    rest.extend([3, 4, len, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]);
    rest.extend(prefix.octets());
    let mut frame = Vec::with_capacity(builder.size(rest.len()));
    builder.write(&mut frame, &rest).expect("writing to memory");
    frame
}

/// Returns an ICMPv6 echo request.
pub fn echo_request6(mac: Mac, to: Ipv6Addr, seq: u16) -> Vec<u8> {
    message(mac, to, 128, 0x77 << 16 | u32::from(seq), &[0x5a; 48])
}

/// Returns a UDP datagram from the host's port 4000.
pub fn udp6(mac: Mac, to: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ipv6(HOST_IP6.octets(), to.octets(), 64);
    let builder = builder.udp(4000, port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).expect("writing to memory");
    frame
}

/// Returns a neighbor solicitation for `target`.
pub fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let mac = [0x33, 0x33, 0xff, a, b, c];
    let to = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let mut rest = target.octets().to_vec();
    rest.extend([1, 1]);
    rest.extend(HOST_MAC);
    message(mac, to, SOLICITATION, 0, &rest)
}

/// Returns the advertisement that answers a solicitation for the host.
pub fn advertisement_for(frame: &[u8]) -> Option<Vec<u8>> {
    let asked = icmp6(frame)?;
    if asked.kind != SOLICITATION || asked.rest.get(..16)? != HOST_IP6.octets() {
        return None;
    }
    let mut rest = HOST_IP6.octets().to_vec();
    rest.extend([2, 1]);
    rest.extend(HOST_MAC);
    // Flags solicited and override.
    Some(message(
        crate::wire::source(frame)?,
        asked.from,
        ADVERTISEMENT,
        0x6000_0000,
        &rest,
    ))
}

/// Returns the address and the MAC address of an unsolicited neighbor advertisement.
pub fn unsolicited(frame: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    let said = icmp6(frame)?;
    let target = <[u8; 16]>::try_from(said.rest.get(..16)?).ok()?;
    let solicited = said.word & 0x4000_0000 != 0;
    (said.kind == ADVERTISEMENT && !solicited && said.to.is_multicast())
        .then_some((target.into(), crate::wire::source(frame)?))
}

/// Resolves `ip` by neighbor discovery, for at most `limit`.
pub fn resolve6(wire: &mut Wire, ip: Ipv6Addr, limit: Duration) -> Result<Mac> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        wire.send(&solicitation(ip))?;
        let mac = wire.wait_for(Duration::from_millis(200), |frame| {
            let said = icmp6(frame)?;
            (said.kind == ADVERTISEMENT && said.rest.get(..16)? == ip.octets())
                .then(|| crate::wire::source(frame))?
        })?;
        if let Some(mac) = mac {
            return Ok(mac);
        }
    }
    bail!("no neighbor advertisement for {ip}")
}

/// Sends one echo request. Returns true if it was answered within `limit`.
pub fn ping6(wire: &mut Wire, mac: Mac, ip: Ipv6Addr, seq: u16, limit: Duration) -> Result<bool> {
    wire.send(&echo_request6(mac, ip, seq))?;
    let word = 0x77 << 16 | u32::from(seq);
    let answered = wire.wait_for(limit, |frame| {
        icmp6(frame).filter(|said| said.kind == 129 && said.word == word)
    })?;
    Ok(answered.is_some())
}
