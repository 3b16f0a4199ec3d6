//! Reading elements and attributes with positions: every attribute must be asked for, the others are errors.

use crate::{Errors, Position};
use roxmltree::Node;
use std::cell::RefCell;

/// An element whose attributes are taken one by one.
pub struct Element<'a, 'i> {
    /// The node.
    pub node: Node<'a, 'i>,
    taken: RefCell<Vec<&'static str>>,
}

/// Position of a node.
pub fn position(node: Node) -> Position {
    let at = node.document().text_pos_at(node.range().start);
    Position {
        line: at.row,
        column: at.col,
    }
}

impl<'a, 'i> Element<'a, 'i> {
    /// Wraps a node.
    pub fn new(node: Node<'a, 'i>) -> Self {
        Element {
            node,
            taken: RefCell::new(Vec::new()),
        }
    }

    /// Its tag.
    pub fn tag(&self) -> &'a str {
        self.node.tag_name().name()
    }

    /// Where it starts.
    pub fn position(&self) -> Position {
        position(self.node)
    }

    fn at(&self, name: &str) -> Position {
        match self.node.attribute_node(name) {
            Some(attribute) => {
                let at = self.node.document().text_pos_at(attribute.range().start);
                Position {
                    line: at.row,
                    column: at.col,
                }
            }
            None => self.position(),
        }
    }

    /// An attribute that may be absent.
    pub fn optional(&self, name: &'static str) -> Option<&'a str> {
        self.taken.borrow_mut().push(name);
        self.node.attribute(name)
    }

    /// An attribute that must be there.
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

    /// A name: owned, not empty.
    pub fn name(&self, name: &'static str, errors: &mut Errors) -> Option<String> {
        let value = self.required(name, errors)?;
        if value.is_empty() {
            errors.add(
                "empty-name",
                self.at(name),
                format!("`{name}` is empty"),
                "give it a name",
            );
            return None;
        }
        Some(value.to_owned())
    }

    /// A number: decimal or 0x, underscores allowed; `None` when absent or not a number (reported).
    pub fn number(&self, name: &'static str, errors: &mut Errors) -> Option<u64> {
        let text = self.optional(name)?;
        let clean: String = text.chars().filter(|c| *c != '_').collect();
        let value = match clean.strip_prefix("0x").or_else(|| clean.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => clean.parse(),
        };
        if value.is_err() || clean.starts_with('+') {
            errors.add(
                "bad-number",
                self.at(name),
                format!("`{name}` is \"{text}\", which is no number"),
                "write a decimal number, or a hexadecimal one with 0x",
            );
            return None;
        }
        value.ok()
    }

    /// A number that must be there.
    pub fn required_number(&self, name: &'static str, errors: &mut Errors) -> Option<u64> {
        self.required(name, errors)?;
        self.number(name, errors)
    }

    /// A plain decimal number from `low` to `high`, where the format allows no other notation.
    pub fn decimal(&self, name: &'static str, low: u64, high: u64, errors: &mut Errors) -> Option<u64> {
        let text = self.optional(name)?;
        let value = text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        match value {
            Some(value) if (low..=high).contains(&value) => Some(value),
            Some(_) => {
                let what = format!("`{name}` is {text}");
                errors.add(
                    "out-of-range",
                    self.at(name),
                    what,
                    format!("{low} to {high} are allowed"),
                );
                None
            }
            None => {
                errors.add(
                    "not-decimal",
                    self.at(name),
                    format!("`{name}` is \"{text}\""),
                    format!("write a plain decimal number, {low} to {high}"),
                );
                None
            }
        }
    }

    /// As [`Self::decimal`], and it must be there.
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

    /// One of some words; the first is the default.
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
            errors.add(
                "bad-word",
                self.at(name),
                format!("`{name}` is \"{text}\""),
                format!("write one of: {}", words.join(", ")),
            );
        }
        found
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &'static str, default: bool, errors: &mut Errors) -> Option<bool> {
        let words = if default {
            ["true", "false"]
        } else {
            ["false", "true"]
        };
        self.word(name, &words, errors).map(|w| w == "true")
    }

    /// An owned optional text.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.optional(name).map(str::to_owned)
    }

    /// Reports attributes that nobody asked for.
    pub fn finish(&self, errors: &mut Errors) {
        for attribute in self.node.attributes() {
            if !self.taken.borrow().contains(&attribute.name()) {
                let mut known = self.taken.borrow().clone();
                known.sort_unstable();
                known.dedup();
                let help = match known.is_empty() {
                    true => format!("<{}> takes no attributes", self.tag()),
                    false => format!("<{}> takes: {}", self.tag(), known.join(", ")),
                };
                let what = format!("<{}> has an unknown attribute `{}`", self.tag(), attribute.name());
                errors.add("unknown-attribute", self.at(attribute.name()), what, help);
            }
        }
    }

    /// Child elements; stray text is reported.
    pub fn children(&self, errors: &mut Errors) -> Vec<Element<'a, 'i>> {
        for node in self.node.children().filter(|n| n.is_text()) {
            let text = node.text().unwrap_or_default();
            if let Some(start) = text.find(|c: char| !c.is_whitespace()) {
                let at = node.document().text_pos_at(node.range().start + start);
                let word: String = text[start..].chars().take(20).collect();
                errors.add(
                    "stray-text",
                    Position {
                        line: at.row,
                        column: at.col,
                    },
                    format!("text \"{}\" inside <{}>", word.trim(), self.tag()),
                    "put it into a comment <!-- -->, or delete it",
                );
            }
        }
        self.node
            .children()
            .filter(|n| n.is_element())
            .map(Element::new)
            .collect()
    }

    /// Reports an element that has no place here.
    pub fn unexpected(&self, inside: &str, allowed: &str, errors: &mut Errors) {
        let elsewhere = ["virtual_machine", "vcpu"].contains(&self.tag());
        let (rule, help) = match elsewhere {
            true => (
                "other-board",
                "the board x86_64_generic has no virtual machines; delete it".to_owned(),
            ),
            false => ("unknown-element", format!("<{inside}> takes: {allowed}")),
        };
        errors.add(
            rule,
            self.position(),
            format!("<{}> inside <{inside}>", self.tag()),
            help,
        );
    }

    /// Reports children of an element that takes none.
    pub fn leaf(&self, errors: &mut Errors) {
        for child in self.children(errors) {
            child.unexpected(self.tag(), "no elements", errors);
        }
        self.finish(errors);
    }
}
