//! The boot configuration: branes and devices that the manager brings up, as CBOR (RFC 8949) in the region `boot-config`.
//!
//! The build machine writes it from TOML (`tools/bootconfig`), whose messages name line and key. The manager reads it once at
//! its start. The bytes are trusted, but they may be missing, cut short or damaged. So they are in an envelope with a
//! checksum, and reading them returns a reason if they cannot be used.

use crate::filter;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{FamilyConfig, InterfaceConfig};
use brane_abi::filter::Rule;
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, LogLevel};
use core::fmt;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// First element of the envelope.
pub const MAGIC: &str = "branes-boot-config";

/// Version of the format. All other versions are refused. That includes older ones, because they may lack limits.
pub const VERSION: u32 = 5;

pub use brane_abi::operator::MAX_NAME;

/// Default of [`BootConfig::mac_pool`]. Its addresses are locally administered.
pub const DEFAULT_POOL: [u8; 4] = [0x02, 0x77, 0, 0];

/// Bytes of the region `boot-config` in `system.xml`.
pub const MAX_SIZE: usize = 0x8000;

/// Branes and devices that the manager brings up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BootConfig {
    /// Brane 0, 1, ... in order.
    #[n(0)]
    pub branes: Vec<BraneBoot>,
    /// All devices except `lo`: devices with an interface, and devices without a brane.
    #[n(1)]
    pub devices: Vec<DeviceConfig>,
    /// First four bytes of the MAC addresses of devices without a configured address ([`pool_mac`]).
    #[n(2)]
    pub mac_pool: [u8; 4],
    /// Log levels of the protection domains that differ from the usual level.
    #[n(3)]
    pub log: Vec<LogLevel>,
}

/// One brane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct BraneBoot {
    /// Unique name, up to [`MAX_NAME`] bytes.
    #[n(0)]
    pub name: String,
    /// True for the primary brane; exactly one brane is primary.
    #[n(1)]
    pub primary: bool,
    /// Its interfaces except `lo0`. Each names one of [`BootConfig::devices`].
    #[n(2)]
    pub interfaces: Vec<InterfaceConfig>,
    /// Its families and protocols; `None` for all of them.
    #[n(3)]
    pub families: Option<Vec<FamilyConfig>>,
    /// True if the brane is created but not started.
    #[n(4)]
    pub held: bool,
    /// Rules of its packet filter.
    #[n(5)]
    pub filter: Vec<Rule>,
    /// Bytes of memory for the tables of its families and protocols; `None` for the default of branes.
    #[n(6)]
    pub memory: Option<u32>,
}

impl BootConfig {
    /// Returns the device of this name.
    pub fn device(&self, name: &str) -> Option<&DeviceConfig> {
        self.devices.iter().find(|d| d.name == name)
    }
}

/// Returns true if a name is reserved for loopback devices: `lo`, `lo.N` and `loN`, their name inside the brane.
pub fn is_loopback_name(name: &str) -> bool {
    name.strip_prefix("lo")
        .is_some_and(|rest| rest.starts_with('.') || rest.bytes().all(|c| c.is_ascii_digit()))
}

/// Chooses a MAC address from the pool for a device. The two bytes after `pool` follow from the device's name. If
/// another device has that address, the next free one is chosen. Returns `None` if the pool of 65,536 addresses is used
/// up.
///
/// A device without a configured MAC address thus keeps its address as long as it keeps its name, whichever brane has
/// it.
pub fn pool_mac(pool: [u8; 4], device: &str, is_taken: impl Fn(MacAddr) -> bool) -> Option<MacAddr> {
    let [a, b, c, d] = pool;
    let first = crc32fast::hash(device.as_bytes()) as u16;
    (0..=u16::MAX)
        .map(|n| {
            let [x, y] = first.wrapping_add(n).to_be_bytes();
            MacAddr([a, b, c, d, x, y])
        })
        .find(|mac| !is_taken(*mac))
}

#[derive(Encode, Decode)]
struct Envelope {
    #[n(0)]
    magic: String,
    #[n(1)]
    version: u32,
    #[n(2)]
    checksum: u32,
    #[n(3)]
    body: ByteVec,
}

/// Reason why a boot configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The region holds no boot configuration at all.
    Missing,
    /// The bytes begin like a boot configuration, but are truncated or malformed.
    Damaged(String),
    /// The format has this other version.
    Version(u32),
    /// The checksum does not match the bytes.
    Checksum,
    /// The configuration needs a resource that this system does not have.
    Impossible(String),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Missing => f.write_str("there is none in the region `boot-config`"),
            BootError::Damaged(why) => write!(f, "it is damaged ({why})"),
            BootError::Version(found) => write!(f, "it has format {found}, this manager reads {VERSION}"),
            BootError::Checksum => f.write_str("it is damaged (its checksum does not match)"),
            BootError::Impossible(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for BootError {}

fn to_vec<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a vector cannot fail, and all these types can be encoded.
    let _ = minicbor::encode(value, &mut out);
    out
}

