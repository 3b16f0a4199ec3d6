//! Forwarding of frames, and their counters.

mod common;

use brane_abi::net::MacAddr;
use brane_abi::port::FrameMeta;
use brane_abi::vif::{self, AddVif, BindVif, DeviceInfo, MODE_BRIDGE, MODE_PRIVATE, VifCounters, VifRef};
use common::{BRANES, Bench, BraneSide, HOST, PLAIN, frame, mac, offloaded};
use nic_switch::{MIN_COST, QUANTUM};
use zerocopy::{FromBytes, IntoBytes};

fn got(bench: &mut Bench) -> Vec<usize> {
    bench.branes.iter_mut().map(|b| b.frames(0).len()).collect()
}

fn counters(bench: &Bench, n: u32) -> VifCounters {
    bench.switch.vif_counters(n).unwrap()
}

#[test]
fn a_frame_from_the_wire_goes_to_its_vif_alone() {
    let mut bench = Bench::new();
    let sent = frame(mac(2), HOST, 80, 7);
    bench.device.arrives(&sent);
    bench.run();
    assert_eq!(bench.branes[2].frames(0), vec![(PLAIN, sent)]);
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    assert_eq!(
        (counters(&bench, 2).rx_frames, counters(&bench, 2).rx_bytes),
        (1, 80)
    );
}

#[test]
fn parts_are_joined() {
    let mut bench = Bench::new();
    let sent = frame(mac(1), HOST, 9000, 3);
    let parts = vec![
        sent[..14].to_vec(),
        sent[14..5000].to_vec(),
        sent[5000..].to_vec(),
    ];
    bench.device.received.push_back((PLAIN, parts));
    bench.run();
    assert_eq!(bench.branes[1].frames(0), vec![(PLAIN, sent)]);
}

#[test]
fn unclaimed_and_short_frames_are_dropped_and_counted() {
    let mut bench = Bench::new();
    bench
        .device
        .arrives(&frame(MacAddr([2, 0, 0, 0, 1, 77]), HOST, 60, 0));
    bench.device.arrives(&[0xff; 13]);
    bench.device.arrives(&[]);
    bench.run();
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    let counters = bench.switch.counters();
    assert_eq!(
        (counters.rx_frames, counters.rx_unclaimed, counters.rx_malformed),
        (3, 1, 2)
    );
}

#[test]
fn group_frames_from_the_wire_go_to_each_once_but_not_to_their_sender() {
    let mut bench = Bench::new();
    bench.device.arrives(&frame(MacAddr::BROADCAST, HOST, 60, 0));
    bench
        .device
        .arrives(&frame(MacAddr([0x33, 0x33, 0, 0, 0, 1]), mac(3), 60, 0));
    bench.run();
    assert_eq!(got(&mut bench), vec![2, 2, 2, 1]);
}

#[test]
fn frames_of_a_brane_go_to_the_wire() {
    let mut bench = Bench::new();
    let sent = frame(HOST, mac(1), 100, 9);
    assert!(bench.branes[1].send(0, &sent, PLAIN));
    assert!(bench.run().0);
    assert_eq!(bench.device.sent, vec![(PLAIN, sent)]);
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    assert_eq!(
        (counters(&bench, 1).tx_frames, counters(&bench, 1).tx_bytes),
        (1, 100)
    );
}

#[test]
fn a_forged_source_never_leaves() {
    let mut bench = Bench::new();
    for forged in [mac(0), HOST, MacAddr::BROADCAST, MacAddr([0; 6])] {
        for to in [HOST, mac(2), MacAddr::BROADCAST] {
            bench.branes[1].send(0, &frame(to, forged, 60, 0), PLAIN);
        }
    }
    bench.run();
    assert!(bench.device.sent.is_empty());
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    assert_eq!(
        (counters(&bench, 1).tx_spoofed, counters(&bench, 1).tx_frames),
        (12, 0)
    );
}

