//! A brane that faults or hangs restarts by itself, without effects on others.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::{BRANES, PATIENCE, until, until_well};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Number of faults of red.
const CRASHES: u32 = 100;

/// Number of hangs of red.
const HANGS: u64 = 5;
/// A hang is detected at the fourth heartbeat after it at the latest. Another heartbeat may fall between the
/// hang and the query of the counters.
const NOTICED: u64 = 5;
/// Heartbeats for which an idle system is watched.
const IDLE: u64 = 6;

#[test]
fn crashing_red_costs_its_neighbours_nothing() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    let [main, red, blue] = &BRANES;
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            Pinger::new(brane.v4.into())?
                .until_answer(PATIENCE)?
                .context("no answer")?;
        }
        guest.wait_until_serving()?;
        let gap = Duration::from_millis(10);
        let trains = [
            Train::start(main.v4.into(), gap)?,
            Train::start(blue.v4.into(), gap)?,
        ];
        let pinger = Pinger::new(red.v4.into())?;
        for round in 1..=CRASHES {
            guest.type_line("crash red")?;
            // From here on replies come from the restarted brane, not from the brane before its fault.
            guest
                .wait_for("brane `red` is up again", PATIENCE)
                .with_context(|| format!("crash {round}"))?;
            let answer = pinger.until_answer(PATIENCE)?;
            answer.with_context(|| format!("red did not answer after crash {round}:\n{}", guest.log()))?;
            // The whole stack must work, not just ICMP.
            if round % 20 == 0 {
                let page = || {
                    probe::page(
                        SocketAddr::new(red.v4.into(), 80),
                        &["red", &red.v4.to_string(), red.mac],
                    )
                };
                until_well(page).context("red's services did not come back")?;
                ensure!(
                    Pinger::new(red.v6.into())?.until_answer(PATIENCE)?.is_some(),
                    "no IPv6"
                );
            }
        }
        for (brane, train) in [main, blue].into_iter().zip(trains) {
            train.stop_unharmed(brane.name)?;
        }
        Ok(())
    })?;
    let list = guest.command("list")?;
    let row = |name: &str| {
        list.lines()
            .find(|l| l.contains(name))
            .unwrap_or_default()
            .to_string()
    };
    ensure!(
        row("red").contains(&CRASHES.to_string()),
        "red's restarts are not {CRASHES}:\n{list}"
    );
    Ok(())
}

#[test]
fn a_hang_of_red_is_noticed_and_idle_branes_are_left_alone() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    let [main, red, blue] = &BRANES;
    guest.wait_until_serving()?;
    let enough = || Ok((guest.counter(main.name, "heartbeats")? >= IDLE).then_some(()));
    until(enough, || format!("{IDLE} heartbeats of main"))?;
    guest.untroubled()?;
    let beats = guest.counter(main.name, "heartbeats")?;
    for brane in [red, blue] {
        let other = guest.counter(brane.name, "heartbeats")?;
        ensure!(
            other + 2 >= beats && other >= IDLE / 2,
            "{} answered {other} heartbeats, main {beats}:\n{}",
            brane.name,
            guest.log()
        );
    }
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            Pinger::new(brane.v4.into())?
                .until_answer(PATIENCE)?
                .context("no answer")?;
        }
        let gap = Duration::from_millis(10);
        let trains = [
            Train::start(main.v4.into(), gap)?,
            Train::start(blue.v4.into(), gap)?,
        ];
        let pinger = Pinger::new(red.v4.into())?;
        for round in 1..=HANGS {
            let before = guest.counter(main.name, "heartbeats")?;
            guest.type_line("hang red")?;
            guest
                .wait_for("hanging, as the manager asks", PATIENCE)
                .with_context(|| format!("hang {round}"))?;
            let answer = pinger.until_answer(Duration::from_millis(200))?;
            ensure!(answer.is_none(), "red answers though it hangs");
            guest
                .wait_for("brane `red` hangs: no answer to a heartbeat for ", PATIENCE)
                .with_context(|| format!("hang {round}:\n{}", guest.log()))?;
            guest.wait_for("brane `red` is up again", PATIENCE)?;
            let beats = guest.counter(main.name, "heartbeats")? - before;
            ensure!(
                beats <= NOTICED,
                "hang {round} was noticed after {beats} heartbeats of main:\n{}",
                guest.log()
            );
            let answer = pinger.until_answer(PATIENCE)?;
            answer.with_context(|| format!("red did not answer after hang {round}:\n{}", guest.log()))?;
        }
        // The whole stack must work, with its addresses.
        let answer = Pinger::new(red.v6.into())?.until_answer(PATIENCE)?;
        ensure!(answer.is_some(), "no IPv6");
        let to = SocketAddr::new(red.v4.into(), 80);
        let parts = ["red", &red.v4.to_string(), red.mac];
        until_well(|| probe::page(to, &parts)).context("red's services did not come back")?;
        for (brane, train) in [main, blue].into_iter().zip(trains) {
            let tally = train.stop();
            ensure!(
                tally.sent > 1000 && tally.answered == tally.sent,
                "{} lost pings: {tally:?}",
                brane.name
            );
        }
        Ok(())
    })?;
    for (brane, hangs) in [(main, 0), (red, HANGS), (blue, 0)] {
        for counter in ["hangs", "restarts"] {
            let count = guest.counter(brane.name, counter)?;
            ensure!(
                count == hangs,
                "{counter} of {}: {count}, not {hangs}",
                brane.name
            );
        }
    }
    Ok(())
}

