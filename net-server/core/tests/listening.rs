//! Listeners against hosts that want to close them to others: half-open connections, held ones, and numbers that can be guessed.

mod common;
#[path = "common/peer.rs"]
mod peer;

use brane_abi::port::FrameMeta;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream};
use common::*;
use peer::*;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

const BIG: ListenOptions = ListenOptions {
    rings: RingSizes { rx: 1024, tx: 1024 },
    backlog: 8,
    rx_buffer: 256 << 10,
    tx_buffer: 4 << 10,
};

const SMALL: ListenOptions = ListenOptions {
    rings: RingSizes { rx: 1024, tx: 1024 },
    backlog: 8,
    rx_buffer: 4 << 10,
    tx_buffer: 4 << 10,
};

/// A brane with listeners that echo, each with so many slots at a time.
fn host(listeners: &[(u16, ListenOptions, usize)]) -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), 0);
    host.settle();
    for (port, options, slots) in listeners {
        let (port, options, slots) = (*port, *options, *slots);
        let (stack, executor) = (host.stack.clone(), host.executor);
        host.spawn(async move {
            stack.ready().await;
            let address = format!("[::]:{port}").parse().unwrap();
            let listener = Rc::new(TcpListener::bind(&stack, address, options).await.unwrap());
            for _ in 0..slots {
                let listener = listener.clone();
                executor
                    .spawn(async move {
                        while let Ok(stream) = listener.accept().await {
                            echo(stream).await;
                        }
                    })
                    .detach();
            }
            std::future::pending::<()>().await;
        });
    }
    settle(&mut host);
    host.driver.sent(0);
    host
}

async fn echo(mut stream: TcpStream) {
    while let Ok(n) = stream.echo().await {
        if n == 0 {
            return;
        }
    }
}

fn settle(host: &mut Host) {
    for _ in 0..3 {
        host.settle();
    }
}

fn wait(host: &mut Host, time: u64) {
    let end = host.now() + time;
    while host.now() < end {
        host.clock.0.set(host.now() + 10 * MS);
        host.settle();
    }
}

/// Frames of the brane in answer to these.
fn give(host: &mut Host, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for frame in frames {
        host.driver.give(0, &(frame.clone(), FrameMeta::default()));
    }
    settle(host);
    host.driver.sent(0).into_iter().map(|(frame, _)| frame).collect()
}

/// The one SYN-ACK in answer to the peer's SYN.
fn syn_ack(host: &mut Host, peer: &Peer, port: u16) -> Segment {
    let sent = give(host, &[peer.syn(port)]);
    let answers: Vec<_> = sent.iter().filter_map(|frame| peer.read(frame)).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        (answers[0].flags, answers[0].ack),
        (SYN | ACK, peer.isn.wrapping_add(1))
    );
    answers[0].clone()
}

/// The whole handshake; what the brane sends next.
fn open(host: &mut Host, peer: &Peer, port: u16) -> (u32, Vec<Segment>) {
    let seq = syn_ack(host, peer, port).seq.wrapping_add(1);
    let sent = give(host, &[peer.segment(port, ACK, 1, seq, b"")]);
    (seq, sent.iter().filter_map(|frame| peer.read(frame)).collect())
}

/// Whether the brane sends back what the peer sends on its connection. `ack` is what the peer expects next.
fn echoes(host: &mut Host, peer: &Peer, port: u16, ack: u32) -> bool {
    let sent = give(host, &[peer.arp(), peer.segment(port, ACK, 1, ack, b"hello")]);
    let mut heard = sent.iter().filter_map(|frame| peer.read(frame));
    heard.any(|segment| segment.data == b"hello" && segment.flags & RST == 0)
}

#[test]
fn twenty_one_half_open_connections_do_not_block_the_brane() {
    let mut host = host(&[(9, BIG, 2), (80, SMALL, 2)]);
    for n in 0..60 {
        syn_ack(&mut host, &Peer::new(20 + n % 3, 1000 + u16::from(n)), 9);
    }
    assert_eq!(
        (host.counter("tcp connections"), host.counter("tcp buffer bytes")),
        (0, 0),
        "a SYN has cost buffers"
    );
    for port in [9, 80] {
        let peer = Peer::new(7, 5000 + port);
        let (seq, sent) = open(&mut host, &peer, port);
        assert!(sent.is_empty(), "{sent:?}");
        assert!(echoes(&mut host, &peer, port, seq), "port {port} is blocked");
    }
    assert_eq!(host.counter("tcp accepted"), 2);
}