#[test]
fn bridged_branes_reach_each_other_and_pass_meta_on() {
    let mut bench = Bench::with_modes([MODE_BRIDGE, MODE_BRIDGE, MODE_PRIVATE, MODE_PRIVATE]);
    let (direct, meta) = offloaded(mac(1), mac(0), 100, 6, 1);
    bench.branes[0].send(0, &direct, meta);
    bench.run();
    assert_eq!(bench.branes[1].frames(0), vec![(meta, direct)]);
    assert!(bench.device.sent.is_empty(), "not to the wire");
    // One of the two vifs is private, so the frame goes to the wire only.
    bench.branes[0].send(0, &frame(mac(2), mac(0), 60, 2), PLAIN);
    bench.branes[2].send(0, &frame(mac(0), mac(2), 60, 3), PLAIN);
    bench.branes[2].send(0, &frame(mac(3), mac(2), 60, 4), PLAIN);
    bench.run();
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    assert_eq!(bench.device.sent.len(), 3);
}

#[test]
fn group_frames_of_a_brane_go_to_the_wire_and_the_other_bridged_ones() {
    let mut bench = Bench::with_modes([MODE_BRIDGE, MODE_BRIDGE, MODE_BRIDGE, MODE_PRIVATE]);
    bench.branes[0].send(0, &frame(MacAddr::BROADCAST, mac(0), 60, 1), PLAIN);
    bench.branes[3].send(0, &frame(MacAddr::BROADCAST, mac(3), 60, 1), PLAIN);
    bench.run();
    assert_eq!(got(&mut bench), vec![0, 1, 1, 0]);
    assert_eq!(bench.device.sent.len(), 2);
}

#[test]
fn a_frame_to_oneself_is_dropped() {
    let mut bench = Bench::new();
    bench.branes[0].send(0, &frame(mac(0), mac(0), 60, 1), PLAIN);
    bench.run();
    assert_eq!(got(&mut bench), vec![0; BRANES]);
    assert!(bench.device.sent.is_empty());
    assert_eq!(
        (counters(&bench, 0).tx_dropped, counters(&bench, 0).tx_frames),
        (1, 0)
    );
}

#[test]
fn a_full_ring_loses_frames_of_that_vif_only() {
    let mut bench = Bench::new();
    for _ in 0..20_000 {
        bench.device.arrives(&frame(mac(0), HOST, 1000, 0));
        bench.run();
    }
    bench.device.arrives(&frame(mac(1), HOST, 1000, 0));
    bench.run();
    let lost = counters(&bench, 0).rx_dropped;
    assert!(lost > 0);
    assert_eq!(bench.branes[0].frames(0).len() as u64, 20_000 - lost);
    assert_eq!(bench.branes[1].frames(0).len(), 1);
    // With room in the ring, frames arrive again.
    bench.device.arrives(&frame(mac(0), HOST, 1000, 0));
    bench.run();
    assert_eq!(bench.branes[0].frames(0).len(), 1);
}

#[test]
fn a_flooding_brane_takes_no_more_than_its_turn() {
    let mut bench = Bench::new();
    while bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN) {}
    for n in 0..10 {
        assert!(bench.branes[3].send(0, &frame(HOST, mac(3), 60, n), PLAIN));
    }
    bench.device.room = QUANTUM / MIN_COST + 10;
    assert!(!bench.run().0, "the device had no room");
    let from_3 = |sent: &[(FrameMeta, Vec<u8>)]| sent.iter().filter(|(_, f)| f[11] == 3).count();
    assert_eq!(from_3(&bench.device.sent), 10);
    // The fairness holds for long frames too, because bytes count.
    bench.device.room = usize::MAX;
    assert!(bench.run().0);
    bench.device.sent.clear();
    while bench.branes[0].send(0, &frame(HOST, mac(0), 1500, 0), PLAIN) {}
    bench.branes[3].send(0, &frame(HOST, mac(3), 60, 0), PLAIN);
    // One frame more, because the turn of the first flood may leave some bytes.
    bench.device.room = QUANTUM / 1500 + 2;
    bench.run();
    assert_eq!(from_3(&bench.device.sent), 1);
}

