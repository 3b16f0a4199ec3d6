//! Services and a client, each over a real brane, in one process: two stacks with a wire that the test
//! simulates.

#[path = "../../../socket/tests/common/mod.rs"]
mod common;

use brane_abi::control::{BraneConfig, InterfaceConfig};
use brane_abi::layout::{Part, ctl, ports, sock};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::port::{
    FEATURE_TSO4, FEATURE_TSO6, FEATURE_TX_CSUM, FrameMeta, KIND_FRAME, KIND_INFO, PortInfo, port_bit,
};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_socket::{Error, Executor, NetClient, RingSizes, TcpStream, UdpSocket};
use common::{Backing, World};
use net_server_core::Brane;
use services_core::{Services, source};
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use test_pds_core::client::HostileClient;
use zerocopy::IntoBytes;

const OFFLOADS: u32 = FEATURE_TX_CSUM | FEATURE_TSO4 | FEATURE_TSO6;

/// A brane with its client, and the test's end of its port.
struct Node {
    number: u8,
    features: u32,
    memory: [Backing; 4],
    brane: Brane,
    link: Link,
    /// True once the brane has the configuration of its port.
    told: bool,
    /// Number of bindings of the port.
    binding: u32,
    to_brane: Producer,
    from_brane: Consumer,
    stack: NetClient,
    executor: Executor,
}

fn indices(region: SharedRegion, at: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(at) }.unwrap()
}

fn data(region: SharedRegion, part: Part) -> SharedRegion {
    region.part(part.offset, part.len).unwrap()
}

impl Node {
    fn new(number: u8, features: u32, world: &World) -> Node {
        let memory = [Backing::new(), Backing::new(), Backing::new(), Backing::new()];
        let stack = NetClient::start(memory[2].region(), Box::new(world.clone())).unwrap();
        let brane = Self::start(&memory, number);
        let ports = memory[0].region();
        Node {
            number,
            features,
            told: false,
            binding: 1,
            brane,
            link: Link::start(ports, Side::A).unwrap(),
            to_brane: Producer::new(indices(ports, ports::rx_indices(0)), data(ports, ports::RX[0])).unwrap(),
            from_brane: Consumer::new(indices(ports, ports::tx_indices(0)), data(ports, ports::TX[0]))
                .unwrap(),
            memory,
            stack,
            executor: Executor::new(),
        }
    }

    fn start(memory: &[Backing; 4], seed: u8) -> Brane {
        let ports = memory[0].region().part(0, ports::SIZE).unwrap();
        let control = memory[1].region().part(0, ctl::SIZE).unwrap();
        let clients = [memory[2].region(), memory[3].region()];
        Brane::start([seed; 32], 0, &[ports], control, &clients).unwrap()
    }

    /// Crashes and restarts the brane, as its manager would.
    fn restart(&mut self, now: u64, generation: u32) {
        self.brane = Self::start(&self.memory, self.number + 100 + generation as u8);
        for _ in 0..3 {
            self.brane.turn(now, |_| ());
            self.drive(|_, _| ());
        }
        self.configure(now, generation);
    }

    fn interface(&self) -> InterfaceConfig {
        let cidr = |ip: String, prefix| Cidr {
            ip: ip.parse().unwrap(),
            prefix,
        };
        let n = self.number;
        InterfaceConfig {
            name: "net0".into(),
            device: format!("vnic{n}"),
            mac: MacAddr([2, 0x77, 0, 0, 0, n]),
            addresses: vec![cidr(format!("10.9.0.{n}"), 24), cidr(format!("fd99::{n}"), 64)],
            ..InterfaceConfig::default()
        }
    }

    fn configure(&mut self, now: u64, generation: u32) {
        let n = self.number;
        let interface = self.interface();
        let name = format!("node{n}");
        let config = BraneConfig {
            id: n.into(),
            name,
            generation,
            interfaces: vec![interface],
            ..BraneConfig::default()
        };
        self.brane.configure(now, config).unwrap();
    }

