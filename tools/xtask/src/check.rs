//! The verb `check`: all that can be found without running anything. Goes on after a failure, so that one run shows
//! all of them.

use anyhow::{Result, bail};
use branes_system::configs;

use crate::image;
use crate::progress;
use crate::workspace::{Workspace, must_succeed};

/// Runs the verb.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for name in ["systems", "formatting", "clippy"] {
        progress(name);
        let done = match name {
            "systems" => systems(workspace),
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
        let resolved = image::resolve(workspace, name)?;
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

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]);
    must_succeed(&mut command, "clippy")
}
