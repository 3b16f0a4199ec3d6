//! The mutants of a crate, by names that do not change with each edit, and the sample of them.
//!
//! A mutant's name has line and column, so every edit above it changes the name. Its key has neither, but:
//! file, change, function, and a number if the function has several such changes. The sample consists of the
//! mutants whose keys have the lowest checksums. So a mutant that is in the sample stays there while other
//! functions are edited.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Part of every checksum. Another seed draws another sample.
const SEED: &str = "branes 1";

/// One change at one place of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Name from cargo-mutants: file, line, column, change.
    pub name: String,
    /// Name without line and column. Further mutants with that text get a number behind it, from 2 on.
    pub key: String,
}

/// A mutant in the output of cargo-mutants, in lists and in outcomes.
#[derive(Deserialize)]
pub struct Written {
    pub name: String,
    file: String,
    span: Span,
}

#[derive(Deserialize)]
struct Span {
    start: Place,
}

#[derive(Deserialize)]
struct Place {
    line: u32,
    column: u32,
}

/// Reads the output of `cargo mutants --list --json`.
pub fn read(json: &[u8]) -> Result<Vec<Mutant>> {
    let written: Vec<Written> = serde_json::from_slice(json).context("reading the list of cargo-mutants")?;
    let mut seen = BTreeMap::new();
    let mutants = written.into_iter().map(|mutant| {
        let Place { line, column } = mutant.span.start;
        let place = format!("{}:{line}:{column}: ", mutant.file);
        let change = mutant.name.strip_prefix(&place).unwrap_or(&mutant.name);
        let mut key = format!("{}: {change}", mutant.file);
        let number: &mut u32 = seen.entry(key.clone()).or_default();
        *number += 1;
        if *number > 1 {
            key = format!("{key} ({number})");
        }
        Mutant {
            name: mutant.name,
            key,
        }
    });
    Ok(mutants.collect())
}

/// Draws `count` mutants, or all if there are fewer. The order is that of the source.
pub fn draw(all: &[Mutant], count: usize) -> Vec<Mutant> {
    let mut ranked: Vec<_> = all.iter().enumerate().collect();
    ranked.sort_by_key(|(_, mutant)| {
        let checksum = crc32fast::hash(format!("{SEED} {}", mutant.key).as_bytes());
        (checksum, mutant.key.clone())
    });
    ranked.truncate(count);
    ranked.sort_by_key(|(place, _)| *place);
    ranked.into_iter().map(|(_, mutant)| mutant.clone()).collect()
}

/// Returns a regular expression that matches the names of these mutants and no others.
pub fn expression(mutants: &[Mutant]) -> String {
    let names: Vec<_> = mutants.iter().map(|m| regex_syntax::escape(&m.name)).collect();
    format!("^(?:{})$", names.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(places: &[(u32, &str)]) -> Vec<Mutant> {
        let list: Vec<_> = places
            .iter()
            .map(|(line, change)| {
                serde_json::json!({
                    "name": format!("a/src/ring.rs:{line}:9: {change}"),
                    "file": "a/src/ring.rs",
                    "package": "a",
                    "span": { "start": { "line": line, "column": 9 }, "end": { "line": line, "column": 12 } },
                })
            })
            .collect();
        read(&serde_json::to_vec(&list).unwrap()).unwrap()
    }

    #[test]
    fn keys_outlive_an_edit_above_and_tell_equal_changes_apart() {
        let before = listed(&[
            (7, "replace < with <= in f"),
            (8, "replace < with <= in f"),
            (9, "delete ! in g"),
        ]);
        let after = listed(&[
            (17, "replace < with <= in f"),
            (18, "replace < with <= in f"),
            (19, "delete ! in g"),
        ]);
        let keys = |list: &[Mutant]| list.iter().map(|m| m.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&before), keys(&after));
        assert_eq!(
            keys(&before),
            [
                "a/src/ring.rs: replace < with <= in f",
                "a/src/ring.rs: replace < with <= in f (2)",
                "a/src/ring.rs: delete ! in g",
            ]
        );
        assert_ne!(before[0].name, after[0].name);
    }

    #[test]
    fn the_sample_stays_the_same_while_other_mutants_come_and_go() {
        let changes: Vec<String> = (0..500).map(|n| format!("replace f{n} -> u32 with 0")).collect();
        let list = |changes: &[String]| {
            let places: Vec<_> = changes.iter().zip(1..).map(|(c, n)| (n, c.as_str())).collect();
            listed(&places)
        };
        let all = list(&changes);
        let sample = draw(&all, 100);
        assert_eq!(sample.len(), 100);
        assert_eq!(sample, draw(&all, 100));
        assert_eq!(draw(&all, 501), all);
        // The sample is no run of neighbours, and has the order of the source.
        let places: Vec<_> = sample
            .iter()
            .map(|m| all.iter().position(|a| a == m).unwrap())
            .collect();
        assert!(places.is_sorted());
        assert!(places[0] < 50 && places[99] > 450, "{places:?}");
        // Ten mutants are removed. Each other mutant of the sample stays.
        let fewer = list(&changes[10..]);
        let stayed = draw(&fewer, 100);
        let lost = sample.iter().filter(|m| !stayed.iter().any(|s| s.key == m.key));
        assert!(lost.count() <= 10);
    }

    #[test]
    fn the_expression_matches_nothing_else() {
        let mutants = listed(&[
            (7, "replace | with ^ in <impl Display for (A, B)>::fmt"),
            (8, "replace + with *"),
        ]);
        let expression = expression(&mutants);
        assert!(
            expression.starts_with("^(?:a/src/ring\\.rs:7:9: replace \\| with \\^ in"),
            "{expression}"
        );
        assert!(
            expression.ends_with("|a/src/ring\\.rs:8:9: replace \\+ with \\*)$"),
            "{expression}"
        );
    }
}
