//! The verb `mutants`: changes one expression of a crate at a time and runs that crate's host tests, which must
//! fail.
//!
//! Owns: which mutants are tested, with which settings, and the judgement. cargo-mutants makes the mutants and
//! runs the tests. It is installed at a pinned version if it is missing. Its settings are in
//! `.cargo/mutants.toml`. The reasons for survivors are in `docs/mutants.md`, and [`reasons`] reads them.

mod judge;
mod reasons;
mod sample;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs, io};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cli::MutantsOptions;
use crate::test::has_nextest;
use crate::workspace::{Workspace, must_succeed, write_if_changed};
use crate::{progress, runner};
use judge::Verdict;
use sample::Mutant;

/// Version of cargo-mutants, because another version makes other mutants.
const CARGO_MUTANTS: &str = "27.1.0";
/// Page that lists the survivors.
const PAGE: &str = "docs/mutants.md";
/// Limit of each process's address space in KiB, because a mutant may allocate without end.
const MEMORY_KIB: u32 = 8 << 20;
/// Seed of the property tests, so that a mutant meets the same cases in each run.
const PROPTEST_SEED: &str = "20";
/// Number of cases of each property test that sets no number of its own.
const PROPTEST_CASES: &str = "64";

/// The crates that can be tested with mutants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Subject {
    /// Rings, layouts and messages
    #[value(name = "abi", alias = "brane-abi")]
    Abi,
    /// The driver's switch
    #[value(name = "nic", alias = "nic-switch")]
    Nic,
    /// The brane's stack
    #[value(name = "net-server", alias = "net-server-core")]
    NetServer,
    /// The manager's state machine
    #[value(name = "manager", alias = "brane-manager-core")]
    Manager,
}

impl Subject {
    fn package(self) -> &'static str {
        match self {
            Subject::Abi => "brane-abi",
            Subject::Nic => "nic-switch",
            Subject::NetServer => "net-server-core",
            Subject::Manager => "brane-manager-core",
        }
    }

    /// Returns the crate's folder, with which the names of its mutants begin.
    fn folder(self) -> &'static str {
        match self {
            Subject::Abi => "abi/",
            Subject::Nic => "drivers/nic/switch/",
            Subject::NetServer => "net-server/core/",
            Subject::Manager => "brane-manager/core/",
        }
    }
}

pub fn mutants(workspace: &Workspace, options: &MutantsOptions) -> Result<()> {
    let page = workspace.root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let reasons = reasons::read(&text).with_context(|| format!("reading {}", page.display()))?;
    let tool = Tool::ready(workspace)?;
    let subjects: BTreeSet<Subject> = match options.crates.as_slice() {
        [] => Subject::value_variants().iter().copied().collect(),
        named => named.iter().copied().collect(),
    };
    let mut failed = Vec::new();
    for subject in subjects {
        let package = subject.package();
        let all = tool.list(package)?;
        let chosen = match (options.all, options.again) {
            (true, _) => all.clone(),
            (_, true) => tool.survivors_of_last_run(package, &all)?,
            _ => sample::draw(&all, options.count as usize),
        };
        if chosen.is_empty() {
            println!("{package}: nothing to test");
            continue;
        }
        progress(&format!(
            "{} of the {} mutants of {package}",
            chosen.len(),
            all.len()
        ));
        let start = Instant::now();
        let outcomes = tool.run(package, &chosen, chosen.len() == all.len(), options.jobs)?;
        let verdict = judge::judge(subject.folder(), &all, &chosen, &outcomes, &reasons)
            .with_context(|| format!("judging the mutants of {package}"))?;
        tool.keep(package, &verdict)?;
        report(package, all.len(), &verdict, start.elapsed().as_secs());
        if !verdict.passed() {
            failed.push(package);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!(
            "too many mutants survive, or a survivor has no reason in {PAGE}: {}",
            failed.join(", ")
        ),
    }
}

/// Prints the figures of one crate and its survivors.
fn report(package: &str, all: usize, verdict: &Verdict, seconds: u64) {
    let tested = verdict.viable() + verdict.unviable;
    println!(
        "{package}: {tested} of {all} mutants in {} min",
        seconds.div_ceil(60)
    );
    println!(
        "    viable {}: caught {}, timed out {}, missed {} ({:.1} %, at most {} %)",
        verdict.viable(),
        verdict.caught,
        verdict.timed_out,
        verdict.survivors.len(),
        verdict.percent_missed(),
        judge::MOST_PERCENT,
    );
    println!("    unviable {}", verdict.unviable);
    for survivor in &verdict.survivors {
        println!("    survivor {}", survivor.name);
        match &survivor.reason {
            Some(reason) => println!("        {reason}"),
            None => println!(
                "        not in {PAGE}: {}",
                reasons::line(&survivor.key, "REASON")
            ),
        }
    }
    for key in &verdict.caught_though_listed {
        println!("    caught now, so its line in {PAGE} can go: {key}");
    }
    for key in &verdict.listed_in_vain {
        println!("    listed in {PAGE}, but there is no such mutant: {key}");
    }
}

/// An installed cargo-mutants.
struct Tool<'a> {
    workspace: &'a Workspace,
    /// First folder of the search path.
    folder: PathBuf,
    nextest: bool,
}

