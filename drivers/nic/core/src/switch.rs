//! The switch itself: frames from the wire to the vifs, and from the vifs to the wire and to each other.

use crate::mac::{self, Mac, MacTable};
use crate::port::{Brane, Change};
use crate::vifs::Vif;
use crate::{Device, Link, MAX_BRANES, MAX_VIFS, ROUNDS, TURN_BYTES, TURN_FRAMES, check};
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::port::{FrameMeta, MAX_FRAME, port_bit};
use brane_abi::ring::{Consumer, RingError};
use brane_abi::shared::SharedRegion;
use brane_abi::vif::MODE_BRIDGE;

/// What is counted for the whole switch. "Rx" is from the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchCounters {
    /// Frames received from the device.
    pub rx_frames: u64,
    /// Dropped: no vif has that destination.
    pub rx_unclaimed: u64,
    /// Dropped: shorter than an Ethernet header.
    pub rx_malformed: u64,
    /// Frames given to the device.
    pub tx_frames: u64,
    /// Dropped: the port that it came from has no vif.
    pub tx_unbound: u64,
    /// Restarts of branes seen.
    pub link_resets: u64,
    /// Times a brane broke the ring protocol and was cut off.
    pub peer_errors: u64,
}

/// The result of [`Switch::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Branes that sleep and have news: bit `n` for brane `n`.
    pub notify: u64,
}

/// The switch for `N` branes.
pub struct Switch<const N: usize> {
    pub(crate) branes: [Option<Brane>; N],
    pub(crate) vifs: [Vif; MAX_VIFS],
    pub(crate) table: MacTable,
    pub(crate) wire: Link,
    /// Vif slots that are bound to a port.
    pub(crate) bound: u64,
    /// Branes that may have frames to send.
    active: u64,
    /// Branes with something to publish.
    pub(crate) news: u64,
    /// Whose turn is first in the next round.
    first: u32,
    pub(crate) counters: SwitchCounters,
}

/// Why a brane's turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It has nothing more.
    Done,
    /// Its share is used up.
    Used,
    /// The device has no room.
    NoRoom,
}

impl<const N: usize> Default for Switch<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Switch<N> {
    /// Without branes and vifs.
    pub const fn new() -> Self {
        assert!(
            N <= MAX_BRANES,
            "more branes than a protection domain has channels"
        );
        Self {
            branes: [const { None }; N],
            vifs: [const { Vif::EMPTY }; MAX_VIFS],
            table: MacTable::new(),
            wire: Link {
                features: 0,
                mtu: 1500,
                up: false,
            },
            bound: 0,
            active: 0,
            news: 0,
            first: 0,
            counters: SwitchCounters {
                rx_frames: 0,
                rx_unclaimed: 0,
                rx_malformed: 0,
                tx_frames: 0,
                tx_unbound: 0,
                link_resets: 0,
                peer_errors: 0,
            },
        }
    }

    /// Takes brane `brane`'s region `ports-N`. `false` when there is no such brane or the region is too small.
    pub fn attach(&mut self, brane: usize, region: SharedRegion) -> bool {
        let Some(place) = self.branes.get_mut(brane) else {
            return false;
        };
        *place = Brane::start(region);
        self.news |= 1 << brane;
        self.active |= 1 << brane;
        place.is_some()
    }

    /// What the device is like from here on; tells all branes.
    pub fn set_link(&mut self, link: Link) {
        self.wire = link;
        for b in 0..N {
            if let Some(brane) = &mut self.branes[b] {
                for port in &mut brane.ports {
                    port.info_due = true;
                }
            }
            self.inform(b);
        }
    }

    /// The device as the branes know it.
    pub fn link(&self) -> Link {
        self.wire
    }

    /// Counters of the whole switch.
    pub fn counters(&self) -> SwitchCounters {
        self.counters
    }

