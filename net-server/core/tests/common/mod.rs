//! A brane with everything around it, in memory: the test plays the NIC driver and the manager over the real rings, and the
//! client is the real socket library.
#![allow(dead_code, reason = "each test file uses its own part of it")]

pub mod echo;
pub mod net;

use brane_abi::control::{BraneConfig, BraneStatus, InterfaceConfig, command, report};
use brane_abi::layout::{ctl, ports, sock};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::port::{self, FrameMeta, PortInfo};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_socket::{Executor, NetClient, Platform};
use net_server_core::Brane;
use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use zerocopy::IntoBytes;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

/// Zeroed memory that plays a shared region. It lives as long as the process, as regions do.
pub fn memory(len: usize) -> SharedRegion {
    let layout = Layout::from_size_align(len, 4096).unwrap();
    // SAFETY: the layout has a size above zero; nobody else knows the memory, and it is never freed.
    unsafe { SharedRegion::new(NonNull::new(alloc_zeroed(layout)).unwrap(), len) }
}

pub fn indices(region: SharedRegion, offset: usize) -> &'static RingIndices {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }.unwrap()
}

/// The client's clock; notifications are not needed, the test lets everybody run.
#[derive(Clone, Default)]
pub struct Clock(pub Rc<Cell<u64>>);

impl Platform for Clock {
    fn notify(&self) {}
    fn now(&self) -> u64 {
        self.0.get()
    }
}

/// A frame under way, with the words of its record.
pub type Frame = (Vec<u8>, FrameMeta);

/// The driver's end of a brane's ports.
pub struct Driver {
    link: Link,
    up: bool,
    rx: Vec<Producer>,
    tx: Vec<Consumer>,
    indices: Vec<&'static RingIndices>,
    info: Vec<PortInfo>,
}

impl Driver {
    pub fn start(region: SharedRegion, info: Vec<PortInfo>) -> Driver {
        let part = |part: brane_abi::layout::Part| region.part(part.offset, part.len).unwrap();
        let both = 0..info.len();
        let rx = both.clone();
        let tx = both.clone();
        Driver {
            link: Link::start(region, Side::A).unwrap(),
            up: false,
            rx: rx
                .map(|p| Producer::new(indices(region, ports::rx_indices(p)), part(ports::RX[p])).unwrap())
                .collect(),
            tx: tx
                .map(|p| Consumer::new(indices(region, ports::tx_indices(p)), part(ports::TX[p])).unwrap())
                .collect(),
            indices: both
                .flat_map(|p| {
                    [
                        indices(region, ports::rx_indices(p)),
                        indices(region, ports::tx_indices(p)),
                    ]
                })
                .collect(),
            info,
        }
    }

    pub fn announce(&mut self, p: usize, info: PortInfo) {
        self.info[p] = info;
        let words = FrameMeta {
            kind: port::KIND_INFO,
            ..FrameMeta::default()
        };
        self.rx[p].push(&[info.as_bytes()], words.to_words()).unwrap();
        self.rx[p].publish();
        let _ = self.link.peer_bell().ring(port::port_bit(p));
    }

    /// The driver sleeps until its doorbell rings.
    pub fn sleep(&self) {
        self.link.own_bell().take();
        assert!(self.link.own_bell().arm());
    }

    fn look(&mut self) {
        if self.link.poll() == LinkState::PeerRestarted {
            self.indices.iter().for_each(|i| i.reset());
            self.rx.iter_mut().for_each(Producer::reset);
            self.tx.iter_mut().for_each(Consumer::reset);
            self.up = false;
            self.link.acknowledge();
        }
        if self.link.poll() == LinkState::Up && !self.up {
            self.up = true;
            for p in 0..self.info.len() {
                self.announce(p, self.info[p]);
            }
        }
    }

    /// What the brane has sent on a port.
    pub fn sent(&mut self, p: usize) -> Vec<Frame> {
        self.look();
        let mut out = Vec::new();
        if self.up {
            while let Some((frame, words)) = self.tx[p]
                .take(|record| {
                    let mut frame = vec![0; record.len()];
                    record.copy_to(&mut frame);
                    (frame, record.meta)
                })
                .expect("the brane keeps the rules")
            {
                assert_eq!(
                    &frame[6..12],
                    &self.info[p].mac.0,
                    "a frame with a foreign source address"
                );
                out.push((frame, FrameMeta::from_words(words)));
            }
            self.tx[p].release();
        }
        out
    }

