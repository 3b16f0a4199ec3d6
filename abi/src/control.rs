//! Commands of the manager to a brane, and the brane's reports (layout: [`crate::layout::ctl`]).
//!
//! In each record, meta word 0 is the kind and word 1 a token that the report repeats. Larger payloads are CBOR (RFC 8949). The
//! brane trusts the manager. The manager does not trust the brane: it treats a report as a claim and checks it.

use crate::net::{Cidr, MacAddr};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};

/// Doorbell bit of the command ring (towards the brane) and the report ring (towards the manager).
pub const CONTROL_BIT: u64 = 1;

/// Longest CBOR text in a report, in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// Longest CBOR text in a command, in bytes: a configuration with a whole filter and all captures.
pub const MAX_COMMAND: usize =
    MAX_MESSAGE + crate::filter::MAX_FILTER + crate::capture::BRANE_CAPTURES * crate::capture::MAX_CONFIG;

/// Kind of a command.
pub mod command {
    /// CBOR [`super::BraneConfig`]: take this configuration. Sent once after each link-up. Answer `CONFIGURED` or `REFUSED`.
    pub const CONFIGURE: u32 = 1;
    /// No payload: report the status. Answer `STATUS` with the command's token.
    pub const REPORT: u32 = 2;
    /// No payload: fault. For tests of the recovery.
    pub const CRASH: u32 = 3;
    /// No payload: answer `ALIVE` with the command's token at once. The brane need not notify the manager, because the manager
    /// reads the answer before the next heartbeat. Sent about once a second to a brane that has answered `CONFIGURED`.
    pub const HEARTBEAT: u32 = 4;
    /// No payload: stop answering, but do not fault. For tests of the recovery.
    pub const HANG: u32 = 5;
    /// CBOR [`super::InterfaceConfig`]: attach this interface. Answer `DONE` or `REFUSED`. The driver has bound its port, or will
    /// do so soon.
    pub const ATTACH: u32 = 6;
    /// UTF-8 name of an interface: detach it and reset everything that uses it. Answer `DONE` or `REFUSED`. The driver has
    /// unbound its port before.
    pub const DETACH: u32 = 7;
    /// CBOR [`super::InterfaceConfig`] of an interface that the brane has, selected by its name: replace addresses, routers, DHCP
    /// and SLAAC in place. Device, port and MAC address are unchanged. Answer `DONE` or `REFUSED`.
    pub const ADJUST: u32 = 8;
    /// CBOR [`super::Rename`]: rename the brane or one of its interfaces. Answer `DONE` or `REFUSED`.
    pub const RENAME: u32 = 9;
    /// Four bytes, little-endian: a time limit in milliseconds. Accept no new sockets and connections, and end the present ones
    /// as their protocols require. Answer `DRAINED` when none is left or the time is over.
    pub const SHUTDOWN: u32 = 10;
    /// CBOR [`crate::query::Query`]: a query. Answer `ANSWER` when the result is known.
    pub const QUERY: u32 = 11;
    /// No payload: serve clients and carry packets from now on. Sent after a `CONFIGURE` with [`super::BraneConfig::held`].
    /// Cannot fail. Answer `DONE`.
    pub const START: u32 = 12;
    /// CBOR list of [`crate::filter::Rule`]: replace all rules of the brane's filter. Answer `DONE` or `REFUSED`; then the old
    /// rules stay in force.
    pub const FILTER: u32 = 13;
    /// CBOR [`crate::capture::CaptureConfig`]: begin a capture. Answer `DONE` or `REFUSED`. A crash ends it; the next configuration
    /// names it again.
    pub const CAPTURE: u32 = 14;
    /// Four bytes, little-endian: the tag of a capture, which ends. Cannot fail. Answer `DONE`.
    pub const UNCAPTURE: u32 = 15;
    /// CBOR list of [`crate::hook::HookConfig`]: replace all external hooks of the brane. Answer `DONE` or `REFUSED`; then the old
    /// hooks stay in force.
    pub const HOOKS: u32 = 16;
}

