//! Parts shared by the switch's tests: memory for the regions, a device on the host, and the branes' side of the rings.
#![allow(dead_code)]

use brane_abi::layout::ports;
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::MacAddr;
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, KIND_FRAME, KIND_INFO, PortInfo, port_bit};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_abi::vif::{self, AddVif, BindVif, DeviceInfo, MODE_BRIDGE, VifRef};
use nic_switch::{Device, Switch, tx_offload};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;
use zerocopy::{FromBytes, IntoBytes};

/// Branes of the switches under test.
pub const BRANES: usize = 4;
/// Address of a host on the wire.
pub const HOST: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);
/// Words of a frame without any offload.
pub const PLAIN: FrameMeta = FrameMeta {
    kind: 0,
    flags: 0,
    gso_type: 0,
    csum_start: 0,
    csum_offset: 0,
    gso_size: 0,
    header_len: 0,
};
/// Ports of each brane.
pub const PORTS_PER_BRANE: usize = ports::count(ports::SIZE);
pub type TestSwitch = Switch<BRANES, PORTS_PER_BRANE>;

/// Returns zeroed memory for a region `ports-N`. It is never freed, because regions live as long as the program.
pub fn region() -> SharedRegion {
    let layout = Layout::from_size_align(ports::SIZE, 4096).unwrap();
    // SAFETY: the layout has a size above zero.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: never freed, aligned, and reached only through this value's copies.
    unsafe { SharedRegion::new(base, ports::SIZE) }
}

/// A device that keeps the frames it sends, and has room for a number of them.
#[derive(Default)]
pub struct HostDevice {
    pub received: VecDeque<(FrameMeta, Vec<Vec<u8>>)>,
    pub sent: Vec<(FrameMeta, Vec<u8>)>,
    pub room: usize,
    /// A clock, and the nanoseconds by which each frame of a brane advances it.
    pub clock: Option<(Rc<Cell<u64>>, u64)>,
    /// Nanoseconds that a kick takes. The device advances the clock by them.
    pub kick_cost: u64,
    queued: bool,
    buffer: Vec<u8>,
}

impl HostDevice {
    pub fn new() -> Self {
        Self {
            room: usize::MAX,
            ..Self::default()
        }
    }
    pub fn arrives(&mut self, frame: &[u8]) {
        self.received
            .push_back((FrameMeta::default(), vec![frame.to_vec()]));
    }
}

impl Device for HostDevice {
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool {
        let Some((meta, parts)) = self.received.pop_front() else {
            return false;
        };
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        deliver(meta, &parts);
        true
    }
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.sent.len() >= self.room {
            return None;
        }
        if let Some((clock, cost)) = &self.clock {
            clock.set(clock.get() + cost);
        }
        self.buffer = vec![0xa5; len];
        Some(&mut self.buffer)
    }
    fn send(&mut self, len: usize, meta: FrameMeta) {
        self.queued = true;
        assert_eq!(len, self.buffer.len(), "what was reserved is what is sent");
        self.sent.push((meta, std::mem::take(&mut self.buffer)));
    }
    fn kick(&mut self) {
        if let Some((clock, _)) = &self.clock
            && core::mem::take(&mut self.queued)
        {
            clock.set(clock.get() + self.kick_cost);
        }
    }
}

/// One port on its brane's side.
pub struct BranePort {
    indices: [&'static RingIndices; 2],
    pub rx: Consumer,
    pub tx: Producer,
    pub info: Option<PortInfo>,
}

/// A brane.
pub struct BraneSide {
    pub region: SharedRegion,
    pub link: Link,
    pub ports: Vec<BranePort>,
}

impl BraneSide {
    /// Starts or restarts the brane's side in this region.
    pub fn start(region: SharedRegion) -> BraneSide {
        let link = Link::start(region, Side::B).unwrap();
        let ports = (0..2)
            .map(|p| {
                // SAFETY: RingIndices is made of atomics only.
                let indices: [&'static RingIndices; 2] = unsafe {
                    [
                        region.object(ports::rx_indices(p)).unwrap(),
                        region.object(ports::tx_indices(p)).unwrap(),
                    ]
                };
                let (rx, tx) = (ports::RX[p], ports::TX[p]);
                BranePort {
                    indices,
                    rx: Consumer::new(indices[0], region.part(rx.offset, rx.len).unwrap()).unwrap(),
                    tx: Producer::new(indices[1], region.part(tx.offset, tx.len).unwrap()).unwrap(),
                    info: None,
                }
            })
            .collect();
        BraneSide { region, link, ports }
    }

