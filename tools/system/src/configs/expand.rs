//! The only rule by which larger and smaller systems follow from the described one.
//!
//! An element whose name ends in `-N` is instance N of a family. Elements that depend on it (a mapping, a
//! channel end) belong to that instance too. Each family is described for N = 0, 1, 2. A system of more
//! instances has, after each element of instance 2, a copy for each further N. Every number v in a copy is
//! `v(2) + (N - 2) * (v(2) - v(1))`, and its names end in N. A smaller system omits the instances above.
//! Content of an instance's element belongs to that instance. Families in [`SUBSCRIBERS`] follow the same rule
//! with a number of their own.
//!
//! The NICs are a second dimension, which is not continued: a system of `nics` NICs omits the domains `nicK`
//! with K >= `nics`. The external filters `filterK` are another such dimension, with `filters` for their number.
//! Protection domains that an entry is `without` are removed first, together with their
//! children, their channels, and each memory region that they share with at most one other domain. No domain
//! would be at its other end.
//!
//! An entry can also run other programs, give regions sizes and physical addresses, and omit I/O address
//! spaces. The SDK's root task panics if a description has such spaces and the machine has no IOMMU.

use super::Entry;
use crate::Position;
use crate::codegen::family;
use crate::xml::{Lines, number};
use roxmltree::{Document, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Reason why a description cannot be expanded.
pub struct Fault {
    pub position: Position,
    /// The fault.
    pub what: String,
    /// The remedy.
    pub help: String,
}

/// Number of described instances.
const DESCRIBED: usize = 3;
/// Families of the subscribers. All others are families of the branes.
const SUBSCRIBERS: [&str; 4] = ["subscriber", "subscription", "log-subscriber", "heap-subscriber"];

/// Returns the description that an entry asks for.
pub fn expand(text: &str, entry: &Entry) -> Result<String, Fault> {
    let lines = Lines::new(text);
    let document = Document::parse(text).map_err(|error| Fault {
        position: Position {
            line: error.pos().row,
            column: error.pos().col,
        },
        what: error.to_string(),
        help: "mend the markup".to_owned(),
    })?;
    let gone = Gone::of(document.root_element(), entry);
    let complete = gone.domains.is_empty();
    let mut writer = Writer {
        out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- Generated; edit the description that it comes from. -->\n"
            .to_owned(),
        entry,
        lines: &lines,
        gone,
    };
    writer.check_families(document.root_element())?;
    let has_spaces = || elements(document.root_element()).any(is_io_address_space);
    let as_written = entry.replace.is_empty()
        && entry.sizes.is_empty()
        && entry.place.is_empty()
        && complete
        && (entry.iommu || !has_spaces());
    let subscribers = document
        .descendants()
        .filter(|node| node.is_element() && is_subscribers(*node));
    let all_subscribers = entry.subscribers == DESCRIBED || subscribers.count() == 0;
    if entry.instances == DESCRIBED && all_subscribers && as_written {
        return Ok(text.to_owned());
    }
    writer.element(document.root_element(), None, 0)?;
    Ok(writer.out)
}

/// Returns the names of a description's protection domains.
pub fn domains(text: &str) -> Vec<String> {
    let document = Document::parse(text);
    let nodes = document.iter().flat_map(|document| document.descendants());
    let domains = nodes.filter(|node| node.tag_name().name() == "protection_domain");
    domains
        .filter_map(|node| node.attribute("name"))
        .map(str::to_owned)
        .collect()
}

/// Returns the attribute that makes an element an instance of a family.
fn naming_attribute(tag: &str) -> Option<&'static str> {
    match tag {
        "protection_domain" | "memory_region" | "io_address_space" => Some("name"),
        "map" | "iomap" => Some("mr"),
        "setvar" => Some("region_paddr"),
        "end" | "cap_tcb" | "cap_sc" | "cap_vspace" => Some("pd"),
        _ => None,
    }
}

fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

fn is_io_address_space(node: Node) -> bool {
    node.tag_name().name() == "io_address_space"
}

/// Returns the number of the instance that an element belongs to.
fn instance(node: Node) -> Option<usize> {
    match node.tag_name().name() {
        "channel" => elements(node).find_map(instance),
        tag => family(node.attribute(naming_attribute(tag)?)?).map(|(_, n)| n),
    }
}

