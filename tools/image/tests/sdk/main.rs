//! Compares what the Microkit SDK's tool accepts and refuses with our own checks and with their record,
//! `tools/system/tests/sdk-rules.toml`. The tool runs only if `MICROKIT_SDK` names an SDK. Otherwise the
//! tests print that they skip it.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod mutants;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use branes_system::configs::{Config, entries};
use serde::Deserialize;

use bench::Bench;
use mutants::{Change, Parts};

const COMPACT: &str = include_str!("compact.xml");
const SYSTEM: &str = include_str!("../../../../system.xml");
const RECORD: &str = include_str!("../../../system/tests/sdk-rules.toml");
/// Maximum of concurrent runs of the tool.
const THREADS: usize = 2;

/// One of this many changes to the real description is tried.
const EVERY: usize = 10;
/// Pairs of changes that are tried.
const PAIRS: usize = 1000;

/// Runs the tool on every text that we accept. There must be at least `least` of them.
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
    println!(
        "{} texts, of which we accept {accepted}; the tool refuses {} of these",
        texts.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        accepted >= least,
        "only {accepted} of {} texts are accepted",
        texts.len()
    );
}

fn apply(changes: &[Change], text: &str) -> Vec<(String, String)> {
    let mut seen = HashSet::from([text.to_owned()]);
    let texts = changes
        .iter()
        .map(|change| (change.what.clone(), change.apply(text)));
    texts.filter(|(_, text)| seen.insert(text.clone())).collect()
}

/// Returns pairs of changes, spread over all changes.
fn pairs(changes: &[Change], text: &str) -> Vec<(String, String)> {
    let pick = |i: usize, step: usize| &changes[i * step % changes.len()];
    let both = (0..PAIRS).filter_map(|i| {
        let (one, other) = (pick(i, 7919), pick(i + 1, 6007));
        let text = one.apply_both(other, text)?;
        Some((format!("{}; {}", one.what, other.what), text))
    });
    both.collect()
}

/// The part of the record that these tests need.
#[derive(Deserialize)]
struct Record {
    refused: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    panics: BTreeMap<String, BTreeSet<String>>,
    stricter: BTreeMap<String, BTreeMap<String, String>>,
}

fn record() -> Record {
    toml::from_str(RECORD).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns true if the tool ended as recorded: with a refusal, an acceptance, or, only if the record says so,
/// a panic.
fn as_recorded(
    record: &Record,
    example: &str,
    said: Result<String, String>,
    refused: bool,
) -> Result<(), String> {
    let panics = record.panics["examples"].contains(example);
    match said {
        Ok(_) if refused => Err(format!("{example}: the tool accepts it")),
        Err(reason) if !refused => Err(format!("{example}: the tool refuses it: {reason}")),
        Err(reason) if reason.contains("panicked at") != panics => Err(format!(
            "{example}: by the record the tool {}: {reason}",
            if panics { "panics" } else { "does not panic" }
        )),
        _ => Ok(()),
    }
}

#[test]
fn what_breaks_our_rules_the_tool_refuses_as_recorded() {
    let bench = Bench::new();
    if !bench.has_tool() {
        return;
    }
    let record = record();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../system/tests/broken");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut wrong = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "xml")) {
        let name = path.file_stem().unwrap().to_string_lossy();
        let rule = name.split_once("--").map_or(&*name, |(rule, _)| rule);
        let stricter =
            record.stricter["rules"].contains_key(rule) || record.stricter["examples"].contains_key(&*name);
        let text = std::fs::read_to_string(&path).unwrap();
        bench.prepare(&text);
        wrong.extend(as_recorded(&record, &name, bench.theirs(&text), !stricter).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_do_not_fit_are_refused_as_recorded() {
    let record = record();
    let examples = record.refused.values().flat_map(BTreeMap::values).flatten();
    let recorded: BTreeSet<&str> = examples.filter_map(|e| e.strip_prefix("builder: ")).collect();
    let cases = files::broken();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(recorded, names);
    let sound = files::sound();
    let mut wrong = Vec::new();
    for (case, refused) in sound
        .iter()
        .map(|case| (case, false))
        .chain(cases.iter().map(|case| (case, true)))
    {
        let bench = Bench::new();
        for (name, content) in &case.files {
            bench.put(name, content);
        }
        let ours = bench.ours(&case.text);
        if ours.is_err() != refused {
            wrong.push(format!("{}: we say {ours:?}", case.name));
        }
        if bench.has_tool() {
            let example = format!("builder: {}", case.name);
            wrong.extend(as_recorded(&record, &example, bench.theirs(&case.text), refused).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_we_accept_of_a_description_with_everything_the_tool_accepts() {
    let bench = Bench::new();
    if !bench.has_tool() {
        return;
    }
    bench.prepare(COMPACT);
    bench.ours(COMPACT).unwrap_or_else(|e| panic!("{e}"));
    bench.theirs(COMPACT).unwrap_or_else(|e| panic!("{e}"));
    let parts = Parts::read();
    let mut changes = mutants::of_attributes(&parts, COMPACT);
    changes.extend(mutants::of_elements(&parts, COMPACT));
    let mut texts = apply(&changes, COMPACT);
    texts.extend(mutants::whole(COMPACT));
    judge(&bench, &texts, 1000);

    // Two changes at a time, from the changes that our checks accept.
    changes.retain(|change| bench.ours(&change.apply(COMPACT)).is_ok());
    judge(&bench, &pairs(&changes, COMPACT), 500);
}

#[test]
fn what_we_accept_of_the_real_description_the_tool_accepts() {
    let bench = Bench::new();
    if !bench.has_tool() {
        return;
    }
    bench.prepare(SYSTEM);
    let parts = Parts::read();
    let mut changes = mutants::of_attributes(&parts, SYSTEM);
    changes.extend(mutants::of_elements(&parts, SYSTEM));
    let mut texts = apply(&changes, SYSTEM);
    texts = texts.into_iter().step_by(EVERY).collect();
    judge(&bench, &texts, 100);
}

#[test]
fn every_configuration_passes_without_a_warning() {
    let bench = Bench::new();
    if !bench.has_tool() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in entries(&root).unwrap().keys() {
        let config = Config::load(&root, name).unwrap_or_else(|e| panic!("{e}"));
        bench.prepare(&config.xml);
        bench.ours(&config.xml).unwrap_or_else(|e| panic!("{name}: {e}"));
        let said = bench
            .theirs(&config.xml)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        // The tool prints the image's size for every system.
        let warnings: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("MICROKIT|"))
            .collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
}
