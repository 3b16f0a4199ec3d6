//! Who has which device: the registry, the drivers' tables and the branes' configurations, changed together.
//!
//! A brane is not asked before it loses a device: the driver takes the device from its port first, so from there on no frame
//! of it reaches the old owner or comes from it, whatever that one does. While a brane is down, held or being deleted, its
//! devices are bound to no port.

use super::{Cx, Manager};
use crate::driver::Driver;
use crate::names::refusal;
use crate::registry::nic_name;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::InterfaceConfig;
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::operator::{DeviceConfig, Free, Kind, Refusal};
use brane_abi::vif::BindVif;

impl Manager {
    /// Enters the devices of the boot configuration, the NICs themselves first.
    pub(super) fn boot_devices(&mut self, devices: Vec<DeviceConfig>, cx: &mut Cx<'_>) {
        for nic in 0..self.registry.nics() as u8 {
            // One that the driver does not find has no address, and there is nothing to give to anybody.
            let Some(mac) = cx.driver.device(nic).map(|d| d.mac).filter(|m| m.is_station()) else {
                continue;
            };
            let phys = DeviceConfig {
                name: nic_name(nic),
                kind: Kind::Phys,
                nic,
                mac: Some(mac),
                ..DeviceConfig::default()
            };
            if let Err(why) = self.registry.insert(phys) {
                cx.log(format!("{} cannot be a device: {}", nic_name(nic), why.what));
            }
        }
        for device in devices {
            let name = device.name.clone();
            let entered = match device.kind {
                Kind::Phys => self.registry.resolve(&name).inspect(|&i| {
                    if let Some(d) = self.registry.get_mut(i) {
                        let mac = d.config.mac;
                        d.config = DeviceConfig { mac, ..device };
                    }
                }),
                _ => self.registry.insert(device),
            };
            if let Err(why) = entered {
                cx.log(format!("device `{name}` cannot be: {}; {}", why.what, why.help));
            }
        }
        for i in 0..self.registry.len() {
            if let Err(why) = self.tell_driver(i, cx.driver) {
                let name = self.registry.get(i).map_or("", |d| &d.config.name).to_string();
                cx.log(format!(
                    "`{name}` gets no frames: the NIC driver refuses it: {why}"
                ));
            }
        }
    }

    /// Gives a brane of the boot configuration its devices; interfaces that cannot be are left out.
    pub(super) fn boot_interfaces(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let Some(config) = &mut self.branes[brane].config else {
            return;
        };
        let wanted = core::mem::take(&mut config.interfaces);
        for mut interface in wanted {
            let port = interface.port;
            let found = self.registry.resolve(&interface.device).ok();
            let free = found.filter(|&i| self.registry.get(i).is_some_and(|d| d.owner.is_none()));
            let Some(device) = free.filter(|_| !self.registry.taken(brane, port)) else {
                let label = self.label(brane);
                cx.log(format!(
                    "`{}` of {label} cannot be: its device or its port is not there or taken",
                    interface.name
                ));
                continue;
            };
            if let Some(d) = self.registry.get_mut(device) {
                d.owner = Some((brane, port));
                interface.mac = d.mac();
            }
            if let Some(config) = &mut self.branes[brane].config {
                config.interfaces.push(interface);
            }
        }
    }

