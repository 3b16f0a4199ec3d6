//! Vifs with limits (`tests/image/limits.toml`), seen from the wire: which frames leave, and at which rate.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::{BRANES, PATIENCE, until, until_well};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// `rate-up` of red and `rate-down` of main, in bytes per second.
const RATE: f64 = 200_000.0;
/// Bytes that may pass at once (`bucket.rs` of the driver).
const BURST: f64 = 65_536.0;
/// Duration of a rate measurement.
const MEASURED: Duration = Duration::from_secs(5);
/// Tolerance for sending a datagram. The host's kernel wakes a receiver some milliseconds late.
const LATE: Duration = Duration::from_millis(20);
const BLUE_MAC: Mac = [0x02, 0x77, 0, 0, 0, 2];

fn boot() -> Result<(Guest, Wire)> {
    let socket = Socket::new()?;
    let guest = Guest::boot(Boot {
        config: "limits",
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    Ok((guest, socket.accept()?))
}

/// Sends datagrams of 1000 bytes to a port, five times as many as the rate allows. Returns the bytes of the
/// frames that arrived from `ip` meanwhile.
fn flood(wire: &mut Wire, mac: Mac, ip: Ipv4Addr, port: u16, time: Duration) -> Result<usize> {
    let datagram = wire::udp(mac, ip, port, &[0x5a; 1000]);
    let start = Instant::now();
    let (mut next, mut bytes) = (start, 0);
    loop {
        wire.send(&datagram)?;
        // Late datagrams are skipped, because the guest has no buffers for all of them at once.
        next = (next + Duration::from_millis(1)).max(Instant::now() - LATE);
        while let Some(frame) = wire.receive(next)? {
            if frame.get(26..30) == Some(&ip.octets()[..]) {
                bytes += frame.len();
            }
        }
        if start.elapsed() >= time {
            break;
        }
    }
    Ok(bytes)
}

/// Checks `bytes` in `time`: at most the limit plus the burst, and at least half of the limit, because
/// nothing passes while a busy host sends nothing.
fn near(bytes: f64, time: Duration, what: &str) -> Result<()> {
    let due = RATE * time.as_secs_f64();
    println!("{what}: {bytes:.0} bytes, the limit is {due:.0}");
    ensure!(
        bytes <= due + BURST && bytes >= due / 2.0,
        "{what}: {bytes:.0} bytes, the limit is {due:.0}"
    );
    Ok(())
}

#[test]
fn forged_addresses_stay_inside_and_rates_are_kept() -> Result<()> {
    let (mut guest, mut wire) = boot()?;
    let [main, red, _] = &BRANES;
    let main_mac = wire.resolve(main.v4, PATIENCE)?;
    let red_mac = wire.resolve(red.v4, PATIENCE)?;

    // Checks all frames that leave for five seconds, while main and red, which have lists too, are kept busy
    // below their rates.
    let (mut honest, mut seq) = (0, 0);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for (mac, ip) in [(main_mac, main.v4), (red_mac, red.v4)] {
            seq += 1;
            wire.send(&wire::echo_request(mac, ip, seq))?;
            let mut answered = false;
            let mut stray = None;
            wire.wait_for(PATIENCE, |frame| {
                answered |= frame.get(26..30) == Some(&ip.octets()[..]);
                if wire::source(frame) == Some(BLUE_MAC) {
                    let own =
                        frame.get(12..14) == Some(&[8, 0]) && frame.get(26..30) == Some(&[10, 0, 2, 17]);
                    honest += u32::from(own);
                    stray = stray.take().or((!own).then(|| frame.to_vec()));
                }
                answered.then_some(())
            })?;
            ensure!(answered, "{ip} did not answer ping {seq}:\n{}", guest.log());
            ensure!(stray.is_none(), "a forged frame left: {stray:02x?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(honest > 0, "nothing that blue may send has left");
    for name in ["tx_bad_ip", "tx_bad_arp", "tx_bad_nd", "tx_bad_type"] {
        let refused = until_well(|| guest.counter("vnic2", name))?;
        ensure!(refused > 0, "blue's vif counted no {name}");
        for vif in ["vnic0", "vnic1"] {
            let refused = guest.counter(vif, name)?;
            ensure!(
                refused == 0,
                "an honest stack's frames were refused at {vif}: {name} {refused}"
            );
        }
    }
    let shown = guest.command("show blue")?;
    ensure!(shown.contains("tx_bad_ip"), "no word of it in:\n{shown}");

    // Red's echo after the service is open. The first second uses up the burst.
    let up = || Ok((flood(&mut wire, red_mac, red.v4, 7, MEASURED / 25)? > 10_000).then_some(()));
    until(up, || format!("red echoes:\n{}", guest.log()))?;
    flood(&mut wire, red_mac, red.v4, 7, Duration::from_secs(1))?;
    let start = Instant::now();
    let bytes = flood(&mut wire, red_mac, red.v4, 7, MEASURED)?;
    near(bytes as f64, start.elapsed(), "up")?;
    ensure!(
        guest.counter("vnic1", "tx_limited")? > 0,
        "red's vif counted no tx_limited"
    );

    // The driver counts the frames to main. While the console answers, the bucket refills by at most one
    // burst.
    flood(&mut wire, main_mac, main.v4, 9, Duration::from_secs(1))?;
    let before = guest.counter("vnic0", "rx_bytes")?;
    let start = Instant::now();
    flood(&mut wire, main_mac, main.v4, 9, MEASURED)?;
    let after = guest.counter("vnic0", "rx_bytes")?;
    near((after - before) as f64, start.elapsed(), "down")?;
    ensure!(
        guest.counter("vnic0", "rx_limited")? > 0,
        "main's vif counted no rx_limited"
    );

    for brane in [main, red] {
        let restarts = guest.restarts(brane.name).context("asking for restarts")?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    Ok(())
}
