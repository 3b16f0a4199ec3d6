//! The table of survivors in `docs/mutants.md`: lines with a mutant's key in backticks, and the reason why the
//! mutant may survive.
//!
//! On the other side: the authors of that page, whose mistakes are reported.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Reads the table. Returns the reason of each key.
///
/// # Errors
/// A key without a reason, or a key that is listed twice.
pub fn read(page: &str) -> Result<BTreeMap<String, String>> {
    let mut reasons = BTreeMap::new();
    for line in page.lines() {
        // A bar inside a cell is written `\|`, also in code.
        let Some((key, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` |")) else {
            continue;
        };
        let key = key.replace("\\|", "|");
        // Other tables have commands or crates in their first cell. A key names a source file.
        if !key.contains(".rs: ") {
            continue;
        }
        let reason = rest.trim().trim_end_matches('|').trim().replace("\\|", "|");
        if reason.is_empty() {
            bail!("no reason stands behind `{key}`");
        }
        if reasons.insert(key.clone(), reason).is_some() {
            bail!("`{key}` is listed twice");
        }
    }
    Ok(reasons)
}

/// Returns a line of the table.
pub fn line(key: &str, reason: &str) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    format!("| `{}` | {} |", cell(key), cell(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let entries = [
            (
                "a/src/b.rs: replace || with && in f (2)",
                "both sides are true or false together",
            ),
            ("a/src/b.rs: delete ! in g", "a | b"),
        ];
        let mut page = String::from(
            "# Page\n\n| crate | missed |\n| --- | --- |\n| `abi` | 3 |\n\n| mutant | reason |\n| --- | --- |\n",
        );
        for (key, reason) in entries {
            page += &format!("{}\n", line(key, reason));
        }
        let read = read(&page).unwrap();
        assert_eq!(read.len(), 2);
        for (key, reason) in entries {
            assert_eq!(read[key], reason);
        }
    }

    #[test]
    fn a_survivor_without_a_reason_is_refused() {
        let error = read("| `a.rs: delete ! in g` |  |\n").unwrap_err();
        assert!(error.to_string().contains("no reason"), "{error}");
        let twice = format!("{0}\n{0}\n", line("a.rs: delete ! in g", "x"));
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
    }
}
