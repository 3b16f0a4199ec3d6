//! What the manager orders: the configuration, and changes of it while the brane runs.
//!
//! The manager is trusted, but what it says is checked for what the stack cannot take: a mistake is refused with words that
//! name the thing, and changes nothing.

use super::{Brane, Failure};
use crate::family::{Account, Families, Life};
use crate::link::manager::{
    COMMAND_BUDGET, Command, check, check_addresses, check_families, check_interface, check_name,
};
use crate::netif::NetIf;
use crate::pfil::capture::Captures;
use crate::query::Requester;
use crate::transport::tcp::Owner;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::capture::{CaptureConfig, End};
use brane_abi::control::{BraneConfig, Family, InterfaceConfig, Rename, all_families};
use brane_abi::filter::Rule;

/// Why an order comes too early.
pub(super) const UNCONFIGURED: &str = "the brane has no configuration yet";

impl Brane {
    /// Obeys the manager, but for the failure that it may want.
    pub(super) fn commands(&mut self, now: u64) -> Option<Failure> {
        let rung = self.control.endpoint.wake() != 0;
        let came_up = self.control.poll();
        self.more_commands |= rung || came_up;
        if !core::mem::take(&mut self.more_commands) {
            return None;
        }
        for turn in 0..COMMAND_BUDGET {
            let Some((token, command)) = self.control.take() else {
                break;
            };
            self.more_commands = turn + 1 == COMMAND_BUDGET;
            match command {
                Command::Configure(config) => {
                    let outcome = self.configure(now, config);
                    self.control.configured(token, outcome);
                }
                Command::Report => {
                    let status = self.status();
                    self.control.status(token, &status);
                }
                Command::Attach(interface) => {
                    let outcome = self.attach(now, interface);
                    self.control.done(token, outcome);
                }
                Command::Detach(name) => {
                    let outcome = self.detach(now, &name);
                    self.control.done(token, outcome);
                }
                Command::Adjust(interface) => {
                    let outcome = self.adjust(now, interface);
                    self.control.done(token, outcome);
                }
                Command::Rename(rename) => {
                    let outcome = self.rename(now, &rename);
                    self.control.done(token, outcome);
                }
                Command::Filter(rules) => {
                    let outcome = self.replace_filter(now, rules);
                    self.control.done(token, outcome);
                }
                Command::Capture(config) => {
                    let outcome = self.capture(now, config);
                    self.control.done(token, outcome);
                }
                Command::Uncapture(tag) => {
                    self.end_capture(now, tag);
                    self.control.done(token, Ok(()));
                }
                Command::Hooks(hooks) => {
                    let outcome = self.replace_hooks(now, hooks);
                    self.control.done(token, outcome);
                }
                Command::Query(query) => {
                    if let Some(answer) = self.stack.query(now, Requester::Manager(token), query) {
                        self.control.answer(token, &answer);
                    }
                }
                Command::Start => {
                    let outcome = self.begin(now).map_err(String::from);
                    self.control.done(token, outcome);
                }
                Command::Shutdown(ms) => self.shut_down(now, token, ms),
                Command::Heartbeat => self.control.alive(token),
                Command::Crash => return Some(Failure::Fault),
                Command::Hang => return Some(Failure::Hang),
                Command::Bad(why) => {
                    self.stack.net.counters.manager_bad_commands += 1;
                    self.control.configured(token, Err(why));
                }
            }
        }
        None
    }

