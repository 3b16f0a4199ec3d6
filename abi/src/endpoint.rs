//! One end of a shared region: link header, rings and doorbells, and the handshake that ties them together.
//!
//! An [`Endpoint`] owns its side of the link ([`crate::link`]) and its handles of the region's rings. On the other side is the
//! peer. The peer may restart at any moment and need not be trusted: its writes into the region cost bounded work and lead, at
//! worst, to quarantine.
//!
//! | state | the rings | leaves it |
//! | --- | --- | --- |
//! | down | must not be used | when both sides have acknowledged each other's present epoch: [`LinkEvent::CameUp`] |
//! | up | may be used | when the peer restarts, withdraws ([`LinkEvent::Lost`]) or violates the protocol |
//! | quarantined | must not be used | when the peer restarts with a new epoch; without one the link does not come back |
//!
//! **Use.** After each wake: [`Endpoint::wake`], then [`Endpoint::poll`]. If the peer has restarted, drop all state about it,
//! call [`Endpoint::accept`] and poll again. If the link has come up, poll every ring, because earlier doorbell bits are lost.
//! After the work: [`Endpoint::flush`], which returns whether the peer must be notified. Before sleep: [`Endpoint::arm`]. If a
//! ring operation returns [`RingError::Peer`](crate::ring::RingError::Peer): [`Endpoint::violation`].

use crate::doorbell::Doorbell;
use crate::layout::Part;
#[cfg(loom)]
use crate::link::LinkHeader;
use crate::link::{Link, LinkState, Side};
use crate::ring::{Consumer, Producer, RingIndices};
use crate::shared::SharedRegion;
use alloc::vec::Vec;

/// The handles of a region's rings, which are reset for each incarnation of the peer.
pub trait Rings {
    /// Empties every ring: zeroes the shared indices of both directions and this end's private ones.
    fn reset(&mut self);
}

/// One ring for each direction.
pub struct RingPair {
    /// The ring to the peer.
    pub tx: Producer,
    /// The ring from the peer.
    pub rx: Consumer,
}

impl RingPair {
    /// Creates both handles, each from the place of its indices and its data. Returns `None` if they do not fit in the region.
    pub fn new(region: SharedRegion, tx: (usize, Part), rx: (usize, Part)) -> Option<RingPair> {
        let at = |(indices, data): (usize, Part)| -> Option<(&'static RingIndices, SharedRegion)> {
            // SAFETY: RingIndices is made of atomics only.
            let indices = unsafe { region.object::<RingIndices>(indices)? };
            Some((indices, region.part(data.offset, data.len)?))
        };
        let ((tx_indices, tx_data), (rx_indices, rx_data)) = (at(tx)?, at(rx)?);
        Some(RingPair {
            tx: Producer::new(tx_indices, tx_data)?,
            rx: Consumer::new(rx_indices, rx_data)?,
        })
    }
}

impl Rings for RingPair {
    fn reset(&mut self) {
        self.tx.reset();
        self.rx.reset();
    }
}

/// A ring to the peer only.
impl Rings for Producer {
    fn reset(&mut self) {
        Producer::reset(self);
    }
}

/// A ring from the peer only.
impl Rings for Consumer {
    fn reset(&mut self) {
        Consumer::reset(self);
    }
}

impl<R: Rings, const N: usize> Rings for [R; N] {
    fn reset(&mut self) {
        self.iter_mut().for_each(R::reset);
    }
}

impl<R: Rings> Rings for Vec<R> {
    fn reset(&mut self) {
        self.iter_mut().for_each(R::reset);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The peer's incarnation is accepted, or the peer has not started yet.
    Down,
    Up,
    /// The peer has restarted, and this side has not accepted it yet. A peer that takes its new epoch back stays here.
    Restarted,
    Quarantined,
}

/// Change of the link since the last poll.
#[must_use = "the rings may have to be dropped"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Nothing: the rings may be used if they could be before.
    Unchanged,
    /// The peer has restarted. Drop all state about it, then call [`Endpoint::accept`]. Returned at each poll until then.
    PeerRestarted,
    /// Both sides agree: the rings are empty and may be used from now on.
    CameUp,
    /// The link was up, and the peer has withdrawn without a new epoch: quarantined. Its restart may follow at once.
    Lost,
    /// The peer has another version or an invalid magic: quarantined. Returned once.
    Incompatible,
}

/// One end of a shared region.
pub struct Endpoint<R> {
    link: Link,
    state: State,
    /// True if the peer must be notified whatever its doorbell returns.
    notify: bool,
    /// The handles of the rings. Use them only while [`Self::is_up`].
    pub rings: R,
}

