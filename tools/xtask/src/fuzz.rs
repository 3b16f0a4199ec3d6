//! Runs each fuzz target of `tests/fuzz` for a bounded time.
//!
//! On the other side: cargo and cargo-fuzz, both trusted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

use crate::progress;
use crate::runner::{self, Closing};
use crate::workspace::{Workspace, must_succeed};

/// Version of cargo-fuzz.
const CARGO_FUZZ: &str = "0.13.1";
/// Run time of each target in seconds.
const SECONDS: u32 = 20;

/// Initial corpus of a target: files and folders of files, by the target's name.
const SEEDS: &[(&str, &[&str])] = &[("sdf", &["system.xml", "tools/system/tests/broken"])];

/// Runs all targets.
pub fn run_all(workspace: &Workspace) -> Result<Vec<Closing>> {
    let folder = workspace.root.join("tests/fuzz");
    let metadata = MetadataCommand::new()
        .current_dir(&folder)
        .no_deps()
        .exec()
        .with_context(|| format!("reading {}", folder.display()))?;
    let driver = driver(workspace)?;
    let packages = metadata.packages.iter();
    let targets = packages
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin());
    targets
        .map(|target| run(workspace, &driver, &folder, &target.name))
        .collect()
}

fn run(workspace: &Workspace, driver: &Path, folder: &Path, target: &str) -> Result<Closing> {
    progress(&format!("fuzz target {target}, {SECONDS} s"));
    let work = workspace.target.join("fuzz");
    let corpus = work.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    for seed in SEEDS
        .iter()
        .filter(|(name, _)| *name == target)
        .flat_map(|(_, seeds)| *seeds)
    {
        plant(&workspace.root.join(seed), &corpus)?;
    }
    let mut command = Command::new(driver);
    command
        .current_dir(&workspace.root)
        .args([
            "fuzz",
            "run",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--fuzz-dir",
        ])
        .arg(folder)
        .arg("--target-dir")
        .arg(&work)
        .arg(target)
        .arg(&corpus)
        .arg("--")
        .args([
            &format!("-max_total_time={SECONDS}"),
            "-rss_limit_mb=4096",
            "-max_len=20000",
        ]);
    let words = folder.join(format!("{target}.dict"));
    if words.is_file() {
        command.arg(format!("-dict={}", words.display()));
    }
    // The sanitizer's flags are unstable. With this variable the stable compiler accepts them.
    command.env("RUSTC_BOOTSTRAP", "1");
    runner::run(&format!("fuzz target {target}"), &mut command)
}

/// Copies a file, or all files of a folder, into the corpus.
fn plant(seed: &Path, corpus: &Path) -> Result<()> {
    let failed = || format!("copying {} into {}", seed.display(), corpus.display());
    if seed.is_dir() {
        for entry in fs::read_dir(seed).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path.is_file() {
                plant(&path, corpus)?;
            }
        }
    } else if let Some(name) = seed.file_name() {
        fs::copy(seed, corpus.join(name)).with_context(failed)?;
    }
    Ok(())
}

/// Returns the path of cargo-fuzz. Builds it into the target folder if it is missing.
fn driver(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target.join("tools");
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        progress("installing cargo-fuzz");
        let mut command = workspace.cargo();
        command
            .args([
                "install",
                "cargo-fuzz",
                "--locked",
                "--version",
                CARGO_FUZZ,
                "--root",
            ])
            .arg(&root);
        must_succeed(&mut command, "installing cargo-fuzz")?;
    }
    Ok(program)
}
