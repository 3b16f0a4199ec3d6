//! Fuzz target: a brane on a hostile network. The input is a list of frames, each preceded by its length and
//! flags. Checks that the brane does not panic, sends only from its own MAC address, and finishes its work.
#![no_main]

#[path = "../../../net-server/core/tests/common/mod.rs"]
mod common;

use brane_abi::port::FrameMeta;
use common::{Host, MS, interface};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

const FRAMES: usize = 64;
const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

thread_local! {
    /// One brane for many inputs, so that an input meets the state that earlier inputs left. It is restarted
    /// from time to time to bound that state.
    static HOST: RefCell<(u32, Host)> = RefCell::new((0, host()));
}

fn host() -> Host {
    let mut config = interface(1, &["10.0.2.1/24", "fec0::1/64"]);
    (config.dhcp4, config.slaac) = (true, true);
    let mut host = Host::new(config, 0);
    (0..3).for_each(|_| host.settle());
    host
}

fuzz_target!(|input: &[u8]| {
    HOST.with_borrow_mut(|(runs, host)| {
        *runs += 1;
        // Restarts the link between driver and brane too, as after a crash.
        if runs.is_multiple_of(1000) {
            host.restart();
            (0..3).for_each(|_| host.settle());
        }
        let mut rest = input;
        for _ in 0..FRAMES {
            let [low, high, flags, tail @ ..] = rest else {
                break;
            };
            let len = usize::from(u16::from_le_bytes([*low, *high])) % 2048;
            let (bytes, after) = tail.split_at(len.min(tail.len()));
            rest = after;
            // Most frames are addressed to the brane, so that the fuzzer does not have to find its address.
            let mut frame = bytes.to_vec();
            if flags & 0x80 == 0
                && let Some(dst) = frame.first_chunk_mut::<6>()
            {
                *dst = MAC;
            }
            let meta = FrameMeta {
                flags: flags & 3,
                ..FrameMeta::default()
            };
            host.driver.give(0, &(frame, meta));
            host.settle();
            host.clock.0.set(host.now() + u64::from(flags >> 2) * MS);
        }
        host.driver.sent(0);
        // Connections are allowed, but no more than the maximum.
        assert!(host.brane.stack.tcp.conns.len() <= net_server_core::transport::tcp::CONNECTIONS);
    });
});
