//! One brane as the driver sees it: the end of its region `ports-N`, with the two rings of each of its ports.
//!
//! It owns the driver's side of the link. On the other side is the brane, which is not trusted: a violation of the ring
//! protocol ends in quarantine until the brane restarts ([`Endpoint`]).

use crate::Link as WireLink;
use arrayvec::ArrayVec;
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair, Rings};
use brane_abi::layout::ports;
use brane_abi::link::Side;
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, KIND_INFO, PortInfo, port_bit};
use brane_abi::ring::{Consumer, Producer, RingError};
use brane_abi::shared::SharedRegion;
use zerocopy::IntoBytes;

/// A port: its rings, and the vif that is bound to it.
pub struct Port {
    /// To the brane.
    pub rx: Producer,
    /// From the brane.
    pub tx: Consumer,
    /// The vif's slot.
    pub vif: Option<u8>,
    /// Number of bindings so far, modulo 2^32.
    pub generation: u32,
    /// The port's [`PortInfo`] has to be sent before the next frame.
    pub info_due: bool,
}

/// A brane with `P` ports.
pub struct Brane<const P: usize> {
    /// The driver's side of the link. Its rings are the ports.
    pub endpoint: Endpoint<[Port; P]>,
    /// Ports with records that are not published: [`port_bit`]s.
    pub pending: u64,
    /// Bytes that the brane may still send in this turn, or has left from its last one: less than two [`crate::QUANTUM`]s.
    pub deficit: usize,
}

/// What [`Brane::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The brane has not restarted. The link may have come up or gone down.
    None,
    /// The brane has (re)started. Its rings were reset.
    Restarted,
}

impl Port {
    fn new(region: SharedRegion, p: usize) -> Option<Port> {
        let RingPair { tx: rx, rx: tx } = ports::driver_rings(region, p)?;
        Some(Port {
            rx,
            tx,
            vif: None,
            generation: 0,
            info_due: true,
        })
    }

    /// Sends the port's [`PortInfo`]. `mac` is the bound vif's address, `None` if no vif is bound.
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

impl Rings for Port {
    fn reset(&mut self) {
        self.rx.reset();
        self.tx.reset();
        self.info_due = true;
    }
}

impl<const P: usize> Brane<P> {
    /// Starts the driver's side of the link. Returns `None` if the region is too small or not aligned.
    pub fn start(region: SharedRegion) -> Option<Brane<P>> {
        let ports: ArrayVec<Port, P> = (0..P).map_while(|p| Port::new(region, p)).collect();
        let brane = Brane {
            endpoint: Endpoint::start(region, Side::A, ports.into_inner().ok()?)?,
            pending: 0,
            deficit: 0,
        };
        // From here on the brane's doorbell wakes the driver. Records of an earlier incarnation are found by the first poll.
        let _ = brane.endpoint.arm();
        Some(brane)
    }

    /// Returns true if the brane's rings may be used.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.endpoint.is_up()
    }

    /// Returns port `p`, which must be below `P`.
    #[inline]
    pub fn port(&mut self, p: usize) -> &mut Port {
        &mut self.endpoint.rings[p]
    }

    /// Polls the link, and accepts the brane's new incarnation if there is one. Costs a few loads, and after a restart one
    /// reset of the rings' indices.
    pub fn poll(&mut self) -> Change {
        if self.endpoint.poll() != LinkEvent::PeerRestarted {
            return Change::None;
        }
        self.pending = 0;
        self.endpoint.accept();
        // A peer that changes its epoch between the two polls is accepted at the next wake.
        let _ = self.endpoint.poll();
        Change::Restarted
    }

    /// Sends the [`PortInfo`] of port `p` if it is due. Returns `Ok(false)` if the ring has no room for it.
    pub fn send_info(&mut self, p: usize, mac: Option<MacAddr>, wire: &WireLink) -> Result<bool, RingError> {
        let port = &mut self.endpoint.rings[p];
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

    /// Publishes all records that were put into the rings. Returns true if the brane must be notified.
    pub fn flush(&mut self) -> bool {
        let pending = core::mem::take(&mut self.pending);
        if pending != 0 {
            for port in &mut self.endpoint.rings {
                let _ = port.rx.publish();
            }
        }
        self.endpoint.flush(pending)
    }
}
