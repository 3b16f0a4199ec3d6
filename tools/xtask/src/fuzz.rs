//! Runs each fuzz target of `tests/fuzz` for a while.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

use crate::progress;
use crate::runner::{self, Closing};
use crate::workspace::{Workspace, must_succeed};

/// The fuzzing driver, pinned.
const CARGO_FUZZ: &str = "0.13.1";
/// How long each target runs, in seconds.
const SECONDS: u32 = 30;

/// Runs all targets.
pub fn run_all(workspace: &Workspace) -> Result<Vec<Closing>> {
    let folder = workspace.root.join("tests/fuzz");
    let metadata = MetadataCommand::new()
        .current_dir(&folder)
        .no_deps()
        .exec()
        .with_context(|| format!("reading {}", folder.display()))?;
    let targets = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin());
    let driver = driver(workspace)?;
    targets
        .map(|target| {
            progress(&format!("fuzz target {}, {SECONDS} s", target.name));
            let mut command = Command::new(&driver);
            command
                .current_dir(&workspace.root)
                .args(["fuzz", "run", "--fuzz-dir"])
                .arg(&folder)
                .args(["--target", "x86_64-unknown-linux-gnu", &target.name, "--"])
                .args([
                    &format!("-max_total_time={SECONDS}"),
                    "-rss_limit_mb=4096",
                    "-verbosity=1",
                ])
                // The sanitizer flags are unstable; this lets the stable compiler take them.
                .env("RUSTC_BOOTSTRAP", "1");
            runner::run(&format!("fuzz target {}", target.name), &mut command)
        })
        .collect()
}

/// The driver's program; it is built into the target folder when it is not there.
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
