//! The command line: verbs, options, help texts with examples.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use anyhow::{Result, bail};
use branes_kernel::Flavour;

use crate::kernel::{Choice, Target};
use crate::mutants::Subject;

/// Builds, boots and tests Branes.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  \
        cargo xtask run                       boot it: console here, web pages at ports 8080 to 8082\n  \
        cargo xtask test                      run all tests\n  \
        cargo xtask image --release --out .   write sel4_32.elf and loader.img here\n\n\
        Missing host tools are installed with apt-get when you are root; otherwise the command to type is shown."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build the image and boot it in QEMU, with the console on this terminal
    ///
    /// The network is QEMU's user network: port 80 of brane N answers at 127.0.0.1, port 8080 + N. With --tap, it is your tap device.
    /// On a terminal, Ctrl-A x ends QEMU. Without a terminal, the console goes to standard output, and SIGTERM ends QEMU.
    #[command(after_help = "Examples:\n  \
        cargo xtask run\n  \
        cargo xtask run --release --port-base 9000     pages at 9000, 9001 and 9002\n  \
        cargo xtask run --config bench --memory 512M   17 branes\n  \
        cargo xtask run --kernel sdk                   with MICROKIT_SDK=/path/to/microkit-sdk-2.3.0 before it\n  \
        cargo xtask run --kernel sdk --iommu           likewise; the NIC reaches its driver's memory only\n  \
        cargo xtask run --config two-nics --control /tmp/two.sock   two NICs; branectl --socket /tmp/two.sock list\n  \
        cargo xtask run --uart-line                    the control line over COM2\n  \
        cargo xtask run --tap tap0                     after: ip tuntap add dev tap0 mode tap && ip link set dev tap0 up")]
    Run(RunOptions),
    /// Boot the image with QEMU's gdb stub and start gdb with the symbols of one protection domain
    ///
    /// The machine waits before its first instruction. All protection domains have their programs at the same address, so gdb gets commands
    /// that distinguish them: `pd-break FUNCTION` stops only this domain, `pd-break FUNCTION in NAME` another one, and `pd-current`
    /// names the running domain. With a FILE:LINE in place of FUNCTION it also finds inlined functions. Ctrl-C stops the guest; QEMU ends when gdb ends.
    #[command(after_help = "Examples:\n  \
        cargo xtask gdb red                   the brane red; then: pd-break net_server::Shell::work, continue\n  \
        cargo xtask gdb nic0                  the NIC's driver\n  \
        cargo xtask gdb                       the kernel alone\n  \
        cargo xtask gdb nic0 --print          boot with the console here, and print the command for another terminal\n  \
        cargo xtask gdb timer -- -batch -ex 'pd-break timer::init' -ex continue -ex bt")]
    Gdb(GdbOptions),
    /// Run all tests: on the host, in the ring model, and with the booted image
    #[command(after_help = "Examples:\n  \
        cargo xtask test\n  \
        cargo xtask test lifecycle      the image tests of tests/image/tests/lifecycle*.rs alone\n  \
        cargo xtask test security       likewise security*.rs: what a hostile domain or frame cannot do\n  \
        cargo xtask test dhcp crash     tests whose name has `dhcp` or `crash` in it\n  \
        cargo xtask test --figures lifecycle_figures   print the times of docs/performance.md; judges none of them\n  \
        cargo xtask test --full         also 30 s of each fuzz target (so does CI=true in the environment)")]
    Test(TestOptions),
    /// Check without running anything: formatting, clippy, documentation, the rules and paths of every system in configs.toml
    #[command(after_help = "Example:\n  cargo xtask check")]
    Check,
    /// Make the documentation of the public items, and fail on a warning
    #[command(
        after_help = "Example:\n  cargo xtask doc     then open target/doc/net_server_core/index.html, for example"
    )]
    Doc,
    /// Build the image and write sel4_32.elf and loader.img into a folder
    #[command(after_help = "Examples:\n  \
        cargo xtask image --out /tmp/branes\n  \
        cargo xtask image --config bench --release --out out\n\n\
        Boot it: qemu-system-x86_64 -machine q35 -cpu qemu64,+fsgsbase,+pdpe1gb,+xsave,+xsaveopt,+rdrand \\\n  \
        -m 512M -kernel sel4_32.elf -initrd loader.img -netdev ... -device virtio-net-pci,netdev=...,addr=0x2.0")]
    Image(ImageOptions),
    /// Make the files of a release with their checksums, or show that the images are reproducible
    ///
    /// Requires a heading with the version of Cargo.toml in CHANGELOG.md, and no uncommitted changes. Builds the default system in both
    /// flavours. With --check: builds the image here and from a copy of the sources in another folder, and compares byte by byte.
    #[command(after_help = "Examples:\n  \
        cargo xtask release --check            compare two builds of the release flavour\n  \
        cargo xtask release --check --debug    compare two builds of the debug flavour, which is faster\n  \
        cargo xtask release                    files in target/releases/vVERSION; prints the command for the tag")]
    Release(ReleaseOptions),
    /// Compare the image's capabilities with the description, and list every path between branes
    ///
    /// Builds the image, reads from it which domain holds which capability, right, badge and page, and compares that with
    /// system.xml. Then lists the domains, regions and channels by which one brane could reach another. Fails if such a path
    /// passes through no trusted domain. docs/audit.md explains the output and the form of --json.
    #[command(after_help = "Examples:\n  \
        cargo xtask audit\n  \
        cargo xtask audit --config bench               17 branes\n  \
        cargo xtask audit --kernel sdk --release       the image of the Microkit SDK's tool (MICROKIT_SDK names the SDK)\n  \
        cargo xtask audit --json | jq .violations")]
    Audit(AuditOptions),
    /// Test whether the host tests detect changes of single expressions (mutation testing)
    ///
    /// Takes a sample of the mutants that cargo-mutants makes of each crate, and runs the host tests of that crate for each one. A
    /// mutant survives if all tests pass with it: the tests would miss a defect there. Fails if more than 10 % of the mutants that
    /// compile survive, or if docs/mutants.md gives no reason for a survivor. The sample does not change between runs.
    /// Installs cargo-mutants if it is missing.
    #[command(after_help = "Examples:\n  \
        cargo xtask mutants                 the sample of all four crates\n  \
        cargo xtask mutants nic             the driver's switch alone\n  \
        cargo xtask mutants nic --again     only what survived the last time, while tests are written\n  \
        cargo xtask mutants --all           every mutant: hours")]
    Mutants(MutantsOptions),
    /// Measure the bench image from outside and compare with the committed figures (docs/bench)
    ///
    /// Boots the bench image in QEMU with a plugin that counts the guest's instructions, sends requests from a network namespace,
    /// and prints the cost of each with the committed figure beside it. Writes the figures to docs/bench. Instructions hardly vary;
    /// rates and times depend on the other work of the machine. Needs root for the namespace.
    #[command(after_help = "Examples:\n  \
        cargo xtask bench                          the table of docs/performance.md\n  \
        cargo xtask bench --guest linux            also Linux, made from Debian's packages\n  \
        cargo xtask bench --only udp-echo-64 --only tcp-in   these rows; writes nothing\n  \
        cargo xtask bench --profile                what each protection domain spends on an idle echo\n  \
        cargo xtask bench --quick                  the count that `cargo xtask test` compares with")]
    Bench(BenchOptions),
    /// Show the sizes of each program, the kernel and the image
    #[command(after_help = "Example:\n  cargo xtask sizes --release")]
    Sizes(BuildOptions),
}

