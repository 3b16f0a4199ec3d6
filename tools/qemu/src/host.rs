//! Tools of the host: the tools that the project needs, the Debian package of each, and the installation of
//! missing ones.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::board::BOARD;

use crate::Error;

/// The program that runs the image.
pub const QEMU: &str = BOARD.qemu.program;
/// The oldest QEMU version that is known to work.
const OLDEST_QEMU: (u32, u32) = BOARD.qemu.oldest;

/// Method to detect a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// A program of this name is on the PATH, or in the system folders for administrators.
    Program(&'static str),
    /// The system's Python can import all of these modules.
    PythonModules(&'static str),
}

/// A tool that a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    pub test: Test,
    /// The Debian package that contains it.
    pub package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Tool {
    Tool {
        test: Test::Program(name),
        package,
    }
}

const fn python(modules: &'static str, package: &'static str) -> Tool {
    Tool {
        test: Test::PythonModules(modules),
        package,
    }
}

/// Tools for the kernel's build.
pub const BUILD: &[Tool] = &[
    program("gcc", "build-essential"),
    program("make", "build-essential"),
    program("ld", "binutils"),
    program("objcopy", "binutils"),
    program("xmllint", "libxml2-utils"),
    program("python3", "python3"),
    python("six", "python3-six"),
    python("ply.lex", "python3-ply"),
    python("tempita", "python3-tempita"),
];

/// Tools for booting the image.
pub const RUN: &[Tool] = &[program(QEMU, BOARD.qemu.package)];

/// Additional tools for debugging the image.
pub const DEBUG: &[Tool] = &[program("gdb", "gdb")];

/// Additional tools for the image tests.
pub const TEST: &[Tool] = &[
    program("gdb", "gdb"),
    program("ip", "iproute2"),
    program("dnsmasq", "dnsmasq-base"),
    program("radvd", "radvd"),
    program("tcpdump", "tcpdump"),
    program("tshark", "tshark"),
];

impl Tool {
    /// Returns true if the tool is installed.
    pub fn is_present(&self) -> bool {
        match self.test {
            Test::Program(name) => {
                let path = env::var_os("PATH").unwrap_or_default();
                let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
                env::split_paths(&path)
                    .chain(administrators)
                    .any(|folder| is_executable(&folder.join(name)))
            }
            Test::PythonModules(modules) => pythons().iter().any(|python| imports(python, modules)),
        }
    }

    fn name(&self) -> &'static str {
        match self.test {
            Test::Program(name) | Test::PythonModules(name) => name,
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Pythons that may have the modules: the system's, and the one on the PATH.
fn pythons() -> [&'static str; 2] {
    ["/usr/bin/python3", "python3"]
}

fn imports(python: &str, modules: &str) -> bool {
    Command::new(python)
        .args(["-c", &format!("import {modules}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Checks that all tools are installed. Installs missing ones if this process is root's and the system has
/// `apt-get`. Otherwise fails with the command to type. Calls `progress` with a text for each step.
pub fn ensure(tools: &[&[Tool]], progress: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&missing);
    let names = missing
        .iter()
        .map(|tool| tool.name())
        .collect::<Vec<_>>()
        .join(", ");
    let command = format!("apt-get install -y {}", packages.join(" "));
    let failed = |remedy: String| Error::Missing {
        missing: names.clone(),
        remedy,
    };
    if !program("apt-get", "apt").is_present() {
        return Err(failed(format!(
            "Install the programs that have it; the Debian packages are: {}",
            packages.join(" ")
        )));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(failed(format!("Type: sudo {command}")));
    }
    progress(&format!("installing {} ({names})", packages.join(" ")));
    // A machine on which apt never ran has no package lists.
    if !apt_get(&["install", "-y", "--no-install-recommends"], &packages)? {
        progress("apt-get install failed; reading the package lists first");
        if !apt_get(&["update"], &[])? || !apt_get(&["install", "-y", "--no-install-recommends"], &packages)?
        {
            return Err(failed(format!("apt-get could not install it; try: {command}")));
        }
    }
    match missing_names(tools).as_str() {
        "" => Ok(()),
        still => Err(Error::Missing {
            missing: still.to_owned(),
            remedy: format!(
                "The packages are installed but do not contain it; check the output of: {command}"
            ),
        }),
    }
}

fn missing(tools: &[&[Tool]]) -> Vec<Tool> {
    tools
        .iter()
        .flat_map(|group| group.iter())
        .filter(|tool| !tool.is_present())
        .copied()
        .collect()
}

fn missing_names(tools: &[&[Tool]]) -> String {
    missing(tools)
        .iter()
        .map(Tool::name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns each package once, in the order of first need.
fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for tool in tools {
        if !packages.contains(&tool.package) {
            packages.push(tool.package);
        }
    }
    packages
}

fn apt_get(verb: &[&str], packages: &[&str]) -> Result<bool, Error> {
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(verb)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| Error::Start {
            program: "apt-get".to_owned(),
            cause,
        })?;
    Ok(output.status.success())
}

/// Refuses a QEMU that is too old, and a program that only has its name.
pub fn check_qemu_version() -> Result<(), Error> {
    let output = Command::new(QEMU)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| Error::Start {
            program: QEMU.to_owned(),
            cause,
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    // The program may print anything, so the text is cut and escaped to fit on the message's line.
    let said: String = first.chars().flat_map(char::escape_debug).take(80).collect();
    let what = match version(first) {
        Some(version) if version >= OLDEST_QEMU => return Ok(()),
        Some(_) => format!("`{said}` is too old"),
        None => format!("it prints no version of QEMU, but `{said}`"),
    };
    Err(Error::Version {
        program: on_path(QEMU),
        what,
        needed: OLDEST_QEMU,
    })
}

/// Returns the path of a program that is started by its name.
fn on_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| is_executable(program))
        .unwrap_or_else(|| name.into())
}

/// Parses major and minor number of `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(line: &str) -> Option<(u32, u32)> {
    let number = line.split_once("version ")?.1;
    let mut parts = number.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"),
            Some((7, 2))
        );
        assert_eq!(version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version("QEMU emulator version seven"), None);
        assert_eq!(version(""), None);
        assert!(version("x version 10.0").unwrap() >= OLDEST_QEMU);
        assert!(version("x version 6.9").unwrap() < OLDEST_QEMU);
    }

    #[test]
    fn a_package_is_asked_for_once() {
        let tools = [
            program("no-such-a", "p"),
            program("no-such-b", "q"),
            program("no-such-c", "p"),
        ];
        assert_eq!(packages(&tools), ["p", "q"]);
        assert_eq!(missing(&[&tools]).len(), 3);
        assert!(missing(&[&[program("sh", "dash")]]).is_empty());
    }
}