#[test]
fn a_flood_of_syns_does_not_close_the_listener() {
    let mut host = host(&[(80, SMALL, 2)]);
    let flood = |host: &mut Host, round: u16| {
        for n in 0..200u16 {
            give(host, &[Peer::new(20 + (n % 200) as u8, round * 200 + n).syn(80)]);
        }
    };
    for round in 1..5 {
        flood(&mut host, round);
    }
    assert_eq!(host.counter("tcp half-open"), 256);
    assert_eq!(host.counter("tcp syn cookies"), 800 - 256);
    assert_eq!(host.counter("tcp connections"), 0);
    // The queue is full: the connection lives of its cookie, and has what its SYN asked for.
    let peer = Peer::new(7, 5000);
    let answer = syn_ack(&mut host, &peer, 80);
    assert_eq!(
        (answer.scale, answer.sack, answer.mss),
        (Some(0), true, Some(1460))
    );
    flood(&mut host, 5);
    let seq = answer.seq.wrapping_add(1);
    give(&mut host, &[peer.segment(80, ACK, 1, seq, b"")]);
    assert!(echoes(&mut host, &peer, 80, seq));
    // A number that nobody gave opens nothing.
    let forger = Peer::new(8, 5000);
    give(&mut host, &[forger.arp()]);
    let sent = give(&mut host, &[forger.segment(80, ACK, 1, 12345, b"")]);
    assert_eq!(forger.read(&sent[0]).map(|s| s.flags & RST), Some(RST));
    assert_eq!(host.counter("tcp accepted"), 1);
}

#[test]
fn data_behind_the_handshakes_acknowledgement_is_taken() {
    let mut host = host(&[(80, SMALL, 2)]);
    let peer = Peer::new(7, 5000);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    let frames = [
        peer.arp(),
        peer.segment(80, ACK, 1, seq, b""),
        peer.segment(80, ACK, 1, seq, b"one"),
        peer.segment(80, ACK, 4, seq, b"two"),
    ];
    let sent = give(&mut host, &frames);
    let data: Vec<u8> = sent
        .iter()
        .filter_map(|f| peer.read(f))
        .flat_map(|s| s.data)
        .collect();
    assert_eq!(data, b"onetwo");
    // In the acknowledgement itself, and with a FIN.
    let peer = Peer::new(7, 5001);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    let sent = give(&mut host, &[peer.segment(80, ACK | FIN, 1, seq, b"all")]);
    let heard: Vec<Segment> = sent.iter().filter_map(|f| peer.read(f)).collect();
    assert!(
        heard.iter().any(|s| s.data == b"all") && heard.iter().any(|s| s.flags & FIN != 0),
        "{heard:?}"
    );
    assert!(
        heard.iter().all(|s| s.ack == peer.isn.wrapping_add(5)),
        "{heard:?}"
    );
}

#[test]
fn a_syn_ack_needs_no_neighbour() {
    let mut host = host(&[(80, SMALL, 2)]);
    for n in 2..200 {
        let peer = Peer::new(n, 77);
        let sent = give(&mut host, &[peer.syn(80)]);
        assert_eq!(sent.len(), 1, "more than the answer was sent");
        assert_eq!(sent[0][..6], peer.mac, "not to the station that asked");
        assert!(peer.read(&sent[0]).is_some_and(|s| s.flags == SYN | ACK));
    }
    // A group is answered nothing.
    let mut frame = Peer::new(7, 77).syn(80);
    frame[..6].copy_from_slice(&[0xff; 6]);
    assert_eq!(give(&mut host, &[frame]), Vec::<Vec<u8>>::new());
}

#[test]
fn a_syn_ack_is_sent_again_and_the_half_open_connection_is_forgotten() {
    let mut host = host(&[(80, SMALL, 2)]);
    let peer = Peer::new(7, 77);
    let first = syn_ack(&mut host, &peer, 80);
    wait(&mut host, 20 * SECOND);
    let again: Vec<_> = host
        .driver
        .sent(0)
        .iter()
        .filter_map(|(f, _)| peer.read(f))
        .collect();
    assert_eq!(again, vec![first; 3]);
    assert_eq!(host.counter("tcp half-open"), 0);
}

