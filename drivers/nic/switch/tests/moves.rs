//! A vif moves from one brane to another. Frames of the old owner end with the unbinding; frames for the new owner
//! begin with the binding. Also checks the table after any calls in any order.

mod common;

use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, KIND_INFO, PortInfo};
use brane_abi::vif::{self, AddVif, BindVif, DeviceInfo, SetMode, VifLimits, VifRef, VifTable, VifTableAt};
use common::PORTS_PER_BRANE;
use common::{BRANES, Bench, HOST, PLAIN, TestSwitch, frame, mac};
use nic_switch::QUANTUM;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use zerocopy::{FromBytes, IntoBytes};

/// Returns the records in a receive ring, in order: marks of frames, and generations of info records.
fn order(bench: &mut Bench, b: usize, p: usize) -> Vec<String> {
    let rx = &mut bench.branes[b].ports[p].rx;
    let mut seen = Vec::new();
    while let Some(what) = rx
        .take(|r| {
            let mut bytes = vec![0; r.len()];
            r.copy_to(&mut bytes);
            match FrameMeta::from_words(r.meta).kind {
                KIND_INFO => {
                    let info = PortInfo::read_from_bytes(&bytes).unwrap();
                    format!("bound {} generation {}", info.bound, info.generation)
                }
                _ => format!("frame {}", bytes[20]),
            }
        })
        .unwrap()
    {
        seen.push(what);
    }
    rx.release();
    seen
}

#[test]
fn the_order_in_the_ring_separates_old_frames_from_new_ones() {
    let mut bench = Bench::new();
    let arrives = |bench: &mut Bench, mark| bench.device.arrives(&frame(mac(0), HOST, 60, mark));
    bench.branes[1].frames(1);
    arrives(&mut bench, 1);
    bench.run();
    // Frames 2 and 3 arrive before the binding and are delivered before it, while the vif has no port. So they are
    // dropped.
    arrives(&mut bench, 2);
    bench.unbind(0);
    arrives(&mut bench, 3);
    bench.bind(0, 1, 1);
    arrives(&mut bench, 4);
    bench.run();
    assert_eq!(order(&mut bench, 0, 0), ["frame 1", "bound 0 generation 1"]);
    assert_eq!(order(&mut bench, 1, 1), ["bound 1 generation 1", "frame 4"]);
    assert_eq!(bench.switch.vif_counters(0).unwrap().rx_dropped, 2);
    // The vif moves back. The generation distinguishes this binding from the first one.
    bench.unbind(0);
    bench.bind(0, 0, 0);
    arrives(&mut bench, 5);
    bench.run();
    assert_eq!(order(&mut bench, 1, 1), ["bound 0 generation 1"]);
    assert_eq!(order(&mut bench, 0, 0), ["bound 1 generation 2", "frame 5"]);
}

#[test]
fn what_is_left_in_the_old_ring_goes_nowhere() {
    let mut bench = Bench::new();
    let send = |bench: &mut Bench, b: usize, mark| {
        for to in [HOST, mac(2), MacAddr::BROADCAST] {
            assert!(bench.branes[b].send(0, &frame(to, mac(0), 60, mark), PLAIN));
        }
    };
    let nothing = |bench: &mut Bench| {
        bench.run();
        assert!(bench.device.sent.is_empty());
        assert!((1..BRANES).all(|b| bench.branes[b].frames(0).is_empty()));
    };
    // Frames in the ring at the unbinding, frames sent afterwards, and frames sent before the port gets the vif again.
    send(&mut bench, 0, 1);
    bench.unbind(0);
    nothing(&mut bench);
    send(&mut bench, 0, 2);
    nothing(&mut bench);
    assert_eq!(bench.switch.counters().tx_unbound, 6);
    send(&mut bench, 0, 3);
    bench.bind(0, 0, 0);
    nothing(&mut bench);
    assert_eq!(bench.switch.counters().tx_unbound, 9);
    send(&mut bench, 0, 4);
    bench.run();
    assert_eq!(bench.device.sent.len(), 2);
    assert!(bench.device.sent.iter().all(|(_, f)| f[20] == 4));
}

