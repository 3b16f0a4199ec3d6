//! A brane that wastes the time of nic0, which runs above all branes, must leave its neighbors their share of
//! the processor.
//!
//! Three domains of one priority use the processor all the time: a program in blue's place
//! (`tests/pds/src/hostile/nic.rs`), and two gauges of their own processor time in place of main's and red's
//! clients. Blue's program replays its ring, notifies, sends the shortest frames, and sends them with as few
//! notifications as possible. Before and after each of these phases it only computes, which leaves a third to
//! each. All bounds are ratios within one run.
//!
//! A share is a part of the emulator's processor time. Time that the host gave to other processes does not
//! count.

use anyhow::{Context, Result, bail, ensure};
use image_tests::BRANES;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use std::time::{Duration, Instant};

/// Time limit for a phase of four seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Minimum part of its share beside a brane that only computes that a neighbor must keep.
const KEPT: f64 = 0.8;
/// Blue's activity in the phases with odd numbers. In the others it computes.
const FLOODS: [&str; 4] = ["replays", "notifies", "sends", "streams"];

struct Begin {
    /// The log line that begins the phase.
    line: String,
    at: Instant,
    /// Processor time of the emulator's processor at that moment.
    ran: Duration,
}

#[test]
fn a_brane_that_spends_the_drivers_time_leaves_the_others_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        config: "hostile-nic",
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    let neighbours = &BRANES[..2];
    let trains = ns.enter(|| -> Result<Vec<Train>> {
        let mut trains = Vec::new();
        for brane in neighbours {
            Pinger::new(brane.v4.into())?
                .until_answer(PATIENCE)?
                .with_context(|| format!("{} does not answer", brane.name))?;
            trains.push(Train::start(brane.v4.into(), Duration::from_millis(10))?);
        }
        Ok(trains)
    })?;
    let mut begins = Vec::new();
    for number in 0..=2 * FLOODS.len() + 1 {
        let line = format!("hostile: phase {number} ");
        guest
            .wait_for(&line, PATIENCE)
            .with_context(|| format!("no phase {number}:\n{}", guest.log()))?;
        begins.push(Begin {
            line,
            at: Instant::now(),
            ran: guest.processor_time()?,
        });
        // Blue has sent frames in phase 5.
        if number == 6 {
            ensure!(guest.counter("vnic2", "tx_frames")? > 1000, "blue has not sent");
        }
    }
    let log = guest.log();
    let shares = (begins.windows(2).enumerate())
        .map(|(number, phase)| {
            share(&log, &phase[0], &phase[1])
                .with_context(|| format!("no line of a gauge in phase {number}:\n{log}"))
        })
        .collect::<Result<Vec<f64>>>()?;
    for (brane, train) in neighbours.iter().zip(trains) {
        train.stop_unharmed(brane.name)?;
    }
    let mut failed = Vec::new();
    for (n, flood) in FLOODS.iter().enumerate() {
        let [before, share, after] = shares[2 * n..][..3] else {
            bail!("{shares:?}");
        };
        let alone = f64::midpoint(before, after);
        println!(
            "blue {flood}: a neighbour has {share:.3} of the processor, and {alone:.3} while blue computes"
        );
        ensure!(
            (0.15..0.45).contains(&alone),
            "a third of the processor is not {alone:.3}"
        );
        if share < KEPT * alone {
            failed.push(*flood);
        }
    }
    ensure!(
        failed.is_empty(),
        "the neighbours lost their share while blue {failed:?}: {shares:.3?}"
    );
    for brane in neighbours {
        let restarts = guest.restarts(brane.name)?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    ensure!(
        guest.counter("vnic2", "tx_waits")? > 0,
        "blue never waited for its turn"
    );
    ensure!(guest.counter("vnic2", "peer_errors")? > 0, "no replay was found");
    Ok(())
}

/// Returns a neighbor's share of the processor in a phase. Sums the lines of both gauges within the phase.
/// Omits the first line of each gauge, because its measurement began before the phase.
fn share(log: &str, phase: &Begin, next: &Begin) -> Option<f64> {
    let inside = log.split_once(&phase.line)?.1.split_once(&next.line)?.0;
    let lines: Vec<(f64, f64)> = inside
        .lines()
        .filter_map(|line| {
            let (ran, of) = line.split_once("gauge: ran ")?.1.split_once(" of ")?;
            Some((
                ran.trim().parse().ok()?,
                of.split_whitespace().next()?.parse().ok()?,
            ))
        })
        .skip(2)
        .collect();
    let (ran, of) = lines
        .iter()
        .fold((0.0, 0.0), |(a, b), (ran, of)| (a + ran, b + of));
    let running = (next.ran - phase.ran).div_duration_f64(next.at - phase.at);
    (lines.len() >= 4).then_some(ran / of / running)
}
