//! The two ends of the traffic: their branes, interfaces and addresses.

use super::{Place, Snapshot};
use crate::change;
use crate::error::{Error, NO_SUCH_NAME};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{AddressStatus, Family, InterfaceStatus, Origin};
use brane_abi::operator::{Brane, Refusal};
use core::net::IpAddr;

/// One end of the traffic.
#[derive(Clone, Debug)]
pub(super) struct End<'a> {
    /// The end as it was typed.
    pub name: String,
    /// The brane; `None` outside.
    pub brane: Option<&'a Brane>,
    /// The interface that was named.
    pub interface: Option<String>,
    /// The address that was named.
    pub address: Option<IpAddr>,
}

/// Returns true if a brane is started.
pub(super) fn started(brane: &Brane) -> bool {
    brane.state == "started"
}

/// Returns the interfaces of a brane with the addresses in force, or with the configured ones if the brane is not started.
pub(super) fn interfaces(brane: &Brane) -> Vec<InterfaceStatus> {
    if started(brane) {
        return brane.status.interfaces.clone();
    }
    let wanted = brane.interfaces.iter().map(|config| InterfaceStatus {
        name: config.name.clone(),
        device: config.device.clone(),
        mac: config.mac,
        addresses: config
            .addresses
            .iter()
            .map(|cidr| AddressStatus {
                cidr: *cidr,
                origin: Origin::Static,
            })
            .collect(),
        ..InterfaceStatus::default()
    });
    wanted.collect()
}

/// Returns true if an interface has an address.
pub(super) fn owns(interface: &InterfaceStatus, address: IpAddr) -> bool {
    interface.addresses.iter().any(|own| own.cidr.ip == address)
}

/// Returns the brane that has an address. Loopback addresses belong to no brane.
pub(super) fn owner(snapshot: &Snapshot, address: IpAddr) -> Option<&Brane> {
    let has = |brane: &&Brane| {
        interfaces(brane)
            .iter()
            .any(|interface| interface.name != "lo0" && owns(interface, address))
    };
    // A started brane comes first, because two branes may have one address configured.
    let mut started = snapshot.branes.iter().filter(|brane| started(brane));
    started.find(has).or_else(|| snapshot.branes.iter().find(has))
}

/// Returns the family of an address.
pub(super) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Inet,
        IpAddr::V6(_) => Family::Inet6,
    }
}

impl<'a> End<'a> {
    /// Returns the end that is a whole brane.
    pub(super) fn of(brane: &'a Brane) -> End<'a> {
        End {
            name: brane.name.clone(),
            brane: Some(brane),
            interface: None,
            address: None,
        }
    }

    /// Returns the first address of a family. Link-local addresses come last.
    pub(super) fn first(&self, family: Family) -> Option<IpAddr> {
        let interfaces = interfaces(self.brane?);
        let named = |interface: &&InterfaceStatus| match &self.interface {
            Some(name) => interface.name == *name,
            None => interface.name != "lo0",
        };
        let all = interfaces.iter().filter(named).flat_map(|i| &i.addresses);
        let mut all = all.filter(|own| family_of(own.cidr.ip) == family);
        let link = |own: &&AddressStatus| own.origin != Origin::Link;
        let found = all.clone().find(link).or_else(|| all.next());
        found.map(|own| own.cidr.ip)
    }

    fn find(snapshot: &'a Snapshot, place: &Place) -> Result<End<'a>, Error> {
        let known = |name: &String| {
            snapshot.brane(name).ok_or_else(|| {
                let names = snapshot.branes.iter().map(|brane| brane.name.as_str());
                Error::from(Refusal::NoSuchBrane(name.clone(), names.collect()))
            })
        };
        let mut end = End {
            name: format!("{place}"),
            brane: None,
            interface: None,
            address: None,
        };
        match place {
            Place::Address(address) => {
                end.address = Some(*address);
                end.brane = owner(snapshot, *address);
            }
            Place::Brane(name) => end.brane = Some(known(name)?),
            Place::Interface(name, interface) => {
                let brane = known(name)?;
                if interface == "lo0" {
                    let what = format!("lo0 of {name} leads to {name} alone");
                    return Err(Error::new(what, format!("write {name}")));
                }
                change::find(brane, interface)?;
                end.brane = Some(brane);
                end.interface = Some(interface.clone());
            }
        }
        Ok(end)
    }

    /// Finds both ends. Fails if a name does not exist, if no end is a brane, or if the addresses are of different families.
    pub(super) fn both(
        snapshot: &'a Snapshot,
        from: &Place,
        to: &Place,
    ) -> Result<(End<'a>, End<'a>), Error> {
        if let Place::Address(address) = from
            && address.is_loopback()
        {
            let what = format!("{address} is an address of every brane");
            return Err(Error::new(what, "name a brane"));
        }
        let (from, mut to) = (End::find(snapshot, from)?, End::find(snapshot, to)?);
        if to.address.is_some_and(|address| address.is_loopback()) {
            to.brane = from.brane;
        }
        if let (Some(a), Some(b)) = (from.address, to.address)
            && a.is_ipv4() != b.is_ipv4()
        {
            return Err(Error::new(
                format!("{a} and {b} are of different families"),
                "name addresses of one family",
            ));
        }
        if from.brane.is_none() && to.brane.is_none() {
            return Err(Error::coded(
                NO_SUCH_NAME,
                format!("no brane has the address {} or {}", from.name, to.name),
                "name a brane at one end",
            ));
        }
        Ok((from, to))
    }

    /// Chooses the family of the traffic: that of a named address, or the first family in which both ends have an address.
    pub(super) fn family(from: &End<'_>, to: &End<'_>) -> Family {
        if let Some(address) = from.address.or(to.address) {
            return family_of(address);
        }
        let both = |family: &Family| from.first(*family).is_some() && to.first(*family).is_some();
        let receiver = |family: &Family| to.first(*family).is_some();
        let all = Family::ALL;
        let found = all.into_iter().find(both);
        found
            .or_else(|| all.into_iter().find(receiver))
            .unwrap_or(Family::Inet)
    }
}
