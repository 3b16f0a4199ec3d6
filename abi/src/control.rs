//! Commands of the manager to a brane, and the brane's reports (layout: [`crate::layout::ctl`]).
//!
//! Records whose meta word 0 is the kind and word 1 a token that a report repeats. Larger things are CBOR (RFC 8949).
//! The brane believes the manager; the manager takes a report for what an untrusted brane says of itself.

use crate::net::{Cidr, MacAddr};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};

/// Doorbell bit of the command ring (towards the brane) and the report ring (towards the manager).
pub const CONTROL_BIT: u64 = 1;

/// Longest CBOR text in a record, in bytes.
pub const MAX_MESSAGE: usize = 4096;

/// Kind of a command.
pub mod command {
    /// CBOR [`super::BraneConfig`]: become this brane. Sent once after each link-up. Answer `CONFIGURED` or `REFUSED`.
    pub const CONFIGURE: u32 = 1;
    /// No payload: answer `STATUS` with the same token.
    pub const REPORT: u32 = 2;
    /// No payload: fault. For tests of the recovery.
    pub const CRASH: u32 = 3;
    /// No payload: answer `ALIVE` with the same token at once. It need not wake the manager, which looks for the answer when it
    /// asks again. Sent about once a second to a brane that has answered `CONFIGURED`.
    pub const HEARTBEAT: u32 = 4;
    /// No payload: answer nobody any more, but do not fault. For tests of the recovery.
    pub const HANG: u32 = 5;
    /// CBOR [`super::InterfaceConfig`]: this interface is yours from now on. Answer `DONE` or `REFUSED`. The driver has bound
    /// its port already, or will in a moment.
    pub const ATTACH: u32 = 6;
    /// UTF-8 name of an interface: it is yours no longer; what used it is reset. Answer `DONE` or `REFUSED`. The driver has
    /// unbound its port before.
    pub const DETACH: u32 = 7;
    /// CBOR [`super::InterfaceConfig`] of an interface that the brane has, by its name: addresses, routers, DHCP and SLAAC are
    /// to be these, in place; device, port and MAC address are the same as before. Answer `DONE` or `REFUSED`.
    pub const ADJUST: u32 = 8;
    /// CBOR [`super::Rename`]: the brane or one of its interfaces gets another name. Answer `DONE` or `REFUSED`.
    pub const RENAME: u32 = 9;
    /// Four bytes, little-endian: milliseconds. Take no new sockets and connections, end those that there are as their
    /// protocols have it, and answer `DRAINED` when none is left, or when the time is over.
    pub const SHUTDOWN: u32 = 10;
    /// CBOR [`crate::query::Query`]: answer `ANSWER`, when there is one.
    pub const QUERY: u32 = 11;
    /// No payload: after a `CONFIGURE` with [`super::BraneConfig::held`], serve clients and carry packets from now on. Cannot
    /// fail. Answer `DONE`.
    pub const START: u32 = 12;
}

/// Kind of a report.
pub mod report {
    /// No payload: the configuration is in force, sockets are open for clients.
    pub const CONFIGURED: u32 = 1;
    /// UTF-8 text: why the configuration was refused.
    pub const REFUSED: u32 = 2;
    /// CBOR [`super::BraneStatus`].
    pub const STATUS: u32 = 3;
    /// No payload: the answer to `HEARTBEAT`.
    pub const ALIVE: u32 = 4;
    /// No payload: what was ordered is in force.
    pub const DONE: u32 = 5;
    /// Four bytes, little-endian: how many sockets and connections were left and are cut off. The answer to `SHUTDOWN`.
    pub const DRAINED: u32 = 6;
    /// CBOR [`crate::query::Answer`]: the answer to `QUERY`.
    pub const ANSWER: u32 = 7;
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
    /// ICMP (RFC 792), of `inet` alone.
    #[n(0)]
    Icmp,
    /// ICMPv6 (RFC 4443), of `inet6` alone. Neighbour discovery is the family's own and there without it.
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
    /// All families, in the order in which they are created.
    pub const ALL: [Family; 2] = [Family::Inet, Family::Inet6];

    /// Its name, as in `inet`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
        }
    }

    /// The protocols that it can have, in the order in which they are created.
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Family::Inet => &[Protocol::Icmp, Protocol::Udp, Protocol::Tcp],
            Family::Inet6 => &[Protocol::Icmp6, Protocol::Udp, Protocol::Tcp],
        }
    }
}

impl Protocol {
    /// Its name, as in `tcp`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Icmp => "icmp",
            Protocol::Icmp6 => "icmp6",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A family that a brane is to have, with its protocols.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FamilyConfig {
    /// Which.
    #[n(0)]
    pub family: Family,
    /// Its protocols, each once.
    #[n(1)]
    pub protocols: Vec<Protocol>,
}

/// All families with all their protocols: what a brane has of which nothing else is said.
pub fn all_families() -> Vec<FamilyConfig> {
    Family::ALL
        .iter()
        .map(|&family| FamilyConfig {
            family,
            protocols: family.protocols().to_vec(),
        })
        .collect()
}

/// Another name for a brane, for one of its interfaces, or for the device of one.
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

/// All that a brane is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BraneConfig {
    /// The brane's number.
    #[n(0)]
    pub id: u32,
    /// Unique name, up to 31 bytes.
    #[n(1)]
    pub name: String,
    /// How often the manager has restarted it.
    #[n(2)]
    pub generation: u32,
    /// Whether it is the primary brane.
    #[n(3)]
    pub primary: bool,
    /// Its interfaces but for `lo0`, which every brane has.
    #[n(4)]
    pub interfaces: Vec<InterfaceConfig>,
    /// Its families and protocols; `None` for all of them.
    #[n(5)]
    pub families: Option<Vec<FamilyConfig>>,
    /// Create everything, but serve nobody before `START`.
    #[n(6)]
    #[cbor(default)]
    pub held: bool,
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
    /// Which of the brane's ports carries it: [`crate::layout::PORTS_PER_BRANE`] at each NIC, those of `nic0` first.
    #[n(2)]
    pub port: u8,
    /// The vif's MAC address, as the driver will confirm it.
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
    /// Ask DHCP for an IPv4 address (RFC 2131).
    #[n(7)]
    pub dhcp4: bool,
    /// Take IPv6 addresses from router advertisements (RFC 4862).
    #[n(8)]
    pub slaac: bool,
}

/// What a brane says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BraneStatus {
    /// Its interfaces, `lo0` first.
    #[n(0)]
    pub interfaces: Vec<InterfaceStatus>,
    /// Named counters of the whole brane (sockets, drops by reason, peer errors).
    #[n(1)]
    pub counters: Vec<Counter>,
}

/// One interface as it is now.
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
    /// Whether frames can flow.
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
    /// Those of them that made no sense.
    #[n(10)]
    #[cbor(default)]
    pub rx_errors: u64,
    /// Frames sent; one that the device cuts into segments counts once.
    #[n(11)]
    #[cbor(default)]
    pub tx_packets: u64,
    /// Their bytes.
    #[n(12)]
    #[cbor(default)]
    pub tx_bytes: u64,
    /// Frames not sent for want of room.
    #[n(13)]
    #[cbor(default)]
    pub tx_errors: u64,
}

/// One address and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AddressStatus {
    /// The address.
    #[n(0)]
    pub cidr: Cidr,
    /// Its origin.
    #[n(1)]
    pub origin: Origin,
}

/// Where an address came from.
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

/// A named count.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Counter {
    /// What is counted.
    #[n(0)]
    pub name: String,
    /// How often.
    #[n(1)]
    pub value: u64,
}