    /// Has the driver know a device; the NIC itself only once somebody has it.
    fn tell_driver(&mut self, device: usize, driver: &mut dyn Driver) -> Result<(), &'static str> {
        let peer = self
            .registry
            .peer(device)
            .and_then(|p| self.registry.get(p))
            .map(|d| d.vif);
        let Some(d) = self.registry.get_mut(device) else {
            return Ok(());
        };
        if d.added || (d.config.kind == Kind::Phys && d.owner.is_none()) {
            return Ok(());
        }
        driver.add(d.config.nic, d.add(peer))?;
        // No frame passes before the limits are there: it is bound to no port yet.
        if let Err(why) = driver.limit(d.config.nic, d.limits()) {
            let _ = driver.remove(d.config.nic, d.vif);
            return Err(why);
        }
        d.added = true;
        Ok(())
    }

    fn bind(&mut self, device: usize, driver: &mut dyn Driver) -> Result<(), &'static str> {
        self.tell_driver(device, driver)?;
        let Some(d) = self.registry.get_mut(device) else {
            return Ok(());
        };
        let Some((brane, port)) = d.owner.filter(|_| !d.bound) else {
            return Ok(());
        };
        let bind = BindVif {
            vif: d.vif,
            brane: brane as u32,
            port: u32::from(port) % PORTS_PER_BRANE as u32,
        };
        driver.bind(d.config.nic, bind)?;
        d.bound = true;
        Ok(())
    }

    fn unbind(&mut self, device: usize, driver: &mut dyn Driver) -> Result<(), &'static str> {
        let Some(d) = self.registry.get_mut(device) else {
            return Ok(());
        };
        if core::mem::take(&mut d.bound) {
            driver.unbind(d.config.nic, d.vif)?;
        }
        if d.config.kind == Kind::Phys && core::mem::take(&mut d.added) {
            driver.remove(d.config.nic, d.vif)?;
        }
        Ok(())
    }

    /// Frames may pass between the brane's ports and its devices.
    pub(super) fn bind_all(&mut self, brane: usize, cx: &mut Cx<'_>) {
        for device in self.registry.of(brane) {
            if let Err(why) = self.bind(device, cx.driver) {
                self.complain(device, "gets no frames", why, cx);
            }
        }
    }

    /// No frame passes between the brane's ports and its devices.
    pub(super) fn unbind_all(&mut self, brane: usize, cx: &mut Cx<'_>) {
        for device in self.registry.of(brane) {
            if let Err(why) = self.unbind(device, cx.driver) {
                self.complain(device, "cannot be taken from its port", why, cx);
            }
        }
    }

    fn complain(&self, device: usize, what: &str, why: &str, cx: &mut Cx<'_>) {
        let name = self.registry.get(device).map_or("", |d| d.config.name.as_str());
        cx.log(format!("`{name}` {what}: the NIC driver refuses it: {why}"));
    }

    /// All devices of a brane belong to nobody again; their names.
    pub(super) fn all_go_home(&mut self, brane: usize, cx: &mut Cx<'_>) -> Vec<String> {
        let mut home = Vec::new();
        for device in self.registry.of(brane) {
            self.go_home(device, cx);
            home.extend(self.registry.get(device).map(|d| d.config.name.clone()));
        }
        home
    }

    /// A device belongs to nobody again; who had it.
    pub(super) fn go_home(&mut self, device: usize, cx: &mut Cx<'_>) -> Option<usize> {
        if let Err(why) = self.unbind(device, cx.driver) {
            self.complain(device, "cannot be taken from its port", why, cx);
        }
        let d = self.registry.get_mut(device)?;
        let (brane, _) = d.owner.take()?;
        let name = d.config.name.clone();
        if let Some(config) = self.branes.get_mut(brane).and_then(|b| b.config.as_mut()) {
            config.interfaces.retain(|i| i.device != name);
        }
        Some(brane)
    }

    /// Gives a device to a brane as this interface, which [`Self::place`] found to be possible; who had it before. On a
    /// refusal everything is as it was.
    pub(super) fn hand_over(
        &mut self,
        device: usize,
        to: usize,
        interface: InterfaceConfig,
        cx: &mut Cx<'_>,
    ) -> Result<Option<usize>, Refusal> {
        let before = self.registry.get(device).and_then(|d| d.owner);
        let old_interface = before.and_then(|(b, _)| {
            let name = &interface.device;
            self.branes[b]
                .interfaces()
                .iter()
                .find(|i| i.device == *name)
                .cloned()
        });
        let from = self.go_home(device, cx);
        let name = interface.device.clone();
        if let Some(d) = self.registry.get_mut(device) {
            d.owner = Some((to, interface.port));
        }
        if let Some(config) = &mut self.branes[to].config {
            config.interfaces.push(interface);
        }
        if !self.branes[to].carries() {
            return Ok(from);
        }
        let Err(why) = self.bind(device, cx.driver) else {
            return Ok(from);
        };
        self.go_home(device, cx);
        if let (Some((brane, port)), Some(old)) = (before, old_interface) {
            if let Some(d) = self.registry.get_mut(device) {
                d.owner = Some((brane, port));
            }
            if let Some(config) = &mut self.branes[brane].config {
                config.interfaces.push(old);
            }
            if self.branes[brane].carries()
                && let Err(why) = self.bind(device, cx.driver)
            {
                self.complain(device, "cannot go back to where it was", why, cx);
            }
        }
        Err(refusal(
            format!("the NIC driver refuses `{name}`: {why}"),
            "nothing was changed; `branectl audit` compares manager and driver",
        ))
    }

    /// Whether a device can be an interface of a brane, under this name or a free one: the interface's name and port.
    pub(super) fn place(
        &self,
        device: usize,
        brane: usize,
        name: Option<&str>,
    ) -> Result<(String, u8), Refusal> {
        let b = &self.branes[brane];
        let Some(d) = self.registry.get(device) else {
            return Err(refusal("there is no such device", "see `nicctl list`"));
        };
        if let Some((owner, _)) = d.owner.filter(|(owner, _)| *owner == brane) {
            let owned = self.branes[owner].interfaces();
            let at = owned
                .iter()
                .find(|i| i.device == d.config.name)
                .map_or("", |i| &i.name);
            return Err(refusal(
                format!(
                    "\"{}\" is in brane \"{}\" already, as \"{at}\"",
                    d.config.name,
                    b.name()
                ),
                "`branectl rename` gives it another name there, `branectl address` other addresses",
            ));
        }
        let Some(port) = self.registry.free_port(brane, d.config.nic) else {
            return Err(refusal(
                format!(
                    "brane \"{}\" has no free port at {}: {PORTS_PER_BRANE} are in use",
                    b.name(),
                    nic_name(d.config.nic)
                ),
                "remove one of its interfaces there first",
            ));
        };
        let has = |n: &str| b.interfaces().iter().any(|i| i.name == n);
        let name = match name {
            Some(name) => {
                self.free_interface(brane, name)?;
                name.to_string()
            }
            None => (0..=b.interfaces().len())
                .map(|n| format!("net{n}"))
                .find(|n| !has(n))
                .unwrap_or_default(),
        };
        Ok((name, port))
    }

    /// Whether an interface of the brane can have this name.
    pub(super) fn free_interface(&self, brane: usize, name: &str) -> Result<(), Refusal> {
        crate::names::check(name)?;
        let b = &self.branes[brane];
        if name == "lo0" || b.interfaces().iter().any(|i| i.name == name) {
            return Err(refusal(
                format!("brane \"{}\" has an interface \"{name}\" already", b.name()),
                "choose another name",
            ));
        }
        Ok(())
    }

    /// Makes a device, or both ends of a pair.
    pub(super) fn add_device(&mut self, config: DeviceConfig, cx: &mut Cx<'_>) -> Result<String, Refusal> {
        let name = config.name.clone();
        let ends = match &config.kind {
            Kind::Vnic | Kind::Vlan(_) => Vec::from([config]),
            Kind::Pair(peer) => {
                if *peer == name {
                    return Err(refusal(
                        format!("both ends of the pair are called \"{name}\""),
                        "give the other end a name of its own",
                    ));
                }
                let other = DeviceConfig {
                    name: peer.clone(),
                    kind: Kind::Pair(name.clone()),
                    nic: config.nic,
                    ..DeviceConfig::default()
                };
                Vec::from([config, other])
            }
            Kind::Phys | Kind::Lo => {
                return Err(refusal(
                    format!("a device of kind `{}` cannot be made", config.kind.word()),
                    "kinds to make are vnic, vlan and pair",
                ));
            }
        };
        let first = self.registry.len();
        let mut result = Ok(());
        for end in ends {
            result = self.registry.insert(end).map(drop);
            if result.is_err() {
                break;
            }
        }
        for i in first..self.registry.len() {
            if result.is_ok() {
                result = self.tell_driver(i, cx.driver).map_err(|why| {
                    let help = "nothing was changed; see `nicctl list` for what there is";
                    refusal(format!("the NIC driver refuses \"{name}\": {why}"), help)
                });
            }
        }
        if let Err(why) = result {
            // Whatever of it is there goes again.
            for i in (first..self.registry.len()).rev() {
                self.strike_out(i, cx);
            }
            return Err(why);
        }
        let mac = self.registry.get(first).map(|d| d.mac()).unwrap_or_default();
        self.event(cx.now, "device-added", None, Some(&name), format!("{mac}"));
        Ok(format!("{name} is there, with the MAC address {mac}"))
    }

    fn strike_out(&mut self, device: usize, cx: &mut Cx<'_>) {
        self.go_home(device, cx);
        if let Some(d) = self.registry.get(device)
            && d.added
            && let Err(why) = cx.driver.remove(d.config.nic, d.vif)
        {
            self.complain(device, "cannot be removed", why, cx);
        }
        self.registry.delete(device);
    }

    /// Deletes a device that nobody has, of a pair both ends; their names.
    pub(super) fn delete_device(&mut self, device: usize, cx: &mut Cx<'_>) -> Result<Vec<String>, Refusal> {
        let mut ends = self.registry.ends(device);
        ends.sort_unstable();
        for &end in &ends {
            let Some(d) = self.registry.get(end) else { continue };
            let name = &d.config.name;
            if d.config.kind == Kind::Phys {
                return Err(refusal(
                    format!("\"{name}\" is the NIC itself"),
                    "it is there as long as the machine has it",
                ));
            }
            if let Some((brane, _)) = d.owner {
                let owner = self.branes[brane].name();
                return Err(refusal(
                    format!("\"{name}\" is in brane \"{owner}\""),
                    format!("`branectl remove {name}` takes it from there"),
                ));
            }
        }
        let mut names = Vec::new();
        for &end in ends.iter().rev() {
            let name = self
                .registry
                .get(end)
                .map_or_else(String::new, |d| d.config.name.clone());
            self.strike_out(end, cx);
            self.event(cx.now, "device-deleted", None, Some(&name), String::new());
            names.push(name);
        }
        Ok(names)
    }

    /// Has the driver limit a device as its configuration says.
    pub(super) fn apply_limits(&mut self, device: usize, cx: &mut Cx<'_>) -> Result<(), &'static str> {
        let Some(d) = self.registry.get(device).filter(|d| d.added) else {
            return Ok(());
        };
        cx.driver.limit(d.config.nic, d.limits())?;
        cx.driver
            .mode(d.config.nic, d.vif, crate::registry::mode(d.config.mode))
    }

    /// What is free.
    pub(super) fn free(&self, driver: &mut dyn Driver) -> Free {
        let braned = self.branes.iter().filter(|b| b.config.is_some());
        let interfaces: usize = braned.clone().map(|b| b.interfaces().len()).sum();
        let branes = braned.count();
        let idle = |b: &&crate::brane::Brane| b.state == crate::brane::State::Idle;
        let owned = self.registry.iter().filter(|d| d.owner.is_some()).count();
        let ports = self.branes.len() * PORTS_PER_BRANE * self.registry.nics();
        let vifs: usize = (0..self.registry.nics() as u8)
            .map(|n| driver.table(n).len())
            .sum();
        Free {
            slots: self.branes.iter().filter(idle).count() as u32,
            ports: ports.saturating_sub(owned) as u32,
            names: (branes + interfaces + self.registry.len()) as u32,
            macs: self.registry.iter().filter(|d| d.config.mac.is_some()).count() as u32,
            vifs: vifs as u32,
            bytes: driver.heap_used(),
        }
    }
}
