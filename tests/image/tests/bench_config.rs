//! The 17-brane system that the measuring harness expects, and what it must carry: whole, unhurried, without loss.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net, image_size};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn main_address() -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 2)
}

#[test]
fn seventeen_branes_keep_the_harness_contract() -> Result<()> {
    let ns = NetNs::new(&["10.77.0.1/24", "fd77::1/64"])?;
    let boot = Boot {
        config: "bench",
        net: Net::Tap(&ns),
        release: true,
        memory_mib: 512,
        ..Boot::default()
    };
    let guest = Guest::boot(boot)?;
    ns.enter(|| -> Result<()> {
        let at = |ip: IpAddr, port| SocketAddr::new(ip, port);
        let main: IpAddr = main_address().into();
        Pinger::new(main)?.until_answer(Duration::from_secs(20))?.context("main does not answer")?;
        for i in 1..=16 {
            let ip: IpAddr = Ipv4Addr::new(10, 77, 0, 100 + i).into();
            Pinger::new(ip)?.until_answer(Duration::from_secs(20))?.with_context(|| format!("{ip} is silent"))?;
            probe::udp_echo(at(ip, 7))?;
            probe::page(at(ip, 80), &[&ip.to_string()])?;
        }
        let v6: IpAddr = "fd77::2".parse()?;
        Pinger::new(v6)?.until_answer(Duration::from_secs(5))?.context("fd77::2 is silent")?;
        probe::udp_echo(at(v6, 7))?;

        // 32 MiB over TCP each way arrive whole; the source is compared byte by byte, the echo both ways.
        let inward = probe::tcp_discard(at(main, 9), 32 * MIB)?;
        let outward = probe::tcp_source(at(main, 19), 32 * MIB)?;
        probe::tcp_echo(at(main, 7), 32 * MIB)?;
        eprintln!("TCP {inward:.0} MiB/s in, {outward:.0} MiB/s out (not a measurement: the test compares each byte)");

        // 16 connections at a time, the client closing first, again and again.
        for _ in 0..10 {
            std::thread::scope(|scope| {
                let runs: Vec<_> = (0..16).map(|_| scope.spawn(|| probe::page(at(main, 80), &["main"]))).collect();
                runs.into_iter().try_for_each(|run| run.join().expect("a probing thread"))
            })?;
        }
        Ok(())
    })?;
    guest.untroubled()?;
    Ok(())
}

#[test]
fn ten_thousand_datagrams_a_second_all_come_back() -> Result<()> {
    let ns = NetNs::new(&["10.77.0.1/24"])?;
    let boot = Boot {
        config: "bench",
        net: Net::Tap(&ns),
        release: true,
        memory_mib: 512,
        ..Boot::default()
    };
    let _guest = Guest::boot(boot)?;
    let (sent, received) = ns.enter(|| -> Result<(u32, u32)> {
        Pinger::new(main_address().into())?
            .until_answer(Duration::from_secs(20))?
            .context("main does not answer")?;
        probe::udp_echo(SocketAddr::new(main_address().into(), 7))?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
        socket.connect((main_address(), 7))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let total = 30_000u32;
        std::thread::scope(|scope| -> Result<(u32, u32)> {
            let reader = scope.spawn(|| {
                let mut seen = vec![false; total as usize];
                let mut buffer = [0; 128];
                while socket.recv(&mut buffer).is_ok() {
                    if let Some(i) = buffer.first_chunk::<4>().map(|c| u32::from_be_bytes(*c)) {
                        seen.get_mut(i as usize).into_iter().for_each(|s| *s = true);
                    }
                }
                seen.into_iter().filter(|s| *s).count() as u32
            });
            let start = Instant::now();
            let mut payload = [0; 64];
            for i in 0..total {
                payload[..4].copy_from_slice(&i.to_be_bytes());
                socket.send(&payload)?;
                let due = start + Duration::from_micros(100) * (i + 1);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok((total, reader.join().expect("the reading thread")))
        })
    })?;
    ensure!(
        received == sent,
        "{} of {sent} datagrams were lost",
        sent - received
    );
    Ok(())
}

#[test]
fn the_image_files_stay_small() -> Result<()> {
    for (config, release) in [("default", true), ("bench", true)] {
        // The SDK's tool stores a copy of its program for each protection domain.
        if config == "bench" && image_tests::guest::on_sdk() {
            continue;
        }
        let bytes = image_size(config, release)?;
        ensure!(
            bytes <= 8 * MIB as u64,
            "the image of {config} has {bytes} bytes, 8 MiB are allowed"
        );
    }
    Ok(())
}
