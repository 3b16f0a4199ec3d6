//! The filter of a brane with real traffic: verdicts, states and rates, replacement, and that no packet passes unfiltered.

use anyhow::{Result, ensure};
use brane_abi::operator::Request;
use image_tests::guest::Guest;
use image_tests::lifecycle::{Operator, run, served, vnic, well};
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::{BRANES, PATIENCE, SILENCE, until};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const CONFIG: &str = "default";
const RED: IpAddr = IpAddr::V4(BRANES[1].v4);
const BLUE: IpAddr = IpAddr::V4(BRANES[2].v4);
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);

/// Runs `branectl filter BRANE ...`.
fn filter(guest: &Guest, words: &[&str]) -> Result<String> {
    well(guest, &[&["branectl", "filter"], words].concat())
}

/// Adds a rule.
fn add(guest: &Guest, brane: &str, rule: &str) -> Result<String> {
    filter(guest, &[brane, "add", rule])
}

/// Returns the rules of a brane with the packets that each has matched.
fn rules(guest: &Guest, brane: &str) -> Result<Vec<(String, u64)>> {
    let list: Value = serde_json::from_str(&filter(guest, &[brane, "list", "-j"])?)?;
    let rows = list.as_array().or_else(|| list["rules"].as_array());
    let rows = rows.ok_or_else(|| anyhow::anyhow!("no list of rules: {list}"))?;
    let row = |row: &Value| {
        let text = row["rule"].as_str().unwrap_or_default().to_owned();
        (text, row["packets"].as_u64().unwrap_or(u64::MAX))
    };
    Ok(rows.iter().map(row).collect())
}

/// What becomes of a datagram to an echo service.
#[derive(Debug, PartialEq, Eq)]
enum Datagram {
    Echoed,
    Lost,
    /// The host got an ICMP error.
    Refused,
}

/// Sends a datagram to the echo service of a brane.
fn datagram(to: IpAddr) -> Result<Datagram> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect((to, 7))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send(b"hello")?;
    match socket.recv(&mut [0; 16]) {
        Ok(_) => Ok(Datagram::Echoed),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(Datagram::Refused),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Datagram::Lost),
        Err(e) => Err(e.into()),
    }
}

/// Returns the error of a connection to the echo service of a brane, or `None` if the connection stands.
fn connection(to: IpAddr) -> Option<ErrorKind> {
    TcpStream::connect_timeout(&SocketAddr::new(to, 7), SILENCE)
        .err()
        .map(|e| e.kind())
}

#[test]
fn rules_drop_and_reject_of_both_families_and_count_and_spare_other_branes() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let red6 = IpAddr::V6(BRANES[1].v6);
    let blue = ns.enter(|| Train::start(BLUE, Duration::from_millis(20)))?;
    add(&guest, "red", "drop in proto udp to port 7")?;
    for red in [RED, red6] {
        ns.enter(|| -> Result<()> {
            ensure!(datagram(red)? == Datagram::Lost, "{red}: dropped");
            probe::tcp_echo(SocketAddr::new(red, 7), 100_000)
        })?;
    }
    let seen = rules(&guest, "red")?;
    ensure!(seen.len() == 1 && seen[0].1 == 2, "{seen:?}");

    // The first rule that matches decides, so the new one has to come first.
    filter(
        &guest,
        &["red", "add", "at", "1", "reject in proto udp to port 7"],
    )?;
    add(&guest, "red", "reject in proto tcp to port 7")?;
    for red in [RED, red6] {
        let (udp, tcp) = ns.enter(|| -> Result<_> { Ok((datagram(red)?, connection(red))) })?;
        ensure!(udp == Datagram::Refused, "{red}: {udp:?}");
        ensure!(tcp == Some(ErrorKind::ConnectionRefused), "{red}: {tcp:?}");
    }
    let packets: Vec<u64> = rules(&guest, "red")?.iter().map(|rule| rule.1).collect();
    ensure!(packets == [2, 2, 2], "{packets:?}");

    // What the brane sends is filtered as well; without rules all is as before.
    filter(&guest, &["red", "flush"])?;
    add(&guest, "red", "drop out proto icmp icmp-type echo-reply")?;
    ns.enter(|| -> Result<()> {
        ensure!(
            Pinger::new(RED)?.ping(1, SILENCE)?.is_none(),
            "an echo reply left"
        );
        ensure!(datagram(RED)? == Datagram::Echoed);
        Ok(())
    })?;
    filter(&guest, &["red", "delete", "1"])?;
    ns.enter(|| -> Result<()> {
        ensure!(
            Pinger::new(RED)?.until_answer(PATIENCE)?.is_some(),
            "no echo reply"
        );
        Ok(())
    })?;
    ensure!(rules(&guest, "red")?.is_empty());
    blue.stop_unharmed("blue")?;
    guest.untroubled()
}

