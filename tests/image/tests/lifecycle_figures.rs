//! The cost of a brane's lifecycle: guest instructions for creating, deleting and recovering a brane, each
//! with its bound.
//!
//! The guest's clock follows its instructions. So a duration that the manager measures counts instructions
//! and the time in which the whole guest was idle. The load of the host does not change it.
//! `figures_of_a_life` prints durations of the host's clock and checks nothing: `cargo xtask test --figures
//! lifecycle_figures`. `docs/performance.md` has the measured figures.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::operator::{Addressing, Answer, Audit, Brane, DeviceConfig, Free, Outcome, Receipt, Request};
use brane_abi::query::{Answer as Inside, Query};
use branes_branectl::remote::Line;
use branes_qemu::Clock;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::{BRANES, PATIENCE, until};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

type Control = Line<UnixStream>;

/// Number of times that a brane is created and deleted in a row.
const LIVES: usize = 40;
/// Limit of the median in thousands of instructions.
const CREATE_LIMIT: u64 = 3_000;
const DELETE_LIMIT: u64 = 5_000;
/// Number of crashes, and the limit of the 99th percentile in thousands of instructions.
const CRASHES: usize = 1_000;
const RECOVERY_LIMIT: u64 = 10_000;
/// Minimum time between two crashes of one brane. A brane that worked for so long is restarted at once.
const CRASH_GAP: Duration = Duration::from_millis(300);
/// Time in which the operator sends no request.
const CRASH_QUIET: Duration = Duration::from_millis(60);
const STEPS: usize = 10_000;
/// Number of steps before the first comparison of free resources. The manager's tables have reached their full
/// size then.
const WARM_UP: usize = 500;

fn boot(clock: Clock, ns: &NetNs) -> Result<(Guest, Control)> {
    let mut guest = Guest::boot(Boot {
        clock,
        release: true,
        net: Net::Tap(ns),
        control: true,
        ..Boot::default()
    })?;
    guest.wait_until_serving()?;
    let control = guest.control()?;
    Ok((guest, control))
}

fn batch(control: &mut Control, requests: Vec<Request>) -> Result<Vec<Outcome>> {
    match control.call(&Request::batch(&requests))? {
        Answer::Batch(parts) => Ok(parts),
        other => bail!("the answer is for another request: {other:?}"),
    }
}

fn audit(control: &mut Control) -> Result<Audit> {
    match control.call(&Request::Audit)? {
        Answer::Audit(audit) => Ok(audit),
        other => bail!("the answer is for another request: {other:?}"),
    }
}

fn vnic(name: &str) -> Request {
    Request::AddDevice(DeviceConfig {
        name: name.into(),
        ..DeviceConfig::default()
    })
}

fn create(name: &str) -> Request {
    Request::Create {
        name: name.into(),
        families: None,
        start: true,
        memory: None,
    }
}

fn delete(name: &str) -> Request {
    Request::Delete {
        name: name.into(),
        deadline_ms: 0,
    }
}

fn assign(device: &str, brane: &str, last: u8) -> Request {
    let ip: IpAddr = Ipv4Addr::new(10, 0, 2, last).into();
    Request::Assign {
        device: device.into(),
        brane: brane.into(),
        interface: None,
        addressing: Some(Addressing {
            addresses: vec![brane_abi::net::Cidr { ip, prefix: 24 }],
            ..Addressing::default()
        }),
    }
}

fn percentile(times: &mut [u64], part: f64) -> u64 {
    times.sort_unstable();
    let at = (times.len() as f64 * part).ceil() as usize;
    times[at.clamp(1, times.len()) - 1]
}

