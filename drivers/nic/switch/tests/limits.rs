//! Vifs with limits: forbidden frames are dropped and counted by reason, and other vifs are not affected.

mod common;

use brane_abi::net::{Cidr, MacAddr};
use brane_abi::port::FrameMeta;
use brane_abi::vif::{self, DeviceInfo, MAX_ALLOWED, MAX_RATE, Prefix, VifCounters, VifLimits};
use common::{Bench, HOST, frame, mac};
use zerocopy::IntoBytes;

const SECOND: u64 = 1_000_000_000;
/// Capacity of a bucket at these rates: one frame of the longest kind.
const BURST: u64 = 14 + 65535;

fn counters(bench: &Bench, n: u32) -> VifCounters {
    bench.switch.vif_counters(n).unwrap()
}

fn allow(vif: u32, prefixes: &[(&str, u8)]) -> VifLimits {
    let mut limits = VifLimits {
        vif,
        allowed: prefixes.len() as u32,
        ..VifLimits::default()
    };
    for (place, &(ip, prefix)) in limits.allow.iter_mut().zip(prefixes) {
        let ip = ip.parse().unwrap();
        *place = Prefix::from(Cidr { ip, prefix });
    }
    limits
}

fn rates(vif: u32, rate_up: u64, rate_down: u64) -> VifLimits {
    VifLimits {
        vif,
        rate_up,
        rate_down,
        ..VifLimits::default()
    }
}

/// Returns an IPv4 packet with source `source` from vif `n`.
fn ipv4(n: usize, to: MacAddr, source: [u8; 4]) -> Vec<u8> {
    let mut f = frame(to, mac(n), 60, 0);
    f[14] = 0x45;
    f[26..30].copy_from_slice(&source);
    f
}

#[test]
fn a_forged_ip_source_reaches_neither_wire_nor_brane() {
    let mut bench = Bench::new();
    bench.switch.limit(allow(1, &[("10.0.2.16", 32)])).unwrap();
    let meta = FrameMeta::default();
    for to in [HOST, mac(2), MacAddr::BROADCAST] {
        bench.branes[1].send(0, &ipv4(1, to, [10, 0, 2, 15]), meta);
        for kind in [[0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]] {
            let mut f = ipv4(1, to, [10, 0, 2, 16]);
            f[12..14].copy_from_slice(&kind);
            bench.branes[1].send(0, &f, meta);
        }
        // The other vif has no list.
        bench.branes[2].send(0, &ipv4(2, HOST, [10, 0, 2, 15]), meta);
    }
    bench.run();
    assert_eq!(bench.device.sent.len(), 3);
    assert!(bench.device.sent.iter().all(|(_, f)| f[11] == 2));
    assert!((0..4).all(|n| bench.branes[n].frames(0).is_empty()));
    let c = counters(&bench, 1);
    assert_eq!((c.tx_bad_ip, c.tx_bad_arp, c.tx_bad_type), (6, 3, 3));
    assert_eq!((c.tx_frames, c.tx_bytes, c.tx_spoofed), (0, 0, 0));
    assert_eq!(counters(&bench, 2).tx_bad_ip, 0);
    // Allowed frames leave, and without the list all frames do.
    bench.branes[1].send(0, &ipv4(1, HOST, [10, 0, 2, 16]), meta);
    bench.run();
    assert_eq!(bench.device.sent.len(), 4);
    bench.switch.limit(allow(1, &[])).unwrap();
    bench.branes[1].send(0, &ipv4(1, HOST, [10, 0, 2, 15]), meta);
    bench.run();
    assert_eq!(bench.device.sent.len(), 5);
}

#[test]
fn above_its_rate_a_vif_loses_what_it_sends() {
    let mut bench = Bench::new();
    assert!(!bench.switch.timed());
    bench.switch.limit(rates(1, 100_000, 0)).unwrap();
    assert!(bench.switch.timed());
    let meta = FrameMeta::default();
    let mut sent = [0u64; 2];
    for tick in 0..2000 {
        bench.switch.set_time(SECOND + tick * SECOND / 1000);
        for n in [1, 2] {
            assert!(bench.branes[n].send(0, &frame(HOST, mac(n), 1000, 0), meta));
        }
        bench.run();
        for (_, f) in bench.device.sent.drain(..) {
            sent[usize::from(f[11]) - 1] += f.len() as u64;
        }
    }
    let c = counters(&bench, 1);
    assert!(sent[0].abs_diff(200_000 + BURST) <= 1000, "{sent:?}");
    assert_eq!(sent[1], 2_000_000, "its neighbour lost something");
    assert_eq!((c.tx_bytes, c.tx_limited), (sent[0], 2000 - sent[0] / 1000));
}

