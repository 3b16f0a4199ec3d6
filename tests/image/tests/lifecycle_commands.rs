//! `branectl` and `nicctl` as installed, with the real system: every verb as text and as JSON, errors, live
//! events, files.

use anyhow::{Context, Result, bail, ensure};
use boon::{Compiler, Schemas};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, PATIENCE, Running, badly, boot, program, run, well};
use image_tests::until;
use operator_cli::schema::schema;
use operator_cli::table::Program;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

const CONFIG: &str = "two-nics";

fn started() -> Result<Guest> {
    let guest = boot(CONFIG, Net::User, None)?;
    drop(Operator::when_started(&guest)?);
    Ok(guest)
}

/// Checks an answer against the schema that its verb documents.
fn fits(name: &str, answer: &Value) -> Result<()> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let url = format!("file:///{name}.json");
    let text = schema(name).with_context(|| format!("no schema {name}"))?;
    let add = compiler.add_resource(&url, serde_json::from_str(text)?);
    add.map_err(|e| anyhow::anyhow!("{e}"))?;
    let index = compiler
        .compile(&url, &mut schemas)
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let valid = schemas.validate(answer, index);
    valid.map_err(|e| anyhow::anyhow!("{answer} is no {name}: {e:#}"))
}

/// Runs a line with JSON output. The output must be one object that matches the schema.
fn json(guest: &Guest, line: &str, schema: &str) -> Result<Value> {
    let mut words: Vec<&str> = line.split(' ').collect();
    words.push("-j");
    let said = well(guest, &words)?;
    let mut lines = said.lines();
    let first = lines.next().with_context(|| format!("{line}: no answer"))?;
    let value: Value = serde_json::from_str(first).with_context(|| format!("{line}: {said}"))?;
    fits(schema, &value).with_context(|| line.to_owned())?;
    Ok(value)
}

fn words(guest: &Guest, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let said = well(guest, &words)?;
    ensure!(!said.trim().is_empty(), "{line}: no output");
    Ok(said)
}

