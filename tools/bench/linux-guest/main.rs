//! The first program of the Linux guest for comparison: sets up the network and offers the services of the
//! branes' clients.
//!
//! Owns: everything in that guest above its kernel. On the other side: the host of the measurement, whose
//! requests are served in their order. A fault ends this program, and with it the guest. The kernel then prints
//! the reason on its console.
//!
//! The program uses the methods of fast servers on Linux. One process waits with epoll for all sockets,
//! receives and sends several datagrams with one system call, and turns off Nagle's algorithm.

mod serve;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

/// Commands of busybox that set up the network.
const NETWORK: &[&str] = &[
    "ip link set lo up",
    "ip addr add 10.77.0.2/24 dev eth0",
    "ip link set eth0 up",
    "ip -6 addr add fd77::2/64 dev eth0",
];
/// Settings of the kernel: addresses are usable at once, and the rate of ping replies is not limited.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/icmp_ratelimit", "0"),
];

fn main() -> Result<()> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {at}"))?;
    }
    load_modules().context("loading the modules")?;
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("writing {path}"))?;
    }
    for line in NETWORK {
        let status = Command::new("/bin/busybox").args(line.split(' ')).status();
        let status = status.with_context(|| format!("starting busybox {line}"))?;
        ensure!(status.success(), "busybox {line} failed ({status})");
    }
    serve::serve()
}

/// Loads the modules in the order of their names.
fn load_modules() -> Result<()> {
    let entries = fs::read_dir("/modules")?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let file = fs::File::open(&path)?;
        finit_module(&file, c"", ModuleInitFlags::empty()).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}
