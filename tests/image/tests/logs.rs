//! Logs of protection domains: levels that change at run time and are saved, the last lines, and new lines as
//! they appear.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, PATIENCE, Running, boot, program, run, well};
use image_tests::until;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Returns the number of the last stored line of a domain. Returns 0 if there is none.
fn last(lines: &str) -> u64 {
    let numbers = lines
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Waits until red has been restarted this often.
fn back(guest: &mut Guest, restarts: u64) -> Result<()> {
    until(
        || Ok((guest.restarts("red")? == restarts).then_some(())),
        || format!("red was not restarted {restarts} times"),
    )
}

#[test]
fn a_level_decides_what_is_written_and_the_last_lines_are_kept() -> Result<()> {
    let mut guest = boot("default", Net::User, None)?;
    drop(Operator::when_started(&guest)?);
    let levels = well(&guest, &["branectl", "log"])?;
    for domain in ["brane-0", "services-2", "nic0", "manager", "console", "remote"] {
        let shown = levels.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(domain) && words.next() == Some("info")
        });
        ensure!(shown, "{domain} at info: {levels}");
    }

    // A line of the manager about a fault, which an operator receives at once.
    let mut command = program("branectl", &guest)?;
    command
        .args(["logs", "manager", "--follow", "-j"])
        .stdout(Stdio::piped());
    let mut running = Running(command.spawn()?);
    let out = running.0.stdout.take().context("its output")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    guest.command("crash red")?;
    let followed = loop {
        let line: Value =
            serde_json::from_str(&lines.recv_timeout(PATIENCE).context("no line of the fault")?)?;
        if line["text"].as_str().is_some_and(|text| text.contains("red")) {
            break line;
        }
    };
    ensure!(followed["pd"] == "manager", "{followed}");
    drop(running);
    drop(reader.join());
    back(&mut guest, 1)?;

    // The brane's own last line is stored, under the name of the brane and of its domain.
    let kept = well(&guest, &["branectl", "logs", "red"])?;
    ensure!(kept.contains("[brane-1] crashing, as the manager asks"), "{kept}");
    ensure!(kept == well(&guest, &["branectl", "logs", "brane-1"])?, "{kept}");
    let all = well(&guest, &["branectl", "logs"])?;
    ensure!(kept.lines().all(|line| all.contains(line)), "{all}");

    // At the level off the brane writes nothing, neither on the screen nor into the stored lines. `debug` shows
    // more than `info`.
    well(&guest, &["branectl", "log", "red", "off"])?;
    guest.command("crash red")?;
    back(&mut guest, 2)?;
    ensure!(
        well(&guest, &["branectl", "logs", "red"])? == kept,
        "red is not silent"
    );
    well(&guest, &["branectl", "log", "red", "debug"])?;
    well(&guest, &["branectl", "log", "manager", "debug"])?;
    let level = well(&guest, &["branectl", "log", "red"])?;
    ensure!(level.lines().last() == Some("brane-1  debug"), "{level}");
    let (before, of_manager) = (
        last(&kept),
        last(&well(&guest, &["branectl", "logs", "manager"])?),
    );
    guest.command("crash red")?;
    back(&mut guest, 3)?;
    for (domain, after, text) in [
        ("red", before, "[brane-1] debug: started"),
        (
            "manager",
            of_manager,
            "[manager] debug: restart Brane(BraneId(1))",
        ),
    ] {
        let after = after.to_string();
        until(
            || {
                let shown = well(&guest, &["branectl", "logs", domain, "--after", &after])?;
                Ok(shown.contains(text).then_some(()))
            },
            || format!("no `{text}` of {domain}"),
        )?;
    }

    // Saved and applied configurations contain the levels.
    let saved = well(&guest, &["branectl", "save"])?;
    ensure!(
        saved.contains("[log]\nbrane-1 = \"debug\"\nmanager = \"debug\"\n"),
        "{saved}"
    );
    for (line, status, error) in [
        (
            ["log", "nic9", "debug"],
            1,
            "no brane or protection domain with a log named \"nic9\"",
        ),
        (["log", "red", "loud"], 2, "\"loud\""),
    ] {
        let said = run(&guest, &["branectl", line[0], line[1], line[2]])?;
        ensure!(
            said.status == status && said.err.contains(error),
            "{line:?}: {said:?}"
        );
    }
    Ok(())
}
