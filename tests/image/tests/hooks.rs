//! External filters (`tests/pds/src/filter.rs`) with real traffic: each verdict, a brane that is created later, and filters that hang,
//! fault, lie or do not answer: a hook that fails open costs its brane nothing, one that fails closed lets nothing in until it is back.

use anyhow::{Context, Result, ensure};
use image_tests::guest::Guest;
use image_tests::lifecycle::{Operator, served, vnic, well};
use image_tests::ping::Pinger;
use image_tests::{BRANES, PATIENCE, SILENCE, until};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

const CONFIG: &str = "hooks";
const RED: IpAddr = IpAddr::V4(BRANES[1].v4);
const BLUE: IpAddr = IpAddr::V4(BRANES[2].v4);
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);

/// Sends a datagram to the echo service of a brane. Returns the answer, or `None` if there is none.
fn echo(to: IpAddr, text: &[u8]) -> Result<std::io::Result<Vec<u8>>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((to, 7))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send(text)?;
    let mut buffer = [0; 64];
    Ok(socket.recv(&mut buffer).map(|len| buffer[..len].to_vec()))
}

/// Returns true if a brane answers a datagram.
fn answers(to: IpAddr) -> Result<bool> {
    Ok(echo(to, b"hello")?.is_ok())
}

/// Returns a cell of `branectl filters` for a filter and a brane.
fn cell(guest: &Guest, filter: &str, brane: &str, column: &str) -> Result<Value> {
    let table: Value = serde_json::from_str(&well(guest, &["branectl", "filters", "-j"])?)?;
    let rows = table["rows"].as_array().or_else(|| table.as_array());
    let rows = rows.with_context(|| format!("no rows: {table}"))?;
    let row = rows
        .iter()
        .find(|row| row["filter"] == filter && row["brane"] == brane);
    let row = row.with_context(|| format!("no row of {filter} and {brane}: {table}"))?;
    Ok(row[column].clone())
}

fn state(guest: &Guest, filter: &str, brane: &str) -> Result<String> {
    let state = cell(guest, filter, brane, "state")?;
    Ok(state.as_str().unwrap_or_default().to_owned())
}

fn until_state(guest: &Guest, filter: &str, brane: &str, wanted: &str) -> Result<()> {
    until(
        || Ok((state(guest, filter, brane)? == wanted).then_some(())),
        || format!("{filter} at {brane} is not {wanted}"),
    )
}

#[test]
fn each_verdict_holds_and_a_brane_that_is_created_later_is_filtered_from_its_first_packet() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    for brane in ["main", "red", "blue"] {
        until_state(&guest, "filter0", brane, "attached")?;
    }
    ns.enter(|| -> Result<()> {
        for to in BRANES.map(|brane| IpAddr::V4(brane.v4)) {
            ensure!(echo(to, b"hello")?? == b"hello", "{to}: pass");
            ensure!(echo(to, b"modify this")?? == b"MODIFY this", "{to}: modify");
            for word in ["drop", "absorb"] {
                let error = echo(to, word.as_bytes())?.map_err(|e| e.kind());
                ensure!(
                    matches!(error, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
                    "{to}: {word}: {error:?}"
                );
            }
            let error = echo(to, b"reject")?.map_err(|e| e.kind());
            ensure!(
                error == Err(ErrorKind::ConnectionRefused),
                "{to}: reject: {error:?}"
            );
            ensure!(Pinger::new(to)?.until_answer(PATIENCE)?.is_some(), "{to}: ping");
        }
        Ok(())
    })?;
    ensure!(cell(&guest, "filter0", "main", "missed")? == 0);
    let packets = cell(&guest, "filter0", "main", "packets")?;
    ensure!(packets.as_u64() >= Some(6), "{packets}");
    ensure!(packets == cell(&guest, "filter0", "main", "verdicts")?);

    let mut operator = Operator::new(&guest)?;
    operator.create("green", true)?;
    operator.device(vnic("g0"))?;
    operator.assign("g0", "green", &["10.0.2.30/24"])?;
    drop(operator);
    let green = IpAddr::V4(GREEN);
    ns.enter(|| -> Result<()> {
        // The first packets that green ever gets.
        for _ in 0..3 {
            ensure!(echo(green, b"drop")?.is_err(), "a packet passed unfiltered");
        }
        until(
            || Ok(answers(green)?.then_some(())),
            || "green does not answer".to_owned(),
        )
    })?;
    ensure!(state(&guest, "filter0", "green")? == "attached");
    until(
        || Ok(guest.log().contains("first packet of brane 3").then_some(())),
        || format!("the filter has seen no packet of green: {}", guest.log()),
    )?;
    // A restarted brane is filtered again, and a deleted one is forgotten.
    let mut operator = Operator::new(&guest)?;
    operator.done(&brane_abi::operator::Request::Crash("green".to_owned()))?;
    operator.until_restarted("green", 1, PATIENCE)?;
    drop(operator);
    until_state(&guest, "filter0", "green", "attached")?;
    ns.enter(|| -> Result<()> {
        until(
            || Ok(answers(green)?.then_some(())),
            || "green does not answer after its restart".to_owned(),
        )?;
        ensure!(echo(green, b"drop")?.is_err(), "a packet passed unfiltered");
        Ok(())
    })?;
    let mut operator = Operator::new(&guest)?;
    operator.delete("green")?;
    drop(operator);
    ensure!(
        cell(&guest, "filter0", "green", "state").is_err(),
        "green is gone"
    );
    Ok(())
}

