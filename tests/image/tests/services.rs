//! Three branes answer a real host: over QEMU's user network, and over a tap device in a namespace of the
//! test's own.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe::{self, Http};
use image_tests::{ANSWER, BRANES, Brane, PATIENCE};
use std::net::{IpAddr, SocketAddr};

/// The host's addresses in the network of the default boot configuration.
const HOST: [&str; 2] = ["10.0.2.2/24", "fec0::2/64"];

#[test]
fn user_network_serves_three_branes() -> Result<()> {
    let mut guest = Guest::boot(Boot {
        net: Net::User,
        ..Boot::default()
    })?;
    guest.wait_until_serving()?;
    for (i, brane) in BRANES.iter().enumerate() {
        let ports = guest.forwarded(i);
        let v4 = brane.v4.to_string();
        probe::page(ports.http, &[brane.name, &v4, brane.mac]).context("HTTP")?;
        probe::tcp_echo(ports.tcp_echo, 100_000).context("TCP echo")?;
        probe::udp_echo(ports.udp_echo).context("UDP echo")?;
    }
    guest.untroubled()?;
    Ok(())
}

fn every_service(brane: &Brane, ip: IpAddr) -> Result<()> {
    let at = |port| SocketAddr::new(ip, port);
    let pinger = Pinger::new(ip)?;
    pinger
        .until_answer(PATIENCE)?
        .with_context(|| format!("no answer to pings of {ip}"))?;
    for seq in 0..20 {
        ensure!(pinger.ping(seq, ANSWER)?.is_some(), "ping {seq} of {ip} was lost");
    }
    probe::udp_echo(at(7))?;
    probe::tcp_echo(at(7), 1_000_000)?;
    probe::tcp_discard(at(9), 4 << 20)?;
    probe::tcp_source(at(19), 4 << 20)?;
    probe::page(at(80), &[brane.name, &brane.v4.to_string(), brane.mac])?;
    let mut http = Http::connect(at(80))?;
    for _ in 0..50 {
        ensure!(http.get("/")?.body.len() == 1024, "keep-alive answers differ");
    }
    ensure!(
        http.get("/nothing-here")?.status == 404,
        "a missing page must be 404"
    );
    http.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    ensure!(
        http.answer()?.status == 200 && http.answer()?.status == 200,
        "pipelined requests are answered in order"
    );
    Ok(())
}

#[test]
fn tap_serves_three_branes_over_both_families() -> Result<()> {
    let ns = NetNs::new(&HOST)?;
    let guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            every_service(brane, brane.v4.into()).with_context(|| format!("{} over IPv4", brane.name))?;
            every_service(brane, brane.v6.into()).with_context(|| format!("{} over IPv6", brane.name))?;
        }
        Ok(())
    })?;
    // All branes concurrently: no brane's traffic reaches another's sockets.
    ns.enter(|| -> Result<()> {
        std::thread::scope(|scope| {
            let runs: Vec<_> = BRANES
                .iter()
                .map(|b| (b.name, b.v4))
                .map(|(name, ip)| {
                    scope.spawn(move || {
                        probe::tcp_echo(SocketAddr::new(ip.into(), 7), 4_000_000).context(name)
                    })
                })
                .collect();
            runs.into_iter()
                .try_for_each(|run| run.join().expect("a probing thread"))
        })
    })?;
    guest.untroubled()?;
    Ok(())
}

#[test]
fn the_debug_flavour_serves_with_256_mib_and_at_a_second_interface() -> Result<()> {
    let ns = NetNs::new(&[HOST[0], HOST[1], "10.0.3.2/24"])?;
    let _guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        memory_mib: 256,
        ..Boot::default()
    })?;
    let answers = |ip: IpAddr, name: &str| -> Result<()> {
        Pinger::new(ip)?
            .until_answer(PATIENCE)?
            .with_context(|| format!("{ip} is silent"))?;
        probe::page(SocketAddr::new(ip, 80), &[name])
    };
    ns.enter(|| {
        BRANES
            .iter()
            .try_for_each(|brane| answers(brane.v4.into(), brane.name))?;
        answers(IpAddr::from([10, 0, 3, 15]), "main")
    })
}
