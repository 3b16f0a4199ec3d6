//! A network namespace of a test's own with a tap device. Dropping the value removes it.
//!
//! Needs root and Debian's iproute2. The namespace has no route to the outside.

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Name of the tap device in every namespace.
pub const TAP: &str = "tap0";

/// A namespace with `lo` and `tap0` up.
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes the namespace. Adds `addresses` (with prefix length, as in `10.0.2.2/24`) to its tap device.
    pub fn new(addresses: &[&str]) -> Result<NetNs> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this test makes a network namespace and needs root"
        );
        let name = format!(
            "branes-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name])?;
        let ns = NetNs { name };
        ns.ip(&["link", "set", "lo", "up"])?;
        ns.ip(&["tuntap", "add", "dev", TAP, "mode", "tap"])?;
        ns.enter(|| {
            // Makes addresses usable at once, and repeats requests to a booting guest soon.
            for (file, value) in [
                ("ipv6/conf/tap0/accept_dad", "0"),
                ("ipv6/conf/tap0/accept_ra", "0"),
                ("ipv6/conf/tap0/router_solicitations", "0"),
                ("ipv4/neigh/tap0/retrans_time_ms", "100"),
                ("ipv6/neigh/tap0/retrans_time_ms", "100"),
            ] {
                let _ = std::fs::write(format!("/proc/sys/net/{file}"), value);
            }
        });
        // A queue that does not overflow during a pause of the emulator at the highest rate of these tests.
        // So a lost frame is the guest's loss.
        ns.ip(&["link", "set", "dev", TAP, "txqueuelen", "8000", "up"])?;
        for address in addresses {
            match address.contains(':') {
                true => ns.ip(&["-6", "addr", "add", address, "dev", TAP, "nodad"])?,
                false => ns.ip(&["addr", "add", address, "dev", TAP])?,
            }
        }
        Ok(ns)
    }

    /// Runs `ip` inside the namespace.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(args);
        ip(&all)
    }

    /// Runs `f` on a thread inside the namespace. Its sockets and processes belong to the namespace.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace's file");
                setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                f()
            });
            match run.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let out = Command::new("ip")
        .args(args)
        .output()
        .context("running `ip` (Debian package iproute2)")?;
    ensure!(
        out.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}