impl BootConfig {
    /// Encodes the content of the region `boot-config`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = to_vec(self);
        to_vec(&Envelope {
            magic: MAGIC.into(),
            version: VERSION,
            checksum: crc32fast::hash(&body),
            body: body.into(),
        })
    }

    /// Decodes the content of the region. Bytes after the envelope are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Result<BootConfig, BootError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let head = decoder.array().and_then(|_| decoder.str());
        if !matches!(head, Ok(MAGIC)) {
            return Err(BootError::Missing);
        }
        match decoder.u32() {
            Ok(VERSION) => {}
            Ok(other) => return Err(BootError::Version(other)),
            Err(e) => return Err(damaged(e)),
        }
        let envelope: Envelope = minicbor::decode(bytes).map_err(damaged)?;
        if crc32fast::hash(&envelope.body) != envelope.checksum {
            return Err(BootError::Checksum);
        }
        minicbor::decode(&envelope.body).map_err(damaged)
    }

    /// Checks that a system with this number of instances, and of ports for each brane and NIC, can be brought up with
    /// this configuration.
    pub fn check(&self, instances: usize, ports_per_nic: usize) -> Result<(), BootError> {
        let impossible = |why| Err(BootError::Impossible(why));
        if self.branes.len() > instances {
            return impossible(alloc::format!(
                "it names {} branes, this system has {instances}",
                self.branes.len()
            ));
        }
        for brane in &self.branes {
            if brane.name.is_empty() || brane.name.len() > MAX_NAME {
                return impossible(alloc::format!("the name `{}` is empty or too long", brane.name));
            }
            if let Err(why) = filter::check(&brane.filter) {
                return impossible(alloc::format!("the filter of brane `{}`: {why}", brane.name));
            }
            for interface in &brane.interfaces {
                let here = alloc::format!("`{}` of brane `{}`", interface.name, brane.name);
                let Some(device) = self.device(&interface.device) else {
                    return impossible(alloc::format!(
                        "{here} is on no device: `{}` is none",
                        interface.device
                    ));
                };
                let first = usize::from(device.nic) * ports_per_nic;
                let port = usize::from(interface.port);
                if !(first..first + ports_per_nic).contains(&port) {
                    return impossible(alloc::format!(
                        "{here} is on port {port}, its device's NIC has {ports_per_nic} from {first} on"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn damaged(e: minicbor::decode::Error) -> BootError {
    BootError::Damaged(alloc::format!("{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::log::Level;
    use brane_abi::net::{Cidr, MacAddr};
    use brane_abi::operator::Mode;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn sample() -> BootConfig {
        let mac = MacAddr([2, 0x77, 0, 0, 0, 0]);
        BootConfig {
            branes: vec![BraneBoot {
                name: "main".into(),
                primary: true,
                interfaces: vec![InterfaceConfig {
                    name: "net0".into(),
                    device: "vnic0".into(),
                    mac,
                    addresses: vec![Cidr {
                        ip: Ipv4Addr::new(10, 0, 2, 15).into(),
                        prefix: 24,
                    }],
                    gateway4: Some(Ipv4Addr::new(10, 0, 2, 2)),
                    slaac: true,
                    ..InterfaceConfig::default()
                }],
                ..BraneBoot::default()
            }],
            devices: vec![DeviceConfig {
                name: "vnic0".into(),
                mac: Some(mac),
                mode: Mode::Private,
                allow: vec![Cidr {
                    ip: Ipv4Addr::new(10, 0, 2, 15).into(),
                    prefix: 32,
                }],
                rate_down: Some(1_000_000),
                ..DeviceConfig::default()
            }],
            mac_pool: DEFAULT_POOL,
            log: vec![LogLevel {
                pd: "nic0".into(),
                level: Level::Debug,
            }],
        }
    }

    #[test]
    fn comes_back_from_a_padded_region() {
        let mut bytes = sample().to_bytes();
        bytes.resize(MAX_SIZE, 0);
        assert_eq!(BootConfig::from_bytes(&bytes), Ok(sample()));
    }

    #[test]
    fn says_why_it_cannot_be_read() {
        let good = sample().to_bytes();
        assert_eq!(BootConfig::from_bytes(&[0; 4096]), Err(BootError::Missing));
        assert_eq!(BootConfig::from_bytes(b""), Err(BootError::Missing));
        assert!(matches!(
            BootConfig::from_bytes(&good[..good.len() - 3]),
            Err(BootError::Damaged(_))
        ));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(BootConfig::from_bytes(&flipped), Err(BootError::Checksum));
        let mut newer = good.clone();
        for other in [4, 6] {
            newer[2 + MAGIC.len()] = other;
            let refused = Err(BootError::Version(other.into()));
            assert_eq!(BootConfig::from_bytes(&newer), refused);
        }
    }

    #[test]
    fn must_fit_the_system() {
        assert_eq!(sample().check(1, 2), Ok(()));
        assert!(matches!(sample().check(0, 2), Err(BootError::Impossible(_))));
        let mut port = sample();
        port.branes[0].interfaces[0].port = 2;
        assert!(matches!(port.check(3, 2), Err(BootError::Impossible(_))));
    }

    #[test]
    fn a_brane_whose_name_is_empty_or_too_long_is_refused() {
        for (length, fits) in [(0, false), (1, true), (MAX_NAME, true), (MAX_NAME + 1, false)] {
            let mut config = sample();
            config.branes[0].name = "x".repeat(length);
            assert_eq!(config.check(1, 2).is_ok(), fits, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, to: u8) {
            let _ = BootConfig::from_bytes(&bytes);
            let mut bent = sample().to_bytes();
            let at = at % bent.len();
            let was = bent[at];
            bent[at] = to;
            prop_assert!(to == was || BootConfig::from_bytes(&bent) != Ok(sample()));
        }
    }
}
