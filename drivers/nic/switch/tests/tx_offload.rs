//! Offload: the device may write the checksum of a frame's own TCP or UDP header, and no other byte.
//!
//! A device that completes a checksum writes into the frame after all checks. Each test here imitates the device and
//! inspects the frame as it leaves.

mod common;

use brane_abi::net::{Cidr, MacAddr};
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, GSO_TCPV6};
use brane_abi::vif::{AddVif, MODE_BRIDGE, Prefix, VifLimits};
use common::{BRANES, Bench, HOST, mac, offloaded, outgoing};
use etherparse::{
    LaxPacketHeaders, LaxPayloadSlice, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader,
};
use nic_switch::Link;
use proptest::prelude::*;
use test_pds_core::offload::{Addresses, Rewrite, rewrites};

const LINK: Link = Link {
    features: 7,
    mtu: 1500,
    up: true,
};
/// An IPv4 address that the limited vifs may have, and one that they may not have.
const OWN: [u8; 4] = [10, 0, 2, 17];
const FOREIGN: [u8; 4] = [10, 0, 2, 66];
const OWN6: [u8; 16] = [0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x17];
const VLAN: u16 = 7;

fn csum(start: usize, offset: usize) -> FrameMeta {
    FrameMeta {
        flags: FLAG_NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: offset as u16,
        ..FrameMeta::default()
    }
}

/// Returns the frame as it leaves a device that completes its checksum (virtio 1.2, 5.1.6.2).
fn completed(meta: FrameMeta, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if meta.flags & FLAG_NEEDS_CSUM != 0 {
        let start = usize::from(meta.csum_start);
        let mut sum: u32 = frame[start..]
            .chunks(2)
            .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let at = start + usize::from(meta.csum_offset);
        frame[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    frame
}

/// Changes the last word so that a device that obeys `meta` stores `value`.
fn steer(frame: &mut [u8], meta: FrameMeta, value: u16) {
    let end = frame.len() - 2;
    frame[end..].copy_from_slice(&[0, 0]);
    let at = usize::from(meta.csum_start) + usize::from(meta.csum_offset);
    let stored = completed(meta, frame);
    let sum = u32::from(!u16::from_be_bytes([stored[at], stored[at + 1]]));
    let last = (u32::from(!value) + 0xffff - sum % 0xffff) % 0xffff;
    frame[end..].copy_from_slice(&(last as u16).to_be_bytes());
}

fn allow_own(bench: &mut Bench, vif: u32) {
    let own = |ip: &str, prefix| {
        Prefix::from(Cidr {
            ip: ip.parse().unwrap(),
            prefix,
        })
    };
    let mut limits = VifLimits {
        vif,
        allowed: 2,
        ..VifLimits::default()
    };
    limits.allow[0] = own("10.0.2.17", 32);
    limits.allow[1] = own("fec0::17", 128);
    bench.switch.limit(limits).unwrap();
}

/// Creates vif 0 at port 0 of brane 0, on the wire; vif 10 at port 1, paired with vif 11 at port 1 of brane 1; and vif
/// 12 at port 1 of brane 2, in a VLAN. All except vif 11 have a list of allowed addresses.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let add = |vif: u32, vlan, peer| AddVif {
        vif,
        mode: MODE_BRIDGE,
        mac: mac(vif as usize),
        vlan,
        peer,
    };
    bench.add(add(10, 0, 12), 0, 1);
    bench.add(add(11, 0, 11), 1, 1);
    bench.add(add(12, VLAN, 0), 2, 1);
    for vif in [0, 10, 12] {
        allow_own(&mut bench, vif);
    }
    for brane in &mut bench.branes {
        for p in [0, 1] {
            brane.frames(p);
        }
    }
    bench
}

/// Returns all frames that have left since the last call, as a receiver gets them: on the wire, and at every port.
fn left(bench: &mut Bench) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = bench.device.sent.drain(..).collect();
    for brane in &mut bench.branes {
        for p in [0, 1] {
            all.extend(brane.frames(p));
        }
    }
    all.into_iter()
        .map(|(meta, frame)| completed(meta, &frame))
        .collect()
}

/// Senders: brane, port and vif.
const SENDERS: [(usize, usize, usize); 3] = [(0, 0, 0), (0, 1, 10), (2, 1, 12)];

