//! The verb `test`: host tests, the model check of the ring, the tests that boot the image, and in the fuller
//! tier the fuzz targets.
//!
//! Continues after a failure, so that one run shows all of them. On the other side: the test runners, which are
//! trusted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use branes_kernel::Flavour;
use branes_kernel::sdk::VARIABLE;
use branes_qemu::host;
use branes_system::configs;

use crate::cli::TestOptions;
use crate::kernel::{Choice, Target};
use crate::runner::{self, Closing};
use crate::workspace::{IMAGE_TESTS, Workspace};
use crate::{audit, bench, fuzz, image, progress};

/// Folder of the tests that boot the image.
const IMAGE_TESTS_FOLDER: &str = "tests/image/tests";
/// Crate of the programs that operate a running system.
const OPERATORS_TOOLS: &str = "branes-branectl";
/// The system whose programs print on the kernel's debug console alone. A release kernel has none.
const ON_DEBUG_CONSOLE: &str = "upstream-api";
/// Configurations that are tested on a machine with an IOMMU too.
const WITH_IOMMU: [&str; 2] = ["default", "dma-escape"];

pub fn test(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let target = Target {
        kernel: options.kernel,
        flavour: Flavour::Release,
        iommu: false,
    };
    target.check()?;
    // Read before anything is built. Cargo's build may replace this program's file, which then has no path.
    let own = env::current_exe().context("asking for the path of this program")?;
    host::ensure(&[host::BUILD, host::RUN, host::TEST], &mut progress)?;
    host::check_qemu_version()?;
    let filters = &options.filters;
    let everything = filters.is_empty();
    let full = options.full || env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let runner = Runner::find(workspace);
    let suite = suite(workspace, filters)?;
    let which = Which {
        files: &suite,
        filters: if suite.is_empty() { filters } else { &[] },
        figures: options.figures,
    };
    if !suite.is_empty() || options.figures {
        let names = named(workspace, &suite)?;
        let wanted = |name: &str| suite.is_empty() || names.iter().any(|n| n == name);
        return report(&[
            build_images(workspace, options.kernel, wanted)?,
            image_tests(workspace, &runner, which, options.kernel, &own)?,
        ]);
    }

    let mut closings = vec![unit_tests(workspace, &runner, filters)?];
    // The models and the fuzz targets do not depend on the kernel.
    let for_any_kernel = everything && options.kernel == Choice::Registry;
    if for_any_kernel {
        closings.push(ring_model(workspace)?);
    }
    if everything || has_image_tests(workspace, filters)? {
        closings.push(build_images(workspace, options.kernel, |_| true)?);
        closings.push(image_tests(workspace, &runner, which, options.kernel, &own)?);
    }
    if full && for_any_kernel {
        closings.extend(fuzz::run_all(workspace)?);
    }
    report(&closings)
}

/// Returns the files of image tests that the filters name, if each filter is the beginning of a file's name:
/// `lifecycle` means `lifecycle.rs`, `lifecycle_move.rs` and so on. Returns no files otherwise.
fn suite(workspace: &Workspace, filters: &[String]) -> Result<Vec<String>> {
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    let folder = workspace.root.join(IMAGE_TESTS_FOLDER);
    let mut files = Vec::new();
    // A workspace without image tests has no such folder.
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let name = entry
            .with_context(|| format!("reading {}", folder.display()))?
            .file_name();
        files.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".rs"))
                .map(str::to_owned),
        );
    }
    Ok(meant(files, filters))
}

/// Returns the files whose names begin with a filter, if each filter is the beginning of some name.
fn meant(mut files: Vec<String>, filters: &[String]) -> Vec<String> {
    files.sort();
    let begins = |file: &String, filter: &String| file.starts_with(filter.as_str());
    if !filters
        .iter()
        .all(|filter| files.iter().any(|file| begins(file, filter)))
    {
        return Vec::new();
    }
    files.retain(|file| filters.iter().any(|filter| begins(file, filter)));
    files
}

/// Returns the configurations that the files of a suite boot.
fn named(workspace: &Workspace, suite: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = configs::entries(&workspace.root)?.into_keys().collect();
    let mut text = String::new();
    for file in suite {
        let path = workspace.root.join(IMAGE_TESTS_FOLDER).join(format!("{file}.rs"));
        text += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    }
    names.retain(|name| boots(&text, name));
    Ok(names)
}

/// Returns true if the source of image tests boots a configuration. The source names it in quotation marks. The
/// default configuration also counts if a boot names none, or if `cargo xtask` boots.
fn boots(text: &str, name: &str) -> bool {
    if text.contains(&format!("\"{name}\"")) {
        return true;
    }
    let mut machines = text.split("Boot {").skip(1);
    let unnamed = |machine: &str| {
        let fields = machine.split_once("..").map_or(machine, |(fields, _)| fields);
        !fields.contains("config")
    };
    name == "default" && (machines.any(unnamed) || text.contains("BRANES_XTASK"))
}

