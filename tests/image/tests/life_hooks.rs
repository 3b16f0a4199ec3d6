//! Subscribers to the lifecycle of branes (`tests/pds/src/watcher.rs`): the order of notifications, the
//! notifications of a late subscriber, and that a subscriber without acknowledgements delays nothing for
//! long.
//!
//! The guest's clock follows its instructions. So a host under load does not use up a subscriber's deadline,
//! nor the time after which the second subscriber registers. If a subscriber computes forever, the guest uses
//! the host's clock: a guest that never sleeps counts its instructions much more slowly than time passes.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::control::Family;
use brane_abi::operator::{Answer, Hook, Request};
use branes_qemu::Clock;
use image_tests::guest::{Boot, Guest};
use image_tests::life::Operator;
use image_tests::{PATIENCE, until};
use std::time::Duration;

const CONFIG: &str = "life";
/// Deadline for a subscriber's acknowledgement.
const DEADLINE: Duration = Duration::from_millis(500);

/// Boots, and waits until all branes are started.
fn started(clock: Clock) -> Result<(Guest, Operator)> {
    let guest = Guest::boot(Boot {
        config: CONFIG,
        release: true,
        control: true,
        clock,
        ..Boot::default()
    })?;
    let operator = Operator::when_started(&guest)?;
    Ok((guest, operator))
}

/// Boots, and waits until both subscribers have registered.
fn watched(clock: Clock) -> Result<(Guest, Operator)> {
    let (mut guest, operator) = started(clock)?;
    guest.wait_for("[watcher-1] missed after-start blue inet ", PATIENCE)?;
    Ok((guest, operator))
}

fn hooks(operator: &mut Operator) -> Result<Vec<Hook>> {
    match operator.call(&Request::Hooks)? {
        Answer::Hooks(hooks) => Ok(hooks),
        other => bail!("no hooks, but {other:?}"),
    }
}

fn hook(operator: &mut Operator, name: &str) -> Result<Option<Hook>> {
    Ok(hooks(operator)?.into_iter().find(|hook| hook.subscriber == name))
}

/// Returns the notifications about a brane in the subscriber's log, in order: `after-create inet` and the
/// like.
fn told(guest: &Guest, watcher: &str, brane: &str) -> Vec<String> {
    let (start, named) = (format!("[{watcher}] "), format!(" {brane} "));
    let log = guest.log().replace('\r', "");
    log.lines()
        .filter_map(|line| line.strip_prefix(&start))
        .filter(|line| line.contains(&named))
        .map(|line| {
            let line = line.split(" (").next().unwrap_or(line);
            line.replace(&named, " ")
        })
        .collect()
}

fn wait_told(guest: &Guest, watcher: &str, brane: &str, want: &[&str]) -> Result<()> {
    until(
        || Ok((told(guest, watcher, brane) == want).then_some(())),
        || {
            let found = told(guest, watcher, brane);
            format!(
                "{watcher} is told {want:?} of {brane}, not {found:?}\n{}",
                guest.log()
            )
        },
    )
}

#[test]
fn they_are_told_in_order_up_and_the_other_way_round_down() -> Result<()> {
    let (guest, mut operator) = watched(Clock::Instructions)?;
    operator.create("green", false)?;
    let up = ["after-create inet", "after-create inet6"];
    wait_told(&guest, "watcher-0", "green", &up)?;
    operator.start("green")?;
    operator.done(&Request::Shutdown {
        name: "green".to_owned(),
        deadline_ms: 1000,
    })?;
    operator.start("green")?;
    operator.delete("green")?;
    let mut all: Vec<&str> = up.to_vec();
    for _ in 0..2 {
        all.extend([
            "after-start inet",
            "after-start inet6",
            "before-shutdown inet6",
            "before-shutdown inet",
        ]);
    }
    all.extend(["before-destroy inet6", "before-destroy inet"]);
    let one: Vec<&str> = all
        .iter()
        .copied()
        .filter(|said| !said.ends_with("inet6"))
        .collect();
    let found = told(&guest, "watcher-0", "green");
    wait_told(&guest, "watcher-0", "green", &all).with_context(|| format!("{found:?}"))?;
    // Notifications of the one family that it subscribed to.
    wait_told(&guest, "watcher-1", "green", &one)?;
    operator.clean()?;
    guest.untroubled()
}