#[test]
fn without_room_at_the_device_frames_wait_in_order() {
    let mut bench = Bench::new();
    for n in 0..50 {
        bench.branes[2].send(0, &frame(HOST, mac(2), 60, n), PLAIN);
    }
    for room in (0..50).step_by(7) {
        bench.device.room = room;
        // No brane notifies: the driver remembers the rest.
        assert!(!bench.switch.wake_and_transmit(&mut bench.device));
        assert_eq!(bench.device.sent.len(), room);
    }
    bench.device.room = usize::MAX;
    assert!(bench.switch.wake_and_transmit(&mut bench.device));
    let marks: Vec<u8> = bench.device.sent.iter().map(|(_, f)| f[20]).collect();
    assert_eq!(marks, (0..50).collect::<Vec<u8>>());
    assert_eq!(counters(&bench, 2).tx_frames, 50);
}

/// The driver's own wake, without a notification from a brane.
trait Alone {
    fn wake_and_transmit(&mut self, device: &mut common::HostDevice) -> bool;
}

impl Alone for common::TestSwitch {
    fn wake_and_transmit(&mut self, device: &mut common::HostDevice) -> bool {
        self.wake(1 << 2, &|| 0);
        self.transmit(device, &|| 0)
    }
}

#[test]
fn only_a_sleeping_brane_is_notified() {
    let mut bench = Bench::new();
    let bell = bench.branes[1].link.own_bell();
    bell.take();
    assert!(bell.arm());
    bench.device.arrives(&frame(mac(1), HOST, 60, 0));
    bench.device.arrives(&frame(mac(1), HOST, 60, 0));
    assert_eq!(bench.run().1, 1 << 1);
    bench.device.arrives(&frame(mac(1), HOST, 60, 0));
    assert_eq!(bench.run().1, 0, "it is awake");
    assert_eq!(bell.take(), 1);
    assert!(bell.arm());
    assert_eq!(bench.run().1, 0, "nothing is pending");
}

#[test]
fn a_brane_that_waits_for_room_is_woken() {
    let mut bench = Bench::new();
    while bench.branes[1].send(0, &frame(HOST, mac(1), 1000, 0), PLAIN) {}
    let bell = bench.branes[1].link.own_bell();
    bell.take();
    assert!(bell.arm());
    assert_eq!(bench.run().1, 1 << 1);
    // A single frame does not wake the brane.
    bell.take();
    assert!(bell.arm());
    bench.branes[1].send(0, &frame(HOST, mac(1), 1000, 0), PLAIN);
    assert_eq!(bench.run().1, 0);
}

#[test]
fn the_driver_sleeps_only_when_all_is_taken() {
    let mut bench = Bench::new();
    bench.run();
    let bell = bench.branes[0].link.peer_bell();
    assert!(bell.ring(1), "the driver sleeps and must be notified");
    assert!(!bell.ring(1), "it has been");
    bench.run();
    assert!(bell.ring(1));
}

#[test]
fn a_port_says_what_it_is_bound_to() {
    let mut bench = Bench::new();
    let info = |bench: &mut Bench, p: usize| {
        assert!(bench.branes[0].frames(p).is_empty());
        bench.branes[0].ports[p].info.unwrap()
    };
    let first = info(&mut bench, 0);
    assert_eq!(
        (first.bound, first.mac, first.mtu, first.link_up),
        (1, mac(0), 1500, 1)
    );
    assert_eq!(info(&mut bench, 1).bound, 0);
    bench.switch.unbind(0).unwrap();
    bench.switch.flush();
    assert_eq!(
        (info(&mut bench, 0).bound, info(&mut bench, 0).mac),
        (0, MacAddr([0; 6]))
    );
    // Frames that the brane sends now are dropped, whatever their source.
    bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN);
    bench.device.arrives(&frame(mac(0), HOST, 60, 0));
    bench.run();
    assert!(bench.device.sent.is_empty());
    assert_eq!(
        (bench.switch.counters().tx_unbound, counters(&bench, 0).rx_dropped),
        (1, 1)
    );
    // The vif works again at the brane's other port.
    let bind = BindVif {
        vif: 0,
        brane: 0,
        port: 1,
    };
    bench.switch.bind(bind).unwrap();
    bench.device.arrives(&frame(mac(0), HOST, 60, 0));
    bench.run();
    assert_eq!(bench.branes[0].frames(1).len(), 1);
    let moved = bench.branes[0].ports[1].info.unwrap();
    assert_eq!((moved.bound, moved.mac, moved.generation), (1, mac(0), 1));
}