#[test]
fn a_brane_can_let_in_only_what_it_asked_for_and_no_more_than_a_rate() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    filter(
        &guest,
        &[
            "red",
            "replace",
            "pass in state established,related; pass in proto tcp to port 80 state new; drop in; pass out",
        ],
    )?;
    ensure!(rules(&guest, "red")?.len() == 4);
    ns.enter(|| -> Result<()> {
        ensure!(datagram(RED)? == Datagram::Lost, "a datagram came in");
        ensure!(
            connection(RED) == Some(ErrorKind::TimedOut),
            "a connection came in"
        );
        ensure!(Pinger::new(RED)?.ping(1, SILENCE)?.is_none(), "a ping came in");
        probe::page(SocketAddr::new(RED, 80), &["red"])
    })?;
    let mut operator = Operator::new(&guest)?;
    ensure!(
        operator.ping_from("red", Ipv4Addr::new(10, 0, 2, 2).into())?,
        "no reply to red's own ping"
    );
    drop(operator);

    // A rate: the burst and what the second brings, and nothing more.
    filter(&guest, &["red", "flush"])?;
    add(&guest, "red", "pass in proto icmp rate 5/s burst 5")?;
    add(&guest, "red", "drop in proto icmp")?;
    let answered = ns.enter(|| -> Result<usize> {
        let pinger = Pinger::new(RED)?;
        for seq in 0..100 {
            pinger.send(seq)?;
        }
        let mut answered = 0;
        while pinger.receive(std::time::Instant::now() + SILENCE)?.is_some() {
            answered += 1;
        }
        Ok(answered)
    })?;
    let seen = rules(&guest, "red")?;
    ensure!(
        (5..=15).contains(&answered),
        "{answered} pings were answered: {seen:?}"
    );
    ensure!(
        seen[0].1 as usize == answered && seen[0].1 + seen[1].1 == 100,
        "{answered}: {seen:?}"
    );
    guest.untroubled()
}