    /// Becomes what the configuration says. Error: why not.
    pub fn configure(&mut self, now: u64, mut config: BraneConfig) -> Result<(), String> {
        // They need not stay: the manager knows which are under way.
        let captures = core::mem::take(&mut config.captures);
        if let Some(present) = &self.config {
            // A manager that restarted says the same again.
            return if *present == config {
                Ok(())
            } else {
                Err(
                    "the brane is configured already; restart it to give it another configuration"
                        .to_string(),
                )
            };
        }
        check(&config, self.port_count())?;
        Captures::check(&captures)?;
        let families = config.families.clone().unwrap_or_else(all_families);
        for interface in &config.interfaces {
            check_families(interface, |family| families.iter().any(|f| f.family == family))?;
        }
        // Before the first packet. If a rule is refused, nothing has been created yet.
        self.stack.set_filter(now, &config.filter)?;
        if let Err(why) = self.stack.set_hooks(now, &config.hooks) {
            self.stack.detach_filter(now);
            return Err(why);
        }
        let before = self.stack.account.clone();
        if let Some(limit) = config.memory {
            self.stack.account = Account::new(limit as usize);
        }
        match Families::create(&families, &mut self.stack) {
            Ok(created) => self.life = Life::Created(created),
            Err(refused) => {
                self.stack.detach_filter(now);
                self.stack.account = before;
                return Err(refused.to_string());
            }
        }
        let inet6 = self.stack.switch.has_family(Family::Inet6);
        let switch = &self.stack.switch;
        self.stack.net.netifs[0].set_loopback(|family| switch.has_family(family));
        self.identity.id = config.id;
        self.identity.generation = config.generation;
        self.identity.primary = u8::from(config.primary);
        self.take_name(&config.name);
        for interface in &config.interfaces {
            self.stack
                .net
                .netifs
                .insert(NetIf::unbound(interface.clone(), inet6));
        }
        let held = config.held;
        self.stack.captures.identify(&config.name, config.generation);
        for capture in captures {
            self.stack.captures.begin(capture)?;
            self.captures = true;
        }
        self.stack.attach_outlets(now);
        self.config = Some(config);
        if held {
            self.addresses_changed();
        } else {
            self.begin(now)?;
        }
        Ok(())
    }

    fn port_count(&self) -> usize {
        self.ports.len() * self.ports_per_nic
    }

    fn take_name(&mut self, name: &str) {
        self.identity.name = Default::default();
        let room = self.identity.name.iter_mut();
        room.zip(name.bytes()).for_each(|(to, from)| *to = from);
    }

    /// An interface of the brane by its name, for an order that `lo0` cannot be given.
    fn own(&self, name: &str) -> Result<usize, String> {
        match self.stack.net.find(name) {
            Some(0) => Err(format!("{name} stays as it is: every brane has its own")),
            Some(index) => Ok(index),
            None => Err(format!("no interface {name}")),
        }
    }

    /// An interface is this brane's from now on. Error: why not.
    pub fn attach(&mut self, now: u64, interface: InterfaceConfig) -> Result<(), String> {
        let ports = self.port_count();
        let config = self.config.as_mut().ok_or(UNCONFIGURED)?;
        check_interface(&interface, &config.interfaces, ports)?;
        check_families(&interface, |family| self.stack.switch.has_family(family))?;
        let inet6 = self.stack.switch.has_family(Family::Inet6);
        let port = usize::from(interface.port);
        config.interfaces.push(interface.clone());
        self.stack.net.netifs.insert(NetIf::unbound(interface, inet6));
        self.stack.attach_outlets(now);
        self.bind(now, port / self.ports_per_nic, port % self.ports_per_nic);
        self.addresses_changed();
        Ok(())
    }

    /// An interface is this brane's no longer: what used it is reset, what was learnt through it forgotten. Error: why not.
    pub fn detach(&mut self, now: u64, name: &str) -> Result<(), String> {
        let index = self.own(name)?;
        self.stack.end_queries_over(index);
        self.stack.captures.gone(index, End::Moved);
        self.stack.leave_all_at(index);
        self.clients
            .iter_mut()
            .for_each(|client| client.forget_netif(index));
        self.stack.externals.forget(index);
        let mut netif = self.stack.net.netifs.remove(index);
        netif.tx.count(&mut self.stack.net.counters);
        if let Some(number) = netif.port() {
            let port = self.ports[number / self.ports_per_nic].port(number % self.ports_per_nic);
            port.user = None;
            // Frames of this binding may still come; they are nobody's.
            port.retired = netif.binding();
            if let Some(ring) = netif.unbind() {
                port.tx = Some(ring);
            }
        }
        if let Some(config) = &mut self.config {
            config.interfaces.retain(|interface| interface.name != name);
        }
        self.addresses_changed();
        self.reset_stranded(now);
        Ok(())
    }

