//! Owns the vif table and the limits of each vif. Answers the manager's calls ([`brane_abi::vif`]).
//!
//! The manager is the caller. It is trusted to decide which brane owns which vif. Its requests are checked all the
//! same, so a mistake of the manager results in a refusal.

use crate::bucket::Bucket;
use crate::mac::{self, Mac};
use crate::source_guard::Allowed;
use crate::{BACKLOG, Device, Link, MAX_VIFS, Switch, vlan};
use brane_abi::net::MacAddr;
use brane_abi::vif::{
    self, AddVif, BindVif, DeviceInfo, MODE_BRIDGE, MODE_PRIVATE, SetMode, VifCounters, VifEntry, VifLimits,
    VifRef, VifTable, VifTableAt,
};
use zerocopy::{FromBytes, IntoBytes};

/// One entry of the table.
pub struct Vif {
    number: Option<u32>,
    /// Key of the vif: its address in its VLAN.
    pub mac: Mac,
    pub address: MacAddr,
    pub mode: u32,
    /// VLAN id; 0: no tag.
    pub vlan: u16,
    /// For an end of a pair, 1 more than the number of the vif at the other end; 0: on the wire.
    pub peer: u32,
    /// Slot of that vif, if it exists and names this one as its other end.
    pub peer_slot: Option<u8>,
    /// True if the vif at the other end is bound.
    connected: bool,
    /// Brane and port that the vif is bound to.
    pub port: Option<(u8, u8)>,
    /// The [`Limits`] in force. If a limit is not in force, only this line is read.
    pub enforced: Enforced,
    pub counters: VifCounters,
}

impl Vif {
    pub const EMPTY: Vif = Vif {
        number: None,
        mac: 0,
        address: MacAddr([0; 6]),
        mode: MODE_PRIVATE,
        vlan: 0,
        peer: 0,
        peer_slot: None,
        connected: false,
        port: None,
        enforced: Enforced::NOTHING,
        counters: VifCounters {
            rx_frames: 0,
            rx_bytes: 0,
            rx_dropped: 0,
            tx_frames: 0,
            tx_bytes: 0,
            tx_dropped: 0,
            tx_spoofed: 0,
            tx_malformed: 0,
            peer_errors: 0,
            tx_bad_ip: 0,
            tx_bad_arp: 0,
            tx_bad_nd: 0,
            tx_bad_type: 0,
            tx_limited: 0,
            rx_limited: 0,
            tx_link_control: 0,
            tx_waits: 0,
        },
    };
}

impl Vif {
    /// Returns the link state that the brane sees. A pair is a wire of its own, which is up if the other end is bound.
    pub fn link(&self, wire: Link) -> Link {
        match self.peer {
            0 => wire,
            _ => Link {
                up: self.connected,
                ..wire
            },
        }
    }
}

/// The checks that a frame must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    pub allowed: bool,
    pub up: bool,
    pub down: bool,
}

impl Enforced {
    pub const NOTHING: Enforced = Enforced {
        allowed: false,
        up: false,
        down: false,
    };
}

/// The limits of a vif. They are kept apart from the table, because most frames do not need them.
pub struct Limits {
    pub allowed: Allowed,
    pub up: Bucket,
    pub down: Bucket,
}

impl Limits {
    pub const NONE: Limits = Limits {
        allowed: Allowed::NONE,
        up: Bucket::EMPTY,
        down: Bucket::EMPTY,
    };
}

/// A refusal: one of the reply labels of [`brane_abi::vif`].
type Refused = u64;

impl<const N: usize, const P: usize> Switch<N, P> {
    fn slot(&self, number: u32) -> Result<usize, Refused> {
        self.vifs
            .iter()
            .position(|v| v.number == Some(number))
            .ok_or(vif::NO_SUCH_VIF)
    }

    /// Creates a vif, not bound to a port.
    pub fn add(&mut self, request: AddVif) -> Result<(), Refused> {
        check_mode(request.mode)?;
        let peer = request.peer.checked_sub(1);
        if request.vlan > vlan::HIGHEST || peer == Some(request.vif) || (peer.is_some() && request.vlan != 0)
        {
            return Err(vif::BAD_REQUEST);
        }
        if !request.mac.is_station() {
            return Err(vif::BAD_MAC);
        }
        let mac = mac::in_vlan(mac::from_bytes(request.mac.0), request.vlan);
        let taken = |v: &Vif| v.number == Some(request.vif) || (v.number.is_some() && v.mac == mac);
        if self.vifs.iter().any(taken) {
            return Err(vif::IN_USE);
        }
        let free = self.vifs.iter_mut().find(|v| v.number.is_none());
        *free.ok_or(vif::FULL)? = Vif {
            number: Some(request.vif),
            mac,
            address: request.mac,
            mode: request.mode,
            vlan: request.vlan,
            peer: request.peer,
            ..Vif::EMPTY
        };
        self.index();
        Ok(())
    }