/// Creates green, pings from it and deletes it. Returns the microseconds to the first reply, and to the
/// initial state.
fn one_life(control: &mut Control, guest: &Guest, start: &Free) -> Result<(u64, u64)> {
    let ping = Request::Query {
        brane: "green".into(),
        query: Query::Ping {
            to: BRANES[0].v4.into(),
            sequence: 0,
            size: 56,
            timeout_ms: 2_000,
        },
    };
    let parts = batch(
        control,
        vec![vnic("vif9"), create("green"), assign("vif9", "green", 40), ping],
    )?;
    let last = parts.last().context("an empty batch")?;
    ensure!(
        matches!(last.answer, Some(Answer::Query(Inside::Echo { .. }))),
        "no reply: {parts:?}\n{}",
        guest.log()
    );
    let created = last.at_us;
    let Answer::Receipt(receipt) = control.call(&delete("green"))? else {
        bail!("no receipt")
    };
    ensure!(receipt.released == ["vif9"], "{receipt:?}");
    let Answer::Receipt(Receipt { after, .. }) = control.call(&Request::DeleteDevice("vif9".into()))? else {
        bail!("no receipt")
    };
    ensure!(
        Free { bytes: 0, ..after } == Free { bytes: 0, ..*start },
        "not everything is free again: {after:?}, at the start {start:?}"
    );
    Ok((created, receipt.took_us))
}

/// Creates and deletes green repeatedly: with an address, up to the first ping reply, until all resources are
/// free again. Prints and returns the medians of both, in microseconds of the guest.
fn lives(clock: Clock) -> Result<(u64, u64)> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let (guest, mut control) = boot(clock, &ns)?;
    let start = audit(&mut control)?.free;
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for _ in 0..LIVES {
        let (at, took) = one_life(&mut control, &guest, &start)?;
        created.push(at);
        deleted.push(took);
    }
    guest.untroubled()?;
    let medians = (percentile(&mut created, 0.5), percentile(&mut deleted, 0.5));
    println!(
        "of {LIVES}, in microseconds of the guest: create + interface + address + started to first ping reply: median {}, \
         least {}, most {}; delete until free: median {}, least {}, most {}",
        medians.0,
        created[0],
        created[LIVES - 1],
        medians.1,
        deleted[0],
        deleted[LIVES - 1]
    );
    Ok(medians)
}

#[test]
fn instructions_to_create_and_to_delete_a_brane_stay_below_their_bounds() -> Result<()> {
    let (create, delete) = lives(Clock::Instructions)?;
    ensure!(
        create <= CREATE_LIMIT,
        "creating took {create} thousand instructions"
    );
    ensure!(
        delete <= DELETE_LIMIT,
        "deleting took {delete} thousand instructions"
    );
    Ok(())
}

#[test]
#[ignore = "a figure: it judges nothing"]
fn figures_of_a_life() -> Result<()> {
    lives(Clock::Host).map(drop)
}

fn show(control: &mut Control, name: &str) -> Result<Brane> {
    match control.call(&Request::Show(name.into()))? {
        Answer::Brane(brane) => Ok(brane),
        other => bail!("the answer is for another request: {other:?}"),
    }
}

/// Crashes five branes in turn, while the sixth must not lose a packet. Prints the durations of the recoveries.
/// Returns the 99th percentile in microseconds of the guest.
fn crashes(clock: Clock) -> Result<u64> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let (guest, mut control) = boot(clock, &ns)?;
    let mut names = vec!["red".to_string(), "blue".to_string()];
    for (i, name) in ["green", "gold", "grey"].into_iter().enumerate() {
        let vif = format!("vif{i}");
        batch(
            &mut control,
            vec![vnic(&vif), create(name), assign(&vif, name, 40 + i as u8)],
        )?;
        names.push(name.into());
    }
    ns.enter(|| {
        Pinger::new(BRANES[0].v4.into())?
            .until_answer(PATIENCE)?
            .context("main does not answer")?;
        let train = Train::start(BRANES[0].v4.into(), Duration::from_millis(20))?;
        let mut times = Vec::new();
        let mut last = vec![Instant::now(); names.len()];
        for n in 0..CRASHES {
            let at = n % names.len();
            let name = &names[at];
            std::thread::sleep(CRASH_GAP.saturating_sub(last[at].elapsed()));
            control
                .call(&Request::Crash(name.clone()))
                .with_context(|| format!("crash {n}:\n{}", guest.log()))?;
            let restarts = (n / names.len() + 1) as u32;
            let again = || {
                // Each answer is written byte by byte at a higher priority than all branes. It must not be
                // part of the measurement.
                std::thread::sleep(CRASH_QUIET);
                let brane = show(&mut control, name)?;
                Ok((brane.restarts == restarts && brane.state == "started").then_some(brane))
            };
            let brane = until(again, || format!("{name} is there again:\n{}", guest.log()))?;
            last[at] = Instant::now();
            times.push(brane.recovery_us);
        }
        train.stop_unharmed("main")?;
        let (half, most) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        println!(
            "recovery of {CRASHES} crashes, in microseconds of the guest: median {half}, p99 {most}, most {}",
            times[CRASHES - 1]
        );
        let audit = audit(&mut control)?;
        ensure!(audit.findings.is_empty() && audit.silent.is_empty(), "{audit:?}");
        Ok(most)
    })
}