impl Tool<'_> {
    /// Installs cargo-mutants unless the pinned version is installed.
    fn ready(workspace: &Workspace) -> Result<Tool<'_>> {
        let root = workspace.target.join("tools");
        let tool = Tool {
            workspace,
            folder: root.join("bin"),
            nextest: has_nextest(workspace),
        };
        if tool.version()? != Some(CARGO_MUTANTS.to_owned()) {
            progress(&format!(
                "installing cargo-mutants {CARGO_MUTANTS}: some minutes, once"
            ));
            let mut command = workspace.cargo();
            command.args(["install", "cargo-mutants", "--locked", "--force", "--version"]);
            command.arg(CARGO_MUTANTS).arg("--root").arg(&root);
            must_succeed(&mut command, "installing cargo-mutants")
                .context("cargo xtask mutants needs cargo-mutants; once there is a network, try it again")?;
        }
        Ok(tool)
    }

    fn version(&self) -> Result<Option<String>> {
        let mut command = self.command(&[])?;
        let output = command
            .arg("--version")
            .stderr(Stdio::null())
            .output()
            .context("asking for the version of cargo-mutants")?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .strip_prefix("cargo-mutants ")
            .map(|version| version.trim().to_owned()))
    }

    /// Returns the command `cargo mutants` with the limit on memory.
    fn command(&self, environment: &[(&str, &Path)]) -> Result<Command> {
        let cargo = self.workspace.cargo();
        let mut paths = vec![self.folder.clone()];
        paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$@\""), "sh"])
            .arg(cargo.get_program())
            .arg("mutants")
            .current_dir(&self.workspace.root)
            .stdin(Stdio::null())
            .env("PATH", env::join_paths(paths).context("the search path")?)
            .envs(environment.iter().copied());
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(command)
    }

    /// Returns all mutants of a crate that `.cargo/mutants.toml` does not exclude.
    fn list(&self, package: &str) -> Result<Vec<Mutant>> {
        let output = self
            .command(&[])?
            .args(["--list", "--json", "--package", package])
            .stderr(Stdio::inherit())
            .output()
            .context("starting cargo-mutants")?;
        if !output.status.success() {
            bail!("cargo-mutants does not list the mutants of {package}; see above");
        }
        sample::read(&output.stdout).with_context(|| format!("the list of the mutants of {package}"))
    }

    fn output(&self, package: &str) -> PathBuf {
        self.workspace.target.join("mutants").join(package)
    }

    fn outcomes(&self, package: &str) -> PathBuf {
        self.output(package).join("mutants.out/outcomes.json")
    }

    /// Tests some mutants. Returns the outcomes as cargo-mutants wrote them.
    fn run(&self, package: &str, chosen: &[Mutant], all: bool, jobs: u8) -> Result<Vec<u8>> {
        let folder = self.output(package);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        // With one job all runs share a target folder, so that dependencies are compiled once.
        let built = self.workspace.target.join("mutants/target");
        let shared = [("CARGO_TARGET_DIR", built.as_path())];
        let mut command = self.command(if jobs == 1 { &shared } else { &[] })?;
        command
            .args(["--package", package, "--test-package", package, "--output"])
            .arg(&folder)
            .args(["--jobs", &jobs.to_string()])
            .args(["--test-tool", if self.nextest { "nextest" } else { "cargo" }])
            .env("PROPTEST_CASES", PROPTEST_CASES)
            .env("PROPTEST_RNG_SEED", PROPTEST_SEED)
            // If the tests kept a failing case, the tests of the next mutant would try it first.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
            .stdout(Stdio::from(io::stderr()));
        if runner::color() == "--color=never" {
            // One line for each mutant, because there is no progress bar without colours.
            command.args(["--caught", "--unviable"]);
        }
        if !all {
            command.args(["--re", &sample::expression(chosen)]);
        }
        if self.nextest {
            // One failed test is enough: nextest then ends the tests that still run.
            command.args(["--", "--max-fail", "1:immediate"]);
        }
        // Otherwise the outcomes of an earlier run could count as those of this run.
        let outcomes = self.outcomes(package);
        let _ = fs::remove_file(&outcomes);
        let status = command.status().context("starting cargo-mutants")?;
        match status.code() {
            // All caught, some missed, some timed out.
            Some(0 | 2 | 3) => {}
            Some(4) => bail!("the tests of {package} fail without any mutant; see above"),
            _ => bail!("cargo-mutants failed ({status}); see above"),
        }
        fs::read(&outcomes).with_context(|| format!("reading {}", outcomes.display()))
    }

    /// Writes the names of the survivors for `--again`.
    fn keep(&self, package: &str, verdict: &Verdict) -> Result<()> {
        let keys: Vec<&str> = verdict.survivors.iter().map(|s| s.key.as_str()).collect();
        write_if_changed(&self.kept(package), keys.join("\n").as_bytes())
    }

    fn kept(&self, package: &str) -> PathBuf {
        self.output(package).join("survivors.txt")
    }

    /// Returns the survivors of the last run that still exist.
    fn survivors_of_last_run(&self, package: &str, all: &[Mutant]) -> Result<Vec<Mutant>> {
        let kept = self.kept(package);
        let text = fs::read_to_string(&kept).with_context(|| {
            format!(
                "--again needs an earlier run of {package}: reading {}",
                kept.display()
            )
        })?;
        let keys: BTreeSet<&str> = text.lines().collect();
        let survived = |mutant: &&Mutant| keys.contains(mutant.key.as_str());
        Ok(all.iter().filter(survived).cloned().collect())
    }
}