#[test]
fn only_a_reset_with_the_exact_number_ends_a_half_open_connection() {
    let mut host = host(&[(80, SMALL, 2)]);
    let peer = Peer::new(7, 77);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    for off in [0, 2, 1000] {
        assert_eq!(
            give(&mut host, &[peer.segment(80, RST, off, 0, b"")]),
            Vec::<Vec<u8>>::new()
        );
        assert_eq!(host.counter("tcp half-open"), 1);
    }
    // Another SYN for the same ports neither takes its place nor answers with its number.
    let other = Peer {
        isn: 99,
        ..Peer::new(7, 77)
    };
    assert_ne!(syn_ack(&mut host, &other, 80).seq.wrapping_add(1), seq);
    assert_eq!(syn_ack(&mut host, &peer, 80).seq.wrapping_add(1), seq);
    give(&mut host, &[peer.segment(80, RST, 1, 0, b"")]);
    assert_eq!(host.counter("tcp half-open"), 0);
}

#[test]
fn connections_are_accepted_in_the_order_in_which_they_stand() {
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    let order = Rc::new(RefCell::new(Vec::new()));
    let (stack, seen) = (host.stack.clone(), order.clone());
    let gate = host.spawn(async move {
        stack.ready().await;
        TcpListener::bind(&stack, "[::]:80".parse().unwrap(), SMALL)
            .await
            .unwrap()
    });
    settle(&mut host);
    let mut waiting = Vec::new();
    for port in 1..=5 {
        let peer = Peer::new(7, port);
        waiting.push((syn_ack(&mut host, &peer, 80).seq.wrapping_add(1), peer));
    }
    for at in [3, 0, 4, 1, 2] {
        let (seq, peer) = &waiting[at];
        give(&mut host, &[peer.segment(80, ACK, 1, *seq, b"")]);
    }
    let listener = gate.borrow_mut().take().unwrap();
    host.spawn(async move {
        let mut streams = Vec::new();
        while let Ok(stream) = listener.accept().await {
            seen.borrow_mut().push(stream.remote_addr().port());
            streams.push(stream);
        }
    });
    settle(&mut host);
    assert_eq!(*order.borrow(), [4, 1, 5, 2, 3]);
}

/// The port that was reset in these frames, if one was.
fn resets(sent: &[Vec<u8>], peers: &[Peer]) -> Vec<u16> {
    let reset = |frame: &Vec<u8>| {
        peers
            .iter()
            .find(|peer| peer.read(frame).is_some_and(|s| s.flags & RST != 0))
            .map(|peer| peer.port)
    };
    sent.iter().filter_map(reset).collect()
}

/// One host opens as many connections as there are slots and holds them; others come. Returns the hog's.
fn hog(host: &mut Host, port: u16, count: u16) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..count).map(|n| Peer::new(66, 1000 + n)).collect();
    give(host, &[peers[0].arp()]);
    for peer in &peers {
        open(host, peer, port);
        host.clock.0.set(host.now() + MS);
    }
    peers
}

#[test]
fn connections_that_are_held_do_not_close_the_port_to_others() {
    let mut host = host(&[(80, SMALL, 4)]);
    // Four in the slots, the rest of them wait.
    hog(&mut host, 80, 10);
    assert_eq!(host.counter("tcp accepted"), 4);
    for n in 0..6 {
        let peer = Peer::new(100 + n, 7);
        let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
        give(&mut host, &[peer.arp(), peer.segment(80, ACK, 1, seq, b"")]);
        for _ in 0..8 {
            settle(&mut host);
        }
        let served = echoes(&mut host, &peer, 80, seq);
        let last = Peer::new(100 + n, 7).segment(80, RST, 6, 0, b"");
        give(&mut host, &[last]);
        assert!(served, "the {n}th other host was not served");
    }
    assert!(host.counter("tcp evicted") >= 1);
}

#[test]
fn the_connection_that_gives_way_is_the_silent_one_of_who_holds_most() {
    let mut host = host(&[(80, SMALL, 4)]);
    let modest = Peer::new(50, 7);
    let (modest_seq, _) = open(&mut host, &modest, 80);
    give(&mut host, &[modest.arp()]);
    let hog = hog(&mut host, 80, 3);
    // All of them speak but the second.
    for peer in [&hog[0], &hog[2]] {
        host.clock.0.set(host.now() + MS);
        give(&mut host, &[peer.segment(80, ACK, 1, 1, b"")]);
    }
    let peer = Peer::new(100, 7);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    let sent = give(&mut host, &[peer.arp(), peer.segment(80, ACK, 1, seq, b"")]);
    assert_eq!(resets(&sent, &hog), [hog[1].port]);
    assert!(echoes(&mut host, &peer, 80, seq) && echoes(&mut host, &modest, 80, modest_seq));
    // Now the hog holds two. Its next one takes nothing from anybody, nor does that of a host that would hold as many.
    let more = Peer::new(66, 2000);
    let (_, sent) = open(&mut host, &more, 80);
    assert!(sent.is_empty(), "{sent:?}");
    assert_eq!(host.counter("tcp evicted"), 1);
    assert_eq!(host.counter("tcp connections"), 5);
}

