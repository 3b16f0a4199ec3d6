//! Memory that hosts on the wire make a brane allocate: no brane crashes, and none refuses other hosts.

use anyhow::{Context, Result, ensure};
use image_tests::BRANES;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::ping::Pinger;
use image_tests::probe::{self, noise};
use image_tests::wire::{self, HOST_MAC, Mac, Socket};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Concurrent connections to one port.
const CONNECTIONS: usize = 60;
/// Time for which they are held.
const HELD: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// Opens connections to a port and holds them.
fn hold(ip: IpAddr, port: u16) -> usize {
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            std::thread::spawn(move || {
                let to = SocketAddr::new(ip, port);
                let Ok(stream) = TcpStream::connect_timeout(&to, HELD) else {
                    return false;
                };
                std::thread::sleep(HELD);
                drop(stream);
                true
            })
        })
        .collect();
    threads
        .into_iter()
        .filter_map(|thread| thread.join().ok())
        .filter(|connected| *connected)
        .count()
}

#[test]
fn connections_of_one_size_of_buffers_and_then_of_another_crash_no_brane() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    ns.enter(|| -> Result<()> {
        for brane in &BRANES {
            Pinger::new(brane.v4.into())?
                .until_answer(Duration::from_secs(60))?
                .context("no answer")?;
        }
        guest.wait_until_serving()?;
        for round in 0..2 {
            for brane in &BRANES {
                for port in [9, 19, 7] {
                    let count = hold(brane.v4.into(), port);
                    ensure!(
                        count != 0,
                        "{} took no connection at port {port}, round {round}",
                        brane.name
                    );
                }
            }
        }
        for brane in &BRANES {
            ensure!(
                guest.restarts(brane.name)? == 0,
                "{} was restarted:\n{}",
                brane.name,
                guest.log()
            );
            // New connections are accepted once the old ones are gone.
            let to = SocketAddr::new(brane.v4.into(), 7);
            let end = Instant::now() + Duration::from_secs(90);
            while let Err(error) = probe::tcp_echo(to, 10_000) {
                ensure!(Instant::now() < end, "{} serves no more: {error:#}", brane.name);
            }
        }
        guest.untroubled()
    })
}

/// Returns an IPv4 fragment of a datagram to port 7.
fn fragment(
    mac: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    id: u16,
    offset: usize,
    more: bool,
    data: &[u8],
) -> Vec<u8> {
    let mut frame = [&mac[..], &HOST_MAC[..], &[8, 0]].concat();
    let mut header = [0; 20];
    (header[0], header[8], header[9]) = (0x45, 64, 17);
    header[2..4].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[6..8].copy_from_slice(&((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = image_tests::ping::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(data);
    frame
}

#[test]
fn unfinished_fragmented_packets_keep_no_datagram_from_passing() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let brane = &BRANES[0];
    let mac = wire.resolve(brane.v4, Duration::from_secs(60))?;
    guest.wait_until_serving()?;
    // Any host of the link, and hosts beyond it.
    let stranger = |n: u32| match n % 2 {
        0 => Ipv4Addr::from_bits(0x0a00_0203 + n % 250),
        _ => Ipv4Addr::from_bits(0xc633_6400 + n),
    };
    let data = noise(1, 1392);
    for n in 0..2000u32 {
        wire.send(&fragment(mac, stranger(n), brane.v4, n as u16, 0, true, &data))?;
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // A datagram in three fragments, the last one first.
    let mut datagram = wire::udp(mac, brane.v4, 7, &noise(2, 3000))[34..].to_vec();
    datagram[6..8].copy_from_slice(&[0; 2]);
    let wanted = datagram[8..].to_vec();
    let mut passed = false;
    for id in 0..5 {
        for from in [2784, 0, 1392] {
            let to = (from + 1392).min(datagram.len());
            let part = fragment(
                mac,
                wire::host_near(brane.v4),
                brane.v4,
                60_000 + id,
                from,
                to != datagram.len(),
                &datagram[from..to],
            );
            wire.send(&part)?;
        }
        // Its echo is fragmented too. The first fragment is enough.
        let first = |frame: &[u8]| {
            let fits = frame.len() > 42 + 500
                && frame[12..14] == [8, 0]
                && frame[23] == 17
                && frame[26..30] == brane.v4.octets();
            (fits && frame[42..42 + 500] == wanted[..500]).then_some(())
        };
        if wire.wait_for(2 * SECOND, first)?.is_some() {
            passed = true;
            break;
        }
    }
    ensure!(passed, "no echo of a datagram in fragments:\n{}", guest.log());
    ensure!(guest.restarts(brane.name)? == 0);
    guest.untroubled()
}
