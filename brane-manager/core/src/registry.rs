//! The devices (DevNets) of the whole system: names, MAC addresses, and who has which.
//!
//! It is the one place that says which brane owns a device, and the one place that turns a device's name into a device. An
//! owner is an instance and one of its ports; both are taken by one device at most. The NIC drivers' tables follow it
//! (`manager/devices.rs`), and an audit compares them.

use crate::names::{self, listed, printable, refusal};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, Kind, Mode, Refusal};
use brane_abi::vif::{AddVif, MODE_BRIDGE, MODE_PRIVATE, Prefix, VifLimits};

/// Most devices of the system: what one NIC's driver takes, for each NIC.
pub(crate) const MAX_DEVICES: usize = 64 * brane_abi::layout::MAX_NICS;
/// Most prefixes that a device can be allowed.
pub(crate) const MAX_ALLOW: usize = brane_abi::vif::MAX_ALLOWED;

/// One device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// What it is; the MAC address is there.
    pub config: DeviceConfig,
    /// Its number at the driver, never used twice.
    pub vif: u32,
    /// Instance and port that have it.
    pub owner: Option<(usize, u8)>,
    /// Whether the driver has it at that port now.
    pub bound: bool,
    /// Whether the driver knows it. The NIC itself is told only while somebody has it.
    pub added: bool,
}

impl Device {
    pub(crate) fn mac(&self) -> MacAddr {
        self.config.mac.unwrap_or_default()
    }

    /// As the driver is to add it; `peer` is the other end's number where there is one.
    pub(crate) fn add(&self, peer: Option<u32>) -> AddVif {
        AddVif {
            vif: self.vif,
            mode: mode(self.config.mode),
            mac: self.mac(),
            vlan: match self.config.kind {
                Kind::Vlan(tag) => tag,
                _ => 0,
            },
            peer: peer.map_or(0, |vif| vif + 1),
        }
    }

    /// As the driver is to limit it. More prefixes than it takes are told in their number, which it refuses.
    pub(crate) fn limits(&self) -> VifLimits {
        let mut limits = VifLimits {
            vif: self.vif,
            allowed: u32::try_from(self.config.allow.len()).unwrap_or(u32::MAX),
            rate_up: self.config.rate_up.unwrap_or(0),
            rate_down: self.config.rate_down.unwrap_or(0),
            ..VifLimits::default()
        };
        for (place, cidr) in limits.allow.iter_mut().zip(&self.config.allow) {
            *place = Prefix::from(*cidr);
        }
        limits
    }
}

/// The driver's number for a mode.
pub(crate) const fn mode(mode: Mode) -> u32 {
    match mode {
        Mode::Bridge => MODE_BRIDGE,
        Mode::Private => MODE_PRIVATE,
    }
}

/// All devices but for the branes' `lo0`, which cannot be moved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    devices: Vec<Device>,
    next_vif: u32,
    pool: [u8; 4],
    nics: usize,
}