/// Returns frames that are allowed as they are, but ask the device to write into other fields.
fn attacks(mac: MacAddr, to: MacAddr) -> [Rewrite; 3] {
    rewrites(Addresses {
        mac,
        to,
        ip: OWN,
        ip6: OWN6,
        claimed: FOREIGN,
    })
}

#[test]
fn an_offload_request_cannot_rewrite_a_checked_address() {
    for (b, p, vif) in SENDERS {
        for to in [HOST, MacAddr::BROADCAST, mac(11)] {
            let mut bench = bench();
            for Rewrite {
                frame,
                meta,
                at,
                value,
            } in attacks(mac(vif), to)
            {
                assert_eq!(completed(meta, &frame)[at..at + 2], value, "this attack is none");
                let before = bench.switch.vif_counters(vif as u32).unwrap();
                assert!(bench.branes[b].send(p, &frame, meta));
                bench.run();
                assert_eq!(left(&mut bench), Vec::<Vec<u8>>::new(), "byte {at} by vif {vif}");
                let c = bench.switch.vif_counters(vif as u32).unwrap();
                assert_eq!(c.tx_malformed, before.tx_malformed + 1, "byte {at}");
                assert!(bench.branes[b].send(p, &frame, FrameMeta::default()));
                bench.run();
                let honest = bench.switch.vif_counters(vif as u32).unwrap();
                let gone = (honest.tx_frames + honest.tx_dropped) - (c.tx_frames + c.tx_dropped);
                assert_eq!(gone, 1, "without the request the frame is an honest one");
                left(&mut bench);
            }
        }
    }
}

/// Returns a whole packet with this header in the middle, and a matching request.
fn packet(v6: bool, tcp: bool, options: bool) -> (Vec<u8>, FrameMeta) {
    let builder = PacketBuilder::ethernet2(mac(0).0, HOST.0);
    let builder = match (v6, options) {
        (true, _) => builder.ipv6(OWN6, OWN6, 64),
        (false, true) => {
            let mut header = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber(0), OWN, OWN).unwrap();
            header.options = [1; 8].into();
            builder.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        (false, false) => builder.ipv4(OWN, OWN, 64),
    };
    let mut frame = Vec::new();
    match tcp {
        true => builder.tcp(1, 2, 3, 4).write(&mut frame, &[5; 40]).unwrap(),
        false => builder.udp(1, 2).write(&mut frame, &[5; 40]).unwrap(),
    }
    let start = 14 + if v6 { 40 } else { 20 } + if options { 8 } else { 0 };
    (frame, csum(start, if tcp { 16 } else { 6 }))
}

#[test]
fn a_checksum_request_names_the_frames_own_transport_header() {
    for (v6, tcp, options) in [
        (false, false, false),
        (false, true, false),
        (false, false, true),
        (false, true, true),
        (true, false, false),
        (true, true, false),
    ] {
        let (good, meta) = packet(v6, tcp, options);
        assert_eq!(outgoing(&good, meta, &LINK), Some(meta));
        // Fields that only segments have are cleared.
        let rubbish = FrameMeta {
            gso_size: 7,
            header_len: 9,
            ..meta
        };
        assert_eq!(outgoing(&good, rubbish, &LINK), Some(meta));
        for start in 0..=good.len() + 2 {
            for offset in 0..=good.len() {
                let asked = csum(start, offset);
                let passed = outgoing(&good, asked, &LINK).is_some();
                assert_eq!(passed, asked == meta, "csum_start {start}, csum_offset {offset}");
            }
        }
        let bad_byte = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            outgoing(&frame, meta, &LINK)
        };
        assert_eq!(bad_byte(12, 9), None, "EtherType");
        assert_eq!(bad_byte(13, 6), None, "EtherType");
        assert_eq!(bad_byte(14, if v6 { 0x40 } else { 0x65 }), None, "version");
        let next = if v6 { 20 } else { 23 };
        for protocol in 0..=u8::MAX {
            let fits = protocol == if tcp { 6 } else { 17 };
            assert_eq!(bad_byte(next, protocol).is_some(), fits, "protocol {protocol}");
        }
        let length = if v6 { 19 } else { 17 };
        assert_eq!(bad_byte(length, good[length] + 1), None, "longer than the frame");
        assert_eq!(bad_byte(length, good[length] - 1), None, "shorter than the frame");
        if !v6 {
            for (byte, fits) in [(0x40, true), (0x80, true), (0x20, false), (0x01, false)] {
                assert_eq!(bad_byte(20, byte).is_some(), fits, "fragment {byte:#x}");
            }
            assert_eq!(bad_byte(21, 1), None, "a later fragment");
            for words in 0..16 {
                let fits = words == if options { 7 } else { 5 };
                assert_eq!(
                    bad_byte(14, 0x40 | words).is_some(),
                    fits,
                    "header of {words} words"
                );
            }
        }
        // A truncated transport header.
        let start = usize::from(meta.csum_start);
        let header = if tcp { 20 } else { 8 };
        for len in 0..good.len() {
            let mut short = good[..len].to_vec();
            if let Some(field) = short.get_mut(length - 1..length + 1) {
                let bytes = len.saturating_sub(if v6 { 54 } else { 14 }) as u16;
                field.copy_from_slice(&bytes.to_be_bytes());
            }
            let passed = outgoing(&short, meta, &LINK).is_some();
            assert_eq!(passed, len >= start + header, "{len} bytes");
        }
        let without = Link { features: 6, ..LINK };
        assert_eq!(outgoing(&good, meta, &without), None, "not offered");
    }
}

