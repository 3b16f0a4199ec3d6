//! QEMU's user network for a boot configuration: the network of the branes' addresses, and a forwarded port for
//! each brane's web page.
//!
//! On the other side: the boot configuration, which is already checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use brane_manager_core::boot::{BootConfig, BraneBoot};
use branes_qemu::{Forward, Net, Protocol};

/// TCP port of a brane's web page.
const HTTP: u16 = 80;

/// A user network, and the web pages on it.
pub struct UserNetwork {
    pub net: Net,
    pub pages: Vec<Page>,
}

/// A brane's web page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Name of the brane.
    pub brane: String,
    /// Address of the brane on the network.
    pub address: Ipv4Addr,
    /// Port of 127.0.0.1 that is forwarded to the page.
    pub port: u16,
}

impl UserNetwork {
    /// Returns a hint for a person who replaces this network by a tap device: the addresses that the branes
    /// expect at the host's side.
    pub fn host_side(&self, tap: &str) -> String {
        match &self.net {
            Net::User {
                v4: (_, prefix, host),
                v6: (_, host6),
                ..
            } => format!(
                "the branes look for you at {host} and {host6}: ip addr add {host}/{prefix} dev {tap} && ip addr add {host6}/64 dev {tap}"
            ),
            Net::Tap(_) | Net::Stream(_) | Net::Unplugged => String::new(),
        }
    }
}

/// Returns the user network of NIC `number`, from 1 on. That of nic1 is 10.0.3.0/24 with the host at 10.0.3.2, and
/// fec0:0:0:1::/64.
pub fn further_user_network(number: usize) -> Net {
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    let v4 = |host| Ipv4Addr::new(10, 0, number.saturating_add(2), host);
    let v6 = |host| Ipv6Addr::new(0xfec0, 0, 0, number.into(), 0, 0, 0, host);
    Net::User {
        v4: (v4(0), 24, v4(2)),
        v6: (v6(0), v6(2)),
        forwards: Vec::new(),
    }
}

/// Returns the user network for these branes. The page of brane N is at `port_base + N`. A brane without a
/// fixed IPv4 address in the network of the first brane has no page.
pub fn user_network(boot: &BootConfig, port_base: u16) -> UserNetwork {
    let Net::User { mut v4, mut v6, .. } = Net::user(Vec::new()) else {
        unreachable!("`user` makes a user network")
    };
    let first = boot
        .branes
        .iter()
        .flat_map(|brane| &brane.interfaces)
        .find(|interface| !interface.addresses.is_empty());
    if let Some(interface) = first {
        for address in &interface.addresses {
            match address.ip {
                IpAddr::V4(ip) => {
                    let network = masked(ip, address.prefix);
                    let host = interface
                        .gateway4
                        .unwrap_or_else(|| (u32::from(network) + 1).into());
                    v4 = (network, address.prefix, host);
                }
                IpAddr::V6(ip) => {
                    let prefix = u128::from(ip) >> 64 << 64;
                    let host = interface
                        .gateway6
                        .filter(|gateway| u128::from(*gateway) >> 64 == prefix >> 64);
                    v6 = (prefix.into(), host.unwrap_or_else(|| free_host(boot, prefix)));
                }
            }
        }
    }
    let mut forwards = Vec::new();
    let mut pages = Vec::new();
    for (brane, port) in boot.branes.iter().zip(port_base..=u16::MAX) {
        let Some(ip) = address_in(brane, v4.0, v4.1) else {
            continue;
        };
        forwards.push(Forward {
            protocol: Protocol::Tcp,
            host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            guest: SocketAddrV4::new(ip, HTTP),
        });
        pages.push(Page {
            brane: brane.name.clone(),
            address: ip,
            port,
        });
    }
    UserNetwork {
        net: Net::User { v4, v6, forwards },
        pages,
    }
}

fn masked(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    (u32::from(ip) & mask).into()
}

fn address_in(brane: &BraneBoot, network: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    brane
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses)
        .find_map(|address| match address.ip {
            IpAddr::V4(ip) if masked(ip, prefix) == network => Some(ip),
            _ => None,
        })
}

/// Returns an address of the prefix for QEMU that no brane has: `::2`, or the next free one.
fn free_host(boot: &BootConfig, prefix: u128) -> Ipv6Addr {
    let taken = |host: Ipv6Addr| {
        let interfaces = boot.branes.iter().flat_map(|brane| &brane.interfaces);
        interfaces
            .flat_map(|interface| &interface.addresses)
            .any(|address| address.ip == IpAddr::V6(host))
    };
    (2..)
        .map(|host| Ipv6Addr::from(prefix | host))
        .find(|host| !taken(*host))
        .unwrap_or(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use branes_bootconfig::Size;
    use std::path::Path;

    fn boot(text: &str, instances: usize) -> BootConfig {
        branes_bootconfig::parse(
            Path::new("boot.toml"),
            text,
            Size {
                instances,
                nics: 1,
                ports_per_nic: Some(2),
            },
        )
        .unwrap()
    }

    #[test]
    fn the_default_branes_have_a_page_each() {
        let network = user_network(&boot(include_str!("../../../brane-manager/branes.toml"), 3), 8080);
        let pages: Vec<_> = network
            .pages
            .iter()
            .map(|page| (page.brane.as_str(), page.port))
            .collect();
        assert_eq!(pages, [("main", 8080), ("red", 8081), ("blue", 8082)]);
        let Net::User { v4, v6, forwards } = network.net else {
            panic!("not a user network")
        };
        assert_eq!(v4, (Ipv4Addr::new(10, 0, 2, 0), 24, Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(v6.1, "fec0::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(forwards[2].guest, "10.0.2.17:80".parse().unwrap());
        assert_eq!(forwards[2].host, "127.0.0.1:8082".parse().unwrap());
    }

    #[test]
    fn qemu_takes_no_address_of_a_brane() {
        let network = user_network(&boot(include_str!("../../../brane-manager/bench.toml"), 17), 9000);
        assert_eq!(network.pages.len(), 17);
        let Net::User { v4, v6, .. } = network.net else {
            panic!("not a user network")
        };
        assert_eq!(v4, (Ipv4Addr::new(10, 77, 0, 0), 24, Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!(v6.1, "fd77::3".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn ports_end_where_ports_end() {
        let network = user_network(
            &boot(include_str!("../../../brane-manager/branes.toml"), 3),
            65535,
        );
        assert_eq!(network.pages.len(), 1);
    }
}
