//! Branes that lie: whatever a brane writes into its region, the driver continues and the other branes lose no frames.

mod common;

use brane_abi::layout::ports;
use brane_abi::port::{
    FLAG_DATA_VALID, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, GSO_TCPV6, MAX_FRAME,
};
use brane_abi::ring::RingIndices;
use common::{BRANES, Bench, BraneSide, frame, mac, outgoing};
use nic_switch::Link;
use proptest::prelude::*;

const HOST: brane_abi::net::MacAddr = brane_abi::net::MacAddr([2, 9, 9, 9, 9, 9]);
const LINK: Link = Link {
    features: 7,
    mtu: 1500,
    up: true,
};

/// Overwrites part of a brane's region.
fn scribble(bench: &Bench, brane: usize, offset: usize, bytes: &[u8]) {
    let region = bench.branes[brane].region;
    let part = region.part(offset, bytes.len()).unwrap();
    // SAFETY: inside the region; the test has one thread.
    unsafe { part.base().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
}

/// Checks that brane 1 still receives a frame from the wire and sends one.
fn others_go_on(bench: &mut Bench) {
    bench.branes[1].frames(0);
    bench.device.sent.clear();
    bench.device.arrives(&frame(mac(1), HOST, 60, 1));
    assert!(bench.branes[1].send(0, &frame(HOST, mac(1), 60, 2), FrameMeta::default()));
    bench.run();
    assert_eq!(bench.branes[1].frames(0).len(), 1);
    assert_eq!(bench.device.sent.iter().filter(|(_, f)| f[11] == 1).count(), 1);
}

#[test]
fn a_jumping_index_cuts_off_until_the_restart() {
    for (offset, value) in [
        (ports::tx_indices(0), 0x8_0010u32),
        (ports::tx_indices(0), 8),
        (ports::tx_indices(0), u32::MAX - 15),
    ] {
        let mut bench = Bench::new();
        scribble(&bench, 0, offset, &value.to_le_bytes());
        bench.run();
        assert_eq!(bench.switch.counters().peer_errors, 1);
        assert_eq!(bench.switch.vif_counters(0).unwrap().peer_errors, 1);
        assert_eq!(bench.switch.vif_counters(1).unwrap().peer_errors, 0);
        // The driver neither reads nor writes the rings any more, even after the brane repairs them.
        scribble(&bench, 0, offset, &[0; 4]);
        bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), FrameMeta::default());
        bench.device.arrives(&frame(mac(0), HOST, 60, 0));
        bench.run();
        assert!(bench.device.sent.is_empty() && bench.branes[0].frames(0).is_empty());
        assert_eq!(bench.switch.counters().peer_errors, 1, "counted once");
        others_go_on(&mut bench);
        bench.branes[0] = BraneSide::start(bench.branes[0].region);
        bench.settle();
        assert!(bench.branes[0].poll_link());
        bench.branes[0].frames(0);
        bench.device.arrives(&frame(mac(0), HOST, 60, 0));
        bench.run();
        assert_eq!(bench.branes[0].frames(0).len(), 1);
    }
}

#[test]
fn a_consumer_index_ahead_of_us_is_found_when_the_ring_is_full() {
    let mut bench = Bench::new();
    scribble(
        &bench,
        0,
        ports::rx_indices(0) + size_of::<RingIndices>() / 2,
        &0x10_0000u32.to_le_bytes(),
    );
    for _ in 0..1000 {
        bench.device.arrives(&frame(mac(0), HOST, 1500, 0));
    }
    while !bench.device.received.is_empty() {
        bench.run();
    }
    assert_eq!(bench.switch.counters().peer_errors, 1);
    others_go_on(&mut bench);
}

#[test]
fn record_lengths_past_the_end_end_in_quarantine() {
    for len in [u32::MAX - 1, 0x4_0001, 0x3_ffff, 64] {
        let mut bench = Bench::new();
        bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), FrameMeta::default());
        scribble(&bench, 0, ports::TX[0].offset, &len.to_le_bytes());
        bench.run();
        let counters = bench.switch.counters();
        // 64 fits into the published bytes, so it is an ordinary frame.
        assert_eq!(counters.peer_errors, u64::from(len != 64), "length {len:#x}");
        others_go_on(&mut bench);
    }
}

