//! What the Microkit SDK's tool takes and refuses, held against our rules.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod mutants;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use branes_system::configs::{Config, entries};

use bench::{Bench};
use mutants::Change;

const COMPACT: &str = include_str!("compact.xml");
const SYSTEM: &str = include_str!("../../../../system.xml");
/// How many of the tool run at once.
const THREADS: usize = 2;

/// Of the changes to the real description, one in this many is tried.
const EVERY: usize = 10;
/// Pairs of changes that are tried.
const PAIRS: usize = 2000;

/// Lets the tool judge every text that we accept; at least `least` of them.
fn judge(bench: &Bench, texts: &[(String, String)], least: usize) {
    let (next, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((what, text)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if bench.ours(text).is_ok() {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        if let Err(reason) = bench.theirs(text) {
                            wrong.lock().unwrap().push(format!("{what}: {reason}"));
                        }
                    }
                }
            });
        }
    });
    let (accepted, wrong) = (accepted.into_inner(), wrong.into_inner().unwrap());
    println!("{} texts, of which we accept {accepted}; the tool refuses {} of these", texts.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(accepted >= least, "only {accepted} of {} texts are accepted", texts.len());
}

fn apply(changes: &[Change], text: &str) -> Vec<(String, String)> {
    let mut seen = HashSet::from([text.to_owned()]);
    let texts = changes
        .iter()
        .map(|change| (change.what.clone(), change.apply(text)));
    texts.filter(|(_, text)| seen.insert(text.clone())).collect()
}

/// Pairs of changes, spread over all that there are.
fn pairs(changes: &[Change], text: &str) -> Vec<(String, String)> {
    let pick = |i: usize, step: usize| &changes[i * step % changes.len()];
    let both = (0..PAIRS).filter_map(|i| {
        let (one, other) = (pick(i, 7919), pick(i + 1, 6007));
        let text = one.apply_both(other, text)?;
        Some((format!("{}; {}", one.what, other.what), text))
    });
    both.collect()
}

#[test]
fn what_we_accept_of_a_description_with_everything_the_tool_accepts() {
    let Some(bench) = Bench::new() else { return };
    bench.prepare(COMPACT);
    bench.ours(COMPACT).unwrap_or_else(|e| panic!("{e}"));
    bench.theirs(COMPACT).unwrap_or_else(|e| panic!("{e}"));
    let mut changes = mutants::of_attributes(COMPACT);
    changes.extend(mutants::of_elements(COMPACT));
    let mut texts = apply(&changes, COMPACT);
    texts.extend(mutants::whole(COMPACT));
    judge(&bench, &texts, 1000);

    // Two changes at a time, of those that we accept.
    changes.retain(|change| bench.ours(&change.apply(COMPACT)).is_ok());
    judge(&bench, &pairs(&changes, COMPACT), 500);
}

#[test]
fn what_we_accept_of_the_real_description_the_tool_accepts() {
    let Some(bench) = Bench::new() else { return };
    bench.prepare(SYSTEM);
    let mut changes = mutants::of_attributes(SYSTEM);
    changes.extend(mutants::of_elements(SYSTEM));
    let mut texts = apply(&changes, SYSTEM);
    texts = texts.into_iter().step_by(EVERY).collect();
    judge(&bench, &texts, 100);
}

#[test]
fn every_configuration_passes_without_a_warning() {
    let Some(bench) = Bench::new() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in entries(&root).unwrap().keys() {
        let config = Config::load(&root, name).unwrap_or_else(|e| panic!("{e}"));
        bench.prepare(&config.xml);
        bench.ours(&config.xml).unwrap_or_else(|e| panic!("{name}: {e}"));
        let said = bench.theirs(&config.xml).unwrap_or_else(|e| panic!("{name}: {e}"));
        // What it says of every system: how large the image is.
        let warnings: Vec<&str> = said.lines().filter(|line| !line.starts_with("MICROKIT|")).collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
}
