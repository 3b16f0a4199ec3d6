//! What a hostile brane does to spend the driver's time: each step costs the brane little and the driver as much as it can.

use super::{HostileBrane, Notify, start_reset};
use brane_abi::layout::ports;
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, port_bit};
use core::sync::atomic::{AtomicU32, Ordering};

/// The kinds of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// It fills its ring once with records of no bytes, and then only moves the index on by a whole ring.
    Replay,
    /// It notifies the driver with nothing in its rings.
    Notifications,
    /// It sends as many frames of the shortest length as the ring takes, from its own address to an unused one, and notifies
    /// the driver after each step.
    Frames,
    /// The same, but it notifies the driver only where the driver has armed the doorbell, as a brane has to.
    ArmedFrames,
}

/// A station that is not there.
const NOBODY: MacAddr = MacAddr([2, 0x99, 0x99, 0x99, 0x99, 0x99]);
/// Bytes of the shortest frame (IEEE 802.3), without its FCS.
const SHORTEST: usize = 60;
/// Frames or records of one step at most.
const STEP: usize = 256;
/// Steps without progress after which it starts the link anew: it has been cut off.
const PATIENCE: u32 = 20_000;

/// What it remembers from one step to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flooding {
    /// What it did last.
    last: Option<Flood>,
    /// The ring is full of records.
    filled: bool,
    /// The driver's index as last seen, and for how many steps.
    head: u32,
    stuck: u32,
    /// How often it moved the index on by a whole ring.
    pub replays: u64,
}

impl HostileBrane {
    /// One step. Does nothing before the port is known.
    pub fn flood(&mut self, flood: Flood) -> Notify {
        let driver = Notify {
            driver: true,
            manager: false,
        };
        let Some(own) = self.mac else {
            return Notify::default();
        };
        if self.flooding.last.replace(flood) == Some(Flood::Replay) && flood != Flood::Replay {
            // The driver has cut it off, or will.
            start_reset(self);
            return driver;
        }
        if flood == Flood::Notifications {
            return driver;
        }
        if self.tx.is_none() {
            return self.behave();
        }
        if flood == Flood::Replay {
            if self.flooding.filled {
                return self.replay();
            }
            self.flooding.filled = self.fill(None);
        } else {
            self.fill(Some(own));
        }
        let armed = (self.driver.as_ref()).is_some_and(|link| link.peer_bell().ring(port_bit(0)));
        Notify {
            // In the middle of a ring the driver would only keep it from getting full.
            driver: armed || flood == Flood::Frames || self.flooding.filled,
            manager: false,
        }
    }

    /// Puts records into the ring: frames from this address, or records of no bytes. Returns true if the ring is full.
    fn fill(&mut self, own: Option<MacAddr>) -> bool {
        let Some(tx) = &mut self.tx else {
            return false;
        };
        let mut frame = [0; SHORTEST];
        if let Some(own) = own {
            frame[..6].copy_from_slice(&NOBODY.0);
            frame[6..12].copy_from_slice(&own.0);
            frame[12..14].copy_from_slice(&super::ETHERTYPE.to_be_bytes());
        }
        let bytes = own.map_or(&[][..], |_| &frame);
        let pushed = (0..STEP).take_while(|_| tx.push(&[bytes], FrameMeta::default().to_words()).is_ok());
        let full = pushed.count() < STEP;
        tx.publish();
        full
    }

    /// Moves the index on by a whole ring if the driver has taken all of it.
    fn replay(&mut self) -> Notify {
        // SAFETY: atomics only; the region is mapped writable.
        let words = unsafe {
            let tail = self.ports.object::<AtomicU32>(ports::tx_indices(0));
            (tail, self.ports.object::<AtomicU32>(ports::tx_indices(0) + 64))
        };
        let (Some(tail), Some(head)) = words else {
            return Notify::default();
        };
        let taken = head.load(Ordering::Acquire);
        let end = tail.load(Ordering::Relaxed);
        if taken == end {
            tail.store(end.wrapping_add(ports::TX[0].len as u32), Ordering::Release);
            self.flooding.replays += 1;
        }
        if taken != core::mem::replace(&mut self.flooding.head, taken) {
            self.flooding.stuck = 0;
        }
        self.flooding.stuck += 1;
        if self.flooding.stuck > PATIENCE {
            start_reset(self);
        }
        Notify {
            driver: true,
            manager: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_before_the_port_is_known() {
        let memory = std::boxed::Box::leak(std::vec![0u64; 2 * ports::SIZE / 8].into_boxed_slice());
        let base = core::ptr::NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        // SAFETY: the memory is never freed and reached only through this value's copies.
        let region = unsafe { brane_abi::shared::SharedRegion::new(base, ports::SIZE) };
        let mut brane = HostileBrane::new(region, region, 0);
        for flood in [
            Flood::Replay,
            Flood::Notifications,
            Flood::Frames,
            Flood::ArmedFrames,
        ] {
            assert_eq!(brane.flood(flood), Notify::default());
        }
    }
}
