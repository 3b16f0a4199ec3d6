//! Mutants of a description: each listed change at every place where it applies.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use roxmltree::{Document, Node};
use serde::Deserialize;

/// A change: the bytes to replace, and the replacement.
#[derive(Clone, Debug)]
pub struct Change {
    /// Description for the report of a disagreement.
    pub what: String,
    place: Range<usize>,
    by: String,
}

impl Change {
    fn new(what: String, place: Range<usize>, by: impl Into<String>) -> Self {
        let by = by.into();
        Change { what, place, by }
    }

    /// Returns the text with the change.
    pub fn apply(&self, text: &str) -> String {
        format!(
            "{}{}{}",
            &text[..self.place.start],
            self.by,
            &text[self.place.end..]
        )
    }

    /// Returns the text with both changes, or `None` if they overlap.
    pub fn apply_both(&self, other: &Change, text: &str) -> Option<String> {
        let (first, last) = match self.place.start <= other.place.start {
            true => (self, other),
            false => (other, self),
        };
        (first.place.end < last.place.start).then(|| first.apply(&last.apply(text)))
    }
}

/// Material for changes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    numbers: Vec<String>,
    pages: Vec<String>,
    places: Vec<String>,
    words: Vec<String>,
    names: Vec<String>,
    elements: Vec<String>,
    texts: Vec<String>,
    attributes: Vec<String>,
    special: BTreeMap<String, Vec<String>>,
}

