//! The workspace from cargo's point of view: folders, and which crate makes which program.
//!
//! On the other side: cargo, which is trusted.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// The crate with the tests that boot the image.
pub const IMAGE_TESTS: &str = "image-tests";

pub struct Workspace {
    /// Folder of the workspace.
    pub root: PathBuf,
    /// Target folder of cargo.
    pub target: PathBuf,
    metadata: Metadata,
}

impl Workspace {
    /// Returns the workspace that this program was built from.
    pub fn find() -> Result<Workspace> {
        // Cargo sets the variable for `cargo run`, so a moved checkout is found.
        let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        // From inside a member, cargo would return that member alone as the default.
        Workspace::at(ask(Path::new(&own))?.workspace_root.as_std_path())
    }

    /// Returns the workspace in this folder.
    pub fn at(root: &Path) -> Result<Workspace> {
        let metadata = ask(root)?;
        Ok(Workspace {
            root: metadata.workspace_root.clone().into_std_path_buf(),
            target: metadata.target_directory.clone().into_std_path_buf(),
            metadata,
        })
    }

    /// Returns the version of all crates.
    pub fn version(&self) -> Result<String> {
        let packages = self.metadata.workspace_packages();
        let own = packages
            .iter()
            .find(|package| package.name.as_str() == env!("CARGO_PKG_NAME"));
        Ok(own
            .context("the workspace has no crate of this program")?
            .version
            .to_string())
    }

    /// Returns a command for the cargo that started this program, in the workspace's folder.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.current_dir(&self.root);
        // `cargo run` sets these variables for this program. Build scripts of the inner cargo must not see
        // them.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// Returns the crate that has a binary of this name.
    pub fn crate_with_binary(&self, binary: &str) -> Result<&str> {
        let package = self.metadata.packages.iter().find(|package| {
            package
                .targets
                .iter()
                .any(|target| target.is_bin() && target.name == binary)
        });
        match package {
            Some(package) => Ok(package.name.as_str()),
            None => bail!(
                "no crate has a binary `{binary}`; system.xml and configs.toml can only name programs that exist"
            ),
        }
    }

    /// Returns the crates that only programs use: the runtime and the crates that depend on it, without the host's tools. With
    /// `libraries`, only crates with a library.
    pub fn runtime_crates(&self, libraries: bool) -> Vec<&str> {
        const RUNTIME: [&str; 2] = ["sel4", "sel4-microkit"];
        let packages = self.metadata.workspace_packages().into_iter();
        packages
            .filter(|p| {
                let needs = |name: &str| p.dependencies.iter().any(|d| d.name == name);
                RUNTIME.contains(&p.name.as_str()) || RUNTIME.iter().any(|name| needs(name))
            })
            .filter(|p| !p.manifest_path.starts_with(self.root.join("tools")))
            .filter(|p| !libraries || p.targets.iter().any(|target| target.is_lib()))
            .map(|p| p.name.as_str())
            .collect()
    }

    /// Returns the crates that run on the host, without the tests that boot the image. With `libraries`, only
    /// crates with a library.
    pub fn host_crates(&self, libraries: bool) -> Vec<&str> {
        self.metadata
            .workspace_default_packages()
            .into_iter()
            .filter(|package| !libraries || package.targets.iter().any(|target| target.is_lib()))
            .map(|package| package.name.as_str())
            .filter(|name| *name != IMAGE_TESTS)
            .collect()
    }
}

fn ask(folder: &Path) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command
        .current_dir(folder)
        .no_deps()
        .exec()
        .context("asking cargo for the workspace")
}

/// Writes a file, unless it has this content already. Cargo decides by the file's time whether to build again.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    replace(path, content)
}

/// Writes a file atomically: at every moment the old or the new content is there.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let file = staged(path, content)?;
    file.persist(path)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

/// Creates a file beside `path` with this content, readable by all users. The file vanishes unless it is
/// persisted.
pub fn staged(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".branes-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("writing into {}", folder.display()))?;
    file.write_all(content)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(file)
}

/// Runs a command whose output goes to the person. Errors name the command by `what`.
pub fn must_succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{what} failed ({status}); see above")
    }
}