#[test]
fn a_backlog_full_of_one_hosts_connections_has_room_for_another() {
    let mut host = host(&[(80, SMALL, 0)]);
    let hog = hog(&mut host, 80, 12);
    assert_eq!(host.counter("tcp connections"), 8);
    assert!(host.counter("tcp backlog full") >= 4);
    let evicted = host.counter("tcp evicted");
    assert_eq!(evicted, 0, "a host takes from itself");
    let peer = Peer::new(100, 7);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    let sent = give(&mut host, &[peer.arp(), peer.segment(80, ACK, 1, seq, b"")]);
    // An established connection that nobody has accepted is reset, and it is the oldest.
    assert_eq!(resets(&sent, &hog), [hog[0].port]);
    assert_eq!(
        (host.counter("tcp connections"), host.counter("tcp evicted")),
        (8, 1)
    );
    let waiting = give(&mut host, &[peer.segment(80, ACK, 1, seq, b"")]);
    assert_eq!(resets(&waiting, &[peer]), Vec::<u16>::new());
}

#[test]
fn memory_used_up_by_one_hosts_connections_is_there_for_another() {
    // Three listeners whose connections together want more than all memory.
    let options = ListenOptions { backlog: 12, ..BIG };
    let mut host = host(&[(9, options, 0), (10, options, 0), (80, options, 0)]);
    for port in [9, 10] {
        hog(&mut host, port, 12);
    }
    assert!(host.counter("tcp no memory") > 0, "memory was not used up");
    let before = host.counter("tcp connections");
    let peer = Peer::new(100, 7);
    let (seq, _) = open(&mut host, &peer, 80);
    give(&mut host, &[peer.arp(), peer.segment(80, ACK, 1, seq, b"hi")]);
    host.clock.0.set(host.now() + 20 * MS);
    let heard: Vec<_> = give(&mut host, &[]).iter().filter_map(|f| peer.read(f)).collect();
    assert!(
        heard
            .iter()
            .any(|s| s.flags == ACK && s.ack == peer.isn.wrapping_add(3)),
        "{heard:?}"
    );
    assert!(host.counter("tcp evicted") >= 1 && host.counter("tcp connections") <= before);
}

/// Many hosts hold one connection each, so none holds more than another.
#[test]
fn a_connection_that_is_being_served_is_not_cut_off_by_hosts_that_hold_as_few() {
    let mut host = host(&[(80, SMALL, 4)]);
    let served: Vec<(Peer, u32)> = (0..4u8)
        .map(|n| {
            let peer = Peer::new(20 + n, 7);
            let (seq, _) = open(&mut host, &peer, 80);
            give(&mut host, &[peer.arp()]);
            (peer, seq)
        })
        .collect();
    for n in 0..4 {
        open(&mut host, &Peer::new(100 + n, 7), 80);
        host.clock.0.set(host.now() + 10 * MS);
    }
    assert_eq!(host.counter("tcp evicted"), 0);
    for (peer, seq) in &served {
        assert!(echoes(&mut host, peer, 80, *seq));
    }
    // After its time each gives way to one that would hold as many, so the port does not stay closed.
    host.clock.0.set(host.now() + 300 * MS);
    let peer = Peer::new(200, 7);
    let seq = syn_ack(&mut host, &peer, 80).seq.wrapping_add(1);
    give(&mut host, &[peer.arp(), peer.segment(80, ACK, 1, seq, b"")]);
    assert_ne!(host.counter("tcp evicted"), 0);
}

#[test]
fn no_small_connection_ends_for_the_memory_of_a_large_one_while_a_large_one_can() {
    let options = ListenOptions { backlog: 12, ..BIG };
    let mut host = host(&[
        (9, options, 0),
        (10, options, 0),
        (11, options, 0),
        (80, SMALL, 0),
    ]);
    // The small ones have been silent longest.
    let small: Vec<Peer> = (0..8).map(|n| Peer::new(66, 3000 + n)).collect();
    give(&mut host, &[small[0].arp()]);
    for peer in &small {
        open(&mut host, peer, 80);
        host.clock.0.set(host.now() + MS);
    }
    for port in [9, 10] {
        hog(&mut host, port, 12);
    }
    let (before, evicted) = (host.counter("tcp connections"), host.counter("tcp evicted"));
    let peer = Peer::new(100, 7);
    let seq = syn_ack(&mut host, &peer, 11).seq.wrapping_add(1);
    let sent = give(&mut host, &[peer.arp(), peer.segment(11, ACK, 1, seq, b"")]);
    assert_eq!(resets(&sent, &small), Vec::<u16>::new());
    assert_eq!(host.counter("tcp evicted"), evicted + 1);
    assert_eq!(host.counter("tcp connections"), before);
}