/// The system to build.
#[derive(Debug, Args)]
pub struct BuildOptions {
    /// The system of configs.toml
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub config: String,
    /// Optimised programs and a kernel that prints nothing
    #[arg(long)]
    pub release: bool,
    /// The kernel to build it for
    #[arg(long, value_name = "KERNEL", value_enum, default_value_t)]
    pub kernel: Choice,
    /// Build for a machine with an IOMMU, which restricts the NIC to its driver's memory (only with --kernel sdk)
    #[arg(long)]
    pub iommu: bool,
}

impl BuildOptions {
    /// Returns the kernel, the flavour of kernel and programs, and the machine.
    pub fn target(&self) -> Result<Target> {
        if self.iommu && self.kernel == Choice::Registry {
            bail!("the registry kernel has no IOMMU support, so --iommu needs --kernel sdk");
        }
        Ok(Target {
            kernel: self.kernel,
            flavour: match self.release {
                true => Flavour::Release,
                false => Flavour::Debug,
            },
            iommu: self.iommu,
        })
    }
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// The system to build.
    #[command(flatten)]
    pub build: BuildOptions,
    /// Connect the NIC to this tap device instead of QEMU's user network
    #[arg(long, value_name = "IFNAME", conflicts_with = "port_base")]
    pub tap: Option<String>,
    /// The socket of the control line, for branectl [default: target/run/CONFIG/branectl.sock]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Connect the control line over COM2, to a machine without the virtio-console device; it is about a thousand times slower
    #[arg(long)]
    pub uart_line: bool,
    /// RAM of the machine, such as 512M or 1G [default: 256M, or more if the image needs it]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,
    /// First of the ports of 127.0.0.1 that lead to the branes' web pages
    #[arg(long, value_name = "N", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port_base: u16,
}

