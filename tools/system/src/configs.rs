//! `configs.toml`: the systems that can be built, and the one rule by which they follow from `system.xml`.
//!
//! Every numbered thing is described for N = 0, 1, 2. A system of more instances has, for each element of instance 2, a
//! copy for each further N whose every number v is `v(2) + (N - 2) * (v(2) - v(1))`, and whose names end in N. A system of
//! fewer leaves out the instances above.

use crate::codegen::family;
use roxmltree::{Document, Node};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One entry of `configs.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is, in a line.
    pub about: String,
    /// Instances of each numbered family.
    pub instances: usize,
    /// Boot configuration, relative to the root.
    pub boot: PathBuf,
    /// Protection domain to program image.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
}

/// A configuration, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its entry.
    pub entry: Entry,
    /// The description, plain: any tool for the format reads it.
    pub xml: String,
    /// The boot configuration's path.
    pub boot: PathBuf,
}

/// Why a configuration cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// `configs.toml` is wrong.
    #[error("{0}: {1}")]
    Toml(PathBuf, toml::de::Error),
    /// No such name.
    #[error("no configuration is called `{0}`; configs.toml has: {1}")]
    Unknown(String, String),
    /// `system.xml` is wrong.
    #[error("{0}")]
    System(crate::Errors),
    /// The instances do not follow the rule.
    #[error("{file}:{line}: {what}", file = .0.display(), line = .1, what = .2)]
    Rule(PathBuf, u32, String),
}

/// All entries, by name.
pub fn entries(root: &Path) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let path = root.join("configs.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| ConfigError::Read(path.clone(), e))?;
    toml::from_str(&text).map_err(|e| ConfigError::Toml(path, e))
}

impl Config {
    /// Reads `configs.toml` and `system.xml` in `root`.
    pub fn load(root: &Path, name: &str) -> Result<Config, ConfigError> {
        let mut entries = entries(root)?;
        let known = entries.keys().cloned().collect::<Vec<_>>().join(", ");
        let entry = entries
            .remove(name)
            .ok_or_else(|| ConfigError::Unknown(name.to_owned(), known))?;
        let path = root.join("system.xml");
        let text = std::fs::read_to_string(&path).map_err(|e| ConfigError::Read(path.clone(), e))?;
        crate::System::parse(&text, &path.display().to_string()).map_err(ConfigError::System)?;
        let xml = expand(&text, &entry).map_err(|(line, what)| ConfigError::Rule(path, line, what))?;
        let boot = root.join(&entry.boot);
        Ok(Config {
            name: name.to_owned(),
            entry,
            xml,
            boot,
        })
    }
}

/// Instance that an element belongs to: by its own name, or for a mapping and a channel by what it names.
fn instance(node: Node) -> Option<usize> {
    let number = |name: Option<&str>| name.and_then(family).map(|(_, n)| n);
    match node.tag_name().name() {
        "protection_domain" | "memory_region" => number(node.attribute("name")),
        "map" | "iomap" => number(node.attribute("mr")),
        "channel" => node.children().find_map(|end| number(end.attribute("pd"))),
        _ => None,
    }
}

/// The described element of instance 1 that corresponds to one of instance 2.
fn twin<'a, 'i>(node: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    let key = |n: Node| -> Vec<String> {
        let names = n.descendants().filter(|d| d.is_element()).flat_map(|d| {
            let named = ["name", "mr", "pd"]
                .into_iter()
                .filter_map(move |a| d.attribute(a));
            named
                .map(|v| family(v).map_or(v.to_owned(), |(base, _)| base.to_owned()))
                .collect::<Vec<_>>()
        });
        std::iter::once(n.tag_name().name().to_owned())
            .chain(names)
            .collect()
    };
    let wanted = key(node);
    node.parent()?
        .children()
        .find(|n| n.is_element() && instance(*n) == Some(1) && key(*n) == wanted)
}

type Fault = (u32, String);

fn line(node: Node) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

/// One attribute value of instance `n`.
fn continued(node: Node, name: &str, v1: &str, v2: &str, n: usize) -> Result<String, Fault> {
    if let (Some((b1, 1)), Some((b2, 2))) = (family(v1), family(v2))
        && b1 == b2
    {
        return Ok(format!("{b2}-{n}"));
    }
    if v1 == v2 {
        return Ok(v2.to_owned());
    }
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let value = number(v1).zip(number(v2)).and_then(|(a, b)| {
        let step = i128::from(b) - i128::from(a);
        u64::try_from(i128::from(b) + (n as i128 - 2) * step).ok()
    });
    match value {
        Some(value) if v2.starts_with("0x") => Ok(format!("{value:#x}")),
        Some(value) => Ok(value.to_string()),
        None => Err((
            line(node),
            format!("`{name}` of instances 1 and 2 is \"{v1}\" and \"{v2}\": no straight line"),
        )),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

struct Writer<'e> {
    out: String,
    entry: &'e Entry,
}

impl Writer<'_> {
    /// Writes an element; for a copy, `twin` is its instance 1 and `n` the instance to make.
    fn element(&mut self, node: Node, twin: Option<(Node, usize)>, depth: usize) -> Result<(), Fault> {
        let tag = node.tag_name().name();
        let indent = "    ".repeat(depth);
        let _ = write!(self.out, "{indent}<{tag}");
        let mut name = None;
        for attribute in node.attributes() {
            let value = match twin {
                Some((one, n)) => {
                    let v1 = one.attribute(attribute.name()).ok_or_else(|| {
                        (
                            line(node),
                            format!("instance 1 of this <{tag}> has no `{}`", attribute.name()),
                        )
                    })?;
                    continued(node, attribute.name(), v1, attribute.value(), n)?
                }
                None => attribute.value().to_owned(),
            };
            let _ = write!(self.out, " {}=\"{}\"", attribute.name(), escape(&value));
            if attribute.name() == "name" {
                name = Some(value);
            }
        }
        let children: Vec<Node> = node.children().filter(Node::is_element).collect();
        if children.is_empty() {
            self.out.push_str(" />\n");
            return Ok(());
        }
        self.out.push_str(">\n");
        for child in &children {
            if child.tag_name().name() == "program_image"
                && let Some(image) = name.as_ref().and_then(|name| self.entry.replace.get(name))
            {
                let _ = writeln!(
                    self.out,
                    "{indent}    <program_image path=\"{}\" />",
                    escape(image)
                );
                continue;
            }
            match twin {
                Some((one, n)) => {
                    let twins: Vec<Node> = one.children().filter(Node::is_element).collect();
                    let index = children.iter().position(|c| c == child).unwrap_or(0);
                    let same = |t: &&Node| t.tag_name() == child.tag_name() && twins.len() == children.len();
                    let Some(twin) = twins.get(index).filter(same) else {
                        return Err((
                            line(*child),
                            format!("instance 1 has no such <{}>", child.tag_name().name()),
                        ));
                    };
                    self.element(*child, Some((*twin, n)), depth + 1)?;
                }
                None if instance(node).is_some() => self.element(*child, None, depth + 1)?,
                None => self.family_member(*child, depth + 1)?,
            }
        }
        let _ = writeln!(self.out, "{indent}</{tag}>");
        Ok(())
    }

    /// Writes a described element, and after one of instance 2 its further instances.
    fn family_member(&mut self, node: Node, depth: usize) -> Result<(), Fault> {
        let own = instance(node);
        if own.is_some_and(|n| n >= self.entry.instances) {
            return Ok(());
        }
        self.element(node, None, depth)?;
        if own != Some(2) {
            return Ok(());
        }
        for n in 3..self.entry.instances {
            let Some(one) = twin(node) else {
                let what = format!(
                    "no <{}> of instance 1 corresponds to this one",
                    node.tag_name().name()
                );
                return Err((line(node), what));
            };
            self.element(node, Some((one, n)), depth)?;
        }
        Ok(())
    }
}

/// The description of a configuration. The text must have been parsed without errors.
fn expand(text: &str, entry: &Entry) -> Result<String, Fault> {
    let document = Document::parse(text).map_err(|e| (e.pos().row, e.to_string()))?;
    let mut writer = Writer {
        out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(),
        entry,
    };
    writer.element(document.root_element(), None, 0)?;
    Ok(writer.out)
}
