//! The matrix of `reach`: each started brane with each other one, in both families.

use super::ends::{End, started};
use super::steps::explain;
use super::{Outcome, Snapshot, Traffic};
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::operator::Brane;
use core::net::IpAddr;

/// Two branes in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The family.
    pub family: Family,
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The receiver's first address.
    pub address: IpAddr,
    /// The computed result.
    pub outcome: Outcome,
    /// The step that stops the traffic, in words.
    pub stopped_at: Option<String>,
    /// True if a reply came to an echo request. `None` if it was not tried, or if the sender did not answer the query.
    pub tried: Option<bool>,
}

impl Pair {
    /// Returns true if the computed result and the tried one differ.
    pub fn differs(&self) -> bool {
        match (self.outcome, self.tried) {
            (Outcome::Reaches, Some(came)) => !came,
            (Outcome::Stopped, Some(came)) => came,
            (Outcome::Unknown, _) | (_, None) => false,
        }
    }
}

/// The matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The traffic.
    pub traffic: Traffic,
    /// The pairs were tried too.
    pub probe: bool,
    /// The started branes.
    pub branes: Vec<String>,
    /// Pairs of different branes that both have an address of the family.
    pub pairs: Vec<Pair>,
}

impl Matrix {
    /// Computes the matrix.
    pub fn new(snapshot: &Snapshot, traffic: Traffic, probe: bool) -> Matrix {
        let branes: Vec<&Brane> = snapshot.branes.iter().filter(|brane| started(brane)).collect();
        let mut pairs = Vec::new();
        for family in Family::ALL {
            for from in &branes {
                for to in branes.iter().filter(|to| to.name != from.name) {
                    pairs.extend(pair(snapshot, from, to, family, traffic));
                }
            }
        }
        Matrix {
            traffic,
            probe,
            branes: branes.iter().map(|brane| brane.name.clone()).collect(),
            pairs,
        }
    }

    /// Returns true if a computed result and a tried one differ.
    pub fn differs(&self) -> bool {
        self.pairs.iter().any(Pair::differs)
    }
}

fn pair(snapshot: &Snapshot, from: &Brane, to: &Brane, family: Family, traffic: Traffic) -> Option<Pair> {
    let (sender, receiver) = (End::of(from), End::of(to));
    sender.first(family)?;
    let address = receiver.first(family)?;
    let found = explain(snapshot, &sender, &receiver, family, traffic);
    Some(Pair {
        family,
        from: from.name.clone(),
        to: to.name.clone(),
        address,
        outcome: found.outcome(),
        stopped_at: found.stop().map(super::Step::place),
        tried: None,
    })
}
