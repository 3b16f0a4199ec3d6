//! Subscribers to the lifecycle of branes (`tests/pds/src/subscriber.rs`): the order of notifications, the
//! notifications of a late subscriber, and that a subscriber without acknowledgements delays nothing for
//! long.
//!
//! The guest's clock follows its instructions. So a host under load does not use up a subscriber's deadline,
//! nor the time after which the second subscriber registers. If a subscriber computes forever, the guest uses
//! the host's clock: a guest that never sleeps counts its instructions much more slowly than time passes.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::control::Family;
use brane_abi::operator::{Answer, Request, SubscriberInfo};
use branes_qemu::Clock;
use image_tests::guest::{Boot, Guest};
use image_tests::lifecycle::{Operator, run, well};
use image_tests::{PATIENCE, until};
use std::time::Duration;

const CONFIG: &str = "two-nics";
/// Time limit of a subscriber's acknowledgement.
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
    guest.wait_for("[subscriber-1] missed after-start blue inet ", PATIENCE)?;
    Ok((guest, operator))
}

fn subscribers(operator: &mut Operator) -> Result<Vec<SubscriberInfo>> {
    match operator.call(&Request::Subscribers)? {
        Answer::Subscribers(subscribers) => Ok(subscribers),
        other => bail!("no subscribers, but {other:?}"),
    }
}

fn subscriber(operator: &mut Operator, name: &str) -> Result<Option<SubscriberInfo>> {
    Ok(subscribers(operator)?
        .into_iter()
        .find(|subscriber| subscriber.subscriber == name))
}

/// Returns the notifications about a brane in the subscriber's log, in order: `after-create inet` and the
/// like.
fn notifications(guest: &Guest, subscriber: &str, brane: &str) -> Vec<String> {
    let log = guest.log().replace('\r', "");
    let start = format!("[{subscriber}] ");
    let lines = log.lines().filter_map(|line| line.strip_prefix(&start));
    let of_brane = lines.filter_map(|line| {
        let line = line.split(" (").next().unwrap_or(line);
        let (replay, line) = match line.strip_prefix("missed ") {
            Some(line) => ("missed ", line),
            None => ("", line),
        };
        let (transition, rest) = line.split_once(' ')?;
        let item = rest.strip_prefix(brane)?.strip_prefix(' ')?;
        Some(format!("{replay}{transition} {item}"))
    });
    of_brane.collect()
}

