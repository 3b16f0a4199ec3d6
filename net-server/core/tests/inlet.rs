//! Datagrams by the short way in: each goes where the long way would bring it, whatever has changed since the last one.

mod common;
#[path = "common/host.rs"]
mod host;

use brane_abi::control::{Family, Protocol};
use brane_abi::port::{FLAG_DATA_VALID, FrameMeta};
use brane_socket::executor::Task;
use brane_socket::{RingSizes, UdpSocket};
use common::*;
use host::*;
use smoltcp::wire::*;
use std::cell::RefCell;
use std::rc::Rc;

type Seen = Rc<RefCell<Vec<u32>>>;

/// A socket at port 9 that keeps the numbers it gets; dropping the task closes it.
fn listen(host: &Host, local: &'static str) -> (Task<()>, Seen) {
    let seen = Seen::default();
    let (list, stack) = (seen.clone(), host.stack.clone());
    let task = host.executor.spawn(async move {
        stack.ready().await;
        let mut socket = UdpSocket::bind(&stack, at(local), RingSizes { rx: 65536, tx: 1024 })
            .await
            .unwrap();
        let mut buffer = [0; 100];
        // Until the brane is gone.
        while let Ok((len, from, to)) = socket.recv_from(&mut buffer).await {
            assert_eq!((from, to), (at("10.0.2.200:1234"), at("10.0.2.1:9")));
            list.borrow_mut()
                .push(u32::from_be_bytes(buffer[..len].try_into().unwrap()));
        }
    });
    (task, seen)
}

fn host() -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.1/24"]), 0);
    (0..3).for_each(|_| host.settle());
    // The neighbour asks, and is known from then on.
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: HOST_MAC,
        source_protocol_addr: HOST,
        target_hardware_addr: EthernetAddress::default(),
        target_protocol_addr: MOVING,
    };
    let mut frame = vec![0; 14 + arp.buffer_len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
    ethernet.set_src_addr(HOST_MAC);
    ethernet.set_dst_addr(EthernetAddress::BROADCAST);
    ethernet.set_ethertype(EthernetProtocol::Arp);
    arp.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    assert!(host.driver.give(0, &(frame, FrameMeta::default())));
    host.settle();
    host
}

fn give(host: &mut Host, number: u32) {
    let meta = FrameMeta {
        flags: FLAG_DATA_VALID,
        ..FrameMeta::default()
    };
    assert!(host.driver.give(0, &(numbered(1, MOVING, number), meta)));
    host.settle();
}

/// A flow of which three datagrams, 0 to 2, have arrived.
fn flow() -> (Host, Task<()>, Seen) {
    let mut host = host();
    let (task, seen) = listen(&host, "[::]:9");
    host.settle();
    (0..3).for_each(|number| give(&mut host, number));
    (host, task, seen)
}

#[test]
fn datagrams_of_a_flow_arrive_once_and_in_order_and_are_counted() {
    let mut host = host();
    let (_task, seen) = listen(&host, "[::]:9");
    host.settle();
    for number in 0..50 {
        give(&mut host, number);
        // Some when the neighbour's entry is to be refreshed, too.
        host.clock.0.set(host.now() + 10 * MS);
    }
    assert_eq!(*seen.borrow(), (0..50).collect::<Vec<_>>());
    assert_eq!(host.counter("udp received"), 50);
    let udp = |(family, protocol, _, _): &(_, _, _, _)| (*family, *protocol) == (Family::Inet, Protocol::Udp);
    let (.., counts) = host.brane.stack.switch.iter().find(udp).expect("the protocol");
    assert_eq!(counts.received, 50);
    // And the neighbour's question.
    assert_eq!(host.status().interfaces[1].rx_packets, 50 + 1);
}

#[test]
fn a_socket_that_is_closed_gets_nothing_and_the_next_one_of_the_port_all() {
    let (mut host, task, first) = flow();
    drop(task);
    host.settle();
    host.driver.sent(0);
    (3..6).for_each(|number| give(&mut host, number));
    assert_eq!(host.counter("udp received"), 3);
    let unreachable = |(frame, _): &Frame| (frame[23], frame[34], frame[35]) == (1, 3, 3);
    assert_eq!(host.driver.sent(0).iter().filter(|f| unreachable(f)).count(), 3);
    // In another slot than the first one had.
    let (_other, _) = listen(&host, "[::]:10");
    host.settle();
    let (_task, second) = listen(&host, "[::]:9");
    host.settle();
    (6..9).for_each(|number| give(&mut host, number));
    assert_eq!(
        (&*first.borrow(), &*second.borrow()),
        (&vec![0, 1, 2], &vec![6, 7, 8])
    );
}

#[test]
fn a_brane_that_starts_anew_begins_without_flows() {
    let (mut host, _task, seen) = flow();
    host.restart();
    (0..3).for_each(|_| host.settle());
    give(&mut host, 3);
    assert_eq!(*seen.borrow(), [0, 1, 2]);
    assert_eq!(host.counter("udp received"), 0);
}
