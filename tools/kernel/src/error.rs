//! What can go wrong while the kernel is built, in words for the person who started the build.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cargo could not say where the sources are.
    #[error(
        "cargo cannot name the kernel's sources: {0}; check the network and run `cargo fetch --locked` in the workspace"
    )]
    Metadata(String),
    /// The dependency is not in the resolved graph.
    #[error(
        "the package {0} is not among the workspace's dependencies; tools/kernel/Cargo.toml must name it"
    )]
    NoPackage(&'static str),
    /// The package is resolved but its folder is missing.
    #[error("the kernel's sources are not at {}; run `cargo fetch --locked`", .0.display())]
    NoSource(PathBuf),
    /// The sources are not the ones that the build knows.
    #[error("{}: expected exactly one `{expected}`, found {found}; the kernel's sources are not seL4 5.0.0 as packaged", file.display())]
    UnexpectedSource {
        /// The file.
        file: PathBuf,
        /// The text that should be in it once.
        expected: &'static str,
        /// How often it is there.
        found: usize,
    },
    /// A tool cannot be started.
    #[error("cannot run {tool} ({cause}); on Debian: apt-get install {package}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// No Python has the three libraries that the kernel's generators use.
    #[error(
        "no python3 here can import six, ply and tempita; on Debian: apt-get install python3-six python3-ply python3-tempita"
    )]
    Python,
    /// A step of the build failed.
    #[error("{step} failed; the last lines it wrote (all of it: {}):\n{tail}", log.display())]
    Step {
        /// What was being done.
        step: &'static str,
        /// The end of its output.
        tail: String,
        /// Where the whole output is.
        log: PathBuf,
    },
    /// A generated header has a line that is not understood.
    #[error("the kernel's generated headers have `{0}`, which is not a list of constants as expected")]
    Header(String),
    /// The runtime calls the kernel by other numbers than this kernel has.
    #[error(
        "the kernel's label {name} is {kernel:?}, the runtime has {runtime}; set it in runtime/sel4/src/registry/label.rs"
    )]
    Label {
        /// Its name in the kernel's headers.
        name: &'static str,
        /// The runtime's number.
        runtime: u64,
        /// The kernel's number, if it has that label at all.
        kernel: Option<i64>,
    },
    /// There is no usable Microkit SDK.
    #[error(
        "{found}; --kernel sdk needs the Microkit SDK {version}.x: get it from {source_of_it}, unpack it, and set MICROKIT_SDK to its folder"
    )]
    Sdk {
        /// What was found instead.
        found: String,
        /// The version that is needed.
        version: &'static str,
        /// Where it can be had.
        source_of_it: &'static str,
    },
    /// The SDK's tool refused the system.
    #[error("the SDK's tool ended with {status}: {said}")]
    SdkTool {
        /// How it ended.
        status: std::process::ExitStatus,
        /// All that it wrote.
        said: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path, cause: io::Error) -> Error {
        Error::File {
            action,
            path: path.to_owned(),
            cause,
        }
    }
}
