//! VLANs: tagged frames reach only vifs of their VLAN, frames of such vifs leave with a tag, and no brane can send a
//! tag itself.

mod common;

use brane_abi::net::MacAddr;
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_TCPV4};
use brane_abi::vif::{self, AddVif, MODE_BRIDGE};
use common::{BRANES, Bench, HOST, PLAIN, frame, mac, offloaded};
use proptest::prelude::*;

const RED: u16 = 7;
const BLUE: u16 = 4094;

/// Returns the frame with a tag of `tci`.
fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    with_tag(frame, [0x81, 0], tci)
}

fn with_tag(frame: &[u8], kind: [u8; 2], tci: u16) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    out.extend(kind);
    out.extend(tci.to_be_bytes());
    out.extend(&frame[12..]);
    out
}

fn add(vif: u32, address: MacAddr, vlan: u16) -> AddVif {
    AddVif {
        vif,
        mode: MODE_BRIDGE,
        mac: address,
        vlan,
        peer: 0,
    }
}

/// Creates untagged vifs 0 to 3 at the ports 0. The vifs at the ports 1 are in RED for branes 0 and 1, and in BLUE for
/// branes 2 and 3, both with the addresses 10 and 11.
fn bench() -> Bench {
    let mut bench = Bench::new();
    for (n, (address, vlan)) in [(10, RED), (11, RED), (10, BLUE), (11, BLUE)]
        .into_iter()
        .enumerate()
    {
        bench.add(add(10 + n as u32, mac(address), vlan), n, 1);
    }
    for brane in &mut bench.branes {
        assert!(brane.frames(1).is_empty());
        assert_eq!(brane.ports[1].info.unwrap().mtu, 1500);
    }
    bench
}

/// Returns the frames at port `p` of each brane.
fn got(bench: &mut Bench, p: usize) -> Vec<Vec<(FrameMeta, Vec<u8>)>> {
    bench.branes.iter_mut().map(|b| b.frames(p)).collect()
}

fn counts(bench: &mut Bench) -> [Vec<usize>; 2] {
    [0, 1].map(|p| got(bench, p).iter().map(Vec::len).collect())
}

#[test]
fn a_tagged_frame_goes_to_the_address_in_its_vlan_without_the_tag() {
    let mut bench = bench();
    let plain = frame(mac(10), HOST, 80, 7);
    // Priority and eligibility bits make no difference.
    bench.device.arrives(&tagged(&plain, RED));
    bench.device.arrives(&tagged(&plain, 0xf000 | BLUE));
    bench.run();
    let frames = got(&mut bench, 1);
    assert_eq!(frames[0], vec![(PLAIN, plain.clone())]);
    assert_eq!(frames[2], vec![(PLAIN, plain)]);
    assert!(frames[1].is_empty() && frames[3].is_empty());
    let c = bench.switch.vif_counters(10).unwrap();
    assert_eq!((c.rx_frames, c.rx_bytes), (1, 80));
}

#[test]
fn neither_sees_the_others_frames() {
    let mut bench = bench();
    let unclaimed = [
        // The address of a tagged vif in a frame without a tag, and the reverse.
        frame(mac(10), HOST, 60, 0),
        tagged(&frame(mac(0), HOST, 60, 0), RED),
        // A VLAN without vifs, the reserved number, a provider's tag, a tag inside a tag, and a priority tag before a
        // tag.
        tagged(&frame(mac(10), HOST, 60, 0), 8),
        tagged(&frame(MacAddr::BROADCAST, HOST, 60, 0), 4095),
        with_tag(&frame(mac(0), HOST, 60, 0), [0x88, 0xa8], 0),
        with_tag(&frame(MacAddr::BROADCAST, HOST, 60, 0), [0x88, 0xa8], RED),
        tagged(&tagged(&frame(mac(10), HOST, 60, 0), 3), RED),
        tagged(&tagged(&frame(mac(10), HOST, 60, 0), RED), 0),
    ];
    for frame in &unclaimed {
        bench.device.arrives(frame);
    }
    bench.run();
    assert_eq!(counts(&mut bench), [[0; BRANES], [0; BRANES]]);
    // Group frames without a bound receiver are not counted, so those of a VLAN without vifs are not.
    assert_eq!(bench.switch.counters().rx_unclaimed, unclaimed.len() as u64 - 1);
}

