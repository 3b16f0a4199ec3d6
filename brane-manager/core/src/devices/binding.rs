//! Vifs at the NIC drivers: added, bound to a brane's port, unbound, removed.

use super::{Attachment, Device, Devices};
use crate::driver::Driver;
use crate::ids::{BraneId, DeviceId};
use crate::shell::Context;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::operator::DriverRefusal;
use brane_abi::operator::Kind;
use brane_abi::vif::{AddVif, BindVif};

impl Device {
    /// Builds the AddVif request. `peer` is the vif id of the pair's other end, if any.
    fn add_request(&self, peer: Option<u32>) -> AddVif {
        AddVif {
            vif: self.id.number(),
            mode: super::driver_mode(self.config.mode),
            mac: self.mac(),
            vlan: self.vlan(),
            peer: peer.map_or(0, |vif| vif + 1),
        }
    }
}

impl Devices {
    /// Adds the device's vif at the driver. The vif of a NIC itself is added only while a brane has the device.
    pub(crate) fn add_vif(&mut self, id: DeviceId, driver: &mut dyn Driver) -> Result<(), DriverRefusal> {
        let peer = self.peer(id).map(|d| d.id.number());
        let Some(d) = self.get_mut(id) else { return Ok(()) };
        if d.added || (d.config.kind == Kind::Phys && d.owner.is_none()) {
            return Ok(());
        }
        driver.add(d.config.nic, d.add_request(peer))?;
        // The vif is not bound yet, so no frame passes before the limits are set.
        if let Err(why) = driver.limit(d.config.nic, d.limits()) {
            let _ = driver.remove(d.config.nic, id.number());
            return Err(why);
        }
        d.added = true;
        Ok(())
    }

    fn bind(&mut self, id: DeviceId, driver: &mut dyn Driver) -> Result<(), DriverRefusal> {
        self.add_vif(id, driver)?;
        let Some(owner) = self.get(id).and_then(|d| d.owner) else {
            return Ok(());
        };
        let port = self.port_on_nic(owner.port) as u32;
        let Some(d) = self.get_mut(id).filter(|d| !d.bound) else {
            return Ok(());
        };
        let bind = BindVif {
            vif: id.number(),
            brane: owner.brane.index() as u32,
            port,
        };
        driver.bind(d.config.nic, bind)?;
        d.bound = true;
        Ok(())
    }

    fn unbind(&mut self, id: DeviceId, driver: &mut dyn Driver) -> Result<(), DriverRefusal> {
        let Some(d) = self.get_mut(id) else { return Ok(()) };
        if core::mem::take(&mut d.bound) {
            driver.unbind(d.config.nic, id.number())?;
        }
        if d.config.kind == Kind::Phys && core::mem::take(&mut d.added) {
            driver.remove(d.config.nic, id.number())?;
        }
        Ok(())
    }

    /// Binds all devices of the brane, so that frames pass.
    pub(crate) fn bind_all(&mut self, brane: BraneId, cx: &mut Context<'_>) {
        for id in self.of(brane) {
            if let Err(why) = self.bind(id, cx.driver) {
                self.log_driver_error(id, "gets no frames", why, cx);
            }
        }
    }

    /// Unbinds all devices of the brane, so that no frame passes.
    pub(crate) fn unbind_all(&mut self, brane: BraneId, cx: &mut Context<'_>) {
        for id in self.of(brane) {
            self.unbind_or_log(id, cx);
        }
    }

    fn unbind_or_log(&mut self, id: DeviceId, cx: &mut Context<'_>) {
        if let Err(why) = self.unbind(id, cx.driver) {
            self.log_driver_error(id, "cannot be taken from its port", why, cx);
        }
    }

    pub(crate) fn log_driver_error(
        &self,
        id: DeviceId,
        what: &str,
        why: DriverRefusal,
        cx: &mut Context<'_>,
    ) {
        let name = self.get(id).map_or("", Device::name);
        cx.log(format!("`{name}` {what}: the NIC driver refuses it: {why:?}"));
    }

    /// Releases a device from its owner, and returns the owner.
    pub(crate) fn release(&mut self, id: DeviceId, cx: &mut Context<'_>) -> Option<BraneId> {
        self.unbind_or_log(id, cx);
        self.get_mut(id)?.owner.take().map(|owner| owner.brane)
    }

    /// Releases all devices of a brane, and returns their names.
    pub(crate) fn release_all(&mut self, brane: BraneId, cx: &mut Context<'_>) -> Vec<String> {
        let mut released = Vec::new();
        for id in self.of(brane) {
            self.release(id, cx);
            released.extend(self.get(id).map(|d| d.name().to_string()));
        }
        released
    }

    /// Moves a device from its owner to a free port. `passes_frames` returns true if a brane's devices must be
    /// bound. If the driver refuses, nothing changes.
    pub(crate) fn transfer(
        &mut self,
        id: DeviceId,
        to: Attachment,
        passes_frames: impl Fn(BraneId) -> bool,
        cx: &mut Context<'_>,
    ) -> Result<(), DriverRefusal> {
        let before = self.get(id).and_then(|d| d.owner);
        self.release(id, cx);
        self.attach(id, to);
        if !passes_frames(to.brane) {
            return Ok(());
        }
        let Err(refused) = self.bind(id, cx.driver) else {
            return Ok(());
        };
        self.release(id, cx);
        if let Some(owner) = before {
            self.attach(id, owner);
            if passes_frames(owner.brane)
                && let Err(why) = self.bind(id, cx.driver)
            {
                self.log_driver_error(id, "cannot go back to where it was", why, cx);
            }
        }
        Err(refused)
    }

    /// Removes a device from the table and its vif from the driver.
    pub(crate) fn remove(&mut self, id: DeviceId, cx: &mut Context<'_>) {
        self.release(id, cx);
        if let Some(d) = self.get(id)
            && d.added
            && let Err(why) = cx.driver.remove(d.config.nic, id.number())
        {
            self.log_driver_error(id, "cannot be removed", why, cx);
        }
        self.all.retain(|d| d.id != id);
    }
}
