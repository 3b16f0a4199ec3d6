//! `why` and `reach` against real traffic: when a fault stops traffic, `why` stops at the step of that fault, and without the fault
//! both pass.

use anyhow::{Context, Result, ensure};
use image_tests::guest::Guest;
use image_tests::lifecycle::{Operator, run, served, well};
use image_tests::probe;
use image_tests::{BRANES, SILENCE, until};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

const CONFIG: &str = "default";
const BLUE: IpAddr = IpAddr::V4(BRANES[2].v4);
const BLUE6: IpAddr = IpAddr::V6(BRANES[2].v6);
/// A UDP port without a listener.
const CLOSED: u16 = 4444;

/// Runs a line of `branectl` that must succeed.
fn branectl(guest: &Guest, line: &str) -> Result<String> {
    let words: Vec<&str> = std::iter::once("branectl").chain(line.split(' ')).collect();
    well(guest, &words)
}

/// Runs `why` with JSON output. Returns the step that stops the traffic with its brane, or `None` if the traffic passes. The exit
/// status must agree.
fn why(guest: &Guest, line: &str) -> Result<Option<(String, String)>> {
    let words: Vec<&str> = ["branectl", "why"].into_iter().chain(line.split(' ')).collect();
    let said = run(guest, &[&words[..], &["-j"]].concat())?;
    let value: Value = serde_json::from_str(&said.out).with_context(|| format!("why {line}: {said:?}"))?;
    let steps = value["steps"].as_array().context("no steps")?;
    let stop = steps.iter().find(|step| step["verdict"] == "stop");
    ensure!(
        said.err.is_empty() && said.status == i32::from(stop.is_some()),
        "why {line}: {said:?}"
    );
    ensure!(
        stop.map_or(Value::Null, |stop| stop["step"].clone()) == value["stopped_at"],
        "{value}"
    );
    let result = if stop.is_some() { "stopped" } else { "reaches" };
    ensure!(value["result"] == result, "why {line}: {value}");
    let word = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    Ok(stop.map(|stop| (word(stop, "step"), word(stop, "brane"))))
}

/// Sends echo requests from red. Returns true if one of two is answered.
fn red_pings(guest: &Guest, to: IpAddr) -> Result<bool> {
    let mut operator = Operator::new(guest)?;
    Ok(operator.ping_from("red", to)? || operator.ping_from("red", to)?)
}

/// Waits until red's echo requests are answered, then demands that `why` passes.
fn passes(guest: &Guest, to: IpAddr) -> Result<()> {
    until(
        || Ok(red_pings(guest, to)?.then_some(())),
        || format!("{to} does not answer red"),
    )?;
    let stop = why(guest, &format!("red {to}"))?;
    ensure!(stop.is_none(), "red reaches {to}, but why stops at {stop:?}");
    Ok(())
}

/// Runs `reach --probe`. Every pair must be tried, and no result may differ. Returns the number of pairs that reach each other.
fn agrees(guest: &Guest) -> Result<usize> {
    let said = run(guest, &["branectl", "reach", "--probe", "-j"])?;
    let value: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
    let pairs = value["pairs"].as_array().context("no pairs")?;
    for pair in pairs {
        let reaches = pair["result"] == "reaches";
        ensure!(
            pair["tried"] == reaches && pair["differs"] == false,
            "computed and tried differ: {pair}"
        );
    }
    ensure!(said.status == 0 && value["differs"] == false, "{said:?}");
    Ok(pairs.iter().filter(|pair| pair["result"] == "reaches").count())
}

