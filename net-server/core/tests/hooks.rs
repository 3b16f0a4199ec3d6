//! External hooks on the way of real traffic between two branes: each verdict in both directions, deadlines, a full queue, lies,
//! and what is left when a filter restarts. The filter's end is driven over the real rings.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::control::{command, report};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::hook::{FLAG_CHECKSUM_OFFLOADED, Head, HookConfig, HookStatus, NAME, Verdict};
use brane_abi::layout;
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;
use brane_socket::{Error, RingSizes, TcpStream, UdpSocket};
use common::*;
use net_server_core::pfil::external::{MISSES, PACKETS};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

const SIZES: RingSizes = RingSizes { rx: 65536, tx: 65536 };
const BOTH: [&str; 2] = ["10.0.2.2:7", "[fec0::2]:7"];

/// A packet that the filter has got.
#[derive(Clone, Debug)]
struct Seen {
    head: Head,
    flags: u8,
    interface: String,
    token: u32,
    len: u32,
    bytes: Vec<u8>,
}

/// Reaction of the filter to a packet.
type Reaction = Box<dyn FnMut(&Seen) -> Option<(Verdict, Vec<u8>)>>;

/// A filter's end of one brane.
struct Filter {
    region: SharedRegion,
    endpoint: Endpoint<RingPair>,
    seen: Vec<Seen>,
    react: Reaction,
}

impl Filter {
    fn start(region: SharedRegion) -> Filter {
        let rings = layout::hook::filter_rings(region).unwrap();
        Filter {
            region,
            endpoint: Endpoint::start(region, Side::B, rings).unwrap(),
            seen: Vec::new(),
            react: Box::new(|_| Some((Verdict::Pass, Vec::new()))),
        }
    }

    fn restart(&mut self) {
        let react = std::mem::replace(&mut self.react, Box::new(|_| None));
        *self = Filter {
            react,
            ..Filter::start(self.region)
        };
    }

    fn send(&mut self, verdict: u32, token: u32, bytes: &[u8]) {
        let tx = &mut self.endpoint.rings.tx;
        tx.push(&[bytes], [verdict, token, 0]).unwrap();
        tx.publish();
        let _ = self.endpoint.flush(1);
    }

    /// Reads all packets and answers them.
    fn run(&mut self) -> bool {
        let _ = self.endpoint.wake();
        if self.endpoint.poll() == LinkEvent::PeerRestarted {
            self.endpoint.accept();
        }
        let _ = self.endpoint.poll();
        let mut any = false;
        while self.endpoint.is_up() {
            let taken = self.endpoint.rings.rx.take(|record| {
                let mut bytes = vec![0; record.len()];
                record.copy_to(&mut bytes);
                (record.meta, bytes)
            });
            let Some(([word, token, len], bytes)) = taken.expect("the brane keeps the rules") else {
                break;
            };
            any = true;
            let name = bytes[..NAME].iter().take_while(|b| **b != 0).copied().collect();
            let seen = Seen {
                head: Head::from_number(word as u8).unwrap(),
                flags: (word >> 8) as u8,
                interface: String::from_utf8(name).unwrap(),
                token,
                len,
                bytes: bytes[NAME..].to_vec(),
            };
            if let Some((verdict, bytes)) = (self.react)(&seen) {
                self.send(verdict.number(), token, &bytes);
            }
            self.seen.push(seen);
        }
        self.endpoint.rings.rx.release();
        any
    }
}

/// A pair of branes. The brane `b` has a filter, which runs whenever the wire is looked at.
struct Hooked {
    pair: Pair,
    filter: Rc<RefCell<Filter>>,
}

fn hook(heads: &[Head]) -> HookConfig {
    HookConfig {
        filter: 0,
        name: "test".into(),
        rank: 100,
        heads: heads.to_vec(),
        headers: None,
        deadline_ms: 50,
        fail_open: false,
    }
}

