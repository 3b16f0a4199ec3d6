//! Floods of a hostile brane that spend the driver's time: each step costs the brane little and the driver as
//! much as possible.
//!
//! On the other side: the real driver, which must bound its work for a brane.

use super::{HostileBrane, Notify, start_reset};
use brane_abi::layout::ports;
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, port_bit};
use core::sync::atomic::{AtomicU32, Ordering};

/// Kinds of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Records of no bytes that fill the ring once. Then only advances of the index by a whole ring.
    Replay,
    /// Notifications of the driver with nothing in the rings.
    Notifications,
    /// As many frames of the shortest length as the ring accepts, from the brane's own address to an unused
    /// one. A notification of the driver after each step.
    Frames,
    /// The frames of `Self::Frames`, with a notification only if the driver has armed the doorbell, as a brane
    /// must do.
    ArmedFrames,
}

/// Address of a station that does not exist.
const NOBODY: MacAddr = MacAddr([2, 0x99, 0x99, 0x99, 0x99, 0x99]);
/// Size of the shortest frame (IEEE 802.3) in bytes, without its FCS.
const SHORTEST: usize = 60;
/// Maximum number of frames or records of one step.
const STEP: usize = 256;
/// Steps without progress after which the brane resets the link, because the driver has quarantined it.
const PATIENCE: u32 = 20_000;

/// State between two steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flooding {
    /// The last kind of flood.
    last: Option<Flood>,
    /// True if the ring is full of records.
    filled: bool,
    /// The driver's last index, and the number of steps since it changed.
    head: u32,
    stuck: u32,
    /// Number of times that the index was advanced by a whole ring.
    pub replays: u64,
}

impl HostileBrane {
    /// Runs one step. Does nothing before the port is known.
    pub fn flood(&mut self, flood: Flood) -> Notify {
        let driver = Notify {
            driver: true,
            manager: false,
        };
        let Some(own) = self.mac else {
            return Notify::default();
        };
        if self.flooding.last.replace(flood) == Some(Flood::Replay) && flood != Flood::Replay {
            // The driver has quarantined the brane, or will do so.
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
            // While the ring is being filled, a notified driver would only keep it from becoming full.
            driver: armed || flood == Flood::Frames || self.flooding.filled,
            manager: false,
        }
    }

    /// Enqueues frames from this address, or records of no bytes. Returns true if the ring is full.
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

    /// Advances the index by a whole ring if the driver has consumed the ring.
    fn replay(&mut self) -> Notify {
        // SAFETY: the objects are atomics, and the region is mapped writable.
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
        // SAFETY: the memory is never freed, and it is reached only through copies of this value.
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