    /// Does the driver's work: handshakes the link, and passes the brane's frames to `to`.
    fn drive(&mut self, mut to: impl FnMut(&[u8], FrameMeta)) {
        if self.link.poll() == LinkState::PeerRestarted {
            let ports = self.memory[0].region();
            for p in 0..2 {
                indices(ports, ports::rx_indices(p)).reset();
                indices(ports, ports::tx_indices(p)).reset();
            }
            self.to_brane.reset();
            self.from_brane.reset();
            self.link.acknowledge();
            self.told = false;
        }
        if self.link.poll() != LinkState::Up {
            return;
        }
        if !std::mem::replace(&mut self.told, true) {
            let info = PortInfo {
                bound: 1,
                features: self.features,
                generation: self.binding,
                mtu: 1500,
                link_up: 1,
                mac: MacAddr([2, 0x77, 0, 0, 0, self.number]),
                ..PortInfo::default()
            };
            let meta = FrameMeta {
                kind: KIND_INFO,
                ..FrameMeta::default()
            };
            self.to_brane.push(&[info.as_bytes()], meta.to_words()).unwrap();
            self.publish();
        }
        let mut frame = vec![0; 1 << 17];
        while let Some((len, meta)) = self
            .from_brane
            .take(|r| (r.copy_to(&mut frame).len(), FrameMeta::from_words(r.meta)))
            .unwrap()
        {
            to(&frame[..len], meta);
        }
        if self.from_brane.release() {
            let _ = self.link.peer_bell().ring(port_bit(0));
        }
    }

    fn publish(&mut self) {
        if self.to_brane.publish() {
            let _ = self.link.peer_bell().ring(port_bit(0));
        }
    }
}

/// Two nodes and the wire between them.
struct Net {
    world: World,
    nodes: [Node; 2],
    /// Frames dropped by full rings.
    dropped: u64,
}

impl Net {
    fn new(features: u32) -> Net {
        let world = World::default();
        let nodes = [1, 2].map(|n| Node::new(n, features, &world));
        let mut net = Net {
            world,
            nodes,
            dropped: 0,
        };
        let services = Services::new(net.nodes[0].stack.clone(), net.nodes[0].executor, |_| ());
        net.nodes[0].executor.spawn(services.run()).detach();
        for _ in 0..10 {
            net.step();
        }
        for node in &mut net.nodes {
            node.configure(0, 0);
        }
        for _ in 0..50 {
            net.step();
        }
        assert!(net.nodes.iter().all(|node| node.stack.is_ready()));
        net
    }

    /// Runs every part once, and advances time by 20 microseconds.
    fn step(&mut self) {
        let now = self.world.now.get() + 20_000;
        self.world.now.set(now);
        for i in 0..2 {
            self.nodes[i].brane.turn(now, |_| ());
            let [a, b] = &mut self.nodes;
            let (from, to) = if i == 0 { (a, b) } else { (b, a) };
            from.drive(|frame, meta| {
                if meta.kind == KIND_FRAME && to.to_brane.push(&[frame], meta.to_words()).is_err() {
                    self.dropped += 1;
                }
            });
            to.publish();
            from.stack.run(&from.executor);
        }
    }

