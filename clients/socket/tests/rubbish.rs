//! A brane that writes rubbish. The client never panics or hangs, and continues after the brane's restart.

mod common;

use brane_abi::layout::sock;
use brane_abi::socket::*;
use brane_socket::{ListenOptions, NetClient, RingSizes, TcpListener, UdpSocket};
use common::*;
use proptest::prelude::*;

/// One action of a faulty brane.
#[derive(Clone, Debug)]
enum Act {
    /// An event with any words and any payload.
    Event {
        kind: u32,
        slot: u32,
        generation: u32,
        payload: Vec<u8>,
    },
    /// Any bytes over the indices (control or a slot's) or over a piece of the rings.
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    /// Any doorbell bits.
    Ring(u64),
    /// An answer to the next request, a correct one or one of the wrong kind.
    Answer {
        kind: u32,
        close: bool,
    },
    /// Another identity.
    Identify {
        generation: u32,
        ready: bool,
    },
    Run,
}

fn act() -> impl Strategy<Value = Act> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        Just(vec![0; size_of::<Endpoints>()]),
        Just(vec![1, 0, 0, 0]),
        prop::collection::vec(any::<u8>(), size_of::<Identity>()),
    ];
    let event = (
        prop_oneof![0u32..10, any::<u32>()],
        prop_oneof![0u32..64, any::<u32>()],
        0u32..4,
        payload,
    )
        .prop_map(|(kind, slot, generation, payload)| Act::Event {
            kind,
            slot,
            generation,
            payload,
        });
    let at = prop_oneof![
        // The brane's half of the link header only. If this side's half is overwritten, the link is lost until this side
        // restarts.
        0usize..16,
        sock::REQUEST_INDICES..sock::REQUEST_INDICES + 0x100,
        sock::rx_indices(0)..sock::rx_indices(8),
        sock::EVENTS.offset..sock::EVENTS.offset + 0x400,
        sock::DATA.offset..sock::DATA.offset + 0x8000,
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..=48),
        any::<u32>().prop_map(|word| (word & 0xffff_fff0).to_le_bytes().to_vec()),
    ];
    prop_oneof![
        4 => event,
        2 => (at, bytes).prop_map(|(at, bytes)| Act::Write { at, bytes }),
        1 => any::<u64>().prop_map(Act::Ring),
        4 => (0u32..9, any::<bool>()).prop_map(|(kind, close)| Act::Answer { kind, close }),
        1 => (0u32..3, any::<bool>()).prop_map(|(generation, ready)| Act::Identify { generation, ready }),
        4 => Just(Act::Run),
    ]
}

/// Uses UDP and TCP sockets, repeatedly.
async fn client(net: NetClient) {
    loop {
        let serial = net.serial();
        net.ready().await;
        let any = |port| core::net::SocketAddr::from(([0; 4], port));
        let udp = async {
            let mut socket = UdpSocket::bind(&net, any(7), RingSizes { rx: 4096, tx: 2048 }).await?;
            loop {
                socket.exchange(8, |i, o| o.echo(i)).await?;
            }
            #[allow(unreachable_code)]
            Ok::<_, brane_socket::Error>(())
        };
        let tcp = async {
            let listener = TcpListener::bind(&net, any(7), ListenOptions::default()).await?;
            loop {
                let mut stream = listener.accept().await?;
                stream.write_all(&[1; 100]).await?;
                while stream.echo().await? != 0 {}
                stream.shutdown()?;
            }
            #[allow(unreachable_code)]
            Ok::<_, brane_socket::Error>(())
        };
        let _ = udp.await;
        let _ = tcp.await;
        let _ = net.changed(serial).await;
        if net.is_ready() {
            net.sleep(1000).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rubbish_never_harms(acts in prop::collection::vec(act(), 1..120)) {
        let mut bench = Bench::new();
        bench.executor.spawn(client(bench.net.clone())).detach();
        for act in acts {
            match act {
                Act::Event { kind, slot, generation, payload } => {
                    // The ring may be full while the client does not run.
                    let _ = bench.peer.events.push(&[&payload], [kind, slot, generation]);
                    bench.peer.events.publish();
                    let _ = bench.peer.link.peer_bell().ring(CONTROL_BIT);
                }
                Act::Write { at, bytes } => bench.memory.write(at, &bytes),
                Act::Ring(bits) => {
                    let _ = bench.peer.link.peer_bell().ring(bits);
                }
                Act::Answer { kind, close } => {
                    if let Some(request) = bench.peer.try_request() {
                        let _ = bench.peer.events.push(
                            &[&[0u8; size_of::<Endpoints>()]], [kind, request.slot as u32, request.generation]);
                        if close {
                            let _ = bench.peer.events.push(
                                &[], [event::CLOSED, request.slot as u32, request.generation]);
                        }
                        bench.peer.events.publish();
                        let _ = bench.peer.link.peer_bell().ring(CONTROL_BIT | 1 << (request.slot & 31));
                    }
                }
                Act::Identify { generation, ready } => {
                    let identity = Identity { generation, ready: ready.into(), ..Identity::default() };
                    let _ = bench.peer.events.push(
                        &[zerocopy::IntoBytes::as_bytes(&identity)], [event::IDENTITY, 0, 0]);
                    bench.peer.events.publish();
                    let _ = bench.peer.link.peer_bell().ring(CONTROL_BIT);
                }
                Act::Run => {
                    bench.world.now.set(bench.world.now.get() + 1000);
                    bench.run();
                }
            }
        }
        bench.run();

        // An honest brane takes over: the client finds it and opens its sockets again. After rubbish over the brane's epoch, the
        // first start may look like the earlier incarnation, so another start may be needed.
        for _ in 0..3 {
            bench.peer = Peer::start(bench.memory.region());
            bench.run();
            if bench.peer.poll_link() {
                bench.run();
                bench.peer.identify(77, true);
                bench.run();
            }
            if bench.net.is_ready() {
                break;
            }
        }
        bench.world.now.set(bench.world.now.get() + 10_000);
        bench.run();
        prop_assert!(bench.net.is_ready());
        let requests: Vec<Request> = std::iter::from_fn(|| bench.peer.request()).collect();
        prop_assert!(requests.iter().any(|r| r.kind == request::UDP_BIND), "{:?}", requests);
    }
}
