//! The running image: boots it in QEMU on one of three kinds of network, and controls it by its console.

use crate::BRANES;
use crate::netns::{NetNs, TAP};
use crate::patience::{PATIENCE, POLL, until};
use anyhow::{Context, Result, ensure};
use branes_branectl::remote::{Line, Patience};
use branes_image::backtrace::Annotator;
use branes_qemu::{Clock, Filter, Forward, Machine, Protocol, Qemu, Serial};
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The console's prompt.
pub const PROMPT: &str = "branes> ";
/// File name of the control line's socket.
const CONTROL: &str = "control.sock";
/// File name of the socket of COM2, if the machine has both lines.
const UART: &str = "uart.sock";
/// The tap device of a second NIC in a namespace.
pub const SECOND_TAP: &str = "tap1";

/// The peer of the guest's NIC.
#[derive(Clone, Copy)]
pub enum Net<'a> {
    /// QEMU's user network with forwarded ports.
    User,
    /// The tap device of a namespace.
    Tap(&'a NetNs),
    /// A wire of [`crate::wire`].
    Wire(SocketAddr),
}

/// Options for booting an image.
#[derive(Clone, Copy)]
pub struct Boot<'a> {
    /// Name of the configuration in `configs.toml`.
    pub config: &'a str,
    /// True for the release flavour.
    pub release: bool,
    pub net: Net<'a>,
    pub memory_mib: u64,
    /// Additional devices, each in the syntax of QEMU's option `-device`.
    pub devices: &'a [&'a str],
    /// File that receives the output of the third serial line.
    pub third_serial: Option<&'a Path>,
    /// Connects the control line, over the virtio-console device: [`Guest::control`].
    pub control: bool,
    /// Connects the control line over COM2. Without [`Self::control`], the machine has no virtio-console device; with it, it has both
    /// lines, and [`Guest::uart_stream`] opens this one.
    pub uart_line: bool,
    /// Networks of the further NICs, beginning with that of nic1.
    pub more_nets: &'a [Net<'a>],
    /// Boots the image for a machine with an IOMMU, on such a machine. Requires [`has_iommu_images`].
    pub iommu: Option<Iommu>,
    /// Additional properties of the network devices, such as `csum=off`.
    pub nic_options: &'a [&'a str],
    /// Source of the guest's clocks. With [`Clock::Instructions`] a busy host does not stretch the guest's
    /// durations.
    pub clock: Clock,
}

/// State of a machine's IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// The IOMMU translates the NIC's accesses.
    Holds,
    /// The IOMMU exists, but the NIC bypasses it, as on a machine without one.
    Bypassed,
}

/// Returns true if the images under test are for a kernel that can use an IOMMU. Otherwise prints that `test`
/// is skipped.
pub fn has_iommu_images(test: &str) -> bool {
    if !on_sdk() {
        // Written directly, because the test runner hides the macros' output if the test succeeds.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: the registry kernel has no IOMMU support; run `cargo xtask test --kernel sdk`"
        );
    }
    on_sdk()
}

impl Default for Boot<'_> {
    fn default() -> Self {
        Boot {
            config: "default",
            release: false,
            net: Net::User,
            memory_mib: 256,
            devices: &[],
            third_serial: None,
            control: false,
            uart_line: false,
            more_nets: &[],
            iommu: None,
            nic_options: &[],
            clock: Clock::Host,
        }
    }
}

/// Forwarded ports of one brane on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: SocketAddr,
    pub tcp_echo: SocketAddr,
    pub udp_echo: SocketAddr,
}

/// A booted image. Dropping the value ends it.
pub struct Guest {
    qemu: Qemu,
    ports: Vec<Ports>,
    control: Option<TempDir>,
}

/// Returns true if the images are for the Microkit SDK's kernel (`cargo xtask test --kernel sdk`).
pub fn on_sdk() -> bool {
    std::env::var_os("BRANES_KERNEL").is_some_and(|kernel| kernel == "sdk")
}

/// Returns the path of a program that `cargo xtask test` has built.
///
/// # Errors
/// The program does not exist.
pub fn tool(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("BRANES_TOOLS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug").into());
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "no {}: run the tests by `cargo xtask test`",
        path.display()
    );
    Ok(path)
}

/// Returns the folder of an image that `cargo xtask test` has built.
pub fn image_folder(config: &str, release: bool, iommu: bool) -> PathBuf {
    let images = std::env::var_os("BRANES_IMAGES").map(PathBuf::from);
    let images = images.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/images").into());
    let iommu = if iommu { "-iommu" } else { "" };
    images.join(format!(
        "{config}{iommu}-{}",
        if release { "release" } else { "debug" }
    ))
}

/// Returns the bytes of an image file.
pub fn image_size(config: &str, release: bool) -> Result<u64> {
    let path = image_folder(config, release, false).join("loader.img");
    Ok(std::fs::metadata(&path)
        .with_context(|| format!("{}: build it by cargo xtask test", path.display()))?
        .len())
}