/// Datagrams to the echo service of an address, one in each millisecond, until they are stopped. Returns the number of answers.
fn pressure(stop: &AtomicBool, answers: &AtomicU32) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    while !stop.load(Ordering::Relaxed) {
        // The host may not know the neighbour yet.
        let _ = socket.send_to(b"hello", (GREEN, 7));
        if socket.recv(&mut [0; 16]).is_ok() {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[test]
fn no_packet_passes_unfiltered_from_create_to_restart() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let (stop, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let sending = scope.spawn(|| ns.enter(|| pressure(&stop, &answers)));
        let result = (|| -> Result<()> {
            let mut operator = Operator::new(&guest)?;
            operator.create("green", false)?;
            operator.device(vnic("g0"))?;
            operator.assign("g0", "green", &["10.0.2.30/24"])?;
            drop(operator);
            add(&guest, "green", "drop in proto udp to port 7")?;
            let mut operator = Operator::new(&guest)?;
            operator.start("green")?;
            // Green answers pings, and the rule sees datagrams.
            let works = || -> Result<()> {
                let answer = ns.enter(|| Pinger::new(GREEN.into())?.until_answer(PATIENCE))?;
                ensure!(answer.is_some(), "green does not answer");
                until(
                    || Ok((rules(&guest, "green")?[0].1 > 0).then_some(())),
                    || "the rule sees no datagram".to_owned(),
                )
            };
            drop(operator);
            works()?;
            for restarts in 1..=5 {
                let mut operator = Operator::new(&guest)?;
                operator.done(&Request::Crash("green".to_owned()))?;
                operator.until_restarted("green", restarts, PATIENCE)?;
                drop(operator);
                works()?;
            }
            let mut operator = Operator::new(&guest)?;
            operator.done(&Request::Shutdown {
                name: "green".to_owned(),
                deadline_ms: 100,
            })?;
            operator.start("green")?;
            drop(operator);
            works()?;
            let passed = answers.load(Ordering::Relaxed);
            ensure!(passed == 0, "{passed} datagrams passed unfiltered");
            // Without the rule they pass, so the test can fail.
            filter(&guest, &["green", "flush"])?;
            until(
                || Ok((answers.load(Ordering::Relaxed) > 0).then_some(())),
                || "no datagram passes without the rule".to_owned(),
            )?;
            // A new brane of this name has no rules.
            add(&guest, "green", "drop in")?;
            let mut operator = Operator::new(&guest)?;
            operator.delete("green")?;
            operator.create("green", true)?;
            drop(operator);
            ensure!(rules(&guest, "green")?.is_empty(), "the new brane has rules");
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("the sending thread")?;
        result
    })?;
    Ok(())
}

#[test]
fn a_replacement_is_complete_or_nothing_changes_and_rules_are_saved() -> Result<()> {
    let (_ns, guest) = served(CONFIG)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules");
    let name = file.display().to_string();
    let good = "# Web alone.\npass in proto tcp to port 80,8000-8100\n\ndrop in proto tcp flags S/SA\n";
    std::fs::write(&file, good)?;
    filter(&guest, &["red", "replace", &name])?;
    let before = rules(&guest, "red")?;
    ensure!(before.len() == 2, "{before:?}");
    std::fs::write(&file, "pass in\ndrop in proto htp\n")?;
    let said = run(&guest, &["branectl", "filter", "red", "replace", &name])?;
    let place = format!("{name}:2:15");
    ensure!(
        said.status != 0 && said.err.contains(&place) && said.err.contains("htp"),
        "{said:?}"
    );
    ensure!(
        rules(&guest, "red")? == before,
        "a replacement that failed has changed the rules"
    );
    let said = run(
        &guest,
        &["branectl", "filter", "red", "add", "pass in from 10.0.2.1/24"],
    )?;
    ensure!(said.status != 0 && said.err.contains('^'), "{said:?}");
    badly_numbered(&guest)?;

    // What `save` writes changes nothing when it is applied, and what is edited is applied.
    let saved = well(&guest, &["branectl", "save"])?;
    ensure!(
        saved.contains("[[brane.filter]]") && saved.contains("8000-8100"),
        "{saved}"
    );
    let config = folder.path().join("saved.toml");
    let name = config.display().to_string();
    std::fs::write(&config, &saved)?;
    let plan = well(&guest, &["branectl", "apply", &name, "--dry-run"])?;
    ensure!(!plan.contains("filter"), "{plan}");
    std::fs::write(&config, saved.replace("8000-8100", "9000-9100"))?;
    well(&guest, &["branectl", "apply", &name, "--yes"])?;
    let after = rules(&guest, "red")?;
    ensure!(
        after[0].0.contains("9000-9100") && after[1].0 == before[1].0,
        "{after:?}"
    );
    guest.untroubled()
}

/// Numbers of rules that are not there, and branes that are not there.
fn badly_numbered(guest: &Guest) -> Result<()> {
    for words in [
        &["branectl", "filter", "red", "delete", "3"][..],
        &["branectl", "filter", "red", "delete", "0"],
        &["branectl", "filter", "grey", "list"],
        &["branectl", "filter", "red", "add", "at", "9", "pass"],
    ] {
        let said = run(guest, words)?;
        ensure!(
            said.status != 0 && !said.err.is_empty() && said.out.is_empty(),
            "{words:?}: {said:?}"
        );
        println!("{}", said.err.trim());
    }
    Ok(())
}
