//! Pairs: a wire between two vifs that reaches no other vif.

mod common;

use brane_abi::net::{Cidr, MacAddr};
use brane_abi::vif::{self, AddVif, Prefix, VifCounters, VifLimits};
use common::{BRANES, Bench, HOST, PLAIN, frame, mac, offloaded};

/// Returns vif `n` with address `n`, with vif `other` as its other end.
fn end(n: u32, other: u32) -> AddVif {
    AddVif {
        vif: n,
        mac: mac(n as usize),
        peer: other + 1,
        ..AddVif::default()
    }
}

fn counters(bench: &Bench, n: u32) -> VifCounters {
    bench.switch.vif_counters(n).unwrap()
}

fn got(bench: &mut Bench) -> [Vec<usize>; 2] {
    [0, 1].map(|p| bench.branes.iter_mut().map(|b| b.frames(p).len()).collect())
}

/// Creates vifs 10 and 11 at the ports 1 of branes 0 and 1, as a pair.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.add(end(10, 11), 0, 1);
    bench.add(end(11, 10), 1, 1);
    got(&mut bench);
    bench
}

#[test]
fn frames_go_to_the_other_end_and_nowhere_else() {
    let mut bench = bench();
    let (there, meta) = offloaded(mac(11), mac(10), 100, 6, 1);
    let (back, all) = (
        frame(mac(10), mac(11), 60, 2),
        frame(MacAddr::BROADCAST, mac(11), 60, 3),
    );
    bench.branes[0].send(1, &there, meta);
    bench.branes[1].send(1, &back, PLAIN);
    bench.branes[1].send(1, &all, PLAIN);
    // Not to the address of a third vif, of the sender itself, or of a station on the wire.
    for to in [mac(2), mac(10), HOST] {
        bench.branes[0].send(1, &frame(to, mac(10), 60, 4), PLAIN);
    }
    bench.run();
    assert_eq!(bench.branes[1].frames(1), vec![(meta, there)]);
    assert_eq!(bench.branes[0].frames(1), vec![(PLAIN, back), (PLAIN, all)]);
    assert_eq!(got(&mut bench), [[0; BRANES], [0; BRANES]]);
    assert!(bench.device.sent.is_empty());
    let c = counters(&bench, 10);
    assert_eq!(
        (c.tx_frames, c.tx_bytes, c.tx_dropped, c.rx_frames),
        (1, 100, 3, 2)
    );
    assert_eq!(
        (counters(&bench, 11).tx_frames, counters(&bench, 11).rx_bytes),
        (2, 100)
    );
}

#[test]
fn the_wire_and_the_others_do_not_reach_a_pair() {
    let mut bench = bench();
    bench.device.arrives(&frame(mac(10), HOST, 60, 0));
    bench.device.arrives(&frame(MacAddr::BROADCAST, HOST, 60, 0));
    bench.branes[2].send(0, &frame(mac(11), mac(2), 60, 0), PLAIN);
    bench.branes[2].send(0, &frame(MacAddr::BROADCAST, mac(2), 60, 0), PLAIN);
    bench.run();
    assert_eq!(got(&mut bench), [vec![2, 2, 1, 2], vec![0; BRANES]]);
    assert_eq!(bench.switch.counters().rx_unclaimed, 1);
    assert_eq!(bench.device.sent.len(), 2);
}

