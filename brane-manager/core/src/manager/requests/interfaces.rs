//! Requests about devices and the interfaces that branes have with them: assign, remove, adjust, limit, rename.

use super::*;
use brane_abi::net::Cidr;

/// Most fixed addresses of an interface.
const MAX_ADDRESSES: usize = 4;

impl Manager {
    pub(super) fn assign(
        &mut self,
        operator: usize,
        device: &str,
        brane: &str,
        interface: Option<&str>,
        addressing: Option<Addressing>,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let at = self.unlocked_device(device)?;
        let to = self.settled(brane)?;
        let Some(d) = self.registry.get(at) else {
            return Err(refusal("there is no such device", "see `nicctl list`"));
        };
        let (vif, mac) = (d.vif, d.mac());
        let from = d.owner.map(|(from, _)| from).filter(|&from| from != to);
        if let Some(from) = from {
            self.settled(self.branes[from].name())?;
        }
        let (name, port) = self.place(at, to, interface)?;
        let had = from.and_then(|from| {
            let of = self.branes[from].interfaces().iter();
            of.clone().find(|i| i.device == device).cloned()
        });
        let mut interface = InterfaceConfig {
            name,
            device: device.to_string(),
            port,
            mac,
            ..had.unwrap_or_default()
        };
        if let Some(addressing) = addressing {
            set_addressing(&mut interface, addressing)?;
        }
        // Before `place` gave the name, the one that it had is not the one that it gets.
        if !self.takes_orders(to) {
            let (answer, waits) = {
                let locks = lock(to, from, vif);
                let job = match from {
                    Some(_) => self.begin(operator, Work::Settle(Answer::Done(String::new())), locks, cx)?,
                    None => Now(Answer::Done(String::new())),
                };
                let number = if let Later(job) = job { job } else { 0 };
                let done = self.assigned(vif, to, interface, number, cx);
                if let Ok((answer, true)) = &done {
                    self.desk.set_work(number, Work::Settle(answer.clone()));
                    return Ok(Later(number));
                }
                self.desk.abandon(number);
                done?
            };
            debug_assert!(!waits);
            return Ok(Now(answer));
        }
        let payload = encode(&interface);
        let work = Work::Assign {
            device: vif,
            to,
            interface,
        };
        let begun = self.begin(operator, work, lock(to, from, vif), cx)?;
        self.send_for(begun, to, command::ATTACH, payload, false, cx)
    }

    pub(super) fn remove(
        &mut self,
        operator: usize,
        device: &str,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let at = self.unlocked_device(device)?;
        let Some((from, _)) = self.registry.get(at).and_then(|d| d.owner) else {
            return Err(refusal(
                format!("no brane has \"{device}\""),
                "`nicctl list` shows who has what",
            ));
        };
        let owner = self.branes[from].name().to_string();
        self.settled(&owner)?;
        let of = self.branes[from].interfaces().iter();
        let name = of
            .clone()
            .find(|i| i.device == device)
            .map_or(String::new(), |i| i.name.clone());
        let answer = Answer::Done(format!("{device} is no longer {name} of {owner}"));
        let vif = self.registry.get(at).map_or(0, |d| d.vif);
        let begun = match self.takes_orders(from) {
            true => self.begin(operator, Work::Settle(answer), lock(from, None, vif), cx)?,
            false => Now(answer),
        };
        self.go_home(at, cx);
        self.event(cx.now, "removed", Some(&owner), Some(device), name.clone());
        self.retry_refused(from, cx);
        self.send_for(begun, from, command::DETACH, name.into_bytes(), false, cx)
    }

    pub(super) fn adjust(
        &mut self,
        operator: usize,
        brane: &str,
        interface: &str,
        addressing: Addressing,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let brane = self.settled(brane)?;
        let mut interface = self.interface(brane, interface)?.clone();
        set_addressing(&mut interface, addressing)?;
        if !self.takes_orders(brane) {
            return Ok(Now(self.adjusted(brane, interface, cx)));
        }
        let payload = encode(&interface);
        let locks = Locks {
            branes: Vec::from([brane]),
            vif: None,
        };
        let begun = self.begin(operator, Work::Adjust { brane, interface }, locks, cx)?;
        self.send_for(begun, brane, command::ADJUST, payload, false, cx)
    }

    pub(super) fn limit(
        &mut self,
        device: &str,
        change: impl FnOnce(&mut DeviceConfig),
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let at = self.unlocked_device(device)?;
        let Some(d) = self.registry.get_mut(at) else {
            return Err(refusal("there is no such device", "see `nicctl list`"));
        };
        let old = d.config.clone();
        change(&mut d.config);
        let count = d.config.allow.len();
        let result = match count > MAX_ALLOW {
            true => Err(crate::registry::too_many_prefixes(count)),
            false => self.apply_limits(at, cx).map_err(|why| {
                let what = format!("the NIC driver refuses the limits of \"{device}\": {why}");
                refusal(what, "they are as before")
            }),
        };
        if let Err(why) = result {
            if let Some(d) = self.registry.get_mut(at) {
                d.config = old;
            }
            let _ = self.apply_limits(at, cx);
            return Err(why);
        }
        self.event(cx.now, "limited", None, Some(device), String::new());
        Ok(Now(Answer::Done(format!("{device} has its new limits"))))
    }

    pub(super) fn rename_device(&mut self, from: &str, to: &str, cx: &mut Cx<'_>) -> Result<Begun, Refusal> {
        let device = self.unlocked_device(from)?;
        let owner = self.registry.get(device).and_then(|d| d.owner);
        if self
            .registry
            .get(device)
            .is_some_and(|d| d.config.kind == operator::Kind::Phys)
        {
            return Err(refusal(
                format!("\"{from}\" is the NIC itself, whose name is fixed"),
                "give the interface another name instead",
            ));
        }
        if let Some((brane, _)) = owner {
            return Err(refusal(
                format!("\"{from}\" is in brane \"{}\"", self.branes[brane].name()),
                format!("`branectl remove {from}` first; its name inside can be changed at any time"),
            ));
        }
        self.registry.rename(device, to)?;
        self.event(cx.now, "renamed", None, Some(from), format!("to {to}"));
        Ok(Now(Answer::Done(format!("{from} is called {to} now"))))
    }
}

fn lock(brane: usize, other: Option<usize>, vif: u32) -> Locks {
    let mut branes = Vec::from([brane]);
    branes.extend(other);
    Locks {
        branes,
        vif: Some(vif),
    }
}

fn set_addressing(interface: &mut InterfaceConfig, to: Addressing) -> Result<(), Refusal> {
    if to.addresses.len() > MAX_ADDRESSES {
        return Err(refusal(
            format!(
                "{} addresses, an interface takes {MAX_ADDRESSES}",
                to.addresses.len()
            ),
            "drop some",
        ));
    }
    let impossible = |a: &&Cidr| a.prefix > if a.ip.is_ipv4() { 32 } else { 128 };
    if let Some(bad) = to.addresses.iter().find(impossible) {
        return Err(refusal(
            format!("{} has no prefix of {} bits", bad.ip, bad.prefix),
            "IPv4 addresses have 0 to 32, IPv6 addresses 0 to 128",
        ));
    }
    interface.addresses = to.addresses;
    interface.gateway4 = to.gateway4;
    interface.gateway6 = to.gateway6;
    interface.dhcp4 = to.dhcp4;
    interface.slaac = to.slaac;
    Ok(())
}
