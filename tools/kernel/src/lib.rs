//! Builds seL4 5.0.0 on this machine, in a debug and a release flavour. The sources come from a registry
//! package that `Cargo.lock` pins by checksum.
//!
//! Owns: the kernel's configuration, a few corrections to its sources, and the folder
//! `target/kernel/FLAVOUR`. On the other side: the kernel's own makefile, which is trusted like the kernel
//! itself, and readers of the published files (image builder, runtime, QEMU harness). No part of the kernel's
//! sources is part of this repository: they are GPL-2.0 and stay in cargo's cache and in `target/`.
//!
//! The kernel of the official Microkit SDK is not built but found: [`sdk`].

mod config;
mod error;
mod labels;
mod make;
pub mod sdk;
mod source;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use error::Error;
pub use labels::{Constant, Labels};

/// Configuration of the kernel. Programs of the same flavour belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Prints kernel messages (boot, unhandled faults, stray interrupts) on COM1.
    Debug,
    Release,
}

impl Flavour {
    /// Returns the flavour's name, which is also the name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Debug => "debug",
            Flavour::Release => "release",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A finished kernel. All files exist.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub flavour: Flavour,
    /// The kernel as a 64-bit ELF file with symbols.
    pub elf: PathBuf,
    /// The same code as a 32-bit ELF file. A multiboot loader such as QEMU's needs this form.
    pub sel4_32: PathBuf,
    /// Invocation labels, object types and system call numbers of this configuration as Rust constants.
    pub labels_rs: PathBuf,
    /// The constants of `labels_rs` as JSON.
    pub labels_json: PathBuf,
    /// The configuration that the kernel was compiled with, as C preprocessor definitions.
    pub autoconf: PathBuf,
    /// True if this call built the kernel, false if it existed already.
    pub fresh: bool,
}

const ELF: &str = "kernel.elf";
const ELF_32: &str = "sel4_32.elf";
const LABELS_RS: &str = "labels.rs";
const LABELS_JSON: &str = "labels.json";
const AUTOCONF: &str = "autoconf.h";
const LOG: &str = "build.log";
/// File with all inputs of the build as text. It is written last, so a folder that contains it is complete.
const INPUTS: &str = "inputs.txt";

impl Kernel {
    fn at(folder: &Path, flavour: Flavour, fresh: bool) -> Kernel {
        Kernel {
            flavour,
            elf: folder.join(ELF),
            sel4_32: folder.join(ELF_32),
            labels_rs: folder.join(LABELS_RS),
            labels_json: folder.join(LABELS_JSON),
            autoconf: folder.join(AUTOCONF),
            fresh,
        }
    }

    fn is_complete(&self) -> bool {
        [
            &self.elf,
            &self.sel4_32,
            &self.labels_rs,
            &self.labels_json,
            &self.autoconf,
        ]
        .iter()
        .all(|file| file.is_file())
    }
}

/// Builds the kernel of a flavour, or finds the kernel that an earlier call built from equal inputs.
///
/// `root` is the workspace's folder. The result is in `<target>/kernel/<flavour>`, where `<target>` is
/// cargo's target folder. The build runs in a folder of its own, which is renamed at the end. So a failed or
/// interrupted build leaves nothing that looks finished. Concurrent builds wait for each other.
///
/// # Errors
/// A tool or the sources are missing, the sources are not the expected ones, or the compiler fails. The text
/// names the remedy.
pub fn build(root: &Path, flavour: Flavour) -> Result<Kernel, Error> {
    let source = source::locate(root)?;
    let python = make::python()?;
    let autoconf = config::autoconf(&source.folder, flavour)?;
    let inputs = inputs(&source, &autoconf, &python)?;

    let base = source.target.join("kernel");
    let published = base.join(flavour.name());
    fs::create_dir_all(&base).map_err(|e| Error::file("create", &base, e))?;
    let lock_path = base.join(".lock");
    let lock = fs::File::create(&lock_path).map_err(|e| Error::file("create", &lock_path, e))?;
    lock.lock().map_err(|e| Error::file("lock", &lock_path, e))?;

    let present = Kernel::at(&published, flavour, false);
    if present.is_complete() && fs::read_to_string(published.join(INPUTS)).is_ok_and(|text| text == inputs) {
        return Ok(present);
    }

    let work = tempfile::Builder::new()
        .prefix(&format!(".{flavour}-"))
        .tempdir_in(&base)
        .map_err(|e| Error::file("create a folder in", &base, e))?;
    let tree = work.path().join("source");
    let objects = work.path().join("objects");
    let out = work.path().join("out");
    for folder in [&objects, &out] {
        fs::create_dir(folder).map_err(|e| Error::file("create", folder, e))?;
    }
    source::copy(&source.folder, &tree)?;
    source::correct(&tree)?;
    let autoconf_in_tree = tree.join(config::AUTOCONF);
    fs::write(&autoconf_in_tree, &autoconf).map_err(|e| Error::file("write", &autoconf_in_tree, e))?;

    let log = base.join(format!("{flavour}-failed.log"));
    make::kernel(&tree, &objects, &python, &log)?;
    make::to_elf32(&objects.join(ELF), &out.join(ELF_32))?;
    move_file(&objects.join(ELF), &out.join(ELF))?;
    move_file(&log, &out.join(LOG))?;
    let labels = Labels::read(&tree, &objects)?;
    labels.check()?;
    for (name, text) in [
        (LABELS_RS, labels.to_rust()),
        (LABELS_JSON, labels.to_json()),
        (AUTOCONF, autoconf),
        (INPUTS, inputs),
    ] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|e| Error::file("write", &path, e))?;
    }
    publish(&out, &published, work.path())?;
    Ok(Kernel::at(&published, flavour, true))
}

/// Moves `out` to `published`. Moves the previous content to the work folder, which is deleted afterwards.
fn publish(out: &Path, published: &Path, work: &Path) -> Result<(), Error> {
    match fs::rename(published, work.join("replaced")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::file("replace", published, e)),
        _ => {}
    }
    fs::rename(out, published).map_err(|e| Error::file("publish", published, e))
}

fn move_file(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|e| Error::file("move", from, e))
}

/// Returns all inputs of the build as readable text. If two builds have equal inputs, the second one can be
/// omitted.
fn inputs(source: &source::Source, autoconf: &str, python: &Path) -> Result<String, Error> {
    let compiler = make::first_line(Command::new("gcc").arg("--version"))?;
    let linker = make::first_line(Command::new("ld").arg("--version"))?;
    let arguments = make::ARGUMENTS.join(" ");
    let corrections = source::corrections_as_text();
    Ok(format!(
        "source {package}\nlabels {labels} {runtime:?}\ncompiler {compiler}\nlinker {linker}\npython {python}\narguments {arguments}\n\
         {corrections}\n{autoconf}",
        package = source.package,
        labels = labels::FORMAT,
        runtime = sel4::registry::label::ALL,
        python = python.display(),
    ))
}