/// Returns true if an element belongs to a subscriber.
fn is_subscribers(node: Node) -> bool {
    match node.tag_name().name() {
        "channel" => elements(node).any(is_subscribers),
        tag => {
            let name = naming_attribute(tag).and_then(|name| node.attribute(name));
            name.and_then(family)
                .is_some_and(|(base, _)| SUBSCRIBERS.contains(&base))
        }
    }
}

/// Returns what the elements of all instances have in common: tag, and names without numbers.
fn kin(node: Node) -> Vec<String> {
    let tag = node.tag_name().name();
    let own = naming_attribute(tag).and_then(|name| node.attribute(name));
    let ends = elements(node).filter_map(|end| end.attribute("pd").filter(|_| tag == "channel"));
    let names = own.into_iter().chain(ends);
    let names = names.map(|name| family(name).map_or(name, |(base, _)| base).to_owned());
    std::iter::once(tag.to_owned()).chain(names).collect()
}

/// Domains and regions that an entry is without.
#[derive(Default)]
struct Gone<'a> {
    domains: BTreeSet<&'a str>,
    regions: BTreeSet<&'a str>,
}

impl<'a> Gone<'a> {
    fn of(root: Node<'a, '_>, entry: &Entry) -> Gone<'a> {
        let is_domain = |node: &Node| node.tag_name().name() == "protection_domain";
        let left_out = |node: Node<'a, '_>| {
            let name = node.attribute("name").filter(|_| is_domain(&node));
            name.is_some_and(|name| entry.leaves_out(name))
        };
        let mut gone = Gone::default();
        let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for domain in root.descendants().filter(is_domain) {
            let Some(name) = domain.attribute("name") else {
                continue;
            };
            if domain.ancestors().any(left_out) {
                gone.domains.insert(name);
            }
            for region in elements(domain).filter_map(|map| map.attribute("mr")) {
                users.entry(region).or_default().insert(name);
            }
        }
        let lost = users.into_iter().filter(|(_, users)| {
            let left = users.difference(&gone.domains).count();
            left < users.len() && left <= 1
        });
        gone.regions = lost.map(|(region, _)| region).collect();
        gone
    }

    /// Returns true if an element is left out: it is a removed domain or region, or names one.
    fn has(&self, node: Node) -> bool {
        let named = |attribute: &str| node.attribute(attribute).unwrap_or_default();
        match node.tag_name().name() {
            "protection_domain" | "cap_tcb" | "cap_sc" | "cap_vspace" => {
                self.domains.contains(named("name")) || self.domains.contains(named("pd"))
            }
            "memory_region" => self.regions.contains(named("name")),
            "map" => self.regions.contains(named("mr")),
            "setvar" => self.regions.contains(named("region_paddr")),
            "channel" => {
                elements(node).any(|end| end.attribute("pd").is_some_and(|pd| self.domains.contains(pd)))
            }
            // An I/O address space without memory would let its device reach nothing.
            "io_address_space" => elements(node)
                .filter_map(|map| map.attribute("mr"))
                .all(|region| self.regions.contains(region)),
            "iomap" => self.regions.contains(named("mr")),
            _ => false,
        }
    }
}