#[test]
fn restarts_without_end_are_bounded_work() {
    let mut bench = Bench::new();
    let before = bench.switch.counters().link_resets;
    for _ in 0..1000 {
        bench.branes[0] = BraneSide::start(bench.branes[0].region);
        bench.run();
    }
    assert_eq!(bench.switch.counters().link_resets, before + 1000);
    others_go_on(&mut bench);
}

#[test]
fn frames_longer_than_the_longest_are_malformed() {
    let mut bench = Bench::new();
    let long = frame(HOST, mac(0), MAX_FRAME + 1, 0);
    assert!(bench.branes[0].send(0, &long, FrameMeta::default()));
    assert!(bench.branes[0].send(0, &frame(HOST, mac(0), 1515, 0), FrameMeta::default()));
    assert!(bench.branes[0].send(0, &[0; 13], FrameMeta::default()));
    assert!(bench.branes[0].send(0, &[], FrameMeta::default()));
    assert!(bench.branes[0].send(0, &frame(HOST, mac(0), 1514, 0), FrameMeta::default()));
    bench.run();
    assert_eq!(bench.device.sent.len(), 1);
    assert_eq!(bench.switch.vif_counters(0).unwrap().tx_malformed, 4);
}

/// Returns a TCP segment of `payload` bytes, and the meta that asks for its segmentation.
fn tcp(v6: bool, payload: usize) -> (Vec<u8>, FrameMeta) {
    let network = if v6 { 54 } else { 34 };
    let mut f = frame(HOST, mac(0), network + 20 + payload, 0);
    if v6 {
        f[12..14].copy_from_slice(&[0x86, 0xdd]);
        f[14] = 0x60;
        f[18..20].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
        f[20] = 6;
    } else {
        f[14] = 0x45;
        f[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
        f[20..22].copy_from_slice(&[0x40, 0]);
        f[23] = 6;
    }
    f[network + 12] = 0x50;
    let meta = FrameMeta {
        kind: 0,
        flags: FLAG_NEEDS_CSUM,
        gso_type: if v6 { GSO_TCPV6 } else { GSO_TCPV4 },
        csum_start: network as u16,
        csum_offset: 16,
        gso_size: 1400,
        header_len: network as u16 + 20,
    };
    (f, meta)
}

#[test]
fn segmentation_is_checked_against_the_frame() {
    for v6 in [false, true] {
        let (good, meta) = tcp(v6, 20_000);
        assert_eq!(outgoing(&good, meta, &LINK), Some(meta));
        let bad_meta = |change: fn(&mut FrameMeta)| {
            let mut meta = meta;
            change(&mut meta);
            outgoing(&good, meta, &LINK)
        };
        assert_eq!(bad_meta(|m| m.kind = 1), None);
        assert_eq!(bad_meta(|m| m.flags = 0), None);
        assert_eq!(bad_meta(|m| m.flags |= FLAG_DATA_VALID), None);
        assert_eq!(bad_meta(|m| m.gso_type = 3), None);
        assert_eq!(bad_meta(|m| m.gso_type ^= GSO_TCPV4 ^ GSO_TCPV6), None);
        assert_eq!(
            bad_meta(|m| m.gso_type = GSO_NONE),
            None,
            "too long for one frame"
        );
        assert_eq!(bad_meta(|m| m.gso_type |= 0x80), None);
        assert_eq!(bad_meta(|m| m.csum_start += 2), None);
        assert_eq!(bad_meta(|m| m.csum_start = 60_000), None);
        assert_eq!(bad_meta(|m| m.csum_offset = 6), None);
        assert_eq!(bad_meta(|m| m.gso_size = 0), None);
        assert_eq!(bad_meta(|m| m.gso_size = 63), None);
        assert_eq!(bad_meta(|m| m.gso_size = 1481), None);
        assert_eq!(bad_meta(|m| m.header_len -= 1), None);
        assert_eq!(bad_meta(|m| m.header_len = u16::MAX), None);
        let bad_byte = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            outgoing(&frame, meta, &LINK)
        };
        let network = usize::from(meta.csum_start);
        assert_eq!(bad_byte(12, 9), None, "ethertype");
        assert_eq!(bad_byte(14, 0x55), None, "version");
        assert_eq!(bad_byte(if v6 { 20 } else { 23 }, 17), None, "protocol");
        assert_eq!(bad_byte(if v6 { 19 } else { 17 }, 1), None, "length");
        assert_eq!(bad_byte(network + 12, 0x40), None, "data offset");
        assert_eq!(bad_byte(network + 12, 0xf0), None, "data offset");
        if !v6 {
            assert_eq!(bad_byte(14, 0x44), None, "header length");
            assert_eq!(bad_byte(20, 0x20), None, "fragment");
        }
        for features in [0, 1, if v6 { 3 } else { 5 }, 6] {
            let link = Link { features, ..LINK };
            assert_eq!(outgoing(&good, meta, &link), None, "features {features}");
        }
    }
}