#[test]
fn sequence_numbers_are_not_draws_of_smoltcps_generator() {
    let mut host = host(&[(80, SMALL, 2)]);
    let mut draws = HashSet::new();
    for seed in peer::draws_of_chacha([1; 32], 200) {
        draws.extend(Pcg(seed).take(64));
    }
    let mut numbers = Vec::new();
    for port in 1..1000 {
        numbers.push(syn_ack(&mut host, &Peer::new(2 + (port % 200) as u8, port), 80).seq);
    }
    for port in 2000..2010 {
        let stack = host.stack.clone();
        host.spawn(async move {
            let to = format!("10.0.2.9:{port}").parse().unwrap();
            let _ = TcpStream::connect(&stack, to, RingSizes::default()).await;
        });
    }
    let sent = give(&mut host, &[Peer::new(9, 1).arp()]);
    let host9 = Peer::new(9, 0);
    let opened = sent
        .iter()
        .filter_map(|f| host9.read_any(f))
        .filter(|s| s.flags == SYN);
    let opened: Vec<u32> = opened.map(|s| s.seq).collect();
    assert_eq!(opened.len(), 10);
    numbers.extend(opened);
    // Of a million numbers of 4 thousand millions, one in four thousand is hit by chance.
    let hit = numbers.iter().filter(|n| draws.contains(n)).count();
    assert!(
        hit <= 2,
        "{hit} of {} numbers are draws of the generator",
        numbers.len()
    );
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
    // Evenly spread, and so are their differences.
    let differences = numbers.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    for values in [numbers, differences] {
        let mut counts = [0; 16];
        values.iter().for_each(|v| counts[(v >> 28) as usize] += 1);
        assert!(counts.iter().all(|n| (25..110).contains(n)), "{counts:?}");
    }
}

#[test]
fn the_numbers_of_one_connections_ends_follow_the_clock() {
    let mut host = host(&[(80, SMALL, 2)]);
    let peer = Peer::new(7, 77);
    let first = syn_ack(&mut host, &peer, 80).seq;
    give(&mut host, &[peer.segment(80, RST, 1, 0, b"")]);
    host.clock.0.set(host.now() + SECOND);
    let second = syn_ack(&mut host, &peer, 80).seq;
    assert_eq!(second.wrapping_sub(first), 250_000);
}

#[test]
fn a_syn_replaces_time_wait_only_behind_the_last_sequence_number() {
    let mut host = host(&[(80, SMALL, 2)]);
    let stack = host.stack.clone();
    // A listener whose connections the brane closes first.
    host.spawn(async move {
        let listener = TcpListener::bind(&stack, "[::]:81".parse().unwrap(), SMALL)
            .await
            .unwrap();
        while let Ok(stream) = listener.accept().await {
            drop(stream);
        }
    });
    settle(&mut host);
    let peer = Peer::new(7, 77);
    give(&mut host, &[peer.arp()]);
    let (seq, sent) = open(&mut host, &peer, 81);
    assert!(sent.iter().any(|s| s.flags & FIN != 0), "{sent:?}");
    // Ten bytes and a FIN: the last sequence number is isn + 11.
    give(&mut host, &[peer.segment(81, ACK, 1, seq, &[7; 10])]);
    give(
        &mut host,
        &[peer.segment(81, ACK | FIN, 11, seq.wrapping_add(1), b"")],
    );
    assert_eq!(host.counter("tcp connections"), 1);
    for old in [peer.isn, peer.isn.wrapping_add(11), peer.isn.wrapping_sub(1000)] {
        host.clock.0.set(host.now() + 1100 * MS);
        let stale = Peer {
            isn: old,
            ..peer.clone()
        };
        let sent = give(&mut host, &[stale.syn(81)]);
        let heard: Vec<_> = sent.iter().filter_map(|f| peer.read(f)).collect();
        assert!(
            heard
                .iter()
                .all(|s| s.flags == ACK && s.ack == peer.isn.wrapping_add(12)),
            "{heard:?}"
        );
        assert_eq!(
            host.counter("tcp connections"),
            1,
            "a stale SYN has ended TIME-WAIT"
        );
    }
    let new = Peer {
        isn: peer.isn.wrapping_add(12),
        ..peer.clone()
    };
    syn_ack(&mut host, &new, 81);
    assert_eq!(host.counter("tcp connections"), 0);
}
