//! Brings the system up: devices, instances and interfaces of the boot configuration.
//!
//! The configuration is trusted, but may not fit the machine. A device or interface that does not fit is logged and
//! left out.

use crate::Manager;
use crate::boot::{BootConfig, BootError};
use crate::captures::Captures;
use crate::children::Operators;
use crate::devices::{Attachment, Devices};
use crate::driver::Driver;
use crate::event_log::EventLog;
use crate::filters::Filters;
use crate::ids::{BraneId, DeviceId};
use crate::instance::{Instances, heartbeat};
use crate::logs::Logs;
use crate::operation::Jobs;
use crate::shell::{Action, Context, Size};
use crate::staging::Staging;
use crate::subscribers::Subscribers;
use crate::suspensions::Suspensions;
use crate::text::nic_name;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::BraneConfig;
use brane_abi::operator::{DeviceConfig, Kind, LogLevel};

impl Manager {
    /// Sets up a system of this size, with the result of [`BootConfig::from_bytes`]. The children start at about `now`
    /// (nanoseconds). Devices are added at the drivers. If the configuration is not usable, there is no brane, and each
    /// change that an operator requests is refused with the reason.
    pub fn new(
        now: u64,
        boot: Result<BootConfig, BootError>,
        size: Size,
        driver: &mut dyn Driver,
        actions: &mut Vec<Action>,
    ) -> Manager {
        let boot = boot.and_then(|b| b.check(size.instances, size.ports_per_nic).map(|()| b));
        let (boot, boot_error) = match boot {
            Ok(boot) => (boot, None),
            Err(e) => (BootConfig::default(), Some(e.to_string())),
        };
        // A brane and a client for each instance, and the driver of the control line.
        let children = 2 * size.instances + size.subscribers + size.filters + size.operators + 1;
        let mut manager = Manager {
            instances: Instances::default(),
            devices: Devices::new(driver.nics(), size.ports_per_nic, boot.mac_pool),
            subscribers: Subscribers::new(size.subscribers),
            filters: Filters::new(size.filters),
            jobs: Jobs::new(size.operators),
            captures: Captures::default(),
            staging: Staging::default(),
            operators: Operators::new(size.operators),
            suspensions: Suspensions::new(children),
            events: EventLog::default(),
            logs: Logs::new(&*driver),
            boot_error,
            beat_at: now + heartbeat::PERIOD_NS,
            epoch: now,
        };
        let mut cx = Context { now, driver, actions };
        manager.boot_levels(boot.log, &mut cx);
        manager.boot_devices(boot.devices, &mut cx);
        let mut configured = boot.branes.into_iter();
        for number in 0..size.instances {
            let config = configured.next().map(|given| BraneConfig {
                id: number as u32,
                name: given.name,
                generation: 0,
                primary: given.primary,
                families: given.families,
                held: given.held,
                interfaces: given.interfaces,
                filter: given.filter,
                memory: given.memory,
                captures: Vec::new(),
                hooks: Vec::new(),
            });
            let is_brane = config.is_some();
            let brane = manager.instances.add(now, config);
            if is_brane {
                manager.devices.add_loopback(brane);
            }
            manager.boot_interfaces(brane, &mut cx);
        }
        manager
    }

    /// Sets the log levels of the boot configuration.
    fn boot_levels(&mut self, levels: Vec<LogLevel>, cx: &mut Context<'_>) {
        for entry in levels {
            if !self.logs.set(&entry.pd, entry.level, cx.driver) {
                cx.log(format!(
                    "`{}` has no log level: no domain of this name has a log",
                    entry.pd
                ));
            }
        }
    }

    /// Adds the devices of the boot configuration, the NICs themselves first.
    fn boot_devices(&mut self, devices: Vec<DeviceConfig>, cx: &mut Context<'_>) {
        for nic in self.devices.nics() {
            // A NIC that the driver does not find has no address, and no brane can have it.
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
            if let Err(why) = self.devices.insert(phys) {
                cx.log(format!("{} cannot be a device: {why:?}", nic_name(nic)));
            }
        }
        for device in devices {
            let name = device.name.clone();
            let added = match device.kind {
                Kind::Phys => {
                    let nic = self.devices.resolve(&name);
                    nic.inspect(|&id| self.devices.configure(id, device))
                }
                _ => self.devices.insert(device),
            };
            if let Err(why) = added {
                cx.log(format!("device `{name}` cannot be: {why:?}"));
            }
        }
        let all: Vec<DeviceId> = self.devices.iter().map(|d| d.id).collect();
        for id in all {
            if let Err(why) = self.devices.add_vif(id, cx.driver) {
                self.devices.log_driver_error(id, "gets no frames", why, cx);
            }
        }
    }

    /// Attaches the devices of a brane of the boot configuration. Interfaces that do not fit are left out.
    fn boot_interfaces(&mut self, brane: BraneId, cx: &mut Context<'_>) {
        for mut interface in self.instances.take_interfaces(brane) {
            let owner = Attachment {
                brane,
                port: interface.port,
            };
            let device = self.devices.find(&interface.device);
            let free = device.filter(|d| d.owner.is_none() && !self.devices.is_taken(owner));
            let Some((id, mac)) = free.map(|d| (d.id, d.mac())) else {
                let label = self.instances[brane].label();
                cx.log(format!(
                    "`{}` of {label} cannot be: its device or its port is not there or taken",
                    interface.name
                ));
                continue;
            };
            self.devices.attach(id, owner);
            interface.mac = mac;
            self.instances.add_interface(brane, interface);
        }
    }
}
