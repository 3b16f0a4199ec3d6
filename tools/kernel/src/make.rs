//! Tools of the build: the kernel's makefile, the object converter, and the search for a usable Python.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Arguments of the kernel's makefile, apart from paths.
pub const ARGUMENTS: &[&str] = &[
    "ARCH=x86",
    "PLAT=pc99",
    "SEL4_ARCH=x86_64",
    "SKIP_PATH_CHECKS=1",
    // Warnings are errors by default, and today's compiler reports more of them than the compiler of 2017.
    "WARNINGS=all",
    // This checker does not understand the output of today's preprocessor.
    "CIRCULAR_INCLUDES=cat >/dev/null",
];

/// Number of lines of a failed step's output that are shown.
const TAIL_LINES: usize = 12;

/// Returns a `python3` that has the libraries of the kernel's generators. The first one on the PATH may be
/// the user's own without these libraries, so the system's is tried too.
pub fn python() -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .chain([PathBuf::from("/usr/bin/python3")])
        .find(|python| {
            Command::new(python)
                .args(["-c", "import six, ply.lex, tempita"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .ok_or(Error::Python)
}

/// Returns the first line that a tool prints about itself.
pub fn first_line(command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(|cause| Error::Tool {
        tool: "gcc",
        package: "build-essential",
        cause,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Builds `kernel.elf` in `objects` from the sources in `tree`. Writes the output to the file `log`.
pub fn kernel(tree: &Path, objects: &Path, python: &Path, log: &Path) -> Result<(), Error> {
    // The kernel's scripts start with `env python`.
    let bin = objects.join("bin");
    fs::create_dir(&bin).map_err(|e| Error::file("create", &bin, e))?;
    symlink(python, bin.join("python")).map_err(|e| Error::file("link", &bin, e))?;
    let mut path = OsString::from(&bin);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());

    let output = fs::File::create(log).map_err(|e| Error::file("create", log, e))?;
    let errors = output.try_clone().map_err(|e| Error::file("write", log, e))?;
    let assigned = |name: &str, value: &Path| {
        let mut argument = OsString::from(name);
        argument.push("=");
        argument.push(value);
        argument
    };
    let status = Command::new("make")
        .current_dir(objects)
        .arg("-f")
        .arg(tree.join("Makefile"))
        .args(ARGUMENTS)
        .arg(assigned("SOURCE_ROOT", tree))
        .arg(assigned("PYTHON", python))
        .arg(assigned("XMLLINT_PATH", &tree.join("tools/xmllint.sh")))
        .arg("kernel.elf")
        .env("PATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // With these set, the makefile would use other flags or build for the outer make.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env_remove("CFLAGS")
        .env_remove("CPPFLAGS")
        .env_remove("ASFLAGS")
        .env_remove("LDFLAGS")
        .env_remove("TOOLPREFIX")
        .env_remove("NK_CFLAGS")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|cause| Error::Tool {
            tool: "make",
            package: "build-essential",
            cause,
        })?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).map_err(|e| Error::file("read", log, e))?;
    Err(Error::Step {
        step: "the kernel's makefile",
        tail: tail(&String::from_utf8_lossy(&text)),
        log: log.to_owned(),
    })
}

pub fn to_elf32(elf: &Path, elf32: &Path) -> Result<(), Error> {
    let output = Command::new("objcopy")
        .args(["-O", "elf32-i386"])
        .args([elf, elf32])
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| Error::Tool {
            tool: "objcopy",
            package: "binutils",
            cause,
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Step {
        step: "objcopy",
        tail: tail(&String::from_utf8_lossy(&output.stderr)),
        log: elf.to_owned(),
    })
}

/// Returns the preprocessor's output for a text, with the kernel's include folders and configuration.
pub fn preprocess(tree: &Path, objects: &Path, text: &str) -> Result<String, Error> {
    let input = objects.join("labels.c");
    fs::write(&input, text).map_err(|e| Error::file("write", &input, e))?;
    let output = Command::new("gcc")
        .args(["-E", "-P", "-nostdinc", "-DHAVE_AUTOCONF"])
        .arg("-I")
        .arg(objects)
        .args(
            [
                "include",
                "include/arch/x86",
                "include/plat/pc99",
                "include/arch/x86/arch/64",
            ]
            .map(|folder| {
                let mut argument = OsString::from("-I");
                argument.push(tree.join(folder));
                argument
            }),
        )
        .arg("-include")
        .arg(tree.join(crate::config::AUTOCONF))
        .arg(&input)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| Error::Tool {
            tool: "gcc",
            package: "build-essential",
            cause,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Step {
        step: "reading the kernel's headers",
        tail: tail(&String::from_utf8_lossy(&output.stderr)),
        log: input,
    })
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