/// Returns a loopback port that is free at the moment.
fn free_port() -> Result<SocketAddrV4> {
    let SocketAddr::V4(address) = TcpListener::bind("127.0.0.1:0")?.local_addr()? else {
        unreachable!("asked for IPv4")
    };
    Ok(address)
}

impl Guest {
    /// Starts QEMU with the image.
    pub fn boot(boot: Boot) -> Result<Guest> {
        let folder = image_folder(boot.config, boot.release, boot.iommu.is_some());
        ensure!(
            folder.is_dir(),
            "no image in {}: run the tests by `cargo xtask test`",
            folder.display()
        );
        let mut machine = Machine::new(folder.join("sel4_32.elf"), folder.join("loader.img"));
        machine.memory_mib = boot.memory_mib;
        machine.devices = boot.devices.iter().map(|device| (*device).to_owned()).collect();
        machine.third_serial = boot.third_serial.map(|path| Serial::File(path.to_owned()));
        let control = (boot.control || boot.uart_line)
            .then(tempfile::tempdir)
            .transpose()?;
        if let Some(folder) = &control {
            let socket = |name: &str| Some(Serial::Unix(folder.path().join(name)));
            match (boot.control, boot.uart_line) {
                (true, false) => machine.line = socket(CONTROL),
                (false, _) => machine.second_serial = socket(CONTROL),
                (true, true) => {
                    machine.line = socket(CONTROL);
                    machine.second_serial = socket(UART);
                }
            }
        }
        let further = boot.more_nets.iter().map(|net| match net {
            Net::Tap(_) => branes_qemu::Net::Tap(SECOND_TAP.to_owned()),
            Net::Wire(address) => branes_qemu::Net::Stream(*address),
            Net::User => branes_qemu::Net::user(Vec::new()),
        });
        machine.more_nets = further.collect();
        machine.nic_options = boot
            .nic_options
            .iter()
            .map(|option| (*option).to_owned())
            .collect();
        machine.iommu = boot.iommu.is_some();
        machine.clock = boot.clock;
        if boot.iommu == Some(Iommu::Bypassed) {
            machine.nic_options.push("iommu_platform=off".to_owned());
        }
        let mut ports = Vec::new();
        let mut forwards = Vec::new();
        machine.net = match boot.net {
            Net::Tap(_) => branes_qemu::Net::Tap(TAP.to_owned()),
            Net::Wire(address) => branes_qemu::Net::Stream(address),
            Net::User => {
                for brane in &BRANES {
                    let mut forward = |protocol, port| -> Result<SocketAddr> {
                        let host = free_port()?;
                        forwards.push(Forward {
                            protocol,
                            host,
                            guest: SocketAddrV4::new(brane.v4, port),
                        });
                        Ok(SocketAddr::V4(host))
                    };
                    ports.push(Ports {
                        http: forward(Protocol::Tcp, 80)?,
                        tcp_echo: forward(Protocol::Tcp, 7)?,
                        udp_echo: forward(Protocol::Udp, 7)?,
                    });
                }
                branes_qemu::Net::user(forwards)
            }
        };
        // Adds functions, files and lines to fault reports, if the image has a description of its system.
        let filter = Annotator::for_image(&folder).ok().map(|mut annotator| {
            let filter: Filter = Box::new(move |bytes| annotator.annotate(bytes));
            filter
        });
        let qemu = match boot.net {
            Net::Tap(ns) => ns.enter(|| machine.start_through(filter)),
            Net::User | Net::Wire(_) => machine.start_through(filter),
        }?;
        Ok(Guest { qemu, ports, control })
    }

    /// Returns the path of the control line's socket, for a program that opens it.
    pub fn control_path(&self) -> Result<PathBuf> {
        let folder = self.control.as_ref().context("booted without a control line")?;
        Ok(folder.path().join(CONTROL))
    }

    /// Opens the control line as a byte stream. Only one client at a time can have it.
    pub fn control_stream(&self) -> Result<UnixStream> {
        connect(&self.control_path()?)
    }

    /// Opens COM2 as a byte stream, on a machine with both lines.
    pub fn uart_stream(&self) -> Result<UnixStream> {
        let folder = self.control.as_ref().context("booted without a control line")?;
        connect(&folder.path().join(UART))
    }

    /// Opens a new session on the control line, as `branectl` does.
    pub fn control(&self) -> Result<Line<UnixStream>> {
        let patience = Patience {
            hello: PATIENCE,
            ..Patience::default()
        };
        let path = self.control_path()?;
        Line::open_with(patience, || {
            connect(&path).map_err(|e| io::Error::other(format!("{e:#}")).into())
        })
        .with_context(|| format!("opening the control line:\n{}", self.log()))
    }

    /// Returns the loopback addresses that are forwarded to brane `i`.
    pub fn forwarded(&self, i: usize) -> Ports {
        self.ports[i]
    }