impl Registry {
    /// Without devices, for so many NICs. `pool` begins the MAC addresses that are given.
    pub(crate) fn new(nics: usize, pool: [u8; 4]) -> Registry {
        Registry {
            devices: Vec::new(),
            next_vif: 0,
            pool,
            nics,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// The one place where a name becomes a device.
    pub(crate) fn resolve(&self, name: &str) -> Result<usize, Refusal> {
        self.devices
            .iter()
            .position(|d| d.config.name == name)
            .ok_or_else(|| {
                let names = self.devices.iter().map(|d| d.config.name.as_str());
                refusal(
                    format!("no device named \"{}\"", printable(name)),
                    listed("devices", names),
                )
            })
    }

    pub(crate) fn get(&self, device: usize) -> Option<&Device> {
        self.devices.get(device)
    }

    pub(crate) fn get_mut(&mut self, device: usize) -> Option<&mut Device> {
        self.devices.get_mut(device)
    }

    /// The other end of a pair.
    pub(crate) fn peer(&self, device: usize) -> Option<usize> {
        match &self.devices.get(device)?.config.kind {
            Kind::Pair(peer) => self.devices.iter().position(|d| d.config.name == *peer),
            _ => None,
        }
    }

    /// A device and, if it is an end of a pair, the other end.
    pub(crate) fn ends(&self, device: usize) -> Vec<usize> {
        let mut ends = Vec::from([device]);
        ends.extend(self.peer(device));
        ends
    }

    /// Whether a device can have this name.
    pub(crate) fn free_name(&self, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        if name.starts_with("lo.") {
            return Err(refusal(
                format!("\"{name}\" is kept for the lo0 of a brane"),
                "choose a name that does not begin with `lo.`",
            ));
        }
        match self.devices.iter().any(|d| d.config.name == name) {
            true => Err(refusal(
                format!("the name \"{name}\" is taken by a device"),
                "choose another one, or delete that device first",
            )),
            false => Ok(()),
        }
    }

    /// Enters a device; its place. A missing MAC address comes from the pool: the same for the same name, as long as nobody
    /// else has it.
    pub(crate) fn insert(&mut self, mut config: DeviceConfig) -> Result<usize, Refusal> {
        self.free_name(&config.name)?;
        if self.devices.len() >= MAX_DEVICES {
            return Err(refusal(
                format!("there are {MAX_DEVICES} devices already"),
                "delete one that nobody needs",
            ));
        }
        if usize::from(config.nic) >= self.nics {
            return Err(refusal(
                format!("no NIC named \"nic{}\"", config.nic),
                format!("this system has nic0 to nic{}", self.nics.saturating_sub(1)),
            ));
        }
        if let Kind::Vlan(tag) = config.kind
            && !(1..=4094).contains(&tag)
        {
            return Err(refusal(
                format!("{tag} is no VLAN"),
                "VLANs are numbered 1 to 4094 (IEEE 802.1Q)",
            ));
        }
        if config.allow.len() > MAX_ALLOW {
            return Err(too_many_prefixes(config.allow.len()));
        }
        match config.mac {
            None => config.mac = Some(self.pool_mac(&config)?),
            Some(mac) if !mac.is_station() => {
                return Err(refusal(
                    format!("{mac} is not the MAC address of a station"),
                    "the lowest bit of its first byte must be 0, and not all of it",
                ));
            }
            Some(mac) => {
                if let Some(other) = self.with_mac(&config, mac) {
                    return Err(refusal(
                        format!("the MAC address {mac} is that of \"{other}\""),
                        "choose another one, or leave it out for one from the pool",
                    ));
                }
            }
        }
        let vif = self.next_vif;
        self.next_vif = self.next_vif.wrapping_add(1);
        self.devices.push(Device {
            config,
            vif,
            owner: None,
            bound: false,
            added: false,
        });
        Ok(self.devices.len() - 1)
    }

    /// Who else has this address where the device will be: on its NIC and VLAN.
    fn with_mac(&self, config: &DeviceConfig, mac: MacAddr) -> Option<&str> {
        let place = |c: &DeviceConfig| match c.kind {
            Kind::Vlan(tag) => (c.nic, tag),
            _ => (c.nic, 0),
        };
        let clash = self.devices.iter().find(|d| {
            d.config.kind != Kind::Phys && place(&d.config) == place(config) && d.config.mac == Some(mac)
        });
        clash.map(|d| d.config.name.as_str())
    }

    fn pool_mac(&self, config: &DeviceConfig) -> Result<MacAddr, Refusal> {
        let [a, b, c, d] = self.pool;
        let first = crc32fast::hash(config.name.as_bytes()) as u16;
        (0..=u16::MAX)
            .map(|n| {
                let [x, y] = first.wrapping_add(n).to_be_bytes();
                MacAddr([a, b, c, d, x, y])
            })
            // Unique in the whole system, though the driver would only mind one on the same NIC and VLAN.
            .find(|mac| self.devices.iter().all(|d| d.config.mac != Some(*mac)))
            .ok_or_else(|| refusal("the pool of MAC addresses is used up", "name one that nobody has"))
    }

    /// Strikes a device out.
    pub(crate) fn delete(&mut self, device: usize) {
        if device < self.devices.len() {
            self.devices.remove(device);
        }
    }

    /// Gives a device another name, its peer the news.
    pub(crate) fn rename(&mut self, device: usize, to: &str) -> Result<(), Refusal> {
        self.free_name(to)?;
        let peer = self.peer(device);
        if let Some(d) = self.devices.get_mut(device) {
            d.config.name = to.into();
        }
        if let Some(d) = peer.and_then(|p| self.devices.get_mut(p)) {
            d.config.kind = Kind::Pair(to.into());
        }
        Ok(())
    }

    /// A port of the instance on this NIC that has no device, if there is one.
    pub(crate) fn free_port(&self, instance: usize, nic: u8) -> Option<u8> {
        let first = nic * PORTS_PER_BRANE as u8;
        (first..first + PORTS_PER_BRANE as u8).find(|&port| !self.taken(instance, port))
    }

    /// Whether a device is on this port.
    pub(crate) fn taken(&self, instance: usize, port: u8) -> bool {
        self.devices.iter().any(|d| d.owner == Some((instance, port)))
    }

    /// The devices that an instance has.
    pub(crate) fn of(&self, instance: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.devices.len())
            .filter(|&i| self.devices[i].owner.is_some_and(|(b, _)| b == instance))
            .collect();
        all.sort_by_key(|&i| self.devices[i].owner);
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    pub(crate) fn nics(&self) -> usize {
        self.nics
    }

    pub(crate) fn pool(&self) -> [u8; 4] {
        self.pool
    }
}

pub(crate) fn too_many_prefixes(count: usize) -> Refusal {
    refusal(
        format!("{count} prefixes, the driver takes {MAX_ALLOW}"),
        "join some into shorter prefixes",
    )
}

/// For messages: the name of the NIC with this number.
pub(crate) fn nic_name(nic: u8) -> String {
    format!("nic{nic}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::layout::MAX_NICS;

    #[test]
    fn there_are_as_many_devices_as_the_drivers_of_all_nics_take() {
        let mut registry = Registry::new(MAX_NICS, [2, 0x77, 0, 0]);
        let mut add = |nic: usize, n: usize| {
            registry.insert(DeviceConfig {
                name: format!("vif{nic}-{n}"),
                nic: nic as u8,
                ..DeviceConfig::default()
            })
        };
        for nic in 0..MAX_NICS {
            for n in 0..nic_core::MAX_VIFS {
                add(nic, n).unwrap();
            }
        }
        let why = add(0, nic_core::MAX_VIFS).unwrap_err();
        assert_eq!(why.what, format!("there are {} devices already", 64 * MAX_NICS));
    }
}
