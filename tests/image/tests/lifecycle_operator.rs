//! `branectl` and the console with the real system: uptime, codes of refusals, all stored events, filters of
//! `netstat`, and the prompt inside a brane.

use anyhow::{Context, Result, ensure};
use brane_abi::operator::Request;
use image_tests::guest::{Guest, Net, PROMPT};
use image_tests::lifecycle::{Operator, PATIENCE, Running, boot, program, run, well};
use image_tests::until;
use serde_json::Value;
use std::process::Stdio;

fn started() -> Result<Guest> {
    let guest = boot("default", Net::User, None)?;
    drop(Operator::when_started(&guest)?);
    Ok(guest)
}

fn branectl(guest: &Guest, line: &str) -> Result<String> {
    let words: Vec<&str> = ["branectl"].into_iter().chain(line.split(' ')).collect();
    well(guest, &words)
}

/// Times of `branectl uptime -j` in microseconds.
#[derive(Debug)]
struct Uptime {
    /// Since the boot.
    up: u64,
    /// Since the brane's start and since its last restart.
    started: Option<u64>,
    restarted: Option<u64>,
}

fn uptime(guest: &Guest, brane: &str) -> Result<Uptime> {
    let value: Value = serde_json::from_str(&branectl(guest, "uptime -j")?)?;
    let rows = value["rows"].as_array().context("no rows")?;
    let row = rows.iter().find(|row| row["brane"] == brane);
    let row = row.with_context(|| format!("{brane} is not in {value}"))?;
    Ok(Uptime {
        up: value["facts"]["up_us"].as_u64().context("no up_us")?,
        started: row["started_us"].as_u64(),
        restarted: row["restarted_us"].as_u64(),
    })
}

#[test]
fn uptime_counts_from_the_boot_from_starts_and_from_restarts() -> Result<()> {
    const PAUSE: u64 = 2_000_000;
    let guest = started()?;
    let first = uptime(&guest, "red")?;
    ensure!(
        first.restarted.is_none() && first.started.is_some_and(|started| started <= first.up),
        "{first:?}"
    );
    until(
        || Ok((uptime(&guest, "red")?.up >= first.up + PAUSE).then_some(())),
        || "the time since the boot does not pass".to_owned(),
    )?;
    branectl(&guest, "crash red")?;
    until(
        || Ok(branectl(&guest, "show red")?.contains("started").then_some(())),
        || "red is not started again".to_owned(),
    )?;
    let again = uptime(&guest, "red")?;
    let (begun, started) = (
        first.started.context("a start")?,
        again.started.context("a start")?,
    );
    // The start does not change: both times have grown equally, except for one microsecond of rounding.
    ensure!(
        (started - begun).abs_diff(again.up - first.up) <= 1,
        "{first:?}, then {again:?}"
    );
    ensure!(
        again
            .restarted
            .is_some_and(|restarted| restarted + PAUSE <= started),
        "{again:?}"
    );

    // A shutdown ends both times.
    branectl(&guest, "shutdown red")?;
    let down = uptime(&guest, "red")?;
    ensure!(down.started.is_none() && down.restarted.is_none(), "{down:?}");
    branectl(&guest, "start red")?;
    let new = uptime(&guest, "red")?;
    ensure!(
        new.restarted.is_none() && new.started.is_some_and(|started| started < new.up - down.up + 1),
        "{down:?}, then {new:?}"
    );

    let shown = branectl(&guest, "uptime")?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = shown.lines().map(words).collect();
    ensure!(
        lines[0][0] == "up" && lines[1] == ["BRANE", "STATE", "STARTED", "RESTARTED"],
        "{shown}"
    );
    for brane in ["main", "red", "blue"] {
        let row = lines.iter().find(|line| line[0] == brane);
        let row = row.with_context(|| format!("no {brane}:\n{shown}"))?;
        ensure!(
            row[1] == "started" && row[3] == "s" && row.last().is_some_and(|last| last == "-"),
            "{shown}"
        );
    }
    Ok(())
}

#[test]
fn an_error_in_json_has_the_code_of_its_reason() -> Result<()> {
    let guest = started()?;
    for (line, code) in [
        ("show purple", "no-such-brane"),
        ("delete main", "primary-is-never-deleted"),
        ("assign eth0 red", "no-such-device"),
        ("assign vnic1 blue --as lo0", "interface-name-taken"),
        ("create red", "brane-name-taken"),
        ("nicctl delete nic0", "nic-is-not-deleted"),
        ("nicctl create vnic lo.7", "loopback-name"),
        ("nicctl create vnic vnic1", "device-name-taken"),
        ("log nic9 debug", "no-such-log"),
        ("logs nic9", "no-such-log"),
        ("in red ifconfig net9", "query-no-such-interface"),
        ("in red host x.example", "query-no-name-server"),
        ("nicctl show vnic9", "no-such-name"),
    ] {
        let words: Vec<&str> = ["branectl"]
            .into_iter()
            .chain(line.split(' '))
            .chain(["-j"])
            .collect();
        let said = run(&guest, &words)?;
        let value: Value = serde_json::from_str(&said.out).with_context(|| format!("{line}: {said:?}"))?;
        ensure!(value["error"]["code"] == code, "{line}: {said:?}");
        let shown = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
        ensure!(
            said.status == 1 && said.err == format!("{}: {}\n", shown("what"), shown("fix")),
            "{line}: {said:?}"
        );
    }
    guest.untroubled()
}