    /// Removes a vif. A bound vif is unbound first.
    pub fn remove(&mut self, number: u32) -> Result<(), Refused> {
        let slot = self.slot(number)?;
        self.release(slot);
        self.vifs[slot] = Vif::EMPTY;
        self.limits[slot] = Limits::NONE;
        self.index();
        Ok(())
    }

    /// Changes a vif's mode.
    pub fn set_mode(&mut self, request: SetMode) -> Result<(), Refused> {
        check_mode(request.mode)?;
        let slot = self.slot(request.vif)?;
        self.vifs[slot].mode = request.mode;
        Ok(())
    }

    /// Returns a part of the table. The order does not change as long as no vif is added or removed.
    pub fn table(&self, at: VifTableAt) -> VifTable {
        let used = self.vifs.iter().filter_map(|v| Some((v.number?, v)));
        let mut table = VifTable {
            total: used.clone().count() as u32,
            ..VifTable::default()
        };
        for (place, (number, v)) in table.entries.iter_mut().zip(used.skip(at.skip as usize)) {
            let (brane, port) = v.port.map_or((0, 0), |(b, p)| (u16::from(b) + 1, u16::from(p)));
            *place = VifEntry {
                vif: number,
                brane,
                port,
                mac: v.address,
                vlan: v.vlan,
            };
            table.count += 1;
        }
        table
    }

    /// Sets the limits of a vif and replaces its earlier ones.
    pub fn limit(&mut self, request: VifLimits) -> Result<(), Refused> {
        let slot = self.slot(request.vif)?;
        let prefixes = request.allow.get(..request.allowed as usize);
        let allowed = prefixes.and_then(|list| Allowed::new(list, self.vifs[slot].address));
        let bucket = |rate| match rate {
            0 => Ok(Bucket::EMPTY),
            rate => Bucket::new(rate).ok_or(vif::BAD_LIMITS),
        };
        self.limits[slot] = Limits {
            allowed: allowed.ok_or(vif::BAD_LIMITS)?,
            up: bucket(request.rate_up)?,
            down: bucket(request.rate_down)?,
        };
        self.vifs[slot].enforced = Enforced {
            allowed: request.allowed != 0,
            up: request.rate_up != 0,
            down: request.rate_down != 0,
        };
        self.index();
        Ok(())
    }

    fn index(&mut self) {
        let wired = |(_, v): &(usize, &Vif)| v.number.is_some() && v.peer == 0;
        let wired = self.vifs.iter().enumerate().filter(wired);
        self.table.rebuild(wired.map(|(slot, v)| (slot, v.mac)));
        self.timed = self.vifs.iter().any(|v| v.enforced.up || v.enforced.down);
        self.connect();
    }

    /// Connects the ends of pairs again. Informs each end whose other end was bound or unbound.
    fn connect(&mut self) {
        for slot in 0..MAX_VIFS {
            let (number, peer) = (self.vifs[slot].number, self.vifs[slot].peer);
            let Some(number) = number.filter(|_| peer != 0) else {
                continue;
            };
            let other =
                |v: &Vif| v.number == Some(peer.wrapping_sub(1)) && v.peer.checked_sub(1) == Some(number);
            let across = self.vifs.iter().position(other);
            let connected = across.is_some_and(|other| self.vifs[other].port.is_some());
            let vif = &mut self.vifs[slot];
            vif.peer_slot = across.map(|other| other as u8);
            let changed = vif.connected != connected;
            vif.connected = connected;
            if changed && let Some((b, p)) = vif.port {
                if let Some(brane) = &mut self.branes[usize::from(b)] {
                    brane.port(usize::from(p)).info_due = true;
                }
                self.send_infos(usize::from(b));
            }
        }
    }

    /// Binds a vif to a free port. Frames that the port's brane put into its ring before are dropped. The vif's buckets
    /// are full, so no debt of an earlier owner remains.
    pub fn bind(&mut self, request: BindVif) -> Result<(), Refused> {
        let slot = self.slot(request.vif)?;
        let (b, p) = (request.brane as usize, request.port as usize);
        let brane = self.branes.get_mut(b).and_then(Option::as_mut);
        let port = brane
            .and_then(|brane| brane.endpoint.rings.get_mut(p))
            .ok_or(vif::NO_SUCH_PORT)?;
        if port.vif.is_some() || self.vifs[slot].port.is_some() {
            return Err(vif::IN_USE);
        }
        self.discard(b, p);
        let Some(brane) = self.branes[b].as_mut() else {
            return Err(vif::NO_SUCH_PORT);
        };
        let port = brane.port(p);
        port.vif = Some(slot as u8);
        port.generation = port.generation.wrapping_add(1);
        port.info_due = true;
        self.limits[slot].up.fill();
        self.limits[slot].down.fill();
        let vif = &mut self.vifs[slot];
        vif.port = Some((b as u8, p as u8));
        if vif.vlan == 0 && vif.peer == 0 {
            self.untagged |= 1 << slot;
        }
        self.connect();
        self.send_infos(b);
        Ok(())
    }