/// Makes the filters of red and blue misbehave. Red's hook fails open, blue's closed.
fn misbehave(word: &str, detached: &str, comes_back_alone: bool) -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    for (filter, brane) in [("filter1", "red"), ("filter2", "blue")] {
        until_state(&guest, filter, brane, "attached")?;
    }
    ns.enter(|| -> Result<()> {
        ensure!(answers(RED)? && answers(BLUE)?);
        let _ = echo(RED, word.as_bytes())?;
        let _ = echo(BLUE, word.as_bytes())?;
        Ok(())
    })?;
    if comes_back_alone {
        // The manager restarts the filter, and its hook is attached again.
        for filter in ["filter1", "filter2"] {
            let failed = format!("{filter} failed: ");
            until(
                || Ok(guest.log().contains(&failed).then_some(())),
                || format!("{filter} is not restarted"),
            )?;
        }
    } else {
        // Some packets without a verdict, if that is what is wrong with the filter.
        ns.enter(|| -> Result<()> {
            until(
                || {
                    let _ = (
                        Pinger::new(RED)?.ping(1, SILENCE / 4)?,
                        Pinger::new(BLUE)?.ping(1, SILENCE / 4)?,
                    );
                    let both = guest.log().matches("has detached filter").count() >= 2;
                    Ok(both.then_some(()))
                },
                || format!("the filters are not detached: {}", guest.log()),
            )
        })?;
        for (filter, brane) in [("filter1", "red"), ("filter2", "blue")] {
            let seen = state(&guest, filter, brane)?;
            ensure!(seen == detached, "{filter}: {seen}");
        }
        // Open lets all in, closed nothing.
        ns.enter(|| -> Result<()> {
            for seq in 2..6 {
                ensure!(answers(RED)?, "red fails open");
                ensure!(
                    Pinger::new(RED)?.ping(seq, PATIENCE)?.is_some(),
                    "red answers no ping"
                );
                ensure!(
                    Pinger::new(BLUE)?.ping(seq, SILENCE)?.is_none(),
                    "blue answers a ping"
                );
            }
            Ok(())
        })?;
        for filter in ["filter1", "filter2"] {
            well(&guest, &["branectl", "readmit", filter])?;
        }
    }
    for (filter, brane) in [("filter1", "red"), ("filter2", "blue")] {
        until_state(&guest, filter, brane, "attached")?;
    }
    ns.enter(|| -> Result<()> {
        for to in [RED, BLUE] {
            ensure!(Pinger::new(to)?.until_answer(PATIENCE)?.is_some(), "{to}");
            ensure!(
                echo(to, b"modify this")?? == b"MODIFY this",
                "filter0 goes on at {to}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_filter_that_faults_restarts_and_is_attached_again() -> Result<()> {
    misbehave("test-faults", "", true)
}

#[test]
fn a_filter_that_hangs_is_restarted_by_the_manager_and_attached_again() -> Result<()> {
    misbehave("test-hangs", "", true)
}

#[test]
fn a_filter_that_decides_nothing_is_detached_and_its_fail_mode_holds() -> Result<()> {
    misbehave("test-is-mute", "late too often", false)
}

#[test]
fn a_filter_that_lies_is_detached_and_its_fail_mode_holds() -> Result<()> {
    misbehave("test-lies", "verdict for no packet", false)
}
