//! What each protection domain is to the others. This is the only place that decides it, and the only one that goes by names.
//!
//! | role | which |
//! | --- | --- |
//! | brane | named `brane-N`: compartment N |
//! | client | named `services-N`: compartment N, with its brane |
//! | trusted service | named in [`SERVICES`] |
//! | manager | parent of a brane |
//! | monitor | the domain that is called so, where the image has one |
//! | driver | any other that commands a device: it maps memory at a physical address, or has an interrupt or I/O ports |
//! | other | all else; counted as hostile |
//!
//! A path from one compartment to another is allowed through a driver, the manager, the monitor and the trusted services.

use std::collections::BTreeMap;
use std::fmt;

use branes_system::System;
use branes_system::codegen::family;
use serde::Serialize;

use crate::model::MONITOR;

/// Branes and their clients, by family.
const BRANE: &str = "brane";
const CLIENT: &str = "services";

/// What branes rely on without it being a driver or the manager, and why that is right.
pub const SERVICES: [(&str, &str); 2] = [
    (
        "timer",
        "wakes all: keeps one deadline for each caller and says nothing of one to another; the HPET moves no data",
    ),
    (
        "serial",
        "prints all logs: reads each domain's log and writes only its own mark there; the UART moves no memory",
    ),
];

/// Why the others may stand between branes.
const DRIVER: &str = "keeps the frames of branes apart";
const MANAGER: &str =
    "parent of branes and clients: says who has what, restarts them; not in the packet path";
const ROOT: &str = "hears of faults that no parent takes, and waits";

/// What a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A network stack, of this compartment.
    Brane(usize),
    /// Its client, of the same compartment.
    Client(usize),
    /// Commands a device for branes.
    Driver,
    /// Owns branes.
    Manager,
    /// All rely on it.
    Service,
    /// The monitor.
    Monitor,
    /// Trusted by nobody.
    Other,
}

impl Role {
    /// The compartment, for branes and clients.
    pub fn compartment(self) -> Option<usize> {
        match self {
            Role::Brane(n) | Role::Client(n) => Some(n),
            _ => None,
        }
    }

    /// Whether a path between compartments may go through it.
    pub fn is_trusted(self) -> bool {
        matches!(self, Role::Driver | Role::Manager | Role::Service | Role::Monitor)
    }

    /// Whether the device that it commands may be left out of the search: the reason is in [`SERVICES`].
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

/// The roles of a system's domains.
#[derive(Clone, Debug, Default)]
pub struct Roles(BTreeMap<String, Role>);

impl Roles {
    /// Decides them.
    pub fn of(system: &System) -> Roles {
        let numbered = |name: &str, base: &str| family(name).filter(|(b, _)| *b == base).map(|(_, n)| n);
        let role = |pd: &branes_system::ProtectionDomain| {
            let name = pd.name.as_str();
            let physical =
                |map: &branes_system::Map| system.region(&map.mr).is_some_and(|r| r.phys_addr.is_some());
            if let Some(n) = numbered(name, BRANE) {
                Role::Brane(n)
            } else if let Some(n) = numbered(name, CLIENT) {
                Role::Client(n)
            } else if SERVICES.iter().any(|(service, _)| *service == name) {
                Role::Service
            } else if system
                .children(name)
                .any(|child| numbered(&child.name, BRANE).is_some())
            {
                Role::Manager
            } else if !pd.irqs.is_empty() || !pd.ioports.is_empty() || pd.maps.iter().any(physical) {
                Role::Driver
            } else {
                Role::Other
            }
        };
        let mut roles: BTreeMap<String, Role> = system
            .protection_domains
            .iter()
            .map(|pd| (pd.name.clone(), role(pd)))
            .collect();
        roles.insert(MONITOR.to_owned(), Role::Monitor);
        Roles(roles)
    }

    /// The role of a domain; a device that nobody trusted commands is an `other`.
    pub fn role(&self, name: &str) -> Role {
        self.0.get(name).copied().unwrap_or(Role::Other)
    }

    /// All domains, and the monitor.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Why a path may go through a domain.
    pub fn reason(&self, name: &str) -> Option<&'static str> {
        match self.role(name) {
            Role::Driver => Some(DRIVER),
            Role::Manager => Some(MANAGER),
            Role::Monitor => Some(ROOT),
            Role::Service => SERVICES
                .iter()
                .find(|(service, _)| *service == name)
                .map(|(_, why)| *why),
            Role::Brane(_) | Role::Client(_) | Role::Other => None,
        }
    }
}