    /// Gives a frame to the brane; `false` when its ring is full.
    pub fn give(&mut self, p: usize, (frame, meta): &Frame) -> bool {
        self.look();
        let given = self.up && self.rx[p].push(&[frame], meta.to_words()).is_ok();
        self.rx[p].publish();
        let _ = self.link.peer_bell().ring(port::port_bit(p));
        given
    }
}

/// The manager's end.
pub struct Manager {
    link: Link,
    up: bool,
    commands: Producer,
    reports: Consumer,
    indices: [&'static RingIndices; 2],
}

impl Manager {
    pub fn start(region: SharedRegion) -> Manager {
        let part = |part: brane_abi::layout::Part| region.part(part.offset, part.len).unwrap();
        let indices = [
            indices(region, ctl::COMMAND_INDICES),
            indices(region, ctl::REPORT_INDICES),
        ];
        Manager {
            link: Link::start(region, Side::A).unwrap(),
            up: false,
            commands: Producer::new(indices[0], part(ctl::COMMANDS)).unwrap(),
            reports: Consumer::new(indices[1], part(ctl::REPORTS)).unwrap(),
            indices,
        }
    }

    pub fn look(&mut self) -> bool {
        if self.link.poll() == LinkState::PeerRestarted {
            self.indices.iter().for_each(|i| i.reset());
            self.commands.reset();
            self.reports.reset();
            self.link.acknowledge();
        }
        let was = std::mem::replace(&mut self.up, self.link.poll() == LinkState::Up);
        self.up && !was
    }

    pub fn command(&mut self, kind: u32, token: u32, payload: &[u8]) {
        self.commands.push(&[payload], [kind, token, 0]).unwrap();
        self.commands.publish();
        let _ = self.link.peer_bell().ring(1);
    }

    /// The manager sleeps until its doorbell rings.
    pub fn sleep(&self) {
        self.link.own_bell().take();
        assert!(self.link.own_bell().arm());
    }

    pub fn report(&mut self) -> Option<(u32, u32, Vec<u8>)> {
        let out = self
            .reports
            .take(|record| {
                let mut text = vec![0; record.len()];
                record.copy_to(&mut text);
                (record.meta[0], record.meta[1], text)
            })
            .expect("the brane keeps the rules");
        self.reports.release();
        out
    }
}

/// A brane and its surroundings.
pub struct Host {
    pub brane: Brane,
    pub driver: Driver,
    pub manager: Manager,
    pub stack: NetClient,
    pub executor: Executor,
    pub config: BraneConfig,
    pub clock: Clock,
    /// The client's region, for those who lie in it.
    pub client_region: SharedRegion,
    regions: [SharedRegion; 3],
    pub turns: u64,
    /// Called with true before each turn of the brane, and with false after it.
    pub around: fn(bool),
}

pub fn interface(mac_end: u8, addresses: &[&str]) -> InterfaceConfig {
    InterfaceConfig {
        name: "net0".into(),
        device: format!("vnic{mac_end}"),
        mac: MacAddr([2, 0x77, 0, 0, 0, mac_end]),
        addresses: addresses.iter().map(|text| cidr(text)).collect(),
        ..InterfaceConfig::default()
    }
}

pub fn cidr(text: &str) -> Cidr {
    let (ip, prefix) = text.split_once('/').unwrap();
    Cidr {
        ip: ip.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
    }
}

pub fn port_info(mac: MacAddr, features: u32) -> PortInfo {
    PortInfo {
        bound: 1,
        features,
        generation: 1,
        mtu: 1500,
        link_up: 1,
        mac,
        ..PortInfo::default()
    }
}

impl Host {
    pub fn new(interface: InterfaceConfig, features: u32) -> Host {
        let regions = [memory(ports::SIZE), memory(ctl::SIZE), memory(sock::SIZE)];
        Host::over(regions, interface, features)
    }