    /// Changes addresses, routers, DHCP and SLAAC of an interface in place. What used an address that goes is reset. Error:
    /// why not.
    pub fn adjust(&mut self, now: u64, interface: InterfaceConfig) -> Result<(), String> {
        let index = self.own(&interface.name)?;
        let old = self.stack.net.netifs[index].config().clone();
        if (&old.device, old.port, old.mac) != (&interface.device, interface.port, interface.mac) {
            return Err(format!(
                "{}: device, port and MAC address stay; detach the interface and attach it anew",
                interface.name
            ));
        }
        check_addresses(&interface)?;
        check_families(&interface, |family| self.stack.switch.has_family(family))?;
        if let Some(config) = &mut self.config
            && let Some(place) = config.interfaces.iter_mut().find(|i| i.name == interface.name)
        {
            *place = interface.clone();
        }
        let seed = self.stack.net.random();
        self.stack.net.netifs[index].adjust(interface, seed, now);
        self.addresses_changed();
        self.reset_stranded(now);
        Ok(())
    }

    /// Gives the brane or one of its interfaces another name. Error: why not.
    pub fn rename(&mut self, now: u64, rename: &Rename) -> Result<(), String> {
        check_name(&rename.to)?;
        let config = self.config.as_mut().ok_or(UNCONFIGURED)?;
        let Some(from) = &rename.interface else {
            config.name = rename.to.clone();
            self.stack.captures.identify(&rename.to, config.generation);
            self.take_name(&rename.to);
            self.addresses_changed();
            return Ok(());
        };
        let index = self.own(from)?;
        if rename.device {
            return self.rename_device(index, from, &rename.to);
        }
        if self
            .stack
            .net
            .find(&rename.to)
            .is_some_and(|taken| taken != index)
        {
            return Err(format!("name taken: there is an interface {}", rename.to));
        }
        if let Some(config) = &mut self.config
            && let Some(place) = config.interfaces.iter_mut().find(|i| i.name == *from)
        {
            place.name = rename.to.clone();
        }
        self.stack.net.netifs[index].rename(&rename.to);
        self.captures_renamed(index);
        self.stack.attach_outlets(now);
        Ok(())
    }

    /// Replaces the rules of the filter at once. The old rules stay in force if there is an error, which is the reason.
    pub fn replace_filter(&mut self, now: u64, rules: Vec<Rule>) -> Result<(), String> {
        let config = self.config.as_mut().ok_or(UNCONFIGURED)?;
        self.stack.set_filter(now, &rules)?;
        config.filter = rules;
        Ok(())
    }

    /// Gives the device of an interface another name. Nothing but its name changes.
    fn rename_device(&mut self, index: usize, interface: &str, to: &str) -> Result<(), String> {
        let Some(config) = &mut self.config else {
            return Err(UNCONFIGURED.to_string());
        };
        if config.interfaces.iter().any(|other| other.device == to) {
            return Err(format!("name taken: there is an interface on the device {to}"));
        }
        if let Some(place) = config.interfaces.iter_mut().find(|i| i.name == *interface) {
            place.device = to.to_string();
        }
        self.stack.net.netifs[index].device = to.to_string();
        self.captures_renamed(index);
        Ok(())
    }

    /// Begins a capture. The error is the reason of a refusal.
    pub fn capture(&mut self, now: u64, config: CaptureConfig) -> Result<(), String> {
        self.config.as_ref().ok_or(UNCONFIGURED)?;
        self.captures = true;
        self.stack.captures.poll();
        self.stack.captures.begin(config)?;
        self.stack.attach_outlets(now);
        Ok(())
    }

    /// Ends a capture.
    pub fn end_capture(&mut self, now: u64, tag: u32) {
        self.stack.captures.end(tag);
        self.stack.attach_outlets(now);
    }

    /// Gives the captures the present names of an interface.
    fn captures_renamed(&self, index: usize) {
        let netif = &self.stack.net.netifs[index];
        self.stack.captures.renamed(index, &netif.name, &netif.device);
    }

    /// Resets what uses an interface or address that is gone, and tells whose it was.
    fn reset_stranded(&mut self, now: u64) {
        let stranded = self.stack.tcp.stranded(&self.stack.net);
        let owners: Vec<Owner> = stranded
            .iter()
            .map(|id| self.stack.tcp.conns[*id].owner)
            .collect();
        for id in stranded {
            self.stack.net.counters.tcp_stranded += 1;
            self.stack.tcp.remove(id);
        }
        for owner in owners {
            if let Owner::Slot { client, slot } = owner {
                self.clients[client].serve(now, &mut self.stack, slot);
            }
        }
        for client in &mut self.clients {
            client.reset_stranded(now, &mut self.stack);
        }
    }
}
