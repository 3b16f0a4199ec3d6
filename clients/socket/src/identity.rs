//! The brane's own description of itself, checked and converted.

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::socket::{self, IDENTITY_ADDRESSES};

/// Identity of the client's brane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The brane's number.
    pub id: u32,
    /// Count of the manager's restarts of the brane.
    pub generation: u32,
    /// True if it is configured and accepts sockets.
    pub ready: bool,
    /// True if it is the primary brane.
    pub primary: bool,
    /// MAC address of its first interface.
    pub mac: MacAddr,
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Addresses of its interfaces except loopback. Addresses with an impossible family or prefix are left out.
    pub addresses: Vec<Cidr>,
}

impl From<&socket::Identity> for Identity {
    fn from(raw: &socket::Identity) -> Identity {
        let name = raw.name.split(|&b| b == 0).next().unwrap_or_default();
        let used = (raw.address_count as usize).min(IDENTITY_ADDRESSES);
        let cidr = |a: &brane_abi::net::SockAddr| {
            let ip = a.address().ok()??;
            let limit = if ip.is_ipv4() { 32 } else { 128 };
            (a.port <= limit).then_some(Cidr {
                ip,
                prefix: a.port as u8,
            })
        };
        Identity {
            id: raw.id,
            generation: raw.generation,
            ready: raw.ready != 0,
            primary: raw.primary != 0,
            mac: MacAddr(raw.mac),
            name: String::from_utf8_lossy(name).into_owned(),
            addresses: raw.addresses[..used].iter().filter_map(cidr).collect(),
        }
    }
}
