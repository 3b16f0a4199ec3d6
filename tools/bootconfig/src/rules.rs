//! Rules of a boot configuration. Each rule is here once, with a message that names key, value and remedy.

use crate::file::{self, Brane, File, Interface};
use crate::{Problem, Size, problem};
use brane_abi::control::InterfaceConfig;
use brane_abi::layout::MAX_NICS;
use brane_abi::layout::ports::MAX_PORTS;
use brane_abi::log::Level;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{DeviceConfig, Kind, LogLevel, Mode};
use brane_manager_core::boot::{BootConfig, BraneBoot, DEFAULT_POOL, MAX_NAME, is_loopback_name, pool_mac};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;

/// Maximum of static addresses of one interface.
const MAX_ADDRESSES: usize = 8;

/// Checker of a file. Collects problems, and the values that must be unique.
pub struct Rules<'a> {
    pub(crate) text: &'a str,
    pub(crate) size: Size,
    pool: [u8; 4],
    /// All problems found.
    pub problems: Vec<Problem>,
    names: HashMap<String, String>,
    devices: HashMap<String, String>,
    pub(crate) macs: HashMap<MacAddr, String>,
    /// All MAC addresses in the file's interfaces, including later ones.
    named_macs: HashSet<MacAddr>,
    addresses: HashMap<IpAddr, String>,
    built: Vec<DeviceConfig>,
    /// Devices with a section of their own, in order, with the section's position.
    pub(crate) declared: Vec<(DeviceConfig, Range<usize>)>,
}

