//! Counts the client's own instructions for one UDP echo. This program simulates the brane:
//!
//! ```text
//! cargo build --release -p services-core --example udp_echo_cost
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*one_wake*' \
//!     target/release/examples/udp_echo_cost 1        # datagrams for each wake: 1 is idle, 64 is under load
//! ```
//!
//! It prints the number of echoes. Divide the number that callgrind collected by it.

#[path = "../../../socket/tests/common/mod.rs"]
mod common;

use brane_abi::socket::*;
use common::*;
use services_core::Services;
use zerocopy::IntoBytes;

const ECHOES: usize = 64_000;

/// Runs the client from one sleep to the next.
#[inline(never)]
fn one_wake(bench: &Bench) {
    bench.run();
}

fn main() {
    let batch: usize = std::env::args()
        .nth(1)
        .map_or(1, |n| n.parse().expect("a number of datagrams"));
    let mut bench = Bench::new();
    let services = Services::new(bench.net.clone(), bench.executor, |_| ());
    bench.executor.spawn(services.run()).detach();
    bench.run();
    let mut echo = None;
    while let Some(request) = bench.peer.request() {
        match request.kind {
            request::TCP_LISTEN => bench.peer.answer(&request, event::BOUND, &Endpoints::default()),
            request::UDP_BIND => {
                let open: Open = request.parse();
                if open.local.port == 7 {
                    echo = Some((request.slot, bench.peer.datagrams(request.slot, open.rings)));
                }
                bench.peer.answer(&request, event::BOUND, &Endpoints::default());
            }
            _ => {}
        }
        bench.run();
    }
    let (slot, (mut tx, mut rx)) = echo.expect("a UDP socket on port 7");
    let header = DatagramHeader {
        remote: v4([10, 0, 2, 2], 1000),
        local: v4([10, 0, 2, 16], 7),
    };
    let mut echoes = 0;
    while echoes < ECHOES {
        for _ in 0..batch {
            tx.push(&[header.as_bytes(), &[7; 64]], [0; 3]).expect("room");
        }
        tx.publish();
        bench.peer.ring(slot);
        let _ = bench.peer.link.own_bell().take();
        let _ = bench.peer.link.own_bell().arm();
        one_wake(&bench);
        while rx.take(|_| ()).expect("a ring in order").is_some() {
            echoes += 1;
        }
        rx.release();
    }
    println!("{echoes} echoes, {batch} for each wake");
}