    /// Creates a host over these regions for ports, control and sockets.
    pub fn over(regions: [SharedRegion; 3], interface: InterfaceConfig, features: u32) -> Host {
        let clock = Clock(Rc::new(Cell::new(SECOND)));
        let info = vec![port_info(interface.mac, features)];
        let seed = [interface.mac.0[5]; 32];
        Host {
            brane: Brane::start(seed, clock.now(), &regions[..1], regions[1], &regions[2..]).unwrap(),
            driver: Driver::start(regions[0], info),
            manager: Manager::start(regions[1]),
            stack: NetClient::start(regions[2], Box::new(clock.clone())).unwrap(),
            executor: Executor::new(),
            config: BraneConfig {
                id: 1,
                name: "test".into(),
                generation: 0,
                primary: false,
                interfaces: vec![interface],
                ..BraneConfig::default()
            },
            clock,
            client_region: regions[2],
            regions,
            turns: 0,
            around: |_| {},
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Gives the brane the regions of external filters.
    pub fn with_filters(self, regions: &[SharedRegion]) -> Host {
        let brane = self.brane.with_filters(regions).unwrap();
        Host { brane, ..self }
    }

    /// Replaces the brane by a fresh one over the same memory, as the manager's reset does.
    pub fn restart(&mut self) {
        let [ports, control, client] = self.regions;
        self.brane = Brane::start([9; 32], self.now(), &[ports], control, &[client]).unwrap();
    }

    /// Fills the brane's transmit rings with a byte. Call it only when the driver has taken all frames.
    pub fn fill_transmit_rings(&mut self, byte: u8) {
        for part in ports::TX {
            let part = self.regions[0].part(part.offset, part.len).unwrap();
            // SAFETY: inside the region; no frame is in the rings, and one thread runs all that use them.
            unsafe { part.base().write_bytes(byte, part.len()) };
        }
    }

    /// Lets brane, manager and client work until nobody has anything to do.
    pub fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..200 {
            if self.manager.look() {
                let text = minicbor::to_vec(&self.config).unwrap();
                self.manager.command(command::CONFIGURE, 1, &text);
            }
            self.driver.look();
            (self.around)(true);
            let turn = self.brane.turn(self.now(), |_| {});
            (self.around)(false);
            self.turns += 1;
            self.stack.run(&self.executor);
            // Once more, because driver and manager look at their links before the brane does.
            idle = if !turn.more && self.brane.arm() {
                idle + 1
            } else {
                0
            };
            if idle == 2 {
                return;
            }
        }
        panic!("the brane does not come to rest");
    }

    pub fn status(&mut self) -> BraneStatus {
        while self.manager.report().is_some() {}
        self.manager.command(command::REPORT, 77, &[]);
        self.settle();
        let (kind, token, text) = self.manager.report().expect("a report");
        assert_eq!((kind, token), (report::STATUS, 77));
        minicbor::decode(&text).unwrap()
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        let status = self.status();
        let counter = status.counters.iter().find(|c| c.name == name);
        counter.unwrap_or_else(|| panic!("no counter {name}")).value
    }

    /// Starts a task of the client; its result turns up in the cell.
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Rc<RefCell<Option<T>>> {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.executor
            .spawn(async move {
                let value = task.await;
                *slot.borrow_mut() = Some(value);
            })
            .detach();
        result
    }
}

/// What a wire does to a frame: all that comes out arrives.
pub type Fate = Box<dyn FnMut(&Frame) -> Vec<Frame>>;

/// Two branes on one wire.
pub struct Pair {
    pub a: Host,
    pub b: Host,
    /// The wire's own doing.
    pub wire: Fate,
    pub carried: u64,
}

impl Pair {
    pub fn new(features: u32) -> Pair {
        let a = Host::new(interface(1, &["10.0.2.1/24", "fec0::1/64"]), features);
        let b = Host::new(interface(2, &["10.0.2.2/24", "fec0::2/64"]), features);
        let mut pair = Pair {
            a,
            b,
            wire: Box::new(|frame| vec![frame.clone()]),
            carried: 0,
        };
        pair.run(SECOND / 100);
        pair
    }

    /// Lets both work and frames travel until `time` has passed, in steps of a millisecond once nothing moves.
    pub fn run(&mut self, time: u64) {
        let end = self.a.now() + time;
        loop {
            let mut moved = false;
            for _ in 0..1000 {
                self.a.settle();
                self.b.settle();
                let ab = self.a.driver.sent(0);
                let ba = self.b.driver.sent(0);
                if ab.is_empty() && ba.is_empty() {
                    break;
                }
                moved = true;
                for (frames, to) in [(ab, &mut self.b), (ba, &mut self.a)] {
                    for frame in frames {
                        for frame in (self.wire)(&frame) {
                            self.carried += 1;
                            to.driver.give(0, &frame);
                        }
                    }
                }
            }
            if self.a.now() >= end {
                return;
            }
            let step = if moved { MS / 10 } else { MS };
            for host in [&self.a, &self.b] {
                host.clock.0.set(host.now() + step);
            }
        }
    }

    /// Runs until the task is done; fails after `limit` of virtual time.
    pub fn until<T>(&mut self, task: &Rc<RefCell<Option<T>>>, limit: u64) -> T {
        let end = self.a.now() + limit;
        loop {
            if let Some(value) = task.borrow_mut().take() {
                return value;
            }
            assert!(self.a.now() < end, "not done in {limit} ns");
            self.run(MS);
        }
    }
}