#[test]
fn events_once_shows_all_that_are_kept_and_ends() -> Result<()> {
    /// Number of rounds. Each has two events, and all of them are more than one answer has.
    const ROUNDS: usize = 45;
    let guest = started()?;
    let mut operator = Operator::new(&guest)?;
    let first = operator.events(0)?.first().context("no event")?.number;
    for _ in 0..ROUNDS {
        for (from, to) in [("red", "rot"), ("rot", "red")] {
            operator.done(&Request::RenameBrane {
                from: from.to_owned(),
                to: to.to_owned(),
            })?;
        }
    }
    drop(operator);
    let mut command = program("branectl", &guest)?;
    command.args(["events", "--once", "-j"]).stdout(Stdio::piped());
    let mut running = Running(command.spawn()?);
    let out = running.0.stdout.take().context("its output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || sender.send(std::io::read_to_string(out)));
    let shown = receiver.recv_timeout(PATIENCE).context("it does not end")??;
    drop(reader.join());
    let numbers: Vec<u64> = shown
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            event["number"].as_u64().context("no number")
        })
        .collect::<Result<_>>()?;
    ensure!(
        numbers.len() >= 2 * ROUNDS && numbers[0] == first && numbers.is_sorted_by(|a, b| a + 1 == *b),
        "{numbers:?}"
    );
    ensure!(
        shown.lines().filter(|line| line.contains("\"renamed\"")).count() == 2 * ROUNDS,
        "{shown}"
    );
    guest.untroubled()
}

/// Returns the protocols in the first column of `netstat`, without the head.
fn protocols(shown: &str) -> Vec<&str> {
    shown
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn netstat_filters_by_protocol_and_an_inet_only_brane_has_no_ipv6_listener() -> Result<()> {
    let guest = started()?;
    let all = until(
        || {
            let shown = branectl(&guest, "in red netstat")?;
            let found = protocols(&shown);
            Ok((found.contains(&"tcp") && found.contains(&"udp")).then_some(shown))
        },
        || "red's client opens no sockets".to_owned(),
    )?;
    for protocol in ["tcp", "udp"] {
        let some = branectl(&guest, &format!("in red netstat -p {protocol}"))?;
        let count = protocols(&all).iter().filter(|found| **found == protocol).count();
        ensure!(protocols(&some) == vec![protocol; count], "{some}");
    }
    let counters: Value = serde_json::from_str(&branectl(&guest, "in red netstat -s -p udp -j")?)?;
    let listed = counters["protocols"].as_array().context("no protocols")?;
    let families: Vec<_> = listed.iter().filter_map(|p| p["family"].as_str()).collect();
    ensure!(
        families == ["inet", "inet6"] && listed.iter().all(|p| p["protocol"] == "udp"),
        "{counters}"
    );
    ensure!(all.contains("[::]:"), "red has both families:\n{all}");

    branectl(&guest, "create legacy --family inet=icmp,udp,tcp --start")?;
    let shown = until(
        || {
            let shown = branectl(&guest, "in legacy netstat")?;
            Ok(shown.contains("LISTEN").then_some(shown))
        },
        || "the client of legacy does not listen".to_owned(),
    )?;
    ensure!(!shown.contains("[::]") && shown.contains("0.0.0.0:"), "{shown}");
    guest.untroubled()
}

#[test]
fn the_prompt_inside_a_brane_manages_only_that_brane() -> Result<()> {
    let mut guest = started()?;
    let mut keys = |keys: &str, prompt: &str| -> Result<String> {
        guest.type_bytes(keys.as_bytes())?;
        guest.wait_for(prompt, PATIENCE)
    };
    keys("enter red\r", "red# ")?;
    let refused = "manages the whole system, and this prompt only brane red";
    for line in [
        "branectl create x",
        "branectl delete blue --now",
        "branectl in blue ifconfig net0 down",
        "branectl log red off",
        "nicctl create vnic x",
        "branectl nicctl create vnic x",
    ] {
        let shown = keys(&format!("{line}\r"), "red# ")?;
        ensure!(shown.contains(refused), "{line}:\n{shown}");
    }
    // Inside a brane, these lines are no verbs.
    for line in ["create x", "in blue ifconfig", "enter blue"] {
        let shown = keys(&format!("{line}\r"), "red# ")?;
        ensure!(shown.contains("no verb"), "{line}:\n{shown}");
    }
    let shown = keys("ifconfig net0\r", "red# ")?;
    ensure!(shown.contains("10.0.2.16"), "{shown}");
    keys("exit\r", PROMPT)?;
    let shown = keys("branectl create x\r", PROMPT)?;
    ensure!(shown.contains("x is created"), "{shown}");
    let branes = branectl(&guest, "list")?;
    ensure!(branes.contains("blue"), "{branes}");
    let devices = well(&guest, &["nicctl", "list"])?;
    ensure!(
        !devices
            .lines()
            .any(|line| line.split_whitespace().next() == Some("x")),
        "{devices}"
    );
    guest.untroubled()
}
