//! The record of what the Microkit SDK's tool refuses (`sdk-rules.toml`) is complete: our rules cover all of
//! it, each case has a broken description, and each additional refusal of ours has a reason. Only the tool
//! can confirm the record: see `tools/image/tests/sdk`.

use branes_system::{RULES, Rule};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Examples by condition and element.
    refused: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    panics: Panics,
    stricter: Stricter,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panics {
    examples: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stricter {
    /// Reasons by rule.
    rules: BTreeMap<String, String>,
    /// Reasons by broken description.
    examples: BTreeMap<String, String>,
}

/// Prefix of examples that are in the image builder's tests.
const BUILDER: &str = "builder: ";

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
}

fn record() -> Record {
    let text = std::fs::read_to_string(folder().join("sdk-rules.toml")).expect("the record");
    toml::from_str(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the names of the broken descriptions.
fn broken() -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder().join("broken")).expect("the folder of broken files");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let xml = paths.filter(|path| path.extension().is_some_and(|e| e == "xml"));
    xml.map(|path| {
        path.with_extension("")
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    })
    .collect()
}

fn rule(example: &str) -> &str {
    example.split_once("--").map_or(example, |(rule, _)| rule)
}

impl Record {
    fn examples(&self) -> Vec<&str> {
        let lists = self.refused.values().flat_map(BTreeMap::values);
        lists.flatten().map(String::as_str).collect()
    }
}

#[test]
fn each_refusal_has_an_example_that_breaks_a_rule_of_ours() {
    let (record, broken) = (record(), broken());
    for (element, conditions) in &record.refused {
        for (condition, examples) in conditions {
            assert!(!examples.is_empty(), "<{element}> {condition}: no example");
            for example in examples.iter().filter(|e| !e.starts_with(BUILDER)) {
                let known = RULES.iter().any(|r| r.id == rule(example));
                assert!(
                    known && broken.contains(example),
                    "<{element}> {condition}: no {example}"
                );
            }
        }
    }
    let examples = record.examples();
    assert_eq!(
        examples.iter().collect::<BTreeSet<_>>().len(),
        examples.len(),
        "an example is listed twice"
    );
    let entries: usize = record.refused.values().map(BTreeMap::len).sum();
    assert!(entries >= 100, "only {entries} entries");
    for example in &record.panics.examples {
        assert!(examples.contains(&example.as_str()), "{example} is no example");
    }
}

#[test]
fn each_rule_is_the_tool_s_or_has_a_reason() {
    let record = record();
    let covering: BTreeSet<&str> = record.examples().into_iter().map(rule).collect();
    for Rule { id, .. } in RULES {
        let stricter = record.stricter.rules.contains_key(*id);
        assert!(
            covering.contains(id) != stricter,
            "{id}: in the record once, as the tool's or as stricter"
        );
    }
    for (name, reason) in record.stricter.rules.iter().chain(&record.stricter.examples) {
        assert!(reason.len() >= 20, "{name}: no reason");
        assert!(RULES.iter().any(|r| r.id == rule(name)), "{name}: no such rule");
    }
}

#[test]
fn each_broken_description_is_in_the_record() {
    let (record, broken) = (record(), broken());
    let examples = record.examples();
    for name in &broken {
        let ways = [
            examples.contains(&name.as_str()),
            record.stricter.examples.contains_key(name),
            record.stricter.rules.contains_key(rule(name)),
        ];
        let ways = ways.into_iter().filter(|way| *way).count();
        assert_eq!(
            ways, 1,
            "{name}: in the record once, as refused by the tool or as stricter"
        );
    }
    for name in record.stricter.examples.keys() {
        assert!(broken.contains(name), "{name}: no such description");
    }
}