#[test]
fn a_late_one_is_told_what_it_missed() -> Result<()> {
    let (mut guest, mut operator) = started(Clock::Instructions)?;
    // Before it subscribes: a brane that is created, and none that is deleted.
    operator.create("green", false)?;
    operator.create("gray", true)?;
    operator.delete("gray")?;
    ensure!(
        hook(&mut operator, "watcher-1")?.is_none(),
        "it has subscribed already: this test is too slow to see what it misses"
    );
    guest.wait_for("[watcher-1] joined", PATIENCE)?;
    wait_told(&guest, "watcher-1", "green", &["missed after-create inet"])?;
    for brane in ["main", "red", "blue"] {
        let missed = ["missed after-create inet", "missed after-start inet"];
        wait_told(&guest, "watcher-1", brane, &missed)?;
    }
    wait_told(&guest, "watcher-1", "gray", &[])?;
    let hook = hook(&mut operator, "watcher-1")?.context("no such subscriber")?;
    ensure!(
        hook.family == Some(Family::Inet) && hook.brane.is_none() && hook.transitions.len() == 4,
        "{hook:?}"
    );
    ensure!(hook.told == 7 && hook.cut.is_empty(), "{hook:?}");
    guest.untroubled()
}

#[test]
fn who_leaves_is_told_the_inverse_and_can_come_again() -> Result<()> {
    let (mut guest, mut operator) = watched(Clock::Instructions)?;
    let after = operator.last_event()?;
    operator.create("watcher-leaves", true)?;
    guest.wait_for("[watcher-1] left", PATIENCE)?;
    for brane in ["blue", "red", "main"] {
        let inverse = [
            "missed after-create inet",
            "missed after-start inet",
            "missed before-shutdown inet",
            "missed before-destroy inet",
        ];
        ensure!(
            told(&guest, "watcher-1", brane) == inverse,
            "{:?}",
            told(&guest, "watcher-1", brane)
        );
    }
    // The branes are destroyed from the last to the first.
    let log = guest.log();
    let at = |brane: &str| log.find(&format!("[watcher-1] missed before-destroy {brane} "));
    ensure!(
        at("watcher-leaves") < at("blue") && at("blue") < at("red") && at("red") < at("main"),
        "{log}"
    );
    let events = operator.events(after)?;
    ensure!(events.iter().any(|event| event.what == "hook-left"), "{events:?}");
    guest.wait_for("[watcher-1] joined", PATIENCE)?;
    // The last one missed: the subscriber was notified of the brane that made it leave, and stays.
    guest.wait_for("[watcher-1] missed after-start watcher-leaves inet ", PATIENCE)?;
    let again = hook(&mut operator, "watcher-1")?;
    ensure!(
        again.as_ref().is_some_and(|hook| hook.cut.is_empty()),
        "it is not there again: {again:?}\n{}",
        guest.log()
    );
    operator.clean()?;
    guest.untroubled()
}

/// Creates a brane whose name is a command for the second subscriber, and waits for its start. Returns the
/// duration by the guest's clock.
fn start(operator: &mut Operator, name: &str) -> Result<Duration> {
    let request = Request::Create {
        name: name.to_owned(),
        families: None,
        start: true,
    };
    Ok(operator.timed(&request)?.1)
}

#[test]
fn one_that_hangs_is_mute_faults_or_lies_is_cut_off_and_the_brane_goes_on() -> Result<()> {
    for (name, why) in [
        ("watcher-hangs", "no answer within 500 ms"),
        ("watcher-is-mute", "no answer within 500 ms"),
        ("watcher-faults", "it failed"),
        ("watcher-lies", "it answers what was not asked"),
    ] {
        let (guest, mut operator) = watched(Clock::Host)?;
        let quick = start(&mut operator, "green")?;
        let after = operator.last_event()?;
        let took = start(&mut operator, name)?;
        println!("{name}: started after {took:?}, another one after {quick:?}");
        let waited = why.starts_with("no answer");
        // The manager waits once, and not at all if it knows at once that no acknowledgement will come.
        let (least, most) = match waited {
            true => (DEADLINE, 2 * DEADLINE),
            false => (Duration::ZERO, DEADLINE),
        };
        ensure!(
            (least..most).contains(&took),
            "{name}: started after {took:?}, another one after {quick:?}"
        );
        let events = operator.events(after)?;
        let what: Vec<&str> = events.iter().map(|event| event.what.as_str()).collect();
        let cut = events
            .iter()
            .find(|event| event.what == "hook-cut")
            .with_context(|| format!("{name}: not cut off: {what:?}\n{}", guest.log()))?;
        ensure!(
            cut.detail.contains("watcher-1") && cut.detail.contains(why),
            "{name}: {cut:?}"
        );
        // The other subscriber has received all notifications, and receives the next ones.
        wait_told(
            &guest,
            "watcher-0",
            name,
            &[
                "after-create inet",
                "after-create inet6",
                "after-start inet",
                "after-start inet6",
            ],
        )?;
        match hook(&mut operator, "watcher-1")? {
            Some(hook) => ensure!(hook.cut == why || hook.cut.is_empty(), "{hook:?}"),
            // The subscriber was restarted and has not subscribed again.
            None => ensure!(name == "watcher-faults", "{name}: not in the list of hooks"),
        }
        let again = start(&mut operator, "gray")?;
        ensure!(again < DEADLINE, "{name}: waited for afterwards: {again:?}");
        operator.delete(name)?;
        operator.clean()?;
    }
    Ok(())
}
