//! The brane's end of the region that it shares with the NIC driver: the link, and the rings of each port.
//!
//! The driver is trusted for keeping frames apart, and not to touch a frame that it has published; an impossible index can
//! only mean that it restarts, and ends the link until it does.

use crate::counters::Counters;
use brane_abi::layout::{PORTS_PER_BRANE, ports};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::port::PortInfo;
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;

/// One port.
pub struct Port {
    /// Frames from the driver.
    pub rx: Consumer,
    /// The ring to the driver, while no interface has it.
    pub tx: Option<Producer>,
    /// What the driver last said of it.
    pub info: Option<PortInfo>,
    /// The interface that the frames from here on are for; none before the driver has said so.
    pub user: Option<usize>,
    /// The binding that an interface had which is gone: no other interface gets its frames.
    pub retired: Option<u32>,
    indices: [&'static RingIndices; 2],
}

/// All ports to one driver.
pub struct Ports {
    /// The link.
    pub link: Link,
    /// The rings may be used.
    pub up: bool,
    broken: bool,
    /// Doorbell bits of ports that may have frames.
    pub pending: u64,
    /// Each port.
    pub port: [Port; PORTS_PER_BRANE],
    /// The driver must be notified whatever its doorbell says.
    pub notify: bool,
}

/// What a look at the link has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing new.
    None,
    /// The driver has restarted or gone: interfaces must give the rings back, then [`Ports::reset`] must be called.
    Lost,
}

impl Ports {
    /// Starts our side of the link. `None` when the region is too small or not aligned.
    pub fn start(region: SharedRegion) -> Option<Ports> {
        if region.len() < ports::SIZE {
            return None;
        }
        let port = |p: usize| {
            // SAFETY: RingIndices is made of atomics only.
            let indices = |offset| unsafe { region.object::<RingIndices>(offset) };
            let indices = [indices(ports::rx_indices(p))?, indices(ports::tx_indices(p))?];
            let data = |part: brane_abi::layout::Part| region.part(part.offset, part.len);
            Some(Port {
                rx: Consumer::new(indices[0], data(ports::RX[p])?)?,
                tx: Some(Producer::new(indices[1], data(ports::TX[p])?)?),
                info: None,
                user: None,
                retired: None,
                indices,
            })
        };
        Some(Ports {
            port: [port(0)?, port(1)?],
            pending: 0,
            link: Link::start(region, Side::B)?,
            up: false,
            broken: false,
            notify: true,
        })
    }

    /// Looks at the link.
    pub fn look(&mut self, counters: &mut Counters) -> Change {
        match self.link.poll() {
            LinkState::PeerRestarted => Change::Lost,
            LinkState::Up => {
                if !self.up && !self.broken {
                    self.up = true;
                    // Bits that were rung before we looked are gone, so look at every port.
                    self.pending = u64::MAX;
                    counters.driver_links += 1;
                }
                Change::None
            }
            LinkState::Down | LinkState::Incompatible if self.up => {
                self.fail();
                Change::None
            }
            _ => Change::None,
        }
    }

    /// The driver broke the rings' rules: they are not used until it restarts.
    pub fn fail(&mut self) {
        self.up = false;
        self.broken = true;
    }

    /// Empties all rings and tells the driver that we know of it. All of them must be back here.
    pub fn reset(&mut self) {
        self.up = false;
        self.broken = false;
        for port in &mut self.port {
            port.indices.iter().for_each(|indices| indices.reset());
            port.rx.reset();
            if let Some(tx) = &mut port.tx {
                tx.reset();
            }
            (port.info, port.user, port.retired) = (None, None, None);
        }
        self.link.acknowledge();
        self.notify = true;
    }
}
