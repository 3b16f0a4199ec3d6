//! Rules for devices with a section of their own (`[[device]]`) and for the families of a brane.

use crate::file::{self, Device, Interface};
use crate::rules::{Rules, mode};
use brane_abi::control::{Family, FamilyConfig};
use brane_abi::operator::{DeviceConfig, Kind};
use toml::Spanned;

impl Rules<'_> {
    pub(crate) fn families(&mut self, given: Spanned<file::Families>, brane: &str) -> Vec<FamilyConfig> {
        let span = given.span();
        let given = given.into_inner();
        let mut out = Vec::new();
        for (family, list) in [(Family::Inet, given.inet), (Family::Inet6, given.inet6)] {
            let Some(list) = list else {
                continue;
            };
            let key = format!("brane.families.{}", family.name());
            let mut protocols = Vec::new();
            for word in &list {
                let known = family.protocols().iter().find(|p| p.name() == word.get_ref());
                match known {
                    None => {
                        let all: Vec<&str> = family.protocols().iter().map(|p| p.name()).collect();
                        self.wrong(
                            word.span(),
                            format!(
                                "{key}: `{}` is not one of its protocols: use {}",
                                word.get_ref(),
                                all.join(", ")
                            ),
                        );
                    }
                    Some(p) if protocols.contains(p) => {
                        self.wrong(
                            word.span(),
                            format!("{key}: `{}` is there twice: drop one", word.get_ref()),
                        );
                    }
                    Some(p) => protocols.push(*p),
                }
            }
            out.push(FamilyConfig { family, protocols });
        }
        if out.is_empty() {
            self.wrong(
                span,
                format!("brane.families: brane `{brane}` would have none: name inet or inet6, or omit the key for all"),
            );
        }
        out
    }

    /// Returns the NIC of an interface's device.
    pub(crate) fn nic_of(&self, interface: &Interface) -> u8 {
        let declared = self
            .declared
            .iter()
            .find(|(d, _)| d.name == *interface.device.get_ref());
        declared.map_or(0, |(d, _)| d.nic)
    }

    pub(crate) fn device(&mut self, given: Device) -> DeviceConfig {
        let name = self.name("device.name", &given.name);
        if self.declared.iter().any(|(d, _)| d.name == name) {
            self.wrong(
                given.name.span(),
                format!("device.name: `{name}` is taken by a device: choose another one"),
            );
        }
        let here = format!("device `{name}`");
        let nic = given.nic.as_ref().map_or(0, |text| self.nic(text));
        let kind = self.kind(&given, &name, nic);
        let mac = given.mac.as_ref().map(|text| {
            let mac = self.mac(text);
            self.unique(|r| &mut r.macs, "device.mac", text.span(), mac, &here);
            mac
        });
        DeviceConfig {
            kind,
            nic,
            mac,
            mode: mode(given.mode),
            allow: self.allow("device.allow", given.allow.as_ref(), &[], &here),
            rate_up: self.rate("device.rate-up", given.rate_up.as_ref()),
            rate_down: self.rate("device.rate-down", given.rate_down.as_ref()),
            name,
        }
    }

    fn nic(&mut self, text: &Spanned<String>) -> u8 {
        let number = text.get_ref().strip_prefix("nic").and_then(|n| n.parse().ok());
        match number.filter(|n| usize::from(*n) < self.size.nics) {
            Some(n) => n,
            None => {
                let last = self.size.nics.saturating_sub(1);
                self.wrong(
                    text.span(),
                    format!(
                        "device.nic: `{}` is not a NIC: use nic0 to nic{last}",
                        text.get_ref()
                    ),
                );
                0
            }
        }
    }

    fn kind(&mut self, given: &Device, name: &str, nic: u8) -> Kind {
        if let Some(tag) = given.tag.as_ref().filter(|_| given.kind != file::Kind::Vlan) {
            self.wrong(
                tag.span(),
                "device.tag: only a vlan has one: drop it, or write `kind = \"vlan\"`".into(),
            );
        }
        if let Some(peer) = given.peer.as_ref().filter(|_| given.kind != file::Kind::Pair) {
            self.wrong(
                peer.span(),
                "device.peer: only a pair has one: drop it, or write `kind = \"pair\"`".into(),
            );
        }
        match given.kind {
            file::Kind::Vnic => Kind::Vnic,
            file::Kind::Phys => {
                if name != format!("nic{nic}") {
                    self.wrong(
                        given.name.span(),
                        format!("device.name: `{name}` is not the NIC's own name: the physical device of nic{nic} is `nic{nic}`"),
                    );
                }
                Kind::Phys
            }
            file::Kind::Vlan => {
                let number = given
                    .tag
                    .as_ref()
                    .map(|t| u16::try_from(*t.get_ref()).unwrap_or(0));
                match number {
                    Some(tag @ 1..=4094) => Kind::Vlan(tag),
                    _ => {
                        let span = given.tag.as_ref().map_or(given.name.span(), Spanned::span);
                        self.wrong(
                            span,
                            format!(
                                "device.tag: the vlan `{name}` needs one from 1 to 4094: write `tag = 12`"
                            ),
                        );
                        Kind::Vlan(1)
                    }
                }
            }
            file::Kind::Pair => match &given.peer {
                Some(peer) => Kind::Pair(self.name("device.peer", peer)),
                None => {
                    self.wrong(
                        given.name.span(),
                        format!("device.peer: the pair `{name}` needs the name of its other end: write `peer = ...`"),
                    );
                    Kind::Pair(String::new())
                }
            },
        }
    }

    /// Checks that both ends of each pair name each other.
    pub(crate) fn pairs(&mut self) {
        for at in 0..self.declared.len() {
            let (device, span) = &self.declared[at];
            let Kind::Pair(peer) = &device.kind else {
                continue;
            };
            let name = &device.name;
            let back = self
                .declared
                .iter()
                .find(|(d, _)| d.name == *peer && peer != name);
            let fits = back.is_some_and(|(d, _)| d.kind == Kind::Pair(name.clone()) && d.nic == device.nic);
            if !fits && !peer.is_empty() {
                let what = format!(
                    "device.peer: the other end `{peer}` of `{name}` does not name it as its peer: write a [[device]] `{peer}` \
                     of kind pair with `peer = \"{name}\"` on the same NIC"
                );
                self.wrong(span.clone(), what);
            }
        }
    }

    /// Returns the index of the `[[device]]` of an interface. Refuses keys of the interface that belong into
    /// that section.
    pub(crate) fn declared_for(&mut self, given: &Interface, device: &str) -> Option<usize> {
        let at = self.declared.iter().position(|(d, _)| d.name == device)?;
        let keys = [
            ("mac", given.mac.as_ref().map(Spanned::span)),
            ("allow", given.allow.as_ref().map(Spanned::span)),
            ("rate-up", given.rate_up.as_ref().map(Spanned::span)),
            ("rate-down", given.rate_down.as_ref().map(Spanned::span)),
            ("mode", given.mode.map(|_| given.device.span())),
        ];
        for (key, span) in keys {
            if let Some(span) = span {
                self.wrong(
                    span,
                    format!(
                        "brane.interface.{key}: `{device}` has a [[device]] of its own: write `{key}` there"
                    ),
                );
            }
        }
        Some(at)
    }
}
