//! Who always has something to send gets the same share of the device in bytes, whatever the sizes of the frames.

mod common;

use brane_abi::net::MacAddr;
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_TCPV4, MAX_FRAME};
use common::{BRANES, Bench, frame, mac};
use nic_switch::QUANTUM;
use proptest::prelude::*;

const HOST: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);

/// A frame of `len` bytes by vif `n`; beyond the MTU, one that the device is to cut.
fn of_length(n: usize, len: usize) -> (Vec<u8>, FrameMeta) {
    let mut f = frame(HOST, mac(n), len, 0);
    if len <= 1514 {
        return (f, FrameMeta::default());
    }
    f[14] = 0x45;
    f[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    f[20..22].copy_from_slice(&[0x40, 0]);
    f[23] = 6;
    f[46] = 0x50;
    let meta = FrameMeta {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        csum_start: 34,
        csum_offset: 16,
        gso_size: 1400,
        header_len: 54,
        ..FrameMeta::default()
    };
    (f, meta)
}

/// Each brane's ring is kept full of frames of its size while the device takes `room` frames in each of `wakes` wakes;
/// fails when two shares are ever further apart than a turn and a frame.
fn shares(sizes: [usize; BRANES], room: usize, wakes: usize) -> Result<[usize; BRANES], TestCaseError> {
    let mut bench = Bench::new();
    let frames: [_; BRANES] = std::array::from_fn(|n| of_length(n, sizes[n]));
    let mut sent = [0; BRANES];
    for _ in 0..wakes {
        for (brane, (f, meta)) in bench.branes.iter_mut().zip(&frames) {
            while brane.send(0, f, *meta) {}
        }
        bench.device.room = room;
        bench.run();
        for (_, f) in bench.device.sent.drain(..) {
            sent[usize::from(f[11])] += f.len();
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            prop_assert!(most - least <= QUANTUM + MAX_FRAME, "{sent:?}");
        }
    }
    Ok(sent)
}

#[test]
fn small_frames_get_as_many_bytes_as_large_ones() {
    let sent = shares([64, 1514, MAX_FRAME, 9000], 24, 2000).unwrap();
    let least = *sent.iter().min().unwrap();
    assert!(least > 5 * QUANTUM, "{sent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// With no more room than that, no ring runs empty within a wake: who has nothing to send has no claim to a share.
    #[test]
    fn no_sizes_and_no_room_change_the_shares(
        sizes in proptest::array::uniform4(prop_oneof![64usize..=1514, 2000usize..=MAX_FRAME]), room in 1usize..=16,
    ) {
        shares(sizes, room, 100)?;
    }
}