/// Gives a host a filter's region. Returns the filter.
fn with_filter(host: Host) -> (Host, Filter) {
    let region = memory(layout::hook::SIZE);
    (host.with_filters(&[region]), Filter::start(region))
}

impl Hooked {
    fn new(features: u32, config: HookConfig) -> Hooked {
        let a = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), features);
        let b = Host::new(interface(2, &["10.0.2.2/24", "fec0::2/64"]), features);
        let (mut b, filter) = with_filter(b);
        b.config.hooks = vec![config];
        let mut hooked = Hooked {
            pair: Pair {
                a,
                b,
                wire: Box::new(|frame| vec![frame.clone()]),
                carried: 0,
            },
            filter: Rc::new(RefCell::new(filter)),
        };
        hooked.run(SECOND / 100);
        echo::serve(&mut hooked.pair.b, 4);
        hooked.run(SECOND / 100);
        hooked
    }

    fn run(&mut self, time: u64) {
        let end = self.pair.a.now() + time;
        while self.pair.a.now() < end {
            self.filter.borrow_mut().run();
            self.pair.run(MS);
        }
    }

    fn react(&self, react: impl FnMut(&Seen) -> Option<(Verdict, Vec<u8>)> + 'static) {
        self.filter.borrow_mut().react = Box::new(react);
    }

    fn always(&self, verdict: Verdict) {
        self.react(move |_| Some((verdict, Vec::new())));
    }

    /// `a` sends numbered datagrams to the echo service of `b`. Returns the answers.
    fn echoes(&mut self, to: &str, count: u8, len: usize) -> Vec<Vec<u8>> {
        let (stack, to) = (self.pair.a.stack.clone(), to.parse().unwrap());
        let answers: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let seen = answers.clone();
        let task = self.pair.a.spawn(async move {
            stack.ready().await;
            let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES)
                .await
                .unwrap();
            for n in 0..count {
                socket.send_to(&vec![n; len], to).await.unwrap();
            }
            let mut buffer = vec![0; 2048];
            loop {
                if let Ok((len, ..)) = socket.recv_from(&mut buffer).await {
                    seen.borrow_mut().push(buffer[..len].to_vec());
                }
            }
        });
        self.run(300 * MS);
        drop(task);
        answers.take()
    }

    fn connect(&mut self, to: &str) -> Result<(), Error> {
        let (stack, to) = (self.pair.a.stack.clone(), to.parse().unwrap());
        let task = self.pair.a.spawn(async move {
            stack.ready().await;
            let mut stream = TcpStream::connect(&stack, to, SIZES).await?;
            stream.write_all(b"hello").await?;
            let mut got = [0; 5];
            let mut n = 0;
            while n < 5 {
                n += stream.read(&mut got[n..]).await?;
            }
            Ok(())
        });
        let end = self.pair.a.now() + 20 * SECOND;
        while task.borrow().is_none() && self.pair.a.now() < end {
            self.run(MS);
        }
        task.take().expect("a result in time")
    }

    fn status(&mut self) -> HookStatus {
        let statuses = self.pair.b.status().hooks;
        assert_eq!(statuses.len(), 1);
        statuses[0].clone()
    }

    fn numbers(answers: &[Vec<u8>]) -> Vec<u8> {
        answers.iter().map(|bytes| bytes[0]).collect()
    }
}