/// Kind of a report.
pub mod report {
    /// No payload: the configuration is in force, and clients can open sockets.
    pub const CONFIGURED: u32 = 1;
    /// UTF-8 text: the reason of the refusal.
    pub const REFUSED: u32 = 2;
    /// CBOR [`super::BraneStatus`].
    pub const STATUS: u32 = 3;
    /// No payload: the answer to `HEARTBEAT`.
    pub const ALIVE: u32 = 4;
    /// No payload: the command is in force.
    pub const DONE: u32 = 5;
    /// Four bytes, little-endian: number of sockets and connections that remained and are aborted. The answer to `SHUTDOWN`.
    pub const DRAINED: u32 = 6;
    /// CBOR [`crate::query::Answer`]: the answer to `QUERY`.
    pub const ANSWER: u32 = 7;
    /// CBOR list of [`crate::hook::HookStatus`]: an external hook is attached or detached now. Sent without a command.
    pub const HOOKS: u32 = 8;
}

/// A network family of a brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Family {
    /// IPv4.
    #[n(0)]
    Inet,
    /// IPv6.
    #[n(1)]
    Inet6,
}

/// A protocol that a family can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Protocol {
    /// ICMP (RFC 792), in `inet` only.
    #[n(0)]
    Icmp,
    /// ICMPv6 (RFC 4443), in `inet6` only. Neighbour discovery belongs to the family and works without it.
    #[n(1)]
    Icmp6,
    /// TCP (RFC 9293).
    #[n(2)]
    Tcp,
    /// UDP (RFC 768).
    #[n(3)]
    Udp,
}

impl Family {
    /// All families, in the order of their creation.
    pub const ALL: [Family; 2] = [Family::Inet, Family::Inet6];

    /// Returns the family's name, such as `inet`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
        }
    }

    /// Returns the protocols that the family can have, in the order of their creation.
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Family::Inet => &[Protocol::Icmp, Protocol::Udp, Protocol::Tcp],
            Family::Inet6 => &[Protocol::Icmp6, Protocol::Udp, Protocol::Tcp],
        }
    }
}

impl Protocol {
    /// Returns the protocol's name, such as `tcp`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Icmp => "icmp",
            Protocol::Icmp6 => "icmp6",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A family of a brane, with its protocols.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FamilyConfig {
    /// The family.
    #[n(0)]
    pub family: Family,
    /// Its protocols, each once.
    #[n(1)]
    pub protocols: Vec<Protocol>,
}

/// Returns all families with all their protocols: the default of a brane.
pub fn all_families() -> Vec<FamilyConfig> {
    Family::ALL
        .iter()
        .map(|&family| FamilyConfig {
            family,
            protocols: family.protocols().to_vec(),
        })
        .collect()
}

/// A new name for a brane, for one of its interfaces, or for the device of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rename {
    /// The interface's present name; `None` for the brane itself.
    #[n(0)]
    pub interface: Option<String>,
    /// The new name.
    #[n(1)]
    pub to: String,
    /// The interface's device gets the name, not the interface.
    #[n(2)]
    #[cbor(default)]
    pub device: bool,
}

/// The whole configuration of a brane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BraneConfig {
    /// The brane's number.
    #[n(0)]
    pub id: u32,
    /// Unique name, up to 31 bytes.
    #[n(1)]
    pub name: String,
    /// Count of restarts by the manager.
    #[n(2)]
    pub generation: u32,
    /// True for the primary brane.
    #[n(3)]
    pub primary: bool,
    /// Its interfaces without `lo0`, which every brane has.
    #[n(4)]
    pub interfaces: Vec<InterfaceConfig>,
    /// Its families and protocols; `None` for all of them.
    #[n(5)]
    pub families: Option<Vec<FamilyConfig>>,
    /// Create everything, but serve no client and carry no packet before `START`.
    #[n(6)]
    #[cbor(default)]
    pub held: bool,
    /// Rules of its filter, in force before the first packet.
    #[n(7)]
    #[cbor(default)]
    pub filter: Vec<crate::filter::Rule>,
    /// Bytes of memory for the tables of its families and protocols, without the buffers of connections. `None` for the brane's
    /// default. A brane whose tables need more refuses the configuration.
    #[n(8)]
    #[cbor(default)]
    pub memory: Option<u32>,
    /// Captures that it takes part in, from the first packet on.
    #[n(9)]
    #[cbor(default)]
    pub captures: Vec<crate::capture::CaptureConfig>,
    /// Its external hooks, attached before the first packet.
    #[n(10)]
    #[cbor(default)]
    pub hooks: Vec<crate::hook::HookConfig>,
}