    /// Returns the console's output so far.
    pub fn log(&self) -> String {
        self.qemu.log()
    }

    /// Waits until the console shows a text after the end of the previous match.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        Ok(self.qemu.wait_for(text, limit)?)
    }

    /// Sends a command and returns the console's output up to its next prompt.
    pub fn command(&mut self, line: &str) -> Result<String> {
        if !self.qemu.log().contains(PROMPT) {
            self.qemu
                .wait_for(PROMPT, PATIENCE)
                .context("waiting for the console's first prompt")?;
        }
        // Skips earlier prompts, so that none of them is mistaken for the prompt after the output, even if
        // the echo is late.
        self.qemu.skip_shown();
        self.qemu.send_line(line)?;
        // Log lines of other domains can interrupt the echo. The returned text then begins earlier, with the
        // typed command.
        let _ = self.qemu.wait_for(line, Duration::from_secs(2));
        let shown = self
            .qemu
            .wait_for(PROMPT, PATIENCE)
            .with_context(|| format!("waiting for the end of `{line}`"))?;
        Ok(shown.trim_end_matches(PROMPT).replace('\r', ""))
    }

    /// Sends a line without waiting.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        Ok(self.qemu.send_line(line)?)
    }

    /// Sends bytes to the console.
    pub fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.qemu.send(bytes)?)
    }

    /// Waits until the manager reports all branes as started, and the client of each has a socket at the echo
    /// service's port.
    pub fn wait_until_serving(&mut self) -> Result<()> {
        let mut list = String::new();
        let started = || {
            list = self.command("list")?;
            let started = list.lines().filter(|l| l.contains("started")).count();
            Ok((started >= BRANES.len()).then_some(()))
        };
        until(started, || "all branes are started".to_owned())
            .with_context(|| format!("{list}\n{}", self.log()))?;
        for brane in &BRANES {
            let serving = || {
                let sockets = self.command(&format!("in {} netstat", brane.name))?;
                Ok(sockets.contains(":7 ").then_some(()))
            };
            until(serving, || format!("{} has its sockets", brane.name))?;
        }
        Ok(())
    }

    /// Returns how often the manager has restarted a brane: the word after `restarts` in `show NAME`.
    pub fn restarts(&mut self, brane: &str) -> Result<u64> {
        let shown = self.command(&format!("show {brane}"))?;
        value(&shown, "restarts").with_context(|| format!("no restarts in `show {brane}`:\n{shown}"))
    }

    /// Returns a counter from `stats` in a group (`nic0`, a device). Returns 0 if the group has no such
    /// counter.
    pub fn counter(&mut self, group: &str, name: &str) -> Result<u64> {
        let stats = self.command("stats")?;
        let (mut known, mut inside) = (false, false);
        for line in stats.lines() {
            if !line.starts_with(' ') {
                inside = line
                    .split_whitespace()
                    .any(|word| word.trim_matches(':') == group);
                known |= inside;
            }
            if inside && let Some(found) = value(line, name) {
                return Ok(found);
            }
        }
        ensure!(known, "no group {group} in:\n{stats}");
        Ok(0)
    }

    /// Returns the processor time of the emulator's processor thread on the host. It excludes the time of
    /// other processes.
    pub fn processor_time(&self) -> Result<Duration> {
        Ok(self.processor_times()?.0)
    }

    /// Returns two times: the run time of the emulator's processor thread, and its wait for a processor of the
    /// host (`/proc/PID/task/TID/schedstat`, Linux's `sched-stats.rst`).
    pub fn processor_times(&self) -> Result<(Duration, Duration)> {
        let thread = branes_bench::counters::processor_thread(self.qemu.pid())?;
        let text = fs::read_to_string(thread.join("schedstat"))?;
        let mut times = text.split_whitespace().map(str::parse);
        let mut next = || times.next().context("schedstat is too short");
        Ok((Duration::from_nanos(next()??), Duration::from_nanos(next()??)))
    }

    /// Fails if any domain of the image has faulted or was restarted so far.
    pub fn untroubled(&self) -> Result<()> {
        let log = self.log();
        ensure!(
            ![" failed: ", " hangs: ", "monitor: "]
                .iter()
                .any(|bad| log.contains(bad)),
            "something failed:\n{log}"
        );
        Ok(())
    }

    /// Returns a counter that a brane reports.
    pub fn brane_counter(&mut self, brane: &str, name: &str) -> Result<u64> {
        self.counter(brane, name)
    }
}

/// Connects to a socket that QEMU makes while it starts.
fn connect(path: &Path) -> Result<UnixStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Err(_) if Instant::now() < end => std::thread::sleep(POLL),
            done => return done.with_context(|| format!("connecting to {}", path.display())),
        }
    }
}

/// Returns the number that follows `name` in a text.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(name)?;
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        rest.starts_with(char::is_whitespace)
            .then(|| rest.split_whitespace().next()?.parse().ok())?
    })
}