#[test]
fn a_segmentation_request_is_for_tcp_of_that_version() {
    for v6 in [false, true] {
        let request = |(frame, meta): (Vec<u8>, FrameMeta), gso_type| {
            let meta = FrameMeta {
                gso_type,
                gso_size: 64,
                header_len: meta.csum_start + 20,
                ..meta
            };
            outgoing(&frame, meta, &LINK).is_some()
        };
        for tcp in [false, true] {
            for gso_type in [GSO_TCPV4, GSO_TCPV6] {
                let fits = tcp && (gso_type == GSO_TCPV6) == v6;
                assert_eq!(request(packet(v6, tcp, false), gso_type), fits);
            }
        }
    }
}

#[test]
fn a_frame_of_our_own_stacks_passes_in_a_vlan() {
    let mut bench = bench();
    let (mut frame, meta) = offloaded(HOST, mac(12), 200, 17, 0);
    frame[26..30].copy_from_slice(&OWN);
    bench.branes[2].send(1, &frame, meta);
    bench.run();
    let [(meta, sent)] = &bench.device.sent[..] else {
        panic!("one frame leaves");
    };
    assert_eq!((meta.csum_start, meta.csum_offset), (38, 6));
    let changed: Vec<_> = (0..sent.len())
        .filter(|at| completed(*meta, sent)[*at] != sent[*at])
        .collect();
    assert!(changed.iter().all(|at| [44, 45].contains(at)), "{changed:?}");
}