#[test]
fn a_filter_that_passes_everything_changes_nothing_and_sees_each_packet_once() {
    let mut hooked = Hooked::new(0, hook(&Head::ALL));
    for to in BOTH {
        assert_eq!(
            Hooked::numbers(&hooked.echoes(to, 5, 40)),
            [0, 1, 2, 3, 4],
            "{to}"
        );
        hooked.connect(to).unwrap();
    }
    let udp: Vec<(Head, u32)> = {
        let filter = hooked.filter.borrow();
        let udp = filter.seen.iter().filter(|seen| seen.bytes.len() == 68);
        udp.map(|seen| (seen.head, seen.len)).collect()
    };
    let mut expected = [(Head::InetIn, 68); 5].to_vec();
    expected.extend([(Head::InetOut, 68); 5]);
    let of = |wanted: Head| udp.iter().filter(|(head, _)| *head == wanted).count();
    assert_eq!(
        (of(Head::InetIn), of(Head::InetOut)),
        (5, 5),
        "{udp:?} {expected:?}"
    );
    assert!(
        hooked
            .filter
            .borrow()
            .seen
            .iter()
            .all(|seen| seen.interface == "net0")
    );
    // The ends of the connections may be under way.
    hooked.run(SECOND);
    let status = hooked.status();
    assert_eq!(status.state, "attached");
    assert_eq!((status.missed, status.full, status.detached), (0, 0, 0));
    assert_eq!(status.packets, status.verdicts);
}

#[test]
fn drop_and_absorb_end_a_packet_in_each_direction() {
    for verdict in [Verdict::Drop, Verdict::Absorb] {
        for heads in [[Head::InetIn, Head::Inet6In], [Head::InetOut, Head::Inet6Out]] {
            let mut hooked = Hooked::new(0, hook(&heads));
            hooked.always(verdict);
            for to in BOTH {
                assert!(hooked.echoes(to, 3, 40).is_empty(), "{verdict:?} {heads:?} {to}");
            }
            let seen = hooked.filter.borrow().seen.len() as u64;
            assert!(seen >= 6);
            let (dropped_in, dropped_out) = (
                hooked.pair.b.counter("filter dropped in"),
                hooked.pair.b.counter("filter dropped out"),
            );
            let dropped = if verdict == Verdict::Drop { seen } else { 0 };
            assert_eq!(dropped_in + dropped_out, dropped);
            hooked.always(Verdict::Pass);
            for to in BOTH {
                assert_eq!(hooked.echoes(to, 3, 40).len(), 3);
            }
        }
    }
}

#[test]
fn a_rejected_connection_is_refused_in_each_direction() {
    for head in [Head::InetIn, Head::InetOut] {
        let mut hooked = Hooked::new(0, hook(&[head]));
        hooked.always(Verdict::Reject);
        let outcome = hooked.connect("10.0.2.2:7");
        if head == Head::InetIn {
            assert!(outcome.is_err());
        } else {
            // The answer of `b` to the first segment is rejected, so `b` forgets the connection.
            assert!(outcome.is_err());
            assert!(hooked.pair.b.counter("filter dropped out") > 0);
        }
        hooked.connect("[fec0::2]:7").unwrap();
    }
}

/// Replaces the last byte of the payload, and the time to live of an IPv4 packet, which its header's checksum covers.
fn stamp(packet: &[u8]) -> Vec<u8> {
    let mut new = packet.to_vec();
    if new[0] >> 4 == 4 {
        new[8] = 33;
    }
    *new.last_mut().unwrap() = 0xee;
    new
}

#[test]
fn a_modified_packet_goes_on_with_right_checksums_in_each_direction() {
    use brane_abi::port;
    for features in [0, port::FEATURE_TX_CSUM] {
        for (head, to) in [
            (Head::InetIn, BOTH[0]),
            (Head::InetOut, BOTH[0]),
            (Head::Inet6In, BOTH[1]),
            (Head::Inet6Out, BOTH[1]),
        ] {
            let mut hooked = Hooked::new(features, hook(&[head]));
            hooked.react(|seen| match seen.bytes.len() {
                68 | 88 => Some((Verdict::Modify, stamp(&seen.bytes))),
                _ => Some((Verdict::Pass, Vec::new())),
            });
            let answers = hooked.echoes(to, 2, 40);
            assert_eq!(Hooked::numbers(&answers), [0, 1], "{features} {head:?}");
            assert!(
                answers.iter().all(|bytes| bytes[39] == 0xee),
                "{features} {head:?}"
            );
            assert_eq!(hooked.pair.a.counter("bad checksum"), 0);
            assert_eq!(hooked.status().state, "attached");
        }
    }
}