/// Generates metas that are nearly valid, more often than chance would.
fn metas() -> impl Strategy<Value = FrameMeta> {
    let near = prop_oneof![0u16..120, any::<u16>()];
    let pick = prop_oneof![Just(GSO_NONE), Just(GSO_TCPV4), Just(GSO_TCPV6), any::<u8>()];
    (0u8..2, 0u8..4, pick, near.clone(), 0u16..30, 0u16..2000, near).prop_map(
        |(kind, flags, gso_type, csum_start, csum_offset, gso_size, header_len)| FrameMeta {
            kind,
            flags,
            gso_type,
            csum_start,
            csum_offset,
            gso_size,
            header_len,
        },
    )
}

proptest! {
    #[test]
    fn what_passes_the_check_stays_inside_the_frame(
        frame in proptest::collection::vec(any::<u8>(), 0..3000), meta in metas(), features in 0u32..8,
    ) {
        let link = Link { features, ..LINK };
        if let Some(meta) = outgoing(&frame, meta, &link) {
            prop_assert!(frame.len() >= 14 && (meta.gso_type != GSO_NONE || frame.len() <= 1514));
            if meta.flags & FLAG_NEEDS_CSUM != 0 {
                prop_assert!(usize::from(meta.csum_start) + usize::from(meta.csum_offset) + 2 <= frame.len());
            }
            prop_assert!(usize::from(meta.header_len) <= frame.len());
            prop_assert!(meta.gso_type == GSO_NONE || meta.gso_size >= 64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Lets brane 0 write rubbish anywhere in its region at any time: the link's head, indices, records. Checks that
    /// brane 1 is not affected, and that every frame sent from there has brane 0's source address.
    #[test]
    fn rubbish_harms_its_author_alone(
        steps in proptest::collection::vec(
            (0usize..4, 0usize..64, prop_oneof![any::<u32>(), 0u32..4096, Just(u32::MAX)], metas(), 0usize..3000), 1..60,
        ),
    ) {
        let mut bench = Bench::new();
        for (what, word, value, meta, len) in steps {
            match what {
                0 => scribble(&bench, 0, 4 * word, &value.to_le_bytes()),
                1 => scribble(&bench, 0, 0x1000 + 8 * word, &value.to_le_bytes()),
                2 => scribble(&bench, 0, ports::TX[0].offset + 4 * word, &value.to_le_bytes()),
                _ => {
                    bench.branes[0].send(word % 2, &frame(HOST, mac(word % BRANES), len, 0), meta);
                }
            }
            bench.run();
            prop_assert!(bench.device.sent.iter().all(|(_, f)| f[6..12] == mac(0).0));
            others_go_on(&mut bench);
            bench.device.sent.clear();
        }
    }
}