#[test]
fn a_turn_that_the_device_ended_leaves_nothing_to_the_next_owner() {
    let mut bench = Bench::new();
    for mark in 0..50 {
        bench.branes[0].send(0, &frame(HOST, mac(0), 1000, mark), PLAIN);
    }
    for _ in 0..(QUANTUM / 1000) {
        bench.branes[2].send(0, &frame(HOST, mac(2), 1000, 0), PLAIN);
    }
    bench.device.room = 20;
    assert!(!bench.run().0, "the device has no room in the middle of the turn");
    // Brane 1 has only this vif now.
    bench.switch.remove(1).unwrap();
    bench.unbind(0);
    bench.bind(0, 1, 0);
    bench.device.sent.clear();
    for _ in 0..2 * QUANTUM / 1000 {
        bench.branes[1].send(0, &frame(HOST, mac(0), 1000, 100), PLAIN);
    }
    // Room for one turn of each brane: the new owner gets exactly one whole turn.
    bench.device.room = 2 * (QUANTUM / 1000);
    bench.run();
    let count = |n: usize, mark: u8| {
        let from = |f: &[u8]| f[6..12] == mac(n).0 && f[20] == mark;
        bench.device.sent.iter().filter(|(_, f)| from(f)).count()
    };
    assert_eq!(
        count(0, 100) + count(2, 0),
        bench.device.sent.len(),
        "nothing of the old owner"
    );
    assert_eq!((count(0, 100), count(2, 0)), (QUANTUM / 1000, QUANTUM / 1000));
    assert_eq!(bench.switch.counters().tx_unbound, 30);
    assert_eq!(
        bench.switch.vif_counters(0).unwrap().tx_frames,
        20 + count(0, 100) as u64
    );
}

#[test]
fn the_new_owner_starts_with_full_buckets() {
    let mut bench = Bench::new();
    let limits = VifLimits {
        vif: 0,
        rate_up: 1,
        rate_down: 1,
        ..VifLimits::default()
    };
    bench.call(vif::SET_LIMITS, limits.as_bytes());
    let spend = |bench: &mut Bench, b: usize| {
        for _ in 0..50 {
            bench.branes[b].send(0, &frame(HOST, mac(0), 1500, 0), PLAIN);
            bench.device.arrives(&frame(mac(0), HOST, 1500, 0));
        }
        bench.run();
        let sent = std::mem::take(&mut bench.device.sent).len();
        (sent, bench.branes[b].frames(0).len())
    };
    assert_eq!(spend(&mut bench, 0), (43, 43));
    bench.unbind(0);
    bench.switch.remove(1).unwrap();
    bench.bind(0, 1, 0);
    assert_eq!(spend(&mut bench, 1), (43, 43));
    // A new vif with the old number and address has no limits, and its counters start at zero.
    bench.call(vif::REMOVE_VIF, VifRef { vif: 0 }.as_bytes());
    let add = AddVif {
        vif: 0,
        mac: mac(0),
        ..AddVif::default()
    };
    bench.add(add, 0, 0);
    assert_eq!(bench.switch.vif_counters(0).unwrap(), Default::default());
    assert!(!bench.switch.timed());
    assert_eq!(spend(&mut bench, 0), (50, 50));
}

#[test]
fn an_unbound_vif_is_no_receiver_of_group_frames() {
    let mut bench = Bench::new();
    let group = |bench: &mut Bench| {
        bench.device.arrives(&frame(MacAddr::BROADCAST, HOST, 60, 1));
        bench.branes[0].send(0, &frame(MacAddr::BROADCAST, mac(0), 60, 2), PLAIN);
        bench.run();
        [1, 2].map(|b| bench.branes[b].frames(0).len())
    };
    assert_eq!(group(&mut bench), [2, 2]);
    bench.unbind(1);
    assert_eq!(group(&mut bench), [0, 2]);
    let unbound = bench.switch.vif_counters(1).unwrap();
    assert_eq!(
        (unbound.rx_frames, unbound.rx_dropped),
        (2, 0),
        "nobody there lost anything"
    );
    // Another vif takes the slot, in a VLAN. It gets no frames without a tag.
    bench.switch.remove(1).unwrap();
    let tagged = AddVif {
        vif: 20,
        mac: mac(20),
        vlan: 7,
        ..AddVif::default()
    };
    bench.add(tagged, 1, 0);
    assert_eq!(group(&mut bench), [0, 2]);
    assert_eq!(bench.switch.vif_counters(20).unwrap(), Default::default());
}

#[test]
fn limits_hold_for_the_first_frame_whether_set_before_the_binding_or_after() {
    let refused = |bench: &mut Bench, b: usize| {
        let mut forged = frame(HOST, mac(0), 60, 0);
        forged[14] = 0x45;
        let before = bench.switch.vif_counters(0).unwrap();
        assert!(bench.branes[b].send(0, &forged, PLAIN));
        bench.run();
        let after = bench.switch.vif_counters(0).unwrap();
        (
            after.tx_bad_ip - before.tx_bad_ip,
            after.tx_frames - before.tx_frames,
        )
    };
    let mut limits = VifLimits {
        vif: 0,
        allowed: 1,
        ..VifLimits::default()
    };
    limits.allow[0].family = 4;
    limits.allow[0].length = 32;
    limits.allow[0].ip[0] = 10;
    // Limits set before the binding, and kept through a move.
    let mut bench = Bench::new();
    bench.unbind(0);
    bench.call(vif::SET_LIMITS, limits.as_bytes());
    bench.bind(0, 0, 0);
    assert_eq!(refused(&mut bench, 0), (1, 0));
    bench.unbind(0);
    bench.switch.remove(1).unwrap();
    bench.bind(0, 1, 0);
    assert_eq!(refused(&mut bench, 1), (1, 0));
    // Limits set after the binding, with the frame already in the ring.
    let mut bench = Bench::new();
    assert_eq!(refused(&mut bench, 0), (0, 1));
    let mut forged = frame(HOST, mac(0), 60, 0);
    forged[14] = 0x45;
    assert!(bench.branes[0].send(0, &forged, PLAIN));
    bench.call(vif::SET_LIMITS, limits.as_bytes());
    bench.run();
    assert_eq!(bench.switch.vif_counters(0).unwrap().tx_bad_ip, 1);
    assert_eq!(refused(&mut bench, 0), (1, 0));
}

