//! The link-level heads: the points at which hooks see each frame of an interface, with its Ethernet header. A packet of `lo0`
//! begins with its IP header.
//!
//! Each interface has a head for received frames, before any check, and one for sent frames, behind the last change. Frames come
//! from any host. Captures ([`super::capture`]) are the first subscriber: they see a received frame before all other hooks, and a
//! sent frame after them.
//!
//! While no hook is attached to any interface, there are no [`LinkHeads`], and a frame pays one branch.

use super::capture::Captures;
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::filter::Direction;
use branes_pfil::chain::{Head, Verdict};
use core::cell::Cell;

/// Rank of the captures in heads for received frames: before all others.
const CAPTURE_IN: u16 = 0;
/// Rank of the captures in heads for sent frames: behind all others.
const CAPTURE_OUT: u16 = u16::MAX;

/// A subscriber of a link-level head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkHook {
    /// The brane's captures.
    Captures,
}

/// The two heads of an interface, by direction.
type Point = [Head<LinkHook>; 2];

/// The heads of all interfaces. Clones share them.
#[derive(Clone)]
pub struct LinkHeads(Rc<Shared>);

struct Shared {
    /// Time of the present turn, in nanoseconds.
    now: Cell<u64>,
    captures: Captures,
    /// By the interface's number. No other code uses the number of an interface without hooks.
    points: Vec<(usize, Point)>,
}

impl LinkHeads {
    /// Makes the heads of the interfaces that have hooks. Returns `None` if none has.
    pub fn new(now: u64, captures: &Captures, interfaces: impl Iterator<Item = usize>) -> Option<LinkHeads> {
        let mut points = Vec::new();
        for index in interfaces.filter(|index| captures.watches(*index)) {
            let mut point = Point::default();
            for (direction, rank) in [(Direction::In, CAPTURE_IN), (Direction::Out, CAPTURE_OUT)] {
                let head = &mut point[direction as usize];
                // The name is short, and the head was empty.
                head.attach(rank, "capture", LinkHook::Captures).ok()?;
            }
            points.push((index, point));
        }
        (!points.is_empty()).then(|| {
            LinkHeads(Rc::new(Shared {
                now: Cell::new(now),
                captures: captures.clone(),
                points,
            }))
        })
    }

    /// Sets the time that hooks see.
    pub fn set_now(&self, now: u64) {
        self.0.now.set(now);
    }

    /// Returns true if an interface has hooks.
    pub fn has(&self, index: usize) -> bool {
        self.0.points.iter().any(|(number, _)| *number == index)
    }

    /// Runs the head of an interface. Returns true if the frame goes on.
    pub fn passes(&self, direction: Direction, index: usize, frame: &[u8]) -> bool {
        let Some((_, point)) = self.0.points.iter().find(|(number, _)| *number == index) else {
            return true;
        };
        let verdict = point[direction as usize].run(|hook| match hook {
            LinkHook::Captures => {
                let sent = direction == Direction::Out;
                self.0.captures.frame(self.0.now.get(), index, sent, frame);
                Verdict::Pass
            }
        });
        verdict.goes_on()
    }
}
