//! For every rule, `tests/broken` has a file that breaks only this rule, and the expected message beside it.
//! Files are named after the rule, with `--CASE` if a rule has several. With `BLESS=1` in the environment the
//! messages are rewritten. Read them before you keep them.

use branes_system::{Errors, RULES, System};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let entries = std::fs::read_dir(folder).expect("the folder of broken files");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "xml"))
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> &str {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .expect("a plain name")
}

fn rule(path: &Path) -> &str {
    let stem = stem(path);
    stem.split_once("--").map_or(stem, |(rule, _)| rule)
}

fn errors(path: &Path) -> Errors {
    let text = std::fs::read_to_string(path).expect("a readable file");
    match System::parse(&text, &format!("{}.xml", stem(path))) {
        Ok(_) => panic!("{}: no error found", path.display()),
        Err(errors) => errors,
    }
}

#[test]
fn each_broken_file_gets_its_message() {
    let files = files();
    assert!(files.len() >= 30, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let errors = errors(&path);
        let rules: BTreeSet<&str> = errors.iter().map(|e| e.rule).collect();
        if !rules.iter().eq([&rule(&path)]) {
            wrong.push(format!("{} breaks {rules:?}:\n{errors}", path.display()));
        }
        let found = format!("{errors}\n");
        let expected = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &found).expect("writing the message");
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "{}\n  expected {expected}  found    {found}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_rule_has_a_broken_file_and_each_file_a_rule() {
    let files = files();
    let broken: BTreeSet<&str> = files.iter().map(|path| rule(path)).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(rules.len(), RULES.len(), "a rule is listed twice");
    let without: Vec<_> = rules.difference(&broken).collect();
    let strange: Vec<_> = broken.difference(&rules).collect();
    assert!(without.is_empty(), "rules without a broken file: {without:?}");
    assert!(
        strange.is_empty(),
        "files that are called after no rule: {strange:?}"
    );
}
