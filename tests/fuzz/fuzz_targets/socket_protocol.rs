//! Fuzz target: a hostile client at a brane's socket region. The input decides on the client's writes and their
//! places, and on the times at which the brane runs. Checks that the brane does not panic, that its work ends,
//! and that no state of the client remains after the client restarts.
#![no_main]

#[path = "../../../net-server/core/tests/common/mod.rs"]
mod common;

use brane_abi::control::BraneConfig;
use brane_abi::layout::{ctl, ports, sock};
use brane_abi::shared::SharedRegion;
use common::{MS, SECOND, memory};
use libfuzzer_sys::fuzz_target;
use net_server_core::Brane;
use test_pds_core::client::HostileClient;

const STEPS: usize = 128;

thread_local! {
    static REGIONS: [SharedRegion; 3] = [memory(ports::SIZE), memory(ctl::SIZE), memory(sock::SIZE)];
}

fuzz_target!(|input: &[u8]| {
    let [ports, control, client] = REGIONS.with(|regions| *regions);
    let mut now = SECOND;
    let mut brane =
        Brane::start([1; 32], now, &[ports], control, &[client]).expect("regions of the right size");
    let config = BraneConfig {
        name: "fuzzed".into(),
        ..BraneConfig::default()
    };
    brane.configure(now, config).expect("a sound configuration");
    let mut hostile = HostileClient::new(client, 1);
    hostile.start_over();
    brane.turn(now, |_| {});
    hostile.connect();
    brane.turn(now, |_| {});
    let mut rest = input;
    for _ in 0..STEPS {
        let [what, low, high, tail @ ..] = rest else { break };
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        rest = tail;
        match what % 8 {
            // Writes up to 16 bytes anywhere in the part that the brane reads.
            0..=4 => {
                let n = rest.len().min(1 + usize::from(what >> 4));
                let (bytes, after) = rest.split_at(n);
                rest = after;
                // SAFETY: the write ends below 64 KiB + 16, and the region is larger. The brane treats its
                // content as written by a peer.
                unsafe { client.base().add(at).copy_from(bytes.as_ptr(), n) };
            }
            5 => {
                hostile.round();
            }
            6 => {
                hostile.start_over();
                brane.turn(now, |_| {});
                hostile.connect();
            }
            _ => {}
        }
        now += MS;
        brane.turn(now, |_| {});
    }
    hostile.start_over();
    for _ in 0..4 {
        brane.turn(now, |_| {});
        hostile.connect();
    }
    assert!(brane.stack.tcp.listeners.is_empty() && brane.stack.tcp.conns.is_empty());
});
