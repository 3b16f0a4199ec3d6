//! A guest under measurement: a machine in QEMU with the counting plugin, on a tap device in a network
//! namespace.
//!
//! Owns: the namespace's settings, QEMU, and the counters. On the other side: the guest, which is reached only
//! by its network.
//!
//! The contract of a guest: at [`MAIN`] it answers ICMP echo, UDP 7 (echo), TCP 7 (echo), TCP 9 (reads and
//! drops, and closes after the peer has closed), TCP 19 (sends without an end), and TCP 80 (HTTP/1.1 with
//! keep-alive, a page of 1024 bytes at `/`).

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::protocol::argument;
use anyhow::{Context, Result};
use branes_qemu::{Machine, Net, Qemu, Serial};
use tempfile::TempDir;

use crate::counters::Counters;
use crate::netns::{NetNs, TAP};
use crate::ping::Pinger;

/// Main address of the guest.
pub const MAIN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Addresses of the host on the tap device.
pub const HOST: [&str; 2] = ["10.77.0.1/24", "fd77::1/64"];
/// MAC address of the guest's network device, which has the main address.
const MAC: &str = "02:77:00:00:00:00";
/// RAM of the guest.
const MEMORY_MIB: u64 = 512;
/// Maximum time until a guest's first answer.
const BOOT: Duration = Duration::from_secs(120);
/// Pause between the boot of a guest and its measurement.
const REST: Duration = Duration::from_secs(2);
/// Maximum time that [`Guest::settle`] waits for a guest that continues to compute.
const SETTLE: Duration = Duration::from_secs(2);
/// Time without a change of the counter after which the guest counts as idle.
const QUIET: Duration = Duration::from_micros(40);

/// Options for booting a guest.
pub struct Boot<'a> {
    pub kernel: &'a Path,
    /// Image that belongs to the kernel, or the first file system.
    pub image: &'a Path,
    /// Command line of the kernel, if it accepts one.
    pub arguments: Option<&'a str>,
    pub plugin: &'a Path,
    /// Parameters of counting by domain, if it is wanted.
    pub by_domain: Option<ByDomain<'a>>,
}

/// Parameters of counting by domain.
#[derive(Clone, Copy)]
pub struct ByDomain<'a> {
    /// Offset in RAM of the variable in which the kernel keeps the value of CR3.
    pub root: u64,
    /// List of addresses in the form of [`crate::protocol::Line`].
    pub places: &'a str,
}

/// A booted guest. Dropping the value ends it.
pub struct Guest {
    // The order is that of dropping: QEMU uses the files.
    qemu: Qemu,
    counters: Counters,
    folder: TempDir,
    /// Folder of `/proc` that has QEMU's threads.
    threads: PathBuf,
    /// Time from the start of QEMU to the first answer.
    pub boot_time: Duration,
}

/// Creates the namespace for guests under measurement.
pub fn namespace() -> Result<NetNs> {
    let ns = NetNs::new(&HOST)?;
    ns.enter(|| -> Result<()> {
        // Short connections need many ports and must not wait for old ones. Each connection begins without
        // values from earlier ones.
        for (file, value) in [
            ("ip_local_port_range", "1024 65000"),
            ("tcp_tw_reuse", "1"),
            ("tcp_slow_start_after_idle", "0"),
            ("tcp_no_metrics_save", "1"),
        ] {
            let path = format!("/proc/sys/net/ipv4/{file}");
            fs::write(&path, value).with_context(|| format!("writing {path}"))?;
        }
        Ok(())
    })?;
    Ok(ns)
}

impl Guest {
    /// Boots a guest in the namespace of the calling thread and waits for its first answer to a ping.
    pub fn boot(boot: &Boot<'_>) -> Result<Guest> {
        let counters = Counters::new()?;
        let folder = tempfile::tempdir().context("making a folder for the guest's files")?;
        let mut machine = Machine::new(boot.kernel, boot.image);
        machine.memory_mib = MEMORY_MIB;
        machine.net = Net::Tap(TAP.to_owned());
        MAC.clone_into(&mut machine.mac);
        machine.console = Serial::Harness;
        machine.kernel_arguments = boot.arguments.map(str::to_owned);
        let mut plugin = boot.plugin.as_os_str().to_owned();
        let mut add = |name: &str, value: OsString| {
            plugin.push(format!(",{name}="));
            plugin.push(value);
        };
        add(argument::COUNTERS, counters.path().into());
        if let Some(by_domain) = &boot.by_domain {
            let memory = folder.path().join("ram");
            let places = folder.path().join("places");
            fs::write(&places, by_domain.places).context("writing the list of addresses")?;
            // QEMU creates the file only after it has started the plugin.
            let file = fs::File::create(&memory).context("making the file for RAM")?;
            file.set_len(MEMORY_MIB << 20)
                .context("making the file for RAM")?;
            add(argument::MEMORY, memory.clone().into());
            add(argument::ROOT, by_domain.root.to_string().into());
            add(argument::PLACES, places.into());
            machine.memory_file = Some(memory);
        }
        machine.plugin = Some(plugin);
        let start = Instant::now();
        let qemu = machine.start()?;
        let pinger = Pinger::new(MAIN.into()).context("opening a raw socket")?;
        let answer = pinger.until_answer(BOOT)?;
        let boot_time = start.elapsed();
        answer.with_context(|| format!("the guest does not answer:\n{}", qemu.log()))?;
        let threads = PathBuf::from(format!("/proc/{}/task", qemu.pid()));
        sleep(REST);
        Ok(Guest {
            qemu,
            counters,
            folder,
            threads,
            boot_time,
        })
    }

    pub fn address(&self) -> IpAddr {
        MAIN.into()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the path of the file that backs the guest's RAM. It exists if the guest was booted for counting
    /// by domain.
    pub fn memory(&self) -> PathBuf {
        self.folder.path().join("ram")
    }

    /// Returns the whole output of the guest's console.
    pub fn log(&self) -> String {
        self.qemu.log()
    }

    /// Waits until the guest waits for an interrupt. Returns the instructions that it has executed so far.
    ///
    /// All threads of QEMU must sleep, and the counter must not move for `QUIET`. A frame that was just sent
    /// wakes a thread of QEMU, which wakes the processor's thread before it sleeps again. So no frame is on its
    /// way then. A busy host can only delay that, because a thread that waits for a processor of the host does
    /// not sleep.
    pub fn settle(&self) -> Result<u64> {
        let end = Instant::now() + SETTLE;
        let (mut count, mut since) = (self.counters.total()?, Instant::now());
        loop {
            let asleep = self.sleeps()?;
            let now = self.counters.total()?;
            if now != count || !asleep {
                (count, since) = (now, Instant::now());
            }
            if since.elapsed() >= QUIET || Instant::now() >= end {
                return Ok(now);
            }
        }
    }

    /// Returns true if all threads of QEMU sleep.
    fn sleeps(&self) -> Result<bool> {
        for thread in fs::read_dir(&self.threads).context("asking for QEMU's threads")? {
            // A thread that has just ended has no file.
            let stat = fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
            // The name, in parentheses, may contain any character.
            if stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('S'))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