#[test]
fn a_packet_with_a_wrong_checksum_is_still_dropped_behind_the_hook() {
    let mut hooked = Hooked::new(0, hook(&[Head::InetIn]));
    hooked.pair.wire = Box::new(|(frame, meta)| {
        let mut frame = frame.clone();
        if frame.len() == 14 + 68 && frame[13] == 0 {
            frame[14 + 67] ^= 1;
        }
        vec![(frame, *meta)]
    });
    assert!(hooked.echoes(BOTH[0], 2, 40).is_empty());
    assert_eq!(hooked.filter.borrow().seen.len(), 2);
    assert_eq!(hooked.pair.b.counter("bad checksum"), 2);
}

#[test]
fn a_filter_that_asks_for_headers_gets_no_more_and_the_length() {
    let mut config = hook(&[Head::InetIn]);
    config.headers = Some(28);
    let mut hooked = Hooked::new(0, config);
    assert_eq!(hooked.echoes(BOTH[0], 2, 400).len(), 2);
    let filter = hooked.filter.borrow();
    assert!(
        filter
            .seen
            .iter()
            .all(|seen| seen.bytes.len() == 28 && seen.len == 428)
    );
    assert!(
        filter
            .seen
            .iter()
            .all(|seen| seen.flags & FLAG_CHECKSUM_OFFLOADED == 0)
    );
}

#[test]
fn without_a_verdict_the_fail_mode_decides_at_the_deadline() {
    for fail_open in [true, false] {
        let mut config = hook(&[Head::InetIn]);
        config.fail_open = fail_open;
        let mut hooked = Hooked::new(0, config);
        hooked.react(|_| None);
        let answers = hooked.echoes(BOTH[0], 3, 40);
        assert_eq!(answers.len(), if fail_open { 3 } else { 0 });
        let status = hooked.status();
        assert_eq!(
            (status.packets, status.missed, status.state.as_str()),
            (3, 3, "attached")
        );
        // Verdicts for packets that are gone are no lies.
        for token in 0..3 {
            hooked
                .filter
                .borrow_mut()
                .send(Verdict::Pass.number(), token, &[]);
        }
        hooked.run(MS);
        assert_eq!(hooked.status().state, "attached");
    }
}

#[test]
fn a_filter_that_hangs_is_detached_and_attached_when_it_has_restarted() {
    for fail_open in [true, false] {
        let mut config = hook(&[Head::InetIn]);
        config.fail_open = fail_open;
        let mut hooked = Hooked::new(0, config);
        hooked.react(|_| None);
        hooked.echoes(BOTH[0], MISSES as u8, 40);
        let status = hooked.status();
        assert_eq!((status.state.as_str(), status.detached), ("late too often", 1));
        let before = hooked.filter.borrow().seen.len();
        assert_eq!(hooked.echoes(BOTH[0], 3, 40).len(), if fail_open { 3 } else { 0 });
        assert_eq!(hooked.filter.borrow().seen.len(), before, "it gets no more");
        assert_eq!(hooked.status().unattended, 3);
        hooked.filter.borrow_mut().restart();
        hooked.always(Verdict::Pass);
        hooked.run(10 * MS);
        assert_eq!(hooked.status().state, "attached");
        assert_eq!(hooked.echoes(BOTH[0], 3, 40).len(), 3);
        assert_eq!(hooked.filter.borrow().seen.len(), 3);
    }
}

#[test]
fn a_full_queue_costs_the_excess_and_nothing_else() {
    let mut config = hook(&[Head::InetIn]);
    config.deadline_ms = 1000;
    let mut hooked = Hooked::new(0, config);
    hooked.react(|_| None);
    for _ in 0..3 {
        hooked.echoes(BOTH[0], 100, 40);
    }
    // All came within one deadline.
    let status = hooked.status();
    assert_eq!((status.packets, status.full), (300, 300 - PACKETS as u64));
    let tokens: Vec<u32> = hooked
        .filter
        .borrow()
        .seen
        .iter()
        .map(|seen| seen.token)
        .collect();
    assert_eq!(tokens, (0..PACKETS as u32).collect::<Vec<_>>());
}

