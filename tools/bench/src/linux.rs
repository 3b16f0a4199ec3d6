//! The Linux guest: Debian's kernel for virtual machines, Debian's static busybox, and a program of this
//! workspace as the first process (`tools/bench/linux-guest`).
//!
//! Owns: the folder in which the guest is made. On the other side: Debian's packages, which `apt-get` downloads
//! and checks. They are as trusted as the host's own packages. They are neither installed on the host nor part
//! of the repository.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cpio::NewcBuilder;
use cpio::newc::ModeFileType;

/// Package that depends on the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Beginning of the names of packages with a kernel.
const KERNEL_PREFIX: &str = "linux-image-";
const BUSYBOX: &str = "busybox-static";
/// Modules for a virtio network device on PCI, each behind the modules that it needs. A missing module is built
/// into the kernel.
const MODULES: [&str; 8] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];
/// Command line of the kernel: little output on the console, and QEMU ends if the kernel panics.
pub const ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet";

/// A guest that can be booted.
pub struct Linux {
    pub kernel: PathBuf,
    /// The first file system.
    pub initrd: PathBuf,
    /// Package and version of the kernel.
    pub version: String,
}

/// Makes the guest in `folder`, with `init` as its first program. Does not download packages that are already
/// there.
pub fn make(folder: &Path, init: &Path) -> Result<Linux> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let kernel = kernel_package()?;
    let kernel_files = unpacked(folder, &kernel)?;
    let busybox_files = unpacked(folder, BUSYBOX)?;

    let image = only(&kernel_files.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let mut archive = Archive::create(&folder.join("initrd"))?;
    for name in ["bin", "dev", "modules", "proc", "sys"] {
        archive.folder(name)?;
    }
    archive.file("init", init)?;
    archive.file("bin/busybox", &busybox_files.join("bin/busybox"))?;
    for (number, name) in MODULES.into_iter().enumerate() {
        if let Some(path) = find(&kernel_files.join("lib/modules"), &format!("{name}.ko"))? {
            archive.file(&format!("modules/{number:02}-{name}.ko"), &path)?;
        }
    }
    Ok(Linux {
        kernel: image,
        initrd: archive.finish()?,
        version: kernel,
    })
}

/// Returns the package with the newest kernel.
fn kernel_package() -> Result<String> {
    let depends = || run("apt-cache", &["depends", KERNEL], Path::new("."));
    let mut package = depends().ok().as_deref().and_then(dependency);
    if package.is_none() {
        // A machine may have no package lists yet.
        run("apt-get", &["-q", "update"], Path::new("."))?;
        package = dependency(&depends()?);
    }
    package.with_context(|| format!("the package {KERNEL} depends on no kernel"))
}

/// Finds the kernel's package in the output of `apt-cache depends`.
fn dependency(text: &str) -> Option<String> {
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let mut kernels = names.filter(|name| name.starts_with(KERNEL_PREFIX));
    kernels.next().map(str::to_owned)
}

/// Downloads a package, unless the folder has it. Returns the folder with its files.
fn unpacked(folder: &Path, package: &str) -> Result<PathBuf> {
    let files = folder.join(package);
    if files.is_dir() {
        return Ok(files);
    }
    let is_it = |name: &str| name.starts_with(&format!("{package}_")) && name.ends_with(".deb");
    if only(folder, is_it).is_err() {
        run("apt-get", &["-q", "download", package], folder)?;
    }
    let archive = only(folder, is_it)?;
    // The folder gets its name only when it is complete.
    let partial = tempfile::tempdir_in(folder).context("making a folder for a package's files")?;
    run(
        "dpkg-deb",
        &["-x".as_ref(), archive.as_os_str(), partial.path().as_os_str()],
        folder,
    )?;
    fs::rename(partial.keep(), &files).with_context(|| format!("naming {}", files.display()))?;
    Ok(files)
}

fn run(program: &str, arguments: &[impl AsRef<OsStr>], folder: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!("starting {program}, which the Linux guest needs (Debian's package apt or dpkg)")
        })?;
    ensure!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the only entry of a folder with a suitable name. Fails if there are none or several.
fn only(folder: &Path, is_meant: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_meant) {
            found.push(entry.path());
        }
    }
    match found.pop() {
        Some(path) if found.is_empty() => Ok(path),
        Some(_) => bail!(
            "{} has more than one file of a package: remove them",
            folder.display()
        ),
        None => bail!("{} lacks a file that a package should have", folder.display()),
    }
}

/// Searches a folder and its subfolders for a file.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let found = match entry.file_type()?.is_dir() {
            true => find(&entry.path(), name)?,
            false => (entry.file_name() == name).then(|| entry.path()),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// An archive that the kernel unpacks as its first file system.
struct Archive {
    path: PathBuf,
    file: File,
    /// Number of the next file. Each file needs a number of its own.
    next: u32,
}

impl Archive {
    fn create(path: &Path) -> Result<Archive> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Archive {
            path: path.to_owned(),
            file,
            next: 1,
        })
    }

    fn entry(&mut self, name: &str, kind: ModeFileType) -> NewcBuilder {
        let entry = NewcBuilder::new(name)
            .ino(self.next)
            .mode(0o755)
            .set_mode_file_type(kind);
        self.next += 1;
        entry
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        let entry = self.entry(name, ModeFileType::Directory);
        entry
            .write(&mut self.file, 0)
            .finish()
            .map(drop)
            .context("writing the first file system")
    }

    fn file(&mut self, name: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let len = u32::try_from(bytes.len()).with_context(|| format!("{} is too long", from.display()))?;
        let mut writer = self.entry(name, ModeFileType::Regular).write(&mut self.file, len);
        std::io::Write::write_all(&mut writer, &bytes)
            .and_then(|()| writer.finish().map(drop))
            .context("writing the first file system")
    }

    fn finish(mut self) -> Result<PathBuf> {
        cpio::newc::trailer(&mut self.file).context("writing the first file system")?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::NewcReader;

    #[test]
    fn the_kernel_is_what_the_package_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-41-cloud-amd64\n  Recommends: x\n";
        assert_eq!(dependency(text).unwrap(), "linux-image-6.1.0-41-cloud-amd64");
        assert!(dependency("linux-image-cloud-amd64\n  Depends: other\n").is_none());
    }

    #[test]
    fn the_first_file_system_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let content = folder.path().join("content");
        fs::write(&content, "five!").unwrap();
        let mut archive = Archive::create(&folder.path().join("initrd")).unwrap();
        archive.folder("bin").unwrap();
        archive.file("bin/a", &content).unwrap();
        let path = archive.finish().unwrap();
        let mut reader = NewcReader::new(File::open(path).unwrap()).unwrap();
        assert_eq!(
            (reader.entry().name(), reader.entry().mode() & 0o170_000),
            ("bin", 0o040_000)
        );
        reader = NewcReader::new(reader.finish().unwrap()).unwrap();
        assert_eq!(
            (reader.entry().name(), reader.entry().mode()),
            ("bin/a", 0o100_755)
        );
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "five!");
        reader = NewcReader::new(reader.finish().unwrap()).unwrap();
        assert!(reader.entry().is_trailer());
    }

    #[test]
    fn two_versions_of_a_package_are_one_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let is_meant = |name: &str| name.ends_with(".deb");
        assert!(only(folder.path(), is_meant).is_err());
        fs::write(folder.path().join("a.deb"), "").unwrap();
        assert_eq!(
            only(folder.path(), is_meant).unwrap(),
            folder.path().join("a.deb")
        );
        fs::write(folder.path().join("b.deb"), "").unwrap();
        assert!(only(folder.path(), is_meant).is_err());
    }
}