    /// Polls the link. Returns true if it is up.
    pub fn poll_link(&mut self) -> bool {
        if self.link.poll() == LinkState::PeerRestarted {
            for port in &mut self.ports {
                port.indices.iter().for_each(|i| i.reset());
                port.rx.reset();
                port.tx.reset();
            }
            self.link.acknowledge();
        }
        self.link.poll() == LinkState::Up
    }

    /// Enqueues and publishes a frame on port `p`. Returns false if the ring has no room.
    pub fn send(&mut self, p: usize, frame: &[u8], meta: FrameMeta) -> bool {
        let ok = self.ports[p].tx.push(&[frame], meta.to_words()).is_ok();
        self.ports[p].tx.publish();
        let _ = self.link.peer_bell().ring(port_bit(p));
        ok
    }

    /// Returns all frames of port `p`. Keeps the last info record.
    pub fn frames(&mut self, p: usize) -> Vec<(FrameMeta, Vec<u8>)> {
        let mut frames = Vec::new();
        let port = &mut self.ports[p];
        while let Some((meta, bytes)) = port
            .rx
            .take(|r| {
                let mut bytes = vec![0; r.len()];
                r.copy_to(&mut bytes);
                (FrameMeta::from_words(r.meta), bytes)
            })
            .expect("the driver keeps to the protocol")
        {
            match meta.kind {
                KIND_INFO => port.info = Some(PortInfo::read_from_bytes(&bytes).unwrap()),
                KIND_FRAME => frames.push((meta, bytes)),
                other => panic!("the driver sent a record of kind {other}"),
            }
        }
        port.rx.release();
        frames
    }
}

/// Returns the address of vif `n`.
pub fn mac(n: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n as u8])
}