impl<R: Rings> Endpoint<R> {
    /// Starts a new incarnation of this side. The peer is notified by the next [`Self::flush`]. Returns `None` if the region
    /// is too small or not aligned.
    pub fn start(region: SharedRegion, side: Side, rings: R) -> Option<Endpoint<R>> {
        Some(Endpoint::new(Link::start(region, side)?, rings))
    }

    /// Starts as [`Self::start`], over a header of the model checker.
    #[cfg(loom)]
    pub fn start_at(header: &'static LinkHeader, side: Side, rings: R) -> Endpoint<R> {
        Endpoint::new(Link::start_at(header, side), rings)
    }

    fn new(link: Link, rings: R) -> Endpoint<R> {
        Endpoint {
            link,
            state: State::Down,
            notify: true,
            rings,
        }
    }

    /// Reads the peer's words in the link header and changes the state accordingly. Returns what has changed. Costs a few loads.
    #[inline]
    pub fn poll(&mut self) -> LinkEvent {
        match (self.link.poll(), self.state) {
            (LinkState::Up, State::Up | State::Restarted | State::Quarantined)
            | (LinkState::Down, State::Down | State::Restarted | State::Quarantined)
            | (LinkState::Incompatible, State::Quarantined) => LinkEvent::Unchanged,
            (LinkState::Up, State::Down) => {
                self.state = State::Up;
                LinkEvent::CameUp
            }
            (LinkState::PeerRestarted, _) => {
                self.state = State::Restarted;
                LinkEvent::PeerRestarted
            }
            (LinkState::Down, State::Up) => {
                self.state = State::Quarantined;
                LinkEvent::Lost
            }
            (LinkState::Incompatible, State::Down | State::Up | State::Restarted) => {
                self.state = State::Quarantined;
                LinkEvent::Incompatible
            }
        }
    }

    /// Accepts the peer's new incarnation, after [`LinkEvent::PeerRestarted`]: empties the rings and acknowledges the epoch
    /// that was polled. The peer is notified by the next [`Self::flush`].
    pub fn accept(&mut self) {
        self.state = State::Down;
        self.rings.reset();
        self.link.acknowledge();
        self.notify = true;
    }

    /// Handles a protocol violation. Quarantines the peer and returns true, unless the peer has just restarted. After a restart
    /// the impossible indices belong to the new incarnation: returns false, and the next poll reports the restart.
    ///
    /// In both cases the rings must not be used afterwards.
    #[must_use = "a true result is a protocol violation to be counted"]
    pub fn violation(&mut self) -> bool {
        // The peer's new incarnation raises its epoch before it writes an index, so the epoch tells the two cases apart.
        let restarted = self.link.poll() == LinkState::PeerRestarted;
        self.state = if restarted {
            State::Restarted
        } else {
            State::Quarantined
        };
        !restarted
    }
}

impl<R> Endpoint<R> {
    /// Returns true if the rings may be used, as of the last poll.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Returns true if the peer is ignored until it restarts.
    pub fn is_quarantined(&self) -> bool {
        self.state == State::Quarantined
    }

    /// Disarms the doorbell that wakes this side and returns the bits that were rung since the last call.
    #[inline]
    pub fn wake(&self) -> u64 {
        self.link.own_bell().disarm();
        self.link.own_bell().take()
    }

    /// Arms the doorbell that wakes this side. Returns false if it was rung meanwhile; then work again instead of sleeping.
    #[inline]
    #[must_use = "a false result means that there is work"]
    pub fn arm(&self) -> bool {
        self.link.own_bell().arm()
    }

    /// Rings `bits` of the peer's doorbell, if any. Returns true if the peer must be notified, for these bits or for a step of
    /// the handshake.
    #[inline]
    #[must_use = "a true result means that the peer sleeps until it is notified"]
    pub fn flush(&mut self, bits: u64) -> bool {
        let woken = bits != 0 && self.link.peer_bell().ring(bits);
        core::mem::take(&mut self.notify) | woken
    }

    /// Returns true if the next [`Self::flush`] notifies the peer for a step of the handshake.
    #[inline]
    pub fn must_notify(&self) -> bool {
        self.notify
    }

    /// Returns this side's epoch, the number of its incarnation.
    pub fn epoch(&self) -> u32 {
        self.link.epoch()
    }

    /// Returns the peer's epoch that was accepted; 0 if none.
    pub fn peer_epoch(&self) -> u32 {
        self.link.peer_epoch()
    }

    /// Returns the doorbell that wakes this side.
    pub fn own_bell(&self) -> &'static Doorbell {
        self.link.own_bell()
    }

    /// Returns the doorbell that wakes the peer.
    pub fn peer_bell(&self) -> &'static Doorbell {
        self.link.peer_bell()
    }
}
