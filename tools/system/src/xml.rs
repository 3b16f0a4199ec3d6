//! Elements and attributes with positions. The parser must ask for every attribute, and all others are
//! errors.

use crate::{Errors, Position};
use roxmltree::Node;
use std::cell::RefCell;

/// Starts of the lines of a text, so that a position takes a binary search.
pub struct Lines<'i> {
    text: &'i str,
    starts: Vec<usize>,
}

impl<'i> Lines<'i> {
    /// Finds the lines.
    pub fn new(text: &'i str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Lines {
            text,
            starts: starts.collect(),
        }
    }

    /// Returns the position of a byte.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        Position {
            line: line as u32,
            column: before.chars().count() as u32 + 1,
        }
    }
}

/// An element whose attributes are read one by one.
pub struct Element<'a, 'i> {
    node: Node<'a, 'i>,
    lines: &'a Lines<'i>,
    taken: RefCell<Vec<&'static str>>,
}

impl<'a, 'i> Element<'a, 'i> {
    pub fn new(node: Node<'a, 'i>, lines: &'a Lines<'i>) -> Self {
        Element {
            node,
            lines,
            taken: RefCell::new(Vec::new()),
        }
    }

    pub fn tag(&self) -> &'a str {
        self.node.tag_name().name()
    }

    /// Returns the position of its start.
    pub fn position(&self) -> Position {
        self.lines.position(self.node.range().start)
    }

    /// Returns the position of an attribute, or of the element if the attribute is missing.
    pub fn at(&self, name: &str) -> Position {
        let attribute = self.node.attribute_node(name);
        attribute.map_or_else(|| self.position(), |a| self.lines.position(a.range().start))
    }

    /// Returns true if the element has the attribute. Does not mark the attribute as known.
    pub fn has(&self, name: &str) -> bool {
        self.node.has_attribute(name)
    }

    /// Returns an optional attribute.
    pub fn optional(&self, name: &'static str) -> Option<&'a str> {
        self.taken.borrow_mut().push(name);
        self.node.attribute(name)
    }

    /// Returns a required attribute.
    pub fn required(&self, name: &'static str, errors: &mut Errors) -> Option<&'a str> {
        let value = self.optional(name);
        if value.is_none() {
            errors.add(
                "missing-attribute",
                self.position(),
                format!("<{}> has no attribute `{name}`", self.tag()),
                format!("add {name}=\"...\""),
            );
        }
        value
    }

    /// Returns a path, symbol or name of another element as an owned text that is not empty.
    pub fn reference(&self, name: &'static str, errors: &mut Errors) -> Option<String> {
        let value = self.required(name, errors)?;
        self.filled(name, value, errors)
    }

    /// Returns an optional path, symbol or name of another element, which must not be empty.
    pub fn optional_reference(&self, name: &'static str, errors: &mut Errors) -> Option<String> {
        let value = self.optional(name)?;
        self.filled(name, value, errors)
    }

    fn filled(&self, name: &str, value: &str, errors: &mut Errors) -> Option<String> {
        if value.is_empty() {
            let what = format!("`{name}` of <{}> is empty", self.tag());
            errors.add("empty-name", self.at(name), what, "write something, or delete it");
            return None;
        }
        Some(value.to_owned())
    }

    /// Returns the name that this element defines. It also becomes a constant's name in the programs.
    pub fn name(&self, errors: &mut Errors) -> Option<String> {
        let name = self.reference("name", errors)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(valid) {
            let what = format!("the name `{}`", name.escape_debug());
            let help = "start with a letter, go on with letters, digits, `-`, `_` and `.`";
            errors.add("bad-name", self.at("name"), what, help);
            return None;
        }
        Some(name)
    }

    /// Returns a number, decimal or 0x with optional underscores. Returns `None` if it is absent, or invalid
    /// (which is reported).
    pub fn number(&self, name: &'static str, errors: &mut Errors) -> Option<u64> {
        let text = self.optional(name)?;
        let value = number(text);
        if value.is_none() {
            let what = format!(
                "`{name}` is \"{}\", which is no number of 64 bits",
                text.escape_debug()
            );
            let help = "write a decimal number, or a hexadecimal one with 0x";
            errors.add("bad-number", self.at(name), what, help);
        }
        value
    }

    /// Returns a required number.
    pub fn required_number(&self, name: &'static str, errors: &mut Errors) -> Option<u64> {
        self.required(name, errors)?;
        self.number(name, errors)
    }

    /// Returns a number from `low` to `high`.
    pub fn number_within(&self, name: &'static str, low: u64, high: u64, errors: &mut Errors) -> Option<u64> {
        let value = self.number(name, errors)?;
        self.within(name, value, low, high, errors)
    }

    /// Returns a plain decimal number from `low` to `high`, if the format allows no other notation.
    pub fn decimal(&self, name: &'static str, low: u64, high: u64, errors: &mut Errors) -> Option<u64> {
        let text = self.optional(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            let what = format!("`{name}` is \"{}\"", text.escape_debug());
            let help = format!("write a plain decimal number, {low} to {high}");
            errors.add("not-decimal", self.at(name), what, help);
            return None;
        }
        self.within(name, text.parse().unwrap_or(u64::MAX), low, high, errors)
    }

    /// Returns a required plain decimal number from `low` to `high`.
    pub fn required_decimal(
        &self,
        name: &'static str,
        low: u64,
        high: u64,
        errors: &mut Errors,
    ) -> Option<u64> {
        self.required(name, errors)?;
        self.decimal(name, low, high, errors)
    }

    fn within(&self, name: &str, value: u64, low: u64, high: u64, errors: &mut Errors) -> Option<u64> {
        if !(low..=high).contains(&value) {
            let text = self.node.attribute(name).unwrap_or_default();
            let what = format!("`{name}` of <{}> is {text}", self.tag());
            let help = match low == high {
                true => format!("only {low} is allowed here"),
                false => format!("{low} to {high} are allowed"),
            };
            errors.add("out-of-range", self.at(name), what, help);
            return None;
        }
        Some(value)
    }

    /// Returns one of some words. The first is the default.
    pub fn word(
        &self,
        name: &'static str,
        words: &[&'static str],
        errors: &mut Errors,
    ) -> Option<&'static str> {
        let Some(text) = self.optional(name) else {
            return words.first().copied();
        };
        let found = words.iter().copied().find(|w| *w == text);
        if found.is_none() {
            let what = format!("`{name}` is \"{}\"", text.escape_debug());
            let help = format!("write one of: {}", words.join(", "));
            errors.add("bad-word", self.at(name), what, help);
        }
        found
    }

    pub fn boolean(&self, name: &'static str, default: bool, errors: &mut Errors) -> Option<bool> {
        let words = if default {
            ["true", "false"]
        } else {
            ["false", "true"]
        };
        self.word(name, &words, errors).map(|w| w == "true")
    }

    /// Returns a PCI function as bus, device and function.
    pub fn pci_function(&self, name: &'static str, errors: &mut Errors) -> Option<(u8, u8, u8)> {
        let text = self.required(name, errors)?;
        let address = pci_function(text);
        if address.is_none() {
            let what = format!(
                "`{name}` is \"{}\", which is no PCI function",
                text.escape_debug()
            );
            let help = "write bus:device.function in hexadecimal, such as 0:2.0";
            errors.add("bad-pci", self.at(name), what, help);
        }
        address
    }

    /// Reports attributes that the parser did not ask for.
    pub fn finish(&self, errors: &mut Errors) {
        for attribute in self.node.attributes() {
            let known = attribute.namespace().is_none() && self.taken.borrow().contains(&attribute.name());
            if !known {
                let mut known = self.taken.borrow().clone();
                known.sort_unstable();
                known.dedup();
                let help = match known.is_empty() {
                    true => format!("<{}> takes no attributes", self.tag()),
                    false => format!("<{}> takes: {}", self.tag(), known.join(", ")),
                };
                let what = format!("<{}> has an unknown attribute `{}`", self.tag(), attribute.name());
                let position = self.lines.position(attribute.range().start);
                errors.add("unknown-attribute", position, what, help);
            }
        }
    }

    /// Returns child elements. Reports text between them.
    pub fn children(&self, errors: &mut Errors) -> Vec<Element<'a, 'i>> {
        for node in self.node.children().filter(|n| n.is_text()) {
            let text = node.text().unwrap_or_default();
            if let Some(start) = text.find(|c: char| !c.is_whitespace()) {
                let word: String = text[start..].chars().take(20).collect();
                // The parser resolves references in `text`, so only the node's own start is certain.
                let source = self.lines.text.get(node.range()).unwrap_or_default();
                let blank = source.len() - source.trim_start().len();
                errors.add(
                    "stray-text",
                    self.lines.position(node.range().start + blank),
                    format!("text \"{}\" inside <{}>", word.trim().escape_debug(), self.tag()),
                    "put it into a comment <!-- -->, or delete it",
                );
            }
        }
        let elements = self.node.children().filter(|n| n.is_element());
        elements.map(|node| Element::new(node, self.lines)).collect()
    }

    /// Reports an element that is not allowed here.
    pub fn unexpected(&self, inside: &str, allowed: &str, errors: &mut Errors) {
        let elsewhere = ["virtual_machine", "vcpu"].contains(&self.tag());
        let (rule, help) = match elsewhere {
            true => (
                "other-board",
                "the board x86_64_generic has no virtual machines; delete it".to_owned(),
            ),
            false => ("unknown-element", format!("<{inside}> takes: {allowed}")),
        };
        let what = format!("<{}> inside <{inside}>", self.tag());
        errors.add(rule, self.position(), what, help);
    }

    /// Reports children of an element that allows none.
    pub fn leaf(&self, errors: &mut Errors) {
        for child in self.children(errors) {
            child.unexpected(self.tag(), "no elements", errors);
        }
        self.finish(errors);
    }
}

/// Parses a number in the format's notation: decimal or 0x, with underscores anywhere.
pub fn number(text: &str) -> Option<u64> {
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    let (digits, radix) = match clean.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (clean.as_str(), 10),
    };
    // The conversion alone would also accept a plus sign.
    let unsigned = digits.bytes().all(|b| b.is_ascii_hexdigit());
    unsigned
        .then(|| u64::from_str_radix(digits, radix).ok())
        .flatten()
}

