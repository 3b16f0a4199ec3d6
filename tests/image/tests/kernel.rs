//! Requirements on the kernel, tested from inside the real system by the programs of `tests/pds`.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::{BRANES, PATIENCE, until};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Timer interrupts that the flood must receive.
const DEADLINES: u32 = 30_000;

/// The devices of the checker (`irq-checker.xml`).
const DEVICES: [&str; 2] = ["edu,addr=0x3.0", "edu,addr=0x4.0"];

/// Returns the number of sweeps over all interrupts that the checker has written to the second serial line.
fn sweeps(serial: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(serial).context("what the checker wrote")?;
    Ok(text.matches(" messages and a pin\n").count())
}

/// Waits until the checker has made this number of sweeps.
fn wait_for_sweeps(wanted: usize, serial: &Path, guest: &Guest) -> Result<()> {
    let enough = || {
        guest
            .untroubled()
            .with_context(|| std::fs::read_to_string(serial).unwrap_or_default())?;
        Ok((sweeps(serial)? >= wanted).then_some(()))
    };
    until(enough, || {
        format!("{wanted} sweeps of the checker:\n{}", guest.log())
    })
}

#[test]
fn messages_an_active_low_pin_and_a_thread_of_another_domain_work() -> Result<()> {
    let serial = NamedTempFile::new()?;
    let guest = Guest::boot(Boot {
        config: "signal-flood",
        release: true,
        devices: &DEVICES,
        third_serial: Some(serial.path()),
        ..Boot::default()
    })?;
    wait_for_sweeps(3, serial.path(), &guest)?;
    guest.untroubled()
}

#[test]
fn interrupts_that_come_while_the_kernel_runs_are_taken() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let serial = NamedTempFile::new()?;
    let mut guest = Guest::boot(Boot {
        config: "signal-flood",
        net: Net::Tap(&ns),
        release: true,
        devices: &DEVICES,
        third_serial: Some(serial.path()),
        ..Boot::default()
    })?;
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            Pinger::new(brane.v4.into())?
                .until_answer(PATIENCE)?
                .context("no answer")?;
        }
        // Each ping is an interrupt too, from a device that is not the timer.
        let start = Instant::now();
        let trains = BRANES
            .each_ref()
            .map(|brane| Train::start(brane.v4.into(), Duration::from_millis(5)));
        let deadlines = format!("signal-flood: {DEADLINES} deadlines");
        guest
            .wait_for(&deadlines, 5 * PATIENCE)
            .with_context(|| format!("the flood ended early:\n{}", guest.log()))?;
        eprintln!("{DEADLINES} deadlines in {:?}", start.elapsed());
        for (brane, train) in BRANES.iter().zip(trains) {
            train?.stop_unharmed(brane.name)?;
        }
        Ok(())
    })?;
    // Every vector must still lead to its handler.
    wait_for_sweeps(sweeps(serial.path())? + 2, serial.path(), &guest)?;
    guest.untroubled()
}

#[test]
fn a_page_fault_is_reported_with_its_whole_address() -> Result<()> {
    let mut guest = Guest::boot(Boot {
        config: "stray",
        release: true,
        ..Boot::default()
    })?;
    let fault = format!("write to unmapped {:#x} ", test_pds_core::stray::ADDRESS);
    guest
        .wait_for(&fault, PATIENCE)
        .with_context(|| format!("no report of the fault:\n{}", guest.log()))?;
    ensure!(
        !guest.log().contains("stray: could write there"),
        "the write succeeded"
    );
    Ok(())
}
