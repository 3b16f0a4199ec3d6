//! Changes of a brane's addressing: `ifconfig net0 inet ...`, `route add default ...`. A request to the manager has the whole
//! addressing of an interface. So the session first reads the present one, and this module changes it. It owns no state.

use crate::error::{Error, NO_SUCH_NAME};
use crate::value_parsers;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::InterfaceConfig;
use brane_abi::net::Cidr;
use brane_abi::operator::{Addressing, Brane, Request};
use core::net::IpAddr;

/// Words that `ifconfig` accepts after the interface.
pub const WORDS: &[&str] = &[
    "inet",
    "inet6",
    "alias",
    "delete",
    "netmask",
    "prefixlen",
    "dhcp",
    "nodhcp",
    "slaac",
    "noslaac",
];

/// A change of one interface's addressing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The interface; `None` for the interface of the gateway.
    pub interface: Option<String>,
    /// The change of its addressing.
    pub what: What,
}

/// Kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Make this the only fixed address of its family.
    Set(Cidr),
    /// Add an address.
    Add(Cidr),
    /// Delete an address.
    Delete(IpAddr),
    /// Set the default router.
    Gateway(IpAddr),
    /// Delete the default router of a family (`true` for IPv6), but only if it is the given router, if any.
    NoGateway(bool, Option<IpAddr>),
    /// Switch DHCP on or off.
    Dhcp(bool),
    /// Switch router advertisements on or off.
    Slaac(bool),
}

impl Change {
    /// Parses the words after `ifconfig INTERFACE`.
    pub fn ifconfig(interface: String, words: &[&str]) -> Result<Change, Error> {
        let on = |what| {
            Ok(Change {
                interface: Some(interface.clone()),
                what,
            })
        };
        match words {
            ["dhcp"] => return on(What::Dhcp(true)),
            ["nodhcp"] => return on(What::Dhcp(false)),
            ["slaac"] => return on(What::Slaac(true)),
            ["noslaac"] => return on(What::Slaac(false)),
            _ => {}
        }
        let (family, rest) = match words {
            [family @ ("inet" | "inet6"), rest @ ..] => (Some(*family), rest),
            rest => (None, rest),
        };
        let [address, rest @ ..] = rest else {
            return Err(Error::new("no address is given", "write inet ADDRESS/PREFIX"));
        };
        let (address, rest) = match rest {
            ["netmask", mask, rest @ ..] => (format!("{address}/{}", value_parsers::netmask(mask)?), rest),
            ["prefixlen", length, rest @ ..] => (format!("{address}/{length}"), rest),
            rest => (address.to_string(), rest),
        };
        // A deleted address needs no prefix length.
        let what = match rest {
            ["delete"] if !address.contains('/') => What::Delete(value_parsers::address(&address)?),
            ["delete"] => What::Delete(value_parsers::cidr(&address)?.ip),
            ["alias"] => What::Add(value_parsers::cidr(&address)?),
            [] => What::Set(value_parsers::cidr(&address)?),
            [word, ..] => {
                return Err(Error::new(
                    format!("\"{word}\" behind an address"),
                    "write alias, delete or nothing",
                ));
            }
        };
        let (What::Set(Cidr { ip, .. }) | What::Add(Cidr { ip, .. }) | What::Delete(ip)) = what else {
            return on(what);
        };
        match family {
            Some("inet") if ip.is_ipv6() => {
                Err(Error::new(format!("{ip} is not an inet address"), "write inet6"))
            }
            Some("inet6") if ip.is_ipv4() => {
                Err(Error::new(format!("{ip} is not an inet6 address"), "write inet"))
            }
            _ => on(what),
        }
    }

    /// Builds the change that sets the default router.
    pub fn gateway(interface: Option<String>, gateway: IpAddr) -> Change {
        Change {
            interface,
            what: What::Gateway(gateway),
        }
    }

    /// Builds the change that deletes the default router.
    pub fn no_gateway(interface: Option<String>, gateway: Option<IpAddr>, six: bool) -> Change {
        Change {
            interface,
            what: What::NoGateway(gateway.map_or(six, |g| g.is_ipv6()), gateway),
        }
    }

    /// Builds the request. `brane` is the brane's present state.
    pub fn request(&self, brane: &Brane) -> Result<Request, Error> {
        let interface = match (&self.interface, self.what) {
            (Some(name), _) => find(brane, name)?,
            (None, What::Gateway(ip)) => reaching(brane, ip)?,
            (None, What::NoGateway(six, ip)) => routed(brane, six, ip)?,
            (None, _) => return Err(Error::new("no interface is given", "name one")),
        };
        let mut addressing = addressing(interface);
        self.what.change(&mut addressing, interface)?;
        Ok(Request::Adjust {
            brane: brane.name.clone(),
            interface: interface.name.clone(),
            addressing,
        })
    }
}