/// Options of `gdb`.
#[derive(Debug, Args)]
pub struct GdbOptions {
    /// The system to build.
    #[command(flatten)]
    pub build: BuildOptions,
    /// The protection domain, by its name in system.xml, or a brane by its own name
    #[arg(value_name = "PD")]
    pub pd: Option<String>,
    /// Do not start gdb: boot with the console here, and print the command that starts gdb
    #[arg(long)]
    pub print: bool,
    /// First of the ports of 127.0.0.1 that lead to the branes' web pages
    #[arg(long, value_name = "N", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port_base: u16,
    /// More arguments for gdb
    #[arg(last = true, value_name = "ARGUMENTS", conflicts_with = "print")]
    pub arguments: Vec<String>,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestOptions {
    /// Only tests whose name contains one of these. If each begins the name of a file of image tests: only the tests of these files
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Also run each fuzz target for 30 seconds
    #[arg(long)]
    pub full: bool,
    /// Only the image tests that print figures by the host's clock; no other run includes them
    #[arg(long)]
    pub figures: bool,
    /// The kernel for the tests that boot the image
    #[arg(long, value_name = "KERNEL", value_enum, default_value_t)]
    pub kernel: Choice,
}

/// Options of `release`.
#[derive(Debug, Args)]
pub struct ReleaseOptions {
    /// The folder to write to; it is created if it is missing [default: target/releases/vVERSION]
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    pub out: Option<PathBuf>,
    /// Write no release: build in two folders and compare
    #[arg(long)]
    pub check: bool,
    /// Build the debug flavour
    #[arg(long, requires = "check")]
    pub debug: bool,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditOptions {
    /// The system to build.
    #[command(flatten)]
    pub build: BuildOptions,
    /// Write the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Do not fail for a weakness that no description can remove: the SDK's tool lets each holder of an endpoint receive on it
    #[arg(long)]
    pub accept_sdk_rights: bool,
}

/// Options of `mutants`.
#[derive(Debug, Args)]
pub struct MutantsOptions {
    /// The crates to change [default: all four]
    #[arg(value_name = "CRATE", value_enum)]
    pub crates: Vec<Subject>,
    /// Test every mutant instead of a sample
    #[arg(long)]
    pub all: bool,
    /// Test only the survivors of the last run
    #[arg(long, conflicts_with = "all")]
    pub again: bool,
    /// Mutants in the sample of each crate
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["all", "again"])]
    pub count: u32,
    /// Mutants that are tested at once; each needs a copy of the compiled tests
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Also measure this guest, in the same sitting
    #[arg(long, value_name = "GUEST", value_enum)]
    pub guest: Option<OtherGuest>,
    /// Print the instructions, system calls and kernel entries of each protection domain for an idle echo
    #[arg(long, conflicts_with_all = ["guest", "only", "quick"])]
    pub profile: bool,
    /// Only the count that `cargo xtask test` compares with
    #[arg(long, conflicts_with_all = ["guest", "only"])]
    pub quick: bool,
    /// Only this row; can be repeated. Then no figures are written
    #[arg(long, value_name = "ROW")]
    pub only: Vec<String>,
    /// Boot each guest this often, by turns, and take the median of each figure
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub boots: u8,
    /// Factor on the durations of the measurements
    #[arg(long, value_name = "FACTOR", default_value_t = 0.3, value_parser = factor)]
    pub scale: f64,
    /// The kernel of the bench image
    #[arg(long, value_name = "KERNEL", value_enum, default_value_t)]
    pub kernel: Choice,
}

/// Guests to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OtherGuest {
    /// Linux, made from Debian's kernel and busybox packages, which apt-get downloads
    Linux,
}

/// Options of `image`.
#[derive(Debug, Args)]
pub struct ImageOptions {
    /// The system to build.
    #[command(flatten)]
    pub build: BuildOptions,
    /// The folder to write to; it is created if it is missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Returns the message for an invalid command line, in one line: the mistake, the word that was perhaps meant,
/// the usage, and the command that explains everything.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    // Without any verb the text is the help, which keeps its lines.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return text.trim_end().to_owned();
    }
    let mut line = String::new();
    let said = text.lines().map(str::trim);
    for part in said.filter(|part| !part.is_empty() && !part.starts_with("For more information")) {
        let between = match line.as_str() {
            "" => "",
            list if list.ends_with(':') => " ",
            _ => "; ",
        };
        line.push_str(between);
        line.push_str(&part.replace("Usage: ", "usage: "));
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        let command = Cli::command();
        let verbs: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        line.push_str(&format!("; the verbs are {}", verbs.join(", ")));
    }
    line.push_str("; all is explained by: cargo xtask help");
    line
}

/// Parses a factor on durations. Bounded, so that the measurement is neither empty nor endless.
fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (0.05..=10.0).contains(factor));
    factor.ok_or_else(|| "write a number from 0.05 to 10".to_owned())
}

/// Parses `512M`, `1G` or `512` into MiB.
fn memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "M" | "MB" | "MIB" => 1,
        "G" | "GB" | "GIB" => 1024,
        other => {
            return Err(format!(
                "the unit `{other}` is unknown; write M or G, such as 512M"
            ));
        }
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|mib| (1..=1 << 20).contains(mib))
        .ok_or_else(|| "write a size such as 256M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn factors() {
        assert_eq!(factor("0.3"), Ok(0.3));
        for text in ["", "0", "-1", "11", "NaN", "inf", "x"] {
            assert!(factor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_sizes() {
        for (text, mib) in [("256M", 256), ("512", 512), ("1G", 1024), ("2gib", 2048)] {
            assert_eq!(memory(text), Ok(mib));
        }
        for text in [
            "",
            "M",
            "0",
            "12K",
            "-1M",
            "1.5G",
            "99999999999999999999G",
            "18446744073709551615G",
        ] {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
