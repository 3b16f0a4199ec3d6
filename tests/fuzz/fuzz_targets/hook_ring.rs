//! Fuzz target: a hostile filter at a brane's hook region, while packets pass. The input decides on the verdicts, on writes anywhere in
//! the region, on packets and on times. Checks that the brane does not panic, that a packet without a verdict does not wait for ever, and
//! that the brane works again when the filter restarts.
#![no_main]

#[path = "../../../net-server/core/tests/common/mod.rs"]
mod common;

use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::hook::{Head, HookConfig, NAME};
use brane_abi::layout::{ctl, hook, ports, sock};
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;
use common::{Host, MS, interface, memory};
use libfuzzer_sys::fuzz_target;

const STEPS: usize = 96;

thread_local! {
    static REGIONS: [SharedRegion; 4] = [memory(ports::SIZE), memory(ctl::SIZE), memory(sock::SIZE), memory(hook::SIZE)];
}

/// Options of the address sanitizer. A test's host has a client, whose executor is never freed, because that of a protection domain
/// exists forever.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const core::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}

fn start(region: SharedRegion) -> Endpoint<RingPair> {
    let rings = hook::filter_rings(region).expect("a region of the right size");
    Endpoint::start(region, Side::B, rings).expect("a region of the right size")
}

/// Handles the link. Returns true if the rings may be used.
fn poll(end: &mut Endpoint<RingPair>) -> bool {
    let _ = end.wake();
    if end.poll() == LinkEvent::PeerRestarted {
        end.accept();
    }
    let _ = end.poll();
    end.is_up()
}

/// An ICMP echo request of a neighbour to the brane.
fn ping(number: u8) -> Vec<u8> {
    let mut frame = vec![2, 0x77, 0, 0, 0, 1, 2, 0x99, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 2, 200, 10, 0, 2, 1]);
    frame.extend([8, 0, 0, 0, 0, 7, 0, number, 1, 2, 3, 4, 5, 6, 7, 8]);
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let total: u32 = words.sum();
        !(((total & 0xffff) + (total >> 16)) as u16)
    };
    let header = sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    let message = sum(&frame[34..]);
    frame[36..38].copy_from_slice(&message.to_be_bytes());
    frame
}

fuzz_target!(|input: &[u8]| {
    let [ports, control, client, region] = REGIONS.with(|regions| *regions);
    let mut host = Host::over([ports, control, client], interface(1, &["10.0.2.1/24"]), 0).with_filters(&[region]);
    host.config.hooks = vec![HookConfig {
        name: "fuzzed".into(),
        rank: 100,
        heads: Head::ALL.to_vec(),
        deadline_ms: 5,
        fail_open: true,
        ..HookConfig::default()
    }];
    let mut end = start(region);
    host.settle();
    poll(&mut end);
    host.settle();
    let mut rest = input;
    let mut last = [0u32; 3];
    for step in 0..STEPS {
        let [what, low, high, tail @ ..] = rest else { break };
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        rest = tail;
        let up = poll(&mut end);
        match what % 8 {
            // A verdict on the packet that was read last, or on one near it.
            0..=2 if up => {
                let n = rest.len().min(usize::from(what >> 4) * 4);
                let (bytes, after) = rest.split_at(n);
                rest = after;
                let token = last[1].wrapping_add(u32::from(*high % 4)).wrapping_sub(u32::from(*high / 64));
                let _ = end.rings.tx.push(&[bytes], [u32::from(*low % 7), token, 0]);
                end.rings.tx.publish();
                let _ = end.flush(1);
            }
            // The last packet, with other bytes.
            3 if up => {
                let packet = end.rings.rx.take(|record| {
                    let mut bytes = vec![0; record.len()];
                    record.copy_to(&mut bytes);
                    (record.meta, bytes)
                });
                if let Ok(Some((meta, mut bytes))) = packet {
                    last = meta;
                    let len = bytes.len();
                    if let Some(byte) = bytes.get_mut(NAME + at % len.saturating_sub(NAME).max(1)) {
                        *byte ^= what >> 3;
                    }
                    let _ = end.rings.tx.push(&[&bytes[NAME.min(len)..]], [4, meta[1], 0]);
                    end.rings.tx.publish();
                    let _ = end.flush(1);
                }
            }
            // Writes up to 16 bytes behind the link header.
            4 => {
                let n = rest.len().min(1 + usize::from(what >> 4));
                let (bytes, after) = rest.split_at(n);
                rest = after;
                let at = 0x1000 + at % (hook::SIZE - 0x1000 - 16);
                // SAFETY: the write ends inside the region. The brane treats its content as written by a peer.
                unsafe { region.base().add(at).copy_from(bytes.as_ptr(), n) };
                let _ = end.flush(1);
            }
            5 if *low < 64 => end = start(region),
            6 => host.clock.0.set(host.now() + u64::from(*low) * MS),
            _ => {}
        }
        host.driver.give(0, &(ping(step as u8), Default::default()));
        host.settle();
        host.driver.sent(0);
    }
    // Everything that waits goes on at its deadline.
    host.clock.0.set(host.now() + 10 * MS);
    host.settle();
    let waiting = host.brane.stack.externals.0[0].borrow().deadline();
    assert_eq!(waiting, u64::MAX, "a packet still waits");
    // A restarted filter is attached again.
    end = start(region);
    for _ in 0..4 {
        poll(&mut end);
        host.settle();
    }
    let states = host.brane.stack.hook_statuses();
    assert_eq!(states[0].state, "attached");
});