impl What {
    fn change(self, a: &mut Addressing, interface: &InterfaceConfig) -> Result<(), Error> {
        let name = &interface.name;
        match self {
            What::Set(cidr) | What::Add(cidr) => {
                if let What::Set(_) = self {
                    a.addresses.retain(|c| c.ip.is_ipv4() != cidr.ip.is_ipv4());
                }
                a.addresses.retain(|c| c.ip != cidr.ip);
                a.addresses.push(cidr);
                // A fixed address replaces the address of DHCP.
                a.dhcp4 &= cidr.ip.is_ipv6();
            }
            What::Delete(ip) => {
                let before = a.addresses.len();
                a.addresses.retain(|c| c.ip != ip);
                if a.addresses.len() == before {
                    return Err(Error::new(
                        format!("{name} has no fixed address {ip}"),
                        format!("it has {}", list(a.addresses.iter().map(ToString::to_string))),
                    ));
                }
            }
            What::Gateway(IpAddr::V4(ip)) => a.gateway4 = Some(ip),
            What::Gateway(IpAddr::V6(ip)) => a.gateway6 = Some(ip),
            What::NoGateway(six, wanted) => {
                let now = gateway(interface, six);
                if now.is_none() || wanted.is_some_and(|w| Some(w) != now) {
                    return Err(no_router(wanted, six));
                }
                if six {
                    a.gateway6 = None;
                } else {
                    a.gateway4 = None;
                }
            }
            What::Dhcp(on) => {
                a.dhcp4 = on;
                if on {
                    a.addresses.retain(|c| c.ip.is_ipv6());
                    a.gateway4 = None;
                }
            }
            What::Slaac(on) => a.slaac = on,
        }
        Ok(())
    }
}

/// Returns an interface's addressing in the form of a request.
pub fn addressing(interface: &InterfaceConfig) -> Addressing {
    Addressing {
        addresses: interface.addresses.clone(),
        gateway4: interface.gateway4,
        gateway6: interface.gateway6,
        dhcp4: interface.dhcp4,
        slaac: interface.slaac,
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}

/// Returns a brane's interface by its name in the brane.
pub fn find<'a>(brane: &'a Brane, name: &str) -> Result<&'a InterfaceConfig, Error> {
    if name == "lo0" {
        return Err(Error::new("lo0 cannot be changed", "name another interface"));
    }
    let found = brane.interfaces.iter().find(|i| i.name == name);
    found.ok_or_else(|| {
        let names = list(brane.interfaces.iter().map(|i| i.name.clone()));
        Error::coded(
            NO_SUCH_NAME,
            format!("no interface \"{name}\" in brane {}", brane.name),
            format!("there are lo0, {names}"),
        )
    })
}

fn no_router(ip: Option<IpAddr>, six: bool) -> Error {
    let which = match ip {
        Some(ip) => format!("no default router {ip}"),
        None => format!("no IPv{} default router", if six { 6 } else { 4 }),
    };
    Error::new(
        which,
        "`route` shows those that there are; those of DHCP and router advertisements go with them",
    )
}

fn gateway(interface: &InterfaceConfig, six: bool) -> Option<IpAddr> {
    match six {
        true => interface.gateway6.map(IpAddr::V6),
        false => interface.gateway4.map(IpAddr::V4),
    }
}

fn routed(brane: &Brane, six: bool, ip: Option<IpAddr>) -> Result<&InterfaceConfig, Error> {
    let mut all = brane.interfaces.iter();
    all.find(|i| gateway(i, six).is_some_and(|g| ip.is_none_or(|ip| ip == g)))
        .ok_or_else(|| no_router(ip, six))
}

/// Returns the interface whose network has the address, by its configured or present addresses.
fn reaching(brane: &Brane, ip: IpAddr) -> Result<&InterfaceConfig, Error> {
    let reaches = |i: &&InterfaceConfig| -> bool {
        let status = brane.status.interfaces.iter().filter(|s| s.name == i.name);
        let now = status.flat_map(|s| s.addresses.iter().map(|a| a.cidr));
        is_link_local(ip) || i.addresses.iter().copied().chain(now).any(|c| contains(c, ip))
    };
    let mut fits = brane.interfaces.iter().filter(reaches);
    match (fits.next(), fits.next()) {
        (Some(_), Some(_)) if is_link_local(ip) => Err(Error::new(
            format!("{ip} can be at several interfaces"),
            "name one by --interface",
        )),
        (Some(one), _) => Ok(one),
        (None, _) => Err(Error::new(
            format!("{ip} is in no network of brane {}", brane.name),
            "give an interface an address there first, or name one by --interface",
        )),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80)
}