/// Returns a frame of `len` bytes. `mark` is in its payload.
pub fn frame(to: MacAddr, from: MacAddr, len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![mark; len.max(14)];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

/// Returns a frame of `len` bytes that is a whole IPv4 packet with a TCP or UDP header. Its meta leaves the checksum to
/// the device.
pub fn offloaded(to: MacAddr, from: MacAddr, len: usize, protocol: u8, mark: u8) -> (Vec<u8>, FrameMeta) {
    let mut f = frame(to, from, len, mark);
    f[14] = 0x45;
    f[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
    f[20..22].copy_from_slice(&[0x40, 0]);
    f[23] = protocol;
    let meta = FrameMeta {
        flags: FLAG_NEEDS_CSUM,
        csum_start: 34,
        csum_offset: if protocol == 6 { 16 } else { 6 },
        ..FrameMeta::default()
    };
    (f, meta)
}

/// A switch with branes that are up, vif `n` bound to port 0 of brane `n`.
pub struct Bench {
    pub switch: Box<TestSwitch>,
    pub device: HostDevice,
    pub branes: Vec<BraneSide>,
    /// The time in nanoseconds. Each wake advances it by [`BETWEEN`].
    pub now: u64,
}

/// Time between two wakes of a test, in which the accounts of the branes are paid back.
pub const BETWEEN: u64 = 20_000_000;

impl Bench {
    pub fn new() -> Bench {
        Bench::with_modes([MODE_BRIDGE; BRANES])
    }

    pub fn with_modes(modes: [u32; BRANES]) -> Bench {
        Bench::in_regions(modes, std::array::from_fn(|_| region()))
    }

    /// Creates a bench in the caller's memory: region `n` is brane `n`'s.
    pub fn in_regions(modes: [u32; BRANES], regions: [SharedRegion; BRANES]) -> Bench {
        let mut switch = Box::new(TestSwitch::new());
        switch.set_link(nic_switch::Link {
            features: brane_abi::port::FEATURE_TX_CSUM
                | brane_abi::port::FEATURE_TSO4
                | brane_abi::port::FEATURE_TSO6,
            mtu: 1500,
            up: true,
        });
        let branes = regions
            .into_iter()
            .enumerate()
            .map(|(n, region)| {
                assert!(switch.attach(n, region));
                BraneSide::start(region)
            })
            .collect();
        let mut bench = Bench {
            switch,
            device: HostDevice::new(),
            branes,
            now: 0,
        };
        for (n, mode) in modes.into_iter().enumerate() {
            let add = AddVif {
                vif: n as u32,
                mode,
                mac: mac(n),
                vlan: 0,
                peer: 0,
            };
            bench.switch.add(add).unwrap();
            let bind = BindVif {
                vif: n as u32,
                brane: n as u32,
                port: 0,
            };
            bench.switch.bind(bind).unwrap();
        }
        bench.settle();
        for n in 0..BRANES {
            assert!(bench.branes[n].poll_link(), "brane {n} is up");
            assert!(bench.branes[n].frames(0).is_empty());
        }
        bench
    }

    /// Adds a vif and binds it to port `p` of brane `b`.
    pub fn add(&mut self, vif: AddVif, b: usize, p: usize) {
        self.switch.add(vif).unwrap();
        self.bind(vif.vif, b, p);
    }

    /// Binds with the manager's call, which first delivers the received frames.
    pub fn bind(&mut self, vif: u32, b: usize, p: usize) {
        let bind = BindVif {
            vif,
            brane: b as u32,
            port: p as u32,
        };
        self.call(vif::BIND_VIF, bind.as_bytes());
    }

    /// Unbinds with the manager's call.
    pub fn unbind(&mut self, vif: u32) {
        self.call(vif::UNBIND_VIF, VifRef { vif }.as_bytes());
    }

    /// Makes a call of the manager, which must succeed. Returns the answer's bytes.
    pub fn call(&mut self, label: u64, request: &[u8]) -> Vec<u8> {
        let mut message = [0; 960];
        message[..request.len()].copy_from_slice(request);
        let (label, len) = self.switch.call(
            label,
            request.len(),
            &mut message,
            DeviceInfo::default(),
            &mut self.device,
        );
        assert_eq!(label, vif::OK);
        self.switch.flush();
        message[..len].to_vec()
    }

    /// Lets both sides poll their links until nothing changes.
    pub fn settle(&mut self) {
        for _ in 0..3 {
            for brane in &mut self.branes {
                brane.poll_link();
            }
            self.run();
        }
    }

    /// Runs one wake of the driver in which all branes have notified. Returns whether the rings are empty, and the
    /// notified branes.
    pub fn run(&mut self) -> (bool, u64) {
        self.now += BETWEEN;
        let now = self.now;
        self.switch.wake((1 << BRANES) - 1, &|| now);
        self.switch.receive(&mut self.device, 256);
        let (mut all, mut notify) = (true, 0);
        // No other domain is ready to run, so a brane that waits has its turn at once.
        loop {
            all &= self.switch.transmit(&mut self.device, &|| now);
            let flushed = self.switch.flush();
            notify |= flushed.notify;
            if !flushed.turn {
                return (all, notify);
            }
            self.switch.turn_came(self.now);
        }
    }
}

/// Checks a frame that a brane sends as the switch does.
pub fn outgoing(frame: &[u8], meta: FrameMeta, link: &nic_switch::Link) -> Option<FrameMeta> {
    let kind = u16::from_le_bytes(*frame.get(12..)?.first_chunk()?);
    tx_offload::check(frame, kind, meta, link)
}