#[test]
fn packets_go_on_in_their_order_whatever_the_order_of_the_verdicts() {
    let mut hooked = Hooked::new(0, hook(&[Head::InetIn]));
    hooked.react(|_| None);
    let (stack, to) = (hooked.pair.a.stack.clone(), BOTH[0].parse().unwrap());
    let answers: Rc<RefCell<Vec<u8>>> = Rc::default();
    let seen = answers.clone();
    let _task = hooked.pair.a.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES)
            .await
            .unwrap();
        for n in 0..6 {
            socket.send_to(&[n; 40], to).await.unwrap();
        }
        let mut buffer = vec![0; 2048];
        loop {
            if socket.recv_from(&mut buffer).await.is_ok() {
                seen.borrow_mut().push(buffer[0]);
            }
        }
    });
    hooked.run(10 * MS);
    for token in [5, 3, 1, 4] {
        hooked
            .filter
            .borrow_mut()
            .send(Verdict::Pass.number(), token, &[]);
    }
    hooked.run(10 * MS);
    assert!(answers.borrow().is_empty(), "they wait for the first");
    hooked.filter.borrow_mut().send(Verdict::Drop.number(), 2, &[]);
    hooked.filter.borrow_mut().send(Verdict::Pass.number(), 0, &[]);
    hooked.run(10 * MS);
    assert_eq!(*answers.borrow(), [0, 1, 3, 4, 5]);
}