    /// Runs a task on the second node until it ends. Panics after ten seconds of simulated time.
    fn client<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let out = result.clone();
        self.nodes[1]
            .executor
            .spawn(async move { out.set(Some(future.await)) })
            .detach();
        for _ in 0..500_000 {
            if let Some(result) = result.take() {
                return result;
            }
            self.step();
        }
        for node in &mut self.nodes {
            println!("{:?}", node.brane.status());
        }
        panic!(
            "the client is still waiting; {:?}",
            self.nodes.each_ref().map(|n| n.stack.counters())
        );
    }

    fn stack(&self) -> NetClient {
        self.nodes[1].stack.clone()
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

const SERVER: [&str; 2] = ["10.9.0.1", "fd99::1"];
const RINGS: RingSizes = RingSizes {
    rx: 1 << 16,
    tx: 1 << 16,
};

async fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

async fn get(stream: &mut TcpStream) -> Result<String, Error> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: brane\r\n\r\n").await?;
    let mut reply = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let n = stream.read(&mut buffer).await?;
        assert_ne!(n, 0, "closed after {}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&buffer[..n]);
        if let Some((_, body)) = String::from_utf8_lossy(&reply).split_once("\r\n\r\n")
            && body.len() >= 1024
        {
            assert_eq!(body.len(), 1024);
            return Ok(body.to_string());
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn udp_datagrams_of_all_sizes_come_back() {
    for features in [0, OFFLOADS] {
        let mut net = Net::new(features);
        let stack = net.stack();
        net.client(async move {
            for server in SERVER {
                let rings = RingSizes {
                    rx: 1 << 19,
                    tx: 1 << 19,
                };
                let mut socket = UdpSocket::bind(&stack, at("::", 0), rings).await?;
                let mut buffer = [0; 2000];
                for len in [1, 0, 64, 1000, 1400] {
                    socket.send_to(&pattern(len), at(server, 7)).await?;
                    let (n, remote, _) = socket.recv_from(&mut buffer).await?;
                    assert_eq!((remote, &buffer[..n]), (at(server, 7), &pattern(len)[..]));
                }
                // 256 datagrams are in flight. The wire holds fewer bytes at a time, so they are sent in four
                // bursts.
                for burst in 0..4u8 {
                    for i in 0..64u8 {
                        socket.send_to(&[burst, i].repeat(700), at(server, 7)).await?;
                    }
                    for i in 0..64u8 {
                        let (n, ..) = socket.recv_from(&mut buffer).await?;
                        assert_eq!((n, &buffer[..2]), (1400, &[burst, i][..]));
                    }
                }
            }
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(net.dropped, 0);
    }
}

#[test]
fn tcp_services_do_their_work_over_both_families() {
    for features in [0, OFFLOADS] {
        let mut net = Net::new(features);
        let stack = net.stack();
        net.client(async move {
            for server in SERVER {
                // Echo with concurrent reading and writing.
                let mut stream = TcpStream::connect(&stack, at(server, 7), RINGS).await?;
                let sent = pattern(300_000);
                let mut back = Vec::new();
                let mut done = 0;
                let mut buffer = vec![0; 4096];
                while back.len() < sent.len() {
                    if done < sent.len() && done - back.len() < 20_000 {
                        let end = sent.len().min(done + 5000);
                        done += stream.write(&sent[done..end]).await?;
                        if done == sent.len() {
                            stream.shutdown()?;
                        }
                    } else {
                        let n = stream.read(&mut buffer).await?;
                        assert_ne!(n, 0);
                        back.extend_from_slice(&buffer[..n]);
                    }
                }
                assert!(back == sent);
                assert_eq!(stream.read(&mut buffer).await?, 0, "echo closes after us");

                // Discard closes after the client's FIN.
                let mut stream = TcpStream::connect(&stack, at(server, 9), RINGS).await?;
                stream.write_all(&pattern(2_000_000)).await?;
                stream.shutdown()?;
                assert_eq!(read_to_end(&mut stream).await?, []);

                // Source, up to a sufficient amount.
                let mut stream = TcpStream::connect(&stack, at(server, 19), RINGS).await?;
                let (mut position, mut buffer) = (0, vec![0; 8192]);
                while position < 2_000_000 {
                    let n = stream.read(&mut buffer).await?;
                    assert_ne!(n, 0);
                    for byte in &buffer[..n] {
                        assert_eq!(*byte, source::byte_at(position), "at {position}");
                        position += 1;
                    }
                }
                stream.abort();

                // HTTP with keep-alive.
                let mut stream = TcpStream::connect(&stack, at(server, 80), RINGS).await?;
                for _ in 0..3 {
                    let page = get(&mut stream).await?;
                    for part in ["brane node1", "02:77:00:00:00:01", "10.9.0.1/24", "fd99::1/64"] {
                        assert!(page.contains(part), "{page}");
                    }
                }
                // This port has no listener.
                let refused = TcpStream::connect(&stack, at(server, 81), RINGS).await;
                assert_eq!(refused.err(), Some(Error::ConnectionRefused));
            }
            Ok::<_, Error>(())
        })
        .unwrap();
        for node in &net.nodes {
            assert_eq!(
                (
                    node.stack.counters().bad_events,
                    node.stack.counters().peer_errors
                ),
                (0, 0)
            );
        }
    }
}

#[test]
fn sixteen_connections_at_once_and_a_thousand_one_after_the_other() {
    let mut net = Net::new(OFFLOADS);
    let (stack, executor) = (net.stack(), net.nodes[1].executor);
    net.client(async move {
        let small = RingSizes { rx: 4096, tx: 4096 };
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let stack = stack.clone();
                executor.spawn(async move {
                    for _ in 0..65 {
                        let mut stream = TcpStream::connect(&stack, at(SERVER[0], 80), small).await?;
                        get(&mut stream).await?;
                    }
                    let mut stream = TcpStream::connect(&stack, at(SERVER[0], 7), small).await?;
                    stream.write_all(b"still there").await?;
                    let mut buffer = [0; 11];
                    embedded_io_async::Read::read_exact(&mut stream, &mut buffer)
                        .await
                        .unwrap();
                    assert_eq!(&buffer, b"still there");
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_restarted_brane_serves_again_and_its_peers_see_a_reset() {
    let mut net = Net::new(OFFLOADS);
    for generation in 1..6 {
        let stack = net.stack();
        let mut stream = net
            .client(async move { TcpStream::connect(&stack, at(SERVER[0], 7), RINGS).await })
            .unwrap();
        let now = net.world.now.get();
        net.nodes[0].restart(now, generation);
        for _ in 0..100 {
            net.step();
        }
        let lost = net.client(async move {
            stream.write_all(b"anybody?").await?;
            stream.read(&mut [0; 10]).await
        });
        assert_eq!(lost, Err(Error::ConnectionReset));
        let stack = net.stack();
        let page = net.client(async move {
            let mut stream = TcpStream::connect(&stack, at(SERVER[0], 80), RINGS).await?;
            get(&mut stream).await
        });
        assert!(page.unwrap().contains(&format!("generation {generation}")));
    }
    assert_eq!(net.nodes[0].stack.counters().links_up, 6);
}

#[test]
fn services_open_again_after_a_shutdown_and_when_an_interface_comes_back() {
    let mut net = Net::new(OFFLOADS);
    for quick in [false, true, false, true] {
        let stack = net.stack();
        let mut stream = net
            .client(async move { TcpStream::connect(&stack, at(SERVER[0], 7), RINGS).await })
            .unwrap();
        for _ in 0..100 {
            net.step();
        }
        let now = net.world.now.get();
        // The connection ends gracefully: its peer sees the end of the stream, not a reset.
        net.nodes[0].brane.shut_down(now, 1, if quick { 0 } else { 1000 });
        if !quick {
            let end = net.client(async move { stream.read(&mut [0; 10]).await });
            assert_eq!(end, Ok(0));
        }
        for _ in 0..(if quick { 1 } else { 2000 }) {
            net.step();
        }
        let now = net.world.now.get();
        net.nodes[0].brane.begin(now).expect("nothing is left of before");
        for _ in 0..100 {
            net.step();
        }
        serves(&mut net);
    }
    let net0 = net.nodes[0].interface();
    for _ in 0..3 {
        let now = net.world.now.get();
        net.nodes[0].brane.detach(now, "net0").unwrap();
        for _ in 0..100 {
            net.step();
        }
        let now = net.world.now.get();
        net.nodes[0].binding += 1;
        net.nodes[0].told = false;
        net.nodes[0].brane.attach(now, net0.clone()).unwrap();
        for _ in 0..100 {
            net.step();
        }
        serves(&mut net);
    }
}

/// Checks that TCP and UDP are answered over both families.
fn serves(net: &mut Net) {
    for server in SERVER {
        let stack = net.stack();
        let page = net.client(async move {
            let mut stream = TcpStream::connect(&stack, at(server, 80), RINGS).await?;
            get(&mut stream).await
        });
        assert!(page.expect("a page").contains("generation"));
        let stack = net.stack();
        let echoed = net.client(async move {
            let mut socket = UdpSocket::bind(&stack, at("::", 0), RINGS).await?;
            socket.send_to(b"anybody?", at(server, 7)).await?;
            let mut out = [0; 100];
            let (n, ..) = socket.recv_from(&mut out).await?;
            Ok::<_, Error>(out[..n].to_vec())
        });
        assert_eq!(echoed.expect("an answer"), b"anybody?");
    }
}

#[test]
fn a_second_client_full_of_malice_disturbs_nobody() {
    let mut net = Net::new(OFFLOADS);
    let mut hostile = HostileClient::new(net.nodes[0].memory[3].region(), 42);
    let stack = net.stack();
    let mut socket = net
        .client(async move { UdpSocket::bind(&stack, at("::", 0), RINGS).await })
        .unwrap();
    for round in 0..400u32 {
        hostile.start_over();
        for _ in 0..4 {
            hostile.connect();
            net.step();
        }
        hostile.round();
        net.step();
        socket = net
            .client(async move {
                let mut buffer = [0; 10];
                socket.send_to(&round.to_le_bytes(), at(SERVER[0], 7)).await?;
                let (n, ..) = socket.recv_from(&mut buffer).await?;
                assert_eq!(buffer[..n], round.to_le_bytes());
                Ok::<_, Error>(socket)
            })
            .unwrap();
    }
    assert_eq!(
        net.nodes[0].stack.counters().links_up,
        1,
        "the honest client kept its link"
    );
    let status = net.nodes[0].brane.status();
    let errors = status
        .counters
        .iter()
        .find(|c| c.name == "client protocol errors")
        .expect("the counter");
    assert!(errors.value >= 100, "cut off and counted: {}", errors.value);
    const { assert!(sock::SIZE >= ports::SIZE) };
}
