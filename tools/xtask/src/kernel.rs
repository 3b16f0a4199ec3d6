//! Which kernel an image is for: the one that is built here from a registry package, or that of the official Microkit SDK.
//!
//! Owns the differences between the two on the way to an image: how programs are compiled, and who puts the image
//! together. The system description and the programs' sources are the same.

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

/// What `runtime/sel4` calls the kernels, and the variables by which it is told (its build script).
const CHOICE: &str = "BRANES_SEL4";
const LABELS: &str = "BRANES_SEL4_LABELS";
const PRINTING: &str = "BRANES_SEL4_PRINTING";

/// The kernels that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// seL4 5.0.0, built here from a registry package
    #[default]
    Registry,
    /// seL4 16 (MCS) of the Microkit SDK that MICROKIT_SDK names
    Sdk,
}

impl Choice {
    /// Its name on the command line and in the environment of the image tests.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Registry => "registry",
            Choice::Sdk => "sdk",
        }
    }
}

/// A kernel and how it is configured: what decides which image is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which kernel.
    pub kernel: Choice,
    /// The flavour of kernel and programs.
    pub flavour: Flavour,
    /// Whether the machine has an IOMMU, which then holds devices to what the system description gives them.
    pub iommu: bool,
}

impl Target {
    /// Says what would keep the kernel from being used, before time is spent on anything.
    pub fn check(self) -> Result<()> {
        match self.kernel {
            Choice::Registry => Ok(()),
            Choice::Sdk => Ok(Sdk::find(BOARD.sdk, self.flavour).map(drop)?),
        }
    }

    /// The name of what is built from a configuration for this machine and in this flavour.
    pub fn name(self, config: &str) -> String {
        let iommu = if self.iommu { "-iommu" } else { "" };
        format!("{config}{iommu}-{}", self.flavour)
    }

    /// The suffix of folders that hold what is built for this kernel.
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

/// A kernel that is there.
pub enum Ready {
    /// Built here.
    Registry(Box<Kernel>),
    /// Found.
    Sdk(Sdk),
}

impl Ready {
    /// Builds or finds it, after making sure of the tools that this needs.
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

    /// What the build of a program must be told.
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
