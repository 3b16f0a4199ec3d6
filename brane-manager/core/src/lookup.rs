//! Looks up names in requests. Each kind of name is looked up in one place. Its refusal lists the names that exist.

use crate::Manager;
use crate::ids::{BraneId, DeviceId};
use crate::instance::{Instance, LifecycleState};
use crate::logs::Domain;
use crate::names;
use crate::refusals;
use alloc::format;
use brane_abi::control::InterfaceConfig;
use brane_abi::operator::{Purpose, Refusal};

impl Manager {
    /// Returns the brane of this name. All other code calls this function to look up a brane.
    pub(crate) fn brane(&self, name: &str) -> Result<BraneId, Refusal> {
        let names = || self.instances.branes().map(Instance::name);
        match self.instances.find(name) {
            Some(b) => Ok(b.id()),
            None => Err(refusals::no_such_brane(name, names())),
        }
    }

    /// Returns the interface of this name. All other code calls this function to look up an interface.
    pub(crate) fn interface(&self, brane: BraneId, name: &str) -> Result<&InterfaceConfig, Refusal> {
        let b = &self.instances[brane];
        let found = b.interfaces().iter().find(|i| i.name == name);
        found.ok_or_else(|| match name {
            "lo0" => refusals::loopback_is_fixed(),
            _ => {
                let names = b.interfaces().iter().map(|i| i.name.as_str());
                refusals::no_such_interface(b.name(), name, names)
            }
        })
    }

    /// Returns the log of the protection domain of this name, or else of the brane of this name. The order matters
    /// because a brane can have the name of a domain, and saved levels name domains.
    pub(crate) fn log_of(&self, name: &str) -> Result<&Domain, Refusal> {
        let of_brane = || {
            let brane = self.instances.find(name)?;
            self.logs.find(&format!("brane-{}", brane.id().index()))
        };
        let found = self.logs.find(name).or_else(of_brane);
        found.ok_or_else(|| refusals::no_such_log(name, self.logs.iter().map(|d| d.name.as_str())))
    }

    /// Returns a brane that no job is changing.
    pub(crate) fn unlocked_brane(&self, name: &str) -> Result<BraneId, Refusal> {
        let brane = self.brane(name)?;
        let b = &self.instances[brane];
        match b.is_changing() || self.jobs.locks_brane(brane) {
            true => Err(refusals::brane_is_changing(name, b.state.word())),
            false => Ok(brane),
        }
    }

    /// Returns a started brane. The refusal names the purpose.
    pub(crate) fn started_brane(&self, name: &str, purpose: Purpose) -> Result<BraneId, Refusal> {
        let brane = self.brane(name)?;
        match self.instances[brane].state {
            LifecycleState::Started => Ok(brane),
            state => Err(refusals::brane_is_not_started(name, state.word(), purpose)),
        }
    }

    /// Returns a device that no job is changing. A job on one end of a pair locks both, because the ends are deleted
    /// together. Refuses loopback devices, because they cannot be changed.
    pub(crate) fn unlocked_device(&self, name: &str) -> Result<DeviceId, Refusal> {
        if let Some(brane) = self.devices.loopback_owner(name) {
            return Err(refusals::loopback_stays(name, self.instances[brane].name()));
        }
        let device = self.devices.resolve(name)?;
        match self
            .devices
            .ends(device)
            .iter()
            .any(|&end| self.jobs.locks_device(end))
        {
            true => Err(refusals::device_is_changing(name)),
            false => Ok(device),
        }
    }

    /// Checks that no device is being renamed to this name.
    pub(crate) fn check_device_name_is_free(&self, name: &str) -> Result<(), Refusal> {
        match self.jobs.locks_device_name(name) {
            true => Err(refusals::device_name_taken(name)),
            false => Ok(()),
        }
    }

    /// Checks that a brane can have this name: no brane has it, and no brane is being renamed to it.
    pub(crate) fn check_brane_name(&self, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        match self.instances.find(name).is_some() || self.jobs.locks_brane_name(name) {
            true => Err(refusals::brane_name_taken(name)),
            false => Ok(()),
        }
    }

    /// Checks that an interface of the brane can have this name.
    pub(crate) fn check_interface_name(&self, brane: BraneId, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        let b = &self.instances[brane];
        match name == "lo0" || b.interfaces().iter().any(|i| i.name == name) {
            true => Err(refusals::interface_name_taken(b.name(), name)),
            false => Ok(()),
        }
    }
}
