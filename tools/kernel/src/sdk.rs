//! The official Microkit SDK, if one is installed: finds it, checks its version, and runs its tool.
//!
//! On the other side: the folder that `MICROKIT_SDK` names, which its owner trusts like a kernel. No part of
//! an SDK is part of this repository. Only `--kernel sdk` looks for one.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Flavour};

/// The environment variable that names the SDK's folder.
pub const VARIABLE: &str = "MICROKIT_SDK";
/// The version that the runtime and the rules are written for. Any patch level works.
pub const VERSION: &str = "2.3";
/// Address of the download page.
const SOURCE: &str = "https://github.com/seL4/microkit/releases";

/// One board and configuration of an SDK. All files that are named here exist.
#[derive(Clone, Debug)]
pub struct Sdk {
    tool: PathBuf,
    /// The board's name in the SDK.
    board: String,
    /// Its configuration.
    flavour: Flavour,
    /// Folder of the board's configuration.
    folder: PathBuf,
}

impl Sdk {
    /// Finds the SDK that the environment names, for a board.
    ///
    /// # Errors
    /// The SDK is not usable. One line names the expected SDK, the found one, and the download page of the
    /// right one.
    pub fn find(board: &str, flavour: Flavour) -> Result<Sdk, Error> {
        Sdk::at(env::var_os(VARIABLE).as_deref(), board, flavour)
    }

    fn at(folder: Option<&OsStr>, board: &str, flavour: Flavour) -> Result<Sdk, Error> {
        let wrong = |found: String| Error::Sdk {
            found,
            version: VERSION,
            source_of_it: SOURCE,
        };
        let root = match folder.filter(|value| !value.is_empty()) {
            None => return Err(wrong(format!("{VARIABLE} is not set"))),
            Some(value) => PathBuf::from(value),
        };
        let version_file = root.join("VERSION");
        let version = fs::read_to_string(&version_file).map_err(|e| {
            wrong(format!(
                "{VARIABLE} has no readable {} ({e})",
                version_file.display()
            ))
        })?;
        let version = version.trim();
        if version != VERSION && !version.starts_with(&format!("{VERSION}.")) {
            return Err(wrong(format!("{} has version {version}", root.display())));
        }
        let sdk = Sdk {
            tool: root.join("bin/microkit"),
            board: board.to_owned(),
            flavour,
            folder: root.join("board").join(board).join(flavour.name()),
        };
        for needed in [sdk.tool.clone(), sdk.invocations(), sdk.kernel()] {
            if !needed.is_file() {
                return Err(wrong(format!("{} is missing", needed.display())));
            }
        }
        Ok(sdk)
    }

    /// Returns the path of the kernel's own list of invocation labels (JSON).
    pub fn invocations(&self) -> PathBuf {
        self.folder.join("invocations_all.json")
    }

    fn kernel(&self) -> PathBuf {
        self.folder.join("elf/sel4_32.elf")
    }

    /// Runs the SDK's tool on a system description. The tool writes the image and, beside it, the kernel as
    /// `sel4_32.elf`. Returns the tool's messages. They are empty on success without warnings.
    ///
    /// # Errors
    /// The tool refuses the system. The text is its output.
    pub fn image(&self, call: &ImageCall<'_>) -> Result<String, Error> {
        let mut command = Command::new(&self.tool);
        command.arg(call.description);
        for path in call.search {
            command.arg("--search-path").arg(path);
        }
        command.args(["--board", &self.board, "--config", self.flavour.name()]);
        command.arg("--output").arg(call.image);
        command.arg("--report").arg(call.report);
        command.arg("--capdl-json").arg(call.capdl);
        let result = command.output().map_err(|e| Error::file("run", &self.tool, e))?;
        let status = result.status;
        let output = String::from_utf8_lossy(&[result.stdout, result.stderr].concat())
            .trim()
            .to_owned();
        if status.success() {
            Ok(output)
        } else {
            Err(Error::SdkTool { status, output })
        }
    }
}

/// Files that the SDK's tool reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct ImageCall<'a> {
    pub description: &'a Path,
    /// Folders with programs and prefill files.
    pub search: &'a [PathBuf],
    /// Path of the image to write.
    pub image: &'a Path,
    /// Path of its report for people.
    pub report: &'a Path,
    /// Path of the list of all objects and capabilities of the system (JSON).
    pub capdl: &'a Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(folder: Option<&Path>) -> String {
        let error = Sdk::at(folder.map(Path::as_os_str), "x86_64_generic", Flavour::Debug).unwrap_err();
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("2.3") && text.contains(SOURCE), "{text}");
        text
    }

    #[test]
    fn says_what_it_looked_for() {
        assert!(refusal(None).starts_with("MICROKIT_SDK is not set"));
        assert!(refusal(Some(Path::new(""))).starts_with("MICROKIT_SDK is not set"));
        let folder = tempfile::tempdir().unwrap();
        assert!(refusal(Some(folder.path())).contains("VERSION"));
        for version in ["2.2.0", "2.30.0", "3.0.0", ""] {
            fs::write(folder.path().join("VERSION"), version).unwrap();
            assert!(refusal(Some(folder.path())).contains(&format!("has version {version}")));
        }
        fs::write(folder.path().join("VERSION"), "2.3.1\n").unwrap();
        assert!(refusal(Some(folder.path())).contains("bin/microkit is missing"));
    }

    /// Compares the facts recorded for the runtime with those of the SDK, if there is one.
    #[test]
    fn the_recorded_labels_are_the_sdk_s() {
        if env::var_os(VARIABLE).is_none() {
            return;
        }
        let recorded = include_str!("../../../runtime/sel4/labels.txt");
        for (column, flavour) in [(2, Flavour::Debug), (3, Flavour::Release)] {
            let sdk = Sdk::find("x86_64_generic", flavour).unwrap();
            let text = fs::read_to_string(sdk.invocations()).unwrap();
            let real: serde_json::Value = serde_json::from_str(&text).unwrap();
            for line in recorded.lines().filter(|line| !line.starts_with('#')) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let value: u64 = words[column].parse().unwrap();
                assert_eq!(real[words[1]].as_u64(), Some(value), "{} in {flavour}", words[1]);
            }
        }
    }
}
