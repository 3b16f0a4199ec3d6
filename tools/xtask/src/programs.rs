//! Compiles the programs of a system: its protection domains and the root task.
//!
//! Programs are compiled by the host's own toolchain. Their constants come from the system description of the
//! built system. So each number of instances, and each choice of omitted domains, has a target folder of its
//! own. Systems that differ only in the assignment of programs to domains share a folder.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use branes_kernel::Flavour;
use branes_qemu::board::BOARD;
use branes_system::System;
use branes_system::codegen::SYSTEM_VARIABLE;
use branes_system::configs::{self, Config};

use crate::kernel::{Ready, Target};
use crate::workspace::{Workspace, must_succeed, write_if_changed};

/// Target of all programs.
pub const TARGET: &str = BOARD.target;
/// Crate and binary of the root task.
const ROOT_TASK: &str = "initialiser";
/// Compiler flags of a program: at a fixed address, without tables for unwinding.
const RUSTFLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Ccode-model=small",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
];

/// Name of the workspace's folder in the programs' symbols.
pub const SOURCES: &str = "/branes";
/// Name of the folder with the packages' sources in the programs' symbols.
const DEPENDENCIES: &str = "/packages";

/// Compiled programs.
pub struct Programs {
    /// Root task, if the image is built by this project's own builder.
    pub root_task: Option<PathBuf>,
    /// Program images with their names in the system description.
    pub domains: Vec<(String, PathBuf)>,
}

/// Compiles all programs of `system`, which is the description of `config`, for a kernel.
pub fn build(
    workspace: &Workspace,
    config: &Config,
    system: &System,
    target: Target,
    kernel: &Ready,
) -> Result<Programs> {
    let without: String = config.entry.without().map(|name| format!("-{name}")).collect();
    let without = match without.as_str() {
        "" => String::new(),
        names => format!("-without{names}"),
    };
    let (instances, nics) = (config.entry.instances, config.entry.nics);
    let subscribers = match config.entry.subscribers {
        0 => String::new(),
        some => format!("-subscribers-{some}"),
    };
    let filters = match config.entry.filters {
        0 => String::new(),
        some => format!("-filters-{some}"),
    };
    let folder = workspace.target.join("pd").join(format!(
        "instances-{instances}-nics-{nics}{subscribers}{filters}{without}{}",
        target.suffix()
    ));
    let (plain, plain_system) = plain(workspace, config)?;
    let description = folder.join("system.xml");
    write_if_changed(&description, plain.xml.as_bytes())?;

    let wanted = images(system);
    let usual = images(&plain_system);
    let cargo = Cargo {
        workspace,
        folder: &folder,
        flavour: target.flavour,
        environment: kernel.environment(target.flavour),
    };
    let mut binaries: Vec<&str> = wanted.intersection(&usual).map(|image| binary(image)).collect();
    let root_task = matches!(kernel, Ready::Registry(_)).then_some(ROOT_TASK);
    binaries.extend(root_task);
    cargo.build(&description, &binaries)?;

    // Programs that only this configuration runs. Their constants come from its own description.
    let special: Vec<&str> = wanted.difference(&usual).map(|image| binary(image)).collect();
    if !special.is_empty() {
        let description = folder.join(format!("{}.xml", config.name));
        write_if_changed(&description, config.xml.as_bytes())?;
        cargo.build(&description, &special)?;
    }
    Ok(Programs {
        root_task: root_task.map(|binary| cargo.built(binary)),
        domains: wanted
            .iter()
            .map(|image| (image.to_string(), cargo.built(binary(image))))
            .collect(),
    })
}

/// Returns a configuration that replaces and adds nothing, but is otherwise equal: instances, NICs,
/// subscribers, sizes, and omitted domains. Returns the given one if there is none.
fn plain(workspace: &Workspace, config: &Config) -> Result<(Config, System)> {
    let same_size = configs::entries(&workspace.root)?.into_iter().find(|(_, entry)| {
        entry.instances == config.entry.instances
            && entry.nics == config.entry.nics
            && entry.subscribers == config.entry.subscribers
            && entry.filters == config.entry.filters
            && entry.sizes == config.entry.sizes
            && entry.without().eq(config.entry.without())
            && entry.replace.is_empty()
            && entry.add.is_none()
    });
    let plain = match same_size {
        Some((name, _)) => Config::load(&workspace.root, &name)?,
        None => config.clone(),
    };
    let system = System::parse(&plain.xml, &plain.name).context("the resolved system description")?;
    Ok((plain, system))
}

fn images(system: &System) -> BTreeSet<&str> {
    system
        .protection_domains
        .iter()
        .map(|pd| pd.program.as_str())
        .collect()
}

fn binary(image: &str) -> &str {
    image.strip_suffix(".elf").unwrap_or(image)
}

struct Cargo<'a> {
    workspace: &'a Workspace,
    folder: &'a Path,
    flavour: Flavour,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Cargo<'_> {
    fn build(&self, description: &Path, binaries: &[&str]) -> Result<()> {
        let flags = RUSTFLAGS.iter().map(|flag| (*flag).to_owned());
        let flags = flags
            .chain(self.renamed_folders())
            .map(|flag| format!("{flag:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let mut command = self.workspace.cargo();
        command
            .args(["build", "--locked", "--target", TARGET, "--target-dir"])
            .arg(self.folder)
            .arg("--config")
            .arg(format!("target.{TARGET}.rustflags = [{flags}]"))
            .env(SYSTEM_VARIABLE, description)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // Cargo would use these variables instead of the flags above.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if self.flavour == Flavour::Release {
            command.arg("--release");
        }
        for binary in binaries {
            command.args([
                "--package",
                self.workspace.crate_with_binary(binary)?,
                "--bin",
                binary,
            ]);
        }
        must_succeed(&mut command, "compiling the protection domains")
    }

    /// Returns flags that replace the folders of this machine by fixed names, so that the same sources give the same bytes.
    fn renamed_folders(&self) -> Vec<String> {
        let mut folders = vec![(self.workspace.root.clone(), SOURCES)];
        let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        if let Some(home) = env::var_os("CARGO_HOME").map(PathBuf::from).or(home) {
            folders.push((home.join("registry/src"), DEPENDENCIES));
        }
        folders
            .into_iter()
            .map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()))
            .collect()
    }

    fn built(&self, binary: &str) -> PathBuf {
        let profile = match self.flavour {
            Flavour::Debug => "debug",
            Flavour::Release => "release",
        };
        self.folder.join(TARGET).join(profile).join(binary)
    }
}
