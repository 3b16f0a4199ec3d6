//! One side of the way: what is known of a brane, and its routes.

use super::ends::{self, End};
use super::gate::{Finding, Gate};
use super::{Snapshot, Step, Tables, Verdict, routes};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::InterfaceStatus;
use brane_abi::operator::Brane;
use core::net::IpAddr;

/// The way ends here: a step stops the traffic, or nothing further can be evaluated.
pub(super) struct Ended;

pub(super) type Going<T = ()> = Result<T, Ended>;

/// What is known of one end.
pub(super) struct Side<'a> {
    pub(super) end: &'a End<'a>,
    pub(super) brane: Option<&'a Brane>,
    pub(super) tables: Option<&'a Tables>,
    pub(super) interfaces: Vec<InterfaceStatus>,
    pub(super) gate: Gate<'a>,
}

impl<'a> Side<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, end: &'a End<'a>) -> Side<'a> {
        let tables = end.brane.and_then(|brane| snapshot.tables.get(&brane.name));
        Side {
            end,
            brane: end.brane,
            tables,
            interfaces: end.brane.map(ends::interfaces).unwrap_or_default(),
            gate: Gate::new(tables),
        }
    }

    /// Returns the interface that has an address.
    pub(super) fn owner_of(&self, address: IpAddr) -> Option<&InterfaceStatus> {
        let wired = self.interfaces.iter().filter(|interface| interface.name != "lo0");
        wired.clone().find(|interface| ends::owns(interface, address))
    }

    pub(super) fn interface(&self, name: &str) -> Option<&InterfaceStatus> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    pub(super) fn silent(&self) -> String {
        let why = self.tables.and_then(|tables| tables.silent.clone());
        why.unwrap_or_else(|| "the brane did not answer".into())
    }
}

/// Result of a route: the interface by its name, and the router.
pub(super) struct Leaving {
    pub(super) interface: String,
    pub(super) via: Option<IpAddr>,
}

/// Adds a step. Ends the way if the step stops the traffic.
pub(super) fn note(steps: &mut Vec<Step>, step: &'static str, brane: &str, finding: Finding) -> Going {
    let (verdict, thing, detail) = finding;
    steps.push(Step {
        step,
        brane: brane.to_string(),
        verdict,
        thing,
        detail,
    });
    match verdict {
        Verdict::Stop => Err(Ended),
        Verdict::Pass | Verdict::Unknown => Ok(()),
    }
}

/// Finds the route of one side to an address, by this interface if one is given. Returns the finding, and the way out unless there
/// is none.
pub(super) fn route(side: &Side<'_>, to: IpAddr, interface: Option<&str>) -> (Finding, Option<Leaving>) {
    let (all, sure) = routes::of(side.tables, &side.interfaces);
    let Some(found) = routes::to(&all, to, interface) else {
        let mut wired = side.interfaces.iter().filter(|interface| interface.name != "lo0");
        let alone = wired.clone().next().is_none();
        let down = wired.find(|interface| !interface.up);
        let (verdict, detail) = match (sure, down) {
            (false, _) => (Verdict::Unknown, side.silent()),
            (true, _) if alone => (
                Verdict::Stop,
                "none, because the brane has no interface besides lo0".into(),
            ),
            (true, Some(down)) => (Verdict::Stop, format!("none, and {} is down", down.name)),
            (true, None) => (Verdict::Stop, "none".into()),
        };
        return ((verdict, format!("route to {to}"), detail), None);
    };
    let by = match found.via {
        Some(via) => format!("router {via}"),
        None => "on-link".into(),
    };
    let thing = match found.to.prefix {
        0 => format!("default by {}", found.interface),
        _ => format!("{} by {}", found.to, found.interface),
    };
    let (verdict, detail) = match sure {
        true => (Verdict::Pass, by),
        false => (
            Verdict::Unknown,
            format!("{by} in its last report; {}", side.silent()),
        ),
    };
    let leaving = Leaving {
        interface: found.interface.clone(),
        via: found.via,
    };
    ((verdict, thing, detail), Some(leaving))
}
