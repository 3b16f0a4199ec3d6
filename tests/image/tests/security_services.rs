//! Floods of the services above the branes: a client, a brane and an operator that call and notify as fast as they can take the
//! time that a service works for them from nobody else.
//!
//! One boot: the floods take turns by the clock (`hostile_core::phases`), and beside them two clients compute for ever and say how
//! much. What these get in the phases before and after a flood, in which the flooding client only computes as they do, is their
//! fair share.

use anyhow::{Context, Result, ensure};
use hostile_core::phases::Phase;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::{BRANES, until};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of its fair share, what a neighbour keeps at least beside each flood.
const KEPT: f64 = 0.8;
/// Time between two pings: 100 in a second.
const GAP: Duration = Duration::from_millis(10);
/// How often each flood comes by.
const ROUNDS: u64 = 3;
/// How long all phases may take to come by, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// What the meters have said: for each phase number its name and the sum of their counts, if both have said theirs.
fn measured(log: &str) -> BTreeMap<u64, (String, u64)> {
    let mut all: BTreeMap<u64, (String, u64, u32)> = BTreeMap::new();
    for line in log.lines() {
        let Some((_, said)) = line.split_once("] meter: phase ") else {
            continue;
        };
        let mut words = said.split_whitespace();
        let mut next = || words.next().unwrap_or_default().trim_end_matches(':');
        if let (Ok(number), name, Ok(count)) = (next().parse(), next(), next().parse::<u64>()) {
            let entry = all.entry(number).or_insert((name.to_owned(), 0, 0));
            (entry.1, entry.2) = (entry.1 + count, entry.2 + 1);
        }
    }
    let whole = all.into_iter().filter(|(_, (.., meters))| *meters == 2);
    whole
        .map(|(number, (name, count, _))| (number, (name, count)))
        .collect()
}

/// Waits until each flood has come by [`ROUNDS`] times from now on, with a phase before and after.
fn watch(guest: &Guest) -> Result<BTreeMap<u64, (String, u64)>> {
    let begun = measured(&guest.log()).into_keys().next_back();
    let first = begun.map_or(0, |last| last + 2).next_multiple_of(2);
    let last = first + 2 * ROUNDS * Phase::FLOODS.len() as u64;
    let end = Instant::now() + PATIENCE;
    loop {
        let mut all = measured(&guest.log());
        if all.contains_key(&last) {
            all.retain(|number, _| (first..=last).contains(number));
            return Ok(all);
        }
        ensure!(
            Instant::now() < end,
            "the phases do not come by:\n{}",
            guest.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Of what the meters get beside nothing but a computing client, how much they get beside a flood.
fn kept(counts: &BTreeMap<u64, (String, u64)>, flood: Phase) -> Option<f64> {
    let (mut beside, mut fair) = (0, 0);
    for (number, (_, count)) in counts.iter().filter(|(_, (name, _))| name == flood.name()) {
        // On a busy host the line of a meter may be missing.
        if let (Some((_, before)), Some((_, after))) = (counts.get(&(number - 1)), counts.get(&(number + 1)))
        {
            (beside, fair) = (beside + 2 * count, fair + before + after);
        }
    }
    (fair != 0).then(|| beside as f64 / fair as f64)
}

#[test]
fn floods_of_calls_and_notifications_leave_the_neighbours_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        config: "floods",
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    let [main, red, _] = &BRANES;
    let counts = ns.enter(|| -> Result<_> {
        for brane in [main, red] {
            Pinger::new(brane.v4.into())?
                .until_answer(Duration::from_secs(60))?
                .with_context(|| format!("{} does not answer:\n{}", brane.name, guest.log()))?;
        }
        let trains = [main, red].map(|brane| Train::start(brane.v4.into(), GAP));
        let counts = watch(&guest)?;
        for (brane, train) in [main, red].into_iter().zip(trains) {
            train?.stop_unharmed(brane.name)?;
        }
        Ok(counts)
    })?;
    let log = guest.log();
    let mut least = Vec::new();
    for phase in Phase::FLOODS {
        let kept = kept(&counts, phase).with_context(|| format!("no phase {}:\n{log}", phase.name()))?;
        eprintln!("beside {}: {kept:.2} of the fair share", phase.name());
        if kept < KEPT {
            least.push(phase.name());
        }
        // The program that floods ran, and went on after it was suspended.
        let flooded = match phase {
            // Its own line finds no room.
            Phase::Log => "flood: 0123".to_owned(),
            _ => format!(" times {}", phase.name()),
        };
        // The brane is started anew for its reports.
        ensure!(
            phase == Phase::Reports || log.contains(&flooded),
            "no flood {}:\n{log}",
            phase.name()
        );
    }
    ensure!(
        least.is_empty(),
        "neighbours keep less than {KEPT} of their share beside {least:?}:\n{log}"
    );
    // What else the same child did within ten seconds is only counted.
    for suspended in ["timer", "manager"] {
        ensure!(
            log.contains(&format!("has used up its budget at {suspended}")),
            "nobody was suspended for what it did at {suspended}:\n{log}"
        );
    }
    for brane in [main, red] {
        ensure!(
            guest.restarts(brane.name)? == 0,
            "{} was restarted:\n{}",
            brane.name,
            guest.log()
        );
    }
    let failed = log
        .lines()
        .filter(|line| line.contains(" failed: ") || line.contains(" hangs: "));
    let others: Vec<_> = failed.filter(|line| !line.contains("brane `blue`")).collect();
    ensure!(
        others.is_empty(),
        "others failed than the offender: {others:?}\n{log}"
    );
    a_new_tenant_finds_nothing(&mut guest)
}

/// Red's client has computed with marks in all registers and has logged. Its domain is given to another tenant.
fn a_new_tenant_finds_nothing(guest: &mut Guest) -> Result<()> {
    guest.command("delete red --now")?;
    let found = || {
        let nothing = "a new tenant finds 0 marks in registers and 0 lines";
        Ok(guest.log().contains(nothing).then_some(()))
    };
    until(found, || {
        format!("a next tenant that finds nothing:\n{}", guest.log())
    })
}
