//! Merges equal paths of numbered domains into one line: paths that brane 0, 1, 2, ... share are shown once,
//! with N for the number.

use std::collections::{BTreeMap, BTreeSet};

use branes_system::codegen::family;

use crate::reach::{Edge, Means};
use crate::roles::Roles;

/// A line of the listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The domain that acts.
    pub from: String,
    /// The domain that can observe it.
    pub to: String,
    pub means: Vec<String>,
}

/// A domain with equal paths: its name, its number, its ids.
type Member = (String, Option<usize>, Vec<u32>);

/// Replaces the number `n` in a name by N: `brane-2` becomes `brane-N`.
fn numbered(name: &str, n: Option<usize>) -> String {
    match (family(name), n) {
        (Some((base, number)), Some(n)) if n == number => format!("{base}-N"),
        _ => name.to_owned(),
    }
}

/// Splits `means` into text without ids and numbers, and its ids.
fn split(by: &Means, n: Option<usize>) -> (String, Vec<u32>) {
    match by {
        Means::Memory(region) => (format!("shared memory {}", numbered(region, n)), Vec::new()),
        Means::Notification(own, its) => ("notification".into(), vec![*own, *its]),
        Means::Call(own, its) => ("call".into(), vec![*own, *its]),
        Means::Answer(own, its) => ("answer".into(), vec![*own, *its]),
        Means::Fault(child) => ("fault as".into(), vec![*child]),
        Means::Meeting(of) => (
            format!("meeting at the endpoint of {}", numbered(of, n)),
            Vec::new(),
        ),
        other => (other.to_string(), Vec::new()),
    }
}

/// Formats ids of numbered domains: the common value, `N` plus an offset if it follows from the number, or
/// all values in a list.
fn id(values: &[(Option<usize>, u32)]) -> String {
    let first = values.first().map_or(0, |(_, id)| *id);
    if values.iter().all(|(_, id)| *id == first) {
        return first.to_string();
    }
    let offsets: BTreeSet<Option<u32>> = values
        .iter()
        .map(|(n, id)| n.and_then(|n| id.checked_sub(n as u32)))
        .collect();
    match offsets.into_iter().collect::<Vec<_>>()[..] {
        [Some(0)] => "N".into(),
        [Some(offset)] => format!("{offset}+N"),
        _ => values
            .iter()
            .map(|(_, id)| id.to_string())
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// Returns the paths between `name` and the domains that `others` accepts. Those towards `name` come first.
pub fn lines(
    edges: &BTreeSet<Edge>,
    roles: &Roles,
    domain: &str,
    others: impl Fn(&str) -> bool,
) -> Vec<Line> {
    let mut groups: BTreeMap<(bool, String, usize, String), Vec<Member>> = BTreeMap::new();
    for edge in edges {
        let leaving = edge.from == domain;
        let other = if leaving { &edge.to } else { &edge.from };
        if (!leaving && edge.to != domain) || !others(other) {
            continue;
        }
        let n = roles.role(other).compartment();
        let (means, ids) = split(&edge.by, n);
        let order = match edge.by {
            Means::Memory(_) => 0,
            Means::Notification(..) => 1,
            Means::Call(..) | Means::Answer(..) => 2,
            _ => 3,
        };
        let who = (other.clone(), n, ids);
        groups
            .entry((leaving, numbered(other, n), order, means))
            .or_default()
            .push(who);
    }
    // Grouped by direction and by domains, so that all means between the same domains share a line.
    let mut lines: BTreeMap<(String, bool, Vec<String>), Vec<String>> = BTreeMap::new();
    for ((leaving, base, _, means), members) in groups {
        let width = members.iter().map(|(_, _, ids)| ids.len()).max().unwrap_or(0);
        let ids = (0..width).map(|i| {
            let values = members.iter().filter_map(|(_, n, ids)| Some((*n, *ids.get(i)?)));
            id(&values.collect::<Vec<_>>())
        });
        let ids = ids.collect::<Vec<_>>().join("/");
        let text = if ids.is_empty() {
            means
        } else {
            format!("{means} {ids}")
        };
        let mut names: Vec<String> = members.into_iter().map(|(name, ..)| name).collect();
        names.sort();
        names.dedup();
        lines.entry((base, leaving, names)).or_default().push(text);
    }
    let family_size = |base: &str| {
        roles
            .names()
            .filter(|name| numbered(name, roles.role(name).compartment()) == base)
            .count()
    };
    let who = |base: &str, names: &[String]| match base.ends_with("-N") && family_size(base) == names.len() {
        true => base.to_owned(),
        false => names.join(", "),
    };
    lines
        .into_iter()
        .map(|((base, leaving, names), means)| {
            let (other, domain) = (who(&base, &names), domain.to_owned());
            let (from, to) = if leaving { (domain, other) } else { (other, domain) };
            Line { from, to, means }
        })
        .collect()
}

/// Joins names of a numbered family: `brane-0..2`.
pub fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut families: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut single = Vec::new();
    for name in names {
        match family(name) {
            Some((base, n)) => drop(families.entry(base).or_default().insert(n)),
            None => single.push(name.to_owned()),
        }
    }
    for (base, numbers) in families {
        let all: Vec<usize> = numbers.into_iter().collect();
        match all[..] {
            [first, .., last] if last - first + 1 == all.len() => {
                single.push(format!("{base}-{first}..{last}"))
            }
            _ => single.extend(all.iter().map(|n| format!("{base}-{n}"))),
        }
    }
    single.join(", ")
}
