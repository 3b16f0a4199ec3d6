//! Forwards the frames of the branes. It takes them in turns from their rings, checks the driver's own copy, and sends
//! them to the wire and to other branes.
//!
//! Turns follow deficit round robin (Shreedhar and Varghese, 1995): in each round, each brane that has frames gets an
//! equal number of bytes. If the next frame is longer than the rest, the brane keeps the rest for its next turn.
//!
//! The branes are not trusted. Frames that a vif's limits forbid are dropped and counted here. Frames above the rate
//! are dropped before they are copied, because the driver has no timer to send them later. Forged frames are dropped
//! after the copy.

use crate::account::Meter;
use crate::mac::{self, Mac};
use crate::source_guard::Violation;
use crate::{Device, MIN_COST, QUANTUM, ROUNDS, Switch, tx_offload, vlan};
use brane_abi::port::{FrameMeta, MAX_FRAME, port_bit};
use brane_abi::ring::Consumer;
use brane_abi::vif::MODE_BRIDGE;

/// Reason why a brane's turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The brane has no more frames.
    Done,
    /// The brane's bytes for this turn are used up.
    Used,
    /// The brane's account is exhausted, so the brane waits.
    Waits,
    /// The device has no room.
    NoRoom,
}

impl<const N: usize, const P: usize> Switch<N, P> {
    /// Sends what the branes that have notified have in their rings, in turns. Returns whether all was taken: if not, the
    /// device has no room (call again when it has), or the branes filled their rings all the while. What a brane that waits has
    /// in its rings counts as taken. `clock` gives the time in nanoseconds.
    ///
    /// Notifies the device of all frames at the end.
    pub fn transmit(&mut self, device: &mut impl Device, clock: &impl Fn() -> u64) -> bool {
        if let Some(b) = self.resume {
            // The device has interrupted for this brane, or need not interrupt.
            self.accounts.on_wake(b);
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

    /// Runs one brane's turn. Adds a [`QUANTUM`] to the brane's deficit and sends frames while it lasts. If the
    /// device's lack of room ended the previous turn, that turn continues without a new quantum.
    fn turn(&mut self, b: usize, device: &mut impl Device, clock: &impl Fn() -> u64) -> Turn {
        let resumed = self.resume.take() == Some(b);
        let Some(brane) = &mut self.branes[b] else {
            return Turn::Done;
        };
        let _ = brane.endpoint.own_bell().take();
        if !resumed {
            brane.deficit += QUANTUM;
        }
        let (mut end, mut meter) = (Turn::Done, Meter::default());
        if brane.is_up() {
            for p in 0..P {
                end = self.turn_of_port(b, p, device, &mut meter, clock);
                if end != Turn::Done {
                    break;
                }
            }
        }
        match (&mut self.branes[b], end) {
            // A brane without frames saves no bytes for later.
            (Some(brane), Turn::Done) => brane.deficit = 0,
            (_, Turn::NoRoom) => self.resume = Some(b),
            _ => {}
        }
        if self.accounts.charge(b, &meter, clock) {
            self.wait(b);
            return Turn::Waits;
        }
        // The marks were cleared, so the doorbell is armed only when all records are processed.
        match (&mut self.branes[b], end) {
            (Some(brane), Turn::Done) if !brane.endpoint.arm() => Turn::Used,
            _ => end,
        }
    }

    /// Makes brane `b` wait. It keeps at most a quantum for its next turn.
    #[cold]
    fn wait(&mut self, b: usize) {
        if self.resume == Some(b) {
            self.resume = None;
        }
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        brane.deficit = brane.deficit.min(QUANTUM);
        for port in &brane.endpoint.rings {
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
            let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.is_up()) else {
                return Turn::Done;
            };
            if !goes_on {
                // After a turn that took too long, the brane keeps at most a quantum.
                brane.deficit = brane.deficit.min(QUANTUM);
                break Turn::Used;
            }
            let port = &mut brane.endpoint.rings[p];
            let record = match port.tx.peek() {
                Ok(Some(record)) => record,
                // No record was consumed, so there is no room to release.
                Ok(None) if idle => return Turn::Done,
                Ok(None) => break Turn::Done,
                Err(_) => {
                    self.quarantine(b);
                    return Turn::Done;
                }
            };
            let (len, size) = (record.len(), Consumer::size_of(&record));
            let meta = FrameMeta::from_words(record.meta);
            // The cost is at most a quantum, so each turn removes at least one record.
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
            // Room for the tag in front of the frame.
            let tag = self.vifs[slot].vlan;
            let before = if tag == 0 { 0 } else { vlan::TAG };
            let Some(buffer) = device.reserve(before + len) else {
                break Turn::NoRoom;
            };
            // Charged after `reserve`, so a frame that waits for room pays once.
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

    /// Checks and switches one frame in the driver's own copy. Returns the meta if the frame must go to the wire.
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
                // Addressed to its own sender: no other receiver needs the frame.
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

    /// Delivers a frame of one end of a pair to the other end, if that is its destination.
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

    /// Drops the frames that a port's brane has put into its ring so far, because the port is about to get another vif,
    /// which did not send them. Drops at most as many bytes as the ring has, however fast the brane writes.
    pub(crate) fn discard(&mut self, b: usize, p: usize) {
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.is_up()) else {
            // It starts with an empty ring when it comes up.
            return;
        };
        let tx = &mut brane.port(p).tx;
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

    /// Releases the room of the consumed records. Marks the brane for notification if it may wait for room.
    fn give_back(&mut self, b: usize, p: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        let tx = &mut brane.port(p).tx;
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
