//! The verb `check`: all that can be found without running anything.

use anyhow::Result;
use branes_system::configs;

use crate::image;
use crate::progress;
use crate::workspace::{Workspace, must_succeed};

/// Runs the verb.
pub fn check(workspace: &Workspace) -> Result<()> {
    progress("formatting");
    must_succeed(
        workspace.cargo().args(["fmt", "--all", "--check"]),
        "the check of the formatting (mend it by: cargo fmt --all)",
    )?;
    progress("systems");
    for name in configs::entries(&workspace.root)?.keys() {
        let resolved = image::resolve(workspace, name)?;
        let domains = resolved.system.protection_domains.len();
        println!(
            "{name}: {} ({domains} protection domains)",
            resolved.config.entry.about
        );
    }
    progress("clippy");
    must_succeed(
        workspace.cargo().args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
        "clippy",
    )
}
