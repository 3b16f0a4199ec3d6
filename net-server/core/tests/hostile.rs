//! A client that lies in every way, beside one that does not: the liar is cut off and counted, the other goes on.

mod common;

use brane_abi::control::BraneConfig;
use brane_abi::layout::{ctl, ports, sock};
use brane_abi::shared::SharedRegion;
use brane_socket::{Executor, NetClient, RingSizes, UdpSocket};
use common::*;
use net_server_core::Brane;
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use test_pds_core::client::HostileClient;

/// A brane with two clients: the second is honest and talks to itself over lo0 without end.
struct Two {
    brane: Brane,
    bad: SharedRegion,
    stack: NetClient,
    executor: Executor,
    clock: Clock,
    echoed: Rc<Cell<u64>>,
}

impl Two {
    fn new() -> Two {
        let [bad, good] = [memory(sock::SIZE), memory(sock::SIZE)];
        let clock = Clock(Rc::new(Cell::new(SECOND)));
        let mut brane = Brane::start(
            [7; 32],
            SECOND,
            &[memory(ports::SIZE)],
            memory(ctl::SIZE),
            &[bad, good],
        )
        .unwrap();
        let config = BraneConfig {
            name: "two".into(),
            ..BraneConfig::default()
        };
        brane.configure(SECOND, config).unwrap();
        let stack = NetClient::start(good, Box::new(clock.clone())).unwrap();
        let executor = Executor::new();
        let echoed = Rc::new(Cell::new(0));
        let (client, count) = (stack.clone(), echoed.clone());
        executor
            .spawn(async move {
                client.ready().await;
                let sizes = RingSizes { rx: 4096, tx: 4096 };
                let mut a = UdpSocket::bind(&client, "[::]:40000".parse().unwrap(), sizes)
                    .await
                    .unwrap();
                let mut out = [0; 16];
                loop {
                    a.send_to(b"still here", "127.0.0.1:40000".parse().unwrap())
                        .await
                        .unwrap();
                    let (n, _, _) = a.recv_from(&mut out).await.unwrap();
                    assert_eq!(&out[..n], b"still here");
                    count.set(count.get() + 1);
                }
            })
            .detach();
        let mut two = Two {
            brane,
            bad,
            stack,
            executor,
            clock,
            echoed,
        };
        two.run(10);
        two
    }

    fn run(&mut self, turns: u64) {
        for _ in 0..turns {
            self.brane.turn(self.clock.0.get(), |_| {});
            self.stack.process();
            for _ in 0..4 {
                self.executor.try_tick();
            }
            self.stack.flush();
            self.clock.0.set(self.clock.0.get() + MS);
        }
    }

    fn goes_on(&mut self) {
        let before = self.echoed.get();
        self.run(20);
        assert!(
            self.echoed.get() > before,
            "the honest client got nothing any more"
        );
    }
}

#[test]
fn every_breach_of_the_protocol_is_survived_and_counted() {
    let mut two = Two::new();
    let mut hostile = HostileClient::new(two.bad, 20);
    for round in 0..800 {
        hostile.start_over();
        for _ in 0..8 {
            two.run(1);
            if hostile.connect() {
                break;
            }
        }
        hostile.round();
        two.run(5);
        if round % 20 == 0 {
            two.goes_on();
        }
    }
    two.goes_on();
    assert!(
        two.brane.stack.net.counters.client_errors > 100,
        "{:?}",
        two.brane.stack.net.counters
    );
    assert!(two.brane.stack.net.counters.client_bad_requests > 1000);
    hostile.start_over();
    two.run(5);
    assert_eq!(
        two.brane.stack.tcp.conns.len(),
        0,
        "its connections are gone with it"
    );
    assert_eq!(two.brane.stack.tcp.listeners.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes anywhere in the region at any time, with the link up or not.
    #[test]
    fn random_bytes_in_the_region_do_no_harm(
        seed in any::<u64>(),
        writes in prop::collection::vec((0usize..0x1_2000, prop::collection::vec(any::<u8>(), 1..64)), 1..60),
    ) {
        let mut two = Two::new();
        let mut hostile = HostileClient::new(two.bad, seed);
        hostile.start_over();
        two.run(2);
        hostile.connect();
        two.run(2);
        for (at, bytes) in writes {
            // SAFETY: the range ends far below the region's; the brane takes it for what a peer may write at any time.
            unsafe { two.bad.base().add(at).copy_from(bytes.as_ptr(), bytes.len()) };
            hostile.round();
            two.run(2);
            hostile.connect();
        }
        two.goes_on();
    }
}