/// Formats an element for a message.
fn show(node: Node) -> String {
    let tag = node.tag_name().name();
    let own = naming_attribute(tag).and_then(|name| Some((name, node.attribute(name)?)));
    match own {
        Some((name, value)) => format!("<{tag} {name}=\"{value}\">"),
        None => format!("<{tag}>"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
        .replace('\t', "&#9;")
}

/// A copy of an element for another instance.
#[derive(Clone, Copy)]
struct Copy<'a, 'i> {
    /// The corresponding element of instance 1.
    one: Node<'a, 'i>,
    /// The instance to generate.
    n: usize,
}

struct Writer<'e, 'i> {
    out: String,
    entry: &'e Entry,
    lines: &'e Lines<'i>,
    gone: Gone<'e>,
}

impl<'a, 'i> Writer<'_, 'i> {
    fn fault<T>(&self, node: Node, what: impl Into<String>, help: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            position: self.lines.position(node.range().start),
            what: what.into(),
            help: help.into(),
        })
    }

    /// Checks that every family has instances 0, 1 and 2, and that no channel connects two instances.
    fn check_families(&self, root: Node) -> Result<(), Fault> {
        let mut families: BTreeMap<(&str, &str), (Node, Vec<usize>)> = BTreeMap::new();
        for node in root
            .descendants()
            .filter(|node| node.is_element() && !self.gone.has(*node))
        {
            let tag = node.tag_name().name();
            if let ("protection_domain" | "memory_region" | "io_address_space", Some((base, n))) =
                (tag, node.attribute("name").and_then(family))
            {
                families
                    .entry((tag, base))
                    .or_insert((node, Vec::new()))
                    .1
                    .push(n);
            }
            if tag == "channel" {
                let mut numbers: Vec<usize> = elements(node).filter_map(instance).collect();
                numbers.dedup();
                if let [a, b] = numbers[..] {
                    let what = format!("a channel joins instances {a} and {b}");
                    let help = "no other instance could be made from it; join equal numbers, or a numbered and a plain name";
                    return self.fault(node, what, help);
                }
            }
        }
        for ((_, base), (node, mut numbers)) in families {
            numbers.sort_unstable();
            if numbers != [0, 1, 2] {
                let list = numbers
                    .iter()
                    .map(usize::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                let what = format!("the family `{base}` has instances {list}");
                let help = "describe instances 0, 1 and 2: all others follow from them";
                return self.fault(node, what, help);
            }
        }
        Ok(())
    }

    /// Writes an element and its content.
    fn element(&mut self, node: Node<'a, 'i>, copy: Option<Copy<'a, 'i>>, depth: usize) -> Result<(), Fault> {
        let tag = node.tag_name().name();
        let indent = "    ".repeat(depth);
        let _ = write!(self.out, "{indent}<{tag}");
        let attributes = self.attributes(node, copy)?;
        let named = attributes.iter().find(|(attribute, _)| *attribute == "name");
        let name = named.map(|(_, value)| value.as_str());
        let place = name.filter(|_| tag == "memory_region");
        let place = place.and_then(|name| self.entry.place.get(name));
        let size = name.filter(|_| tag == "memory_region");
        let size = size.and_then(|name| self.entry.size(name));
        for (attribute, value) in &attributes {
            match (*attribute, size) {
                ("size", Some(size)) => drop(write!(self.out, " size=\"{size:#x}\"")),
                ("phys_addr", _) if place.is_some() => {}
                _ => drop(write!(self.out, " {attribute}=\"{}\"", escape(value))),
            }
        }
        if let Some(place) = place {
            let _ = write!(self.out, " phys_addr=\"{place:#x}\"");
        }
        if elements(node).next().is_none() {
            self.out.push_str(" />\n");
            return Ok(());
        }
        self.out.push_str(">\n");
        let image = name.and_then(|name| self.entry.replace.get(name));
        let mut twins = copy.map(|copy| self.kept(copy.one).into_iter());
        for child in self.kept(node) {
            let twin = twins.as_mut().map(Iterator::next);
            let child_copy = match (copy, twin) {
                (Some(copy), Some(twin)) => {
                    let Some(one) = twin.filter(|one| kin(*one) == kin(child)) else {
                        let there = twin.map_or("nothing".to_owned(), show);
                        let what = format!("instance 2 has {} where instance 1 has {there}", show(child));
                        return self.fault(
                            child,
                            what,
                            "describe instances 1 and 2 alike, in the same order",
                        );
                    };
                    Some(Copy { one, n: copy.n })
                }
                _ => None,
            };
            match (child.tag_name().name(), image) {
                ("program_image", Some(image)) => {
                    let image = escape(image);
                    let _ = writeln!(self.out, "{indent}    <program_image path=\"{image}\" />");
                }
                _ if child_copy.is_some() || instance(node).is_some() => {
                    self.element(child, child_copy, depth + 1)?;
                }
                _ => self.member(child, depth + 1)?,
            }
        }
        if let Some(extra) = twins.and_then(|mut rest| rest.next()) {
            let what = format!("instance 1 has {}, instance 2 has not", show(extra));
            return self.fault(extra, what, "describe instances 1 and 2 alike, in the same order");
        }
        let _ = writeln!(self.out, "{indent}</{tag}>");
        Ok(())
    }

    /// Returns the child elements that are not left out.
    fn kept(&self, node: Node<'a, 'i>) -> Vec<Node<'a, 'i>> {
        elements(node).filter(|child| !self.gone.has(*child)).collect()
    }

    /// Writes a described element, unless it or its instance is left out. Writes further instances after
    /// instance 2.
    fn member(&mut self, node: Node<'a, 'i>, depth: usize) -> Result<(), Fault> {
        let own = instance(node);
        let wanted = if is_subscribers(node) {
            self.entry.subscribers
        } else {
            self.entry.instances
        };
        if own.is_some_and(|n| n >= wanted)
            || is_io_address_space(node) && !self.entry.iommu
            || self.gone.has(node)
        {
            return Ok(());
        }
        self.element(node, None, depth)?;
        if !matches!(own, Some(1 | 2)) || wanted <= DESCRIBED {
            return Ok(());
        }
        let other = self.counterpart(node, if own == Some(2) { 1 } else { 2 })?;
        if own == Some(2) {
            for n in DESCRIBED..wanted {
                self.element(node, Some(Copy { one: other, n }), depth)?;
            }
        }
        Ok(())
    }

    /// Returns the corresponding element of another instance: same tag and names, same position among those.
    fn counterpart(&self, node: Node<'a, 'i>, wanted: usize) -> Result<Node<'a, 'i>, Fault> {
        let (own, kind) = (instance(node), kin(node));
        let siblings = || {
            node.parent()
                .into_iter()
                .flat_map(elements)
                .filter(|n| kin(*n) == kind)
        };
        let place = siblings()
            .filter(|n| instance(*n) == own)
            .position(|n| n == node)
            .unwrap_or(0);
        match siblings().filter(|n| instance(*n) == Some(wanted)).nth(place) {
            Some(other) => Ok(other),
            None => {
                let what = format!("instance {wanted} has no counterpart of this {}", show(node));
                self.fault(node, what, "describe instances 1 and 2 alike")
            }
        }
    }

    /// Returns the attributes of an element. Those of a copy are continued.
    fn attributes(&self, node: Node<'a, 'i>, copy: Option<Copy>) -> Result<Vec<(&'a str, String)>, Fault> {
        let own = node.attributes().map(|a| (a.name(), a.value()));
        let Some(Copy { one, n }) = copy else {
            return Ok(own.map(|(name, value)| (name, value.to_owned())).collect());
        };
        if let Some(extra) = one.attributes().find(|a| !node.has_attribute(a.name())) {
            let what = format!(
                "{} of instance 1 has `{}`, that of instance 2 has not",
                show(one),
                extra.name()
            );
            return self.fault(one, what, "write it in both or in neither");
        }
        own.map(|(name, v2)| {
            let Some(v1) = one.attribute(name) else {
                let what = format!(
                    "{} of instance 2 has `{name}`, that of instance 1 has not",
                    show(node)
                );
                return self.fault(node, what, "write it in both or in neither");
            };
            let Some(value) = continued(v1, v2, n) else {
                let what = format!(
                    "`{name}` of {} is \"{v1}\" for instance 1, \"{v2}\" for 2: there is none for {n}",
                    show(node)
                );
                return self.fault(
                    node,
                    what,
                    "write equal values, or numbers with an even spacing and room for more",
                );
            };
            Ok((name, value))
        })
        .collect()
    }
}

/// Returns the value for instance `n` on the straight line through those for 1 and 2.
fn continued(v1: &str, v2: &str, n: usize) -> Option<String> {
    if let (Some((b1, 1)), Some((b2, 2))) = (family(v1), family(v2))
        && b1 == b2
    {
        return Some(format!("{b2}-{n}"));
    }
    if v1 == v2 {
        return Some(v2.to_owned());
    }
    let (one, two) = (i128::from(number(v1)?), i128::from(number(v2)?));
    let steps = n as i128 - 2;
    let value = u64::try_from(two + steps * (two - one)).ok()?;
    Some(match v2.starts_with("0x") {
        true => format!("{value:#x}"),
        false => value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::continued;

    #[test]
    fn values_continue_on_a_straight_line() {
        let cases = [
            ("1", "2", 5, Some("5")),
            ("0x21010000", "0x21020000", 16, Some("0x21100000")),
            ("0x1_000", "0x3_000", 3, Some("0x5000")),
            ("9", "8", 10, Some("0")),
            ("9", "8", 11, None),
            ("rw", "rw", 7, Some("rw")),
            ("r", "rw", 7, None),
            ("ports-1", "ports-2", 12, Some("ports-12")),
            ("ports-1", "port-2", 12, None),
            ("0xffffffffffffff00", "0xffffffffffffff80", 4, None),
        ];
        for (v1, v2, n, expected) in cases {
            assert_eq!(continued(v1, v2, n).as_deref(), expected, "{v1} {v2} {n}");
        }
    }
}
