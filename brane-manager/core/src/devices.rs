//! Owns the devices (DevNets) of the whole system, and every call to a NIC driver that changes state.
//!
//! Only the table decides which brane has a device. An attachment is an instance and one of its ports; at most one
//! device has it. The drivers are trusted, and their tables follow this one. Branes are not trusted and not asked. The
//! driver unbinds a device first, so from then on no frame passes between the device and its old owner, whatever the
//! old owner does. While a brane is down, stopped or being deleted, its devices are bound to no port.
//!
//! | module | owns |
//! | --- | --- |
//! | here | the table: names, MAC addresses, attachments |
//! | [`rules`] | the rules for name, address and VLAN of a device |
//! | [`binding`] | vifs at the drivers, and their ports |
//! | [`limits`] | modes, allowed addresses and rates |

use crate::ids::{BraneId, DeviceId};
use crate::refusals;
use alloc::format;
use alloc::vec::Vec;
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, Kind, Refusal};

mod binding;
mod limits;
mod rules;

pub(crate) use limits::{LimitError, MAX_ALLOW, driver_mode};

/// Place of a device: an instance, and one of its ports (numbered over all NICs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attachment {
    pub brane: BraneId,
    pub port: u8,
}

/// One device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub id: DeviceId,
    /// The configuration, with a MAC address.
    pub config: DeviceConfig,
    /// The attachment of the device, if any.
    pub owner: Option<Attachment>,
    /// True if the driver has bound the device to that port.
    pub bound: bool,
    /// True if the driver has the device's vif. The NIC itself has a vif only while a brane has the device.
    pub added: bool,
}

impl Device {
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn mac(&self) -> MacAddr {
        self.config.mac.unwrap_or_default()
    }

    /// Returns the VLAN tag of the device's frames on the wire, or 0.
    pub(crate) fn vlan(&self) -> u16 {
        match self.config.kind {
            Kind::Vlan(tag) => tag,
            _ => 0,
        }
    }
}

/// The loopback device of a brane: `lo.N` for the instance N, called `lo0` inside.
#[derive(Clone, Debug)]
pub(crate) struct Loopback {
    pub config: DeviceConfig,
    pub brane: BraneId,
}

/// All devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    /// Devices that have a vif, or can have one.
    all: Vec<Device>,
    /// The loopback devices, one for each brane. Each stays with its brane and has no vif.
    loopbacks: Vec<Loopback>,
    next: u32,
    pool: [u8; 4],
    nics: usize,
    ports_per_nic: usize,
}

impl Devices {
    /// Creates a table without devices. `pool` is the start of the MAC addresses that the manager chooses.
    pub(crate) fn new(nics: usize, ports_per_nic: usize, pool: [u8; 4]) -> Devices {
        Devices {
            pool,
            nics,
            ports_per_nic,
            ..Devices::default()
        }
    }