impl Parts {
    /// Reads the material from the file beside this one.
    pub fn read() -> Self {
        toml::from_str(include_str!("mutants.toml")).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Returns the values to try for an attribute.
    fn values(&self, tag: &str, name: &str) -> BTreeSet<&str> {
        let usual: &[&Vec<String>] = match name {
            "name" | "path" | "path_for_symbols" | "mr" | "pd" | "symbol" | "region_paddr" | "domain" => {
                &[&self.names]
            }
            _ if name.starts_with("setvar") || name == "prefill_path" => &[&self.names],
            "passive" | "fpu" | "cached" | "notify" | "pp" | "trigger" | "polarity" | "perms" => {
                &[&self.words]
            }
            "pcidev" | "peripheral_id" | "prefill_bootinfo" | "duration" => &[&self.words],
            "stack_size" | "page_size" => &[&self.numbers, &self.pages],
            "size" if tag == "memory_region" => &[&self.numbers, &self.pages],
            "vaddr" | "iovaddr" | "phys_addr" => &[&self.numbers, &self.places],
            _ => &[&self.numbers],
        };
        let special = self.special.get(name).into_iter();
        special
            .chain(usual.iter().copied())
            .flatten()
            .map(String::as_str)
            .collect()
    }
}

fn label(text: &str, node: Node<'_, '_>) -> String {
    let line = text[..node.range().start].matches('\n').count() + 1;
    format!("line {line}, <{}>", node.tag_name().name())
}

/// Returns changes of attributes: other values, removal, another name, and each attribute that is missing.
pub fn of_attributes(parts: &Parts, text: &str) -> Vec<Change> {
    let document = Document::parse(text).unwrap();
    let mut changes = Vec::new();
    for node in document.descendants().filter(Node::is_element) {
        let (who, tag) = (label(text, node), node.tag_name().name());
        for attribute in node.attributes() {
            let name = attribute.name();
            for value in parts.values(tag, name) {
                changes.push(Change::new(
                    format!("{who}: {name} is {value:?}"),
                    attribute.range_value(),
                    value,
                ));
            }
            changes.push(Change::new(
                format!("{who}: without {name}"),
                attribute.range(),
                "",
            ));
            let place = attribute.range_qname();
            changes.push(Change::new(
                format!("{who}: {name} as {name}_"),
                place.clone(),
                format!("{name}_"),
            ));
            changes.push(Change::new(
                format!("{who}: {name} as xml:{name}"),
                place,
                format!("xml:{name}"),
            ));
        }
        let place = node.range().start + 1 + tag.len();
        let attributes = parts.attributes.iter().filter_map(|text| text.split_once('='));
        for (name, value) in attributes.filter(|(name, _)| !node.has_attribute(*name)) {
            let by = format!(" {name}=\"{value}\"");
            changes.push(Change::new(format!("{who}: with{by}"), place..place, by));
        }
    }
    changes
}

/// Returns changes of elements: each removed, doubled, renamed, or moved, and every element and text inserted
/// into each.
pub fn of_elements(parts: &Parts, text: &str) -> Vec<Change> {
    let document = Document::parse(text).unwrap();
    let root = document.root_element();
    let mut changes = Vec::new();
    for node in document
        .descendants()
        .filter(|node| node.is_element() && *node != root)
    {
        let (who, range) = (label(text, node), node.range());
        let own = &text[range.clone()];
        changes.push(Change::new(format!("{who}: removed"), range.clone(), ""));
        changes.push(Change::new(format!("{who}: twice"), range.end..range.end, own));
        let inner = own.replacen(node.tag_name().name(), "system", 1);
        changes.push(Change::new(
            format!("{who}: called <system>"),
            range.clone(),
            inner,
        ));
        let before = node.prev_sibling_element();
        if let Some(before) = before {
            let both = before.range().start..range.end;
            let swapped = format!("{own}{}", &text[before.range()]);
            changes.push(Change::new(format!("{who}: before its neighbour"), both, swapped));
        }
        if node.parent() == Some(root) {
            let first = root
                .first_element_child()
                .map_or(range.start, |n| n.range().start);
            let moved = format!("{own}{}", &text[first..range.start]);
            changes.push(Change::new(
                format!("{who}: moved to the start"),
                first..range.end,
                moved,
            ));
            let last = root.last_element_child().map_or(range.end, |n| n.range().end);
            let moved = format!("{}{own}", &text[range.end..last]);
            changes.push(Change::new(
                format!("{who}: moved to the end"),
                range.start..last,
                moved,
            ));
        }
    }
    for node in document.descendants().filter(Node::is_element) {
        let (who, range, tag) = (label(text, node), node.range(), node.tag_name().name());
        for what in parts.elements.iter().chain(&parts.texts) {
            let open = text[range.clone()].ends_with(&format!("</{tag}>"));
            let close = range.end - tag.len() - 3;
            let (place, by) = match open {
                true => (close..close, what.clone()),
                false => (range.end - 2..range.end, format!(">{what}</{tag}>")),
            };
            changes.push(Change::new(format!("{who}: with {what} in it"), place, by));
        }
    }
    for (at, name) in [(0, "before"), (text.len(), "after")] {
        for what in parts
            .texts
            .iter()
            .map(String::as_str)
            .chain(["<other/>", "<!DOCTYPE system>"])
        {
            changes.push(Change::new(format!("{what:?} {name} everything"), at..at, what));
        }
    }
    changes
}

/// Returns texts that no single change makes: counts at their limits, and other encodings of the same text.
pub fn whole(text: &str) -> Vec<(String, String)> {
    let end = text.rfind("</system>").unwrap();
    let with = |more: String| format!("{}{more}{}", &text[..end], &text[end..]);
    let schedule_end = text.find("</domain_schedule>").unwrap();
    let domain_end = text.find("<domain_schedule").unwrap();
    let mut all = Vec::new();
    let own = text.matches("<protection_domain").count();
    for count in [62, 63, 64] {
        let pd = |i| {
            format!(
                "<protection_domain name='p{i}' domain='day'><program_image path='one.elf'/></protection_domain>"
            )
        };
        all.push((
            format!("{count} protection domains"),
            with((own..count).map(pd).collect()),
        ));
    }
    for count in [16, 97, 98, 99, 100, 101] {
        for shift in [0, 2] {
            let more = "<schedule_end_marker/>".repeat(count - 3);
            let text = format!("{}{more}{}", &text[..schedule_end], &text[schedule_end..]);
            let text = text.replace("index_shift=\"2\"", &format!("index_shift=\"{shift}\""));
            all.push((format!("{count} entries, shift {shift}"), text.clone()));
            all.push((
                format!("{count} entries"),
                text.replace(&format!("index_shift=\"{shift}\""), ""),
            ));
        }
    }
    for count in [15, 16, 17, 18] {
        let more: String = (2..count).map(|i| format!("<domain name='d{i}'/>")).collect();
        all.push((
            format!("{count} domains"),
            format!("{}{more}{}", &text[..domain_end], &text[domain_end..]),
        ));
    }
    for deep in [16, 17, 18] {
        let open: String = (0..deep)
            .map(|i| {
                let priority = 100 - i;
                format!(
                    "<protection_domain name='p{i}' priority='{priority}' domain='day' {}><program_image path='one.elf'/>",
                    if i > 0 { "id='0'" } else { "" }
                )
            })
            .collect();
        all.push((
            format!("nested {deep} deep"),
            with(open + &"</protection_domain>".repeat(deep)),
        ));
    }
    all.push((
        "lines end with carriage returns".into(),
        text.replace('\n', "\r\n"),
    ));
    all.push(("another encoding".into(), text.replace("UTF-8", "ISO-8859-1")));
    all.push((
        "a default name space".into(),
        text.replace("<system>", "<system xmlns=\"urn:x\">"),
    ));
    let prefixed = text
        .replace("</", "</s:")
        .replace("<", "<s:")
        .replace("<s:/s:", "</s:")
        .replace("<s:?", "<?");
    let prefixed = prefixed
        .replace("<s:!", "<!")
        .replace("<s:system>", "<s:system xmlns:s=\"urn:x\">");
    all.push(("a name space with a prefix".into(), prefixed));
    all.push(("nothing".into(), String::new()));
    all.push(("no systems".into(), "<system/>".into()));
    all
}
