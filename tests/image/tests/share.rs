//! A domain that computes forever, a brane's stack or a client, leaves the others their share of the
//! processor.
//!
//! Every request is answered and no ping is lost. The median ping between two branes takes a few quanta. The
//! clock is the host's, because the clock of a guest that never sleeps cannot follow its instructions.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::operator::{Answer, Request};
use brane_abi::query::{Answer as Inside, Query};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::lifecycle::Operator;
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::{BRANES, PATIENCE, SILENCE};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Minimum number of pings from main to blue, pages, and datagrams echoed by main.
const ROUNDS: u16 = 100;
/// Minimum time for which main and blue are watched, so that enough pings are sent.
const WATCH: Duration = Duration::from_secs(5);
/// The longest quantum of a domain while others wait (`tools/kernel/src/config.rs`).
const TURN: Duration = Duration::from_millis(5);
/// Quanta of the median ping between main and blue: the spinning domain has one before blue's, and one before
/// main's. The same amount is added for domains above all of them.
const MOST_TURNS: u32 = 3;

#[test]
fn a_brane_that_spins_leaves_the_others_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = boot("spinning-brane", &ns)?;
    ns.enter(|| {
        watch(&mut guest)?;
        // Red's stack only spins.
        let answer = Pinger::new(BRANES[1].v4.into())?.until_answer(SILENCE)?;
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
        // Red's stack works. Its client is not the serving one.
        Pinger::new(BRANES[1].v4.into())?
            .until_answer(PATIENCE)?
            .context("red's stack does not answer")?;
        let page = TcpStream::connect_timeout(&SocketAddr::new(BRANES[1].v4.into(), 80), PATIENCE);
        ensure!(
            page.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused),
            "red has a page: its client is not the spinning program: {page:?}"
        );
        Ok(())
    })
}

fn boot(config: &str, ns: &NetNs) -> Result<Guest> {
    Guest::boot(Boot {
        config,
        net: Net::Tap(ns),
        release: true,
        control: true,
        ..Boot::default()
    })
}

/// Checks that main and blue lose no ping, get their quanta and serve, and that the console answers.
fn watch(guest: &mut Guest) -> Result<()> {
    let [main, _, blue] = &BRANES;
    for brane in [main, blue] {
        Pinger::new(brane.v4.into())?
            .until_answer(PATIENCE)?
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
    let mut operator = Operator::new(guest)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    for sequence in 0.. {
        if sequence >= ROUNDS && start.elapsed() >= WATCH {
            break;
        }
        let request = Request::Query {
            brane: main.name.to_owned(),
            query: Query::Ping {
                to: blue.v4.into(),
                sequence,
                size: 56,
                timeout_ms: 10_000,
            },
        };
        let Answer::Query(Inside::Echo { rtt_us, .. }) = operator.call(&request)? else {
            bail!("blue does not answer main's ping {sequence}")
        };
        times.push(Duration::from_micros(rtt_us.into()));
        page()?;
        probe::udp_echo(SocketAddr::new(main.v4.into(), 7))?;
    }
    let list = guest.command("list")?;
    ensure!(list.contains("blue"), "no list of the branes:\n{list}");
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!(
        "pings took {median:?} at the median, {:?} at most",
        times[times.len() - 1]
    );
    ensure!(
        median < MOST_TURNS * TURN,
        "main's pings to blue took {median:?} at the median"
    );
    for (brane, train) in [main, blue].into_iter().zip(trains) {
        train.stop_unharmed(brane.name)?;
    }
    Ok(())
}
