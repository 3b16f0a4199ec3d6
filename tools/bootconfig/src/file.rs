//! The file as written, with its keys. Unknown keys are refused. Every value keeps its position for the
//! messages.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// First four bytes of the MAC addresses of interfaces without a `mac`.
    pub mac_pool: Option<Spanned<String>>,
    /// The branes, ordered by number.
    #[serde(default)]
    pub brane: Vec<Spanned<Brane>>,
    /// Devices without a brane, and devices that need more keys than an interface has.
    #[serde(default)]
    pub device: Vec<Spanned<Device>>,
    /// Log levels by the name of a protection domain.
    #[serde(default)]
    pub log: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// A `[[device]]` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// Name, unique in the system.
    pub name: Spanned<String>,
    #[serde(default)]
    pub kind: Kind,
    /// The NIC whose driver carries the device. `nic0` if absent.
    pub nic: Option<Spanned<String>>,
    /// Tag of a vlan.
    pub tag: Option<Spanned<i64>>,
    /// The other end of a pair.
    pub peer: Option<Spanned<String>>,
    /// MAC address. Taken from the pool if absent.
    pub mac: Option<Spanned<String>>,
    /// See [`Interface::mode`].
    #[serde(default)]
    pub mode: Mode,
    /// See [`Interface::allow`], but the word `addresses` is not allowed.
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// See [`Interface::rate_up`].
    pub rate_up: Option<Spanned<i64>>,
    /// See [`Interface::rate_down`].
    pub rate_down: Option<Spanned<i64>>,
}

/// Kind of a device.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A device with a MAC address of its own on a NIC.
    #[default]
    Vnic,
    /// The NIC itself.
    Phys,
    /// One end of a virtual cable.
    Pair,
    /// A vnic with a tag.
    Vlan,
}

/// Families of a brane, each with its protocols.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families {
    pub inet: Option<Vec<Spanned<String>>>,
    pub inet6: Option<Vec<Spanned<String>>>,
}

/// A `[[brane]]` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brane {
    pub name: Spanned<String>,
    /// True for the primary brane.
    #[serde(default)]
    pub primary: bool,
    /// Its families and protocols. All if absent.
    pub families: Option<Spanned<Families>>,
    /// Bytes of memory for the tables of its families and protocols.
    pub memory: Option<u32>,
    /// True if the brane is started, false if it is only created.
    pub started: Option<bool>,
    #[serde(default)]
    pub interface: Vec<Spanned<Interface>>,
    /// The rules of its packet filter, in order.
    #[serde(default)]
    pub filter: Vec<Filter>,
}

/// A `[[brane.filter]]` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The rule, as `branectl filter BRANE add` accepts it.
    pub rule: Spanned<String>,
}

/// A `[[brane.interface]]` section.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    pub name: Spanned<String>,
    /// Name of the device, unique over all branes.
    pub device: Spanned<String>,
    /// MAC address. Taken from the pool if absent.
    pub mac: Option<Spanned<String>>,
    /// Static addresses, each with its prefix length.
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    /// IPv4 default router.
    pub gateway4: Option<Spanned<String>>,
    /// IPv6 default router.
    pub gateway6: Option<Spanned<String>>,
    /// Use DHCP.
    pub dhcp4: Option<Spanned<bool>>,
    /// Use router advertisements.
    #[serde(default)]
    pub slaac: bool,
    /// `bridge` or `private`. `bridge` if absent.
    pub mode: Option<Mode>,
    /// Source addresses that the interface may send from: prefixes, and the word `addresses` for its static
    /// ones. Any if absent.
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Limit for sending in bytes per second. None if absent.
    #[serde(rename = "rate-up")]
    pub rate_up: Option<Spanned<i64>>,
    /// Limit for receiving in bytes per second. None if absent.
    #[serde(rename = "rate-down")]
    pub rate_down: Option<Spanned<i64>>,
    /// Port. The interface's index in its brane if absent.
    pub port: Option<Spanned<i64>>,
}

/// Reachability of an interface from other branes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Other branes on the same NIC can reach it.
    #[default]
    Bridge,
    /// No other brane can reach it.
    Private,
}