#[test]
fn a_thousand_crashes_are_recovered_from_and_nobody_else_loses_a_packet() -> Result<()> {
    let most = crashes(Clock::Instructions)?;
    ensure!(
        most <= RECOVERY_LIMIT,
        "p99 of the recovery is {most} thousand instructions"
    );
    Ok(())
}

#[test]
#[ignore = "a figure: it judges nothing but the loss"]
fn figures_of_a_thousand_crashes() -> Result<()> {
    crashes(Clock::Host).map(drop)
}

/// Returns a random step. Some steps are impossible and are refused.
fn step(random: &mut SmallRng) -> Request {
    const NAMES: [&str; 5] = ["red", "blue", "green", "gold", "grey"];
    const VIFS: [&str; 6] = ["vif0", "vif1", "vif2", "vif3", "vnic1", "vnic2"];
    let name = NAMES[random.random_range(0..NAMES.len())];
    let vif = VIFS[random.random_range(0..VIFS.len())];
    match random.random_range(0..12) {
        0..3 => create(name),
        3..5 => delete(name),
        5 => vnic(vif),
        6 => Request::DeleteDevice(vif.into()),
        7..10 => assign(vif, name, random.random_range(60..200)),
        10 => Request::Remove(vif.into()),
        _ => Request::Crash(name.into()),
    }
}

/// Checks after each step that manager, drivers and branes agree on the owners of all devices. At the end, the
/// free resources must be those of the start.
#[test]
fn ten_thousand_random_steps_leave_nothing_behind() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let (guest, mut control) = boot(Clock::Host, &ns)?;
    let mut random = SmallRng::seed_from_u64(5);
    let mut done = 0;
    let mut start = None;
    for n in 0..WARM_UP + STEPS {
        if n == WARM_UP {
            start = Some(empty(&mut control)?);
        }
        let step = step(&mut random);
        let parts = batch(&mut control, vec![step.clone()])?;
        done += usize::from(parts[0].answer.is_some());
        let audit = audit(&mut control).with_context(|| format!("step {n}, {step:?}:\n{}", guest.log()))?;
        ensure!(
            audit.findings.is_empty(),
            "step {n}, {step:?}: {audit:?}\n{}",
            guest.log()
        );
    }
    let end = empty(&mut control)?;
    println!("{done} of {} steps were possible; free {end:?}", WARM_UP + STEPS);
    ensure!(done > STEPS / 3, "hardly any step was possible: {done}");
    ensure!(Some(end) == start, "at the start {start:?}, at the end {end:?}");
    Ok(())
}

/// Deletes everything except the primary brane and the boot configuration's devices. Returns the free
/// resources.
fn empty(control: &mut Control) -> Result<Free> {
    let Answer::Names(names) = control.call(&Request::Names)? else {
        bail!("no names")
    };
    for brane in names.branes.iter().filter(|n| *n != "main") {
        // A brane that is restarting after a crash is deleted as well.
        control.call(&delete(brane))?;
    }
    for device in names.devices.iter().filter(|n| n.starts_with("vif")) {
        control.call(&Request::DeleteDevice(device.clone()))?;
    }
    for device in ["vnic1", "vnic2"] {
        if !names.devices.iter().any(|n| n == device) {
            control.call(&vnic(device))?;
        }
    }
    let audit = audit(control)?;
    ensure!(audit.findings.is_empty(), "{audit:?}");
    Ok(audit.free)
}
