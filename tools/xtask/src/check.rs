//! The verbs `check` and `doc`: finds defects without running anything, and makes the documentation of the
//! public items.
//!
//! `check` continues after a failure, so that one run shows all failures. On the other side: cargo, which is
//! trusted.

use anyhow::{Context, Result, bail};
use branes_system::configs;
use cargo_metadata::{MetadataCommand, Package};

use crate::progress;
use crate::workspace::{Workspace, must_succeed};
use crate::{audit, image, programs, words};

pub fn check(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for name in [
        "systems",
        "paths",
        "versions",
        "words",
        "formatting",
        "clippy",
        "documentation",
    ] {
        progress(name);
        let done = match name {
            "systems" => systems(workspace),
            "paths" => audit::descriptions(workspace),
            "versions" => versions(workspace),
            "words" => words::check(workspace),
            "formatting" => formatting(workspace),
            "clippy" => clippy(workspace),
            _ => documentation(workspace),
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

/// Checks each system of `configs.toml`: its description against all rules, and its boot configuration.
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

/// Fails if a dependency needs a newer compiler than the workspace's `rust-version`. Clippy compares the
/// project's own use of the standard library with that number.
fn versions(workspace: &Workspace) -> Result<()> {
    let metadata = MetadataCommand::new()
        .current_dir(&workspace.root)
        .other_options(["--locked".to_owned()])
        .exec()
        .context("asking cargo for the dependencies")?;
    let members = metadata.workspace_packages();
    let Some(own) = members
        .iter()
        .filter_map(|package| package.rust_version.clone())
        .min()
    else {
        bail!("no crate of the workspace has a `rust-version`");
    };
    let newer = |package: &&Package| package.rust_version.as_ref().is_some_and(|needed| *needed > own);
    let newer: Vec<_> = metadata.packages.iter().filter(newer).collect();
    for package in &newer {
        let needed = package
            .rust_version
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        eprintln!("error: {} {} needs Rust {needed}", package.name, package.version);
    }
    if !newer.is_empty() {
        bail!("`rust-version` in Cargo.toml is {own}, which is too old for these");
    }
    println!("Rust {own} or newer: {} packages agree", metadata.packages.len());
    Ok(())
}

/// Runs the verb `doc`.
pub fn doc(workspace: &Workspace) -> Result<()> {
    documentation(workspace)?;
    println!("{}", workspace.target.join("doc").display());
    println!(
        "{}",
        workspace.target.join(programs::TARGET).join("doc").display()
    );
    Ok(())
}

/// Makes the documentation of the public items of all libraries. Fails on a warning, such as a broken link.
fn documentation(workspace: &Workspace) -> Result<()> {
    let mut host = workspace.cargo();
    host.args(["doc", "--locked", "--no-deps", "--lib", "--workspace"]);
    for name in workspace.runtime_crates(false) {
        host.args(["--exclude", name]);
    }
    let mut runtime = workspace.cargo();
    runtime.args([
        "doc",
        "--locked",
        "--no-deps",
        "--lib",
        "--target",
        programs::TARGET,
    ]);
    for name in workspace.runtime_crates(true) {
        runtime.args(["--package", name]);
    }
    for (what, mut command) in [
        ("the documentation of the host's crates", host),
        ("the documentation of the runtime", runtime),
    ] {
        command.env("RUSTDOCFLAGS", "--deny warnings");
        must_succeed(&mut command, what)?;
    }
    Ok(())
}

fn formatting(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["fmt", "--all", "--check"]);
    must_succeed(
        &mut command,
        "the check of the formatting (to correct it: cargo fmt --all)",
    )
}

/// Runs clippy on the host's crates, on the programs with the runtime, and on the fuzz targets. Programs are
/// separate, because cargo would otherwise give them the features that the host's crates need of common
/// dependencies.
fn clippy(workspace: &Workspace) -> Result<()> {
    let runtime = workspace.runtime_crates(false);
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
    // A separate workspace. The tests build it last.
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
