//! Runs all services at once over a simulated brane.

#[path = "../../../socket/tests/common/mod.rs"]
mod common;

use brane_abi::layout::sock;
use brane_abi::ring::{Consumer, Producer};
use brane_abi::socket::*;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use common::*;
use services_core::{Services, plan, source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// The simulated brane's view of its client's sockets.
#[derive(Default)]
struct Sockets {
    listeners: HashMap<u16, Request>,
    datagrams: HashMap<u16, Request>,
    /// Posted accepts by the listener's port.
    accepts: HashMap<u16, Vec<Request>>,
    closed: Vec<usize>,
}

impl Sockets {
    /// Answers all pending requests.
    fn serve(&mut self, bench: &mut Bench) {
        bench.run();
        while let Some(request) = bench.peer.request() {
            match request.kind {
                request::TCP_LISTEN => {
                    let local = request.parse::<Listen>().local;
                    bench.peer.answer(
                        &request,
                        event::BOUND,
                        &Endpoints {
                            local,
                            ..Endpoints::default()
                        },
                    );
                    self.listeners.insert(local.port, request);
                }
                request::UDP_BIND => {
                    let local = request.parse::<Open>().local;
                    bench.peer.answer(
                        &request,
                        event::BOUND,
                        &Endpoints {
                            local,
                            ..Endpoints::default()
                        },
                    );
                    self.datagrams.insert(local.port, request);
                }
                request::TCP_ACCEPT => {
                    let listener = request.parse::<Accept>().listener as usize;
                    let (port, _) = self
                        .listeners
                        .iter()
                        .find(|(_, l)| l.slot == listener)
                        .expect("a listener");
                    self.accepts.entry(*port).or_default().push(request);
                }
                request::CLOSE | request::ABORT => {
                    self.closed.push(request.slot);
                    bench.peer.closed(&request);
                }
                other => panic!("request {other}"),
            }
            bench.run();
        }
    }

    /// Connects to a port.
    fn connect(&mut self, bench: &mut Bench, port: u16) -> (Request, StreamProducer, StreamConsumer) {
        let request = self
            .accepts
            .get_mut(&port)
            .unwrap()
            .pop()
            .expect("a posted accept");
        bench
            .peer
            .answer(&request, event::ACCEPTED, &Endpoints::default());
        let (tx, rx) = bench.peer.stream(request.slot, request.parse::<Accept>().rings);
        (request, tx, rx)
    }

    fn udp(&self, bench: &Bench, port: u16) -> (usize, Producer, Consumer) {
        let request = &self.datagrams[&port];
        let (tx, rx) = bench.peer.datagrams(request.slot, request.parse::<Open>().rings);
        (request.slot, tx, rx)
    }
}

fn started() -> (Bench, Sockets, Services, Rc<RefCell<Vec<String>>>) {
    let mut bench = Bench::new();
    let log: Rc<RefCell<Vec<String>>> = Rc::default();
    let lines = log.clone();
    let services = Services::new(bench.net.clone(), bench.executor, move |line| {
        lines.borrow_mut().push(line.to_string());
    });
    bench.executor.spawn(services.clone().run()).detach();
    let mut sockets = Sockets::default();
    sockets.serve(&mut bench);
    (bench, sockets, services, log)
}

fn read(rx: &mut StreamConsumer) -> Vec<u8> {
    let mut bytes = vec![0; rx.available().unwrap()];
    assert_eq!(rx.read(&mut bytes), Ok(bytes.len()));
    bytes
}

#[test]
fn every_service_has_its_port_and_every_slot_its_work() {
    let (_, sockets, _, log) = started();
    let mut ports: Vec<u16> = sockets.listeners.keys().copied().collect();
    ports.sort();
    assert_eq!(ports, [7, 9, 19, 80]);
    let mut ports: Vec<u16> = sockets.datagrams.keys().copied().collect();
    ports.sort();
    assert_eq!(ports, [7, 9]);
    let accepts: usize = sockets.accepts.values().map(Vec::len).sum();
    assert_eq!(accepts + 6, sock::SLOTS);
    for (port, least) in [
        (plan::ECHO, 17),
        (plan::HTTP, 17),
        (plan::DISCARD, 5),
        (plan::SOURCE, 5),
    ] {
        assert!(sockets.accepts[&port].len() >= least);
    }
    assert_eq!(
        *log.borrow(),
        ["in brane red (generation 0), MAC 02:77:00:00:00:01"]
    );
}

#[test]
fn echo_discard_source_and_http_do_their_work() {
    let (mut bench, mut sockets, services, _) = started();

    let (echo, mut tx, mut rx) = sockets.connect(&mut bench, 7);
    tx.write(b"hello").unwrap();
    bench
        .peer
        .event(event::PEER_CLOSED, echo.slot, echo.generation, &[]);
    bench.run();
    assert_eq!(read(&mut rx), b"hello");
    sockets.serve(&mut bench);
    assert_eq!(sockets.closed, [echo.slot], "closed after the remote's FIN");

    let (discard, mut tx, mut rx) = sockets.connect(&mut bench, 9);
    for _ in 0..10 {
        assert_eq!(
            tx.write(&[7; 100_000]),
            Ok(100_000),
            "all of the last one was taken"
        );
        bench.peer.ring(discard.slot);
        bench.run();
    }
    assert_eq!(read(&mut rx), b"");
    bench
        .peer
        .event(event::PEER_CLOSED, discard.slot, discard.generation, &[]);
    sockets.serve(&mut bench);
    assert_eq!(sockets.closed, [echo.slot, discard.slot]);

    let (source, mut tx, mut rx) = sockets.connect(&mut bench, 19);
    let mut position = 0;
    for _ in 0..5 {
        bench.run();
        let bytes = read(&mut rx);
        assert_eq!(bytes.len(), plan::TCP_SOURCE.rings.tx, "the ring is kept full");
        for byte in bytes {
            assert_eq!(byte, source::byte_at(position));
            position += 1;
        }
        tx.write(b"ignored").unwrap();
        bench.peer.ring(source.slot);
    }
    bench
        .peer
        .event(event::PEER_CLOSED, source.slot, source.generation, &[]);
    sockets.serve(&mut bench);
    assert_eq!(sockets.closed, [echo.slot, discard.slot, source.slot]);

    let (http, mut tx, mut rx) = sockets.connect(&mut bench, 80);
    tx.write(b"GET / HTTP/1.1\r\nHost: brane\r\n\r\nGET / HTTP/1.1\r\nHost: brane\r\n\r\n")
        .unwrap();
    bench.peer.ring(http.slot);
    bench.run();
    let reply = String::from_utf8(read(&mut rx)).unwrap();
    let (head, rest) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 1024"));
    for part in ["brane red", "10.0.2.16/24", "02:77:00:00:00:01"] {
        assert!(rest[..1024].contains(part));
    }
    assert!(rest[1024..].starts_with("HTTP/1.1 200 OK\r\n"));
    bench.peer.event(event::RESET, http.slot, http.generation, &[]);
    sockets.serve(&mut bench);
    assert_eq!(sockets.closed.last(), Some(&http.slot));

    let (slot, mut tx, mut rx) = sockets.udp(&bench, 7);
    let from = |port| DatagramHeader {
        remote: v4([10, 0, 2, 2], port),
        local: v4([10, 0, 2, 16], 7),
    };
    for port in [1000, 7, 19, 1001] {
        tx.push(&[from(port).as_bytes(), b"ping"], [0; 3]).unwrap();
    }
    tx.publish();
    bench.peer.ring(slot);
    bench.run();
    for port in [1000, 1001] {
        let expected = [from(port).as_bytes(), b"ping"].concat();
        let reply = rx.take(|r| {
            let mut bytes = vec![0; r.len()];
            r.copy_to(&mut bytes);
            bytes
        });
        assert_eq!(reply, Ok(Some(expected)));
    }
    assert_eq!(rx.take(|_| ()), Ok(None));
    assert_eq!(services.looped(), 2);

    let (slot, mut tx, mut rx) = sockets.udp(&bench, 9);
    for _ in 0..1000 {
        tx.push(&[from(1000).as_bytes(), &[0; 1000]], [0; 3]).unwrap();
        tx.publish();
        bench.peer.ring(slot);
        bench.run();
    }
    assert_eq!(rx.take(|_| ()), Ok(None));
    // All slots are in use again.
    sockets.serve(&mut bench);
    let accepts: usize = sockets.accepts.values().map(Vec::len).sum();
    assert_eq!(accepts + 6, sock::SLOTS);
    assert_eq!(bench.net.counters().bad_events, 0);
}

#[test]
fn thousands_of_connections_one_after_the_other() {
    let (mut bench, mut sockets, ..) = started();
    for _ in 0..3000 {
        let (request, mut tx, mut rx) = sockets.connect(&mut bench, 80);
        tx.write(b"GET / HTTP/1.1\r\nHost: brane\r\n\r\n").unwrap();
        bench.peer.ring(request.slot);
        bench.run();
        let reply = String::from_utf8(read(&mut rx)).unwrap();
        assert_eq!(reply.split_once("\r\n\r\n").unwrap().1.len(), 1024);
        bench
            .peer
            .event(event::PEER_CLOSED, request.slot, request.generation, &[]);
        sockets.serve(&mut bench);
    }
    assert_eq!(sockets.closed.len(), 3000);
}

#[test]
fn silent_connections_end_and_their_slots_serve_again() {
    let (mut bench, mut sockets, ..) = started();
    let open: Vec<_> = std::iter::repeat_with(|| sockets.accepts.get_mut(&80).unwrap().pop())
        .take_while(Option::is_some)
        .flatten()
        .collect();
    for request in &open {
        bench.peer.answer(request, event::ACCEPTED, &Endpoints::default());
    }
    let deadline = bench.run().expect("a limit");
    sockets.serve(&mut bench);
    assert!(sockets.closed.is_empty());
    bench.world.now.set(deadline);
    sockets.serve(&mut bench);
    assert_eq!(sockets.closed.len(), open.len());
    assert_eq!(sockets.accepts[&80].len(), open.len());
}

#[test]
fn all_start_again_when_the_brane_has_restarted() {
    let (mut bench, mut sockets, _, log) = started();
    let _open = sockets.connect(&mut bench, 7);
    for generation in 1..20 {
        bench.peer = Peer::start(bench.memory.region());
        bench.link_up(generation);
        let mut sockets = Sockets::default();
        sockets.serve(&mut bench);
        assert_eq!((sockets.listeners.len(), sockets.datagrams.len()), (4, 2));
        let accepts: usize = sockets.accepts.values().map(Vec::len).sum();
        assert_eq!(accepts + 6, sock::SLOTS);
        let (_, mut tx, mut rx) = sockets.connect(&mut bench, 7);
        tx.write(b"again").unwrap();
        bench.run();
        assert_eq!(read(&mut rx), b"again");
    }
    assert_eq!(
        log.borrow().last().unwrap(),
        "in brane red (generation 19), MAC 02:77:00:00:00:01"
    );
}
