//! One brane as the driver sees it: the link in its region `ports-N`, and the two rings of each of its ports.

use crate::Link as WireLink;
use brane_abi::layout::{PORTS_PER_BRANE, ports};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, KIND_INFO, PortInfo, port_bit};
use brane_abi::ring::{Consumer, Producer, RingError, RingIndices};
use brane_abi::shared::SharedRegion;
use zerocopy::IntoBytes;

/// A port: its rings, and what is bound to it.
pub struct Port {
    indices: [&'static RingIndices; 2],
    /// To the brane.
    pub rx: Producer,
    /// From the brane.
    pub tx: Consumer,
    /// The vif's slot.
    pub vif: Option<u8>,
    pub generation: u32,
    /// The brane has yet to be told what the port is: no frame before that.
    pub info_due: bool,
}

/// A brane.
pub struct Brane {
    link: Link,
    pub ports: [Port; PORTS_PER_BRANE],
    /// Both sides agree, and the brane has not broken the protocol since.
    pub up: bool,
    /// It broke the protocol: nothing more until it restarts.
    pub quarantined: bool,
    /// Ports with something that the brane has not been told of.
    pub pending: u64,
    /// Notify it whatever its doorbell says.
    pub must_notify: bool,
    /// Bytes that it may still send in this turn, or has left from the one before: less than two [`crate::QUANTUM`]s.
    pub deficit: usize,
}

/// What a look at the link brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// The brane (re)started; the rings were reset.
    Restarted,
}

impl Port {
    fn new(region: SharedRegion, p: usize) -> Option<Port> {
        // SAFETY: RingIndices is made of atomics only.
        let rx_indices: &'static RingIndices = unsafe { region.object(ports::rx_indices(p))? };
        // SAFETY: as above.
        let tx_indices: &'static RingIndices = unsafe { region.object(ports::tx_indices(p))? };
        let (rx, tx) = (ports::RX[p], ports::TX[p]);
        Some(Port {
            indices: [rx_indices, tx_indices],
            rx: Producer::new(rx_indices, region.part(rx.offset, rx.len)?)?,
            tx: Consumer::new(tx_indices, region.part(tx.offset, tx.len)?)?,
            vif: None,
            generation: 0,
            info_due: true,
        })
    }

    fn reset(&mut self) {
        for indices in self.indices {
            indices.reset();
        }
        self.rx.reset();
        self.tx.reset();
        self.info_due = true;
    }

    /// Tells the brane what the port is. `mac` is the bound vif's.
    fn send_info(&mut self, mac: Option<MacAddr>, wire: &WireLink) -> Result<(), RingError> {
        let info = match mac {
            Some(mac) => PortInfo {
                bound: 1,
                features: wire.features,
                generation: self.generation,
                mtu: wire.mtu,
                link_up: u8::from(wire.up),
                mac,
                ..PortInfo::default()
            },
            None => PortInfo {
                generation: self.generation,
                ..PortInfo::default()
            },
        };
        let meta = FrameMeta {
            kind: KIND_INFO,
            ..FrameMeta::default()
        };
        self.rx.push(&[info.as_bytes()], meta.to_words())?;
        self.info_due = false;
        Ok(())
    }
}

impl Brane {
    /// Starts the driver's side; `None` when the region is too small. The brane must be notified once.
    pub fn start(region: SharedRegion) -> Option<Brane> {
        let link = Link::start(region, Side::A)?;
        let ports = [Port::new(region, 0)?, Port::new(region, 1)?];
        for port in &ports {
            // Whatever an earlier life left there.
            for indices in port.indices {
                indices.reset();
            }
        }
        let brane = Brane {
            link,
            ports,
            up: false,
            quarantined: false,
            pending: 0,
            must_notify: true,
            deficit: 0,
        };
        // From here on the brane's rings wake us; pending of before is found by the first look.
        let _ = brane.arm();
        Some(brane)
    }

    /// Looks at the link's state and follows it. Bounded: a restart costs one reset of two empty rings' indices.
    pub fn follow(&mut self) -> Change {
        let mut change = Change::None;
        let mut state = self.link.poll();
        if state == LinkState::PeerRestarted {
            for port in &mut self.ports {
                port.reset();
            }
            self.link.acknowledge();
            self.up = false;
            self.quarantined = false;
            self.pending = 0;
            self.must_notify = true;
            change = Change::Restarted;
            state = self.link.poll();
        }
        self.up = state == LinkState::Up && !self.quarantined;
        change
    }

    /// Nothing more from or to this brane until it restarts.
    pub fn quarantine(&mut self) {
        self.up = false;
        self.quarantined = true;
    }

    /// Takes the marks of the brane's doorbell towards us: `port_bit`s.
    pub fn take_marks(&self) -> u64 {
        self.link.own_bell().take()
    }

    /// Before sleep: `false` when there are new marks.
    pub fn arm(&self) -> bool {
        self.link.own_bell().arm()
    }

    /// Tells the brane what port `p` is, if that is due. `Ok(false)` when there is no room yet.
    pub fn inform(&mut self, p: usize, mac: Option<MacAddr>, wire: &WireLink) -> Result<bool, RingError> {
        let port = &mut self.ports[p];
        if !port.info_due {
            return Ok(true);
        }
        match port.send_info(mac, wire) {
            Ok(()) => {
                self.pending |= port_bit(p);
                Ok(true)
            }
            Err(RingError::Peer) => Err(RingError::Peer),
            Err(RingError::Full | RingError::TooLong) => Ok(false),
        }
    }

    /// Publishes all that was put in the rings. Returns whether the brane has to be notified.
    pub fn publish(&mut self) -> bool {
        let mut notify = core::mem::take(&mut self.must_notify);
        if self.pending != 0 {
            for port in &mut self.ports {
                let _ = port.rx.publish();
            }
            notify |= self.link.peer_bell().ring(core::mem::take(&mut self.pending));
        }
        notify
    }
}
