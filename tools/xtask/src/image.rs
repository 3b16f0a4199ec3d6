//! From sources to an image: kernel, system description, boot configuration, programs, and all of them put together.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use brane_manager_core::boot::{BootConfig, MAX_SIZE};
use branes_bootconfig::Size;
use branes_image::Report;
use branes_kernel::sdk::ImageCall;
use branes_system::System;
use branes_system::configs::Config;

use crate::cli::ImageOptions;
use crate::kernel::{Choice, Ready, Target};
use crate::programs::{self, Programs};
use crate::workspace::{Workspace, replace, write_if_changed};
use crate::{output, progress};

/// The file name of the resolved system description.
const DESCRIPTION: &str = "system.xml";
/// The boot configuration's file name in the system description.
const BOOT_CONFIG: &str = "boot-config.cbor";
/// The kernel's file name, as Microkit's tool calls it.
pub const KERNEL: &str = "sel4_32.elf";
/// The file name of the SDK's list of objects and capabilities, beside its image.
pub const CAPDL: &str = "capdl.json";
/// The image's file name, likewise.
pub const IMAGE: &str = "loader.img";

/// A system, read and checked, before anything is built.
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Its description.
    pub system: System,
    /// Its boot configuration.
    pub boot: BootConfig,
}

/// A finished image.
pub struct Built {
    /// What it is an image of.
    pub resolved: Resolved,
    /// The kernel (32-bit ELF).
    pub kernel: PathBuf,
    /// The kernel's ELF file with symbols, if it was built here.
    pub kernel_symbols: Option<PathBuf>,
    /// The image.
    pub image: PathBuf,
    /// The programs in it.
    pub programs: Programs,
    /// What it amounts to.
    pub report: Report,
}

/// Reads a configuration, for a machine with or without an IOMMU. Everything that a person wrote is checked here, before time is spent on building.
pub fn resolve(workspace: &Workspace, name: &str, iommu: bool) -> Result<Resolved> {
    let config = Config::load_for(&workspace.root, name, iommu)?;
    let system = System::parse(&config.xml, &format!("system.xml as resolved for `{name}`"))?;
    let boot = branes_bootconfig::load(
        &config.boot,
        Size {
            instances: config.entry.instances,
            nics: config.entry.nics,
        },
    )?;
    check_log_levels(&config.boot, &system, &boot)?;
    Ok(Resolved { config, system, boot })
}

/// Refuses a log level for a protection domain that the system lacks, or that has no log.
fn check_log_levels(path: &Path, system: &System, boot: &BootConfig) -> Result<()> {
    let logs = system.memory_regions.iter();
    let names: Vec<&str> = logs
        .filter_map(|region| region.name.strip_prefix("log-"))
        .collect();
    for entry in &boot.log {
        if !names.contains(&entry.pd.as_str()) {
            bail!(
                "{}: log: no protection domain `{}` has a log in this system: write one of {}",
                path.display(),
                entry.pd,
                names.join(", ")
            );
        }
    }
    Ok(())
}

/// Where the image of a configuration lies.
pub fn folder(workspace: &Workspace, config: &str, target: Target) -> PathBuf {
    images(workspace, target.kernel).join(target.name(config))
}

/// Where all images for a kernel lie.
pub fn images(workspace: &Workspace, kernel: Choice) -> PathBuf {
    workspace.target.join(match kernel {
        Choice::Registry => "images",
        Choice::Sdk => "images-sdk",
    })
}

/// Builds the image of a system.
pub fn build(workspace: &Workspace, resolved: Resolved, target: Target) -> Result<Built> {
    let kernel = Ready::prepare(workspace, target)?;
    let name = &resolved.config.name;
    progress(&format!("programs of `{name}`, {target}"));
    let programs = programs::build(workspace, &resolved.config, &resolved.system, target, &kernel)?;

    let folder = folder(workspace, name, target);
    let program_folder = folder.join("programs");
    fs::create_dir_all(&program_folder).with_context(|| format!("creating {}", program_folder.display()))?;
    let lock_path = folder.join(".lock");
    let lock = fs::File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", lock_path.display()))?;

    let mut sealed = Vec::new();
    for (image, compiled) in &programs.domains {
        let path = program_folder.join(image);
        fs::copy(compiled, &path).with_context(|| format!("copying {}", compiled.display()))?;
        branes_image::seal(&path)?;
        sealed.push((image.clone(), path));
    }
    let description = folder.join(DESCRIPTION);
    write_if_changed(&description, resolved.config.xml.as_bytes())?;
    // As long as its region: the SDK's tool takes no shorter file.
    let mut boot = resolved.boot.to_bytes();
    boot.resize(boot.len().max(MAX_SIZE), 0);
    replace(&folder.join(BOOT_CONFIG), &boot)?;
    let image = folder.join(IMAGE);
    let kernel_32 = folder.join(KERNEL);
    let search = [program_folder, folder.clone()];
    let report = match (&kernel, &programs.root_task) {
        (Ready::Registry(kernel), Some(root_task)) => {
            let report = branes_image::build(&resolved.system, &search[0], &search[1..], root_task, &image)?;
            let content =
                fs::read(&kernel.sel4_32).with_context(|| format!("reading {}", kernel.sel4_32.display()))?;
            write_if_changed(&kernel_32, &content)?;
            report
        }
        (Ready::Registry(_), None) => bail!("the root task was not built"),
        (Ready::Sdk(sdk), _) => {
            let mut report = branes_image::measure(&resolved.system, &search[0], &search[1..])?;
            let said = sdk.image(&ImageCall {
                description: &description,
                search: &search,
                image: &image,
                report: &folder.join("report.txt"),
                capdl: &folder.join(CAPDL),
            })?;
            if !said.is_empty() {
                progress(&format!("the SDK's tool says: {said}"));
            }
            let size = fs::metadata(&image).with_context(|| format!("reading {}", image.display()))?;
            report.image_bytes = size.len();
            report
        }
    };
    if let Some(warning) = &report.warning {
        eprintln!("warning: {warning}");
    }
    progress(&format!("image of `{name}`, {target}: {report}"));
    let programs = Programs {
        root_task: programs.root_task,
        domains: sealed,
    };
    let kernel_symbols = match kernel {
        Ready::Registry(kernel) => Some(kernel.elf),
        Ready::Sdk(_) => None,
    };
    Ok(Built {
        resolved,
        kernel: kernel_32,
        kernel_symbols,
        image,
        programs,
        report,
    })
}

/// The verb `image`: both files appear in the folder together, or neither does.
pub fn write(workspace: &Workspace, options: &ImageOptions) -> Result<()> {
    let target = options.build.target()?;
    let resolved = resolve(workspace, &options.build.config, target.iommu)?;
    target.check()?;
    output::check(&options.out, &[KERNEL, IMAGE])?;
    let built = build(workspace, resolved, target)?;
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let files = [(KERNEL, read(&built.kernel)?), (IMAGE, read(&built.image)?)];
    for path in output::write(&options.out, &files)? {
        println!("{}", path.display());
    }
    Ok(())
}