/// Fails unless a vif with [`OWN`] and [`OWN6`] may send the frame that has left.
fn judge(frame: &[u8]) -> Result<(), TestCaseError> {
    let found = LaxPacketHeaders::from_ethernet(frame);
    let found = found.map_err(|e| TestCaseError::fail(format!("{e}: {frame:02x?}")))?;
    match found.net {
        Some(NetHeaders::Ipv4(ip, _)) => prop_assert_eq!(ip.source, OWN),
        Some(NetHeaders::Ipv6(ip, _)) => prop_assert_eq!(ip.source, OWN6),
        Some(NetHeaders::Arp(arp)) => prop_assert_eq!(arp.sender_protocol_addr(), &OWN[..]),
        None => {
            let empty = matches!(
                found.payload,
                LaxPayloadSlice::Ether(_) | LaxPayloadSlice::LinuxSll(_)
            );
            prop_assert!(!empty, "no IP, no ARP: {:02x?}", frame);
        }
    }
    if let Some(TransportHeader::Icmpv6(icmp)) = found.transport {
        prop_assert!(icmp.icmp_type.type_u8() != 134 && icmp.icmp_type.type_u8() != 137);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Checks that the device changes only the checksum of a TCP or UDP header, whatever a frame asks for.
    #[test]
    fn the_device_writes_into_no_other_field(
        v6: bool, tcp: bool, options: bool, changes in proptest::collection::vec((12usize..60, any::<u8>()), 0..3),
        start in prop_oneof![Just(34u16), Just(42), Just(54), 0u16..100],
        offset in prop_oneof![Just(2u16), Just(6), Just(16), 0u16..60],
        gso_type in prop_oneof![Just(GSO_NONE), Just(GSO_TCPV4), Just(GSO_TCPV6)], gso_size in 0u16..200,
    ) {
        let (mut frame, _) = packet(v6, tcp, options && !v6);
        for (at, value) in changes {
            frame[at] = value;
        }
        let meta = FrameMeta { gso_type, gso_size, header_len: start + 20, ..csum(start.into(), offset.into()) };
        let Some(meta) = outgoing(&frame, meta, &LINK) else {
            return Ok(());
        };
        let found = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let start = frame.len() - found.payload.slice().len() - found.transport.as_ref().unwrap().header_len();
        let field = match found.transport {
            Some(TransportHeader::Tcp(_)) => 16,
            Some(TransportHeader::Udp(_)) => 6,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!((usize::from(meta.csum_start), meta.csum_offset), (start, field));
    }

    /// Checks that frames of a vif with a list comply with the list after the device's work: on the wire, in a VLAN and
    /// in a pair.
    #[test]
    fn what_leaves_after_the_device_is_what_was_checked(
        sender in 0usize..3, which in 0usize..5, to in prop_oneof![Just(HOST), Just(MacAddr::BROADCAST), Just(mac(11))],
        value: u16, start in prop_oneof![Just(14usize), Just(34), Just(54), 0usize..64], offset in 0usize..40,
        plain: bool,
    ) {
        let (b, p, vif) = SENDERS[sender];
        let mut bench = bench();
        let mut frame = match which {
            0..3 => attacks(mac(vif), to)[which].frame.to_vec(),
            _ => packet(which == 3, value & 1 == 0, false).0,
        };
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&mac(vif).0);
        let meta = if plain { FrameMeta::default() } else { csum(start, offset) };
        if start + offset + 2 <= frame.len() && (frame.len() - start).is_multiple_of(2) && !plain {
            steer(&mut frame, meta, value);
        }
        bench.branes[b].send(p, &frame, meta);
        bench.run();
        for frame in left(&mut bench) {
            judge(&frame)?;
        }
    }
}

#[test]
fn frames_for_the_link_itself_are_refused_at_every_vif() {
    let groups = (0..16).map(|last| MacAddr([0x01, 0x80, 0xc2, 0, 0, last]));
    let mut refused: Vec<(MacAddr, u16)> = groups.map(|to| (to, 0x88cc)).collect();
    // Pause by MAC control, and LLC with the length of a BPDU: to its own group, to another group, and to a station.
    for to in [
        HOST,
        MacAddr::BROADCAST,
        MacAddr([0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd]),
    ] {
        refused.extend([(to, 0x8808), (to, 38), (to, 0), (to, 0x05ff)]);
    }
    let passes = [
        (MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x10]), 0x0800),
        (MacAddr([0x01, 0x80, 0xc2, 0, 1, 0]), 0x0800),
        (MacAddr([0x01, 0x81, 0xc2, 0, 0, 0]), 0x0800),
        (HOST, 0x0600),
        (HOST, 0x8809),
        (HOST, 0x0888),
    ];
    for (b, p, vif) in SENDERS {
        let mut bench = bench();
        bench
            .switch
            .limit(VifLimits {
                vif: vif as u32,
                ..VifLimits::default()
            })
            .unwrap();
        let mut send = |(to, kind): (MacAddr, u16)| {
            let mut frame = common::frame(to, mac(vif), 60, 0x42);
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            assert!(bench.branes[b].send(p, &frame, FrameMeta::default()));
            bench.run();
            (
                left(&mut bench).len(),
                bench.switch.vif_counters(vif as u32).unwrap().tx_link_control,
            )
        };
        for (n, frame) in refused.iter().enumerate() {
            assert_eq!(send(*frame), (0, n as u64 + 1), "{frame:x?} by vif {vif}");
        }
        let before = refused.len() as u64;
        for frame in passes {
            let (_, count) = send(frame);
            assert_eq!(count, before, "{frame:x?} by vif {vif}");
        }
    }
    assert_eq!(BRANES, 4);
}