#[test]
fn every_verb_answers_in_words_and_in_json() -> Result<()> {
    let guest = started()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("x.toml");
    let file = file.to_str().context("a path")?;
    let (apply, save) = (
        format!("branectl apply {file} --dry-run"),
        format!("branectl save {file}"),
    );
    // The line for text output, the line for JSON output, and the schema. In the order of a brane's
    // lifecycle.
    let lines: &[(&str, &str, &str)] = &[
        ("branectl list", "branectl list", "branes"),
        ("branectl show red", "branectl show red", "brane"),
        (
            "branectl create green",
            "branectl create gray --family inet=icmp",
            "done",
        ),
        ("branectl start green", "branectl start gray", "done"),
        (
            "branectl shutdown green",
            "branectl shutdown gray --deadline 500ms",
            "done",
        ),
        ("branectl start green", "branectl start gray", "done"),
        ("nicctl create vnic g0", "nicctl create vlan g1 --tag 12", "done"),
        (
            "branectl nicctl create pair p0 p1",
            "nicctl create pair q0 q1",
            "done",
        ),
        ("nicctl list", "nicctl list", "devices"),
        ("nicctl show g0", "nicctl show g1", "device"),
        (
            "branectl assign g0 green 10.0.2.30/24",
            "branectl assign g1 gray 10.0.2.31/24 --as lan0",
            "done",
        ),
        (
            "branectl address green/net0 10.0.2.32/24",
            "branectl address gray/lan0 10.0.2.33/24",
            "done",
        ),
        (
            "branectl limit g0 --up 10M --mode private",
            "branectl limit g1 --down 1M",
            "done",
        ),
        (
            "branectl rename green/net0 wan0",
            "branectl rename gray grey",
            "done",
        ),
        (
            "branectl filter green add drop in proto tcp to port 81",
            "branectl filter grey add at 1 drop in proto tcp to port 81",
            "done",
        ),
        (
            "branectl in green filter delete 1",
            "branectl in grey filter flush",
            "done",
        ),
        (
            "branectl filter green replace pass in proto udp ; drop in proto tcp to port 81",
            "branectl in grey filter replace drop in proto tcp to port 81",
            "done",
        ),
        ("branectl filter green list", "branectl in grey filter", "rules"),
        ("branectl stats g0 --all", "branectl stats", "stats"),
        ("branectl uptime", "branectl uptime", "report"),
        ("branectl subscribers", "branectl subscribers", "subscribers"),
        ("branectl filters", "branectl filters", "report"),
        ("branectl events --once", "branectl events --once", "event"),
        ("branectl log", "branectl log manager", "log-levels"),
        ("branectl log red debug", "branectl log red info", "done"),
        ("branectl logs services-1", "branectl logs", "log-line"),
        ("branectl audit", "branectl audit", "audit"),
        ("branectl why red blue", "branectl why red 10.0.2.2 udp 53", "why"),
        ("branectl reach", "branectl reach tcp 7", "reach"),
        (
            "branectl in green ifconfig -a",
            "branectl in grey ifconfig",
            "interfaces",
        ),
        (
            "branectl in green ifconfig wan0 inet 10.0.2.34/24",
            "branectl in grey ifconfig lan0 inet 10.0.2.35/24 alias",
            "done",
        ),
        ("branectl in red route", "branectl in red route", "routes"),
        (
            "branectl in green route add default 10.0.2.2",
            "branectl in grey route add default 10.0.2.2",
            "done",
        ),
        ("branectl in red arp -a", "branectl in red arp", "neighbours"),
        ("branectl in red ndp -an", "branectl in red ndp", "neighbours"),
        ("branectl in red netstat", "branectl in red netstat", "sockets"),
        (
            "branectl in red netstat -s",
            "branectl in red netstat -s",
            "protocols",
        ),
        (
            "branectl in red netstat -r",
            "branectl in red netstat -r",
            "routes",
        ),
        (
            "branectl in red netstat -i",
            "branectl in red netstat -i",
            "interfaces",
        ),
        (
            "branectl in red ping -c 2 -i 100ms 10.0.2.2",
            "branectl in red ping -c 2 -i 100ms 127.0.0.1",
            "ping",
        ),
        (&save, &save, "save"),
        (&apply, &apply, "apply"),
        ("branectl crash green", "branectl hang red", "done"),
        ("branectl remove green/wan0", "branectl remove g1", "done"),
        ("branectl delete green", "branectl delete grey --now", "receipt"),
        ("nicctl rename g0 gone0", "nicctl rename g1 gone1", "done"),
        ("nicctl delete gone0", "nicctl delete gone1", "receipt"),
    ];
    for (in_words, in_json, schema) in lines {
        if *in_words == save {
            ensure!(
                well(&guest, &["branectl", "save", file])?.is_empty(),
                "save printed output"
            );
        } else {
            words(&guest, in_words).with_context(|| (*in_words).to_owned())?;
        }
        if in_words.contains("crash") {
            let again = || {
                Ok(words(&guest, "branectl show green")?
                    .contains("started")
                    .then_some(()))
            };
            until(again, || "green is started again".to_owned())?;
        }
        json(&guest, in_json, schema)?;
    }
    // Exceptions are `host`, which needs a server, `readmit`, which needs a quarantined subscriber
    // (`lifecycle_subscribers`), `capture`, which needs traffic (`capture_host`), and `help`, which needs no system.
    for (program, name) in [
        (Program::Branectl, "branectl "),
        (Program::Nicctl, "nicctl "),
        (Program::InBrane, "branectl in red "),
    ] {
        for verb in program.verbs() {
            let begins = match program {
                Program::InBrane => format!(" {}", verb.name),
                _ => format!("{name}{}", verb.name),
            };
            let tried = lines
                .iter()
                .any(|(line, other, _)| line.contains(&begins) || other.contains(&begins));
            ensure!(
                tried || ["host", "readmit", "capture", "help", "enter"].contains(&verb.name),
                "{begins} was not tried"
            );
            words(&guest, &format!("{name}{} --help", verb.name))?;
        }
    }
    let said = run(
        &guest,
        &[
            "branectl",
            "in",
            "red",
            "host",
            "x.example",
            "10.0.2.2",
            "-W",
            "300ms",
            "-j",
        ],
    )?;
    ensure!(said.status == 1, "{said:?}");
    fits("error", &serde_json::from_str(&said.out)?)?;
    words(&guest, "branectl audit").map(drop)
}