#[test]
fn a_priority_tag_counts_as_none() {
    let mut bench = bench();
    let (plain, all) = (frame(mac(1), HOST, 60, 1), frame(MacAddr::BROADCAST, HOST, 60, 2));
    bench.device.arrives(&tagged(&plain, 0xe000));
    bench.device.arrives(&tagged(&all, 0));
    bench.run();
    let frames = got(&mut bench, 0);
    assert_eq!(frames[1], vec![(PLAIN, plain), (PLAIN, all.clone())]);
    assert_eq!(frames[3], vec![(PLAIN, all)]);
    assert_eq!(counts(&mut bench)[1], [0; BRANES]);
}

#[test]
fn group_frames_stay_in_their_vlan() {
    let mut bench = bench();
    bench.device.arrives(&frame(MacAddr::BROADCAST, HOST, 60, 0));
    bench.run();
    assert_eq!(counts(&mut bench), [[1; BRANES], [0; BRANES]]);
    bench
        .device
        .arrives(&tagged(&frame(MacAddr::BROADCAST, HOST, 60, 0), RED));
    // A frame that the network returns is not delivered to its sender, but to the vif with this address in another
    // VLAN.
    bench
        .device
        .arrives(&tagged(&frame(MacAddr::BROADCAST, mac(10), 60, 0), BLUE));
    bench.run();
    assert_eq!(counts(&mut bench), [vec![0; BRANES], vec![1, 1, 0, 1]]);
    // A brane's frame goes to the wire with the tag, and to the other bridged vif.
    let sent = frame(MacAddr::BROADCAST, mac(10), 60, 3);
    bench.branes[0].send(1, &sent, PLAIN);
    bench.run();
    assert_eq!(bench.device.sent, vec![(PLAIN, tagged(&sent, RED))]);
    assert_eq!(counts(&mut bench), [vec![0; BRANES], vec![0, 1, 0, 0]]);
}

#[test]
fn the_switch_between_branes_stays_inside_a_vlan() {
    let mut bench = bench();
    let direct = frame(mac(11), mac(10), 100, 1);
    bench.branes[0].send(1, &direct, PLAIN);
    bench.run();
    assert_eq!(got(&mut bench, 1)[1], vec![(PLAIN, direct)]);
    assert!(bench.device.sent.is_empty(), "not to the wire");
    // An untagged frame to the address of a tagged vif, and the reverse: both go to the wire only.
    let (up, down) = (frame(mac(10), mac(3), 60, 2), frame(mac(3), mac(10), 60, 3));
    bench.branes[3].send(0, &up, PLAIN);
    bench.branes[2].send(1, &down, PLAIN);
    bench.run();
    assert_eq!(counts(&mut bench), [[0; BRANES], [0; BRANES]]);
    let mut sent: Vec<_> = bench.device.sent.iter().map(|(_, f)| f.clone()).collect();
    sent.sort_by_key(Vec::len);
    assert_eq!(sent, vec![up, tagged(&down, BLUE)]);
}

#[test]
fn offloads_account_for_the_tag() {
    let mut bench = bench();
    // A frame with a checksum to complete, and a frame to be segmented.
    let (short, csum) = offloaded(HOST, mac(10), 1514, 17, 0);
    let mut long = frame(HOST, mac(10), 9000, 0);
    long[14] = 0x45;
    long[16..18].copy_from_slice(&8986u16.to_be_bytes());
    long[23] = 6;
    long[20] = 0x40;
    long[21] = 0;
    long[46] = 0x50;
    let gso = FrameMeta {
        gso_type: GSO_TCPV4,
        csum_offset: 16,
        gso_size: 1460,
        header_len: 54,
        ..csum
    };
    bench.branes[0].send(1, &short, csum);
    bench.branes[0].send(1, &long, gso);
    bench.branes[0].send(1, &frame(HOST, mac(10), 1515, 0), PLAIN);
    bench.run();
    let shifted = |meta: FrameMeta, header_len| FrameMeta {
        csum_start: 38,
        header_len,
        ..meta
    };
    assert_eq!(
        bench.device.sent,
        vec![
            (shifted(csum, 0), tagged(&short, RED)),
            (shifted(gso, 58), tagged(&long, RED))
        ]
    );
    assert_eq!(
        bench.switch.vif_counters(10).unwrap().tx_malformed,
        1,
        "the MTU is the same"
    );
    // The reverse direction.
    let arrives = |bench: &mut Bench, meta, f: &[u8]| {
        let parts = vec![f[..100].to_vec(), f[100..].to_vec()];
        bench.device.received.push_back((meta, parts));
    };
    let (short, mut back) = (frame(mac(10), HOST, 1514, 0), long);
    back[..6].copy_from_slice(&mac(10).0);
    arrives(&mut bench, shifted(csum, 0), &tagged(&short, RED));
    arrives(&mut bench, shifted(gso, 58), &tagged(&back, RED));
    // A checksum that would start inside the tag.
    let inside = FrameMeta {
        csum_start: 17,
        ..csum
    };
    arrives(&mut bench, inside, &tagged(&short, RED));
    bench.run();
    assert_eq!(got(&mut bench, 1)[0], vec![(csum, short), (gso, back)]);
    assert_eq!(bench.switch.counters().rx_malformed, 1);
}

