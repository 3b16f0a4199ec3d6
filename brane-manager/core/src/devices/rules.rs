//! Rules for devices: name, NIC, VLAN tag, MAC address and number of prefixes.

use super::{Devices, MAX_ALLOW};
use crate::boot::{is_loopback_name, pool_mac};
use crate::names;
use crate::refusals;
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, Kind, Refusal};

/// Maximum number of devices of each NIC: the size of its driver's table.
const MAX_PER_NIC: usize = 64;

impl Devices {
    /// Checks that a device can have this name.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        if is_loopback_name(name) {
            return Err(refusals::loopback_name(name));
        }
        match self.find(name) {
            Some(_) => Err(refusals::device_name_taken(name)),
            None => Ok(()),
        }
    }

    /// Checks a new device, and chooses its MAC address if it has none.
    pub(super) fn checked(&self, mut config: DeviceConfig) -> Result<DeviceConfig, Refusal> {
        self.check_name(&config.name)?;
        let most = MAX_PER_NIC * self.nics;
        if self.all.len() >= most {
            return Err(refusals::too_many_devices(most));
        }
        if usize::from(config.nic) >= self.nics {
            return Err(refusals::no_such_nic(config.nic, self.nics));
        }
        if let Kind::Vlan(tag) = config.kind
            && !(1..=4094).contains(&tag)
        {
            return Err(refusals::not_a_vlan(tag));
        }
        if config.allow.len() > MAX_ALLOW {
            return Err(refusals::too_many_prefixes(config.allow.len(), MAX_ALLOW));
        }
        match config.mac {
            None => {
                // Addresses are unique in the whole system, although a driver requires that only for one NIC and VLAN.
                let taken = |mac| self.all.iter().any(|d| d.config.mac == Some(mac));
                let mac = pool_mac(self.pool, &config.name, taken);
                config.mac = Some(mac.ok_or_else(refusals::mac_pool_is_empty)?);
            }
            Some(mac) if !mac.is_station() => return Err(refusals::not_a_station(mac)),
            Some(mac) => {
                if let Some(other) = self.with_mac(&config, mac) {
                    return Err(refusals::mac_taken(mac, other));
                }
            }
        }
        Ok(config)
    }

    /// Returns the device that has this MAC address on the NIC and VLAN of the new device.
    fn with_mac(&self, config: &DeviceConfig, mac: MacAddr) -> Option<&str> {
        let segment = |c: &DeviceConfig| match c.kind {
            Kind::Vlan(tag) => (c.nic, tag),
            _ => (c.nic, 0),
        };
        let clash = self.all.iter().find(|d| {
            d.config.kind != Kind::Phys && segment(&d.config) == segment(config) && d.config.mac == Some(mac)
        });
        clash.map(|d| d.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::layout::MAX_NICS;
    use operator_cli::refusals::Words;

    #[test]
    fn there_are_as_many_devices_as_the_drivers_of_all_nics_take() {
        let mut devices = Devices::new(MAX_NICS, 2, [2, 0x77, 0, 0]);
        let mut add = |nic: usize, n: usize| {
            devices.insert(DeviceConfig {
                name: format!("vif{nic}-{n}"),
                nic: nic as u8,
                ..DeviceConfig::default()
            })
        };
        for nic in 0..MAX_NICS {
            for n in 0..nic_switch::MAX_VIFS {
                add(nic, n).unwrap();
            }
        }
        let why = add(0, nic_switch::MAX_VIFS).unwrap_err();
        assert_eq!(
            why.words().what,
            format!("there are {} devices already", 64 * MAX_NICS)
        );
    }
}
