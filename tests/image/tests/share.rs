//! A domain that computes for ever, be it a brane's stack or a client, leaves the others their share of the processor.

use anyhow::{Context, Result, ensure};
use image_tests::BRANES;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long main and blue are watched.
const WATCH: Duration = Duration::from_secs(5);
/// How long a page may take beside a spinning domain. Without one it takes a few milliseconds.
const PAGE_LIMIT: Duration = Duration::from_millis(500);
/// How long the console may take; it waits a second for branes that do not report.
const CONSOLE_LIMIT: Duration = Duration::from_secs(3);

#[test]
fn a_brane_that_spins_leaves_the_others_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = boot("spinning-brane", &ns)?;
    ns.enter(|| {
        watch(&mut guest)?;
        // Red's stack does nothing but spin.
        let answer = Pinger::new(BRANES[1].v4.into())?.until_answer(Duration::from_millis(500))?;
        ensure!(answer.is_none(), "red answers: it is not the spinning program");
        Ok(())
    })
}

#[test]
fn a_client_that_spins_leaves_the_others_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = boot("spinning-client", &ns)?;
    ns.enter(|| {
        watch(&mut guest)?;
        // Red's stack is whole; its client is not the one that serves.
        Pinger::new(BRANES[1].v4.into())?
            .until_answer(Duration::from_secs(2))?
            .context("red's stack does not answer")?;
        let page = probe::page(SocketAddr::new(BRANES[1].v4.into(), 80), &["red"]);
        ensure!(
            page.is_err(),
            "red has a page: its client is not the spinning program"
        );
        Ok(())
    })
}

fn boot(config: &str, ns: &NetNs) -> Result<Guest> {
    Guest::boot(Boot {
        config,
        net: Net::Tap(ns),
        release: true,
        ..Boot::default()
    })
}

/// Main and blue lose no ping and serve in good time, and the console answers.
fn watch(guest: &mut Guest) -> Result<()> {
    let [main, _, blue] = &BRANES;
    for brane in [main, blue] {
        Pinger::new(brane.v4.into())?
            .until_answer(Duration::from_secs(20))?
            .with_context(|| format!("{} does not answer:\n{}", brane.name, guest.log()))?;
    }
    let page = || {
        let to = SocketAddr::new(main.v4.into(), 80);
        probe::page(to, &["main", &main.v4.to_string(), main.mac])
    };
    page()?;
    let gap = Duration::from_millis(20);
    let trains = [
        Train::start(main.v4.into(), gap)?,
        Train::start(blue.v4.into(), gap)?,
    ];
    let (start, mut slowest, mut pages) = (Instant::now(), Duration::ZERO, 0);
    while start.elapsed() < WATCH {
        let asked = Instant::now();
        page()?;
        slowest = slowest.max(asked.elapsed());
        pages += 1;
        probe::udp_echo(SocketAddr::new(main.v4.into(), 7))?;
    }
    let asked = Instant::now();
    let list = guest.command("list")?;
    ensure!(list.contains("blue"), "no list of the branes:\n{list}");
    let answer = asked.elapsed();
    ensure!(answer < CONSOLE_LIMIT, "`list` took {answer:?}");
    eprintln!("{pages} pages, the slowest took {slowest:?}");
    ensure!(slowest < PAGE_LIMIT, "a page took {slowest:?}");
    for (brane, train) in [main, blue].into_iter().zip(trains) {
        train.stop_unharmed(brane.name)?;
    }
    Ok(())
}
