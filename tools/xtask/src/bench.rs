//! The verb `bench`: measures the bench image, and a Linux guest if requested, and compares the figures with
//! the committed ones. The work is in `tools/bench`.
//!
//! Owns: the order of the steps, and the files in `docs/bench/`. On the other side: the guests, and git, which
//! returns the committed figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use branes_bench::figures::{Figure, Figures};
use branes_bench::guest::{self, Boot, ByDomain, Guest};
use branes_bench::profile::{self, Kernel, Names, Profile};
use branes_bench::rows::{ROWS, Row};
use branes_bench::table::{self, Measured};
use branes_bench::{linux, quick};
use branes_kernel::Flavour;
use branes_qemu::host;

use crate::cli::BenchOptions;
use crate::image::{self, Built};
use crate::kernel::{Choice, Target};
use crate::progress;
use crate::workspace::{Workspace, must_succeed, write_if_changed};

/// The measured system.
const CONFIG: &str = "bench";
/// Folder of the figures, below the workspace's folder.
const FOLDER: &str = "docs/bench";
/// Crate of the plugin, and the file that it makes.
const PLUGIN: (&str, &str) = ("branes-bench-plugin", "libbranes_bench_plugin.so");
/// Crate of the Linux guest's first program, and the file that it makes.
const LINUX_INIT: (&str, &str) = ("branes-bench", "linux-guest");

pub fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<()> {
    let rows = rows(&options.only)?;
    let target = Target {
        kernel: options.kernel,
        flavour: Flavour::Release,
        iommu: false,
    };
    target.check()?;
    host::ensure(&[host::BUILD, host::RUN, &host::TEST[..1]], &mut progress)?;
    host::check_qemu_version()?;
    let built = image::build(workspace, image::resolve(workspace, CONFIG, false)?, target)?;
    let plugin = plugin(workspace)?;
    let bench = Bench {
        workspace,
        options,
        plugin: &plugin,
        built: &built,
    };
    match (options.profile, options.quick) {
        (true, _) => bench.profile(),
        (_, true) => bench.quick(),
        _ => bench.all(&rows),
    }
}

/// Returns the rows with these names. Returns all rows if there are no names.
fn rows(names: &[String]) -> Result<Vec<&'static Row>> {
    let find = |name: &String| {
        let known = || ROWS.iter().map(|row| row.id).collect::<Vec<_>>().join(", ");
        Row::named(name).with_context(|| format!("there is no row `{name}`; the rows are {}", known()))
    };
    match names {
        [] => Ok(ROWS.iter().collect()),
        names => names.iter().map(find).collect(),
    }
}

/// Builds the plugin and returns its path.
pub fn plugin(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    command.args(["build", "--quiet", "--locked", "--package", PLUGIN.0]);
    must_succeed(&mut command, "compiling the plugin that counts instructions")?;
    Ok(workspace.target.join("debug").join(PLUGIN.1))
}

/// Makes the Linux guest. Its first program is linked statically, without any library of the host.
fn linux_guest(workspace: &Workspace) -> Result<linux::Linux> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    progress("Linux guest");
    let folder = workspace.target.join("bench").join("linux");
    let programs = folder.join("program");
    let mut command = workspace.cargo();
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            LINUX_INIT.0,
            "--bin",
            LINUX_INIT.1,
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&programs)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    must_succeed(&mut command, "compiling the Linux guest's first program")?;
    linux::make(&folder, &programs.join(TARGET).join("release").join(LINUX_INIT.1))
}

struct Bench<'a> {
    workspace: &'a Workspace,
    options: &'a BenchOptions,
    plugin: &'a Path,
    built: &'a Built,
}

