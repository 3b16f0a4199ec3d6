//! Frames of the branes: in turns out of their rings, checked on the driver's own copy, to the wire and to each other.
//!
//! Turns are by deficit round robin (Shreedhar and Varghese, 1995): each brane that has frames gets the same number of bytes
//! in each round, and what a turn leaves of them, because the next frame is longer, is there in its next turn.
//!
//! The branes are trusted with nothing. What a vif with limits may not send is dropped and counted here: above its rate
//! before it is copied (the driver has no timer to come back by when it would be allowed), forged after that.

use crate::account::Meter;
use crate::mac::{self, Mac};
use crate::source_guard::Violation;
use crate::{Device, MIN_COST, QUANTUM, ROUNDS, Switch, tx_offload, vlan};
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::port::{FrameMeta, MAX_FRAME, port_bit};
use brane_abi::ring::Consumer;
use brane_abi::vif::MODE_BRIDGE;

/// Why a brane's turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It has nothing more.
    Done,
    /// Its share is used up.
    Used,
    /// Its account is exhausted: it waits.
    Waits,
    /// The device has no room.
    NoRoom,
}

impl<const N: usize> Switch<N> {
    /// Sends what the branes that have notified have in their rings, in turns. Returns whether all was taken: if not, the
    /// device has no room (call again when it has), or the branes filled their rings all the while. What a brane that waits has
    /// in its rings counts as taken. `clock` gives the time in nanoseconds.
    ///
    /// Tells the device of all frames at the end.
    pub fn transmit(&mut self, device: &mut impl Device, clock: &impl Fn() -> u64) -> bool {
        if let Some(b) = self.resume {
            // The device has interrupted for it, or will not have to.
            self.accounts.woke(b);
        }
        let all = self.rounds(device, clock);
        self.accounts.kick(device, clock);
        all
    }

