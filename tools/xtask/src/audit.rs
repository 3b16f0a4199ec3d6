//! The verb `audit`, also a step of `check` and `test`: compares a system's image with its description, and
//! computes the paths between branes.
//!
//! The work is in `tools/audit`. The image and the description come from this program's own build.

use anyhow::{Result, bail};
use branes_audit::report::Image;
use branes_audit::{Kernel, Report};
use branes_system::configs;

use crate::cli::AuditOptions;
use crate::image::{self, Built, CAPDL};
use crate::kernel::Choice;
use crate::runner::Closing;
use crate::workspace::Workspace;

pub fn audit(workspace: &Workspace, options: &AuditOptions) -> Result<()> {
    let target = options.build.target()?;
    target.check()?;
    let resolved = image::resolve(workspace, &options.build.config, target.iommu)?;
    let report = of_image(&image::build(workspace, resolved, target)?, target.kernel)?;
    match options.json {
        true => println!("{:#}", report.json()),
        false => print!("{report}"),
    }
    let mut faults = report.faults();
    if !options.accept_sdk_rights {
        faults.extend(report.known_weaknesses());
    }
    for fault in &faults {
        eprintln!("error: {fault}");
    }
    match faults.len() {
        0 => Ok(()),
        count => bail!("the audit of `{}` found {count} faults", options.build.config),
    }
}

fn model(kernel: Choice) -> Kernel {
    match kernel {
        Choice::Registry => Kernel::Registry,
        Choice::Sdk => Kernel::Sdk,
    }
}

fn of_image(built: &Built, kernel: Choice) -> Result<Report> {
    let capdl = built.image.with_file_name(CAPDL);
    let image = match kernel {
        Choice::Registry => Image::Ours(&built.image),
        Choice::Sdk => Image::Capdl(&capdl),
    };
    let system = &built.resolved.system;
    Ok(Report::of(&built.resolved.config.name, system, model(kernel))?.with_image(system, image)?)
}

/// Checks the paths of each system of `configs.toml`, from its description alone. A step of the verb `check`.
pub fn descriptions(workspace: &Workspace) -> Result<()> {
    let mut failed = Vec::new();
    for name in configs::entries(&workspace.root)?.keys() {
        let resolved = image::resolve(workspace, name, false)?;
        let report = Report::of(name, &resolved.system, Kernel::Registry)?;
        println!("{}", report.summary());
        for fault in report.faults() {
            eprintln!("error: {name}: {fault}");
            failed.push(name.clone());
        }
    }
    failed.dedup();
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("branes reach each other in: {}", failed.join(", ")),
    }
}

/// Compares a freshly built image with its description, and adds a line to the closing lines. A step of the
/// verb `test`. It accepts what is known about the SDK's rights, and mentions that.
pub fn add(closing: &mut Closing, built: &Built, kernel: Choice) -> Result<()> {
    let report = of_image(built, kernel)?;
    for fault in report.faults() {
        eprintln!("error: {}: {fault}", built.resolved.config.name);
        closing.passed = false;
    }
    let line = report.summary();
    if !closing.lines.contains(&line) {
        closing.lines.push(line);
    }
    Ok(())
}
