//! Roles of the protection domains. This module alone assigns roles, and it alone goes by names.
//!
//! | role | domains |
//! | --- | --- |
//! | brane | named `brane-N`: compartment N |
//! | client | named `services-N`: compartment N, with its brane |
//! | driver, manager, trusted service, monitor | named in [`TRUSTED`] |
//! | other | all others; counted as hostile |
//!
//! The driver of the control line's device is named there too. If an IOMMU confines the device, its role is other.
//!
//! A path from one compartment to another may pass through domains of [`TRUSTED`] only.

use std::collections::BTreeMap;
use std::fmt;

use branes_system::System;
use branes_system::codegen::{family, series};
use serde::Serialize;

use crate::model::MONITOR;

/// Names of the families of branes and of their clients.
const BRANE: &str = "brane";
const CLIENT: &str = "services";

/// Name in [`TRUSTED`] of all drivers of NICs, `nic0` and so on.
const NICS: &str = "nicN";
/// Name in [`TRUSTED`] of all external filters, `filter0` and so on.
const FILTERS: &str = "filterN";

/// The driver of the control line's device. It has this line in [`TRUSTED`] only because of its device: if an IOMMU confines the
/// device, no domain trusts the driver, and its role is `other`.
const LINE: &str = "line";

/// Domains that may be between branes, their roles, and the reasons. A new line here trusts a domain with every
/// brane.
pub const TRUSTED: [(&str, Role, &str); 9] = [
    (
        NICS,
        Role::Driver,
        "separates the frames of branes: copies between its device and each brane's own rings",
    ),
    (
        FILTERS,
        Role::Service,
        "sees packets of the branes that it filters, and could carry data between them; only a configuration with `filters` has it",
    ),
    (
        "irq-checker",
        Role::Driver,
        "drives the devices by which interrupts are checked, which only a configuration for tests has",
    ),
    (
        LINE,
        Role::Driver,
        "drives the device of the control line, which reaches all memory if no IOMMU confines it; it shares none with a brane",
    ),
    (
        "manager",
        Role::Manager,
        "parent of all untrusted domains: assigns devices, restarts and suspends domains; not in the packet path",
    ),
    (
        "remote",
        Role::Service,
        "passes captured frames to the operator: reads each brane's ring, writes only its own index there; as an operator it \
         can already change and query every brane through the manager",
    ),
    (
        "serial",
        Role::Service,
        "prints all logs: reads each domain's ring, writes only its own index there; a UART does no DMA",
    ),
    (
        "timer",
        Role::Service,
        "wakes all domains: keeps one deadline for each caller and reveals it to no other; the HPET does no DMA",
    ),
    (
        MONITOR,
        Role::Monitor,
        "receives faults of domains without a parent, and waits",
    ),
];

/// Returns the line of [`TRUSTED`] for a domain.
fn trusted(name: &str) -> Option<&'static (&'static str, Role, &'static str)> {
    let name = match series(name) {
        Some((base, _)) if base == "nic" => NICS,
        Some((base, _)) if base == "filter" => FILTERS,
        _ => name,
    };
    TRUSTED.iter().find(|(trusted, ..)| *trusted == name)
}

/// Role of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A network stack in the compartment with this number.
    Brane(usize),
    /// The client of a brane, in the compartment with this number.
    Client(usize),
    /// Controls a device for branes.
    Driver,
    /// The parent of branes.
    Manager,
    /// A service that all domains rely on.
    Service,
    Monitor,
    /// An untrusted domain.
    Other,
}

impl Role {
    /// Returns the compartment of a brane or client.
    pub fn compartment(self) -> Option<usize> {
        match self {
            Role::Brane(n) | Role::Client(n) => Some(n),
            _ => None,
        }
    }

    /// Returns true if a path between compartments may pass through the domain.
    pub fn is_trusted(self) -> bool {
        matches!(self, Role::Driver | Role::Manager | Role::Service | Role::Monitor)
    }

    /// Returns true if the search may ignore the device that the domain controls. [`TRUSTED`] gives the
    /// reason.
    pub fn has_tame_device(self) -> bool {
        self == Role::Service
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Brane(_) => "brane",
            Role::Client(_) => "client",
            Role::Driver => "driver",
            Role::Manager => "manager",
            Role::Service => "trusted service",
            Role::Monitor => "monitor",
            Role::Other => "other",
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Roles(BTreeMap<String, Role>);

impl Roles {
    /// Assigns a role to each domain of a system.
    pub fn of(system: &System) -> Roles {
        let numbered = |name: &str, base: &str| family(name).filter(|(b, _)| *b == base).map(|(_, n)| n);
        let role = |name: &str| match numbered(name, BRANE) {
            Some(n) => Role::Brane(n),
            None => numbered(name, CLIENT).map_or(Role::Other, Role::Client),
        };
        let names = system.protection_domains.iter().map(|pd| pd.name.as_str());
        let mut roles: BTreeMap<String, Role> = names.map(|name| (name.to_owned(), role(name))).collect();
        let confined = system.io_address_spaces.iter().any(|space| space.name == LINE);
        for (name, is) in &mut roles {
            if confined && name == LINE {
                continue;
            }
            if let Some((_, role, _)) = trusted(name) {
                *is = *role;
            }
        }
        roles.insert(MONITOR.to_owned(), Role::Monitor);
        Roles(roles)
    }

    /// Returns the role of a domain. A device without a trusted owner is `other`.
    pub fn role(&self, name: &str) -> Role {
        self.0.get(name).copied().unwrap_or(Role::Other)
    }

    /// Returns the names of all domains, and of the monitor.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the reason why a path may pass through a domain.
    pub fn reason(&self, name: &str) -> Option<&'static str> {
        trusted(name).map(|(_, _, why)| *why)
    }
}