    fn rounds(&mut self, device: &mut impl Device, clock: &impl Fn() -> u64) -> bool {
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
                    match self.turn(b as usize, device, clock) {
                        Turn::Done | Turn::Waits => self.active &= !(1 << b),
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

    /// One brane's turn: gets a [`QUANTUM`] to what it saved, and sends while that lasts. A turn that the device ended for
    /// want of room goes on with what it had left.
    fn turn(&mut self, b: usize, device: &mut impl Device, clock: &impl Fn() -> u64) -> Turn {
        let begun = self.resume.take() == Some(b);
        let Some(brane) = &mut self.branes[b] else {
            return Turn::Done;
        };
        let _ = brane.take_marks();
        if !begun {
            brane.deficit += QUANTUM;
        }
        let (mut end, mut meter) = (Turn::Done, Meter::default());
        if brane.up {
            for p in 0..PORTS_PER_BRANE {
                end = self.turn_of_port(b, p, device, &mut meter, clock);
                if end != Turn::Done {
                    break;
                }
            }
        }
        match (&mut self.branes[b], end) {
            // Who has nothing to send saves nothing.
            (Some(brane), Turn::Done) => brane.deficit = 0,
            (_, Turn::NoRoom) => self.resume = Some(b),
            _ => {}
        }
        if self.accounts.charge(b, &meter, clock) {
            self.wait(b);
            return Turn::Waits;
        }
        // The marks were taken, so the doorbell is armed only when all is done.
        match (&mut self.branes[b], end) {
            (Some(brane), Turn::Done) if !brane.arm() => Turn::Used,
            _ => end,
        }
    }

    /// Brane `b` waits from now on. It saves up no more than any other for its next turn.
    #[cold]
    fn wait(&mut self, b: usize) {
        if self.resume == Some(b) {
            self.resume = None;
        }
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        brane.deficit = brane.deficit.min(QUANTUM);
        for port in &brane.ports {
            if let Some(slot) = port.vif {
                self.vifs[usize::from(slot)].counters.tx_waits += 1;
            }
        }
    }

    fn turn_of_port(
        &mut self,
        b: usize,
        p: usize,
        device: &mut impl Device,
        meter: &mut Meter,
        clock: &impl Fn() -> u64,
    ) -> Turn {
        let (mut goes_on, mut idle) = (true, true);
        let end = loop {
            let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.up) else {
                return Turn::Done;
            };
            if !goes_on {
                // What a turn that took too long leaves of its bytes is not saved up.
                brane.deficit = brane.deficit.min(QUANTUM);
                break Turn::Used;
            }
            let port = &mut brane.ports[p];
            let record = match port.tx.peek() {
                Ok(Some(record)) => record,
                // Nothing was taken, so nothing is to be given back.
                Ok(None) if idle => return Turn::Done,
                Ok(None) => break Turn::Done,
                Err(_) => {
                    self.quarantine(b);
                    return Turn::Done;
                }
            };
            let (len, size) = (record.len(), Consumer::size_of(&record));
            let meta = FrameMeta::from_words(record.meta);
            // Never more than a quantum, so that each turn gets some record out of the way.
            let Some(deficit) = brane.deficit.checked_sub(len.clamp(MIN_COST, MAX_FRAME)) else {
                break Turn::Used;
            };
            idle = false;
            goes_on = meter.record(len, clock);
            let Some(slot) = port.vif.map(usize::from) else {
                self.counters.tx_unbound += 1;
                port.tx.spend(size);
                brane.deficit = deficit;
                continue;
            };
            if len > MAX_FRAME {
                self.vifs[slot].counters.tx_malformed += 1;
                port.tx.spend(size);
                brane.deficit = deficit;
                continue;
            }
            // Room for the tag before the frame.
            let tag = self.vifs[slot].vlan;
            let before = if tag == 0 { 0 } else { vlan::TAG };
            let Some(buffer) = device.reserve(before + len) else {
                break Turn::NoRoom;
            };
            // After the look for room: a frame that waits for it pays once.
            brane.deficit = deficit;
            if self.vifs[slot].enforced.up && !self.limits[slot].up.take(len, self.now) {
                self.vifs[slot].counters.tx_limited += 1;
                port.tx.spend(size);
                continue;
            }
            let frame: &[u8] = record.copy_to(buffer.get_mut(before..).unwrap_or_default());
            port.tx.spend(size);
            if let Some(mut meta) = self.forward(slot, frame, meta) {
                if tag != 0 {
                    meta = vlan::insert(buffer, tag, meta);
                }
                device.send(before + len, meta);
                self.counters.tx_frames += 1;
            }
        };
        self.give_back(b, p);
        end
    }

    /// Checks and switches one frame, the driver's own copy. `Some` when it has to go to the wire.
    fn forward(&mut self, slot: usize, frame: &[u8], meta: FrameMeta) -> Option<FrameMeta> {
        let vif = &mut self.vifs[slot];
        let sound = mac::ethernet_header(frame).and_then(|header| {
            Some((
                header,
                tx_offload::check(frame, header.ethertype, meta, &self.wire)?,
            ))
        });
        let Some((header, meta)) = sound else {
            vif.counters.tx_malformed += 1;
            return None;
        };
        if mac::in_vlan(header.src, vif.vlan) != vif.mac {
            vif.counters.tx_spoofed += 1;
            return None;
        }
        if !mac::is_plain(&header) {
            if vlan::is_tag(header.ethertype) {
                vif.counters.tx_bad_type += 1;
                return None;
            }
            if mac::is_link_control(&header) {
                vif.counters.tx_link_control += 1;
                return None;
            }
        }
        if vif.enforced.allowed
            && let Err(forged) = self.limits[slot].allowed.check(frame)
        {
            match forged {
                Violation::Type => vif.counters.tx_bad_type += 1,
                Violation::Ip => vif.counters.tx_bad_ip += 1,
                Violation::Arp => vif.counters.tx_bad_arp += 1,
                Violation::Discovery => vif.counters.tx_bad_nd += 1,
            }
            return None;
        }
        if vif.peer != 0 {
            self.forward_to_peer(slot, header.dst, frame, meta);
            return None;
        }
        let (bridge, vlan) = (vif.mode == MODE_BRIDGE, vif.vlan);
        let dst = mac::in_vlan(header.dst, vlan);
        vif.counters.tx_frames += 1;
        vif.counters.tx_bytes += frame.len() as u64;
        if mac::is_group(dst) {
            if bridge {
                let others = self.group(vlan) & self.bridged() & !(1 << slot);
                self.flood(others, None, &[frame], meta);
            }
        } else if let Some(target) = self.table.find(dst) {
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

    /// One frame from an end of a pair to the other, if it is for that one.
    fn forward_to_peer(&mut self, slot: usize, dst: Mac, frame: &[u8], meta: FrameMeta) {
        let target = self.vifs[slot].peer_slot.map(usize::from);
        let target = target.filter(|target| mac::is_group(dst) || dst == self.vifs[*target].mac);
        let counters = &mut self.vifs[slot].counters;
        match target {
            Some(target) => {
                counters.tx_frames += 1;
                counters.tx_bytes += frame.len() as u64;
                self.deliver(target, &[frame], meta);
            }
            None => counters.tx_dropped += 1,
        }
    }

    /// Drops what a port's brane has put into its ring so far, where the port is about to become another's: it was not sent
    /// by that one. At most a ring's bytes of it, however fast the brane is.
    pub(crate) fn discard(&mut self, b: usize, p: usize) {
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.up) else {
            // It starts with an empty ring when it comes up.
            return;
        };
        let tx = &mut brane.ports[p].tx;
        let mut left = tx.capacity();
        while left != 0 {
            match tx.peek() {
                Ok(Some(record)) => {
                    let size = Consumer::size_of(&record);
                    tx.spend(size);
                    left = left.saturating_sub(size);
                    self.counters.tx_unbound += 1;
                }
                Ok(None) => break,
                Err(_) => return self.quarantine(b),
            }
        }
        self.give_back(b, p);
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
            brane.pending |= port_bit(p);
            self.pending |= 1 << b;
        }
    }
}
