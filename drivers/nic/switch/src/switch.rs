//! The switch itself: it owns the branes and vifs, and forwards frames from the wire to the vifs. [`crate::transmit`]
//! forwards the frames that the vifs send. The device and the branes are on the other sides; see the head of the crate.

use crate::account::Accounts;
use crate::mac::{self, Mac, MacTable};
use crate::port::{Brane, Change};
use crate::vifs::{Limits, Vif};
use crate::{Device, Link, MAX_BRANES, MAX_VIFS, vlan};
use brane_abi::port::{FrameMeta, port_bit};
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;

/// Counters of the whole switch. "Rx" means from the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchCounters {
    /// Frames received from the device.
    pub rx_frames: u64,
    /// Dropped: no vif has that destination.
    pub rx_unclaimed: u64,
    /// Dropped: shorter than an Ethernet header.
    pub rx_malformed: u64,
    /// Frames passed to the device.
    pub tx_frames: u64,
    /// Dropped: the port of origin has no vif.
    pub tx_unbound: u64,
    /// Restarts of branes.
    pub link_resets: u64,
    /// Ring protocol violations by branes. Each put the brane into quarantine.
    pub peer_errors: u64,
}

/// The result of [`Switch::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Branes to notify: bit `n` for brane `n`.
    pub notify: u64,
    /// True if the domain `turn` must be notified, because a brane waits for its turn.
    pub turn: bool,
    /// True if the manager must be notified, because it must suspend a brane ([`Switch::take_offender`]).
    pub offender: bool,
}

/// The switch for `N` branes with `P` ports each.
pub struct Switch<const N: usize, const P: usize> {
    pub(crate) branes: [Option<Brane<P>>; N],
    pub(crate) vifs: [Vif; MAX_VIFS],
    /// Limits of the vif in each slot.
    pub(crate) limits: [Limits; MAX_VIFS],
    /// True if a vif has a rate, so that the caller must set the time.
    pub(crate) timed: bool,
    /// The time set by [`Self::set_time`].
    pub(crate) now: u64,
    pub(crate) table: MacTable,
    pub(crate) wire: Link,
    /// Vif slots that are bound to a port and on the wire without a tag.
    pub(crate) untagged: u64,
    /// Branes that may have frames to send.
    pub(crate) active: u64,
    /// Branes with records to publish.
    pub(crate) pending: u64,
    /// The brane with the first turn in the next round.
    pub(crate) first: u32,
    /// The brane whose turn ended because the device had no room.
    pub(crate) resume: Option<usize>,
    pub(crate) counters: SwitchCounters,
    pub(crate) accounts: Accounts<N>,
}

impl<const N: usize, const P: usize> Default for Switch<N, P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const P: usize> Switch<N, P> {
    /// Without branes and vifs.
    pub const fn new() -> Self {
        assert!(
            N <= MAX_BRANES,
            "more branes than a protection domain has channels"
        );
        Self {
            branes: [const { None }; N],
            vifs: [const { Vif::EMPTY }; MAX_VIFS],
            limits: [const { Limits::NONE }; MAX_VIFS],
            timed: false,
            now: 0,
            table: MacTable::new(),
            wire: Link {
                features: 0,
                mtu: 1500,
                up: false,
            },
            untagged: 0,
            active: 0,
            pending: 0,
            first: 0,
            resume: None,
            counters: SwitchCounters {
                rx_frames: 0,
                rx_unclaimed: 0,
                rx_malformed: 0,
                tx_frames: 0,
                tx_unbound: 0,
                link_resets: 0,
                peer_errors: 0,
            },
            accounts: Accounts::new(),
        }
    }

    /// Attaches brane `brane` with its region `ports-N`. Returns false if there is no such brane or the region is too
    /// small.
    pub fn attach(&mut self, brane: usize, region: SharedRegion) -> bool {
        let Some(place) = self.branes.get_mut(brane) else {
            return false;
        };
        *place = Brane::start(region);
        self.pending |= 1 << brane;
        self.active |= 1 << brane;
        place.is_some()
    }

    /// Sets the state of the device and informs all branes.
    pub fn set_link(&mut self, link: Link) {
        self.wire = link;
        for b in 0..N {
            if let Some(brane) = &mut self.branes[b] {
                for port in &mut brane.endpoint.rings {
                    port.info_due = true;
                }
            }
            self.send_infos(b);
        }
    }

    /// Returns the state of the device that the branes have been informed of.
    pub fn link(&self) -> Link {
        self.wire
    }

    /// Returns true if a vif has a rate. [`Self::set_time`] must then be called at each wake.
    #[inline]
    pub fn timed(&self) -> bool {
        self.timed
    }

    /// Sets the time for the rates, in nanoseconds of a clock that does not go backwards. It stands still until the
    /// next call.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// Returns the counters of the whole switch.
    pub fn counters(&self) -> SwitchCounters {
        self.counters
    }