fn pci_function(text: &str) -> Option<(u8, u8, u8)> {
    let hex = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
    };
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let (bus, device, function) = (hex(bus)?, hex(device)?, hex(function)?);
    (device < 32 && function < 8).then_some((bus, device, function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal_with_underscores() {
        assert_eq!(number("0x20_0000"), Some(0x20_0000));
        assert_eq!(number("1_000"), Some(1000));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        let wrong = [
            "",
            "_",
            "0x",
            "0X10",
            "+1",
            "0x+1",
            "-1",
            "1e3",
            "ff",
            "18446744073709551616",
            " 1",
        ];
        for text in wrong {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn pci_functions_are_hexadecimal() {
        assert_eq!(pci_function("0:1f.7"), Some((0, 31, 7)));
        for text in ["0:20.0", "0:2.8", "2.0", "0:2", "0:+2.0", "100:0.0", ":."] {
            assert_eq!(pci_function(text), None, "{text:?}");
        }
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let lines = Lines::new("ab\nä<x/>\n");
        let at = |offset| {
            let Position { line, column } = lines.position(offset);
            (line, column)
        };
        assert_eq!((at(0), at(1), at(3), at(5)), ((1, 1), (1, 2), (2, 1), (2, 2)));
        assert_eq!(at(10), (3, 1));
    }
}