impl<'a> Rules<'a> {
    /// Starts with nothing found, for this text and a system of this size.
    pub fn new(text: &'a str, size: Size) -> Rules<'a> {
        Rules {
            text,
            size,
            pool: DEFAULT_POOL,
            problems: Vec::new(),
            names: HashMap::new(),
            devices: HashMap::new(),
            macs: HashMap::new(),
            named_macs: HashSet::new(),
            addresses: HashMap::new(),
            built: Vec::new(),
            declared: Vec::new(),
        }
    }

    pub(crate) fn wrong(&mut self, span: Range<usize>, what: String) {
        self.problems.push(problem(self.text, span, what));
    }

    /// Checks the whole file. The result is valid only if `problems` is empty.
    pub fn file(&mut self, file: File) -> BootConfig {
        if let Some(pool) = &file.mac_pool {
            match bytes::<4>(pool.get_ref()) {
                Some(p) if p[0] & 3 == 2 => self.pool = p,
                _ => self.wrong(
                    pool.span(),
                    format!(
                        "mac-pool: `{}` is not the start of locally administered addresses: write four bytes of two \
                         hexadecimal digits, the first ending in 2, 6, a or e, as in \"02:77:00:00\"",
                        pool.get_ref()
                    ),
                ),
            }
        }
        if file.brane.is_empty() {
            self.wrong(0..0, "there is no brane: add a [[brane]] with a name".into());
        }
        if let Some(extra) = file.brane.get(self.size.instances) {
            let (have, can) = (file.brane.len(), self.size.instances);
            self.wrong(
                extra.span(),
                format!(
                    "{have} branes, but the system has {can}: drop some, or raise `instances` in configs.toml"
                ),
            );
        }
        let primaries: Vec<_> = file.brane.iter().filter(|b| b.get_ref().primary).collect();
        match primaries[..] {
            [] if !file.brane.is_empty() => self.wrong(
                file.brane[0].span(),
                "no brane is the primary one: write `primary = true` in one of them".into(),
            ),
            [_, second, ..] => self.wrong(
                second.span(),
                format!(
                    "brane `{}` is a second primary one, after `{}`: keep `primary = true` in one of them",
                    second.get_ref().name.get_ref(),
                    primaries[0].get_ref().name.get_ref()
                ),
            ),
            _ => {}
        }
        for device in file.device {
            let span = device.span();
            let device = self.device(device.into_inner());
            self.declared.push((device, span));
        }
        self.pairs();
        let interfaces = file.brane.iter().flat_map(|b| &b.get_ref().interface);
        let named = interfaces.filter_map(|i| i.get_ref().mac.as_ref());
        self.named_macs = named
            .filter_map(|mac| bytes(mac.get_ref()))
            .map(MacAddr)
            .collect();
        let branes = file.brane.into_iter();
        let branes = branes.map(|b| self.brane(b.into_inner())).collect();
        let mut devices = core::mem::take(&mut self.built);
        devices.extend(core::mem::take(&mut self.declared).into_iter().map(|(d, _)| d));
        let log = self.log(file.log);
        BootConfig {
            branes,
            devices,
            mac_pool: self.pool,
            log,
        }
    }

    /// Checks the levels of `[log]`. The build of the image checks that the system has such a domain.
    fn log(&mut self, levels: BTreeMap<Spanned<String>, Spanned<String>>) -> Vec<LogLevel> {
        let mut out = Vec::new();
        for (pd, word) in levels {
            let Some(level) = Level::from_name(word.get_ref()) else {
                let all = Level::ALL.map(Level::name).join(", ");
                let what = format!("log: `{}` is no level: write one of {all}", word.get_ref());
                self.wrong(word.span(), what);
                continue;
            };
            if level != Level::default() {
                out.push(LogLevel {
                    pd: pd.into_inner(),
                    level,
                });
            }
        }
        out
    }

    fn brane(&mut self, brane: Brane) -> BraneBoot {
        let name = self.name("brane.name", &brane.name);
        self.unique(
            |r| &mut r.names,
            "brane.name",
            brane.name.span(),
            name.clone(),
            "a brane",
        );
        let families = brane.families.map(|f| self.families(f, &name));
        let filter = self.filter(&name, &brane.filter);
        let nics: Vec<u8> = brane.interface.iter().map(|i| self.nic_of(i.get_ref())).collect();
        let per_nic = self.size.ports_per_nic.unwrap_or(MAX_PORTS);
        let mut local = HashMap::new();
        let mut ports = HashMap::new();
        let mut interfaces = Vec::new();
        for (index, interface) in brane.interface.into_iter().enumerate() {
            let span = interface.span();
            let interface = interface.into_inner();
            let place = interface.name.span();
            let port_place = interface.port.as_ref().map_or(span.clone(), |p| p.span());
            let nic = nics[index];
            let before = nics[..index].iter().filter(|n| **n == nic).count();
            if before == per_nic {
                let many = nics.iter().filter(|n| **n == nic).count();
                self.wrong(
                    span,
                    format!(
                        "brane `{name}` has {many} interfaces besides lo0 on nic{nic}, a brane has {per_nic} ports \
                         there: drop some"
                    ),
                );
            }
            // If there are too many interfaces, the error is reported already. Any valid number will do.
            let place_on_nic = before.min(per_nic.saturating_sub(1));
            let port = usize::from(nic) * per_nic + place_on_nic;
            let built = self.interface((nic, port as u8), &name, interface);
            let label = &built.name;
            if local.insert(label.clone(), ()).is_some() {
                self.wrong(
                    place,
                    format!(
                        "brane.interface.name: brane `{name}` has two interfaces called `{label}`: rename one"
                    ),
                );
            }
            if before < per_nic
                && let Some(other) = ports.insert(built.port, label.clone())
            {
                self.wrong(
                    port_place,
                    format!(
                        "brane.interface.port: `{label}` and `{other}` of brane `{name}` are both on port {}: use \
                         another one below {}",
                        built.port,
                        (usize::from(nic) + 1) * per_nic
                    ),
                );
            }
            interfaces.push(built);
        }
        BraneBoot {
            name,
            primary: brane.primary,
            interfaces,
            families,
            held: brane.started == Some(false),
            filter,
            memory: brane.memory,
        }
    }

    fn interface(&mut self, (nic, default_port): (u8, u8), owner: &str, given: Interface) -> InterfaceConfig {
        let name = self.name("brane.interface.name", &given.name);
        if name == "lo0" {
            self.wrong(
                given.name.span(),
                "brane.interface.name: every brane has its own `lo0` already: use another name, such as `net0`".into(),
            );
        }
        let device = self.name("brane.interface.device", &given.device);
        if is_loopback_name(&device) {
            self.wrong(
                given.device.span(),
                format!(
                    "brane.interface.device: `{device}` is kept for the lo0 of a brane: use a name other than `lo`, `loN` and \
                     `lo.N`"
                ),
            );
        }
        let here = format!("`{name}` of brane `{owner}`");
        self.unique(
            |r| &mut r.devices,
            "brane.interface.device",
            given.device.span(),
            device.clone(),
            &here,
        );
        let declared = self.declared_for(&given, &device);
        let own = declared.and_then(|at| self.declared.get(at).map(|(d, _)| (d.kind.clone(), d.mac)));
        let mac = match (&own, &given.mac) {
            (Some((_, Some(mac))), _) => *mac,
            // The NIC's own address, which only its driver knows.
            (Some((Kind::Phys, None)), _) => MacAddr::default(),
            (_, given_mac) => {
                let (mac, place) = match given_mac {
                    Some(text) => (self.mac(text), text.span()),
                    None => (self.pool_mac(&device), given.device.span()),
                };
                self.unique(|r| &mut r.macs, "brane.interface.mac", place, mac, &here);
                mac
            }
        };
        let addresses = self.addresses(&given, &here);
        let dhcp4 = given.dhcp4.as_ref().is_some_and(|d| *d.get_ref());
        let fixed4 = given.gateway4.is_some() || addresses.iter().any(|a| a.ip.is_ipv4());
        if let Some(flag) = given.dhcp4.as_ref().filter(|_| dhcp4 && fixed4) {
            self.wrong(
                flag.span(),
                format!(
                    "brane.interface.dhcp4: {here} has a fixed IPv4 address or gateway too: drop either that or \
                     `dhcp4`"
                ),
            );
        }
        let gateway4 = self.gateway::<Ipv4Addr>("gateway4", &given.gateway4, &addresses, "10.0.2.2", &here);
        let gateway6 = self.gateway::<Ipv6Addr>("gateway6", &given.gateway6, &addresses, "fec0::2", &here);
        let per_nic = self.size.ports_per_nic.unwrap_or(MAX_PORTS);
        let port = match &given.port {
            None => default_port,
            Some(p) => match usize::try_from(*p.get_ref()) {
                Ok(n) if self.size.ports_per_nic.is_none() && n < MAX_NICS * MAX_PORTS => n as u8,
                Ok(n) if n.checked_div(per_nic) == Some(usize::from(nic)) => n as u8,
                _ => {
                    let first = usize::from(nic) * per_nic;
                    let last = first + per_nic.saturating_sub(1);
                    let there = if nic == 0 {
                        String::new()
                    } else {
                        format!(" at nic{nic}")
                    };
                    self.wrong(
                        p.span(),
                        format!(
                            "brane.interface.port: a brane has no port {}{there}: use {first} to {last}",
                            p.get_ref()
                        ),
                    );
                    default_port
                }
            },
        };
        match declared {
            Some(at) => {
                let fixed = Some(mac).filter(|m| m.is_station());
                self.declared[at].0.mac = fixed;
            }
            None => {
                let device = DeviceConfig {
                    name: device.clone(),
                    mac: Some(mac),
                    mode: mode(given.mode.unwrap_or_default()),
                    allow: self.allow("brane.interface.allow", given.allow.as_ref(), &addresses, &here),
                    rate_up: self.rate("brane.interface.rate-up", given.rate_up.as_ref()),
                    rate_down: self.rate("brane.interface.rate-down", given.rate_down.as_ref()),
                    ..DeviceConfig::default()
                };
                self.built.push(device);
            }
        }
        InterfaceConfig {
            name,
            device,
            port,
            mac,
            addresses,
            gateway4,
            gateway6,
            dhcp4,
            slaac: given.slaac,
        }
    }

    pub(crate) fn name(&mut self, key: &str, given: &Spanned<String>) -> String {
        let name = given.get_ref();
        let fine = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= MAX_NAME
            && name
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c));
        if !fine {
            self.wrong(
                given.span(),
                format!(
                    "{key}: `{name}` is not a name: use 1 to {MAX_NAME} of a-z, 0-9, `-`, `_` and `.`, with a letter \
                     first"
                ),
            );
        }
        name.clone()
    }

    pub(crate) fn unique<K: Hash + Eq + ToString>(
        &mut self,
        map: impl FnOnce(&mut Self) -> &mut HashMap<K, String>,
        key: &str,
        span: Range<usize>,
        value: K,
        owner: &str,
    ) {
        let shown = value.to_string();
        if let Some(other) = map(self).insert(value, owner.into()) {
            self.wrong(
                span,
                format!("{key}: `{shown}` is taken by {other}: choose another one"),
            );
        }
    }

    pub(crate) fn mac(&mut self, given: &Spanned<String>) -> MacAddr {
        match bytes::<6>(given.get_ref()).map(MacAddr) {
            Some(mac) if mac.is_station() => mac,
            parsed => {
                let why = match parsed {
                    None => "not a MAC address",
                    Some(_) => "not the address of one station (a group address, or all zero)",
                };
                self.wrong(
                    given.span(),
                    format!(
                        "brane.interface.mac: `{}` is {why}: write it as in \"02:77:00:00:00:01\"",
                        given.get_ref()
                    ),
                );
                MacAddr::default()
            }
        }
    }

    /// Chooses the MAC address of a device that names none, by the manager's own rule.
    fn pool_mac(&self, device: &str) -> MacAddr {
        let is_taken = |mac| self.macs.contains_key(&mac) || self.named_macs.contains(&mac);
        // A file that uses up 65,536 addresses does not fit the region `boot-config`.
        pool_mac(self.pool, device, is_taken).unwrap_or_default()
    }

    fn addresses(&mut self, given: &Interface, here: &str) -> Vec<Cidr> {
        if let Some(extra) = given.addresses.get(MAX_ADDRESSES) {
            self.wrong(
                extra.span(),
                format!("brane.interface.addresses: {here} has more than {MAX_ADDRESSES}: drop some"),
            );
        }
        let mut out = Vec::new();
        for text in &given.addresses {
            let key = "brane.interface.addresses";
            let Ok(net) = IpNet::from_str(text.get_ref()) else {
                self.wrong(
                    text.span(),
                    format!(
                        "{key}: `{}` is not an address with a prefix length: write it as in \"10.0.2.15/24\" or \
                         \"fec0::15/64\"",
                        text.get_ref()
                    ),
                );
                continue;
            };
            let ip = net.addr();
            let edge = match net {
                IpNet::V4(n) => n.prefix_len() < 31 && (n.network() == n.addr() || n.broadcast() == n.addr()),
                IpNet::V6(_) => false,
            };
            let limited = matches!(ip, IpAddr::V4(a) if a.is_broadcast());
            if ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_loopback()
                || edge
                || limited
                || net.prefix_len() == 0
            {
                self.wrong(
                    text.span(),
                    format!(
                        "{key}: `{net}` cannot be the address of an interface (unspecified, loopback, multicast, \
                         broadcast, the network itself, or prefix length 0): choose a host's address"
                    ),
                );
            }
            self.unique(|r| &mut r.addresses, key, text.span(), ip, here);
            out.push(Cidr {
                ip,
                prefix: net.prefix_len(),
            });
        }
        out
    }

    fn gateway<A: FromStr + Copy + Into<IpAddr>>(
        &mut self,
        key: &str,
        given: &Option<Spanned<String>>,
        addresses: &[Cidr],
        example: &str,
        here: &str,
    ) -> Option<A> {
        let text = given.as_ref()?;
        let key = format!("brane.interface.{key}");
        let Ok(gateway) = text.get_ref().parse::<A>() else {
            self.wrong(
                text.span(),
                format!(
                    "{key}: `{}` is not such an address: write it as in \"{example}\"",
                    text.get_ref()
                ),
            );
            return None;
        };
        let ip: IpAddr = gateway.into();
        let link_local = matches!(ip, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80);
        let reached = addresses
            .iter()
            .any(|a| a.ip != ip && IpNet::new(a.ip, a.prefix).is_ok_and(|net| net.contains(&ip)));
        if !link_local && !reached {
            self.wrong(
                text.span(),
                format!(
                    "{key}: `{ip}` is in no network of {here}, so it cannot be reached: give it an address in the \
                     router's network, or correct the router"
                ),
            );
        }
        Some(gateway)
    }
}

pub(crate) const fn mode(given: file::Mode) -> Mode {
    match given {
        file::Mode::Bridge => Mode::Bridge,
        file::Mode::Private => Mode::Private,
    }
}

/// Parses `N` bytes of two hexadecimal digits each, separated by colons.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let mut parts = text.split(':');
    for byte in &mut out {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}