    /// These branes (bit `n` for brane `n`) have notified: looks at their links; [`Self::transmit`] will look at their
    /// rings.
    pub fn wake(&mut self, branes: u64) {
        let mut left = branes;
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            if b < N {
                self.active |= 1 << b;
                self.follow(b);
            }
        }
    }

    fn follow(&mut self, b: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        let was_up = brane.up;
        if brane.follow() == Change::Restarted {
            self.counters.link_resets += 1;
        }
        if brane.must_notify {
            self.news |= 1 << b;
        }
        if brane.up && (!was_up || brane.ports.iter().any(|p| p.info_due)) {
            self.inform(b);
        }
    }

    /// Tells a brane what its ports are, where that is due.
    pub(crate) fn inform(&mut self, b: usize) {
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.up) else {
            return;
        };
        for p in 0..PORTS_PER_BRANE {
            let vif = brane.ports[p].vif;
            let mac = vif.map(|slot| self.vifs[usize::from(slot)].address);
            if brane.inform(p, mac, &self.wire).is_err() {
                return self.suspect(b);
            }
        }
        if brane.news != 0 {
            self.news |= 1 << b;
        }
    }

    /// A ring of this brane made no sense: it has restarted, or it is cut off.
    fn suspect(&mut self, b: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        if brane.follow() == Change::Restarted {
            self.counters.link_resets += 1;
            self.news |= 1 << b;
            if brane.up {
                self.inform(b);
            }
            return;
        }
        brane.cut();
        self.counters.peer_errors += 1;
        for port in &brane.ports {
            if let Some(slot) = port.vif {
                self.vifs[usize::from(slot)].counters.peer_errors += 1;
            }
        }
    }

    /// Hands out up to `budget` received frames. Returns whether the device has no more.
    pub fn receive(&mut self, device: &mut impl Device, budget: u32) -> bool {
        for _ in 0..budget {
            if !device.receive(|meta, parts| self.switch_received(meta, parts)) {
                return true;
            }
        }
        false
    }

    fn switch_received(&mut self, meta: FrameMeta, parts: &[&[u8]]) {
        self.counters.rx_frames += 1;
        let Some((to, from)) = parts.first().and_then(|part| mac::addresses(part)) else {
            self.counters.rx_malformed += 1;
            return;
        };
        if mac::is_group(to) {
            // Whoever has this source address sent it: it came back from outside.
            self.spread(self.bound, Some(from), parts, meta);
            return;
        }
        match self.table.find(to) {
            Some(slot) => self.deliver(slot, parts, meta),
            None => self.counters.rx_unclaimed += 1,
        }
    }

    /// A group frame to all vifs of `slots`, but for the one with address `except`.
    fn spread(&mut self, slots: u64, except: Option<Mac>, parts: &[&[u8]], meta: FrameMeta) {
        let mut left = slots;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            if except != Some(self.vifs[slot].mac) {
                self.deliver(slot, parts, meta);
            }
        }
    }

    /// One frame into the ring of the vif's port, or dropped and counted.
    fn deliver(&mut self, slot: usize, parts: &[&[u8]], meta: FrameMeta) {
        let vif = &mut self.vifs[slot];
        let Some((b, p)) = vif.port else {
            vif.counters.rx_dropped += 1;
            return;
        };
        let (b, p) = (usize::from(b), usize::from(p));
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.up) else {
            vif.counters.rx_dropped += 1;
            return;
        };
        let told = match brane.ports[p].info_due {
            false => Ok(true),
            true => brane.inform(p, Some(vif.address), &self.wire),
        };
        let pushed = match told {
            Ok(true) => brane.ports[p].rx.push(parts, meta.to_words()),
            Ok(false) => Err(RingError::Full),
            Err(e) => Err(e),
        };
        match pushed {
            Ok(()) => {
                vif.counters.rx_frames += 1;
                vif.counters.rx_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                brane.news |= port_bit(p);
                self.news |= 1 << b;
            }
            Err(e) => {
                vif.counters.rx_dropped += 1;
                if e == RingError::Peer {
                    self.suspect(b);
                }
            }
        }
    }

    /// Sends what the branes that have notified have in their rings, in turns. Returns whether all was taken: if not, the
    /// device has no room (call again when it has), or the branes filled their rings all the while.
    pub fn transmit(&mut self, device: &mut impl Device) -> bool {
        for _ in 0..ROUNDS {
            if self.active == 0 {
                return true;
            }
            // From `first` upwards, then from 0.
            let above = self.active & (u64::MAX << self.first);
            for mut left in [above, self.active & !above] {
                while left != 0 {
                    let b = left.trailing_zeros();
                    left &= left - 1;
                    match self.turn(b as usize, device) {
                        Turn::Done => self.active &= !(1 << b),
                        Turn::Used => {}
                        Turn::NoRoom => {
                            self.first = b;
                            return false;
                        }
                    }
                }
            }
        }
        false
    }

    /// One brane's turn: bounded by [`TURN_FRAMES`] and [`TURN_BYTES`].
    fn turn(&mut self, b: usize, device: &mut impl Device) -> Turn {
        let Some(brane) = &mut self.branes[b] else {
            return Turn::Done;
        };
        let _ = brane.take_marks();
        let mut frames = TURN_FRAMES;
        let mut bytes = TURN_BYTES;
        let mut end = Turn::Done;
        if brane.up {
            for p in 0..PORTS_PER_BRANE {
                end = self.turn_of_port(b, p, device, &mut frames, &mut bytes);
                if end != Turn::Done {
                    break;
                }
            }
        }
        // The marks were taken, so the doorbell is armed only when all is done.
        match (&mut self.branes[b], end) {
            (Some(brane), Turn::Done) if !brane.arm() => Turn::Used,
            _ => end,
        }
    }

    fn turn_of_port(
        &mut self,
        b: usize,
        p: usize,
        device: &mut impl Device,
        frames: &mut u32,
        bytes: &mut usize,
    ) -> Turn {
        let end = loop {
            let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.up) else {
                return Turn::Done;
            };
            let port = &mut brane.ports[p];
            if *frames == 0 || *bytes == 0 {
                break Turn::Used;
            }
            let record = match port.tx.peek() {
                Ok(Some(record)) => record,
                Ok(None) => break Turn::Done,
                Err(_) => {
                    self.suspect(b);
                    return Turn::Done;
                }
            };
            let (len, size) = (record.len(), Consumer::size_of(&record));
            let meta = FrameMeta::from_words(record.meta);
            *frames -= 1;
            *bytes = bytes.saturating_sub(len);
            let Some(slot) = port.vif.map(usize::from) else {
                self.counters.tx_unbound += 1;
                port.tx.pop(size);
                continue;
            };
            if len > MAX_FRAME {
                self.vifs[slot].counters.tx_malformed += 1;
                port.tx.pop(size);
                continue;
            }
            let Some(buffer) = device.reserve(len) else {
                break Turn::NoRoom;
            };
            let frame: &[u8] = record.copy_to(buffer);
            port.tx.pop(size);
            if let Some(meta) = self.switch_sent(slot, frame, meta) {
                device.send(len, meta);
                self.counters.tx_frames += 1;
            }
        };
        self.give_back(b, p);
        end
    }

    /// Checks and switches one frame, the driver's own copy. `Some` when it has to go to the wire.
    fn switch_sent(&mut self, slot: usize, frame: &[u8], meta: FrameMeta) -> Option<FrameMeta> {
        let vif = &mut self.vifs[slot];
        let Some(meta) = check::outgoing(frame, meta, &self.wire) else {
            vif.counters.tx_malformed += 1;
            return None;
        };
        let (to, from) = mac::addresses(frame)?;
        if from != vif.mac {
            vif.counters.tx_spoofed += 1;
            return None;
        }
        let bridge = vif.mode == MODE_BRIDGE;
        vif.counters.tx_frames += 1;
        vif.counters.tx_bytes += frame.len() as u64;
        if mac::is_group(to) {
            if bridge {
                let others = self.bound & self.bridged() & !(1 << slot);
                self.spread(others, None, &[frame], meta);
            }
        } else if let Some(target) = self.table.find(to) {
            if target == slot {
                // To itself: nobody else has a use for it.
                vif.counters.tx_frames -= 1;
                vif.counters.tx_bytes -= frame.len() as u64;
                vif.counters.tx_dropped += 1;
                return None;
            }
            if bridge && self.vifs[target].mode == MODE_BRIDGE {
                self.deliver(target, &[frame], meta);
                return None;
            }
        }
        Some(meta)
    }

    fn bridged(&self) -> u64 {
        let mut slots = 0;
        for (slot, vif) in self.vifs.iter().enumerate() {
            if vif.mode == MODE_BRIDGE {
                slots |= 1 << slot;
            }
        }
        slots
    }

    /// Gives the room of what was taken back to the brane, and tells it where it may have been waiting for room.
    fn give_back(&mut self, b: usize, p: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        let tx = &mut brane.ports[p].tx;
        // The longest frame needs less than a quarter of the ring, with what may be skipped before it: the brane
        // found no room only if more than a quarter of the ring was in use. If it fills the ring after this look, it
        // rings its doorbell after it.
        let crowded = tx.backlog() > tx.capacity() / 4;
        if tx.release() && crowded {
            brane.news |= port_bit(p);
            self.news |= 1 << b;
        }
    }

    /// Publishes all frames to the branes. To be called at the end of each wake and call.
    pub fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        let mut left = core::mem::take(&mut self.news);
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(brane) = &mut self.branes[b]
                && brane.publish()
            {
                flushed.notify |= 1 << b;
            }
        }
        flushed
    }
}
