//! A hostile client affects only its own brane, and a hostile brane affects neither the driver nor other
//! branes.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::wire::{self, Socket};
use image_tests::{BRANES, PATIENCE};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[test]
fn a_client_that_writes_rubbish_is_quarantined_and_its_brane_goes_on() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        config: "hostile-client",
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
        let gap = Duration::from_millis(10);
        let trains = [main, red, blue].map(|brane| Train::start(brane.v4.into(), gap));
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            for brane in [main, red] {
                probe::page(SocketAddr::new(brane.v4.into(), 80), &[brane.name])?;
                probe::udp_echo(SocketAddr::new(brane.v4.into(), 7))?;
            }
        }
        for (brane, train) in BRANES.iter().zip(trains) {
            let tally = train?.stop();
            ensure!(
                tally.answered == tally.sent,
                "{} lost pings: {tally:?}",
                brane.name
            );
        }
        Ok(())
    })?;
    guest
        .wait_for("hostile: round", PATIENCE)
        .context("the hostile client did nothing")?;
    ensure!(
        guest.brane_counter("blue", "client protocol errors")? > 0,
        "blue counted no error of its client"
    );
    for brane in &BRANES {
        ensure!(
            guest.restarts(brane.name)? == 0,
            "{} was restarted:\n{}",
            brane.name,
            guest.log()
        );
    }
    Ok(())
}

#[test]
fn a_brane_that_forges_frames_and_rings_reaches_nobody() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        config: "hostile-brane",
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let [main, red, blue] = &BRANES;
    let (main_mac, red_mac) = (wire.resolve(main.v4, PATIENCE)?, wire.resolve(red.v4, PATIENCE)?);
    // Checks all frames that leave for ten seconds, while main and red are kept busy.
    let mut sources = HashSet::new();
    let end = Instant::now() + Duration::from_secs(10);
    let mut seq = 0;
    while Instant::now() < end {
        for (mac, ip) in [(main_mac, main.v4), (red_mac, red.v4)] {
            seq += 1;
            wire.send(&wire::echo_request(mac, ip, seq))?;
            let mut from_there = false;
            wire.wait_for(PATIENCE, |frame| {
                sources.extend(wire::source(frame));
                from_there |= frame.get(26..30) == Some(&ip.octets()[..]);
                from_there.then_some(())
            })?;
            ensure!(from_there, "{ip} did not answer ping {seq}:\n{}", guest.log());
        }
    }
    guest
        .wait_for("hostile: round", PATIENCE)
        .context("the hostile brane did nothing")?;
    let text: HashSet<String> = sources
        .iter()
        .map(|mac| {
            mac.iter()
                .map(|b| format!("{b:02x}"))
                .collect::<Vec<_>>()
                .join(":")
        })
        .collect();
    for source in &text {
        let own = [main.mac, red.mac, blue.mac, "02:77:00:00:01:00"];
        ensure!(
            own.contains(&source.as_str()),
            "a frame left with the source address {source}"
        );
    }
    let vif = "vnic2";
    ensure!(
        guest.counter(vif, "tx_spoofed")? > 0,
        "no forged frame was counted at {vif}"
    );
    ensure!(
        guest.counter(vif, "peer_errors")? > 0,
        "no ring error was counted at {vif}"
    );
    for brane in [main, red] {
        ensure!(
            guest.restarts(brane.name)? == 0,
            "{} was restarted:\n{}",
            brane.name,
            guest.log()
        );
    }
    Ok(())
}
