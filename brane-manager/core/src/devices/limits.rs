//! Modes and limits of devices: the NIC driver enforces them.

use super::{Device, Devices};
use crate::driver::Driver;
use crate::ids::DeviceId;
use brane_abi::operator::DriverRefusal;
use brane_abi::operator::{DeviceConfig, Mode};
use brane_abi::vif::{MODE_BRIDGE, MODE_PRIVATE, Prefix, VifLimits};

/// Maximum number of prefixes that a device can be allowed.
pub(crate) const MAX_ALLOW: usize = brane_abi::vif::MAX_ALLOWED;

/// Reason why limits are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitError {
    TooManyPrefixes(usize),
    Driver(DriverRefusal),
}

impl Device {
    /// Builds the SetLimits request. The request carries the number of prefixes, so the driver refuses too many.
    pub(crate) fn limits(&self) -> VifLimits {
        let mut limits = VifLimits {
            vif: self.id.number(),
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

/// Returns the driver's number for a mode.
pub(crate) const fn driver_mode(mode: Mode) -> u32 {
    match mode {
        Mode::Bridge => MODE_BRIDGE,
        Mode::Private => MODE_PRIVATE,
    }
}

impl Devices {
    /// Changes mode and limits in the table and at the driver. If either refuses, both remain unchanged.
    pub(crate) fn limit(
        &mut self,
        id: DeviceId,
        change: impl FnOnce(&mut DeviceConfig),
        driver: &mut dyn Driver,
    ) -> Result<(), LimitError> {
        let Some(d) = self.get_mut(id) else { return Ok(()) };
        let old = d.config.clone();
        change(&mut d.config);
        let count = d.config.allow.len();
        let result = match count > MAX_ALLOW {
            true => Err(LimitError::TooManyPrefixes(count)),
            false => self.apply_limits(id, driver).map_err(LimitError::Driver),
        };
        if result.is_err() {
            if let Some(d) = self.get_mut(id) {
                d.config = old;
            }
            let _ = self.apply_limits(id, driver);
        }
        result
    }

    fn apply_limits(&self, id: DeviceId, driver: &mut dyn Driver) -> Result<(), DriverRefusal> {
        let Some(d) = self.get(id).filter(|d| d.added) else {
            return Ok(());
        };
        driver.limit(d.config.nic, d.limits())?;
        driver.mode(d.config.nic, id.number(), driver_mode(d.config.mode))
    }
}