fn wait_told(guest: &Guest, subscriber: &str, brane: &str, want: &[&str]) -> Result<()> {
    until(
        || Ok((notifications(guest, subscriber, brane) == want).then_some(())),
        || {
            let found = notifications(guest, subscriber, brane);
            format!(
                "{subscriber} is told {want:?} of {brane}, not {found:?}\n{}",
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
    wait_told(&guest, "subscriber-0", "green", &up)?;
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
    let found = notifications(&guest, "subscriber-0", "green");
    wait_told(&guest, "subscriber-0", "green", &all).with_context(|| format!("{found:?}"))?;
    // Notifications of the one family that it subscribed to.
    wait_told(&guest, "subscriber-1", "green", &one)?;
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
        subscriber(&mut operator, "subscriber-1")?.is_none(),
        "it has subscribed already: this test is too slow to see what it misses"
    );
    guest.wait_for("[subscriber-1] joined", PATIENCE)?;
    wait_told(&guest, "subscriber-1", "green", &["missed after-create inet"])?;
    for brane in ["main", "red", "blue"] {
        let missed = ["missed after-create inet", "missed after-start inet"];
        wait_told(&guest, "subscriber-1", brane, &missed)?;
    }
    wait_told(&guest, "subscriber-1", "gray", &[])?;
    let subscriber = subscriber(&mut operator, "subscriber-1")?.context("no such subscriber")?;
    ensure!(
        subscriber.family == Some(Family::Inet)
            && subscriber.brane.is_none()
            && subscriber.transitions.len() == 6,
        "{subscriber:?}"
    );
    ensure!(
        subscriber.notified == 7 && subscriber.quarantined.is_empty(),
        "{subscriber:?}"
    );
    guest.untroubled()
}

#[test]
fn who_leaves_is_told_the_inverse_and_can_come_again() -> Result<()> {
    let (mut guest, mut operator) = watched(Clock::Instructions)?;
    let after = operator.last_event()?;
    operator.create("test-leaves", true)?;
    guest.wait_for("[subscriber-1] left", PATIENCE)?;
    for brane in ["blue", "red", "main"] {
        let inverse = [
            "missed after-create inet",
            "missed after-start inet",
            "missed before-shutdown inet",
            "missed before-destroy inet",
        ];
        ensure!(
            notifications(&guest, "subscriber-1", brane) == inverse,
            "{:?}",
            notifications(&guest, "subscriber-1", brane)
        );
    }
    // The branes are destroyed from the last to the first.
    let log = guest.log();
    let at = |brane: &str| log.find(&format!("[subscriber-1] missed before-destroy {brane} "));
    ensure!(
        at("test-leaves") < at("blue") && at("blue") < at("red") && at("red") < at("main"),
        "{log}"
    );
    let events = operator.events(after)?;
    ensure!(
        events.iter().any(|event| event.what == "subscriber-left"),
        "{events:?}"
    );
    guest.wait_for("[subscriber-1] joined", PATIENCE)?;
    // The last one missed: the subscriber was notified of the brane that made it leave, and stays.
    guest.wait_for("[subscriber-1] missed after-start test-leaves inet ", PATIENCE)?;
    let again = subscriber(&mut operator, "subscriber-1")?;
    ensure!(
        again
            .as_ref()
            .is_some_and(|subscriber| subscriber.quarantined.is_empty()),
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
        memory: None,
    };
    Ok(operator.timed(&request)?.1)
}

#[test]
fn one_that_hangs_is_mute_faults_or_lies_is_quarantined_and_the_brane_goes_on() -> Result<()> {
    for (name, why) in [
        ("test-hangs", "no answer within 500 ms"),
        ("test-is-mute", "no answer within 500 ms"),
        ("test-faults", "it failed"),
        ("test-lies", "it answers what was not asked"),
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
            .find(|event| event.what == "subscriber-quarantined")
            .with_context(|| format!("{name}: not quarantined: {what:?}\n{}", guest.log()))?;
        ensure!(
            cut.detail.contains("subscriber-1") && cut.detail.contains(why),
            "{name}: {cut:?}"
        );
        // The other subscriber has received all notifications, and receives the next ones.
        wait_told(
            &guest,
            "subscriber-0",
            name,
            &[
                "after-create inet",
                "after-create inet6",
                "after-start inet",
                "after-start inet6",
            ],
        )?;
        match subscriber(&mut operator, "subscriber-1")? {
            Some(subscriber) => ensure!(
                subscriber.quarantined == why || subscriber.quarantined.is_empty(),
                "{subscriber:?}"
            ),
            // The subscriber was restarted and has not subscribed again.
            None => ensure!(name == "test-faults", "{name}: not in the list of subscribers"),
        }
        let again = start(&mut operator, "gray")?;
        ensure!(again < DEADLINE, "{name}: waited for afterwards: {again:?}");
        operator.delete(name)?;
        operator.clean()?;
    }
    Ok(())
}

fn rename(operator: &mut Operator, from: &str, to: &str) -> Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    operator.done(&Request::RenameBrane { from, to }).map(drop)
}

#[test]
fn what_each_learns_is_balanced_at_crashes_renames_and_for_protocols() -> Result<()> {
    let (guest, mut operator) = watched(Clock::Instructions)?;
    operator.create("green", true)?;
    operator.done(&Request::Crash("green".to_owned()))?;
    let restarted = ["failed inet", "after-create inet", "after-start inet"];
    let created = ["after-create inet", "after-start inet"];
    let all: Vec<&str> = created.iter().chain(&restarted).copied().collect();
    wait_told(&guest, "subscriber-1", "green", &all)?;
    rename(&mut operator, "green", "lime")?;
    operator.delete("lime")?;
    operator.create("green", false)?;
    operator.delete("green")?;
    let renamed = [
        "renamed inet was green",
        "before-shutdown inet",
        "before-destroy inet",
    ];
    wait_told(&guest, "subscriber-1", "lime", &renamed)?;
    let again = ["after-create inet", "before-destroy inet"];
    let all: Vec<&str> = all.iter().chain(&again).copied().collect();
    wait_told(&guest, "subscriber-1", "green", &all)?;
    // Now for the protocol tcp of each family.
    let tcp = |transitions: &[&str], down: bool| {
        let families = if down {
            ["inet6 tcp", "inet tcp"]
        } else {
            ["inet tcp", "inet6 tcp"]
        };
        let both = transitions
            .iter()
            .flat_map(|t| families.map(|family| format!("{t} {family}")));
        both.collect::<Vec<_>>()
    };
    let up = |t: &[&str]| tcp(t, false);
    let down = |t: &[&str]| tcp(t, true);
    let green = [
        up(&["after-create", "after-start"]),
        down(&["failed"]),
        up(&["after-create", "after-start"]),
        up(&["after-create"]),
        down(&["before-destroy"]),
    ]
    .concat();
    let green: Vec<&str> = green.iter().map(String::as_str).collect();
    wait_told(&guest, "subscriber-2", "green", &green)?;
    // The two branes called green have identities of their own.
    let log = guest.log();
    let identities: std::collections::BTreeSet<&str> = log
        .lines()
        .filter(|line| line.starts_with("[subscriber-1]") && line.contains(" green inet "))
        .filter_map(|line| line.split_once("(identity ")?.1.split_once(','))
        .map(|(identity, _)| identity)
        .collect();
    ensure!(identities.len() == 2, "{identities:?}\n{log}");
    operator.clean()?;
    Ok(())
}

#[test]
fn they_are_notified_one_after_the_other_and_in_the_inverse_order_on_the_way_down() -> Result<()> {
    let (guest, mut operator) = watched(Clock::Instructions)?;
    operator.create("green", true)?;
    operator.delete("green")?;
    wait_told(
        &guest,
        "subscriber-1",
        "green",
        &[
            "after-create inet",
            "after-start inet",
            "before-shutdown inet",
            "before-destroy inet",
        ],
    )?;
    wait_told(
        &guest,
        "subscriber-0",
        "green",
        &[
            "after-create inet",
            "after-create inet6",
            "after-start inet",
            "after-start inet6",
            "before-shutdown inet6",
            "before-shutdown inet",
            "before-destroy inet6",
            "before-destroy inet",
        ],
    )?;
    // Serial runs above the subscribers and prints each line when it is written.
    let log = guest.log();
    let at = |subscriber: &str, transition: &str| {
        let line = format!("[{subscriber}] {transition} green ");
        log.match_indices(&line).map(|(at, _)| at).collect::<Vec<_>>()
    };
    for (transition, up) in [
        ("after-create", true),
        ("after-start", true),
        ("before-shutdown", false),
        ("before-destroy", false),
    ] {
        let [first, second, third] =
            ["subscriber-0", "subscriber-1", "subscriber-2"].map(|s| at(s, transition));
        let (first, third) = if up { (first, third) } else { (third, first) };
        let ordered = first.iter().max() < second.iter().min() && second.iter().max() < third.iter().min();
        ensure!(
            ordered && !first.is_empty() && !second.is_empty() && !third.is_empty(),
            "{transition}: {first:?} {second:?} {third:?}\n{}",
            guest.log()
        );
    }
    Ok(())
}

#[test]
fn an_operator_readmits_one_that_was_quarantined() -> Result<()> {
    let (mut guest, operator) = watched(Clock::Instructions)?;
    drop(operator);
    let said = run(&guest, &["branectl", "readmit", "subscriber-1", "-j"])?;
    ensure!(
        said.status == 1 && said.out.contains("\"not-quarantined\""),
        "{said:?}"
    );
    let mut operator = Operator::new(&guest)?;
    start(&mut operator, "test-is-mute")?;
    let cut = subscriber(&mut operator, "subscriber-1")?.context("no such subscriber")?;
    ensure!(cut.quarantined == "no answer within 500 ms", "{cut:?}");
    operator.delete("test-is-mute")?;
    drop(operator);
    let shown = well(&guest, &["branectl", "subscribers"])?;
    ensure!(shown.contains("no answer within 500 ms"), "{shown}");
    let said = well(&guest, &["branectl", "readmit", "subscriber-1"])?;
    ensure!(said == "subscriber-1 is restarted\n", "{said}");
    let mut operator = Operator::new(&guest)?;
    // It subscribes a while after its start, as ever.
    until(
        || {
            Ok(subscriber(&mut operator, "subscriber-1")?
                .filter(|subscriber| subscriber.quarantined.is_empty() && subscriber.notified >= 6))
        },
        || "it has not subscribed again".to_owned(),
    )?;
    let missed = guest
        .log()
        .matches("[subscriber-1] missed after-start blue inet ")
        .count();
    ensure!(missed == 2, "{}", guest.log());
    start(&mut operator, "green")?;
    wait_told(
        &guest,
        "subscriber-1",
        "green",
        &["after-create inet", "after-start inet"],
    )?;
    guest.wait_until_serving()?;
    Ok(())
}
