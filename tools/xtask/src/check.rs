//! The verb `check`: all that can be found without running anything. Goes on after a failure, so that one run shows
//! all of them.

use anyhow::{Result, bail};
use branes_system::configs;

use crate::progress;
use crate::workspace::{Workspace, must_succeed};
use crate::{audit, image, programs};

/// Runs the verb.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for name in ["systems", "paths", "formatting", "clippy"] {
        progress(name);
        let done = match name {
            "systems" => systems(workspace),
            "paths" => audit::descriptions(workspace),
            "formatting" => formatting(workspace),
            _ => clippy(workspace),
        };
        if let Err(error) = done {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// Each system of `configs.toml`: its description by all rules, and its boot configuration.
fn systems(workspace: &Workspace) -> Result<()> {
    for name in configs::entries(&workspace.root)?.keys() {
        let resolved = image::resolve(workspace, name, false)?;
        let domains = resolved.system.protection_domains.len();
        println!(
            "{name}: {} ({domains} protection domains)",
            resolved.config.entry.about
        );
    }
    Ok(())
}

fn formatting(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["fmt", "--all", "--check"]);
    must_succeed(
        &mut command,
        "the check of the formatting (mend it by: cargo fmt --all)",
    )
}

/// Programs and the runtime apart from what runs on the host: built together, they would get the host crates' features of
/// what both depend on, the standard library among them.
fn clippy(workspace: &Workspace) -> Result<()> {
    let runtime = workspace.runtime_crates();
    let mut host = workspace.cargo();
    host.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    let mut programs = workspace.cargo();
    programs.args([
        "clippy",
        "--locked",
        "--target",
        programs::TARGET,
        "--lib",
        "--bins",
    ]);
    for name in runtime {
        host.args(["--exclude", name]);
        programs.args(["--package", name]);
    }
    // A workspace of its own; nothing else builds it before the tests' last minutes.
    let mut fuzz = workspace.cargo();
    fuzz.args(["clippy", "--locked", "--manifest-path", "tests/fuzz/Cargo.toml"]);
    fuzz.arg("--target-dir").arg(workspace.target.join("fuzz"));
    for (what, mut command) in [
        ("clippy of the host's crates", host),
        ("clippy of the programs", programs),
        ("clippy of the fuzz targets", fuzz),
    ] {
        command.args(["--", "--deny", "warnings"]);
        must_succeed(&mut command, what)?;
    }
    Ok(())
}
