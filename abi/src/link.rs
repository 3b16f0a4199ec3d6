//! The head of every region that two restartable sides share: who is alive, since when, and who knows of it.
//!
//! Each side has an epoch (raised at each of its starts, never 0 while alive) and an acknowledgement (the epoch of the
//! peer that it has seen). A side that starts withdraws its acknowledgement, raises its epoch and notifies. A side
//! that sees a new epoch of its peer drops all private state about the region, zeroes the ring indices of both
//! directions, and acknowledges. The link is up for a side when both have acknowledged each other's present epoch:
//! then all indices are 0 and both know it. A side uses the rings only while the link is up.
//!
//! Both words of a side are written by that side alone in an honest system; a side that lies can only break its own
//! link, and each reset it causes is bounded work that the other counts.

use crate::doorbell::Doorbell;
use crate::shared::SharedRegion;
use crate::sync::{AtomicU32, Ordering};

/// `b"BRN1"`, in every side's mark.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BRN1");

/// Version of everything in this crate; two sides of different versions do not talk.
pub const VERSION: u32 = 1;

/// Which side of a region one is. By convention the more trusted side is `A` (driver, manager, brane before client).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server's side: driver towards brane, manager towards brane, brane towards client.
    A,
    /// The user's side.
    B,
}

/// What one side says of itself.
#[repr(C, align(64))]
#[derive(Default)]
pub struct SideState {
    magic: AtomicU32,
    version: AtomicU32,
    epoch: AtomicU32,
    ack: AtomicU32,
}

/// The first bytes of a shared region: both sides' state and both doorbells. All zero before anybody started.
#[repr(C, align(64))]
#[derive(Default)]
pub struct LinkHeader {
    side: [SideState; 2],
    bell: [Doorbell; 2],
}

/// What a look at the header says; see [`Link::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The peer has not started or has not yet seen us: do not touch the rings.
    Down,
    /// The peer speaks another version, or rubbish: do not touch the rings.
    Incompatible,
    /// The peer has (re)started: drop everything about it, zero the rings' indices, call [`Link::acknowledge`].
    PeerRestarted,
    /// Both sides agree: use the rings.
    Up,
}

/// One side's private handle of a link.
pub struct Link {
    header: &'static LinkHeader,
    me: usize,
    epoch: u32,
    peer_epoch: u32,
    pending: u32,
}

impl Link {
    /// Starts our side: withdraws our acknowledgement, raises our epoch. The caller notifies the peer once after it,
    /// whatever the doorbell says. `None` when the region is too small or not aligned.
    pub fn start(region: SharedRegion, side: Side) -> Option<Link> {
        // SAFETY: LinkHeader is made of atomics only.
        let header = unsafe { region.object(0)? };
        Some(Link::start_at(header, side))
    }

    /// Starts our side over a header that the caller has found.
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

    /// Looks at the peer's state. Cheap: a few loads.
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

    /// Acknowledges the peer's epoch that [`Self::poll`] last reported. Our rings must be zeroed by now. The caller
    /// notifies the peer once after it.
    pub fn acknowledge(&mut self) {
        self.peer_epoch = self.pending;
        self.header.side[self.me]
            .ack
            .store(self.peer_epoch, Ordering::SeqCst);
    }

    /// Our own epoch: how often this side has started, as far as the region remembers.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The peer's epoch that we have acknowledged; 0 when none.
    pub fn peer_epoch(&self) -> u32 {
        self.peer_epoch
    }

    /// The doorbell that wakes us.
    pub fn own_bell(&self) -> &'static Doorbell {
        &self.header.bell[self.me]
    }

    /// The doorbell that wakes the peer.
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
