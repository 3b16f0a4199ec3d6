//! Branes that always have frames to send get equal shares of the device in bytes, whatever the sizes of the frames.

mod common;

use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_TCPV4, MAX_FRAME};
use common::{BRANES, Bench, HOST, frame, mac};
use nic_switch::QUANTUM;
use proptest::prelude::*;

/// Returns a frame of `len` bytes from vif `n`. If it is longer than the MTU, its meta asks the device for
/// segmentation.
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

/// Keeps each brane's ring full of frames of its size, while the device has room for `room` frames in each of `wakes`
/// wakes. Fails if two shares ever differ by more than a turn and a frame.
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

    /// Checks shares for any sizes. With so little room no ring runs empty within a wake, and only a brane with frames
    /// has a claim to a share.
    #[test]
    fn no_sizes_and_no_room_change_the_shares(
        sizes in proptest::array::uniform4(prop_oneof![64usize..=1514, 2000usize..=MAX_FRAME]), room in 1usize..=16,
    ) {
        shares(sizes, room, 100)?;
    }
}