    /// Unbinds a vif from its port. Frames that the brane still sends there are dropped; frames already received stay
    /// in its ring.
    pub fn unbind(&mut self, number: u32) -> Result<(), Refused> {
        let slot = self.slot(number)?;
        self.release(slot);
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        let Some((b, p)) = self.vifs[slot].port.take() else {
            return;
        };
        self.untagged &= !(1 << slot);
        if let Some(brane) = &mut self.branes[usize::from(b)] {
            let port = brane.port(usize::from(p));
            port.vif = None;
            port.info_due = true;
        }
        self.connect();
        self.send_infos(usize::from(b));
    }

    /// Returns a vif's counters.
    pub fn vif_counters(&self, number: u32) -> Result<VifCounters, Refused> {
        Ok(self.vifs[self.slot(number)?].counters)
    }

    /// Fills in the switch's part of `info` and returns it. The device's part is kept, and its counters are added.
    pub fn device_info(&self, info: DeviceInfo) -> DeviceInfo {
        let ports = self.branes.iter().flatten().count() * P;
        DeviceInfo {
            link_up: u8::from(self.wire.up),
            ports: ports as u32,
            features: self.wire.features,
            rx_frames: self.counters.rx_frames + info.rx_frames,
            rx_unclaimed: self.counters.rx_unclaimed,
            rx_malformed: self.counters.rx_malformed + info.rx_malformed,
            tx_frames: self.counters.tx_frames,
            ..info
        }
    }

    /// Handles one call of the manager. The arguments are the label and the message bytes; `info` has the device's own
    /// part of [`DeviceInfo`]. Returns the label of the reply and the number of reply bytes in `message`. The caller
    /// must call [`Self::flush`] afterwards.
    ///
    /// Before a vif is bound, all frames that `device` has received are delivered, because they are not for the vif's
    /// new owner.
    pub fn call(
        &mut self,
        label: u64,
        len: usize,
        message: &mut [u8],
        info: DeviceInfo,
        device: &mut impl Device,
    ) -> (u64, usize) {
        let request = &message[..len.min(message.len())];
        let answer = match label {
            vif::ADD_VIF => read(request).and_then(|r| self.add(r)),
            vif::REMOVE_VIF => read(request).and_then(|r: VifRef| self.remove(r.vif)),
            vif::BIND_VIF => read(request).and_then(|r| {
                self.receive(device, BACKLOG);
                self.bind(r)
            }),
            vif::UNBIND_VIF => read(request).and_then(|r: VifRef| self.unbind(r.vif)),
            vif::SET_LIMITS => read(request).and_then(|r| self.limit(r)),
            vif::SET_MODE => read(request).and_then(|r| self.set_mode(r)),
            vif::VIF_TABLE => match read(request) {
                Ok(at) => return write(message, self.table(at).as_bytes()),
                Err(refused) => Err(refused),
            },
            vif::VIF_COUNTERS => match read(request).and_then(|r: VifRef| self.vif_counters(r.vif)) {
                Ok(counters) => return write(message, counters.as_bytes()),
                Err(refused) => Err(refused),
            },
            vif::DEVICE_INFO => return write(message, self.device_info(info).as_bytes()),
            _ => Err(vif::BAD_REQUEST),
        };
        (answer.err().unwrap_or(vif::OK), 0)
    }
}

fn check_mode(mode: u32) -> Result<(), Refused> {
    match mode {
        MODE_BRIDGE | MODE_PRIVATE => Ok(()),
        _ => Err(vif::BAD_REQUEST),
    }
}

fn read<T: FromBytes>(request: &[u8]) -> Result<T, Refused> {
    T::read_from_prefix(request)
        .map(|(value, _)| value)
        .map_err(|_| vif::BAD_REQUEST)
}

fn write(message: &mut [u8], answer: &[u8]) -> (u64, usize) {
    match message.get_mut(..answer.len()) {
        Some(room) => {
            room.copy_from_slice(answer);
            (vif::OK, answer.len())
        }
        None => (vif::BAD_REQUEST, 0),
    }
}

const _: () = assert!(MAX_VIFS <= 64, "`untagged` has a bit for each vif");