#[test]
fn a_restarted_brane_starts_with_empty_rings() {
    let mut bench = Bench::new();
    bench.device.arrives(&frame(mac(1), HOST, 60, 0));
    bench.run();
    bench.branes[1] = BraneSide::start(bench.branes[1].region);
    // The driver has not polled the link yet, so this frame is lost with the earlier ones.
    bench.device.arrives(&frame(mac(1), HOST, 60, 1));
    bench.switch.receive(&mut bench.device, 1);
    bench.switch.flush();
    bench.settle();
    assert!(bench.branes[1].poll_link());
    let frames = bench.branes[1].frames(0);
    assert!(frames.is_empty(), "nothing of before: {frames:?}");
    assert_eq!(bench.branes[1].ports[0].info.unwrap().mac, mac(1));
    bench.device.arrives(&frame(mac(1), HOST, 60, 2));
    bench.branes[1].send(0, &frame(HOST, mac(1), 60, 3), PLAIN);
    bench.run();
    assert_eq!(bench.branes[1].frames(0).len(), 1);
    assert_eq!(bench.device.sent.len(), 1);
    assert!(bench.switch.counters().link_resets > 0);
    assert_eq!(bench.switch.counters().peer_errors, 0);
}

#[test]
fn a_port_says_what_the_device_can_do() {
    let mut bench = Bench::new();
    let link = nic_switch::Link {
        features: 0b101,
        mtu: 1400,
        up: true,
    };
    bench.switch.set_link(link);
    bench.run();
    bench.branes[0].frames(0);
    let info = bench.branes[0].ports[0].info.unwrap();
    assert_eq!((info.features, info.mtu, info.link_up), (0b101, 1400, 1));
}

fn call(bench: &mut Bench, label: u64, request: &[u8]) -> (u64, Vec<u8>) {
    let mut message = [0; 960];
    message[..request.len()].copy_from_slice(request);
    let own = DeviceInfo {
        mac: HOST,
        interrupts: 5,
        ..DeviceInfo::default()
    };
    let (label, len) = bench
        .switch
        .call(label, request.len(), &mut message, own, &mut bench.device);
    (label, message[..len].to_vec())
}