#[test]
fn a_filter_that_lies_is_detached_and_its_fail_mode_holds() {
    type Lie = (&'static str, fn(&mut Filter, &Seen));
    let lies: [Lie; 7] = [
        ("verdict for no packet", |filter, seen| {
            filter.send(1, seen.token.wrapping_add(1000), &[]);
        }),
        ("unknown verdict", |filter, seen| filter.send(99, seen.token, &[])),
        ("verdict with bytes", |filter, seen| {
            filter.send(1, seen.token, b"more")
        }),
        ("two verdicts for one packet", |filter, seen| {
            // The one before it has no verdict, so that this one waits.
            filter.send(1, seen.token, &[]);
            filter.send(1, seen.token, &[]);
        }),
        ("modified with wrong headers", |filter, seen| {
            filter.send(4, seen.token, &seen.bytes[1..]);
        }),
        ("modified with wrong headers", |filter, seen| {
            filter.send(4, seen.token, &[])
        }),
        ("impossible index in its ring", |filter, seen| {
            filter.send(1, seen.token, &[]);
            // The index is behind the position that the brane has read.
            filter.endpoint.rings.tx.reset();
            filter.endpoint.rings.tx.push(&[], [1, seen.token, 0]).unwrap();
        }),
    ];
    for (what, lie) in lies {
        let mut config = hook(&[Head::InetIn]);
        config.fail_open = true;
        config.deadline_ms = 1000;
        let mut hooked = Hooked::new(0, config);
        // One honest verdict, so that the ring has an index to lie about.
        assert_eq!(hooked.echoes(BOTH[0], 1, 40).len(), 1);
        hooked.react(|_| None);
        hooked.echoes(BOTH[0], 2, 40);
        let last = hooked.filter.borrow().seen.last().unwrap().clone();
        lie(&mut hooked.filter.borrow_mut(), &last);
        hooked.run(10 * MS);
        let status = hooked.status();
        assert_eq!((status.state.as_str(), status.detached), (what, 1));
        assert_eq!(hooked.echoes(BOTH[0], 3, 40).len(), 3, "{what}");
    }
}

#[test]
fn a_modified_packet_of_the_brane_keeps_its_addresses() {
    let mut config = hook(&[Head::InetOut]);
    config.fail_open = true;
    let mut hooked = Hooked::new(0, config);
    hooked.react(|seen| {
        let mut bytes = seen.bytes.clone();
        bytes[15] = 77;
        Some((Verdict::Modify, bytes))
    });
    hooked.echoes(BOTH[0], 1, 40);
    let state = hooked.status().state;
    assert_eq!(state, "modified with other addresses");
}

#[test]
fn the_filter_and_an_external_hook_run_in_the_order_of_their_ranks() {
    for (rank, seen) in [(499, 3), (501, 0)] {
        let mut config = hook(&[Head::InetIn]);
        config.rank = rank;
        let mut hooked = Hooked::new(0, config);
        let now = hooked.pair.b.now();
        let rules = vec![branes_pfil::parse("drop in proto udp to port 7").unwrap()];
        hooked.pair.b.brane.replace_filter(now, rules).unwrap();
        assert!(hooked.echoes(BOTH[0], 3, 40).is_empty());
        assert_eq!(hooked.filter.borrow().seen.len(), seen, "rank {rank}");
        assert_eq!(hooked.pair.b.counter("filter dropped in"), 3);
    }
}

#[test]
fn hooks_change_by_command_and_a_bad_list_changes_nothing() {
    let mut hooked = Hooked::new(0, hook(&[Head::InetIn]));
    let now = hooked.pair.b.now();
    let wrong = HookConfig {
        filter: 1,
        ..hook(&[Head::InetIn])
    };
    assert!(hooked.pair.b.brane.replace_hooks(now, vec![wrong]).is_err());
    let named = HookConfig {
        name: "filter".into(),
        ..hook(&[Head::InetIn])
    };
    assert!(hooked.pair.b.brane.replace_hooks(now, vec![named]).is_err());
    hooked.always(Verdict::Drop);
    assert!(hooked.echoes(BOTH[0], 2, 40).is_empty());
    while hooked.pair.b.manager.report().is_some() {}
    let none = minicbor::to_vec(Vec::<HookConfig>::new()).unwrap();
    hooked.pair.b.manager.command(command::HOOKS, 9, &none);
    hooked.pair.b.settle();
    let done = std::iter::from_fn(|| hooked.pair.b.manager.report()).find(|(kind, ..)| *kind == report::DONE);
    assert_eq!(done.map(|(_, token, _)| token), Some(9));
    assert!(hooked.pair.b.brane.stack.pfil.is_none());
    assert_eq!(hooked.echoes(BOTH[0], 2, 40).len(), 2);
    assert!(hooked.pair.b.status().hooks.is_empty());
}

#[test]
fn a_hook_that_is_gone_leaves_what_waits_to_its_fail_mode() {
    let mut config = hook(&[Head::InetIn]);
    config.fail_open = true;
    config.deadline_ms = 1000;
    let mut hooked = Hooked::new(0, config);
    hooked.react(|_| None);
    let before = hooked.pair.b.counter("udp received");
    hooked.echoes(BOTH[0], 4, 40);
    assert_eq!(hooked.pair.b.counter("udp received"), before, "they wait");
    let now = hooked.pair.b.now();
    hooked.pair.b.brane.replace_hooks(now, Vec::new()).unwrap();
    hooked.run(MS);
    assert_eq!(hooked.pair.b.counter("udp received"), before + 4);
}

/// Reaction of a filter of the model to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reacts {
    With(Verdict),
    Never,
}

fn reacts() -> impl Strategy<Value = Reacts> {
    prop_oneof![
        4 => Just(Reacts::With(Verdict::Pass)),
        1 => Just(Reacts::With(Verdict::Drop)),
        1 => Just(Reacts::With(Verdict::Absorb)),
        1 => Just(Reacts::With(Verdict::Modify)),
        1 => Just(Reacts::Never),
    ]
}

/// A hook of the model: its rank, its fail mode, and its reaction to each datagram.
type Hook = (u16, bool, [Reacts; 6]);