/// One interface of a brane (IfNet), over one device (DevNet).
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct InterfaceConfig {
    /// Name inside the brane, such as `net0`.
    #[n(0)]
    pub name: String,
    /// Name of the device, unique over all branes, such as `vnic0`.
    #[n(1)]
    pub device: String,
    /// Number of the brane's port that carries it: each NIC has [`crate::layout::ports::count`], and those of `nic0` come first.
    #[n(2)]
    pub port: u8,
    /// The vif's MAC address, which the driver confirms.
    #[n(3)]
    pub mac: MacAddr,
    /// Fixed addresses.
    #[n(4)]
    pub addresses: Vec<Cidr>,
    /// Fixed IPv4 default router.
    #[n(5)]
    pub gateway4: Option<Ipv4Addr>,
    /// Fixed IPv6 default router.
    #[n(6)]
    pub gateway6: Option<Ipv6Addr>,
    /// Use DHCP for an IPv4 address (RFC 2131).
    #[n(7)]
    pub dhcp4: bool,
    /// Use router advertisements for IPv6 addresses (RFC 4862).
    #[n(8)]
    pub slaac: bool,
}

/// Status that a brane reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BraneStatus {
    /// Its interfaces, `lo0` first.
    #[n(0)]
    pub interfaces: Vec<InterfaceStatus>,
    /// Named counters of the whole brane (sockets, drops by reason, peer errors).
    #[n(1)]
    pub counters: Vec<Counter>,
    /// Its external hooks.
    #[n(3)]
    #[cbor(default)]
    pub hooks: Vec<crate::hook::HookStatus>,
}

/// Present state of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct InterfaceStatus {
    /// Name inside the brane.
    #[n(0)]
    pub name: String,
    /// Name of the device.
    #[n(1)]
    pub device: String,
    /// MAC address, all zero for `lo0`.
    #[n(2)]
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    #[n(3)]
    pub mtu: u32,
    /// True if frames can flow.
    #[n(4)]
    pub up: bool,
    /// Addresses in force.
    #[n(5)]
    pub addresses: Vec<AddressStatus>,
    /// IPv4 default router in force.
    #[n(6)]
    pub gateway4: Option<Ipv4Addr>,
    /// IPv6 default router in force.
    #[n(7)]
    pub gateway6: Option<Ipv6Addr>,
    /// Frames received; packets at `lo0`.
    #[n(8)]
    #[cbor(default)]
    pub rx_packets: u64,
    /// Their bytes.
    #[n(9)]
    #[cbor(default)]
    pub rx_bytes: u64,
    /// Received frames that were malformed.
    #[n(10)]
    #[cbor(default)]
    pub rx_errors: u64,
    /// Frames sent. A frame that the device segments counts once.
    #[n(11)]
    #[cbor(default)]
    pub tx_packets: u64,
    /// Their bytes.
    #[n(12)]
    #[cbor(default)]
    pub tx_bytes: u64,
    /// Frames not sent because there was no room.
    #[n(13)]
    #[cbor(default)]
    pub tx_errors: u64,
}

/// One address and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AddressStatus {
    /// The address.
    #[n(0)]
    pub cidr: Cidr,
    /// Its origin.
    #[n(1)]
    pub origin: Origin,
}

/// Origin of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Origin {
    /// Configuration.
    #[n(0)]
    Static,
    /// A DHCP server.
    #[n(1)]
    Dhcp,
    /// A router advertisement.
    #[n(2)]
    Slaac,
    /// The brane's own link-local or loopback address.
    #[n(3)]
    Link,
}

/// A named counter.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Counter {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: u64,
}
