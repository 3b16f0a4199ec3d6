//! The 17-brane system that the benchmark expects, and the loads that it must carry without loss.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net, image_size};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe;
use image_tests::{ANSWER, PATIENCE};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Maximum number of datagrams in flight.
const UNDER_WAY: u32 = 256;

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
        Pinger::new(main)?.until_answer(PATIENCE)?.context("main does not answer")?;
        for i in 1..=16 {
            let ip: IpAddr = Ipv4Addr::new(10, 77, 0, 100 + i).into();
            Pinger::new(ip)?.until_answer(PATIENCE)?.with_context(|| format!("{ip} does not answer"))?;
            probe::udp_echo(at(ip, 7))?;
            probe::page(at(ip, 80), &[&ip.to_string()])?;
        }
        let v6: IpAddr = "fd77::2".parse()?;
        Pinger::new(v6)?.until_answer(PATIENCE)?.context("fd77::2 does not answer")?;
        probe::udp_echo(at(v6, 7))?;

        // 32 MiB over TCP in each direction must arrive complete. The source is compared byte by byte, the
        // echo in both directions.
        let inward = probe::tcp_discard(at(main, 9), 32 * MIB)?;
        let outward = probe::tcp_source(at(main, 19), 32 * MIB)?;
        probe::tcp_echo(at(main, 7), 32 * MIB)?;
        eprintln!("TCP {inward:.0} MiB/s in, {outward:.0} MiB/s out (not a measurement: the test compares each byte)");

        // 16 concurrent connections, repeatedly. The client closes first.
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
fn thirty_thousand_datagrams_all_come_back() -> Result<()> {
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
            .until_answer(PATIENCE)?
            .context("main does not answer")?;
        probe::udp_echo(SocketAddr::new(main_address().into(), 7))?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
        socket.connect((main_address(), 7))?;
        socket.set_read_timeout(Some(ANSWER))?;
        let total = 30_000u32;
        let (start, mut slowest) = (Instant::now(), Duration::ZERO);
        let mut seen = vec![false; total as usize];
        let (mut sent, mut received) = (0, 0);
        let (mut payload, mut buffer) = ([0u8; 64], [0; 128]);
        while received < total {
            // Sends at most 10,000 a second, and keeps no more in flight than each side has buffers for.
            // After a pause of the host no burst makes up for it.
            let due = (start.elapsed().as_micros() / 100) as u32;
            while sent < total.min(due).min(received + UNDER_WAY) {
                payload[..4].copy_from_slice(&sent.to_be_bytes());
                socket.send(&payload)?;
                sent += 1;
            }
            if sent == received {
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            let asked = Instant::now();
            if socket.recv(&mut buffer).is_err() {
                break;
            }
            slowest = slowest.max(asked.elapsed());
            let number = buffer.first_chunk::<4>().map(|c| u32::from_be_bytes(*c) as usize);
            if let Some(seen) = number.and_then(|i| seen.get_mut(i)) {
                received += u32::from(!std::mem::replace(seen, true));
            }
        }
        println!(
            "{received} echoes in {:?}, the longest pause was {slowest:?}",
            start.elapsed()
        );
        Ok((sent, received))
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
