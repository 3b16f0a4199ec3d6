//! Errors of the kernel's build, in words for the person who started it.

use std::io;
use std::path::{Path, PathBuf};

/// Reason why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cargo could not name the folder of the sources.
    #[error(
        "cargo cannot name the kernel's sources: {0}; check the network and run `cargo fetch --locked` in the workspace"
    )]
    Metadata(String),
    /// The dependency is not in the resolved graph.
    #[error(
        "the package {0} is not among the workspace's dependencies; tools/kernel/Cargo.toml must name it"
    )]
    NoPackage(&'static str),
    /// The package is resolved, but its folder is missing.
    #[error("the kernel's sources are not at {}; run `cargo fetch --locked`", .0.display())]
    NoSource(PathBuf),
    /// The sources have unknown content.
    #[error("{}: expected exactly one `{expected}`, found {found}; these are not the kernel's sources of the packaged seL4 5.0.0", file.display())]
    UnexpectedSource {
        file: PathBuf,
        /// The text that must be in the file exactly once.
        expected: &'static str,
        /// The number of times that the text is there.
        found: usize,
    },
    /// A tool cannot be started.
    #[error("cannot run {tool} ({cause}); on Debian: apt-get install {package}")]
    Tool {
        tool: &'static str,
        /// The Debian package that contains it.
        package: &'static str,
        cause: io::Error,
    },
    /// No Python has the three libraries that the kernel's generators import.
    #[error(
        "no python3 here can import six, ply and tempita; on Debian: apt-get install python3-six python3-ply python3-tempita"
    )]
    Python,
    #[error("{step} failed; its last lines of output (full log: {}):\n{tail}", log.display())]
    Step {
        /// Description of the step.
        step: &'static str,
        /// The end of its output.
        tail: String,
        /// File with the whole output.
        log: PathBuf,
    },
    /// A line of a generated header cannot be parsed.
    #[error("the kernel's generated headers have `{0}`, which is no list of constants")]
    Header(String),
    /// The runtime has another number for a kernel label than this kernel.
    #[error(
        "the kernel's label {name} is {kernel:?}, but the runtime has {runtime}; correct it in runtime/sel4/src/registry/label.rs"
    )]
    Label {
        /// Name in the kernel's headers.
        name: &'static str,
        /// The runtime's number.
        runtime: u64,
        /// The kernel's number. `None` if the kernel has no such label.
        kernel: Option<i64>,
    },
    #[error(
        "{found}; --kernel sdk needs the Microkit SDK {version}.x: get it from {source_of_it}, unpack it, and set MICROKIT_SDK to its folder"
    )]
    Sdk {
        /// Description of the found version.
        found: String,
        version: &'static str,
        /// Address of its download page.
        source_of_it: &'static str,
    },
    #[error("the SDK's tool ended with {status}: {output}")]
    SdkTool {
        status: std::process::ExitStatus,
        /// Its whole output.
        output: String,
    },
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
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