#[test]
fn sources_lists_and_rates_are_checked_as_everywhere() {
    let mut bench = bench();
    bench.branes[0].send(1, &frame(mac(11), mac(0), 60, 0), PLAIN);
    let mut tagged = frame(mac(11), mac(10), 60, 0);
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    bench.branes[0].send(1, &tagged, PLAIN);
    bench.run();
    let mut limits = VifLimits {
        vif: 10,
        allowed: 1,
        rate_up: 1,
        ..VifLimits::default()
    };
    let ip = "10.0.2.15".parse().unwrap();
    limits.allow[0] = Prefix::from(Cidr { ip, prefix: 32 });
    bench.switch.limit(limits).unwrap();
    bench.branes[0].send(1, &frame(mac(11), mac(10), 60, 0), PLAIN);
    bench.run();
    limits.allowed = 0;
    bench.switch.limit(limits).unwrap();
    for _ in 0..50 {
        bench.branes[0].send(1, &frame(mac(11), mac(10), 1500, 0), PLAIN);
    }
    bench.run();
    let c = counters(&bench, 10);
    assert_eq!((c.tx_spoofed, c.tx_bad_type, c.tx_bad_ip), (1, 1, 1));
    // A burst is one frame of the longest kind.
    assert_eq!((c.tx_frames, c.tx_limited), (43, 7));
    assert_eq!(bench.branes[1].frames(1).len(), 43);
}

#[test]
fn without_the_other_end_frames_are_dropped_and_counted() {
    let mut bench = Bench::new();
    let link = |bench: &mut Bench| {
        bench.branes[0].frames(1);
        bench.branes[0].ports[1].info.unwrap().link_up
    };
    let send = |bench: &mut Bench| {
        bench.branes[0].send(1, &frame(mac(11), mac(10), 60, 0), PLAIN);
        bench.run();
        assert!(bench.device.sent.is_empty());
    };
    bench.add(end(10, 11), 0, 1);
    assert_eq!(link(&mut bench), 0);
    send(&mut bench);
    assert_eq!(
        (counters(&bench, 10).tx_dropped, counters(&bench, 10).tx_frames),
        (1, 0)
    );
    // The number matches, but the vif is not an end of this pair.
    bench.switch.add(end(11, 12)).unwrap();
    send(&mut bench);
    assert_eq!(
        (counters(&bench, 10).tx_dropped, counters(&bench, 11).rx_dropped),
        (2, 0)
    );
    bench.switch.remove(11).unwrap();
    bench.switch.add(end(11, 10)).unwrap();
    send(&mut bench);
    assert_eq!((counters(&bench, 11).rx_dropped, link(&mut bench)), (1, 0));
    bench.bind(11, 1, 1);
    send(&mut bench);
    assert_eq!((bench.branes[1].frames(1).len(), link(&mut bench)), (1, 1));
    // The physical link has no effect on the pair.
    bench.switch.set_link(nic_switch::Link {
        up: false,
        ..bench.switch.link()
    });
    bench.switch.flush();
    assert_eq!(link(&mut bench), 1);
    bench.unbind(11);
    assert_eq!(link(&mut bench), 0);
    bench.switch.remove(11).unwrap();
    send(&mut bench);
    assert_eq!(counters(&bench, 10).tx_dropped, 3);
}

#[test]
fn both_ends_may_be_in_one_brane() {
    let mut bench = Bench::new();
    bench.switch.remove(0).unwrap();
    bench.add(end(10, 11), 0, 0);
    bench.add(end(11, 10), 0, 1);
    got(&mut bench);
    bench.branes[0].send(0, &frame(mac(11), mac(10), 60, 1), PLAIN);
    bench.branes[0].send(1, &frame(mac(10), mac(11), 70, 2), PLAIN);
    bench.run();
    assert_eq!(
        bench.branes[0].frames(0),
        vec![(PLAIN, frame(mac(10), mac(11), 70, 2))]
    );
    assert_eq!(
        bench.branes[0].frames(1),
        vec![(PLAIN, frame(mac(11), mac(10), 60, 1))]
    );
}

#[test]
fn ends_that_cannot_be() {
    let mut bench = Bench::new();
    let tagged = AddVif {
        vlan: 5,
        ..end(10, 11)
    };
    let address = AddVif {
        mac: mac(0),
        ..end(10, 11)
    };
    for (request, refusal) in [
        (end(10, 10), vif::BAD_REQUEST),
        (tagged, vif::BAD_REQUEST),
        (address, vif::IN_USE),
    ] {
        assert_eq!(bench.switch.add(request), Err(refusal), "{request:?}");
    }
}