#[test]
fn a_brane_sends_no_tag_of_its_own() {
    let mut bench = bench();
    for kind in [[0x81, 0x00], [0x88, 0xa8]] {
        for to in [HOST, mac(11), mac(1), MacAddr::BROADCAST] {
            bench.branes[0].send(1, &with_tag(&frame(to, mac(10), 60, 0), kind, BLUE), PLAIN);
            bench.branes[0].send(0, &with_tag(&frame(to, mac(0), 60, 0), kind, RED), PLAIN);
        }
    }
    bench.run();
    assert!(bench.device.sent.is_empty());
    assert_eq!(counts(&mut bench), [[0; BRANES], [0; BRANES]]);
    for vif in [0, 10] {
        let c = bench.switch.vif_counters(vif).unwrap();
        assert_eq!((c.tx_bad_type, c.tx_frames), (8, 0));
    }
    // The source is checked here too.
    bench.branes[0].send(1, &frame(HOST, mac(0), 60, 0), PLAIN);
    bench.run();
    assert_eq!(bench.switch.vif_counters(10).unwrap().tx_spoofed, 1);
}

#[test]
fn an_address_once_in_a_vlan_and_numbers_that_are_none() {
    let mut bench = bench();
    for (request, answer) in [
        (add(20, mac(10), RED), Err(vif::IN_USE)),
        (add(20, mac(10), 4095), Err(vif::BAD_REQUEST)),
        (add(20, mac(10), u16::MAX), Err(vif::BAD_REQUEST)),
        (add(20, mac(10), 5), Ok(())),
        (add(21, mac(10), 0), Ok(())),
        (add(22, mac(10), 0), Err(vif::IN_USE)),
    ] {
        assert_eq!(bench.switch.add(request), answer, "{request:?}");
    }
}

proptest! {
    /// Checks that a frame with any tag and in any parts reaches only vifs in its VLAN, and is complete.
    #[test]
    fn any_tag_and_any_parts(
        tci: u16, kind in prop_oneof![Just([0x81u8, 0]), any::<[u8; 2]>()], to in 0usize..14, len in 14usize..200,
        cut in 14usize..230, csum_start in 0u16..230, group: bool,
    ) {
        let mut bench = bench();
        let address = if group { MacAddr::BROADCAST } else { mac(to) };
        let plain = frame(address, HOST, len, 1);
        let whole = with_tag(&plain, kind, tci);
        let cut = cut.min(whole.len());
        let meta = FrameMeta { flags: FLAG_NEEDS_CSUM, csum_start, ..PLAIN };
        bench.device.received.push_back((meta, vec![whole[..cut].to_vec(), whole[cut..].to_vec()]));
        bench.run();
        let is_tag = kind == [0x81, 0];
        let vlan = tci & 0xfff;
        for p in [0, 1] {
            for (n, frames) in got(&mut bench, p).into_iter().enumerate() {
                let its_vlan = [0, if n < 2 { RED } else { BLUE }][p];
                for (meta, bytes) in frames {
                    if is_tag {
                        prop_assert_eq!(its_vlan, vlan);
                        prop_assert_eq!(&bytes, &plain);
                        prop_assert_eq!(meta.csum_start + 4, csum_start);
                        prop_assert!(meta.csum_start >= 14);
                    } else {
                        prop_assert_eq!(p, 0);
                        prop_assert_eq!(&bytes, &whole);
                    }
                }
            }
        }
    }
}
