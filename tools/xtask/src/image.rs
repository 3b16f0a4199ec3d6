//! Builds an image from sources: kernel, system description, boot configuration and programs, and then the
//! image of all of them.
//!
//! On the other side: the person who wrote the configuration, whose mistakes are reported before anything is
//! built.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use brane_abi::layout::ports;
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

/// File name of the resolved system description.
const DESCRIPTION: &str = "system.xml";
/// File name of the boot configuration in the system description.
const BOOT_CONFIG: &str = "boot-config.cbor";
/// File name of the kernel, as in Microkit's tool.
pub const KERNEL: &str = "sel4_32.elf";
/// File name of the SDK's list of objects and capabilities, beside its image.
pub const CAPDL: &str = "capdl.json";
/// File name of the image, as in Microkit's tool.
pub const IMAGE: &str = "loader.img";

/// A system that is read and checked, before anything is built.
pub struct Resolved {
    pub config: Config,
    pub system: System,
    pub boot: BootConfig,
}

/// A finished image.
pub struct Built {
    /// The system that the image was built from.
    pub resolved: Resolved,
    /// Kernel (32-bit ELF).
    pub kernel: PathBuf,
    /// ELF file of the kernel with symbols, if it was built here.
    pub kernel_symbols: Option<PathBuf>,
    pub image: PathBuf,
    /// Programs of the image.
    pub programs: Programs,
    /// Sizes and other facts about the image.
    pub report: Report,
}

/// Reads a configuration, for a machine with or without an IOMMU. Checks everything that a person wrote, before
/// time is spent on building.
pub fn resolve(workspace: &Workspace, name: &str, iommu: bool) -> Result<Resolved> {
    let config = Config::load_for(&workspace.root, name, iommu)?;
    let system = System::parse(&config.xml, &format!("system.xml as resolved for `{name}`"))?;
    let boot = branes_bootconfig::load(
        &config.boot,
        Size {
            instances: config.entry.instances,
            nics: config.entry.nics,
            ports_per_nic: Some(ports_per_nic(&system)?),
        },
    )?;
    check_log_levels(&config.boot, &system, &boot)?;
    Ok(Resolved { config, system, boot })
}

/// Returns the ports that each brane has at one NIC. The size of its regions `ports-nicK-N` decides.
fn ports_per_nic(system: &System) -> Result<usize> {
    let regions = system
        .memory_regions
        .iter()
        .filter(|region| region.name.starts_with("ports-nic"));
    let mut sizes = regions.map(|region| (&region.name, region.size.unwrap_or(0) as usize));
    let Some((first, size)) = sizes.next() else {
        bail!("system.xml describes no region `ports-nicK-N`, so no brane can have an interface");
    };
    if let Some((other, _)) = sizes.find(|(_, other)| *other != size) {
        bail!("`{first}` and `{other}` differ in size: give all regions `ports-nicK-N` the same one");
    }
    Ok(ports::count(size))
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

/// Returns the folder of a configuration's image.
pub fn folder(workspace: &Workspace, config: &str, target: Target) -> PathBuf {
    images(workspace, target.kernel).join(target.name(config))
}

/// Returns the folder of all images for a kernel.
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
    // Padded to the size of its region, because the SDK's tool rejects a shorter file.
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

/// Runs the verb `image`. Both files appear in the folder together, or neither does.
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
