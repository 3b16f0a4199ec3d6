//! What leaves a brane: what is said of each frame to the device, what is counted, and what is chosen, kept or refused before.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_abi::port::{self, FrameMeta};
use brane_abi::socket::error;
use brane_socket::{RingSizes, TcpStream, UdpSocket};
use common::*;
use net_server_core::ip::checksum;
use net_server_core::neighbor::queue;
use net_server_core::netif::UDP_LONGEST;
use net_server_core::transport::tcp::{Listener, Owner, Sizes};
use net_server_core::transport::udp::Datagram;
use packets::*;
use smoltcp::wire::{IpAddress, IpEndpoint};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Completes the checksum of a frame as a device does: from its record alone. Returns the frame without any promise.
fn complete((frame, meta): &Frame) -> Frame {
    let mut frame = frame.clone();
    if meta.flags & port::FLAG_NEEDS_CSUM != 0 {
        let start = usize::from(meta.csum_start);
        let field = start + usize::from(meta.csum_offset);
        let sum = !checksum::sum(&frame[start..]);
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    (frame, FrameMeta::default())
}

#[test]
fn a_device_completes_every_checksum_from_the_record_and_each_frame_is_counted_with_its_bytes() {
    let mut pair = Pair::new(port::FEATURE_TX_CSUM);
    for host in [&mut pair.a, &mut pair.b] {
        echo::serve(host, 4);
    }
    let sent = |pair: &mut Pair| {
        let both = [&mut pair.a, &mut pair.b].map(|host| host.status().interfaces.swap_remove(1));
        let bytes: u64 = both.iter().map(|net0| net0.tx_bytes).sum();
        (both.iter().map(|net0| net0.tx_packets).sum::<u64>(), bytes)
    };
    let before = sent(&mut pair);
    let carried: Rc<Cell<(u64, u64)>> = Rc::default();
    // Datagrams and segments of both families, whose checksums are left to the device.
    let partial: Rc<Cell<[u32; 4]>> = Rc::default();
    let (count, kinds) = (carried.clone(), partial.clone());
    pair.wire = Box::new(move |frame| {
        let (frames, bytes) = count.get();
        count.set((frames + 1, bytes + frame.0.len() as u64));
        if frame.1.flags & port::FLAG_NEEDS_CSUM != 0 {
            let v6 = frame.0[12] == 0x86;
            let protocol = frame.0[if v6 { 20 } else { 23 }];
            let mut all = kinds.get();
            all[usize::from(v6) * 2 + usize::from(protocol == 6)] += 1;
            kinds.set(all);
        }
        vec![complete(frame)]
    });
    for to in ["10.0.2.2:7", "[fec0::2]:7"] {
        let (stack, to) = (pair.a.stack.clone(), to.parse().unwrap());
        let task = pair.a.spawn(async move {
            stack.ready().await;
            let sizes = RingSizes { rx: 8192, tx: 8192 };
            let any = "[::]:0".parse().unwrap();
            let mut socket = UdpSocket::bind(&stack, any, sizes).await.unwrap();
            let mut out = [0; 100];
            // The first one by way of smoltcp, the others by the short way.
            for n in 0..4u8 {
                socket.send_to(&[n; 33], to).await.unwrap();
                let (len, _, _) = socket.recv_from(&mut out).await.unwrap();
                assert_eq!(out[..len], [n; 33]);
            }
            let mut stream = TcpStream::connect(&stack, to, sizes).await.unwrap();
            stream.write_all(b"segments").await.unwrap();
            let mut got = 0;
            while got < 8 {
                got += stream.read(&mut out[got..]).await.unwrap();
            }
            assert_eq!(&out[..8], b"segments");
        });
        pair.until(&task, 5 * SECOND);
    }
    pair.run(SECOND);
    let kinds = partial.get();
    assert!(kinds.iter().all(|count| *count >= 8), "{kinds:?}");
    for host in [&mut pair.a, &mut pair.b] {
        assert_eq!(host.counter("bad checksum"), 0);
    }
    let after = sent(&mut pair);
    assert_eq!((after.0 - before.0, after.1 - before.1), carried.get());
}

/// A brane at 10.0.2.1 without clients' sockets.
fn host() -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    (0..3).for_each(|_| host.settle());
    host.driver.sent(0);
    host
}

const SIZES: Sizes = Sizes { rx: 4096, tx: 4096 };

#[test]
fn no_connection_gets_the_port_of_another_one_to_the_same_place() {
    let mut host = host();
    let now = host.now();
    let stack = &mut host.brane.stack;
    // Listeners have all ports but one.
    for port in 49152..u16::MAX {
        let listener = Listener {
            client: 0,
            slot: 0,
            local: None,
            port,
            backlog: 1,
            owed: 0,
            sizes: SIZES,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
        };
        stack.tcp.listen(&stack.net, listener).unwrap();
    }
    let owner = Owner::Slot { client: 0, slot: 0 };
    let mut connect = |port: u16| {
        let remote = IpEndpoint::new(IpAddress::v4(10, 0, 2, 9), port);
        let id = stack
            .tcp
            .connect(now, &mut stack.net, owner, (None, 0), remote, SIZES)?;
        Ok(stack.tcp.conns[id].key.local_port)
    };
    assert_eq!(connect(80), Ok(u16::MAX));
    assert_eq!(connect(80), Err(error::NO_RESOURCES));
    assert_eq!(connect(81), Ok(u16::MAX));
}

#[test]
fn datagrams_wait_for_a_neighbour_up_to_the_last_byte_that_there_is_room_for() {
    let mut host = host();
    let now = host.now();
    let stack = &mut host.brane.stack;
    let mut send = |len: usize| {
        let datagram = Datagram {
            src_port: 5,
            local: None,
            remote: IpEndpoint::new(IpAddress::v4(10, 0, 2, 9), 7),
            len,
            options: &Default::default(),
        };
        stack.send_udp(now, datagram, |room| room.fill(1));
        let waiting = &stack.net.netifs[1].queue;
        let bytes: usize = waiting.iter().map(|datagram| datagram.payload.len()).sum();
        (waiting.len(), bytes, stack.net.counters.udp_unreachable)
    };
    for n in 1..=3 {
        assert_eq!(send(UDP_LONGEST), (n, n * UDP_LONGEST, 0));
    }
    let left = queue::LIMIT_BYTES - 3 * UDP_LONGEST;
    assert_eq!(send(left + 1), (3, 3 * UDP_LONGEST, 1));
    assert_eq!(send(left), (4, queue::LIMIT_BYTES, 1));
    // One of no bytes needs a place in the list only, up to its end.
    for n in 5..=queue::LIMIT {
        assert_eq!(send(0), (n, queue::LIMIT_BYTES, 1));
    }
    assert_eq!(send(0), (queue::LIMIT, queue::LIMIT_BYTES, 2));
}

#[test]
fn packets_that_no_error_may_answer_do_not_use_up_the_errors_for_others() {
    let mut host = echo_host();
    let nobody = udp(5, 9, b"nobody");
    for _ in 0..100 {
        let mut to_all = packet("10.0.2.9", "10.0.2.255", 17, &nobody);
        to_all[..6].fill(0xff);
        assert!(answers(&mut host, to_all, 0).is_empty());
    }
    assert_eq!(host.counter("icmp errors limited"), 0);
    let to_one = packet("10.0.2.9", "10.0.2.1", 17, &nobody);
    assert_eq!(answers(&mut host, to_one, 0).len(), 1);
}