#[test]
fn errors_name_the_thing_and_the_fix_and_have_a_status() -> Result<()> {
    let guest = started()?;
    for (line, status, error) in [
        (
            "branectl show purple",
            1,
            "no brane named \"purple\": the branes are main, red, blue",
        ),
        (
            "branectl delete main",
            1,
            "\"main\" is the primary brane, which is never deleted: clients start in it; `branectl shutdown` ends its connections",
        ),
        (
            "branectl assign eth0 red",
            1,
            "no device named \"eth0\": the devices are nic0, vnic0, vnic3, vnic1, vnic2",
        ),
        (
            "branectl remove vnic9",
            1,
            "no device named \"vnic9\": the devices are nic0, vnic0, vnic3, vnic1, vnic2",
        ),
        (
            "nicctl delete vnic1",
            1,
            "\"vnic1\" is in brane \"red\": `branectl remove vnic1` takes it from there",
        ),
        (
            "nicctl delete nic0",
            1,
            "\"nic0\" is the NIC itself: it exists as long as the machine has the NIC",
        ),
        ("branectl creat red", 2, "no verb \"creat\": did you mean create?"),
        ("branectl show", 2, "missing BRANE: usage: show BRANE [-j]"),
        (
            "branectl in red ping",
            2,
            "missing HOST: usage: ping HOST [-c N] [-s SIZE] [-i TIME] [-W TIME] [-j]",
        ),
        (
            "branectl create aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            2,
            "name too long: 34 bytes, 31 allowed",
        ),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        badly(&guest, &words, status, error)?;
    }
    let said = run(&guest, &["branectl", "show", "purple", "-j"])?;
    ensure!(said.status == 1, "{said:?}");
    fits("error", &serde_json::from_str(&said.out)?)?;
    // Three more branes fill the system.
    for name in ["a", "b", "c"] {
        words(&guest, &format!("branectl create {name}"))?;
    }
    badly(
        &guest,
        &["branectl", "create", "d"],
        1,
        "no free instance for \"d\": all 6 are in use: delete a brane, or raise `instances` in configs.toml and build the image again",
    )?;
    guest.untroubled()
}

#[test]
fn events_follows_what_happens_as_it_does() -> Result<()> {
    let mut guest = started()?;
    let mut command = program("branectl", &guest)?;
    command.args(["events", "-j"]).stdout(Stdio::piped());
    let mut running = Running(command.spawn()?);
    let out = running.0.stdout.take().context("its output")?;
    let (said, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = said.send(line);
        }
    });
    let mut seen = Vec::new();
    let mut shown = |what: &str, brane: &str| -> Result<()> {
        loop {
            let line = lines
                .recv_timeout(PATIENCE)
                .with_context(|| format!("no `{what}` of {brane} in {seen:?}"))?;
            let value: Value = serde_json::from_str(&line)?;
            fits("event", &value)?;
            let found = value["what"] == what && value["brane"] == brane;
            seen.push(value["number"].as_u64().context("no number")?);
            if found {
                return Ok(());
            }
        }
    };
    // Earlier events come first.
    shown("started", "blue")?;
    // The program has the control line, so the console makes the changes.
    for (typed, what) in [
        ("create green", "created"),
        ("start green", "started"),
        ("shutdown green", "shutdown"),
        ("delete green", "deleted"),
    ] {
        guest.command(typed)?;
        // An event is shown at once, without waiting for the next one.
        shown(what, "green")?;
    }
    let numbers: BTreeSet<u64> = seen.iter().copied().collect();
    ensure!(
        numbers.len() == seen.len() && seen.is_sorted(),
        "events come twice or out of order: {seen:?}"
    );
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    ensure!(
        last - first + 1 == seen.len() as u64,
        "events are missing: {seen:?}"
    );
    drop(running);
    reader.join().expect("the reader");
    guest.untroubled()
}

#[test]
fn who_stops_following_events_takes_no_place_from_others() -> Result<()> {
    let mut guest = started()?;
    // More often than an operator can have requests pending, on the host and at the console.
    for _ in 0..12 {
        let mut command = program("branectl", &guest)?;
        command.arg("events").stdout(Stdio::piped());
        let mut running = Running(command.spawn()?);
        let out = running.0.stdout.take().context("its output")?;
        let blue = BufReader::new(out).lines().map_while(Result::ok);
        let mut shown = blue.filter(|line| line.contains("started blue"));
        shown.next().context("no output")?;
        std::thread::sleep(Duration::from_millis(100));
        drop(running);
    }
    well(&guest, &["branectl", "list"])?;
    for _ in 0..12 {
        guest.type_line("events")?;
        guest.wait_for("started blue", PATIENCE)?;
        std::thread::sleep(Duration::from_millis(100));
        guest.type_line("")?;
    }
    let list = guest.command("list")?;
    ensure!(list.contains("blue"), "no list:\n{list}");
    let said = well(&guest, &["branectl", "create", "green"])?;
    ensure!(said.contains("green is created"), "{said}");
    guest.untroubled()
}