    /// Handles notifications from these branes (bit `n` for brane `n`): polls their links. [`Self::transmit`] will poll
    /// the rings of a brane unless it waits for its turn. `clock` returns the time in nanoseconds.
    pub fn wake(&mut self, branes: u64, clock: &impl Fn() -> u64) {
        let mut left = branes;
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            if b < N {
                if self.accounts.waits(b) {
                    self.accounts.on_notification(b, clock());
                } else {
                    self.accounts.on_wake(b);
                    self.active |= 1 << b;
                }
                self.poll(b);
            }
        }
    }

    /// Handles a notification from the domain `turn` at `now` nanoseconds. [`Self::transmit`] will poll the rings of
    /// the branes that it releases.
    pub fn turn_came(&mut self, now: u64) {
        self.active |= self.accounts.turn_came(now);
    }

    /// Returns the next brane that the manager must suspend because it notifies too often, and the time until which.
    pub fn take_offender(&mut self, now: u64) -> Option<(usize, u64)> {
        self.accounts.take_offender(now)
    }

    fn poll(&mut self, b: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        let was_up = brane.is_up();
        if brane.poll() == Change::Restarted {
            self.counters.link_resets += 1;
        }
        if brane.endpoint.must_notify() {
            self.pending |= 1 << b;
        }
        if brane.is_up() && (!was_up || brane.endpoint.rings.iter().any(|p| p.info_due)) {
            self.send_infos(b);
        }
    }

    /// Sends a brane the info records of its ports that are due.
    pub(crate) fn send_infos(&mut self, b: usize) {
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.is_up()) else {
            return;
        };
        for p in 0..P {
            let vif = brane.port(p).vif.map(|slot| &self.vifs[usize::from(slot)]);
            let link = vif.map_or(self.wire, |vif| vif.link(self.wire));
            if brane.send_info(p, vif.map(|vif| vif.address), &link).is_err() {
                return self.quarantine(b);
            }
        }
        if brane.pending != 0 {
            self.pending |= 1 << b;
        }
    }

    /// Quarantines brane `b` after an error of its rings. If the brane has restarted instead, resets its rings.
    pub(crate) fn quarantine(&mut self, b: usize) {
        let Some(brane) = &mut self.branes[b] else {
            return;
        };
        if !brane.endpoint.violation() {
            // The brane notifies the driver when it has started, and the wake accepts its new incarnation. Accepting it here could
            // find impossible indices again, without an end.
            return;
        }
        self.counters.peer_errors += 1;
        for port in &brane.endpoint.rings {
            if let Some(slot) = port.vif {
                self.vifs[usize::from(slot)].counters.peer_errors += 1;
            }
        }
    }

    /// Delivers up to `budget` received frames. Returns true if the device has no more.
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
        let Some(header) = parts.first().and_then(|part| mac::ethernet_header(part)) else {
            self.counters.rx_malformed += 1;
            return;
        };
        if vlan::is_tag(header.ethertype) {
            return self.switch_tagged(header, meta, parts);
        }
        self.switch_to(header.dst, header.src, 0, parts, meta);
    }

    /// Delivers a group frame to all vifs in `slots`, except to the vif with address `except`.
    pub(crate) fn flood(&mut self, slots: u64, except: Option<Mac>, parts: &[&[u8]], meta: FrameMeta) {
        let mut left = slots;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            if except != Some(self.vifs[slot].mac) {
                self.deliver(slot, parts, meta);
            }
        }
    }

    /// Copies one frame into the ring of the vif's port, or drops and counts it.
    pub(crate) fn deliver(&mut self, slot: usize, parts: &[&[u8]], meta: FrameMeta) {
        let vif = &mut self.vifs[slot];
        let Some((b, p)) = vif.port else {
            vif.counters.rx_dropped += 1;
            return;
        };
        let len = match parts {
            [all] => all.len(),
            _ => parts.iter().map(|part| part.len()).sum(),
        };
        if vif.enforced.down && !self.limits[slot].down.take(len, self.now) {
            vif.counters.rx_limited += 1;
            return;
        }
        let (b, p) = (usize::from(b), usize::from(p));
        let Some(brane) = self.branes[b].as_mut().filter(|brane| brane.is_up()) else {
            vif.counters.rx_dropped += 1;
            return;
        };
        let told = match brane.port(p).info_due {
            false => Ok(true),
            true => brane.send_info(p, Some(vif.address), &vif.link(self.wire)),
        };
        let pushed = match told {
            Ok(true) => brane.port(p).rx.push(parts, meta.to_words()),
            Ok(false) => Err(RingError::Full),
            Err(e) => Err(e),
        };
        match pushed {
            Ok(()) => {
                vif.counters.rx_frames += 1;
                vif.counters.rx_bytes += len as u64;
                brane.pending |= port_bit(p);
                self.pending |= 1 << b;
            }
            Err(e) => {
                vif.counters.rx_dropped += 1;
                if e == RingError::Peer {
                    self.quarantine(b);
                }
            }
        }
    }

    /// Returns true if [`Self::flush`] has something to do.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.pending != 0 || self.accounts.has_pending()
    }

    /// Publishes all frames to the branes. Must be called at the end of each wake and of each call.
    pub fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        if self.accounts.has_pending() {
            flushed.turn = self.accounts.take_request();
            flushed.offender = self.accounts.take_offence();
        }
        let mut left = core::mem::take(&mut self.pending);
        while left != 0 {
            let b = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(brane) = &mut self.branes[b]
                && brane.flush()
            {
                flushed.notify |= 1 << b;
            }
        }
        flushed
    }
}