/// Prints the results, in the runners' own words.
fn report(closings: &[Closing]) -> Result<()> {
    for closing in closings {
        println!("{}:", closing.about);
        for line in &closing.lines {
            println!("    {line}");
        }
    }
    let failed: Vec<&str> = closings
        .iter()
        .filter(|c| !c.passed)
        .map(|c| c.about.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// Selects tests of the named crates.
#[derive(Clone, Copy)]
struct Which<'a> {
    /// If not empty: only tests of these files.
    files: &'a [String],
    /// If not empty: only tests whose names contain one of these.
    filters: &'a [String],
    /// Selects the tests that print figures, which are ignored otherwise.
    figures: bool,
}

/// The test runner: cargo-nextest if it is installed, otherwise cargo's own runner.
enum Runner {
    Nextest,
    Cargo,
}

/// Returns true if cargo-nextest is installed.
pub fn has_nextest(workspace: &Workspace) -> bool {
    let status = workspace
        .cargo()
        .args(["nextest", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl Runner {
    fn find(workspace: &Workspace) -> Runner {
        match has_nextest(workspace) {
            true => Runner::Nextest,
            false => Runner::Cargo,
        }
    }

    /// Returns a command that runs tests of some crates. `images` is true for the tests that boot the image.
    fn command(&self, workspace: &Workspace, crates: &[&str], which: Which<'_>, images: bool) -> Command {
        let Which {
            files,
            filters,
            figures,
        } = which;
        let mut command = workspace.cargo();
        match self {
            Runner::Nextest => command.args(["nextest", "run", "--no-tests=pass", "--no-fail-fast"]),
            Runner::Cargo => command.args(["test", "--no-fail-fast"]),
        };
        command.args(["--locked", runner::color()]);
        for name in crates {
            command.args(["--package", name]);
        }
        for file in files {
            command.args(["--test", file]);
        }
        match self {
            Runner::Nextest => {
                if images {
                    // At most two at a time: `.config/nextest.toml` says which. Figures are measured one at a time.
                    command.args(["--test-threads", if figures { "1" } else { "2" }]);
                }
                if figures {
                    command.args(["--run-ignored", "only", "--no-capture"]);
                }
                command.args(filters);
            }
            Runner::Cargo => {
                command.arg("--").args(filters);
                if images {
                    command.args(["--test-threads", "1"]);
                }
                if figures {
                    command.args(["--ignored", "--nocapture"]);
                }
            }
        }
        command
    }
}

fn unit_tests(workspace: &Workspace, runner: &Runner, filters: &[String]) -> Result<Closing> {
    progress("tests on the host");
    let crates = workspace.host_crates(false);
    let which = Which {
        files: &[],
        filters,
        figures: false,
    };
    let mut closing = runner::run(
        "host tests",
        &mut runner.command(workspace, &crates, which, false),
    )?;
    if env::var_os(VARIABLE).is_none() {
        let skipped = format!("skipped: what asks the tool of the Microkit SDK, as {VARIABLE} is not set");
        closing.lines.push(skipped);
    }
    if matches!(runner, Runner::Nextest) {
        // Nextest omits the examples in the documentation.
        let mut command = workspace.cargo();
        command.args(["test", "--doc", "--locked", "--no-fail-fast", runner::color()]);
        for name in workspace.host_crates(true) {
            command.args(["--package", name]);
        }
        command.arg("--").args(filters);
        let examples = runner::run("documentation examples", &mut command)?;
        closing.passed &= examples.passed;
        closing.lines.extend(
            examples
                .lines
                .into_iter()
                .filter(|line| !line.contains(" 0 passed; 0 failed")),
        );
    }
    Ok(closing)
}

/// Checks all interleavings of the ring's two sides, within the model checker's bounds.
fn ring_model(workspace: &Workspace) -> Result<Closing> {
    progress("model check of the ring");
    let mut command = workspace.cargo();
    command
        .args([
            "test",
            "--locked",
            "--release",
            "--package",
            "brane-abi",
            "--test",
            "ring_loom",
            "--test",
            "endpoint_loom",
            runner::color(),
        ])
        .arg("--target-dir")
        .arg(workspace.target.join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    runner::run("ring model", &mut command)
}

/// Returns true if the name of a test that boots the image contains one of the filters.
fn has_image_tests(workspace: &Workspace, filters: &[String]) -> Result<bool> {
    let output = workspace
        .cargo()
        .args([
            "test",
            "--quiet",
            "--locked",
            "--package",
            IMAGE_TESTS,
            "--",
            "--list",
        ])
        .args(filters)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("listing the image tests")?;
    if !output.status.success() {
        bail!("the image tests do not compile; see above");
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|line| line.ends_with(": test")))
}

/// Builds and audits every wanted configuration as a release image, and the default one in the debug flavour
/// too.
///
/// If the kernel can use an IOMMU, also builds the images that are tested with one. Their flavour is debug,
/// because only that kernel reports accesses that the IOMMU refuses.
fn build_images(workspace: &Workspace, kernel: Choice, wanted: impl Fn(&str) -> bool) -> Result<Closing> {
    let mut audited = Closing {
        about: "audit of the images".to_owned(),
        lines: Vec::new(),
        passed: true,
    };
    let mut build = |name: &str, flavour, iommu| {
        let target = Target {
            kernel,
            flavour,
            iommu,
        };
        let built = image::build(workspace, image::resolve(workspace, name, iommu)?, target)?;
        audit::add(&mut audited, &built, kernel)
    };
    let names = configs::entries(&workspace.root)?;
    for name in names.keys().map(String::as_str).filter(|name| wanted(name)) {
        if name != ON_DEBUG_CONSOLE {
            build(name, Flavour::Release, false)?;
        }
        if ["default", ON_DEBUG_CONSOLE].contains(&name) {
            build(name, Flavour::Debug, false)?;
        }
    }
    if kernel == Choice::Sdk {
        for name in WITH_IOMMU.into_iter().filter(|name| wanted(name)) {
            build(name, Flavour::Debug, true)?;
        }
    }
    Ok(audited)
}

fn image_tests(
    workspace: &Workspace,
    runner: &Runner,
    which: Which<'_>,
    kernel: Choice,
    own: &Path,
) -> Result<Closing> {
    progress("branectl and nicctl");
    let mut tools = workspace.cargo();
    tools.args(["build", "--quiet", "--locked", "--package", OPERATORS_TOOLS]);
    if !tools.status().context("building branectl")?.success() {
        bail!("branectl does not compile; see above");
    }
    bench::plugin(workspace)?;
    progress("tests that boot the image");
    let mut command = runner.command(workspace, &[IMAGE_TESTS], which, true);
    command.env("BRANES_IMAGES", image::images(workspace, kernel));
    command.env("BRANES_KERNEL", kernel.name());
    command.env("BRANES_XTASK", own);
    command.env("BRANES_TOOLS", workspace.target.join("debug"));
    let mut closing = runner::run("image tests", &mut command)?;
    if kernel == Choice::Registry {
        closing.lines.push(
            "those with an IOMMU skipped: the registry kernel has no support for one; run `cargo xtask test --kernel sdk`"
                .to_owned(),
        );
    }
    Ok(closing)
}

#[cfg(test)]
mod tests {
    use super::{boots, meant};

    #[test]
    fn the_images_of_a_suite_are_those_that_its_files_boot() {
        let named = r#"Guest::boot(Boot { config: "limits", net, ..Boot::default() })"#;
        let field = r#"const CONFIG: &str = "two-nics"; Boot { config, release: true, ..Boot::default() }"#;
        let unnamed = r#"Guest::boot(Boot { net: Net::Tap(&ns), ..Boot::default() })"#;
        assert!(boots(named, "limits") && !boots(named, "default") && !boots(named, "two-nics"));
        assert!(boots(field, "two-nics") && !boots(field, "default"));
        assert!(boots(unnamed, "default") && !boots(unnamed, "limits"));
        // Each of several files counts.
        let all = [named, field, unnamed].concat();
        assert!(
            ["limits", "two-nics", "default"]
                .iter()
                .all(|name| boots(&all, name))
        );
        assert!(boots(r#"env("BRANES_XTASK")"#, "default"));
    }

    #[test]
    fn the_name_of_a_file_means_that_file_and_any_other_word_is_a_filter() {
        let files = || {
            ["run", "lifecycle_line", "lifecycle", "hostile"]
                .map(str::to_owned)
                .to_vec()
        };
        let meant = |words: &[&str]| {
            meant(
                files(),
                &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(meant(&["lifecycle"]), ["lifecycle", "lifecycle_line"]);
        assert_eq!(meant(&["lifecycle_line", "run"]), ["lifecycle_line", "run"]);
        assert_eq!(
            meant(&["hostile", "lifecycle"]),
            ["hostile", "lifecycle", "lifecycle_line"]
        );
        assert!(meant(&["dhcp"]).is_empty() && meant(&["lifecycle", "dhcp"]).is_empty());
    }
}