#[test]
fn a_system_that_goes_away_in_the_middle_of_a_call_is_a_clear_error() -> Result<()> {
    let guest = started()?;
    let mut command = program("branectl", &guest)?;
    command
        .args(["in", "red", "ping", "10.0.2.2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn()?);
    let out = running.0.stdout.take().context("its output")?;
    let mut lines = BufReader::new(out).lines();
    for _ in 0..2 {
        lines.next().context("no output")??;
    }
    drop(guest);
    let status = until(
        || Ok(running.0.try_wait()?),
        || "branectl waits for a system that has ended".to_owned(),
    )?;
    let mut said = String::new();
    running
        .0
        .stderr
        .take()
        .context("its errors")?
        .read_to_string(&mut said)?;
    ensure!(
        status.code() == Some(1) && said.starts_with("the line to the system broke: "),
        "{status}: {said}"
    );
    Ok(())
}

/// Returns a file with more branes and other settings than the system's initial ones.
fn changed(saved: &str) -> Result<String> {
    ensure!(saved.contains("10.0.2.17/24"), "{saved}");
    let other = saved.replace("10.0.2.17/24", "10.0.2.27/24");
    Ok(other
        + r#"
[[brane]]
name = "green"
families = { inet = ["icmp", "udp"] }

[[brane.interface]]
name = "lan0"
device = "g0"
addresses = ["10.0.2.30/24"]

[[device]]
name = "g0"
mode = "private"
rate-up = 1_000_000

[[device]]
name = "idle0"
"#)
}

#[test]
fn what_save_wrote_applies_without_a_difference_and_a_changed_file_is_made_true() -> Result<()> {
    let guest = started()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (first, other, again) = (path("first.toml"), path("other.toml"), path("again.toml"));
    let apply = |guest: &Guest, file: &str, how: &str| well(guest, &["branectl", "apply", file, how]);
    well(&guest, &["branectl", "save", &first])?;
    let none = "nothing to change\n";
    ensure!(
        apply(&guest, &first, "--yes")? == none,
        "the configuration differs from itself"
    );
    std::fs::write(&other, changed(&std::fs::read_to_string(&first)?)?)?;

    // A dry run shows the changes and makes none.
    let shown = apply(&guest, &other, "--dry-run")?;
    ensure!(
        shown.contains("green") && shown.contains("10.0.2.27/24") && shown.contains("idle0"),
        "{shown}"
    );
    ensure!(
        shown == apply(&guest, &other, "--dry-run")?,
        "unexpected differences"
    );
    ensure!(
        apply(&guest, &first, "--dry-run")? == none,
        "a dry run made changes"
    );
    // Applies the file.
    ensure!(
        apply(&guest, &other, "--yes")? == shown,
        "not the changes that were shown"
    );
    well(&guest, &["branectl", "audit"])?;
    ensure!(
        apply(&guest, &other, "--yes")? == none,
        "some changes are missing"
    );
    let listed = well(&guest, &["branectl", "list"])?;
    ensure!(
        listed.contains("green") && listed.contains("10.0.2.30/24") && listed.contains("10.0.2.27/24"),
        "{listed}"
    );
    well(&guest, &["branectl", "save", &again])?;
    // Returns to the first configuration.
    apply(&guest, &first, "--yes")?;
    well(&guest, &["branectl", "audit"])?;
    ensure!(apply(&guest, &first, "--dry-run")? == none, "some changes remain");
    let listed = well(&guest, &["branectl", "list"])?;
    ensure!(!listed.contains("green"), "{listed}");
    guest.untroubled()?;
    drop(guest);

    // The saved file configures another system to the same state.
    let guest = started()?;
    ensure!(
        apply(&guest, &again, "--yes")? != none,
        "the fresh system is like it"
    );
    ensure!(
        apply(&guest, &again, "--yes")? == none,
        "some changes are missing"
    );
    ensure!(
        apply(&guest, &other, "--yes")? == none,
        "save wrote another configuration than was applied"
    );
    well(&guest, &["branectl", "audit"])?;
    let saved = well(&guest, &["branectl", "save"])?;
    if saved != std::fs::read_to_string(&again)? {
        bail!("saved:\n{saved}");
    }
    guest.untroubled()
}
