//! The machine's two NICs, each with its own driver domain, and operators on the control line.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::operator::{Answer, Request};
use branes_branectl::remote::Line;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{Socket, Wire};
use image_tests::{BRANES, PATIENCE, until};
use std::os::unix::net::UnixStream;
use std::time::Instant;

fn boot(first: Net, second: Option<Net>) -> Result<Guest> {
    Guest::boot(Boot {
        config: "two-nics",
        release: true,
        control: true,
        net: first,
        more_nets: second.as_slice(),
        ..Boot::default()
    })
}

/// Returns a counter of a NIC.
fn counter(line: &mut Line<UnixStream>, nic: &str, name: &str) -> Result<u64> {
    let Answer::Stats(groups) = line.call(&Request::Stats(Some(nic.to_owned())))? else {
        bail!("no counters of {nic}")
    };
    let counters = groups
        .iter()
        .filter(|group| group.name == nic)
        .flat_map(|group| &group.counters);
    let mut values = counters
        .filter(|counter| counter.name == name)
        .map(|counter| counter.value);
    values
        .next()
        .with_context(|| format!("{nic} has no counter {name}: {groups:?}"))
}

/// Sends `count` frames without a destination, each after the NIC has counted the previous one. Returns the
/// number of interrupts.
fn interrupts(line: &mut Line<UnixStream>, nic: &str, wire: &mut Wire, count: u64) -> Result<u64> {
    let (before, unclaimed) = (
        counter(line, nic, "interrupts")?,
        counter(line, nic, "rx_unclaimed")?,
    );
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&[0x02, 0x55, 0x55, 0x55, 0x55, 0x55]);
    frame[6..12].copy_from_slice(&[0x02, 0x66, 0x66, 0x66, 0x66, 0x66]);
    for n in 1..=count {
        wire.send(&frame)?;
        let seen = || Ok((counter(line, nic, "rx_unclaimed")? >= unclaimed + n).then_some(()));
        until(seen, || format!("{nic} counts {n} frames"))?;
    }
    Ok(counter(line, nic, "interrupts")? - before)
}

#[test]
fn each_nic_has_its_own_driver_and_interrupt() -> Result<()> {
    let (first, second) = (Socket::new()?, Socket::new()?);
    let guest = boot(Net::Wire(first.address()?), Some(Net::Wire(second.address()?)))?;
    let (mut first, mut second) = (first.accept()?, second.accept()?);
    let mut line = guest.control()?;
    // One NIC after the other: if they shared a pin, both drivers would be interrupted.
    let before = counter(&mut line, "nic0", "interrupts")?;
    let own = interrupts(&mut line, "nic1", &mut second, 20)?;
    ensure!(
        (20..=40).contains(&own),
        "{own} interrupts of nic1 for 20 frames\n{}",
        guest.log()
    );
    let other = counter(&mut line, "nic0", "interrupts")? - before;
    ensure!(other <= 5, "{other} interrupts of nic0 for frames of nic1");
    let own = interrupts(&mut line, "nic0", &mut first, 20)?;
    ensure!(
        (20..=40).contains(&own),
        "{own} interrupts of nic0 for 20 frames\n{}",
        guest.log()
    );
    guest.untroubled()
}

#[test]
fn a_machine_without_the_second_nic_boots_all_the_same() -> Result<()> {
    let mut guest = boot(Net::User, None)?;
    let mut line = guest.control()?;
    let started = || {
        let Answer::Branes(branes) = line.call(&Request::List { fresh: false })? else {
            bail!("no branes")
        };
        let started = branes.iter().filter(|brane| brane.state == "started");
        Ok((started.count() == BRANES.len()).then_some(()))
    };
    until(started, || format!("all branes are started:\n{}", guest.log()))?;
    guest.wait_for("[nic1]", PATIENCE)?;
    guest.untroubled()
}

#[test]
fn answers_are_whole_and_requests_follow_each_other() -> Result<()> {
    let guest = boot(Net::User, None)?;
    let mut line = guest.control()?;
    let start = Instant::now();
    let (mut bytes, mut calls) = (0, 0);
    while calls < 100 {
        let answer = line.call(&Request::Stats(None))?;
        bytes += minicbor::to_vec(&answer)?.len();
        calls += 1;
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e3;
    println!("{calls} answers of {} bytes: {rate:.0} kB/s", bytes / calls);
    ensure!(line.troubles() == (0, 0), "{:?}", line.troubles());
    guest.untroubled()
}
