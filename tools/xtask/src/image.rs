//! From sources to an image: kernel, system description, boot configuration, programs, and all of them put together.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use brane_manager_core::boot::BootConfig;
use branes_image::Report;
use branes_kernel::{Flavour, Kernel};
use branes_qemu::host;
use branes_system::System;
use branes_system::configs::Config;

use crate::cli::ImageOptions;
use crate::programs::{self, Programs};
use crate::progress;
use crate::workspace::{Workspace, replace, staged, write_if_changed};

/// The boot configuration's file name in the system description.
const BOOT_CONFIG: &str = "boot-config.cbor";
/// The kernel's file name, as Microkit's tool calls it.
pub const KERNEL: &str = "sel4_32.elf";
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
    /// The image.
    pub image: PathBuf,
    /// The programs in it.
    pub programs: Programs,
    /// What it amounts to.
    pub report: Report,
}

/// Reads a configuration. Everything that a person wrote is checked here, before time is spent on building.
pub fn resolve(workspace: &Workspace, name: &str) -> Result<Resolved> {
    let config = Config::load(&workspace.root, name)?;
    let system = System::parse(&config.xml, &format!("system.xml as resolved for `{name}`"))?;
    let text = fs::read_to_string(&config.boot)
        .with_context(|| format!("{} (configs.toml names it for `{name}`)", config.boot.display()))?;
    let boot = branes_bootconfig::parse(&config.boot, &text, config.entry.instances)?;
    Ok(Resolved { config, system, boot })
}

/// Where the image of a configuration lies.
pub fn folder(workspace: &Workspace, config: &str, flavour: Flavour) -> PathBuf {
    images(workspace).join(format!("{config}-{flavour}"))
}

/// Where all images lie.
pub fn images(workspace: &Workspace) -> PathBuf {
    workspace.target.join("images")
}

/// The kernel, after making sure of the tools that its build needs.
pub fn kernel(workspace: &Workspace, flavour: Flavour) -> Result<Kernel> {
    host::ensure(&[host::BUILD], &mut progress)?;
    progress(&format!("seL4 kernel, {flavour}"));
    let kernel = branes_kernel::build(&workspace.root, flavour)?;
    Ok(kernel)
}

/// Builds the image of a system.
pub fn build(workspace: &Workspace, resolved: Resolved, flavour: Flavour) -> Result<Built> {
    let kernel = kernel(workspace, flavour)?;
    let name = &resolved.config.name;
    progress(&format!("programs of `{name}`, {flavour}"));
    let programs = programs::build(workspace, &resolved.config, &resolved.system, flavour)?;

    let folder = folder(workspace, name, flavour);
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
    write_if_changed(&folder.join("system.xml"), resolved.config.xml.as_bytes())?;
    replace(&folder.join(BOOT_CONFIG), &resolved.boot.to_bytes())?;
    let image = folder.join(IMAGE);
    let report = branes_image::build(
        &resolved.system,
        &program_folder,
        std::slice::from_ref(&folder),
        &programs.root_task,
        &image,
    )?;
    if let Some(warning) = &report.warning {
        eprintln!("warning: {warning}");
    }
    progress(&format!("image of `{name}`, {flavour}: {report}"));
    let kernel_32 = folder.join(KERNEL);
    let content =
        fs::read(&kernel.sel4_32).with_context(|| format!("reading {}", kernel.sel4_32.display()))?;
    write_if_changed(&kernel_32, &content)?;
    let programs = Programs {
        root_task: programs.root_task,
        domains: sealed,
    };
    Ok(Built {
        resolved,
        kernel: kernel_32,
        image,
        programs,
        report,
    })
}

/// The verb `image`: both files appear in the folder together, or neither does.
pub fn write(workspace: &Workspace, options: &ImageOptions) -> Result<()> {
    let resolved = resolve(workspace, &options.build.config)?;
    let built = build(workspace, resolved, options.build.flavour())?;
    fs::create_dir_all(&options.out).with_context(|| format!("creating {}", options.out.display()))?;
    let mut ready = Vec::new();
    for (from, name) in [(&built.kernel, KERNEL), (&built.image, IMAGE)] {
        let to = options.out.join(name);
        let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        ready.push((staged(&to, &content)?, to));
    }
    for (file, to) in ready {
        file.persist(&to)
            .with_context(|| format!("writing {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}