#[test]
fn why_stops_at_the_fault_and_passes_without_it() -> Result<()> {
    let (_ns, guest) = served(CONFIG)?;
    passes(&guest, BLUE)?;
    passes(&guest, BLUE6)?;
    let words = branectl(&guest, "why red blue")?;
    ensure!(words.ends_with("red reaches blue\n"), "{words}");
    // Three branes in two families.
    ensure!(agrees(&guest)? == 12);

    // The commands that make a fault, and those that undo it; the brane and the step that stop, and the pairs that are left.
    for (fault, undo, step, brane, left) in [
        (
            "filter blue add drop in proto icmp icmp-type echo",
            "filter blue flush",
            "filter-in",
            "blue",
            10,
        ),
        (
            "filter blue add drop out inet proto icmp",
            "filter blue flush",
            "reply-filter-out",
            "blue",
            8,
        ),
        (
            "filter red add drop out inet proto icmp icmp-type echo",
            "filter red flush",
            "filter-out",
            "red",
            10,
        ),
        (
            "limit vnic1 --mode private",
            "limit vnic1 --mode bridge",
            "path",
            "red",
            4,
        ),
        (
            "limit vnic1 --allow 10.9.0.0/16,fec0::16/128",
            "limit vnic1 --allow any",
            "source-guard",
            "red",
            8,
        ),
        (
            "limit vnic2 --allow 10.9.0.0/16,fec0::17/128",
            "limit vnic2 --allow any",
            "reply-source-guard",
            "blue",
            8,
        ),
        (
            "remove blue/net0",
            "assign vnic2 blue 10.0.2.17/24 fec0::17/64",
            "interface",
            "blue",
            4,
        ),
        ("shutdown blue", "start blue", "brane", "blue", 4),
    ] {
        println!("{fault}");
        branectl(&guest, fault)?;
        let stop = why(&guest, "red blue")?;
        ensure!(
            stop == Some((step.to_owned(), brane.to_owned())),
            "{fault}: {stop:?}, not {step} of {brane}"
        );
        ensure!(!red_pings(&guest, BLUE)?, "{fault}: red reaches blue");
        let reaching = agrees(&guest).context(fault)?;
        ensure!(reaching == left, "{fault}: {reaching} pairs, not {left}");
        branectl(&guest, undo)?;
        passes(&guest, BLUE).with_context(|| format!("{fault}, then {undo}"))?;
    }
    passes(&guest, BLUE6)?;
    ensure!(agrees(&guest)? == 12);
    guest.untroubled()
}

#[test]
fn why_knows_the_listeners_of_both_families() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    for brane in [BRANES[1], BRANES[2]] {
        for to in [IpAddr::V4(brane.v4), IpAddr::V6(brane.v6)] {
            let host = if to.is_ipv4() { "10.0.2.2" } else { "fec0::2" };
            for from in [host, "main"] {
                let closed = why(&guest, &format!("{from} {to} udp {CLOSED}"))?;
                let expected = ("listener".to_owned(), brane.name.to_owned());
                ensure!(closed == Some(expected), "{from} to {to}: {closed:?}");
                let open = why(&guest, &format!("{from} {to} udp 7"))?;
                ensure!(open.is_none(), "{from} to {to}: {open:?}");
                let web = why(&guest, &format!("{from} {to} tcp 80"))?;
                ensure!(web.is_none(), "{from} to {to}: {web:?}");
            }
            ns.enter(|| -> Result<()> {
                probe::udp_echo(SocketAddr::new(to, 7))?;
                probe::page(SocketAddr::new(to, 80), &[brane.name])?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect((to, CLOSED))?;
                socket.set_read_timeout(Some(SILENCE))?;
                socket.send(b"hello")?;
                let error = socket.recv(&mut [0; 16]).err().map(|e| e.kind());
                ensure!(
                    error == Some(ErrorKind::ConnectionRefused),
                    "{to}, port {CLOSED}: {error:?}"
                );
                Ok(())
            })?;
        }
    }
    let words = run(&guest, &["branectl", "why", "red", "blue", "udp", "4444"])?;
    ensure!(
        words.status == 1
            && words
                .out
                .contains("\nstopped at: listener of blue: udp 4444, no socket listens\n"),
        "{words:?}"
    );
    guest.untroubled()
}

#[test]
fn names_that_do_not_exist_are_refused_as_by_other_verbs() -> Result<()> {
    let (_ns, guest) = served(CONFIG)?;
    for (line, error) in [
        (
            "why rde blue",
            "no brane named \"rde\": the branes are main, red, blue\n",
        ),
        (
            "why red/net9 blue",
            "no interface \"net9\" in brane red: there are lo0, net0\n",
        ),
        (
            "why 10.0.2.2 10.0.2.3",
            "no brane has the address 10.0.2.2 or 10.0.2.3: name a brane at one end\n",
        ),
    ] {
        let words: Vec<&str> = std::iter::once("branectl").chain(line.split(' ')).collect();
        let said = run(&guest, &words)?;
        ensure!(said.status == 1 && said.err == error, "{line}: {said:?}");
    }
    guest.untroubled()
}
