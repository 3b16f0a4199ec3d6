//! The header of every region that two restartable sides share. It shows which sides run and in which incarnations.
//!
//! Each side has an epoch, which it raises at each of its starts and which is never 0 while it runs. Each side also has an
//! acknowledgement: the peer's epoch that the side has seen. The handshake:
//!
//! - A side that starts withdraws its acknowledgement, raises its epoch and notifies the peer.
//! - A side that sees a new epoch of its peer drops all private state about the region. It then zeroes the ring indices of both
//!   directions, and acknowledges.
//! - The link is up for a side when both sides have acknowledged each other's present epoch. All indices are then 0, and both
//!   sides know it. A side uses the rings only while the link is up.
//!
//! The peer need not be trusted. In an honest system only the side itself writes its two words. A dishonest side can only break
//! its own link, and each reset that it causes is bounded work that the peer counts.

use crate::doorbell::Doorbell;
use crate::shared::SharedRegion;
use crate::sync::{AtomicU32, Ordering};

/// `b"BRN1"`, the magic of both sides.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BRN1");

/// Version of everything in this crate. Sides of different versions do not communicate.
pub const VERSION: u32 = 1;

/// Side of a region. By convention the more trusted side is `A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server's side: driver towards brane, manager towards brane, brane towards client.
    A,
    /// The user's side: brane towards driver and manager, client towards brane.
    B,
}

/// State that one side publishes.
#[repr(C, align(64))]
#[derive(Default)]
pub struct SideState {
    magic: AtomicU32,
    version: AtomicU32,
    epoch: AtomicU32,
    ack: AtomicU32,
}

/// First bytes of a shared region: state and doorbell of both sides. All zero before the first start.
#[repr(C, align(64))]
#[derive(Default)]
pub struct LinkHeader {
    side: [SideState; 2],
    bell: [Doorbell; 2],
}

/// State of the header; see [`Link::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The peer has not started, or has not acknowledged this side yet: do not use the rings.
    Down,
    /// The peer has another version or an invalid magic: do not use the rings.
    Incompatible,
    /// The peer has (re)started: drop all state about it, zero the rings' indices, call [`Link::acknowledge`].
    PeerRestarted,
    /// Both sides agree: use the rings.
    Up,
}

/// Private handle of one side of a link.
pub struct Link {
    header: &'static LinkHeader,
    me: usize,
    epoch: u32,
    peer_epoch: u32,
    pending: u32,
}

impl Link {
    /// Starts this side: withdraws its acknowledgement and raises its epoch. The caller then notifies the peer once, whatever the
    /// doorbell returns. Returns `None` if the region is too small or not aligned.
    pub fn start(region: SharedRegion, side: Side) -> Option<Link> {
        // SAFETY: LinkHeader is made of atomics only.
        let header = unsafe { region.object(0)? };
        Some(Link::start_at(header, side))
    }

    /// Starts this side over a header that the caller has found.
    pub(crate) fn start_at(header: &'static LinkHeader, side: Side) -> Link {
        let me = side as usize;
        let mine = &header.side[me];
        mine.ack.store(0, Ordering::SeqCst);
        let epoch = match mine.epoch.load(Ordering::SeqCst).wrapping_add(1) {
            0 => 1,
            e => e,
        };
        mine.magic.store(MAGIC, Ordering::SeqCst);
        mine.version.store(VERSION, Ordering::SeqCst);
        mine.epoch.store(epoch, Ordering::SeqCst);
        Link {
            header,
            me,
            epoch,
            peer_epoch: 0,
            pending: 0,
        }
    }

    /// Reads the peer's state. Costs a few loads.
    pub fn poll(&mut self) -> LinkState {
        let peer = &self.header.side[1 - self.me];
        let epoch = peer.epoch.load(Ordering::Acquire);
        if epoch == 0 {
            return LinkState::Down;
        }
        if epoch != self.peer_epoch {
            if peer.magic.load(Ordering::Acquire) != MAGIC || peer.version.load(Ordering::Acquire) != VERSION
            {
                return LinkState::Incompatible;
            }
            self.pending = epoch;
            return LinkState::PeerRestarted;
        }
        if peer.ack.load(Ordering::Acquire) == self.epoch {
            LinkState::Up
        } else {
            LinkState::Down
        }
    }

    /// Acknowledges the peer's epoch that [`Self::poll`] last reported. The caller zeroes the rings before the call, and notifies
    /// the peer once after it.
    pub fn acknowledge(&mut self) {
        self.peer_epoch = self.pending;
        self.header.side[self.me]
            .ack
            .store(self.peer_epoch, Ordering::SeqCst);
    }

    /// Returns this side's epoch: the number of its starts since the region was zeroed. After an overflow it continues at 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the peer's epoch that this side has acknowledged; 0 if none.
    pub fn peer_epoch(&self) -> u32 {
        self.peer_epoch
    }

    /// Returns the doorbell that wakes this side.
    pub fn own_bell(&self) -> &'static Doorbell {
        &self.header.bell[self.me]
    }

    /// Returns the doorbell that wakes the peer.
    pub fn peer_bell(&self) -> &'static Doorbell {
        &self.header.bell[1 - self.me]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::testing::Backing;

    #[test]
    fn both_sides_come_up_in_any_order_and_after_restarts() {
        let memory = Backing::new(4096);
        for _ in 0..3 {
            let mut a = Link::start(memory.region(), Side::A).unwrap();
            let mut b = Link::start(memory.region(), Side::B).unwrap();
            assert_eq!(a.poll(), LinkState::PeerRestarted);
            a.acknowledge();
            assert_eq!(a.poll(), LinkState::Down, "the peer has not seen us yet");
            assert_eq!(b.poll(), LinkState::PeerRestarted);
            b.acknowledge();
            assert_eq!((a.poll(), b.poll()), (LinkState::Up, LinkState::Up));

            let mut b = Link::start(memory.region(), Side::B).unwrap();
            assert_eq!(b.poll(), LinkState::PeerRestarted, "a fresh side knows nobody");
            assert_eq!(a.poll(), LinkState::PeerRestarted);
            a.acknowledge();
            assert_eq!(a.poll(), LinkState::Down, "the old acknowledgement was withdrawn");
            b.acknowledge();
            assert_eq!((a.poll(), b.poll()), (LinkState::Up, LinkState::Up));
        }
    }

    #[test]
    fn rubbish_is_incompatible() {
        let memory = Backing::new(4096);
        let mut a = Link::start(memory.region(), Side::A).unwrap();
        memory.fill(64, 64, 0xff);
        assert_eq!(a.poll(), LinkState::Incompatible);
    }
}