impl Bench<'_> {
    /// Returns the name of the measured system in the files.
    fn name(&self) -> &'static str {
        match self.options.kernel {
            Choice::Registry => "branes",
            Choice::Sdk => "branes-sdk",
        }
    }

    fn boot(&self) -> Boot<'_> {
        let (kernel, image) = (&self.built.kernel, &self.built.image);
        Boot {
            kernel,
            image,
            arguments: None,
            plugin: self.plugin,
            by_domain: None,
        }
    }

    /// Measures the rows on each guest, by turns if there are several boots.
    fn all(&self, rows: &[&Row]) -> Result<()> {
        let linux = self
            .options
            .guest
            .map(|_| linux_guest(self.workspace))
            .transpose()?;
        let mut guests = vec![(self.boot(), self.figures(self.name())?)];
        if let Some(linux) = &linux {
            let (kernel, image) = (&linux.kernel, &linux.initrd);
            let boot = Boot {
                kernel,
                image,
                arguments: Some(linux::ARGUMENTS),
                ..self.boot()
            };
            let figures = Figures {
                of: linux.version.clone(),
                ..self.figures("linux")?
            };
            guests.push((boot, figures));
        }
        let mut measured: Vec<BTreeMap<&str, Vec<Figure>>> = vec![BTreeMap::new(); guests.len()];
        for number in 1..=self.options.boots {
            for ((boot, figures), measured) in guests.iter_mut().zip(&mut measured) {
                progress(&format!(
                    "{}, boot {number} of {}",
                    figures.guest, self.options.boots
                ));
                let boot_time = within(boot, |guest| {
                    for row in rows {
                        progress(row.title);
                        measured
                            .entry(row.id)
                            .or_default()
                            .push(row.measure(guest, self.options.scale)?);
                    }
                    Ok(guest.boot_time)
                })?;
                figures.boots += 1;
                figures
                    .boot_seconds
                    .push((boot_time.as_secs_f64() * 100.0).round() / 100.0);
            }
        }
        for ((_, figures), measured) in guests.iter_mut().zip(measured) {
            let medians = measured
                .into_iter()
                .filter_map(|(id, all)| Some((id.to_owned(), Figure::median(&all)?)));
            figures.figures = medians.collect();
        }
        let committed = guests
            .iter()
            .map(|(_, figures)| self.committed(&figures.guest))
            .collect::<Result<Vec<_>>>()?;
        let tables = join(&guests, &committed);
        println!("{}\n\n{}", table::instructions(&tables), table::rates(&tables));
        if !self.options.only.is_empty() {
            return Ok(());
        }
        guests.iter().try_for_each(|(_, figures)| self.write(figures))
    }

    /// Runs the quick count, as `cargo xtask test` does.
    fn quick(&self) -> Result<()> {
        let mut figures = self.figures("quick")?;
        let counts = within(&self.boot(), |guest| {
            figures.boots += 1;
            quick::ROWS
                .iter()
                .map(|row| Ok((row.id.to_owned(), row.count(guest)?)))
                .collect::<Result<_>>()
        })?;
        figures.figures = counts;
        let committed = self.committed("quick")?;
        println!(
            "{}",
            table::quick(Measured {
                now: &figures,
                committed: committed.as_ref()
            })
        );
        self.write(&figures)
    }

    /// Prints the cost of each request of the quick count in each domain.
    fn profile(&self) -> Result<()> {
        let kernel = Kernel::read(&self.built.kernel)?;
        let mut domains = BTreeMap::new();
        for domain in &self.built.resolved.system.protection_domains {
            let program = self
                .built
                .programs
                .domains
                .iter()
                .find(|(name, _)| *name == domain.program);
            let (_, path) = program.with_context(|| format!("the program of {} is missing", domain.name))?;
            domains.insert(domain.name.clone(), profile::name_address(path)?);
        }
        let by_domain = ByDomain {
            root: kernel.root,
            places: &kernel.places,
        };
        let boot = Boot {
            by_domain: Some(by_domain),
            ..self.boot()
        };
        let profiles: BTreeMap<&str, Profile> = within(&boot, |guest| {
            let names = Names::new(&guest.memory(), domains)?;
            quick::ROWS
                .iter()
                .map(|row| Ok((row.id, profile::take(guest, &names, row)?)))
                .collect()
        })?;
        for row in quick::ROWS {
            println!(
                "{}\n",
                table::profile(&format!("for each {}", row.title), &profiles[row.id])
            );
        }
        let path = self.workspace.root.join(FOLDER).join("profile.json");
        let text = serde_json::to_string_pretty(&profiles)? + "\n";
        write_if_changed(&path, text.as_bytes())?;
        progress(&format!("written: {FOLDER}/profile.json"));
        Ok(())
    }

    fn figures(&self, guest: &str) -> Result<Figures> {
        let of = git(self.workspace, &["describe", "--always", "--dirty"]).unwrap_or_default();
        let output = Command::new(host::QEMU)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let output = output.context("asking QEMU for its version")?;
        let version = String::from_utf8_lossy(&output.stdout);
        let qemu = version.lines().next().unwrap_or_default().to_owned();
        Ok(Figures::new(guest, of.trim().to_owned(), qemu))
    }

    /// Returns the committed figures of a guest, if there are any.
    fn committed(&self, guest: &str) -> Result<Option<Figures>> {
        let text = git(self.workspace, &["show", &format!("HEAD:{FOLDER}/{guest}.json")]);
        text.map(|text| Figures::parse(&text).context("reading the committed figures"))
            .transpose()
    }

    fn write(&self, figures: &Figures) -> Result<()> {
        if figures.figures.is_empty() {
            bail!("nothing was measured");
        }
        figures.write(
            &self
                .workspace
                .root
                .join(FOLDER)
                .join(format!("{}.json", figures.guest)),
        )?;
        progress(&format!("written: {FOLDER}/{}.json", figures.guest));
        Ok(())
    }
}

/// Pairs each guest's figures with the committed ones.
fn join<'a>(guests: &'a [(Boot<'_>, Figures)], committed: &'a [Option<Figures>]) -> Vec<Measured<'a>> {
    let pairs = guests.iter().zip(committed);
    pairs
        .map(|((_, now), committed)| Measured {
            now,
            committed: committed.as_ref(),
        })
        .collect()
}

/// Boots a guest in a namespace of its own and runs `with` there.
fn within<R: Send>(boot: &Boot<'_>, with: impl FnOnce(&Guest) -> Result<R> + Send) -> Result<R> {
    let ns = guest::namespace()?;
    ns.enter(|| {
        let guest = Guest::boot(boot)?;
        with(&guest).with_context(|| format!("the guest's console said:\n{}", guest.log()))
    })
}

/// Returns git's output. Returns `None` if there is no repository or git fails.
fn git(workspace: &Workspace, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(rows(&[]).unwrap().len(), ROWS.len());
        let chosen = rows(&names(&["tcp-in", "ping"])).unwrap();
        assert_eq!(
            chosen.iter().map(|row| row.id).collect::<Vec<_>>(),
            ["tcp-in", "ping"]
        );
        let error = rows(&names(&["tcp"])).err().unwrap().to_string();
        assert!(
            error.contains("no row `tcp`") && error.contains("tcp-echo"),
            "{error}"
        );
    }
}