/// Returns the numbers that each hook sees and those that pass all, by definition.
fn model(hooks: &[Hook], rule: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut order: Vec<usize> = (0..hooks.len()).collect();
    order.sort_by_key(|&n| hooks[n].0);
    let (mut seen, mut passed) = (vec![Vec::new(); hooks.len()], Vec::new());
    for number in 0..6u8 {
        let goes_on = |n: usize| match hooks[n].2[usize::from(number)] {
            Reacts::With(Verdict::Pass | Verdict::Modify) => true,
            Reacts::With(_) => false,
            Reacts::Never => hooks[n].1,
        };
        let mut alive = true;
        let mut ruled = !rule;
        for &n in &order {
            if hooks[n].0 >= 500 && !ruled {
                ruled = true;
                alive = false;
            }
            if alive {
                seen[n].push(number);
                alive = goes_on(n);
            }
        }
        if alive && ruled {
            passed.push(number);
        }
    }
    (seen, passed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_chain_of_random_hooks_does_what_the_model_says(
        hooks in prop::collection::vec((0u16..1000, any::<bool>(), [reacts(), reacts(), reacts(), reacts(), reacts(), reacts()]), 1..4),
        rule in any::<bool>(),
    ) {
        let regions: Vec<SharedRegion> = hooks.iter().map(|_| memory(layout::hook::SIZE)).collect();
        let a = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
        let mut b = Host::new(interface(2, &["10.0.2.2/24", "fec0::2/64"]), 0).with_filters(&regions);
        let configs = hooks.iter().zip(0..).map(|((rank, fail_open, _), filter)| HookConfig {
            filter,
            name: format!("hook{filter}"),
            rank: *rank,
            fail_open: *fail_open,
            ..hook(&[Head::InetIn])
        });
        b.config.hooks = configs.collect();
        if rule {
            b.config.filter = vec![branes_pfil::parse("drop in proto udp to port 7").unwrap()];
        }
        let seen: Rc<RefCell<Vec<Vec<u8>>>> = Rc::new(RefCell::new(vec![Vec::new(); hooks.len()]));
        let mut filters: Vec<Filter> = regions.iter().map(|region| Filter::start(*region)).collect();
        for (n, filter) in filters.iter_mut().enumerate() {
            let (reactions, seen) = (hooks[n].2, seen.clone());
            filter.react = Box::new(move |packet| {
                let number = packet.bytes[28];
                seen.borrow_mut()[n].push(number);
                match reactions[usize::from(number)] {
                    Reacts::With(Verdict::Modify) => Some((Verdict::Modify, packet.bytes.clone())),
                    Reacts::With(verdict) => Some((verdict, Vec::new())),
                    Reacts::Never => None,
                }
            });
        }
        let mut pair = Pair { a, b, wire: Box::new(|frame| vec![frame.clone()]), carried: 0 };
        let mut run = |pair: &mut Pair, ms: u64| {
            for _ in 0..ms {
                for filter in &mut filters {
                    filter.run();
                }
                pair.run(MS);
            }
        };
        run(&mut pair, 10);
        echo::serve(&mut pair.b, 4);
        run(&mut pair, 10);
        let stack = pair.a.stack.clone();
        let answers: Rc<RefCell<Vec<u8>>> = Rc::default();
        let list = answers.clone();
        let _task = pair.a.spawn(async move {
            stack.ready().await;
            let mut socket = UdpSocket::bind(&stack, "[::]:0".parse().unwrap(), SIZES).await.unwrap();
            for n in 0..6 {
                socket.send_to(&[n; 40], "10.0.2.2:7".parse().unwrap()).await.unwrap();
            }
            let mut buffer = [0; 64];
            loop {
                if socket.recv_from(&mut buffer).await.is_ok() {
                    list.borrow_mut().push(buffer[0]);
                }
            }
        });
        run(&mut pair, 400);
        let (expected, passed) = model(&hooks, rule);
        prop_assert_eq!(seen.take(), expected);
        prop_assert_eq!(answers.take(), passed);
    }
}