    /// Returns all devices except the loopback devices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device> + Clone {
        self.all.iter()
    }

    pub(crate) fn loopbacks(&self) -> impl Iterator<Item = &Loopback> + Clone {
        self.loopbacks.iter()
    }

    /// Returns the brane whose loopback device has this name.
    pub(crate) fn loopback_owner(&self, name: &str) -> Option<BraneId> {
        let named = self.loopbacks.iter().find(|lo| lo.config.name == name);
        named.map(|lo| lo.brane)
    }

    /// Adds the loopback device of a new brane.
    pub(crate) fn add_loopback(&mut self, brane: BraneId) {
        let config = DeviceConfig {
            name: format!("lo.{}", brane.index()),
            kind: Kind::Lo,
            ..DeviceConfig::default()
        };
        self.remove_loopback(brane);
        let place = self.loopbacks.partition_point(|lo| lo.brane < brane);
        self.loopbacks.insert(place, Loopback { config, brane });
    }

    /// Removes the loopback device of a deleted brane.
    pub(crate) fn remove_loopback(&mut self, brane: BraneId) {
        self.loopbacks.retain(|lo| lo.brane != brane);
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the numbers of the NICs.
    pub(crate) fn nics(&self) -> impl Iterator<Item = u8> + use<> {
        0..self.nics as u8
    }

    /// Returns the number of each brane's ports at each NIC.
    pub(crate) fn ports_per_nic(&self) -> usize {
        self.ports_per_nic
    }

    /// Returns a port's number among those of one brane at the port's NIC.
    pub(crate) fn port_on_nic(&self, port: u8) -> usize {
        usize::from(port) % self.ports_per_nic.max(1)
    }

    /// Returns the first four bytes of the MAC addresses that the manager chooses.
    pub(crate) fn pool(&self) -> [u8; 4] {
        self.pool
    }

    /// Returns the device of this name. No other code turns a name into a device.
    pub(crate) fn resolve(&self, name: &str) -> Result<DeviceId, Refusal> {
        self.find(name)
            .map(|d| d.id)
            .ok_or_else(|| refusals::no_such_device(name, self.iter().map(Device::name)))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Device> {
        self.all.iter().find(|d| d.config.name == name)
    }

    pub(crate) fn get(&self, id: DeviceId) -> Option<&Device> {
        self.all.iter().find(|d| d.id == id)
    }

    fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.all.iter_mut().find(|d| d.id == id)
    }

    /// Returns the other end of a pair.
    pub(crate) fn peer(&self, id: DeviceId) -> Option<&Device> {
        match &self.get(id)?.config.kind {
            Kind::Pair(peer) => self.find(peer),
            _ => None,
        }
    }

    /// Returns the device and, if it is an end of a pair, the other end. The older device comes first.
    pub(crate) fn ends(&self, id: DeviceId) -> Vec<DeviceId> {
        let mut ends = Vec::from([id]);
        ends.extend(self.peer(id).map(|d| d.id));
        ends.sort_unstable();
        ends
    }

    /// Adds a device that complies with the rules. If it has no MAC address, it gets one from the pool.
    pub(crate) fn insert(&mut self, config: DeviceConfig) -> Result<DeviceId, Refusal> {
        let config = self.checked(config)?;
        let id = DeviceId::new(self.next);
        self.next = self.next.wrapping_add(1);
        self.all.push(Device {
            id,
            config,
            owner: None,
            bound: false,
            added: false,
        });
        Ok(id)
    }

    /// Replaces the configuration of a device at boot. Its MAC address stays.
    pub(crate) fn configure(&mut self, id: DeviceId, config: DeviceConfig) {
        if let Some(d) = self.get_mut(id) {
            let mac = d.config.mac;
            d.config = DeviceConfig { mac, ..config };
        }
    }

    /// Renames a device, also in the configuration of its peer.
    pub(crate) fn rename(&mut self, id: DeviceId, to: &str) -> Result<(), Refusal> {
        self.check_name(to)?;
        let peer = self.peer(id).map(|d| d.id);
        if let Some(d) = self.get_mut(id) {
            d.config.name = to.into();
        }
        if let Some(d) = peer.and_then(|peer| self.get_mut(peer)) {
            d.config.kind = Kind::Pair(to.into());
        }
        Ok(())
    }

    /// Attaches a device without an owner. The driver is not called.
    pub(crate) fn attach(&mut self, id: DeviceId, owner: Attachment) {
        if let Some(d) = self.get_mut(id) {
            d.owner = Some(owner);
        }
    }

    /// Returns a port of the instance on this NIC that has no device.
    pub(crate) fn free_port(&self, brane: BraneId, nic: u8) -> Option<u8> {
        let first = usize::from(nic) * self.ports_per_nic;
        let mut ports = (first..first + self.ports_per_nic).filter_map(|port| u8::try_from(port).ok());
        ports.find(|&port| !self.is_taken(Attachment { brane, port }))
    }

    /// Returns true if a device has this port.
    pub(crate) fn is_taken(&self, owner: Attachment) -> bool {
        self.all.iter().any(|d| d.owner == Some(owner))
    }

    /// Returns the devices of an instance, in the order of its ports.
    pub(crate) fn of(&self, brane: BraneId) -> Vec<DeviceId> {
        let owned = self
            .all
            .iter()
            .filter(|d| d.owner.is_some_and(|o| o.brane == brane));
        let mut owned: Vec<_> = owned.map(|d| (d.owner, d.id)).collect();
        owned.sort_unstable();
        owned.into_iter().map(|(_, id)| id).collect()
    }
}
