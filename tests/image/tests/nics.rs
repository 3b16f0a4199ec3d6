//! The second NIC's driver domain on machines with and without that device.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::Socket;
use image_tests::{BRANES, PATIENCE};

const CONFIG: &str = "two-nics";

/// Returns how often the log has this text about nic1's device.
fn said(guest: &Guest, what: &str) -> usize {
    guest.log().lines().filter(|line| line.contains(what)).count()
}

#[test]
fn each_driver_has_its_own_device() -> Result<()> {
    let (first, second) = (Socket::new()?, Socket::new()?);
    let mut guest = Guest::boot(Boot {
        config: CONFIG,
        net: Net::Wire(first.address()?),
        more_nets: &[Net::Wire(second.address()?)],
        release: true,
        ..Boot::default()
    })?;
    let mut wire = first.accept()?;
    let _second = second.accept()?;
    let main = &BRANES[0];
    let mac = wire.resolve(main.v4, PATIENCE)?;
    ensure!(wire.ping(mac, main.v4, 1, PATIENCE)?, "main does not answer");
    let started = said(&guest, "virtio-net 02:77:01:00:00:00, link up");
    ensure!(
        started == 1,
        "nic1's driver has not started its device:\n{}",
        guest.log()
    );
    guest.wait_until_serving()?;
    guest.untroubled()
}

#[test]
fn a_machine_without_the_second_device_is_no_failure() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        config: CONFIG,
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    for brane in &BRANES {
        let mac = wire
            .resolve(brane.v4, PATIENCE)
            .with_context(|| format!("{}:\n{}", brane.name, guest.log()))?;
        ensure!(
            wire.ping(mac, brane.v4, 1, PATIENCE)?,
            "{} does not answer",
            brane.name
        );
    }
    guest.wait_until_serving()?;
    let absent = said(&guest, "nic1: there is no device at PCI");
    ensure!(
        absent == 1,
        "said {absent} times that there is no device:\n{}",
        guest.log()
    );
    ensure!(said(&guest, "panic") == 0, "a panic:\n{}", guest.log());
    guest.untroubled()
}