fn contains(net: Cidr, ip: IpAddr) -> bool {
    let same = |a: u128, b: u128, bits: u32| {
        let shift = bits.saturating_sub(net.prefix.into());
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (net.ip, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn changed(words: &[&str]) -> Result<Addressing, String> {
        let change = Change::ifconfig("net0".into(), words).map_err(|e| e.to_string())?;
        applied(&change)
    }

    fn applied(change: &Change) -> Result<Addressing, String> {
        match change.request(&samples::brane()).map_err(|e| e.to_string())? {
            Request::Adjust {
                brane, addressing, ..
            } => {
                assert_eq!(brane, "red");
                Ok(addressing)
            }
            other => panic!("{other:?}"),
        }
    }

    fn addresses(a: &Addressing) -> Vec<String> {
        a.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ifconfig_sets_adds_and_deletes() {
        let a = changed(&["inet", "10.0.2.99/24"]).unwrap();
        assert_eq!(addresses(&a), ["fec0::16/64", "10.0.2.99/24"]);
        assert_eq!(a.gateway4, Some([10, 0, 2, 2].into()), "the rest stays");
        let a = changed(&["10.0.2.99", "netmask", "255.255.255.0", "alias"]).unwrap();
        assert_eq!(addresses(&a), ["10.0.2.16/24", "fec0::16/64", "10.0.2.99/24"]);
        for gone in [&["inet", "10.0.2.16/24", "delete"][..], &["10.0.2.16", "delete"]] {
            assert_eq!(addresses(&changed(gone).unwrap()), ["fec0::16/64"]);
        }
        let a = changed(&["dhcp"]).unwrap();
        assert!(a.dhcp4 && a.gateway4.is_none());
        assert_eq!(
            addresses(&a),
            ["fec0::16/64"],
            "DHCP and a fixed address exclude each other"
        );
        assert!(changed(&["slaac"]).unwrap().slaac);
        for (words, error) in [
            (
                &["inet6", "10.0.0.1/8"][..],
                "10.0.0.1 is not an inet6 address: write inet",
            ),
            (&["inet"], "no address is given: write inet ADDRESS/PREFIX"),
            (
                &["10.0.0.1/8", "alais"],
                "\"alais\" behind an address: write alias, delete or nothing",
            ),
            (
                &["10.9.9.9", "delete"],
                "net0 has no fixed address 10.9.9.9: it has 10.0.2.16/24, fec0::16/64",
            ),
        ] {
            assert_eq!(changed(words), Err(error.into()));
        }
    }

    #[test]
    fn a_foreign_interface_is_one_that_does_not_exist() {
        let error = |name: &str| {
            let change = Change::ifconfig(name.into(), &["10.0.0.1/8"]).unwrap();
            applied(&change).unwrap_err()
        };
        // vnic1 is the device under net0, vnic2 belongs to another brane, nothing is called x.
        for name in ["vnic1", "vnic2", "x"] {
            assert_eq!(
                error(name),
                format!("no interface \"{name}\" in brane red: there are lo0, net0")
            );
        }
        assert_eq!(error("lo0"), "lo0 cannot be changed: name another interface");
    }

    #[test]
    fn the_default_router_is_put_where_it_is_reached() {
        let a = applied(&Change::gateway(None, [10, 0, 2, 3].into())).unwrap();
        assert_eq!(a.gateway4, Some([10, 0, 2, 3].into()));
        let a = applied(&Change::gateway(None, "fe80::1".parse().unwrap())).unwrap();
        assert_eq!(a.gateway6, "fe80::1".parse().ok());
        assert_eq!(
            applied(&Change::gateway(None, [10, 9, 9, 9].into())),
            Err("10.9.9.9 is in no network of brane red: give an interface an address there first, or name one by \
                 --interface"
                .into())
        );
        assert_eq!(
            applied(&Change::no_gateway(None, None, false)).unwrap().gateway4,
            None
        );
        let other = Change::no_gateway(None, Some([10, 0, 2, 3].into()), false);
        assert!(
            applied(&other)
                .unwrap_err()
                .starts_with("no default router 10.0.2.3: ")
        );
        assert!(
            applied(&Change::no_gateway(None, None, true))
                .unwrap_err()
                .starts_with("no IPv6 default")
        );
    }
}
