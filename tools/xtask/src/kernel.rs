//! The kernel of an image: built here from a registry package, or taken from the official Microkit SDK.
//!
//! Owns the differences between the two on the way to an image: how programs are compiled, and which tool
//! builds the image. The system description and the programs' sources do not differ. On the other side: the
//! SDK, which is trusted.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use branes_kernel::sdk::Sdk;
use branes_kernel::{Flavour, Kernel};
use branes_qemu::board::BOARD;
use branes_qemu::host;
use clap::ValueEnum;

use crate::progress;
use crate::workspace::Workspace;

/// Variables for the build script of `runtime/sel4`.
const CHOICE: &str = "BRANES_SEL4";
const LABELS: &str = "BRANES_SEL4_LABELS";
const PRINTING: &str = "BRANES_SEL4_PRINTING";

/// The available kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// seL4 5.0.0, built here from a registry package
    #[default]
    Registry,
    /// seL4 16 (MCS) of the Microkit SDK that MICROKIT_SDK names
    Sdk,
}

impl Choice {
    /// Returns the name on the command line and in the environment of the image tests.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Registry => "registry",
            Choice::Sdk => "sdk",
        }
    }
}

/// A kernel and its configuration. They decide which image is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub kernel: Choice,
    /// Flavour of kernel and programs.
    pub flavour: Flavour,
    /// True if the machine has an IOMMU. The IOMMU then limits devices to the memory that the system
    /// description grants them.
    pub iommu: bool,
}

impl Target {
    /// Checks that the kernel can be used, before time is spent on building. The error names the obstacle.
    pub fn check(self) -> Result<()> {
        match self.kernel {
            Choice::Registry => Ok(()),
            Choice::Sdk => Ok(Sdk::find(BOARD.sdk, self.flavour).map(drop)?),
        }
    }

    /// Returns the name of the image that is built from a configuration for this target.
    pub fn name(self, config: &str) -> String {
        let iommu = if self.iommu { "-iommu" } else { "" };
        format!("{config}{iommu}-{}", self.flavour)
    }

    /// Returns the suffix of the folders with the files that are built for this kernel.
    pub fn suffix(self) -> &'static str {
        match self.kernel {
            Choice::Registry => "",
            Choice::Sdk => "-sdk",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flavour.name())?;
        if self.kernel == Choice::Sdk {
            f.write_str(" for the SDK's kernel")?;
        }
        if self.iommu {
            f.write_str(" with an IOMMU")?;
        }
        Ok(())
    }
}

/// A kernel that is built or found.
pub enum Ready {
    /// Built here.
    Registry(Box<Kernel>),
    /// Found in the file system.
    Sdk(Sdk),
}

impl Ready {
    /// Builds or finds the kernel, after a check of the necessary tools.
    pub fn prepare(workspace: &Workspace, target: Target) -> Result<Ready> {
        match target.kernel {
            Choice::Registry => {
                host::ensure(&[host::BUILD], &mut progress)?;
                progress(&format!("seL4 kernel, {}", target.flavour));
                Ok(Ready::Registry(Box::new(branes_kernel::build(
                    &workspace.root,
                    target.flavour,
                )?)))
            }
            Choice::Sdk => Ok(Ready::Sdk(Sdk::find(BOARD.sdk, target.flavour)?)),
        }
    }

    /// Returns the environment variables for the build of a program.
    pub fn environment(&self, flavour: Flavour) -> Vec<(&'static str, PathBuf)> {
        let mut environment = match self {
            Ready::Registry(_) => Vec::new(),
            Ready::Sdk(sdk) => vec![(CHOICE, "mcs".into()), (LABELS, sdk.invocations())],
        };
        if flavour == Flavour::Debug {
            environment.push((PRINTING, "1".into()));
        }
        environment
    }
}