#[test]
fn of_seventeen_branes_the_fifteen_that_hang_at_once_are_found_and_no_other() -> Result<()> {
    let ns = NetNs::new(&["10.77.0.1/24", "fd77::1/64"])?;
    let mut guest = Guest::boot(Boot {
        config: "bench",
        net: Net::Tap(&ns),
        release: true,
        memory_mib: 512,
        ..Boot::default()
    })?;
    ns.enter(|| -> Result<()> {
        for last in [2].into_iter().chain(101..=116) {
            Pinger::new(IpAddr::from([10, 77, 0, last]))?
                .until_answer(PATIENCE)?
                .with_context(|| format!("10.77.0.{last} does not answer"))?;
        }
        let hanging: Vec<String> = (1..=15).map(|i| format!("b{i}")).collect();
        for name in &hanging {
            let answer = guest.command(&format!("hang {name}"))?;
            ensure!(answer.contains("was ordered to hang"), "{answer}");
        }
        // They compute beside main, each for its quanta, until the manager detects the hang.
        for name in &hanging {
            let found = || Ok((guest.counter(name, "restarts")? > 0).then_some(()));
            until(found, || format!("{name} is found to hang"))?;
        }
        let hung = hanging.iter().map(|name| (name.as_str(), 1));
        for (name, hangs) in hung.chain([("main", 0), ("b16", 0)]) {
            for counter in ["hangs", "restarts"] {
                let count = guest.counter(name, counter)?;
                ensure!(
                    count == hangs,
                    "{counter} of {name}: {count}, not {hangs}:\n{}",
                    guest.log()
                );
            }
        }
        Ok(())
    })
}

/// Returns the number of the first line of a source that contains this text.
fn line_of(source: &str, text: &str) -> Result<usize> {
    let at = source.lines().position(|line| line.contains(text));
    Ok(1 + at.with_context(|| format!("no `{text}` in the source"))?)
}

/// Waits for a complete report of a domain's failure and returns the lines added below it.
fn places(guest: &Guest, pd: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let complete = || {
        let log = guest.log();
        let report = log
            .lines()
            .map(str::trim_end)
            .skip_while(|line| !line.starts_with(&format!("[{pd}] error: failed at 0x")));
        let mut ended = false;
        found.clear();
        for line in report {
            match line.strip_prefix("    at ") {
                Some(place) => found.push(place.to_owned()),
                // The places of the callers follow the last line of the report at once.
                None if ended => return Ok(Some(())),
                None => ended = line.starts_with(&format!("[{pd}] error: stack:")) && line.ends_with(" end"),
            }
        }
        Ok(None)
    };
    until(complete, || format!("a complete report of {pd}")).with_context(|| guest.log())?;
    Ok(found)
}

#[test]
fn a_crash_is_reported_with_function_file_line_and_callers() -> Result<()> {
    let source = include_str!("../../../net-server/src/main.rs");
    let faults = line_of(source, "mov {0}, [{0}]")?;
    let calls = line_of(source, "fault();")?;
    for release in [true, false] {
        let mut guest = Guest::boot(Boot {
            release,
            ..Boot::default()
        })?;
        guest.wait_until_serving()?;
        guest.type_line("crash red")?;
        guest.wait_for("brane `red` is up again", PATIENCE)?;
        let places = places(&guest, "brane-1")?;
        let log = guest.log();
        let at = |function: &str, line: usize| {
            let file = format!("net-server/src/main.rs:{line})");
            places
                .iter()
                .position(|place| place.contains(function) && place.ends_with(&file))
        };
        ensure!(
            at("fault", faults) == Some(0),
            "no place of the fault (line {faults}):\n{log}"
        );
        let caller = at("work", calls).with_context(|| format!("no caller (line {calls}):\n{log}"))?;
        let event_loop = places
            .iter()
            .position(|place| place.contains("sel4_microkit::handler::"));
        ensure!(
            event_loop.is_some_and(|at| at > caller),
            "no event loop behind the caller:\n{log}"
        );
    }
    Ok(())
}

#[test]
fn a_panic_is_reported_with_its_message_and_the_line_that_panicked() -> Result<()> {
    // The driver of the NIC panics if the device is older than virtio 1.
    let mut guest = Guest::boot(Boot {
        release: true,
        nic_options: &["disable-modern=on"],
        ..Boot::default()
    })?;
    guest.wait_for("monitor: 'nic0' stopped", PATIENCE)?;
    let places = places(&guest, "nic0")?;
    let log = guest.log();
    let said = log
        .split_once("[nic0] error: panicked at ")
        .with_context(|| format!("no panic:\n{log}"))?
        .1;
    // FILE:LINE:COLUMN:
    let said = said.trim_start_matches("/branes/");
    let at: Vec<&str> = said.split(':').take(2).collect();
    let place = format!("{}:{})", at[0], at[1]);
    ensure!(
        places.first().is_some_and(|first| first.ends_with(&place)),
        "not {place}:\n{log}"
    );
    Ok(())
}
