//! The NIC's accesses to memory: an IOMMU confines them to the driver's region. Without an IOMMU nothing
//! does.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Iommu, Net, has_iommu_images};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe;
use image_tests::wire::{HOST_MAC, Socket, Wire};
use image_tests::{BRANES, PATIENCE, SILENCE};
use std::net::{IpAddr, SocketAddr};

#[test]
fn behind_an_iommu_three_branes_serve() -> Result<()> {
    if !has_iommu_images("behind_an_iommu_three_branes_serve") {
        return Ok(());
    }
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        iommu: Some(Iommu::Holds),
        ..Boot::default()
    })?;
    guest.wait_for("features Features(", PATIENCE)?;
    let features = guest.wait_for(")", PATIENCE)?;
    ensure!(
        features.contains("ACCESS_PLATFORM"),
        "the device is not behind the IOMMU: {features}"
    );
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            for ip in [IpAddr::from(brane.v4), brane.v6.into()] {
                let every = || -> Result<()> {
                    Pinger::new(ip)?
                        .until_answer(PATIENCE)?
                        .context("no answer to pings")?;
                    probe::udp_echo(SocketAddr::new(ip, 7))?;
                    probe::tcp_echo(SocketAddr::new(ip, 7), 1_000_000)?;
                    probe::tcp_source(SocketAddr::new(ip, 19), 4 << 20)?;
                    probe::page(SocketAddr::new(ip, 80), &[brane.name])?;
                    Ok(())
                };
                every().with_context(|| format!("{} at {ip}", brane.name))?;
            }
        }
        Ok(())
    })?;
    ensure!(
        !guest.log().contains("page fault"),
        "the IOMMU refused an access:\n{}",
        guest.log()
    );
    guest.untroubled()
}

/// Boots the system whose NIC driver gives the device an address in the canary's memory. Sends frames that
/// the device writes there.
fn misdirected(boot: Boot) -> Result<(Guest, Wire)> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        config: "dma-escape",
        net: Net::Wire(socket.address()?),
        ..boot
    })?;
    let mut wire = socket.accept()?;
    guest.wait_for("canary: whole", PATIENCE)?;
    ensure!(
        guest.log().contains("dma-escape: the device writes to"),
        "the driver does not misdirect its device:\n{}",
        guest.log()
    );
    for _ in 0..3 {
        wire.send(&[&[0xff; 6][..], &HOST_MAC, &[0x88, 0xb5], &[0x5a; 50]].concat())?;
    }
    Ok((guest, wire))
}

/// Checks that console, manager and timer continue to work.
fn goes_on(guest: &mut Guest) -> Result<()> {
    for _ in 0..3 {
        let list = guest.command("list")?;
        for brane in &BRANES {
            ensure!(list.contains(brane.name), "{} is not listed:\n{list}", brane.name);
        }
        std::thread::sleep(SILENCE / 2);
    }
    guest.untroubled()
}

#[test]
fn a_device_that_is_misdirected_is_stopped_by_the_iommu() -> Result<()> {
    if !has_iommu_images("a_device_that_is_misdirected_is_stopped_by_the_iommu") {
        return Ok(());
    }
    let (mut guest, _wire) = misdirected(Boot {
        iommu: Some(Iommu::Holds),
        ..Boot::default()
    })?;
    guest
        .wait_for("IOMMU: DMA write page fault from 0x10 ", PATIENCE)
        .context("the kernel reported no fault")?;
    guest
        .wait_for("dma-escape: the device has stopped", PATIENCE)
        .context("the device continues")?;
    // The canary's memory must stay unchanged. The canary checks it twenty times a second, driven by the
    // timer.
    for _ in 0..2 {
        guest.wait_for("canary: whole", PATIENCE)?;
    }
    goes_on(&mut guest)?;
    ensure!(
        !guest.log().contains("canary: overwritten"),
        "the device wrote all the same:\n{}",
        guest.log()
    );
    Ok(())
}

#[test]
fn a_device_that_goes_past_the_iommu_overwrites_the_canary() -> Result<()> {
    if !has_iommu_images("a_device_that_goes_past_the_iommu_overwrites_the_canary") {
        return Ok(());
    }
    // The same image and machine, but the device's accesses are not translated.
    let (mut guest, _wire) = misdirected(Boot {
        iommu: Some(Iommu::Bypassed),
        ..Boot::default()
    })?;
    overwritten(&mut guest)
}

#[test]
fn without_an_iommu_a_device_that_is_misdirected_overwrites_the_canary() -> Result<()> {
    let (mut guest, _wire) = misdirected(Boot {
        release: true,
        ..Boot::default()
    })?;
    overwritten(&mut guest)
}

fn overwritten(guest: &mut Guest) -> Result<()> {
    guest
        .wait_for("canary: overwritten at byte 0", PATIENCE)
        .context("the device did not write where it was sent")?;
    ensure!(
        !guest.log().contains("dma-escape: the device has stopped"),
        "the device stopped:\n{}",
        guest.log()
    );
    goes_on(guest)
}
