//! What each protection domain is to the others. This is the only place that decides it, and the only one that goes by names.
//!
//! | role | which |
//! | --- | --- |
//! | brane | named `brane-N`: compartment N |
//! | client | named `services-N`: compartment N, with its brane |
//! | driver, manager, trusted service, monitor | named in [`TRUSTED`] |
//! | other | all else; counted as hostile |
//!
//! A path from one compartment to another is allowed through those in [`TRUSTED`], and through nobody else.

use std::collections::BTreeMap;
use std::fmt;

use branes_system::System;
use branes_system::codegen::family;
use serde::Serialize;

use crate::model::MONITOR;

/// Branes and their clients, by family.
const BRANE: &str = "brane";
const CLIENT: &str = "services";

/// Who may stand between branes, and why that is right. Whoever adds a line here trusts a domain with every brane.
pub const TRUSTED: [(&str, Role, &str); 7] = [
    (
        "nic0",
        Role::Driver,
        "keeps the frames of branes apart: copies between its device and each brane's own rings",
    ),
    ("nic1", Role::Driver, "the same for the second NIC"),
    (
        "irq-checker",
        Role::Driver,
        "drives the devices by which interrupts are checked, which only a configuration for tests has",
    ),
    (
        "manager",
        Role::Manager,
        "parent of all that is not trusted: says who has what, restarts and suspends them; not in the packet path",
    ),
    (
        "serial",
        Role::Service,
        "prints all logs: reads each domain's ring, writes only its own mark there; a UART moves no memory",
    ),
    (
        "timer",
        Role::Service,
        "wakes all: keeps one deadline for each caller, tells none of another's; the HPET moves no data",
    ),
    (
        MONITOR,
        Role::Monitor,
        "hears of faults that no parent takes, and waits",
    ),
];

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

    /// Whether the device that it commands may be left out of the search: the reason is in [`TRUSTED`].
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
        let role = |name: &str| match numbered(name, BRANE) {
            Some(n) => Role::Brane(n),
            None => numbered(name, CLIENT).map_or(Role::Other, Role::Client),
        };
        let names = system.protection_domains.iter().map(|pd| pd.name.as_str());
        let mut roles: BTreeMap<String, Role> = names.map(|name| (name.to_owned(), role(name))).collect();
        for (name, role, _) in TRUSTED {
            roles.entry(name.to_owned()).and_modify(|is| *is = role);
        }
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
        let trusted = TRUSTED.iter().find(|(trusted, ..)| *trusted == name);
        trusted.map(|(_, _, why)| *why)
    }
}
