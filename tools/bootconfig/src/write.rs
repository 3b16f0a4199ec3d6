//! Writer: turns a boot configuration into the text of a file that compiles to it.

use brane_abi::control::{FamilyConfig, InterfaceConfig};
use brane_abi::operator::{DeviceConfig, Kind, Mode};
use brane_manager_core::boot::{BootConfig, BraneBoot};
use toml::{Table, Value};

/// Returns the text of the file. Vnics on `nic0` are written with their interfaces, other devices in sections
/// of their own.
pub fn to_toml(config: &BootConfig) -> String {
    let mut out = String::from(
        "# The desired state of the system when this was saved; brane-manager/branes.toml explains the keys.\n\n",
    );
    let [a, b, c, d] = config.mac_pool;
    let mut head = Table::new();
    head.insert(
        "mac-pool".into(),
        Value::String(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}")),
    );
    section(&mut out, "", head);
    for brane in &config.branes {
        section(&mut out, "[[brane]]", self::brane(brane));
        for interface in &brane.interfaces {
            let device = config.device(&interface.device);
            section(
                &mut out,
                "[[brane.interface]]",
                self::interface(interface, device.filter(|d| is_plain(d))),
            );
        }
        for rule in &brane.filter {
            let text = Value::String(branes_pfil::print(rule));
            let keys = Table::from_iter([("rule".to_owned(), text)]);
            section(&mut out, "[[brane.filter]]", keys);
        }
    }
    let owned = |d: &DeviceConfig| {
        let mut interfaces = config.branes.iter().flat_map(|b| &b.interfaces);
        interfaces.any(|i| i.device == d.name)
    };
    let own_section = |d: &&DeviceConfig| d.kind != Kind::Lo && !(is_plain(d) && owned(d));
    for device in config.devices.iter().filter(own_section) {
        let mut keys = self::device(device);
        keys.insert("name".into(), device.name.as_str().into());
        section(&mut out, "[[device]]", keys);
    }
    if !config.log.is_empty() {
        let levels = config.log.iter();
        let levels = levels.map(|l| (l.pd.clone(), Value::String(l.level.name().into())));
        section(&mut out, "[log]", levels.collect());
    }
    out
}

fn is_plain(d: &DeviceConfig) -> bool {
    d.kind == Kind::Vnic && d.nic == 0
}

/// Appends a heading and keys. The name comes first, the other keys in the writer's order.
fn section(out: &mut String, heading: &str, mut keys: Table) {
    if !heading.is_empty() {
        out.push_str(heading);
        out.push('\n');
    }
    if let Some(name) = keys.remove("name") {
        out.push_str(&format!("name = {name}\n"));
    }
    for (key, value) in keys {
        // A `Value` is written on one line: an inline table, an array, or a quoted string.
        out.push_str(&format!("{key} = {value}\n"));
    }
    out.push('\n');
}

fn texts(items: impl IntoIterator<Item = impl ToString>) -> Value {
    Value::Array(items.into_iter().map(|i| Value::String(i.to_string())).collect())
}

fn brane(b: &BraneBoot) -> Table {
    let mut t = Table::new();
    t.insert("name".into(), b.name.as_str().into());
    if b.primary {
        t.insert("primary".into(), true.into());
    }
    if b.held {
        t.insert("started".into(), false.into());
    }
    if let Some(bytes) = b.memory {
        t.insert("memory".into(), i64::from(bytes).into());
    }
    if let Some(families) = &b.families {
        let protocols = |f: &FamilyConfig| texts(f.protocols.iter().map(|p| p.name()));
        let all = families
            .iter()
            .map(|f| (f.family.name().to_owned(), protocols(f)));
        t.insert("families".into(), Value::Table(all.collect()));
    }
    t
}

fn interface(i: &InterfaceConfig, plain: Option<&DeviceConfig>) -> Table {
    let mut t = plain.map_or_else(Table::new, device);
    if plain.is_some() && i.mac.is_station() {
        t.insert("mac".into(), i.mac.to_string().into());
    }
    t.insert("name".into(), i.name.as_str().into());
    t.insert("device".into(), i.device.as_str().into());
    t.insert("port".into(), i64::from(i.port).into());
    if !i.addresses.is_empty() {
        t.insert("addresses".into(), texts(&i.addresses));
    }
    if let Some(ip) = i.gateway4 {
        t.insert("gateway4".into(), ip.to_string().into());
    }
    if let Some(ip) = i.gateway6 {
        t.insert("gateway6".into(), ip.to_string().into());
    }
    for (on, key) in [(i.dhcp4, "dhcp4"), (i.slaac, "slaac")] {
        if on {
            t.insert(key.into(), true.into());
        }
    }
    t
}

/// Returns the keys of a device without its name.
fn device(d: &DeviceConfig) -> Table {
    let mut t = Table::new();
    match &d.kind {
        Kind::Vnic | Kind::Lo => {}
        Kind::Phys => {
            t.insert("kind".into(), "phys".into());
        }
        Kind::Pair(peer) => {
            t.insert("kind".into(), "pair".into());
            t.insert("peer".into(), peer.as_str().into());
        }
        Kind::Vlan(tag) => {
            t.insert("kind".into(), "vlan".into());
            t.insert("tag".into(), i64::from(*tag).into());
        }
    }
    if d.nic != 0 {
        t.insert("nic".into(), format!("nic{}", d.nic).into());
    }
    if let Some(mac) = d.mac {
        t.insert("mac".into(), mac.to_string().into());
    }
    if d.mode == Mode::Private {
        t.insert("mode".into(), "private".into());
    }
    if !d.allow.is_empty() {
        t.insert("allow".into(), texts(&d.allow));
    }
    for (key, rate) in [("rate-up", d.rate_up), ("rate-down", d.rate_down)] {
        if let Some(rate) = rate {
            t.insert(
                key.into(),
                Value::Integer(i64::try_from(rate).unwrap_or(i64::MAX)),
            );
        }
    }
    t
}

#[cfg(test)]
mod tests;
