//! The file as written: which keys there are. Unknown ones are refused; every value keeps its place for the messages.

use serde::Deserialize;
use toml::Spanned;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// First four bytes of the MAC addresses of interfaces that do not name one.
    pub mac_pool: Option<Spanned<String>>,
    /// The branes, by number.
    #[serde(default)]
    pub brane: Vec<Spanned<Brane>>,
    /// Devices that no brane has, or of which there is more to say than an interface's keys can.
    #[serde(default)]
    pub device: Vec<Spanned<Device>>,
}

/// One `[[device]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// Its name, unique in the whole system.
    pub name: Spanned<String>,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// The NIC whose driver carries it; `nic0` where it is left out.
    pub nic: Option<Spanned<String>>,
    /// Of a vlan: its tag.
    pub tag: Option<Spanned<i64>>,
    /// Of a pair: the other end.
    pub peer: Option<Spanned<String>>,
    /// MAC address; without it, one from the pool.
    pub mac: Option<Spanned<String>>,
    /// As at an interface.
    #[serde(default)]
    pub mode: Mode,
    /// As at an interface, but without the word `addresses`.
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// As at an interface.
    pub rate_up: Option<Spanned<i64>>,
    /// As at an interface.
    pub rate_down: Option<Spanned<i64>>,
}

/// What a device is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A MAC address of its own on a NIC.
    #[default]
    Vnic,
    /// The NIC itself.
    Phys,
    /// One end of a wire.
    Pair,
    /// A vnic with a tag.
    Vlan,
}

/// Families of a brane, each with its protocols.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families {
    /// IPv4.
    pub inet: Option<Vec<Spanned<String>>>,
    /// IPv6.
    pub inet6: Option<Vec<Spanned<String>>>,
}

/// One `[[brane]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brane {
    /// Its name.
    pub name: Spanned<String>,
    /// Whether it is the primary one.
    #[serde(default)]
    pub primary: bool,
    /// Its families and protocols; all where it is left out.
    pub families: Option<Spanned<Families>>,
    /// Whether it is started, or only created.
    pub started: Option<bool>,
    /// Its interfaces.
    #[serde(default)]
    pub interface: Vec<Spanned<Interface>>,
}

/// One `[[brane.interface]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Name inside the brane.
    pub name: Spanned<String>,
    /// Name of the device, unique over all branes.
    pub device: Spanned<String>,
    /// MAC address; without it, one from the pool.
    pub mac: Option<Spanned<String>>,
    /// Fixed addresses, each with its prefix length.
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    /// IPv4 default router.
    pub gateway4: Option<Spanned<String>>,
    /// IPv6 default router.
    pub gateway6: Option<Spanned<String>>,
    /// Ask DHCP.
    pub dhcp4: Option<Spanned<bool>>,
    /// Listen to router advertisements.
    #[serde(default)]
    pub slaac: bool,
    /// `bridge` or `private`; bridge where it is left out.
    pub mode: Option<Mode>,
    /// Where what it sends may come from: prefixes, and the word `addresses` for its fixed ones. Without it: anything.
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// Bytes per second that it may send. Without it: no limit.
    #[serde(rename = "rate-up")]
    pub rate_up: Option<Spanned<i64>>,
    /// Bytes per second that it gets. Without it: no limit.
    #[serde(rename = "rate-down")]
    pub rate_down: Option<Spanned<i64>>,
    /// Port; without it, the interface's place in its brane.
    pub port: Option<Spanned<i64>>,
}

/// Who can reach the interface besides the outside.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Other branes on the same NIC.
    #[default]
    Bridge,
    /// Nobody.
    Private,
}
