//! Network types that several layouts share: MAC addresses, IP addresses with prefix, socket addresses.
//!
//! Owns no state. Any side of a region may have written such a value, so its user checks it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use minicbor::{Decode, Encode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An Ethernet address (IEEE 802, 48 bits), in the order of transmission.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
#[cbor(transparent)]
pub struct MacAddr(
    #[cbor(with = "minicbor::bytes")]
    #[n(0)]
    pub [u8; 6],
);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// Returns true if the group bit is set (multicast and broadcast).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
    /// Returns true if a station may have the address: it is neither a group address nor all zero.
    pub fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address with the length of its network prefix in bits, as in `10.0.2.15/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cidr {
    /// The address itself.
    #[n(0)]
    pub ip: IpAddr,
    /// Prefix length, 0 to 32 or 0 to 128.
    #[n(1)]
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// An IP address and a port in fixed layout, for messages in rings. Family 0 stands for "any address".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddr {
    /// The address, in network order; IPv4 uses the first four bytes.
    pub ip: [u8; 16],
    /// UDP or TCP port.
    pub port: u16,
    /// 0 for any, 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u8,
}

/// Error: the `family` of a [`SockAddr`] does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFamily;

impl SockAddr {
    /// Creates the value from an address (`None` for any) and a port.
    pub fn new(ip: Option<IpAddr>, port: u16) -> SockAddr {
        let mut out = SockAddr {
            port,
            ..SockAddr::default()
        };
        match ip {
            None => {}
            Some(IpAddr::V4(a)) => {
                out.ip[..4].copy_from_slice(&a.octets());
                out.family = 4;
            }
            Some(IpAddr::V6(a)) => {
                out.ip = a.octets();
                out.family = 6;
            }
        }
        out
    }

    /// Returns the address; `Ok(None)` for any. Fails if the family does not exist.
    pub fn address(&self) -> Result<Option<IpAddr>, UnknownFamily> {
        match self.family {
            0 => Ok(None),
            4 => {
                let [a, b, c, d, ..] = self.ip;
                Ok(Some(Ipv4Addr::new(a, b, c, d).into()))
            }
            6 => Ok(Some(Ipv6Addr::from(self.ip).into())),
            _ => Err(UnknownFamily),
        }
    }
}