#[test]
fn the_manager_gets_answers_and_refusals() {
    let mut bench = Bench::new();
    let add = |vif, mac, mode| AddVif {
        vif,
        mode,
        mac,
        vlan: 0,
        peer: 0,
    };
    let bind = |vif, brane, port| BindVif { vif, brane, port };
    let free = MacAddr([2, 0, 0, 0, 2, 0]);
    let calls: [(u64, Vec<u8>, u64); 22] = [
        (vif::ADD_VIF, add(0, free, 0).as_bytes().to_vec(), vif::IN_USE),
        (vif::ADD_VIF, add(9, mac(0), 0).as_bytes().to_vec(), vif::IN_USE),
        (
            vif::ADD_VIF,
            add(9, MacAddr::BROADCAST, 0).as_bytes().to_vec(),
            vif::BAD_MAC,
        ),
        (
            vif::ADD_VIF,
            add(9, MacAddr([0; 6]), 0).as_bytes().to_vec(),
            vif::BAD_MAC,
        ),
        (
            vif::ADD_VIF,
            add(9, free, 2).as_bytes().to_vec(),
            vif::BAD_REQUEST,
        ),
        (
            vif::ADD_VIF,
            add(9, free, 0).as_bytes()[..15].to_vec(),
            vif::BAD_REQUEST,
        ),
        (vif::BIND_VIF, bind(9, 0, 1).as_bytes().to_vec(), vif::NO_SUCH_VIF),
        (vif::ADD_VIF, add(9, free, 0).as_bytes().to_vec(), vif::OK),
        (
            vif::BIND_VIF,
            bind(9, BRANES as u32, 0).as_bytes().to_vec(),
            vif::NO_SUCH_PORT,
        ),
        (
            vif::BIND_VIF,
            bind(9, u32::MAX, 0).as_bytes().to_vec(),
            vif::NO_SUCH_PORT,
        ),
        (
            vif::BIND_VIF,
            bind(9, 0, 2).as_bytes().to_vec(),
            vif::NO_SUCH_PORT,
        ),
        (vif::BIND_VIF, bind(9, 0, 0).as_bytes().to_vec(), vif::IN_USE),
        (vif::BIND_VIF, bind(0, 0, 1).as_bytes().to_vec(), vif::IN_USE),
        (vif::BIND_VIF, bind(9, 0, 1).as_bytes().to_vec(), vif::OK),
        (vif::REMOVE_VIF, VifRef { vif: 9 }.as_bytes().to_vec(), vif::OK),
        (
            vif::REMOVE_VIF,
            VifRef { vif: 9 }.as_bytes().to_vec(),
            vif::NO_SUCH_VIF,
        ),
        (
            vif::UNBIND_VIF,
            VifRef { vif: 9 }.as_bytes().to_vec(),
            vif::NO_SUCH_VIF,
        ),
        (
            vif::VIF_COUNTERS,
            VifRef { vif: 9 }.as_bytes().to_vec(),
            vif::NO_SUCH_VIF,
        ),
        (vif::ADD_VIF, add(9, free, 0).as_bytes().to_vec(), vif::OK),
        (vif::BIND_VIF, bind(9, 0, 1).as_bytes().to_vec(), vif::OK),
        (0, vec![], vif::BAD_REQUEST),
        (u64::MAX, vec![], vif::BAD_REQUEST),
    ];
    for (i, (label, request, expected)) in calls.iter().enumerate() {
        assert_eq!(call(&mut bench, *label, request), (*expected, vec![]), "call {i}");
    }
    bench.device.arrives(&frame(mac(1), HOST, 60, 0));
    bench.run();
    let (label, answer) = call(&mut bench, vif::VIF_COUNTERS, VifRef { vif: 1 }.as_bytes());
    assert_eq!(label, vif::OK);
    assert_eq!(VifCounters::read_from_bytes(&answer).unwrap().rx_frames, 1);
    // One frame for an unknown destination, one without a header, and one to the wire.
    bench
        .device
        .arrives(&frame(MacAddr([2, 7, 7, 7, 7, 7]), HOST, 60, 0));
    bench.device.arrives(&[0; 5]);
    bench.branes[1].send(0, &frame(HOST, mac(1), 60, 0), PLAIN);
    bench.run();
    let (label, answer) = call(&mut bench, vif::DEVICE_INFO, &[]);
    let info = DeviceInfo::read_from_bytes(&answer).unwrap();
    assert_eq!(label, vif::OK);
    assert_eq!(
        (info.mac, info.interrupts, info.rx_frames, info.link_up),
        (HOST, 5, 3, 1)
    );
    assert_eq!((info.rx_unclaimed, info.rx_malformed, info.tx_frames), (1, 1, 1));
    assert_ne!(info.features, 0);
    assert_eq!(info.features, bench.switch.link().features);
    assert_eq!(info.ports as usize, 2 * BRANES);
    for n in 100.. {
        let (label, _) = call(
            &mut bench,
            vif::ADD_VIF,
            add(n, MacAddr([2, 0, 0, 0, 3, n as u8]), 0).as_bytes(),
        );
        if label == vif::FULL {
            assert_eq!(n as usize, 100 + nic_switch::MAX_VIFS - BRANES - 1);
            break;
        }
        assert_eq!(label, vif::OK);
    }
}