#[test]
fn above_its_rate_a_vif_loses_what_it_would_get() {
    let mut bench = Bench::new();
    bench.switch.limit(rates(1, 0, 100_000)).unwrap();
    let mut got = 0;
    for tick in 0..2000 {
        bench.switch.set_time(SECOND + tick * SECOND / 1000);
        // From the wire and from another brane.
        bench.device.arrives(&frame(mac(1), HOST, 500, 0));
        bench.branes[0].send(0, &frame(mac(1), mac(0), 500, 0), FrameMeta::default());
        bench.device.arrives(&frame(mac(2), HOST, 500, 0));
        bench.run();
        got += 500 * bench.branes[1].frames(0).len() as u64;
        assert_eq!(bench.branes[2].frames(0).len(), 1);
    }
    let c = counters(&bench, 1);
    assert!(got.abs_diff(200_000 + BURST) <= 1000, "{got}");
    assert_eq!(
        (c.rx_bytes, c.rx_limited, c.rx_dropped),
        (got, 4000 - got / 500, 0)
    );
}

#[test]
fn a_frame_that_waits_for_the_device_pays_once() {
    let mut bench = Bench::new();
    bench.switch.limit(rates(1, 1, 0)).unwrap();
    bench.device.room = 0;
    assert!(bench.branes[1].send(0, &frame(HOST, mac(1), 1000, 0), FrameMeta::default()));
    for _ in 0..1000 {
        assert!(!bench.run().0);
    }
    bench.device.room = 1;
    bench.run();
    assert_eq!((bench.device.sent.len(), counters(&bench, 1).tx_limited), (1, 0));
}

#[test]
fn limits_that_cannot_be_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    bench.switch.limit(allow(1, &[("10.0.2.16", 32)])).unwrap();
    let prefix = |family, length| {
        let mut limits = allow(1, &[("::", 0)]);
        (limits.allow[0].family, limits.allow[0].length) = (family, length);
        limits
    };
    let many = VifLimits {
        vif: 1,
        allowed: MAX_ALLOWED as u32 + 1,
        ..VifLimits::default()
    };
    for (limits, expected) in [
        (rates(9, 1, 1), vif::NO_SUCH_VIF),
        (rates(1, MAX_RATE + 1, 0), vif::BAD_LIMITS),
        (rates(1, 0, u64::MAX), vif::BAD_LIMITS),
        (many, vif::BAD_LIMITS),
        (prefix(4, 33), vif::BAD_LIMITS),
        (prefix(6, 129), vif::BAD_LIMITS),
        (prefix(0, 0), vif::BAD_LIMITS),
    ] {
        let mut message = [0; 960];
        message[..size_of::<VifLimits>()].copy_from_slice(limits.as_bytes());
        let mut call = |len| {
            let (switch, device) = (&mut bench.switch, &mut bench.device);
            switch.call(vif::SET_LIMITS, len, &mut message, DeviceInfo::default(), device)
        };
        assert_eq!(call(size_of::<VifLimits>()), (expected, 0), "{limits:?}");
        assert_eq!(call(size_of::<VifLimits>() - 1), (vif::BAD_REQUEST, 0));
    }
    bench.branes[1].send(0, &ipv4(1, HOST, [10, 0, 2, 15]), FrameMeta::default());
    bench.run();
    assert_eq!(counters(&bench, 1).tx_bad_ip, 1);
    // A new vif in this slot has none of the old limits.
    bench.switch.remove(1).unwrap();
    let add = vif::AddVif {
        vif: 1,
        mac: mac(1),
        ..vif::AddVif::default()
    };
    bench.switch.add(add).unwrap();
    let bind = vif::BindVif {
        vif: 1,
        brane: 1,
        port: 0,
    };
    bench.switch.bind(bind).unwrap();
    bench.branes[1].send(0, &ipv4(1, HOST, [10, 0, 2, 15]), FrameMeta::default());
    bench.run();
    assert_eq!((bench.device.sent.len(), counters(&bench, 1).tx_frames), (1, 1));
}
