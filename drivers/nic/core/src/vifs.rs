//! The vif table with each vif's limits, and the manager's calls to it ([`brane_abi::vif`]).
//!
//! The caller is the manager, trusted for who owns what; its requests are checked all the same, so that a mistake
//! there is a refusal here.

use crate::bucket::Bucket;
use crate::mac::{self, Mac};
use crate::source::Allowed;
use crate::{MAX_VIFS, Switch};
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::net::MacAddr;
use brane_abi::vif::{
    self, AddVif, BindVif, DeviceInfo, MODE_BRIDGE, MODE_PRIVATE, VifCounters, VifLimits, VifRef,
};
use zerocopy::{FromBytes, IntoBytes};

/// One place in the table.
pub struct Vif {
    number: Option<u32>,
    pub mac: Mac,
    pub address: MacAddr,
    pub mode: u32,
    /// Brane and port.
    pub port: Option<(u8, u8)>,
    /// Which of [`Limits`] are to be asked, each a look at this line alone where it is not.
    pub asks: Asks,
    pub counters: VifCounters,
}

impl Vif {
    pub const EMPTY: Vif = Vif {
        number: None,
        mac: 0,
        address: MacAddr([0; 6]),
        mode: MODE_PRIVATE,
        port: None,
        asks: Asks::NOTHING,
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
        },
    };
}

/// What is to be asked before a frame passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    pub allowed: bool,
    pub up: bool,
    pub down: bool,
}

impl Asks {
    pub const NOTHING: Asks = Asks {
        allowed: false,
        up: false,
        down: false,
    };
}

/// The limits of a vif, apart from the table because most frames have nothing to do with them.
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

impl<const N: usize> Switch<N> {
    fn slot(&self, number: u32) -> Result<usize, Refused> {
        self.vifs
            .iter()
            .position(|v| v.number == Some(number))
            .ok_or(vif::NO_SUCH_VIF)
    }

    /// Creates a vif, bound to nothing.
    pub fn add(&mut self, request: AddVif) -> Result<(), Refused> {
        if request.mode != MODE_BRIDGE && request.mode != MODE_PRIVATE {
            return Err(vif::BAD_REQUEST);
        }
        if !request.mac.is_station() {
            return Err(vif::BAD_MAC);
        }
        let taken =
            |v: &Vif| v.number == Some(request.vif) || (v.number.is_some() && v.address == request.mac);
        if self.vifs.iter().any(taken) {
            return Err(vif::IN_USE);
        }
        let free = self.vifs.iter_mut().find(|v| v.number.is_none());
        *free.ok_or(vif::FULL)? = Vif {
            number: Some(request.vif),
            mac: mac::from_bytes(request.mac.0),
            address: request.mac,
            mode: request.mode,
            ..Vif::EMPTY
        };
        self.index();
        Ok(())
    }

    /// Removes a vif, unbinding it first.
    pub fn remove(&mut self, number: u32) -> Result<(), Refused> {
        let slot = self.slot(number)?;
        self.release(slot);
        self.vifs[slot] = Vif::EMPTY;
        self.index();
        Ok(())
    }

    /// Limits a vif, in place of what limited it before.
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
        self.vifs[slot].asks = Asks {
            allowed: request.allowed != 0,
            up: request.rate_up != 0,
            down: request.rate_down != 0,
        };
        self.index();
        Ok(())
    }

    fn index(&mut self) {
        let used = self.vifs.iter().enumerate().filter(|(_, v)| v.number.is_some());
        self.table.rebuild(used.map(|(slot, v)| (slot, v.mac)));
        self.timed = self.vifs.iter().any(|v| v.asks.up || v.asks.down);
    }

    /// Binds a vif to a free port.
    pub fn bind(&mut self, request: BindVif) -> Result<(), Refused> {
        let slot = self.slot(request.vif)?;
        let (b, p) = (request.brane as usize, request.port as usize);
        let brane = self.branes.get_mut(b).and_then(Option::as_mut);
        let port = brane
            .and_then(|brane| brane.ports.get_mut(p))
            .ok_or(vif::NO_SUCH_PORT)?;
        if port.vif.is_some() || self.vifs[slot].port.is_some() {
            return Err(vif::IN_USE);
        }
        port.vif = Some(slot as u8);
        port.generation = port.generation.wrapping_add(1);
        port.info_due = true;
        self.vifs[slot].port = Some((b as u8, p as u8));
        self.bound |= 1 << slot;
        self.inform(b);
        Ok(())
    }

    /// Takes a vif from its port. What the brane still sends there is dropped; what it has received it keeps.
    pub fn unbind(&mut self, number: u32) -> Result<(), Refused> {
        let slot = self.slot(number)?;
        self.release(slot);
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        let Some((b, p)) = self.vifs[slot].port.take() else {
            return;
        };
        self.bound &= !(1 << slot);
        if let Some(brane) = &mut self.branes[usize::from(b)] {
            let port = &mut brane.ports[usize::from(p)];
            port.vif = None;
            port.info_due = true;
        }
        self.inform(usize::from(b));
    }

    /// A vif's counters.
    pub fn vif_counters(&self, number: u32) -> Result<VifCounters, Refused> {
        Ok(self.vifs[self.slot(number)?].counters)
    }

    /// Fills in what the switch knows of `info`; the rest is the device's.
    pub fn device_info(&self, info: DeviceInfo) -> DeviceInfo {
        let ports = self.branes.iter().flatten().count() * PORTS_PER_BRANE;
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

    /// One call of the manager: label and message bytes in, label and number of reply bytes in `message` out. `info` holds
    /// the device's own part of [`DeviceInfo`]. [`Self::flush`] afterwards.
    pub fn call(&mut self, label: u64, len: usize, message: &mut [u8], info: DeviceInfo) -> (u64, usize) {
        let request = &message[..len.min(message.len())];
        let answer = match label {
            vif::ADD_VIF => read(request).and_then(|r| self.add(r)),
            vif::REMOVE_VIF => read(request).and_then(|r: VifRef| self.remove(r.vif)),
            vif::BIND_VIF => read(request).and_then(|r| self.bind(r)),
            vif::UNBIND_VIF => read(request).and_then(|r: VifRef| self.unbind(r.vif)),
            vif::SET_LIMITS => read(request).and_then(|r| self.limit(r)),
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

const _: () = assert!(MAX_VIFS <= 64, "`bound` has a bit for each vif");
