//! The step `words` of `check`: names that were replaced by the field's words must not come back. It owns the list of these names. It reads
//! the tracked files, which are trusted.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Former names, each with the word that replaced it.
const REPLACED: [(&str, &str); 18] = [
    ("Asker", "Requester"),
    ("Badly", "Failure"),
    ("Desk", "JobTable"),
    ("Pulse", "Heartbeat"),
    ("Surroundings", "PdPlatform"),
    ("astray", "dma_escape"),
    ("cut_off", "quarantined"),
    ("examiner", "irq_checker"),
    ("forget_ways", "invalidate"),
    ("go_home", "release"),
    ("hand_over", "transfer"),
    ("look_at_link", "poll"),
    ("reception", "rx_moderation"),
    ("retry_parked", "flush_pending"),
    ("strike_out", "remove"),
    ("switch_sent", "forward"),
    ("watcher", "subscriber"),
    ("watchers", "subscribers"),
];

/// Files that may have them: the history, this list, and the inside of a brane, whose names have not changed yet.
const EXCEPT: [&str; 4] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "net-server/core/",
    "tools/xtask/src/words.rs",
];

/// Fails if a tracked file has a former name.
pub fn check(workspace: &Workspace) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(&workspace.root)
        .output()
        .context("running git ls-files")?;
    if !listed.status.success() {
        bail!("git lists no files of {}", workspace.root.display());
    }
    let names = String::from_utf8(listed.stdout).context("the names of the tracked files")?;
    let mut found = Vec::new();
    for name in names
        .split_terminator('\0')
        .filter(|name| !EXCEPT.iter().any(|e| name.starts_with(e)))
    {
        // Files that are not text have no names in them, and deleted ones are still tracked.
        let Ok(text) = fs::read_to_string(workspace.root.join(name)) else {
            continue;
        };
        found.extend(
            former_names(&text)
                .map(|(line, word, now)| format!("{name}:{line}: `{word}` is called `{now}` now")),
        );
    }
    match found.as_slice() {
        [] => Ok(()),
        found => bail!("{}", found.join("\n")),
    }
}

/// Returns the former names in a text: the line, from 1, the name, and the word that replaced it.
fn former_names(text: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let lines = text.lines().zip(1..);
    lines.flat_map(|(line, number)| {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter_map(move |word| {
            let entry = REPLACED.iter().find(|(former, _)| *former == word)?;
            Some((number, entry.0, entry.1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_are_found_as_whole_words_only() {
        let text = "let a = Desk::new();\n// a desk; Desks; my_Desk\nfn go_home(watcher: u8)";
        let found: Vec<_> = former_names(text).map(|(line, word, _)| (line, word)).collect();
        assert_eq!(found, [(1, "Desk"), (3, "go_home"), (3, "watcher")]);
    }
}