#[test]
fn the_mode_changes_for_the_next_frame() {
    let mut bench = Bench::new();
    let sent = |bench: &mut Bench| {
        bench.branes[0].send(0, &frame(mac(1), mac(0), 60, 0), PLAIN);
        bench.run();
        (
            std::mem::take(&mut bench.device.sent).len(),
            bench.branes[1].frames(0).len(),
        )
    };
    assert_eq!(sent(&mut bench), (0, 1));
    for (mode, expected) in [(vif::MODE_PRIVATE, (1, 0)), (vif::MODE_BRIDGE, (0, 1))] {
        bench.call(vif::SET_MODE, SetMode { vif: 1, mode }.as_bytes());
        assert_eq!(sent(&mut bench), expected);
    }
    for (vif, mode, refusal) in [(1, 2, vif::BAD_REQUEST), (9, 0, vif::NO_SUCH_VIF)] {
        assert_eq!(bench.switch.set_mode(SetMode { vif, mode }), Err(refusal));
    }
}

/// A vif in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    mac: MacAddr,
    vlan: u16,
    at: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u32, u8, u16, u32),
    Bind(u32, u32, u32),
    Unbind(u32),
    Remove(u32),
    Limit(u32, u64),
    Mode(u32, u32),
    /// A frame from the wire to this address in this VLAN.
    Frame(u8, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (number, brane, port) = (0u32..8, 0..=BRANES as u32, 0..=PORTS_PER_BRANE as u32);
    let vlan = prop_oneof![4 => Just(0u16), 2 => Just(7u16), 1 => Just(4095u16)];
    let peer = prop_oneof![6 => Just(0u32), 1 => 1u32..9];
    let step = prop_oneof![
        3 => (number.clone(), 0u8..6, vlan, peer).prop_map(|(n, m, v, p)| Step::Add(n, m, v, p)),
        4 => (number.clone(), brane, port).prop_map(|(n, b, p)| Step::Bind(n, b, p)),
        2 => number.clone().prop_map(Step::Unbind),
        2 => number.clone().prop_map(Step::Remove),
        1 => (number.clone(), 0u64..3).prop_map(|(n, r)| Step::Limit(n, r)),
        1 => (number, 0u32..3).prop_map(|(n, m)| Step::Mode(n, m)),
        2 => (0u8..6, prop_oneof![Just(0u16), Just(7)]).prop_map(|(m, v)| Step::Frame(m, v)),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Returns the whole table, read in parts.
fn table(switch: &TestSwitch) -> Vec<vif::VifEntry> {
    let mut all = Vec::new();
    loop {
        let part: VifTable = switch.table(VifTableAt {
            skip: all.len() as u32,
        });
        all.extend(&part.entries[..part.count as usize]);
        if (part.count as usize) < vif::TABLE_PART {
            assert_eq!(part.total as usize, all.len());
            return all;
        }
    }
}

/// Returns the model's answer and changes the model.
fn expected(model: &mut BTreeMap<u32, Model>, step: Step) -> u64 {
    match step {
        Step::Add(n, m, vlan, peer) => {
            if vlan == 4095 || peer == n + 1 || (peer != 0 && vlan != 0) {
                return vif::BAD_REQUEST;
            }
            let mac = mac(m.into());
            if model.contains_key(&n) || model.values().any(|v| (v.vlan, v.mac) == (vlan, mac)) {
                return vif::IN_USE;
            }
            model.insert(n, Model { mac, vlan, at: None });
        }
        Step::Bind(n, b, p) => {
            let taken = model.values().any(|v| v.at == Some((b, p)));
            let Some(entry) = model.get_mut(&n) else {
                return vif::NO_SUCH_VIF;
            };
            if b as usize >= BRANES || p as usize >= PORTS_PER_BRANE {
                return vif::NO_SUCH_PORT;
            }
            if taken || entry.at.is_some() {
                return vif::IN_USE;
            }
            entry.at = Some((b, p));
        }
        Step::Unbind(n) => match model.get_mut(&n) {
            Some(entry) => entry.at = None,
            None => return vif::NO_SUCH_VIF,
        },
        Step::Remove(n) => {
            if model.remove(&n).is_none() {
                return vif::NO_SUCH_VIF;
            }
        }
        Step::Mode(_, mode) if mode > vif::MODE_PRIVATE => return vif::BAD_REQUEST,
        Step::Limit(n, _) | Step::Mode(n, _) => {
            if !model.contains_key(&n) {
                return vif::NO_SUCH_VIF;
            }
        }
        Step::Frame(..) => {}
    }
    vif::OK
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_is_what_the_calls_made_it(steps in steps()) {
        let mut bench = Bench::new();
        for n in 0..BRANES as u32 {
            bench.call(vif::REMOVE_VIF, VifRef { vif: n }.as_bytes());
        }
        let mut model = BTreeMap::new();
        let mut pairs: HashSet<u32> = HashSet::new();
        for step in steps {
            let answer = expected(&mut model, step);
            let (label, request) = match step {
                Step::Add(vif, m, vlan, peer) => {
                    if answer == vif::OK {
                        pairs.remove(&vif);
                        if peer != 0 {
                            pairs.insert(vif);
                        }
                    }
                    let add = AddVif { vif, mode: 0, mac: mac(m.into()), vlan, peer };
                    (vif::ADD_VIF, add.as_bytes().to_vec())
                }
                Step::Bind(vif, brane, port) => {
                    (vif::BIND_VIF, BindVif { vif, brane, port }.as_bytes().to_vec())
                }
                Step::Unbind(vif) => (vif::UNBIND_VIF, VifRef { vif }.as_bytes().to_vec()),
                Step::Remove(vif) => (vif::REMOVE_VIF, VifRef { vif }.as_bytes().to_vec()),
                Step::Limit(vif, rate) => {
                    let limits = VifLimits { vif, rate_up: rate, ..VifLimits::default() };
                    (vif::SET_LIMITS, limits.as_bytes().to_vec())
                }
                Step::Mode(vif, mode) => (vif::SET_MODE, SetMode { vif, mode }.as_bytes().to_vec()),
                Step::Frame(m, vlan) => {
                    for brane in &mut bench.branes {
                        (0..PORTS_PER_BRANE).for_each(|p| drop(brane.frames(p)));
                    }
                    let plain = frame(mac(m.into()), HOST, 60, m);
                    let mut wire = plain.clone();
                    if vlan != 0 {
                        wire.splice(12..12, [0x81, 0, 0, vlan as u8]);
                    }
                    bench.device.arrives(&wire);
                    bench.run();
                    let owner = model.iter().find(|(n, v)| {
                        (v.vlan, v.mac) == (vlan, mac(m.into())) && !pairs.contains(*n)
                    });
                    let owner = owner.and_then(|(_, v)| v.at);
                    for b in 0..BRANES {
                        for p in 0..PORTS_PER_BRANE {
                            let frames = bench.branes[b].frames(p);
                            let its = owner == Some((b as u32, p as u32));
                            prop_assert_eq!(frames, vec![(PLAIN, plain.clone()); usize::from(its)]);
                        }
                    }
                    continue;
                }
            };
            let mut message = [0; 960];
            message[..request.len()].copy_from_slice(&request);
            let (got, _) =
                bench.switch.call(label, request.len(), &mut message, DeviceInfo::default(), &mut bench.device);
            bench.switch.flush();
            prop_assert_eq!(got, answer, "{:?}", step);
            // The info records agree with the table, and the table agrees with the model.
            let rows = table(&bench.switch);
            prop_assert_eq!(rows.len(), model.len());
            let mut ports = HashSet::new();
            for row in rows {
                let v = &model[&row.vif];
                let at = row.brane.checked_sub(1).map(|b| (u32::from(b), u32::from(row.port)));
                prop_assert_eq!(Model { mac: row.mac, vlan: row.vlan, at }, *v);
                prop_assert!(at.is_none_or(|at| ports.insert(at)), "a port with two vifs");
            }
            for b in 0..BRANES {
                for p in 0..PORTS_PER_BRANE {
                    bench.branes[b].frames(p);
                    let at = Some((b as u32, p as u32));
                    let owner = model.values().find(|v| v.at == at);
                    let info = bench.branes[b].ports[p].info.unwrap_or_default();
                    prop_assert_eq!(info.bound, u32::from(owner.is_some()));
                    prop_assert_eq!(info.mac, owner.map_or(MacAddr([0; 6]), |v| v.mac));
                }
            }
            if matches!(step, Step::Add(..)) && answer == vif::OK {
                let vif = match step { Step::Add(n, ..) => n, _ => 0 };
                prop_assert_eq!(bench.switch.vif_counters(vif).unwrap(), Default::default());
            }
        }
    }
}
