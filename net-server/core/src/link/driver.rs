//! The brane's end of the region that it shares with the NIC driver: the link, and the rings of each port.
//!
//! The driver is trusted for keeping frames apart, and not to touch a frame that it has published. An impossible index can
//! only mean that it restarts; it ends the link until the driver has.

use crate::counters::Counters;
use alloc::vec::Vec;
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair, Rings};
use brane_abi::layout::ports;
use brane_abi::link::Side;
use brane_abi::port::PortInfo;
use brane_abi::ring::{Consumer, Producer};
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
}

impl Rings for Port {
    fn reset(&mut self) {
        self.rx.reset();
        if let Some(tx) = &mut self.tx {
            tx.reset();
        }
        (self.info, self.user, self.retired) = (None, None, None);
    }
}

/// All ports to one driver.
pub struct Ports {
    /// The link with the driver.
    pub endpoint: Endpoint<Vec<Port>>,
    /// Doorbell bits of ports that may have frames.
    pub pending: u64,
}

impl Ports {
    /// Starts the brane's side of the link. Returns `None` if the region is too small or not aligned.
    pub fn start(region: SharedRegion) -> Option<Ports> {
        let port = |p| {
            let RingPair { tx, rx } = ports::brane_rings(region, p)?;
            Some(Port {
                rx,
                tx: Some(tx),
                info: None,
                user: None,
                retired: None,
            })
        };
        let count = ports::count(region.len());
        let all: Option<Vec<Port>> = (0..count).map(port).collect();
        Some(Ports {
            endpoint: Endpoint::start(region, Side::B, all.filter(|_| count != 0)?)?,
            pending: 0,
        })
    }

    /// Returns the number of ports.
    #[inline]
    pub fn count(&self) -> usize {
        self.endpoint.rings.len()
    }

    /// One port.
    #[inline]
    pub fn port(&mut self, p: usize) -> &mut Port {
        &mut self.endpoint.rings[p]
    }

    /// Polls the link. Returns false if the driver has restarted: then interfaces give the rings back, the endpoint accepts,
    /// and the link is polled again.
    pub fn poll(&mut self, counters: &mut Counters) -> bool {
        match self.endpoint.poll() {
            LinkEvent::PeerRestarted => return false,
            LinkEvent::CameUp => {
                // Bits that were rung before are lost, so every port is looked at.
                self.pending = u64::MAX;
                counters.driver_links += 1;
            }
            LinkEvent::Unchanged | LinkEvent::Lost | LinkEvent::Incompatible => {}
        }
        true
    }
}
